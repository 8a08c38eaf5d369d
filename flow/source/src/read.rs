//! Reading repositories at a commit.

use records::{CommitId, Name, Person, Timestamp};

use crate::{Branch, Error, Repositories, Result, git};

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

/// Bytes that a list of commits or refs may have.
const LISTING: u64 = 64 << 20;
const SUBJECT: usize = 500;

impl Repositories {
    /// All branches with the commits at their tips, in one call of git.
    pub async fn branches(&self, project: &Name) -> Result<Vec<Branch>> {
        let mut command = self.git(project)?;
        let format = "%(refname:lstrip=2)%00%(objectname)%00%(parent)%00%(authorname)%00%(authoremail:trim)%00%(committerdate:unix)%00%(subject)";
        command.args(["for-each-ref", "--format", format, "refs/heads/"]);
        let printed = git::output(command, "for-each-ref", LISTING).await?;
        let printed = String::from_utf8_lossy(&printed);
        let branch = |line: &str| {
            let (name, commit) = line.split_once('\0')?;
            Some(Branch { name: name.to_owned(), commit: commit_info(commit)? })
        };
        Ok(printed.lines().filter_map(branch).collect())
    }

    /// `NotFound` when the repository has no such commit.
    pub async fn commit_info(&self, project: &Name, id: &CommitId) -> Result<CommitInfo> {
        let found = self.log(project, id.as_str(), 1).await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| Error::NotFound { project: project.clone(), what: format!("commit {id}") })
    }

    /// The commits that `to` has and `from` (or nothing) has not, newest first, at most `limit`.
    pub async fn commits(
        &self,
        project: &Name,
        from: Option<&CommitId>,
        to: &CommitId,
        limit: usize,
    ) -> Result<Vec<CommitInfo>> {
        let range = from.map_or_else(|| to.to_string(), |from| format!("{from}..{to}"));
        self.log(project, &range, limit).await
    }

    /// The newest commit up to `to` that changed something below the directory `path` (empty: all). `NotFound` when there is none.
    pub async fn last_change(&self, project: &Name, to: &CommitId, path: &str) -> Result<CommitInfo> {
        let path = clean(path)?;
        let found = self.log_of(project, to.as_str(), 1, &path).await?;
        let missing =
            || Error::NotFound { project: project.clone(), what: format!("change of {path} up to commit {to}") };
        found.into_iter().next().ok_or_else(missing)
    }

    async fn log(&self, project: &Name, range: &str, limit: usize) -> Result<Vec<CommitInfo>> {
        self.log_of(project, range, limit, "").await
    }

    async fn log_of(&self, project: &Name, range: &str, limit: usize, path: &str) -> Result<Vec<CommitInfo>> {
        let mut command = self.git(project)?;
        let format = "--format=%H%x00%P%x00%an%x00%ae%x00%ct%x00%s";
        command.args(["log", "--no-color", "--encoding=UTF-8", format, "-n", &limit.to_string(), range, "--"]);
        if !path.is_empty() {
            // Git is told by its environment that no path is a pattern.
            command.arg(path);
        }
        let printed = match git::output(command, "log", LISTING).await {
            Err(Error::Git { said, .. }) if missing(&said) => {
                return Err(Error::NotFound { project: project.clone(), what: format!("commit {range}") });
            }
            printed => printed?,
        };
        Ok(String::from_utf8_lossy(&printed).lines().filter_map(commit_info).collect())
    }

    /// The files below the directory `path` (empty: all) of a commit, in the order of their paths. `NotFound` when the commit or the
    /// directory is not there, `TooLarge` when there are more than [`Limits::tree_entries`](crate::Limits::tree_entries).
    pub async fn tree(&self, project: &Name, commit: &CommitId, path: &str) -> Result<Vec<TreeEntry>> {
        let path = clean(path)?;
        let mut command = self.git(project)?;
        // `<commit>:` alone is the root.
        command.args(["ls-tree", "-r", "-l", "-z", "--full-tree", &format!("{commit}:{path}")]);
        let limit = self.limits.tree_entries;
        let what =
            if path.is_empty() { format!("commit {commit}") } else { format!("directory {path} in commit {commit}") };
        let printed = match git::output(command, "ls-tree", limit as u64 * 300).await {
            Err(Error::Git { said, .. }) if missing(&said) => {
                return Err(Error::NotFound { project: project.clone(), what });
            }
            Err(Error::TooLarge { .. }) => None,
            printed => Some(printed?),
        };
        let lines = || printed.as_deref().unwrap_or_default().split(|byte| *byte == 0).filter(|line| !line.is_empty());
        if printed.is_none() || lines().count() > limit {
            return Err(Error::Invalid(format!("{what} has more than {limit} files: Shipway does not build so many")));
        }
        lines().map(|line| tree_entry(line).ok_or_else(|| bad_entry(line))).collect()
    }
}

/// Whether git says that it does not know an object.
fn missing(said: &str) -> bool {
    [
        "Not a valid object name",
        "bad object",
        "bad revision",
        "unknown revision",
        "does not exist in",
        "not a tree object",
    ]
    .iter()
    .any(|text| said.contains(text))
}

fn bad_entry(line: &[u8]) -> Error {
    let name = line.split(|byte| *byte == b'\t').next_back().unwrap_or_default();
    let name: String = String::from_utf8_lossy(name).chars().take(200).collect();
    Error::Invalid(format!("the file `{}` has a name that is not UTF-8 or not safe: rename it", name.escape_debug()))
}

/// Fields of a commit, separated by NUL: id, parents, author's name and address, time, subject.
fn commit_info(line: &str) -> Option<CommitInfo> {
    let mut fields = line.splitn(6, '\0');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.split(' ').next().and_then(|parent| parent.parse().ok());
    let clip = |text: &str| text.chars().take(SUBJECT).collect::<String>();
    let author = Person { name: clip(fields.next()?), email: clip(fields.next()?) };
    // A time that cannot be is a commit's problem, not ours.
    let committed_at = fields.next()?.parse().ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default();
    Some(CommitInfo { id, parent, author, subject: clip(fields.next()?), committed_at })
}

/// `<mode> <type> <id> <size, padded>\t<path>`.
fn tree_entry(line: &[u8]) -> Option<TreeEntry> {
    let (meta, path) = std::str::from_utf8(line).ok()?.split_once('\t')?;
    let mut words = meta.split_ascii_whitespace();
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let _type = words.next()?;
    let id = words.next()?.to_owned();
    let size = words.next()?.parse().ok();
    let kind = match mode & 0o170000 {
        0o100000 => EntryKind::File,
        0o120000 => EntryKind::Link,
        0o160000 => EntryKind::Submodule,
        _ => return None,
    };
    if clean(path).ok()? != path {
        return None;
    }
    Some(TreeEntry { path: path.to_owned(), mode, kind, id, size })
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
    fn hostile_tree_entries_are_refused() {
        let id = "a".repeat(40);
        assert!(tree_entry(format!("100644 blob {id}      12\tsrc/a b.js").as_bytes()).is_some());
        for path in ["../x", "/x", "a/../../x", "a\nb"] {
            assert!(tree_entry(format!("100644 blob {id} 12\t{path}").as_bytes()).is_none(), "{path}");
        }
        assert!(tree_entry(&[b"100644 blob ", id.as_bytes(), b" 12\t\xff"].concat()).is_none());
        assert!(tree_entry(b"rubbish").is_none());
    }
}
