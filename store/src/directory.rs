//! Blobs as plain files: `<dir>/sha256/<hex>` and `<dir>/sha512/<hex>`.
//!
//! Content is written to a temporary file in the same file system, synced, renamed to its digest, and the directory is synced: a
//! file that has a digest for its name is whole and durable. Between the last two nobody but its writer is told that it is there.

mod naming;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{ErrorKind, Read, Seek},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use aws_lc_rs::digest::{self, Context};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use records::Digest;
use tempfile::{NamedTempFile, TempPath};
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
};

use self::naming::{Unsettled, in_two_parts};
use crate::{BlobReader, BlobWriter, Blobs, Error, Kind, Naming, Result, WriteBehind, blobs, shared_sync::SharedSync};

/// Bytes that gather before the disk is touched. A blob that is smaller needs one trip to the thread pool.
const GATHER: usize = 256 << 10;
/// Digests that are listed at a time.
const PAGE: usize = 1000;
const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

/// [`Blobs`] in a directory. Cheap to clone.
#[derive(Clone)]
pub struct DirectoryBlobs {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    /// The directories of the algorithms, in their order.
    names: [SharedSync; 2],
    /// The inodes of files whose names may not be durable yet.
    unsettled: Mutex<HashSet<u64>>,
    /// Shared while the directory is in use: nobody sweeps what others are writing.
    _lock: File,
}

impl DirectoryBlobs {
    /// Opens `dir` and makes it if it is not there. What writers that died left behind is removed.
    pub async fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref().to_owned();
        let inner = blocking(move || Inner::open(dir)).await?;
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn open(dir: PathBuf) -> Result<Self> {
        let failed = |e| io(e, format!("cannot open the blobs in {}", dir.display()));
        let temporary = dir.join("tmp");
        for name in ALGORITHMS {
            fs::create_dir_all(dir.join(name)).map_err(failed)?;
        }
        fs::create_dir_all(&temporary).map_err(failed)?;
        let lock = File::options().create(true).truncate(false).read(true).write(true).open(dir.join("lock"));
        let lock = lock.map_err(failed)?;
        if lock.try_lock().is_ok() {
            for stray in fs::read_dir(&temporary).map_err(failed)? {
                let stray = stray.map_err(failed)?.path();
                if let Err(error) = fs::remove_file(&stray) {
                    tracing::warn!(path = %stray.display(), %error, "cannot remove what an interrupted write left");
                }
            }
        }
        lock.lock_shared().map_err(failed)?;
        let [sha256, sha512] = ALGORITHMS.map(|name| File::open(dir.join(name)).map(SharedSync::new));
        let names = [sha256.map_err(failed)?, sha512.map_err(failed)?];
        Ok(Self { dir, names, unsettled: Mutex::default(), _lock: lock })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.algorithm()).join(digest.hex())
    }

    fn found(&self, digest: &Digest) -> Result<Option<fs::Metadata>> {
        match fs::metadata(self.path(digest)) {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(e, format!("cannot read blob {digest}"))),
        }
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        // In this order: what is settled when it is looked for here was found before that.
        let found = self.found(digest)?;
        Ok(found.filter(|found| !self.unsettled().contains(&found.ino())).map(|found| found.len()))
    }

    fn unsettled(&self) -> MutexGuard<'_, HashSet<u64>> {
        // Every change is one call, so a panic elsewhere does no harm.
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends every digest, a page at a time, until nobody wants more.
    fn list(&self, pages: &mpsc::Sender<Result<Vec<Digest>>>) -> Result<()> {
        let failed = |e| io(e, format!("cannot list the blobs in {}", self.dir.display()));
        for algorithm in ALGORITHMS {
            let mut page = Vec::new();
            for file in fs::read_dir(self.dir.join(algorithm)).map_err(failed)? {
                let name = file.map_err(failed)?.file_name();
                // Whatever a person put there is no blob.
                page.extend(name.to_str().and_then(|hex| format!("{algorithm}:{hex}").parse().ok()));
                if page.len() == PAGE && pages.blocking_send(Ok(std::mem::take(&mut page))).is_err() {
                    return Ok(());
                }
            }
            if pages.blocking_send(Ok(page)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn temporary(&self) -> Result<NamedTempFile> {
        let dir = self.dir.join("tmp");
        NamedTempFile::new_in(&dir).map_err(|e| io(e, format!("cannot write to {}", dir.display())))
    }

    /// Gives a finished file of somebody else's its name, if it lies in the same file system; what is left to do then.
    fn adopt(self: &Arc<Self>, file: &Path, digest: &Digest) -> Result<Option<Unsettled>> {
        if let Some(there) = self.there(digest)? {
            return Ok(Some(there));
        }
        let failed = |e| io(e, format!("cannot write blob {digest}"));
        let opened = File::open(file).map_err(failed)?;
        opened.sync_all().map_err(failed)?;
        let unsettled = Unsettled::new(self, digest, opened.metadata().map_err(failed)?.ino());
        let owned = TempPath::try_from_path(file).map_err(failed)?;
        let Err(refused) = owned.persist_noclobber(self.path(digest)) else {
            return Ok(Some(unsettled));
        };
        // It is its owner's.
        let kept = refused.path.keep().map(|_| ()).map_err(|e| e.error);
        match refused.error.kind() {
            ErrorKind::AlreadyExists => self.there(digest),
            ErrorKind::CrossesDevices => kept.map(|()| None).map_err(failed),
            _ => Err(failed(refused.error)),
        }
    }

    /// Gives finished content its name; what is left to do then.
    fn keep(self: &Arc<Self>, file: NamedTempFile, digest: &Digest) -> Result<Unsettled> {
        let failed = |e| io(e, format!("cannot write blob {digest}"));
        file.as_file().sync_all().map_err(failed)?;
        let unsettled = Unsettled::new(self, digest, file.as_file().metadata().map_err(failed)?.ino());
        // Not over another's: that may be settled already, and this is not.
        match file.persist_noclobber(self.path(digest)) {
            Ok(_) => Ok(unsettled),
            Err(e) if e.error.kind() == ErrorKind::AlreadyExists => match self.there(digest)? {
                Some(there) => Ok(there),
                None => {
                    Err(Error::new(Kind::Io, format!("blob {digest} was deleted while it was written: send it again")))
                }
            },
            Err(e) => Err(failed(e.error)),
        }
    }

    /// The content, if it is there, and what is left to do.
    fn there(self: &Arc<Self>, digest: &Digest) -> Result<Option<Unsettled>> {
        let Some(found) = self.found(digest)? else { return Ok(None) };
        Ok(Some(Unsettled::of_another(self, digest, found.ino())))
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(cut_short(e)),
    }
}

fn cut_short(error: tokio::task::JoinError) -> Error {
    Error::new(Kind::Io, "the file system work was cut short: shipway is stopping").caused(error)
}

fn io(error: std::io::Error, doing: String) -> Error {
    let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let (kind, way_out) =
        if full { (Kind::Full, ": the disk is full; free some space and try again") } else { (Kind::Io, "") };
    Error::new(kind, format!("{doing}{way_out}")).caused(error)
}

/// A blob on its way into the directory.
struct Writer {
    inner: Arc<Inner>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    written: u64,
    /// Not there after a write has failed.
    begun: Option<Place>,
}

/// Where the state of a write is.
enum Place {
    Here(Begun),
    /// With the thread pool, which hashes and writes while the next chunks arrive.
    Away(tokio::task::JoinHandle<Result<Begun>>),
}

impl Writer {
    /// The state, once what was given to the thread pool is done.
    async fn begun(&mut self) -> Result<Begun> {
        match self.begun.take().ok_or_else(broken)? {
            Place::Here(begun) => Ok(begun),
            Place::Away(work) => match work.await {
                Ok(done) => done,
                Err(e) => Err(cut_short(e)),
            },
        }
    }
}

struct Begun {
    sum: Context,
    /// Made when there is more than fits into memory.
    file: Option<NamedTempFile>,
    behind: WriteBehind,
}

impl Begun {
    fn take(&mut self, inner: &Inner, chunks: &[Bytes]) -> Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => inner.temporary()?,
        };
        chunks.iter().for_each(|chunk| self.sum.update(chunk));
        self.behind
            .write_all(file.as_file_mut(), chunks)
            .map_err(|e| io(e, format!("cannot write to {}", inner.dir.display())))?;
        self.file = Some(file);
        Ok(())
    }

    fn place(mut self, inner: &Arc<Inner>, rest: &[Bytes], expected: Option<&Digest>) -> Result<(Digest, Unsettled)> {
        let sha512 = expected.is_some_and(|digest| digest.algorithm() == "sha512");
        if self.file.is_some() {
            self.take(inner, rest)?;
        } else {
            rest.iter().for_each(|chunk| self.sum.update(chunk));
        }
        // SHA-512 is rare enough to be counted afterwards rather than always.
        let found = match &mut self.file {
            _ if !sha512 => self.sum.clone().finish(),
            Some(file) => sha512_of(file).map_err(|e| io(e, format!("cannot read back {}", file.path().display())))?,
            None => {
                let mut sum = Context::new(&digest::SHA512);
                rest.iter().for_each(|chunk| sum.update(chunk));
                sum.finish()
            }
        };
        let found = blobs::sum(found);
        blobs::verify(expected, &found)?;
        if let Some(there) = inner.there(&found)? {
            return Ok((found, there));
        }
        if self.file.is_none() {
            self.take(inner, rest)?;
        }
        let unsettled = inner.keep(self.file.ok_or_else(broken)?, &found)?;
        Ok((found, unsettled))
    }
}

fn sha512_of(file: &mut NamedTempFile) -> std::io::Result<digest::Digest> {
    let mut sum = Context::new(&digest::SHA512);
    let mut buffer = vec![0; 64 << 10];
    file.rewind()?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum.finish()),
            read => sum.update(&buffer[..read]),
        }
    }
}

fn broken() -> Error {
    Error::new(Kind::Io, "an earlier write of this blob failed: begin it again")
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.written += chunk.len() as u64;
        self.gathered_bytes += chunk.len();
        self.gathered.push(chunk);
        // Many tiny chunks cost more than their bytes.
        if self.gathered_bytes < GATHER && self.gathered.len() < 1024 {
            return Ok(());
        }
        let mut begun = self.begun().await?;
        self.gathered_bytes = 0;
        let (inner, chunks) = (self.inner.clone(), std::mem::take(&mut self.gathered));
        self.begun = Some(Place::Away(tokio::task::spawn_blocking(move || {
            begun.take(&inner, &chunks)?;
            Ok(begun)
        })));
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn digest(&mut self) -> Result<Digest> {
        let begun = self.begun().await?;
        let mut sum = begun.sum.clone();
        self.begun = Some(Place::Here(begun));
        let rest = self.gathered.clone();
        blocking(move || {
            rest.iter().for_each(|chunk| sum.update(chunk));
            Ok(blobs::sum(sum.finish()))
        })
        .await
    }

    async fn finish(mut self: Box<Self>, expected: Option<&Digest>) -> Result<Digest> {
        let begun = self.begun().await?;
        let (inner, rest, expected) = (self.inner.clone(), std::mem::take(&mut self.gathered), expected.cloned());
        let work = move || {
            let (digest, unsettled) = begun.place(&inner, &rest, expected.as_ref())?;
            unsettled.settle().map(|()| digest)
        };
        blocking(work).await
    }

    async fn place(mut self: Box<Self>, expected: Option<&Digest>) -> Result<(Digest, Naming)> {
        let begun = self.begun().await?;
        let (inner, rest, expected) = (self.inner.clone(), std::mem::take(&mut self.gathered), expected.cloned());
        in_two_parts(move || begun.place(&inner, &rest, expected.as_ref()).map(Some)).await?.ok_or_else(broken)
    }
}

#[async_trait]
impl Blobs for DirectoryBlobs {
    async fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        let begun = Begun { sum: Context::new(&digest::SHA256), file: None, behind: WriteBehind::default() };
        let inner = self.inner.clone();
        Ok(Box::new(Writer {
            inner,
            gathered: Vec::new(),
            gathered_bytes: 0,
            written: 0,
            begun: Some(Place::Here(begun)),
        }))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let (inner, digest) = (self.inner.clone(), digest.clone());
        blocking(move || inner.size(&digest)).await
    }

    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> Result<BlobReader> {
        let failed = |e: std::io::Error| match e.kind() {
            ErrorKind::NotFound => Error::new(Kind::NotFound, format!("there is no blob {digest}")),
            _ => io(e, format!("cannot read blob {digest}")),
        };
        let mut file = tokio::fs::File::open(self.inner.path(digest)).await.map_err(failed)?;
        if offset > 0 {
            file.seek(std::io::SeekFrom::Start(offset)).await.map_err(failed)?;
        }
        Ok(match length {
            Some(length) => Box::pin(file.take(length)),
            None => Box::pin(file),
        })
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.inner.path(digest))
    }

    async fn adopt(&self, file: &Path, digest: &Digest) -> Result<bool> {
        let (inner, file, digest) = (self.inner.clone(), file.to_owned(), digest.clone());
        let work = move || match inner.adopt(&file, &digest)? {
            Some(unsettled) => unsettled.settle().map(|()| true),
            None => Ok(false),
        };
        blocking(work).await
    }

    async fn adopt_soon(&self, file: &Path, digest: &Digest) -> Result<Option<Naming>> {
        let (inner, file, digest) = (self.inner.clone(), file.to_owned(), digest.clone());
        let work = move || Ok(inner.adopt(&file, &digest)?.map(|unsettled| (digest, unsettled)));
        Ok(in_two_parts(work).await?.map(|(_, naming)| naming))
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        match tokio::fs::remove_file(self.inner.path(digest)).await {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(io(e, format!("cannot delete blob {digest}"))),
            _ => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        self.pages().try_concat().await
    }

    fn pages(&self) -> BoxStream<'_, Result<Vec<Digest>>> {
        let inner = self.inner.clone();
        let begin = async move {
            // Nobody reads far ahead of who goes through it.
            let (pages, found) = mpsc::channel(1);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = inner.list(&pages) {
                    let _ = pages.blocking_send(Err(error));
                }
            });
            stream::unfold(found, |mut found| async { found.recv().await.map(|page| (page, found)) })
        };
        stream::once(begin).flatten().boxed()
    }
}
