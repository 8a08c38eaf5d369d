//! The files of this machine, as renderers see them.

use std::{io::Read, path::Path};

use kustomize::FileError;
use manifest::{Tree, tree::EntryKind};

/// Paths are those of the machine.
#[derive(Clone, Copy)]
pub struct Disk;

/// The largest file.
const LARGEST: u64 = 256 << 20;

impl manifest::Files for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
            std::io::ErrorKind::IsADirectory => FileError::Directory(path.to_owned()),
            _ => FileError::Other(format!("open {path}: {error}")),
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let data = file.metadata().map_err(failed)?;
        if data.is_dir() {
            return Err(FileError::Directory(path.to_owned()));
        }
        if !data.is_file() || data.len() > LARGEST {
            return Err(FileError::Other(format!("{path} is no file, or has more than {} MiB", LARGEST >> 20)));
        }
        let mut content = Vec::with_capacity(data.len() as usize);
        file.take(LARGEST).read_to_end(&mut content).map_err(failed)?;
        Ok(content)
    }

    fn is_dir(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn canonical(&self, path: &str) -> Option<String> {
        Path::new(path).canonicalize().ok()?.to_str().map(str::to_owned)
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
        Ok(manifest::tree::listed(self.entries(directory)))
    }
}

impl Tree for Disk {
    fn entries(&self, directory: &str) -> Vec<(String, EntryKind)> {
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        let kind = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_str()?.to_owned();
            // What a link leads to matters; one that leads nowhere is nothing to read.
            let data = std::fs::metadata(entry.path()).or_else(|_| entry.metadata()).ok()?;
            let kind = match (data.is_dir(), data.is_file()) {
                (true, _) => EntryKind::Directory,
                (_, true) => EntryKind::File(data.len()),
                _ => EntryKind::Irregular,
            };
            Some((name, kind))
        };
        entries.filter_map(std::result::Result::ok).filter_map(kind).collect()
    }
}
