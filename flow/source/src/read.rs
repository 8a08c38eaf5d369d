//! Reading repositories at a commit.

use std::path::Path;

use records::{CommitId, Name, Person, Timestamp};

use crate::{
    Branch, Error, Repositories, Result,
    objects::{Entry, Objects, object_id},
};

/// What a commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    pub id: CommitId,
    /// The first one, of a merge.
    pub parent: Option<CommitId>,
    /// As the committer wrote it: not verified.
    pub author: Person,
    /// The first paragraph of the message on one line, at most 500 characters.
    pub subject: String,
    pub committed_at: Timestamp,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    /// A symbolic link; its blob is the target.
    Link,
    /// A commit of another repository.
    Submodule,
}

/// A file in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Relative to the directory that was listed, `/`-separated, without `.` and `..`.
    pub path: String,
    /// As git has it: `0o100644`, `0o100755`, `0o120000`, `0o160000`.
    pub mode: u32,
    pub kind: EntryKind,
    /// The object id: of the blob, or of a submodule's commit.
    pub id: String,
    /// Bytes; none for a submodule.
    pub size: Option<u64>,
}

impl Repositories {
    /// All branches with the commits at their tips, in the order of their names.
    pub async fn branches(&self, project: &Name) -> Result<Vec<Branch>> {
        self.objects(project, |path, objects| {
            let failed = |e: &dyn std::fmt::Display| Error::Git { doing: "refs".into(), said: e.to_string() };
            let refs = gix_ref::file::Store::at(path.to_owned(), gix_hash::Kind::Sha1);
            let all = refs.iter().map_err(|e| failed(&e))?;
            let mut branches = Vec::new();
            for found in all.all().map_err(|e| failed(&e))? {
                let found = found.map_err(|e| failed(&e))?;
                let Some(name) = found.name.as_bstr().strip_prefix(b"refs/heads/") else { continue };
                let Some(id) = found.target.try_id().and_then(|id| id.to_string().parse().ok()) else { continue };
                // A branch of something else than a commit is nothing to work on.
                let Some(commit) = objects.commit(&id)? else { continue };
                branches.push(Branch { name: String::from_utf8_lossy(name).into_owned(), commit });
            }
            Ok(branches)
        })
        .await
    }

    /// `NotFound` when the repository has no such commit.
    pub async fn commit_info(&self, project: &Name, id: &CommitId) -> Result<CommitInfo> {
        let missing = Error::NotFound { project: project.clone(), what: format!("commit {id}") };
        let id = id.clone();
        self.objects(project, move |_, objects| objects.commit(&id)?.ok_or(missing)).await
    }

    /// The newest commit up to `to` that changed something below the directory `path` (empty: all). `NotFound` when there is none.
    pub async fn last_change(&self, project: &Name, to: &CommitId, path: &str) -> Result<CommitInfo> {
        let path = clean(path)?;
        let what = format!("change of {path} up to commit {to}");
        let missing = Error::NotFound { project: project.clone(), what };
        let (to, changes) = (to.clone(), self.changes.clone());
        self.objects(project, move |_, objects| {
            let found = objects.last_change(&to, &path, &changes)?;
            found.map(|id| objects.commit(&id)).transpose()?.flatten().ok_or(missing)
        })
        .await
    }

    /// The files below the directory `path` (empty: all) of a commit, in the order of their paths. `NotFound` when the commit or the
    /// directory is not there, `TooLarge` when there are more than [`Limits::tree_entries`](crate::Limits::tree_entries).
    pub async fn tree(&self, project: &Name, commit: &CommitId, path: &str) -> Result<Vec<TreeEntry>> {
        let path = clean(path)?;
        let limit = self.limits.tree_entries;
        let what =
            if path.is_empty() { format!("commit {commit}") } else { format!("directory {path} in commit {commit}") };
        let (project, commit) = (project.clone(), object_id(commit.as_str())?);
        self.objects(&project.clone(), move |_, objects| {
            let found = objects.entry(&commit, &path)?.filter(|entry| entry.mode.is_tree());
            let Some(root) = found else { return Err(Error::NotFound { project, what }) };
            let mut entries = Vec::new();
            objects.walk(&root.id, &mut |path, entry| {
                if entries.len() == limit {
                    let why = format!("{what} has more than {limit} files: Shipway does not build so many");
                    return Err(Error::Invalid(why));
                }
                entries.push(tree_entry(objects, path, entry)?);
                Ok(())
            })?;
            Ok(entries)
        })
        .await
    }

    /// Asks a project's repository something, on a thread that may wait for the disk; `NoProject` when there is none.
    pub(crate) async fn objects<T: Send + 'static>(
        &self,
        project: &Name,
        ask: impl FnOnce(&Path, &Objects) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if !self.exists(project) {
            return Err(Error::NoProject(project.clone()));
        }
        let path = self.path(project);
        let asked = tokio::task::spawn_blocking(move || ask(&path, &Objects::open(&path)?));
        asked.await.map_err(|e| Error::Git { doing: "objects".into(), said: e.to_string() })?
    }
}

pub(crate) fn bad_path(path: &[u8]) -> Error {
    let name: String = String::from_utf8_lossy(path).chars().take(200).collect();
    Error::Invalid(format!("the file `{}` has a name that is not UTF-8 or not safe: rename it", name.escape_debug()))
}

fn tree_entry(objects: &Objects, path: &[u8], entry: Entry) -> Result<TreeEntry> {
    let path = safe(path).ok_or_else(|| bad_path(path))?;
    let (kind, size) = if entry.mode.is_commit() {
        (EntryKind::Submodule, None)
    } else {
        let kind = if entry.mode.is_link() { EntryKind::Link } else { EntryKind::File };
        (kind, objects.blob_size(&entry.id)?)
    };
    // A file is executable or not: older modes are not told apart.
    let mode = match kind {
        EntryKind::File if entry.mode.is_executable() => 0o100755,
        EntryKind::File => 0o100644,
        EntryKind::Link => 0o120000,
        EntryKind::Submodule => 0o160000,
    };
    Ok(TreeEntry { path, mode, kind, id: entry.id.to_string(), size })
}

/// The path of an entry, if it can be used as it is.
fn safe(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    (clean(path).ok()? == path).then(|| path.to_owned())
}

/// A relative path without `.`, `..`, empty parts and control characters; `.` and `./` at the front and `/` at the end are left out.
pub(crate) fn clean(path: &str) -> Result<String> {
    let refused = |why: &str| {
        let path: String = path.chars().take(200).collect();
        Err(Error::Invalid(format!(
            "`{}` {why}: use a path inside the repository, for example `deploy/app.yaml`",
            path.escape_debug()
        )))
    };
    if path.starts_with('/') {
        return refused("is absolute");
    }
    if path.len() > 4096 || path.chars().any(char::is_control) {
        return refused("is too long or has control characters in it");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return refused("leads outside"),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (path, cleaned) in
            [("", ""), (".", ""), ("./a", "a"), ("a//b/", "a/b"), ("a/./b", "a/b"), (".a/..b", ".a/..b")]
        {
            assert_eq!(clean(path).unwrap(), cleaned);
        }
        for path in ["/", "/etc/passwd", "..", "a/../b", "../a", "a\nb", "a\0b"] {
            assert!(matches!(clean(path), Err(Error::Invalid(_))), "{path:?}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        assert_eq!(safe(b"src/a b.js").as_deref(), Some("src/a b.js"));
        for path in [&b"../x"[..], b"/x", b"a/../../x", b"a\nb", b"a//b", b"./a", b"\xff"] {
            assert!(safe(path).is_none(), "{path:?}");
        }
    }
}
