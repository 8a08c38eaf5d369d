//! A chart's directory on this machine. Links are followed only within the directory, as far as its real path goes.

use std::path::{Path, PathBuf};

use chart::{Tree, load::Kind};

/// A directory that a chart is read from.
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    pub fn new(root: &Path) -> std::io::Result<Self> {
        Ok(Self { root: root.canonicalize()? })
    }

    fn real(&self, path: &str) -> std::io::Result<PathBuf> {
        let real = self.root.join(path).canonicalize()?;
        if !real.starts_with(&self.root) {
            let text = format!("{path} is a link to {}, which is outside of the chart", real.display());
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, text));
        }
        Ok(real)
    }
}

impl Tree for Disk {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.real(directory)?)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
            let data = std::fs::symlink_metadata(self.root.join(&path))?;
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
        std::fs::read(self.real(file)?)
    }
}
