//! The repositories of all projects: bare ones, `<dir>/<project>.git`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use records::Name;
use tokio::sync::Semaphore;

use crate::{Error, Result, git, objects::Changes};

/// Bounds on what people and repositories can make this machine do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a pack that is pushed.
    pub pack_bytes: u64,
    /// How long one request of smart HTTP may take.
    pub exchange_time: Duration,
    /// Requests that are served at the same time; more have to wait.
    pub exchanges: usize,
    /// Files of a tree that is listed.
    pub tree_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack_bytes: 512 << 20,
            exchange_time: Duration::from_secs(30 * 60),
            exchanges: 64,
            tree_entries: 500_000,
        }
    }
}

/// The repositories of all projects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repositories {
    pub(crate) dir: Arc<Path>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) changes: Arc<Changes>,
}

impl Repositories {
    /// Opens `dir` and makes it if it is not there.
    pub fn open(dir: impl Into<PathBuf>, limits: Limits) -> Result<Self> {
        let dir = dir.into();
        std::fs::create_dir_all(&dir).map_err(Error::io(format!("cannot make {}", dir.display())))?;
        // Git is given the path while it works elsewhere.
        let dir = dir.canonicalize().map_err(Error::io(format!("cannot open {}", dir.display())))?;
        for stray in read_dir(&dir)?.into_iter().filter(|name| name.starts_with(STRAY)) {
            if let Err(error) = std::fs::remove_dir_all(dir.join(&stray)) {
                tracing::warn!(%stray, %error, "cannot remove what was left of a repository");
            }
        }
        let slots = Arc::new(Semaphore::new(limits.exchanges));
        Ok(Self { dir: dir.into(), limits: Arc::new(limits), slots, changes: Arc::default() })
    }

    /// Makes an empty repository whose `HEAD` is `default_branch`. `Exists` when there is one.
    pub async fn create(&self, project: &Name, default_branch: &str) -> Result<()> {
        valid_branch(default_branch)?;
        if self.exists(project) {
            return Err(Error::Exists(project.clone()));
        }
        // Made aside and given its name when it is whole.
        let aside = self.dir.join(format!("{STRAY}new-{project}"));
        remove(&aside).await?;
        let mut command = git::command(&aside, self.limits.pack_bytes);
        command.args(["init", "--quiet", "--bare", "--template=", "--initial-branch", default_branch]);
        git::output(command, "init", git::SAID).await?;
        match tokio::fs::rename(&aside, self.path(project)).await {
            Ok(()) => Ok(()),
            Err(_) if self.exists(project) => Err(Error::Exists(project.clone())),
            Err(source) => Err(Error::Io { doing: format!("cannot make the repository of {project}"), source }),
        }
    }

    pub fn exists(&self, project: &Name) -> bool {
        self.path(project).join("HEAD").is_file()
    }

    /// The projects that have a repository, in the order of their names.
    pub fn list(&self) -> Result<Vec<Name>> {
        let names = read_dir(&self.dir)?;
        let mut projects: Vec<Name> = names.iter().filter_map(|name| name.strip_suffix(".git")?.parse().ok()).collect();
        projects.retain(|project| self.exists(project));
        projects.sort();
        Ok(projects)
    }

    /// Removes a repository with all that is in it; removing what is not there is no error.
    pub async fn remove(&self, project: &Name) -> Result<()> {
        let aside = self.dir.join(format!("{STRAY}old-{project}"));
        remove(&aside).await?;
        match tokio::fs::rename(self.path(project), &aside).await {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Io { doing: format!("cannot remove the repository of {project}"), source }),
            Ok(()) => remove(&aside).await,
        }
    }

    /// Packs what has become loose and drops what nothing refers to, when there is enough of it. For a quiet moment.
    pub async fn maintain(&self, project: &Name) -> Result<()> {
        let mut command = self.git(project)?;
        command.args(["-c", "gc.auto=500", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet"]);
        git::output(command, "gc", git::SAID).await.map(|_| ())
    }

    pub(crate) fn path(&self, project: &Name) -> PathBuf {
        self.dir.join(format!("{project}.git"))
    }

    /// A git command in a project's repository; `NoProject` when there is none.
    pub(crate) fn git(&self, project: &Name) -> Result<std::process::Command> {
        if !self.exists(project) {
            return Err(Error::NoProject(project.clone()));
        }
        Ok(git::command(&self.path(project), self.limits.pack_bytes))
    }
}

/// No project can have such a name, so what is aside is in nobody's way.
const STRAY: &str = ".aside-";

fn read_dir(dir: &Path) -> Result<Vec<String>> {
    let failed = || format!("cannot list {}", dir.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(failed()))? {
        let entry = entry.map_err(Error::io(failed()))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

async fn remove(dir: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { doing: format!("cannot remove {}", dir.display()), source: e })
        }
        _ => Ok(()),
    }
}

/// The rules of `git check-ref-format --branch` for a name that is to be made here.
fn valid_branch(name: &str) -> Result<()> {
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let allowed = |c: char| !c.is_control() && !" ~^:?*[\\".contains(c);
    let valid = name.len() <= 200
        && name.chars().all(allowed)
        && name.split('/').all(part)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && !name.starts_with('-')
        && name != "@"
        && name != "HEAD";
    if valid {
        return Ok(());
    }
    let name: String = name.chars().take(100).collect();
    Err(Error::Invalid(format!(
        "`{name}` is no name for a branch: use letters, digits, `-`, `_` and `/`, for example `main`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names() {
        for good in ["main", "feature/a-b_c", "v1.0", "ä"] {
            assert!(valid_branch(good).is_ok(), "{good}");
        }
        for bad in [
            "", "-x", "a b", "a..b", "a//b", "/a", "a/", ".a", "a/.b", "a.lock", "a.", "@", "a@{1}", "a:b", "a\nb",
            "HEAD",
        ] {
            assert!(valid_branch(bad).is_err(), "{bad}");
        }
    }
}
