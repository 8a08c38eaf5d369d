//! Copies files from one root file system into another with the rules of the Dockerfile reference.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
};

use globset::GlobBuilder;
use graph::Copy;

use super::rooted::{Place, Root, owner};

/// How deep a copied tree may be, and how many entries it may have.
const DEEPEST: usize = 200;
const MOST: usize = 1_000_000;

/// Copies what `copy` names from `source` into `target`. An error is a sentence for the person who wrote the instruction.
pub fn copy(copy: &Copy, source: &Path, target: &Path) -> Result<(), String> {
    let root = Root::open(target).map_err(|e| format!("cannot open the image's root: {e}"))?;
    let from = Root::open(source).map_err(|e| format!("cannot open the source's root: {e}"))?;
    let owner = copy.chown.as_deref().map(|text| owner(&root, text)).transpose()?;
    let mut matched = Vec::new();
    for pattern in &copy.sources {
        let found = expand(&from, pattern)?;
        if found.is_empty() {
            return Err(format!("`{pattern}` is not there"));
        }
        matched.extend(found);
    }
    let into_directory = copy.target.ends_with('/') || matched.len() > 1;
    let mut work = Work { owner, chmod: copy.chmod, entries: 0 };
    let base = owner.unwrap_or((0, 0));
    for path in &matched {
        let place = from.find(path).map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
        let metadata = fs::metadata(place.path()).map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
        let said = |e: io::Error| format!("cannot copy `{}` to `{}`: {e}", path.display(), copy.target);
        if metadata.is_dir() {
            // Of a directory its content is copied, not the directory itself.
            let into = root.make(Path::new(&copy.target), base).map_err(said)?;
            work.tree(&place.path(), &into.path(), 0).map_err(said)?;
            continue;
        }
        let target = Path::new(&copy.target);
        let exists = root.directory(target).ok();
        let (into, name): (Place, &OsStr) = match exists {
            Some(directory) => (directory, path.file_name().unwrap_or_default()),
            None if into_directory => (root.make(target, base).map_err(said)?, path.file_name().unwrap_or_default()),
            None => {
                let parent = target.parent().unwrap_or(Path::new("/"));
                (root.make(parent, base).map_err(said)?, target.file_name().unwrap_or_default())
            }
        };
        work.entry(&place.path(), &into.entry(name), 0, true).map_err(said)?;
    }
    Ok(())
}

/// The paths that a source names, wildcards included, in order.
fn expand(root: &Root, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let trimmed = Path::new("/").join(pattern.trim_start_matches('/'));
    if !pattern.contains(['*', '?', '[']) {
        return Ok(if root.find(&trimmed).is_ok() { vec![trimmed] } else { Vec::new() });
    }
    let mut found = vec![PathBuf::from("/")];
    for component in trimmed.components().skip(1) {
        let text = component.as_os_str().to_string_lossy().into_owned();
        let glob = GlobBuilder::new(&text).literal_separator(true).build().map_err(|e| format!("`{pattern}`: {e}"))?;
        let matcher = glob.compile_matcher();
        let mut next = Vec::new();
        for directory in found {
            if !text.contains(['*', '?', '[']) {
                next.push(directory.join(&text));
                continue;
            }
            let Ok(place) = root.directory(&directory) else { continue };
            let entries =
                fs::read_dir(place.path()).map_err(|e| format!("cannot list `{}`: {e}", directory.display()))?;
            let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
            next.extend(names.filter(|name| matcher.is_match(Path::new(name))).map(|name| directory.join(name)));
        }
        next.sort();
        found = next;
    }
    found.retain(|path| root.find(path).is_ok());
    Ok(found)
}

struct Work {
    owner: Option<(u32, u32)>,
    chmod: Option<u32>,
    entries: usize,
}

impl Work {
    /// Copies the content of a directory into another that is there.
    fn tree(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        let mut names: Vec<_> = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            self.entry(&from.join(&name), &to.join(&name), depth + 1, false)?;
        }
        Ok(())
    }

    /// Copies one entry. A link is copied as a link, except when it was named itself (`follow`).
    fn entry(&mut self, from: &Path, to: &Path, depth: usize, follow: bool) -> io::Result<()> {
        self.entries += 1;
        if depth > DEEPEST || self.entries > MOST {
            return Err(io::Error::other(format!("more than {MOST} entries, or deeper than {DEEPEST} directories")));
        }
        let metadata = if follow { fs::metadata(from)? } else { fs::symlink_metadata(from)? };
        let kind = metadata.file_type();
        let old = fs::symlink_metadata(to).ok();
        if kind.is_dir() {
            match &old {
                Some(old) if old.is_dir() => {}
                Some(old) if old.file_type().is_symlink() && fs::metadata(to).is_ok_and(|m| m.is_dir()) => {
                    return Err(io::Error::other(format!("`{}` is a link in the way of a directory", name(to))));
                }
                other => {
                    if other.is_some() {
                        fs::remove_file(to)?;
                    }
                    fs::DirBuilder::new().mode(0o755).create(to)?;
                }
            }
            self.tree(from, to, depth)?;
            self.finish(to, &metadata)
        } else if kind.is_symlink() {
            clear(to, old.as_ref())?;
            symlink(fs::read_link(from)?, to)?;
            let (uid, gid) = self.owner.unwrap_or((0, 0));
            lchown(to, Some(uid), Some(gid))
        } else if kind.is_file() {
            clear(to, old.as_ref())?;
            copy_file(from, to)?;
            self.finish(to, &metadata)
        } else if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket() {
            Err(io::Error::other(format!("`{}` is a device, a pipe or a socket, which images do not hold", name(from))))
        } else {
            Ok(())
        }
    }

    /// Owner, mode and time of what was copied. The owner first: changing it clears the set-user-id bits.
    fn finish(&self, to: &Path, metadata: &fs::Metadata) -> io::Result<()> {
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        chown(to, Some(uid), Some(gid))?;
        fs::set_permissions(to, fs::Permissions::from_mode(self.chmod.unwrap_or(metadata.mode() & 0o7777)))?;
        fs::File::open(to)?.set_modified(metadata.modified()?)
    }
}

fn clear(to: &Path, old: Option<&fs::Metadata>) -> io::Result<()> {
    match old {
        None => Ok(()),
        Some(old) if old.is_dir() => {
            Err(io::Error::other(format!("`{}` is a directory in the way of a file", name(to))))
        }
        Some(_) => fs::remove_file(to),
    }
}

/// Shares the blocks where the file system can (reflink), else lets the kernel copy.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut target = fs::OpenOptions::new().write(true).create_new(true).open(to)?;
    io::copy(&mut source, &mut target).map(drop)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        directory
    }

    fn run(
        sources: &[&str],
        target: &str,
        from: &tempfile::TempDir,
        to: &tempfile::TempDir,
    ) -> Result<Vec<String>, String> {
        let sources = sources.iter().map(|s| (*s).to_owned()).collect();
        let instruction = Copy { sources, target: target.into(), chown: None, chmod: None };
        copy(&instruction, from.path(), to.path())?;
        let mut all: Vec<String> = walkdir::WalkDir::new(to.path())
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(to.path()).unwrap().display().to_string())
            .collect();
        all.sort();
        Ok(all)
    }

    /// The cases of the Dockerfile reference on where a file or directory goes.
    #[test]
    fn targets_are_what_the_reference_says() {
        let from = tree(&["a.txt", "b.txt", "dir/c.txt", "dir/sub/d.txt"]);
        let empty = || tree(&[]);
        assert_eq!(run(&["a.txt"], "/x/y", &from, &empty()).unwrap(), ["x/y"]);
        assert_eq!(run(&["a.txt"], "/x/y/", &from, &empty()).unwrap(), ["x/y/a.txt"]);
        assert_eq!(run(&["*.txt"], "/x/", &from, &empty()).unwrap(), ["x/a.txt", "x/b.txt"]);
        assert_eq!(run(&["dir"], "/x", &from, &empty()).unwrap(), ["x/c.txt", "x/sub/d.txt"]);
        assert_eq!(run(&["/"], "/", &from, &empty()).unwrap(), ["a.txt", "b.txt", "dir/c.txt", "dir/sub/d.txt"]);
        assert_eq!(run(&["d*/s*/d.txt"], "/x/", &from, &empty()).unwrap(), ["x/d.txt"]);
        let existing = tree(&["etc/old"]);
        assert_eq!(run(&["a.txt"], "/etc", &from, &existing).unwrap(), ["etc/a.txt", "etc/old"]);
    }

    #[test]
    fn what_is_missing_or_in_the_way_is_named() {
        let from = tree(&["a.txt", "dir/c.txt"]);
        assert!(run(&["nope"], "/x", &from, &tree(&[])).unwrap_err().contains("nope"));
        assert!(run(&["*.md"], "/x/", &from, &tree(&[])).unwrap_err().contains("*.md"));
        assert!(run(&["dir/"], "/x", &from, &tree(&["x"])).is_err());
    }
}
