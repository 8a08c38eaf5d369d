//! Base images of people's own: `base.yaml`, the files beside it and its lock, from a directory or from a commit.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use build::base::{BaseLock, Definition, Recipe};
use bytes::Bytes;

use super::tree::Files;
use crate::fault::{Class, Fault, Result};

/// Whether a name in `FROM` is a file of the context: `./base.yaml`, `./images/app.yml`.
pub fn is_file(name: &str) -> bool {
    name.starts_with("./") && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

/// The lock beside a file: `base.lock` for `base.yaml`.
pub fn lock_of(path: &str) -> String {
    format!("{}.lock", path.strip_suffix(".yaml").or_else(|| path.strip_suffix(".yml")).unwrap_or(path))
}

/// Where a file and what stands beside it are read.
#[async_trait]
pub trait Beside: Send + Sync {
    /// A file by its path, `None` when there is none. More than `limit` bytes are an error.
    async fn read(&self, path: &str, limit: usize) -> Result<Option<Bytes>>;
}

/// Files below a directory. A link out of it leads nowhere.
pub struct Below<'a>(pub &'a Path);

#[async_trait]
impl Beside for Below<'_> {
    async fn read(&self, path: &str, limit: usize) -> Result<Option<Bytes>> {
        let failed = |e: std::io::Error| Fault::usage(format!("cannot read {path}: {e}"));
        let root = self.0.canonicalize().map_err(failed)?;
        let whole = match root.join(path).canonicalize() {
            Ok(whole) => whole,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(failed(e)),
        };
        if !whole.starts_with(&root) {
            return Err(Fault::usage(format!("{path} leads out of {}", root.display())));
        }
        if !whole.is_file() {
            return Err(Fault::usage(format!("{path} is no file")));
        }
        let mut content = Vec::new();
        std::fs::File::open(&whole)
            .map_err(failed)?
            .take(limit as u64 + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        if content.len() > limit {
            return Err(Fault::new(Class::TooLarge, format!("{path} has more than {limit} bytes")));
        }
        Ok(Some(content.into()))
    }
}

/// Files below a directory of a commit or a working tree.
pub struct InTree<'a> {
    pub files: &'a dyn Files,
    /// Without a slash at its end; empty for all.
    pub directory: &'a str,
}

#[async_trait]
impl Beside for InTree<'_> {
    async fn read(&self, path: &str, _limit: usize) -> Result<Option<Bytes>> {
        let whole = match self.directory {
            "" => path.to_owned(),
            directory => format!("{directory}/{path}"),
        };
        Ok(self.files.text(&whole).await?.map(|text| text.into_bytes().into()))
    }
}

/// A base image that was read with everything it names.
pub struct Loaded {
    pub recipe: Recipe,
    pub definition: Definition,
    pub lock: Option<BaseLock>,
    /// Where the lock is, or would be.
    pub lock_path: String,
}

/// Reads a file at a path below a place. `shown` is what errors call the place, with a slash, or nothing.
///
/// # Errors
/// `NotFound` when there is no such file; `Usage` with the place of what is wrong in it.
pub async fn load(beside: &dyn Beside, path: &str, shown: &str) -> Result<Loaded> {
    let path = path.trim_start_matches("./");
    let name = format!("{shown}{path}");
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Fault::usage(format!("`{name}` is not below the context")));
    }
    let text = beside.read(path, build::base::MAX_FILE).await?;
    let text = text.ok_or_else(|| Fault::not_found(format!("there is no file {name}")))?;
    let text = utf8(&name, &text)?;
    let recipe = Recipe::read(&name, &text).map_err(said)?;
    let directory = path.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
    let mut contents = BTreeMap::new();
    for source in recipe.sources() {
        if let Some(content) = beside.read(&format!("{directory}{source}"), build::base::MAX_SOURCE).await? {
            contents.insert(source, content);
        }
    }
    let definition = recipe.definition(&contents).map_err(said)?;
    let lock_path = lock_of(path);
    let lock = match beside.read(&lock_path, build::base::lock::MAX_LOCK).await? {
        None => None,
        Some(text) => {
            let name = format!("{shown}{lock_path}");
            let hint = format!("write it anew with `shipway base lock {shown}{path}`");
            let parsed = BaseLock::parse(&name, &utf8(&name, &text)?);
            Some(parsed.map_err(|e| Fault::usage(e.to_string()).hint(hint))?)
        }
    };
    Ok(Loaded { recipe, definition, lock, lock_path: format!("{shown}{lock_path}") })
}

/// What went wrong while a base image was assembled or locked, shown at its line where there is one.
pub fn explain(recipe: &Recipe, path: &str, error: build::Error) -> Fault {
    let class = if error.is_transient() { Class::Unavailable } else { Class::Usage };
    match recipe.explain(error) {
        error @ build::Error::Dockerfile(_) => Fault::usage(error.to_string()),
        error @ build::Error::Stale { .. } => Fault::usage(crate::fault::chain(&error))
            .hint(format!("write the lock file anew with `shipway base lock {path}`, and commit it")),
        error => {
            let fault = Fault::new(class, crate::fault::chain(&error));
            match class {
                Class::Unavailable => fault
                    .hint("the mirror is set with --mirror; packages that were fetched once are used again offline"),
                _ => fault,
            }
        }
    }
}

fn utf8(name: &str, content: &[u8]) -> Result<String> {
    String::from_utf8(content.to_vec()).map_err(|_| Fault::usage(format!("{name} is not UTF-8 text")))
}

fn said(error: build::Error) -> Fault {
    Fault::usage(error.to_string())
}

/// The directory and the name of a file that a person named on the command line.
pub fn split(path: &Path) -> (PathBuf, String) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    (directory.unwrap_or(Path::new(".")).to_owned(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_context_are_told_from_images() {
        for (name, file) in [
            ("./base.yaml", true),
            ("./a/b.yml", true),
            ("base.yaml", false),
            ("../base.yaml", false),
            ("registry/base.yaml:1", false),
            ("./base", false),
        ] {
            assert_eq!(is_file(name), file, "{name}");
        }
        assert_eq!(lock_of("a/base.yaml"), "a/base.lock");
    }

    #[tokio::test]
    async fn only_files_below_the_directory_are_read() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("context");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(outer.path().join("secret.yaml"), "packages: []").unwrap();
        std::fs::write(root.join("base.yaml"), "files:\n  - {path: /x, source: x}\n").unwrap();
        std::os::unix::fs::symlink("../secret.yaml", root.join("link.yaml")).unwrap();
        let load = async |path: &str| load(&Below(&root), path, "").await.map(|_| ()).map_err(|e| e.message);
        assert!(load("./../secret.yaml").await.unwrap_err().contains("is not below the context"));
        assert!(load("./link.yaml").await.unwrap_err().contains("leads out of"));
        assert!(load("./none.yaml").await.unwrap_err().contains("there is no file none.yaml"));
        assert!(load("./base.yaml").await.unwrap_err().starts_with("base.yaml:2:5: there is no file x beside"));
        std::fs::write(root.join("x"), "x").unwrap();
        load("./base.yaml").await.unwrap();
        std::fs::write(root.join("base.lock"), "{").unwrap();
        assert!(load("./base.yaml").await.unwrap_err().contains("base.lock: is no lock file"));
    }
}
