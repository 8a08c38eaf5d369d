//! The blobs of the local store. Everything in it can be made again, so nothing waits for the disk: while the machine is up what was written
//! is there. A file says from which boot of the machine on that holds; after a loss of power all that is younger is read and checked once.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use image::{Algorithm, Hasher};
use records::Digest;
use store::{BlobReader, BlobWriter, Blobs, Error, Kind, directory::DirectoryBlobs};

/// Bytes that gather before they are written.
const GATHER: usize = 512 << 10;
/// How old the file may become before everything is synced after all.
const OLD: Duration = Duration::from_secs(300);
/// What was written so long before the file was made may not have been on the disk by then.
const MARGIN: Duration = Duration::from_secs(60);

/// Blobs in a directory that is only good as long as the machine is up.
#[derive(Clone)]
pub struct Relaxed {
    blobs: DirectoryBlobs,
    temporary: PathBuf,
}

impl Relaxed {
    pub async fn open(directory: &Path) -> store::Result<Self> {
        Ok(Self { blobs: DirectoryBlobs::open(directory).await?, temporary: directory.join("tmp") })
    }

    fn place(&self, digest: &Digest) -> store::Result<PathBuf> {
        self.blobs.path(digest).ok_or_else(|| Error::new(Kind::Io, format!("there is no place for blob {digest}")))
    }
}

fn failed(error: io::Error, what: impl Into<String>) -> Error {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let (kind, way_out) = match full {
        true => (Kind::Full, ": the disk is full; `shipway image prune` frees some space"),
        false => (Kind::Io, ""),
    };
    Error::new(kind, format!("{}{way_out}", what.into())).caused(error)
}

struct Writer {
    home: Relaxed,
    file: tempfile::NamedTempFile,
    sum: Hasher,
    gathered: Vec<u8>,
    written: u64,
}

impl Writer {
    fn put(&mut self) -> store::Result<()> {
        use io::Write;
        self.sum.update(&self.gathered);
        self.file.as_file().write_all(&self.gathered).map_err(|e| failed(e, "cannot write a blob"))?;
        self.gathered.clear();
        Ok(())
    }

    fn keep(mut self, expected: Option<&Digest>) -> store::Result<Digest> {
        self.put()?;
        let digest = match expected {
            Some(expected) if expected.algorithm() == "sha512" => {
                hash(self.file.path(), Algorithm::Sha512).map_err(|e| failed(e, "cannot read a blob"))?
            }
            _ => self.sum.finish(),
        };
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            let message = format!("the content has digest {digest}, not {expected}: send it again");
            return Err(Error::new(Kind::WrongDigest, message));
        }
        let place = self.home.place(&digest)?;
        self.file.persist(place).map_err(|e| failed(e.error, format!("cannot write blob {digest}")))?;
        Ok(digest)
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, chunk: Bytes) -> store::Result<()> {
        self.written += chunk.len() as u64;
        self.gathered.extend_from_slice(&chunk);
        // Memory is all that it goes to.
        if self.gathered.len() >= GATHER { self.put() } else { Ok(()) }
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn digest(&mut self) -> store::Result<Digest> {
        self.put()?;
        Ok(self.sum.clone().finish())
    }

    async fn finish(self: Box<Self>, expected: Option<&Digest>) -> store::Result<Digest> {
        self.keep(expected)
    }
}

#[async_trait]
impl Blobs for Relaxed {
    async fn writer(&self) -> store::Result<Box<dyn BlobWriter>> {
        let file = tempfile::NamedTempFile::new_in(&self.temporary);
        let file = file.map_err(|e| failed(e, format!("cannot write to {}", self.temporary.display())))?;
        let sum = Hasher::new(Algorithm::Sha256);
        Ok(Box::new(Writer { home: self.clone(), file, sum, gathered: Vec::new(), written: 0 }))
    }

    async fn size(&self, digest: &Digest) -> store::Result<Option<u64>> {
        match fs::metadata(self.place(digest)?) {
            Ok(found) => Ok(Some(found.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(e, format!("cannot read blob {digest}"))),
        }
    }

    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> store::Result<BlobReader> {
        self.blobs.read(digest, offset, length).await
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        self.blobs.path(digest)
    }

    async fn adopt(&self, file: &Path, digest: &Digest) -> store::Result<bool> {
        match fs::rename(file, self.place(digest)?) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => Ok(false),
            Err(e) => Err(failed(e, format!("cannot write blob {digest}"))),
        }
    }

    async fn delete(&self, digest: &Digest) -> store::Result<()> {
        self.blobs.delete(digest).await
    }

    async fn list(&self) -> store::Result<Vec<Digest>> {
        self.blobs.list().await
    }
}

fn hash(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    use io::Read;
    let (mut file, mut hasher, mut buffer) = (fs::File::open(path)?, Hasher::new(algorithm), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The file that says from when on nothing was synced.
pub struct Mark {
    path: PathBuf,
}

impl Mark {
    /// Looks at the mark before the blobs are used: `boot` names this boot of the machine. After another one, blobs that may not have
    /// reached the disk are checked, and the broken ones removed. Gives how many were.
    pub fn open(data: &Path, boot: &str) -> io::Result<(Self, usize)> {
        let path = data.join("unsynced");
        let mut removed = 0;
        match fs::read_to_string(&path) {
            Ok(text) if text == boot => return Ok((Self { path }, 0)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            _ => {
                let since = fs::metadata(&path)?.modified()?;
                removed = check(&data.join("blobs"), since.checked_sub(MARGIN).unwrap_or(since))?;
                sync(data)?;
            }
        }
        fs::write(&path, boot)?;
        Ok((Self { path }, removed))
    }

    /// At the end of a command: when the mark is old, everything is synced and it is taken away.
    pub fn close(&self, now: SystemTime) -> io::Result<()> {
        let age = fs::metadata(&self.path)?.modified().map(|made| now.duration_since(made).unwrap_or_default())?;
        if age > OLD {
            sync(self.path.parent().unwrap_or(Path::new("/")))?;
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// Writes everything of the file system to the disk.
fn sync(directory: &Path) -> io::Result<()> {
    let open = fs::File::open(directory)?;
    // SAFETY: the descriptor is open as long as `open` lives.
    if unsafe { nix::libc::syncfs(open.as_raw_fd()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Removes blobs younger than `since` whose content is not what their name says.
fn check(blobs: &Path, since: SystemTime) -> io::Result<usize> {
    let mut removed = 0;
    for (name, algorithm) in [("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha512)] {
        let entries = match fs::read_dir(blobs.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.metadata()?.modified()? < since {
                continue;
            }
            let whole = hash(&entry.path(), algorithm)?.hex().as_bytes() == entry.file_name().as_encoded_bytes();
            if !whole {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn content_goes_under_its_digest_and_nothing_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Relaxed::open(directory.path()).await.unwrap();
        let digest = store::blobs::put(&blobs, "hello\n").await.unwrap();
        assert_eq!(digest.hex(), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(blobs.size(&digest).await.unwrap(), Some(6));
        assert_eq!(store::blobs::get(&blobs, &digest, 10).await.unwrap(), "hello\n");
        let mut writer = blobs.writer().await.unwrap();
        writer.write("other".into()).await.unwrap();
        assert_eq!(writer.finish(Some(&digest)).await.unwrap_err().kind, Kind::WrongDigest);
        let long = image::hash::digest(Algorithm::Sha512, b"long");
        let mut writer = blobs.writer().await.unwrap();
        writer.write("lo".into()).await.unwrap();
        writer.write("ng".into()).await.unwrap();
        assert_eq!(writer.finish(Some(&long)).await.unwrap(), long);
        drop(blobs.writer().await.unwrap());
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
        assert_eq!(blobs.list().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn after_a_loss_of_power_what_is_broken_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let (mark, removed) = Mark::open(directory.path(), "boot 1").unwrap();
        assert_eq!(removed, 0);
        let blobs = Relaxed::open(&directory.path().join("blobs")).await.unwrap();
        let whole = store::blobs::put(&blobs, "whole").await.unwrap();
        let broken = store::blobs::put(&blobs, "will be cut").await.unwrap();
        fs::write(blobs.path(&broken).unwrap(), "").unwrap();
        mark.close(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(Mark::open(directory.path(), "boot 1").unwrap().1, 0, "the machine is still up");
        let (mark, removed) = Mark::open(directory.path(), "boot 2").unwrap();
        assert_eq!(removed, 1);
        assert_eq!(blobs.size(&whole).await.unwrap(), Some(5));
        assert_eq!(blobs.size(&broken).await.unwrap(), None);
        let made = fs::metadata(directory.path().join("unsynced")).unwrap().modified().unwrap();
        mark.close(made + OLD * 2).unwrap();
        assert!(!directory.path().join("unsynced").exists());
    }
}
