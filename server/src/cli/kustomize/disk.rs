//! Files of this machine: all of them, or those below one directory.

use std::path::{Path, PathBuf};

use kustomize::{FileError, Files};

/// Bytes of one file at most.
const LARGEST: u64 = 256 << 20;

/// The files of this machine.
pub struct Disk;

fn read(path: &Path, named: &str) -> Result<Vec<u8>, FileError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => FileError::NotFound(named.to_owned()),
        _ => FileError::Other(format!("open {named}: {error}")),
    };
    match std::fs::metadata(path).map_err(failed)?.len() {
        size if size > LARGEST => Err(FileError::Other(format!("{named} has {size} bytes; a file may have {LARGEST}"))),
        _ => std::fs::read(path).map_err(failed),
    }
}

fn list(path: &Path, named: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
    let failed = |error: std::io::Error| FileError::Other(format!("read {named}: {error}"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A link that leads nowhere and what is no file are left out.
        let Ok(data) = std::fs::metadata(entry.path()) else { continue };
        if data.is_dir() || data.is_file() {
            names.push((entry.file_name().to_string_lossy().into_owned(), data.is_file().then_some(data.len())));
        }
    }
    Ok(names)
}

impl Files for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        read(Path::new(path), path)
    }

    fn is_dir(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn canonical(&self, path: &str) -> Option<String> {
        Path::new(path).canonicalize().ok()?.to_str().map(str::to_owned)
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
        list(Path::new(directory), directory)
    }
}

/// The files below a directory, which is their `/`. No link leads out.
pub struct Rooted {
    root: PathBuf,
    /// Kept until nobody reads any more.
    _directory: std::sync::Arc<tempfile::TempDir>,
}

impl Rooted {
    pub fn new(directory: std::sync::Arc<tempfile::TempDir>) -> std::io::Result<Self> {
        Ok(Self { root: directory.path().canonicalize()?, _directory: directory })
    }

    fn real(&self, path: &str) -> Option<PathBuf> {
        let clean = kustomize::path::clean(&format!("/{path}"));
        let real = self.root.join(clean.trim_start_matches('/')).canonicalize().ok()?;
        real.starts_with(&self.root).then_some(real)
    }
}

impl Files for Rooted {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let real = self.real(path).ok_or_else(|| FileError::NotFound(path.to_owned()))?;
        read(&real, path)
    }

    fn is_dir(&self, path: &str) -> bool {
        self.real(path).is_some_and(|real| real.is_dir())
    }

    fn canonical(&self, path: &str) -> Option<String> {
        let real = self.real(path)?;
        Some(format!("/{}", real.strip_prefix(&self.root).ok()?.to_str()?))
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
        let real = self.real(directory).ok_or_else(|| FileError::NotFound(directory.to_owned()))?;
        list(&real, directory)
    }
}
