//! Where the texts come from.

use std::collections::BTreeMap;

use crate::{Chart, ChartGlobals, path};

/// A file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("open {0}: no such file or directory")]
    NotFound(String),
    #[error("'{0}' must resolve to a file")]
    Directory(String),
    #[error("security; file '{file}' is not in or below '{root}'")]
    Outside { file: String, root: String },
    #[error("{0}")]
    Other(String),
}

/// A tree of files, named by absolute, clean paths (`/a/b`).
pub trait Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError>;

    fn is_dir(&self, path: &str) -> bool;

    /// The path behind every symbolic link; nothing when there is no such file or directory.
    fn canonical(&self, path: &str) -> Option<String>;

    /// The names in a directory, links followed, in any order: the bytes of a file, nothing for a directory. Only charts
    /// need it.
    fn list(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
        Err(FileError::Other(format!("the directory {directory} cannot be listed")))
    }
}

/// Files that are not on a disk.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    files: BTreeMap<String, Vec<u8>>,
}

impl Memory {
    pub fn with(mut self, path: &str, text: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path::clean(path), text.into());
        self
    }
}

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.files.get(&path::clean(path)).cloned().ok_or_else(|| FileError::NotFound(path.to_owned()))
    }

    fn is_dir(&self, path: &str) -> bool {
        let path = path::clean(path);
        self.files.keys().any(|file| path::within(file, &path) && *file != path)
    }

    fn canonical(&self, path: &str) -> Option<String> {
        let path = path::clean(path);
        (self.files.contains_key(&path) || self.is_dir(&path)).then_some(path)
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
        let directory = path::clean(directory);
        let below = self.files.iter().filter_map(|(file, text)| {
            let rest = if directory == "/" {
                file.strip_prefix('/')
            } else {
                file.strip_prefix(&directory)?.strip_prefix('/')
            };
            Some(match rest?.split_once('/') {
                Some((name, _)) => (name.to_owned(), None),
                None => (rest?.to_owned(), Some(text.len() as u64)),
            })
        });
        Ok(below.collect::<BTreeMap<_, _>>().into_iter().collect())
    }
}

/// Inflates charts.
pub trait Charts {
    /// The manifests of a chart. `root` is the directory of the kustomization, which paths in `chart` are relative to;
    /// `load` reads a file that the kustomization may read.
    fn inflate(
        &self,
        files: &dyn Files,
        root: &str,
        load: &dyn Fn(&str) -> Result<String, String>,
        globals: &ChartGlobals,
        chart: &Chart,
    ) -> Result<String, String>;
}

/// Brings what is not in the files.
pub trait Remote {
    /// The text behind an `http` or `https` address.
    fn text(&self, address: &str) -> Result<String, String>;

    /// A repository, checked out: its files and the directory that the address names in them.
    fn repository(&self, address: &str) -> Result<(Box<dyn Files>, String), String>;
}
