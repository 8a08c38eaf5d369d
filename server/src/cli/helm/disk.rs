//! A chart's directory on this machine. Links are followed only within the directory, as far as its real path goes.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use chart::{Tree, load::Kind};

/// A directory that a chart is read from.
pub struct Disk {
    root: PathBuf,
    /// Files that are no links and lie in directories that are none: where they lead need not be asked again, which a chart with
    /// hundreds of files would pay for with thousands of system calls.
    plain: Mutex<HashSet<String>>,
}

impl Disk {
    pub fn new(root: &Path) -> std::io::Result<Self> {
        Ok(Self { root: root.canonicalize()?, plain: Mutex::default() })
    }

    fn real(&self, path: &str) -> std::io::Result<PathBuf> {
        let real = self.root.join(path).canonicalize()?;
        if !real.starts_with(&self.root) {
            let text = format!("{path} is a link to {}, which is outside of the chart", real.display());
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, text));
        }
        Ok(real)
    }

    fn plain(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // A set of names is whole at any time.
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree for Disk {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        let mut entries = Vec::new();
        let real = self.real(directory)?;
        let as_named = if directory.is_empty() { real == self.root } else { real == self.root.join(directory) };
        for entry in std::fs::read_dir(real)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
            let data = std::fs::symlink_metadata(self.root.join(&path))?;
            if as_named && data.is_file() {
                self.plain().insert(path.clone());
            }
            // What a link leads to matters only if the file takes part; reading it checks where it leads.
            let data = if data.is_symlink() { std::fs::metadata(self.root.join(&path)).unwrap_or(data) } else { data };
            let kind = match (data.is_dir(), data.is_file()) {
                (true, _) => Kind::Directory,
                (_, true) => Kind::File(data.len()),
                _ => Kind::Irregular,
            };
            entries.push((name, kind));
        }
        Ok(entries)
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        let plain = self.plain().contains(file);
        std::fs::read(if plain { self.root.join(file) } else { self.real(file)? })
    }
}
