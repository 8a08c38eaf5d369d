//! A chart's directory on this machine. Links are followed only within the directory, as far as its real path goes.

use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use chart::{Tree, load::Kind};

/// A directory that a chart is read from.
pub struct Disk {
    root: PathBuf,
    /// Files and directories that are no links and lie in directories that are none, with their bytes: where they lead need not be asked
    /// again, which a chart with hundreds of files would pay for with thousands of system calls.
    plain: Mutex<HashMap<String, u64>>,
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

    fn plain(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        // A set of names is whole at any time.
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of so many bytes, unless it has changed since. One byte more is asked for, so that its end is seen without asking again.
fn read(path: &Path, size: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let mut content = vec![0; usize::try_from(size).unwrap_or(0).saturating_add(1)];
    let read = file.read(&mut content)?;
    content.truncate(read);
    if read as u64 != size {
        file.read_to_end(&mut content)?;
    }
    Ok(content)
}

impl Tree for Disk {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        let mut entries = Vec::new();
        let as_named = directory.is_empty() || self.plain().contains_key(directory);
        let real = if as_named { self.root.join(directory) } else { self.real(directory)? };
        let mut plain = self.plain();
        for entry in std::fs::read_dir(real)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
            let data = entry.metadata()?;
            if as_named && (data.is_file() || data.is_dir()) {
                plain.insert(path.clone(), data.len());
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
        let plain = self.plain().get(file).copied();
        match plain {
            Some(size) => read(&self.root.join(file), size),
            None => std::fs::read(self.real(file)?),
        }
    }

    fn is_plain(&self, file: &str) -> bool {
        self.plain().contains_key(file)
    }
}
