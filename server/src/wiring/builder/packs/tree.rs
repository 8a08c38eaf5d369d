//! Directories of this machine as they go into a build: by content, and written where buildpacks see them.

use std::{
    io,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
};

use build::{ContextTree, Ignore};
use graph::{FileSource, Selected, vertex::SelectedKind};
use source::Repositories;

use super::super::{Home, Work};
use crate::{
    fault::{Class, Fault, Result},
    wiring::executor,
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
    sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What everybody may do with a file whose owner may do `mode`, less writing: buildpacks run as somebody else.
fn widened(mode: u32) -> u32 {
    let own = mode & 0o700;
    mode & 0o7755 | (own >> 3 | own >> 6) & 0o055
}

impl Work<'_> {
    /// Reads the files below `root` that `keep` wants: paths, and whether each is a directory. With `open`, everybody may read them.
    pub(super) async fn tree(&self, root: &Path, keep: impl Fn(&str, bool) -> bool, open: bool) -> Result<Tree> {
        let scanned: ContextTree = self.scan(root, Ignore::default()).await?;
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
        Ok(Tree { source: FileSource { origin: scanned.origin().clone(), files }, identity: sum(&identity) })
    }
}

impl Tree {
    /// Writes the files into a new directory.
    pub async fn write(&self, home: &Home, to: &Path) -> Result<()> {
        std::fs::create_dir(to).map_err(failed("make", to))?;
        let repositories = Repositories::open(home.data.join("git"), source::Limits::default());
        let repositories = repositories.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        let written = executor::write_files(&self.source, to, &repositories, &*home.blobs).await;
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
    fn everybody_may_do_what_the_owner_may_but_write() {
        for (mode, expected) in [(0o700, 0o755), (0o600, 0o644), (0o755, 0o755), (0o777, 0o755), (0o640, 0o644)] {
            assert_eq!(widened(mode), expected, "{mode:o}");
        }
    }
}
