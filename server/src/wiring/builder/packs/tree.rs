//! Directories of this machine as they go into a build: by content, and written where buildpacks see them.

use std::{
    io,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
};

use build::ContextTree;
use data_encoding::HEXLOWER;
use graph::{FileSource, Selected, vertex::SelectedKind};

use crate::{
    fault::{Class, Fault, Result},
    wiring::{executor, workshop::Workshop},
};

/// The files of a directory, by content.
pub struct Tree {
    source: FileSource,
    /// The same for the same files, wherever they lie.
    pub identity: String,
}

/// SHA-256 in hex.
pub fn sum(bytes: &[u8]) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    HEXLOWER.encode(sum.as_ref())
}

/// What everybody may do with a file whose owner may do `mode`, less writing: buildpacks run as somebody else.
fn widened(mode: u32) -> u32 {
    let own = mode & 0o700;
    mode & 0o7755 | (own >> 3 | own >> 6) & 0o055
}

impl Tree {
    /// The files of `scanned` that `keep` wants: paths, and whether each is a directory. With `open`, everybody may read them.
    pub fn of(scanned: ContextTree, keep: impl Fn(&str, bool) -> bool, open: bool) -> Result<Self> {
        let mut files: Vec<Selected> = scanned
            .entries()
            .filter(|entry| keep(&entry.path, entry.kind == SelectedKind::Directory))
            .map(|entry| Selected {
                from: entry.path.clone(),
                to: entry.path.clone(),
                mode: if open { widened(entry.mode) } else { entry.mode },
                content: entry.content.clone(),
                kind: entry.kind,
            })
            .collect();
        let _span = tracing::info_span!("hash");
        tokio::task::block_in_place(|| scanned.hash(&mut files)).map_err(|e| Fault::usage(e.to_string()))?;
        scanned.save_cache();
        let identity = serde_json::to_vec(&files).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        Ok(Self { source: FileSource { origin: scanned.origin().clone(), files }, identity: sum(&identity) })
    }

    /// A buildpack with programs for several platforms has them below `os/architecture`, as `pack` packages them; what lies there stands
    /// before what is for all.
    pub fn of_platform(mut self, platform: &build::Platform) -> Self {
        let own = format!("{}/{}/", platform.os, platform.architecture);
        let has = |prefix: &str| self.source.files.iter().any(|file| file.to.starts_with(prefix));
        if has("bin/") || !has(&format!("{own}bin/")) {
            return self;
        }
        let other = format!("{}/", platform.os);
        let (mut files, mut shared) = (Vec::new(), Vec::new());
        for mut file in std::mem::take(&mut self.source.files) {
            if let Some(rest) = file.to.strip_prefix(&own) {
                file.to = rest.to_owned();
                files.push(file);
            } else if !file.to.starts_with(&other) && file.to != platform.os {
                shared.push(file);
            }
        }
        let known: std::collections::BTreeSet<String> = files.iter().map(|file| file.to.clone()).collect();
        files.extend(shared.into_iter().filter(|file| !known.contains(&file.to)));
        files.sort_by(|a, b| a.to.cmp(&b.to));
        self.source.files = files;
        self
    }

    /// Writes the files into a new directory.
    pub async fn write(&self, shop: &Workshop, to: &Path) -> Result<()> {
        std::fs::create_dir(to).map_err(failed("make", to))?;
        let written = executor::write_files(&self.source, to, &shop.repositories, &*shop.blobs).await;
        written.map_err(|e| Fault::new(Class::Unavailable, e.to_string()))
    }
}

/// An error of this machine.
pub fn failed<'a>(action: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Fault + 'a {
    move |e| Fault::new(Class::Unavailable, format!("cannot {action} {}: {e}", path.display()))
}

/// Gives a directory and all that is in it to the user of the buildpacks.
pub fn hand_over(path: &Path, (user, group): (u32, u32)) -> Result<()> {
    for entry in walkdir::WalkDir::new(path) {
        let entry = entry.map_err(|e| Fault::new(Class::Unavailable, e.to_string()))?;
        lchown(entry.path(), Some(user), Some(group)).map_err(failed("hand over", entry.path()))?;
    }
    Ok(())
}

/// Makes a directory.
pub fn made(path: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&path).map_err(failed("make", &path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_platform_are_taken() {
        let file = |path: &str| Selected {
            from: path.to_owned(),
            to: path.to_owned(),
            mode: 0o755,
            content: String::new(),
            kind: SelectedKind::File,
        };
        let taken = |paths: &[&str]| {
            let files = paths.iter().map(|path| file(path)).collect();
            let source = FileSource { origin: graph::Origin::Blobs, files };
            let platform = build::Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
            let tree = Tree { source, identity: String::new() }.of_platform(&platform);
            tree.source.files.into_iter().map(|file| format!("{}<{}", file.to, file.from)).collect::<Vec<_>>()
        };
        let both =
            ["LICENSE", "buildpack.toml", "linux/amd64/LICENSE", "linux/amd64/bin/build", "linux/arm64/bin/build"];
        let own = ["LICENSE<linux/amd64/LICENSE", "bin/build<linux/amd64/bin/build", "buildpack.toml<buildpack.toml"];
        assert_eq!(taken(&both), own);
        assert_eq!(taken(&["bin/build", "linux/amd64/bin/build"]).len(), 2, "one for all stays as it is");
    }

    #[test]
    fn everybody_may_do_what_the_owner_may_but_write() {
        for (mode, expected) in [(0o700, 0o755), (0o600, 0o644), (0o755, 0o755), (0o777, 0o755), (0o640, 0o644)] {
            assert_eq!(widened(mode), expected, "{mode:o}");
        }
    }
}
