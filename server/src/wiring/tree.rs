//! The files of a commit, as the rooms that need them see them.

use async_trait::async_trait;
use build::{ContextEntry, ContextTree, Ignore};
use graph::{FileSource, Origin, Selected, SelectedKind};
use records::{CommitId, Name, Timestamp};
use source::{EntryKind, Repositories, TreeEntry};

use crate::fault::{Class, Fault, Result};

/// The files that a run is of.
#[async_trait]
pub trait Files: Send + Sync {
    /// What people call them, for example `commit 1a2b3c4d5e6f`.
    fn name(&self) -> String;

    /// A text file, or `None` when there is no such file.
    async fn text(&self, path: &str) -> Result<Option<String>>;

    /// All of them, for steps.
    async fn checkout(&self) -> Result<FileSource>;

    /// The build context below a directory.
    async fn context(&self, path: &str, ignore: Ignore) -> Result<ContextTree>;

    /// The commit that last changed something below a directory, and its time; `None` for files that are in no commit.
    async fn changed(&self, path: &str) -> Result<Option<(CommitId, Timestamp)>>;
}

/// A commit of a project hosted here.
pub struct Tree<'a> {
    pub repositories: &'a Repositories,
    pub project: &'a Name,
    pub commit: &'a CommitId,
}

/// The largest file that is read as text: pipeline files, Dockerfiles, manifests.
pub const TEXT: u64 = 1 << 20;

#[async_trait]
impl Files for Tree<'_> {
    fn name(&self) -> String {
        format!("commit {}", self.commit.short())
    }

    async fn text(&self, path: &str) -> Result<Option<String>> {
        let content = self.repositories.read_file(self.project, self.commit, path, TEXT).await.map_err(|e| read(&e))?;
        let Some(content) = content else { return Ok(None) };
        match String::from_utf8(content) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Fault::usage(format!("{path} is not UTF-8 text"))),
        }
    }

    async fn checkout(&self) -> Result<FileSource> {
        let entries = self.list("").await?;
        let mut links = self.links(&entries).await?.into_iter();
        let mut files = Vec::with_capacity(entries.len());
        for entry in entries {
            let (kind, content) = match entry.kind {
                EntryKind::File => (SelectedKind::File, entry.id),
                EntryKind::Link => (SelectedKind::Link, links.next().unwrap_or_default()),
                EntryKind::Submodule => continue,
            };
            files.push(Selected { to: entry.path.clone(), from: entry.path, mode: entry.mode & 0o777, content, kind });
        }
        Ok(FileSource { origin: self.origin(""), files })
    }

    async fn changed(&self, path: &str) -> Result<Option<(CommitId, Timestamp)>> {
        let found = self.repositories.last_change(self.project, self.commit, path).await.map_err(|e| read(&e))?;
        Ok(Some((found.id, found.committed_at)))
    }

    async fn context(&self, path: &str, ignore: Ignore) -> Result<ContextTree> {
        let entries = self.list(path).await?;
        let mut links = self.links(&entries).await?.into_iter();
        let context = entries.into_iter().filter_map(|entry| {
            let (kind, content) = match entry.kind {
                EntryKind::File => (SelectedKind::File, entry.id),
                EntryKind::Link => (SelectedKind::Link, links.next()?),
                EntryKind::Submodule => return None,
            };
            let size = entry.size.unwrap_or(0);
            Some(ContextEntry { path: entry.path, mode: entry.mode & 0o777, kind, content, size })
        });
        ContextTree::new(self.origin(path), context, ignore).map_err(|e| Fault::usage(e.to_string()))
    }
}

impl Tree<'_> {
    /// Everything below a directory; empty for all.
    pub async fn list(&self, path: &str) -> Result<Vec<TreeEntry>> {
        self.repositories.tree(self.project, self.commit, path).await.map_err(|e| read(&e))
    }

    /// The targets of the links among these, in their order.
    async fn links(&self, entries: &[TreeEntry]) -> Result<Vec<String>> {
        let ids: Vec<String> =
            entries.iter().filter(|entry| entry.kind == EntryKind::Link).map(|entry| entry.id.clone()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let targets = self.repositories.read_blobs(self.project, ids, TEXT).await.map_err(|e| read(&e))?;
        Ok(targets.into_iter().map(|target| String::from_utf8_lossy(&target).into_owned()).collect())
    }

    fn origin(&self, path: &str) -> Origin {
        Origin::Git { project: self.project.clone(), commit: self.commit.clone(), path: path.to_owned() }
    }
}

fn read(error: &source::Error) -> Fault {
    let class = match error {
        source::Error::NotFound { .. } => Class::NotFound,
        source::Error::TooLarge { .. } => Class::TooLarge,
        _ => Class::Unavailable,
    };
    Fault::from_error(class, error)
}
