//! The files of a working tree on this machine: what git would commit of it, or everything where there is no git.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use async_trait::async_trait;
use build::{ContextEntry, ContextTree, Ignore};
use graph::{FileSource, Origin, Selected, SelectedKind};
use records::{Commit, CommitId, Name, Person, Timestamp};
use tokio::{io::AsyncReadExt, process::Command};

use super::tree::{Files, TEXT};
use crate::fault::{Class, Fault, Result};

/// A working tree as it was when it was read.
pub struct WorkingTree {
    root: PathBuf,
    files: ContextTree,
    head: Option<Head>,
}

/// The commit that the working tree stands on.
struct Head {
    id: CommitId,
    branch: String,
    at: Timestamp,
    subject: String,
    author: Person,
}

impl WorkingTree {
    /// Lists and hashes the files. Those that `.gitignore` names are left out where git can tell.
    pub async fn read(root: &Path) -> Result<Self> {
        let root = tokio::fs::canonicalize(root)
            .await
            .map_err(|e| Fault::usage(format!("cannot open the working tree {}: {e}", root.display())))?;
        let listed =
            git(&root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]).await?;
        let Some(listed) = listed else {
            let files = hashed(&root, None).await?;
            return Ok(Self { root, files, head: None });
        };
        let mut paths = Vec::new();
        for path in listed.split(|b| *b == 0).filter(|path| !path.is_empty()) {
            let path = String::from_utf8(path.to_owned()).map_err(|e| {
                Fault::usage(format!("the name of `{}` is not UTF-8", String::from_utf8_lossy(e.as_bytes())))
            })?;
            paths.push(path);
        }
        let files = hashed(&root, Some(paths)).await?;
        let head = head(&root).await?;
        Ok(Self { root, files, head })
    }

    /// The commit that a run of this tree names: the one that it stands on, or one of zeros.
    pub fn commit(&self, project: &Name, now: Timestamp) -> Result<Commit> {
        let none = || Fault::new(Class::Internal, "forty zeros are no commit id");
        let commit = Commit {
            project: project.clone(),
            id: "0".repeat(40).parse().map_err(|_| none())?,
            branch: "-".into(),
            parent: None,
            author: Person { name: String::new(), email: String::new() },
            subject: "working tree".into(),
            committed_at: Timestamp::UNIX_EPOCH,
            received_at: now,
        };
        Ok(match &self.head {
            None => commit,
            Some(Head { id, branch, at, subject, author }) => Commit {
                id: id.clone(),
                branch: branch.clone(),
                committed_at: *at,
                subject: subject.clone(),
                author: author.clone(),
                ..commit
            },
        })
    }

    /// A name for the project: that of the directory, as far as its letters can stand in a name.
    pub fn project(&self) -> Result<Name> {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
        name.trim_matches('-').parse().or_else(|_| Ok("local".parse()?))
    }

    /// The modes that git knows, where git lists the files: those of the directory depend on who checked it out.
    fn mode(&self, entry: &ContextEntry) -> u32 {
        match (self.head.is_some(), entry.kind) {
            (false, _) => entry.mode & 0o777,
            (true, SelectedKind::File) if entry.mode & 0o100 == 0 => 0o644,
            (true, _) => 0o755,
        }
    }

    fn said(&self, error: &build::Error) -> Fault {
        Fault::usage(error.to_string())
    }
}

#[async_trait]
impl Files for WorkingTree {
    fn name(&self) -> String {
        format!("the working tree {}", self.root.display())
    }

    async fn text(&self, path: &str) -> Result<Option<String>> {
        let Some(path) = self.files.resolve(path) else { return Ok(None) };
        if self.files.get(&path).is_none_or(|entry| entry.kind != SelectedKind::File) {
            return Ok(None);
        }
        let failed = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot read {path}: {e}"));
        let file = tokio::fs::File::open(self.root.join(&path)).await.map_err(failed)?;
        let mut text = Vec::new();
        file.take(TEXT + 1).read_to_end(&mut text).await.map_err(failed)?;
        if text.len() as u64 > TEXT {
            return Err(Fault::new(Class::TooLarge, format!("{path} has more than {TEXT} bytes")));
        }
        match String::from_utf8(text) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Fault::usage(format!("{path} is not UTF-8 text"))),
        }
    }

    async fn checkout(&self) -> Result<FileSource> {
        let file = |entry: &ContextEntry| Selected {
            from: entry.path.clone(),
            to: entry.path.clone(),
            mode: self.mode(entry),
            content: entry.content.clone(),
            kind: entry.kind,
        };
        Ok(FileSource { origin: Origin::Directory(self.root.clone()), files: self.files.entries().map(file).collect() })
    }

    async fn changed(&self, _path: &str) -> Result<Option<(CommitId, Timestamp)>> {
        Ok(None)
    }

    async fn context(&self, path: &str, ignore: Ignore) -> Result<ContextTree> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.files.below(path).map(|entry| ContextEntry {
            path: entry.path[prefix.len()..].to_owned(),
            mode: self.mode(entry),
            ..entry.clone()
        });
        ContextTree::new(Origin::Directory(self.root.join(path)), below, ignore).map_err(|e| self.said(&e))
    }
}

/// The files of a directory with their digests: all but `.git`, or these.
async fn hashed(root: &Path, paths: Option<Vec<String>>) -> Result<ContextTree> {
    let root = root.to_owned();
    let work = move || match paths {
        Some(paths) => ContextTree::from_paths(&root, paths, Ignore::default()),
        None => ContextTree::from_directory(&root, Ignore::parse(".gitignore", ".git\n")?),
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| Fault::from_error(Class::Internal, &e))?;
    done.map_err(|e| Fault::usage(e.to_string()))
}

async fn head(root: &Path) -> Result<Option<Head>> {
    let Some(said) = git(root, &["log", "-1", "--format=%H%x00%ct%x00%an%x00%ae%x00%s"]).await? else {
        return Ok(None);
    };
    let said = String::from_utf8_lossy(&said).trim_end().to_owned();
    let parts: Vec<&str> = said.splitn(5, '\0').collect();
    let [id, seconds, name, email, subject] = parts[..] else { return Ok(None) };
    let (Ok(id), Ok(seconds)) = (id.parse(), seconds.parse()) else { return Ok(None) };
    let Ok(at) = Timestamp::from_second(seconds) else { return Ok(None) };
    let branch = git(root, &["symbolic-ref", "-q", "--short", "HEAD"]).await?.unwrap_or_default();
    let branch = String::from_utf8_lossy(&branch).trim().to_owned();
    let author = Person { name: name.to_owned(), email: email.to_owned() };
    Ok(Some(Head { id, branch, at, subject: subject.to_owned(), author }))
}

/// What git says of a directory; `None` when it is no git tree, or there is no git.
async fn git(root: &Path, arguments: &[&str]) -> Result<Option<Vec<u8>>> {
    // A tree of another user is only read, and nothing that its configuration names is run.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"])
        .args(arguments)
        .current_dir(root)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    match output {
        Ok(output) if output.status.success() => Ok(Some(output.stdout)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::new(Class::Unavailable, format!("cannot run git: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, path: &str, text: &str) {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    async fn paths(directory: &Path) -> Vec<String> {
        let tree = WorkingTree::read(directory).await.unwrap();
        let files = tree.checkout().await.unwrap().files;
        files.into_iter().filter(|file| file.kind == SelectedKind::File).map(|file| file.to).collect()
    }

    fn run(directory: &Path, arguments: &[&str]) {
        let git = std::process::Command::new("git").args(arguments).current_dir(directory).output().unwrap();
        assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
    }

    #[tokio::test]
    async fn what_git_ignores_is_left_out_and_what_is_new_is_in() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("My App");
        write(&root, ".gitignore", "node_modules/\n*.log\n");
        write(&root, "node_modules/x/index.js", "");
        write(&root, "a.log", "");
        write(&root, "src/main.js", "1");
        write(&root, "gone.js", "1");
        // Without git everything counts.
        assert_eq!(paths(&root).await.len(), 5);
        run(&root, &["init", "-q", "-b", "trunk"]);
        run(&root, &["add", "-A"]);
        run(&root, &["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-qm", "One"]);
        std::fs::remove_file(root.join("gone.js")).unwrap();
        write(&root, "src/new.js", "2");
        assert_eq!(paths(&root).await, [".gitignore", "src/main.js", "src/new.js"]);
        let tree = WorkingTree::read(&root).await.unwrap();
        let project = tree.project().unwrap();
        assert_eq!(project.as_str(), "my-app");
        let commit = tree.commit(&project, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((commit.branch.as_str(), commit.subject.as_str()), ("trunk", "One"));
        let context = tree.context("src", Ignore::default()).await.unwrap();
        let names: Vec<&str> = context.entries().map(|entry| entry.path.as_str()).collect();
        assert_eq!(names, ["main.js", "new.js"]);
        assert_eq!(tree.text("src/new.js").await.unwrap().as_deref(), Some("2"));
        assert_eq!(tree.text("a.log").await.unwrap(), None);
    }
}
