//! A file that grows by what arrives: another thread hashes and writes while the next bytes arrive.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    path::PathBuf,
};

use bytes::Bytes;
use store::WriteBehind;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::hash::{Algorithm, Hasher};

/// Bytes that gather before the disk is touched.
const GATHER: usize = 256 << 10;

/// Every method may be dropped at any await: what was taken is counted, and is written by whoever comes next.
pub struct Growing {
    path: PathBuf,
    algorithm: Algorithm,
    received: u64,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    /// Not there after a write has failed.
    place: Option<Place>,
}

enum Place {
    Here(Written),
    Away(JoinHandle<io::Result<Written>>),
}

/// What is in the file.
struct Written {
    /// Opened with the first byte.
    file: Option<File>,
    hasher: Hasher,
    behind: WriteBehind,
}

impl Growing {
    /// An empty one; the file is made with the first byte, and must not be there.
    pub fn new(path: PathBuf, algorithm: Algorithm) -> Self {
        let written = Written { file: None, hasher: Hasher::new(algorithm), behind: WriteBehind::default() };
        let (received, gathered_bytes) = (0, 0);
        Self { path, algorithm, received, gathered: Vec::new(), gathered_bytes, place: Some(Place::Here(written)) }
    }

    /// One that an earlier process has begun.
    pub async fn resume(path: PathBuf, algorithm: Algorithm) -> io::Result<Self> {
        let mut begun = Self::new(path, algorithm);
        let path = begun.path.clone();
        let work = spawn_blocking(move || {
            let mut hasher = Hasher::new(algorithm);
            let mut file = match File::options().read(true).write(true).open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    return Ok((Written { file: None, hasher, behind: WriteBehind::default() }, 0));
                }
                Err(e) => return Err(e),
            };
            let (mut buffer, mut received) = (vec![0; GATHER], 0);
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => {
                        let behind = WriteBehind::from(received);
                        return Ok((Written { file: Some(file), hasher, behind }, received));
                    }
                    Ok(read) => {
                        hasher.update(&buffer[..read]);
                        received += read as u64;
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        });
        let (written, received) = work.await.map_err(io::Error::other)??;
        begun.place = Some(Place::Here(written));
        begun.received = received;
        Ok(begun)
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Bytes so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    pub async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        self.received += chunk.len() as u64;
        self.gathered_bytes += chunk.len();
        self.gathered.push(chunk);
        // Many tiny chunks cost more than their bytes.
        if self.gathered_bytes < GATHER && self.gathered.len() < 1024 {
            return Ok(());
        }
        self.hand_over().await
    }

    /// Waits until all that was pushed is in the file.
    pub async fn settle(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.hand_over().await?;
        }
        let written = self.written().await?;
        self.place = Some(Place::Here(written));
        Ok(())
    }

    /// The hash of all that was pushed.
    pub async fn hash(&mut self) -> io::Result<Hasher> {
        self.settle().await?;
        match &self.place {
            Some(Place::Here(written)) => Ok(written.hasher.clone()),
            _ => Err(broken()),
        }
    }

    /// Forgets what came after the first `length` bytes, whose hash is `hasher`.
    pub async fn cut(&mut self, length: u64, hasher: Hasher) -> io::Result<()> {
        self.gathered.clear();
        self.gathered_bytes = 0;
        let mut written = self.written().await?;
        self.place = Some(Place::Away(spawn_blocking(move || {
            if let Some(file) = &mut written.file {
                file.set_len(length)?;
                file.seek(SeekFrom::Start(length))?;
            }
            written.hasher = hasher;
            written.behind = WriteBehind::from(length);
            Ok(written)
        })));
        self.received = length;
        self.settle().await
    }

    /// Gives what has gathered to another thread, once that is done with what it was given before.
    async fn hand_over(&mut self) -> io::Result<()> {
        let mut written = self.written().await?;
        // From here on nothing waits: what is taken is in the other thread's hands.
        let chunks = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let path = self.path.clone();
        self.place = Some(Place::Away(spawn_blocking(move || {
            let mut file = match written.file.take() {
                Some(file) => file,
                None => File::options().read(true).write(true).create_new(true).open(path)?,
            };
            chunks.iter().for_each(|chunk| written.hasher.update(chunk));
            written.behind.write_all(&mut file, &chunks)?;
            written.file = Some(file);
            Ok(written)
        })));
        Ok(())
    }

    /// Takes what is in the file out of its place, which the caller fills again.
    async fn written(&mut self) -> io::Result<Written> {
        if let Some(Place::Away(work)) = &mut self.place {
            let done = work.await;
            self.place = None;
            return done.map_err(io::Error::other)?;
        }
        match self.place.take() {
            Some(Place::Here(written)) => Ok(written),
            _ => Err(broken()),
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("an earlier write of this upload failed: begin it again")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::hash;

    #[tokio::test]
    async fn what_was_taken_is_in_the_file_whoever_goes_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut growing = Growing::new(path.clone(), Algorithm::Sha256);
        let mut expected = Vec::new();
        for n in 0..40u8 {
            let chunk = vec![n; 100_000];
            expected.extend_from_slice(&chunk);
            // Dropped wherever it first waits.
            let _ = growing.push(chunk.into()).now_or_never();
            assert_eq!(growing.received(), expected.len() as u64);
        }
        let hasher = growing.hash().await.unwrap();
        assert_eq!(hasher.finish(), hash::digest(Algorithm::Sha256, &expected));
        assert!(std::fs::read(&path).unwrap() == expected);

        let first = hash::digest(Algorithm::Sha256, &expected[..100_000]);
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&expected[..100_000]);
        growing.cut(100_000, hasher).await.unwrap();
        assert_eq!(growing.hash().await.unwrap().finish(), first);
        growing.push(Bytes::from_static(b"more")).await.unwrap();
        growing.settle().await.unwrap();
        expected.truncate(100_000);
        expected.extend_from_slice(b"more");
        assert!(std::fs::read(&path).unwrap() == expected);

        let mut again = Growing::resume(path, Algorithm::Sha512).await.unwrap();
        assert_eq!(again.received(), 100_004);
        assert_eq!(again.hash().await.unwrap().finish(), hash::digest(Algorithm::Sha512, &expected));
    }
}
