//! What was fetched, by digest, so that nothing is fetched twice and everything works without a network.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;

use crate::{Error, Result};

/// A directory: `sha256/<hex>` for contents, `current/<name>` for what a name stood for last.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Held while indices are fetched, by one process at a time.
#[derive(Debug)]
pub struct Guard(File);

impl Cache {
    pub fn open(root: &Path) -> Result<Self> {
        for directory in ["sha256", "current", "tmp"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(Error::io(format!("cannot make {}", path.display())))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Waits until no other process fetches indices. Blocks.
    pub fn lock(&self) -> Result<Guard> {
        let path = self.root.join("lock");
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(Error::io(format!("cannot open {}", path.display())))?;
        file.lock().map_err(Error::io(format!("cannot lock {}", path.display())))?;
        Ok(Guard(file))
    }

    pub fn path(&self, sha256: &str) -> PathBuf {
        self.root.join("sha256").join(sha256)
    }

    /// A file to write into, in the same file system.
    pub fn temporary(&self) -> Result<tempfile::NamedTempFile> {
        let directory = self.root.join("tmp");
        tempfile::NamedTempFile::new_in(&directory)
            .map_err(Error::io(format!("cannot write into {}", directory.display())))
    }

    /// An anonymous file for intermediate content.
    pub fn scratch(&self) -> Result<File> {
        let directory = self.root.join("tmp");
        tempfile::tempfile_in(&directory).map_err(Error::io(format!("cannot write into {}", directory.display())))
    }

    /// Makes a complete file visible under its digest.
    pub fn keep(&self, file: tempfile::NamedTempFile, sha256: &str) -> Result<PathBuf> {
        let path = self.path(sha256);
        file.as_file().sync_data().map_err(Error::io(format!("cannot write {}", path.display())))?;
        file.persist(&path).map_err(|e| Error::io(format!("cannot write {}", path.display()))(e.error))?;
        Ok(path)
    }

    /// Opens content if it is there and still what its name says; what is damaged is removed. Blocks while it hashes.
    pub fn verified(&self, sha256: &str, size: Option<u64>) -> Result<Option<File>> {
        let path = self.path(sha256);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("cannot read {}", path.display()))(error)),
        };
        let reading = || Error::io(format!("cannot read {}", path.display()));
        let length = file.metadata().map_err(reading())?.len();
        if size.is_none_or(|size| size == length) && hash(&mut file).map_err(reading())? == sha256 {
            use std::io::Seek;
            file.rewind().map_err(reading())?;
            return Ok(Some(file));
        }
        tracing::warn!(path = %path.display(), "a cached file is damaged and is fetched again");
        fs::remove_file(&path).map_err(reading())?;
        Ok(None)
    }

    /// What a name stood for last.
    pub fn current(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join("current").join(key(name))).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// When that was noted, in seconds since 1970.
    pub fn noted_at(&self, name: &str) -> Option<i64> {
        self.current(&format!("{name} at"))?.parse().ok()
    }

    pub fn note(&self, name: &str, value: &str) -> Result<()> {
        let path = self.root.join("current").join(key(name));
        let mut file = self.temporary()?;
        file.write_all(value.as_bytes()).map_err(Error::io(format!("cannot write {}", path.display())))?;
        file.persist(&path).map_err(|e| Error::io(format!("cannot write {}", path.display()))(e.error))?;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closing the file would unlock it as well.
        let _ = self.0.unlock();
    }
}

/// A file name for any text.
fn key(name: &str) -> String {
    super::sha256(name.as_bytes()).hex().to_owned()
}

fn hash(file: &mut File) -> std::io::Result<String> {
    let mut hasher = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(HEXLOWER.encode(hasher.finish().as_ref())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
