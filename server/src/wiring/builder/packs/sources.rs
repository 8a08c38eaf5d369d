//! What a build by buildpacks asks of where it runs: files of the project, images by their names, what lies at addresses.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use build::{ContextTree, Fetched, Ignore, Remote, ResolvedBase};
use buildpack::project::Project;

use super::{
    super::{Work, load, names, remotes},
    project, tree,
};
use crate::{
    fault::{Class, Fault, Result},
    wiring::workshop::Workshop,
};

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Directory(PathBuf),
    File(PathBuf),
    Nothing,
}

/// What somebody wrote down that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Builder,
    /// By its place in the list.
    Buildpack(usize),
    RunImage,
}

/// Where a build runs.
#[async_trait]
pub trait Sources: Send + Sync {
    /// What people call the place of the application's files.
    fn name(&self) -> String;

    /// What names of builders and buildpacks are relative to.
    fn here(&self) -> Result<PathBuf>;

    /// An image by its name.
    async fn image(&self, name: &str) -> Result<ResolvedBase>;

    /// The application's files.
    async fn context(&self) -> Result<ContextTree>;

    /// The project's file, where there is one, and its path.
    async fn project(&self) -> Result<Option<(PathBuf, Project)>>;

    /// What a name leads to from `here`.
    async fn find(&self, here: &Path, name: &str) -> Result<Found>;

    /// A text, `None` where there is no such file.
    async fn text(&self, path: &Path) -> Result<Option<String>>;

    /// The files of a directory.
    async fn directory(&self, path: &Path) -> Result<ContextTree>;

    /// A file on this machine; where it is none yet, it is written below `scratch`, which is not there yet.
    async fn file(&self, shop: &Workshop, path: &Path, scratch: &Path) -> Result<PathBuf>;

    /// The name of the image in an archive of images; `None` for any other archive.
    async fn loaded(&self, path: &Path) -> Result<Option<String>>;

    /// What lies at an address.
    async fn fetch(&self, remote: &Remote) -> Result<Fetched>;

    /// An error about something that stands in a file, with its place.
    fn at(&self, about: About, fault: Fault) -> Fault {
        let _ = about;
        fault
    }
}

/// A person's machine.
pub struct Person<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) root: &'a Path,
}

#[async_trait]
impl Sources for Person<'_> {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn here(&self) -> Result<PathBuf> {
        std::env::current_dir().map_err(|e| Fault::from_error(Class::Unavailable, &e))
    }

    async fn image(&self, name: &str) -> Result<ResolvedBase> {
        self.work.base(name, &build::Platform::host(), self.root).await
    }

    async fn context(&self) -> Result<ContextTree> {
        self.work.scan(self.root, Ignore::default()).await
    }

    async fn project(&self) -> Result<Option<(PathBuf, Project)>> {
        project::load(self.work.request.packs.descriptor.as_deref(), self.root)
    }

    async fn find(&self, here: &Path, name: &str) -> Result<Found> {
        let path = here.join(name);
        Ok(match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Found::Directory(path),
            Ok(metadata) if metadata.is_file() => Found::File(path),
            _ => Found::Nothing,
        })
    }

    async fn text(&self, path: &Path) -> Result<Option<String>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(Fault::usage(format!("cannot read {}: {e}", path.display()))),
        }
    }

    async fn directory(&self, path: &Path) -> Result<ContextTree> {
        let path = std::fs::canonicalize(path).map_err(tree::failed("open", path))?;
        self.work.scan(&path, Ignore::default()).await
    }

    async fn file(&self, _: &Workshop, path: &Path, _: &Path) -> Result<PathBuf> {
        Ok(path.to_owned())
    }

    async fn loaded(&self, path: &Path) -> Result<Option<String>> {
        let loaded = match load::load(self.work.home, path).await {
            Ok(mut loaded) => loaded.pop(),
            Err(_) => None,
        };
        Ok(loaded.map(|loaded| format!("{}@{}", names::UNTAGGED, loaded.digest)))
    }

    async fn fetch(&self, remote: &Remote) -> Result<Fetched> {
        remotes::fetch(&self.work.home.fetcher(), remote).await
    }
}
