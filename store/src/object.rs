//! Blobs in an object store: any that speaks S3, as `sha256/<hex>` and `sha512/<hex>` below a prefix.
//!
//! Content is hashed on its way into a local file (small content stays in memory), and sent under its digest when it is whole: an object
//! is visible all at once or not at all, so a name always stands for the whole content. What an object store acknowledged is durable.
//! Requests that fail for a while are repeated by the client of the store; then the error says so, and nothing is half there.

use std::{
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use aws_lc_rs::digest::{self, Context};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path as Key,
};
use records::Digest;
use tempfile::NamedTempFile;
use tokio_util::io::StreamReader;

use crate::{BlobReader, BlobWriter, Blobs, Error, Kind, Result, blobs};

/// Content up to this size is held in memory and sent in one request.
const SMALL: usize = 4 << 20;
/// A part of larger content. At most 10,000 parts are allowed, so this bounds a blob to 156 GiB.
const PART: usize = 16 << 20;
/// Parts on their way at the same time.
const PARTS: usize = 4;

/// Digests that are listed at a time.
const PAGE: usize = 1000;

/// [`Blobs`] in an object store. Cheap to clone.
#[derive(Clone)]
pub struct ObjectBlobs {
    inner: Arc<Inner>,
}

struct Inner {
    objects: Arc<dyn ObjectStore>,
    prefix: Key,
    spool: PathBuf,
}

impl ObjectBlobs {
    /// Blobs below `prefix` of `objects`. `spool` is a directory for content on its way; it is made, and emptied of what a crash left.
    pub async fn new(objects: Arc<dyn ObjectStore>, prefix: &str, spool: PathBuf) -> Result<Self> {
        let directory = spool.clone();
        blocking(move || {
            let failed = |e| io(e, format!("cannot make {}", directory.display()));
            std::fs::create_dir_all(&directory).map_err(failed)?;
            for stray in std::fs::read_dir(&directory).map_err(failed)?.flatten() {
                if let Err(error) = std::fs::remove_file(stray.path()) {
                    tracing::warn!(path = %stray.path().display(), %error, "cannot remove what an interrupted write left");
                }
            }
            Ok(())
        })
        .await?;
        Ok(Self { inner: Arc::new(Inner { objects, prefix: Key::from(prefix), spool }) })
    }

    /// Blobs in the bucket of an address `s3://bucket/prefix`. Everything else (`AWS_ENDPOINT`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, …) is
    /// in `settings`, by the names that the environment variables of S3 clients have. Plain HTTP is spoken only to loopback.
    pub async fn s3(address: &str, settings: &[(String, String)], spool: PathBuf) -> Result<Self> {
        let wrong = |why: &str| Error::new(Kind::Io, format!("`{address}` is no address of blobs: {why}"));
        let rest = address.strip_prefix("s3://").ok_or_else(|| wrong("write s3://BUCKET or s3://BUCKET/PREFIX"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong("it names no bucket"));
        }
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
        for (name, value) in settings {
            let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() else { continue };
            if matches!(key, AmazonS3ConfigKey::Endpoint) && is_loopback(value) {
                builder = builder.with_allow_http(true);
            }
            builder = builder.with_config(key, value);
        }
        let objects = builder.build().map_err(|e| failed(e, format!("cannot use {address}")))?;
        Self::new(Arc::new(objects), prefix, spool).await
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.strip_prefix("http://").unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Inner {
    fn key(&self, digest: &Digest) -> Key {
        self.prefix.clone().join(digest.algorithm()).join(digest.hex())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        match self.objects.head(&self.key(digest)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e, format!("cannot look for blob {digest}"))),
        }
    }

    /// Sends a whole file in parts. What was sent of it is thrown away when it cannot be finished.
    async fn send(&self, mut file: std::fs::File, digest: &Digest) -> Result<()> {
        let doing = || format!("cannot write blob {digest}");
        let upload = self.objects.put_multipart(&self.key(digest)).await.map_err(|e| failed(e, doing()))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        loop {
            let (back, read) = blocking(move || {
                let mut part = Vec::with_capacity(1 << 20);
                let read = (&mut file).take(1 << 20).read_to_end(&mut part);
                read.map_err(|e| io(e, "cannot read back a blob on its way".into()))?;
                Ok((file, Bytes::from(part)))
            })
            .await?;
            file = back;
            if read.is_empty() {
                break;
            }
            if let Err(e) = upload.wait_for_capacity(PARTS).await {
                let _ = upload.abort().await;
                return Err(failed(e, doing()));
            }
            upload.put(read);
        }
        upload.finish().await.map(drop).map_err(|e| failed(e, doing()))
    }
}

struct Writer {
    inner: Arc<Inner>,
    sum: Context,
    /// What is in memory; empty once there is a file.
    memory: Vec<u8>,
    file: Option<NamedTempFile>,
    written: u64,
    broken: bool,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        if self.broken {
            return Err(Error::new(Kind::Io, "an earlier write of this blob failed: begin it again"));
        }
        self.written += chunk.len() as u64;
        if self.file.is_none() && self.memory.len() + chunk.len() <= SMALL {
            self.sum.update(&chunk);
            self.memory.extend_from_slice(&chunk);
            return Ok(());
        }
        self.broken = true;
        let (memory, file, spool) = (std::mem::take(&mut self.memory), self.file.take(), self.inner.spool.clone());
        let mut sum = self.sum.clone();
        let done = blocking(move || {
            let failed = |e| io(e, format!("cannot write to {}", spool.display()));
            let mut file = match file {
                Some(file) => file,
                None => NamedTempFile::new_in(&spool).map_err(failed)?,
            };
            file.write_all(&memory).and_then(|()| file.write_all(&chunk)).map_err(failed)?;
            sum.update(&chunk);
            Ok((file, sum))
        });
        let (file, sum) = done.await?;
        (self.file, self.sum, self.broken) = (Some(file), sum, false);
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn digest(&mut self) -> Result<Digest> {
        Ok(blobs::sum(self.sum.clone().finish()))
    }

    async fn finish(mut self: Box<Self>, expected: Option<&Digest>) -> Result<Digest> {
        if self.broken {
            return Err(Error::new(Kind::Io, "an earlier write of this blob failed: begin it again"));
        }
        let sha512 = expected.is_some_and(|digest| digest.algorithm() == "sha512");
        let found = match &self.file {
            _ if !sha512 => blobs::sum(self.sum.clone().finish()),
            None => blobs::sum(digest::digest(&digest::SHA512, &self.memory)),
            Some(file) => {
                let file = file.reopen().map_err(|e| io(e, "cannot read back a blob on its way".into()))?;
                blocking(move || sha512_of(file)).await?
            }
        };
        blobs::verify(expected, &found)?;
        if self.inner.size(&found).await? == Some(self.written) {
            return Ok(found);
        }
        match self.file.take() {
            None => {
                let payload = PutPayload::from(std::mem::take(&mut self.memory));
                let put = self.inner.objects.put(&self.inner.key(&found), payload).await;
                put.map_err(|e| failed(e, format!("cannot write blob {found}")))?;
            }
            Some(file) => {
                let read = file.reopen().map_err(|e| io(e, "cannot read back a blob on its way".into()))?;
                self.inner.send(read, &found).await?;
            }
        }
        Ok(found)
    }
}

fn sha512_of(mut file: std::fs::File) -> Result<Digest> {
    let failed = |e| io(e, "cannot read back a blob on its way".into());
    let mut sum = Context::new(&digest::SHA512);
    let mut buffer = vec![0; 256 << 10];
    file.rewind().map_err(failed)?;
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(blobs::sum(sum.finish())),
            read => sum.update(&buffer[..read]),
        }
    }
}

#[async_trait]
impl Blobs for ObjectBlobs {
    async fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        let (inner, sum) = (self.inner.clone(), Context::new(&digest::SHA256));
        Ok(Box::new(Writer { inner, sum, memory: Vec::new(), file: None, written: 0, broken: false }))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.size(digest).await
    }

    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> Result<BlobReader> {
        let absent = || Error::new(Kind::NotFound, format!("there is no blob {digest}"));
        let mut range = None;
        if offset > 0 || length.is_some() {
            // A range behind the end is an error of S3, and nothing to read here.
            let size = self.inner.size(digest).await?.ok_or_else(absent)?;
            let end = length.map_or(size, |length| offset.saturating_add(length).min(size));
            if offset >= end {
                return Ok(Box::pin(tokio::io::empty()));
            }
            range = Some(GetRange::Bounded(offset..end));
        }
        let options = GetOptions { range, ..GetOptions::default() };
        match self.inner.objects.get_opts(&self.inner.key(digest), options).await {
            Ok(found) => Ok(Box::pin(StreamReader::new(found.into_stream().map_err(std::io::Error::other)))),
            Err(object_store::Error::NotFound { .. }) => Err(absent()),
            Err(e) => Err(failed(e, format!("cannot read blob {digest}"))),
        }
    }

    fn path(&self, _: &Digest) -> Option<PathBuf> {
        None
    }

    async fn adopt(&self, file: &Path, digest: &Digest) -> Result<bool> {
        if self.inner.size(digest).await?.is_some() {
            return Ok(true);
        }
        let path = file.to_owned();
        let opened =
            blocking(move || std::fs::File::open(&path).map_err(|e| io(e, format!("cannot read {}", path.display()))));
        self.inner.send(opened.await?, digest).await?;
        Ok(true)
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        match self.inner.objects.delete(&self.inner.key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failed(e, format!("cannot delete blob {digest}"))),
        }
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        self.pages().try_concat().await
    }

    fn pages(&self) -> BoxStream<'_, Result<Vec<Digest>>> {
        let of = |algorithm: &'static str| {
            let found = self.inner.objects.list(Some(&self.inner.prefix.clone().join(algorithm)));
            found.chunks(PAGE).map(move |page| {
                let mut digests = Vec::with_capacity(page.len());
                for object in page {
                    let object = object.map_err(|e| failed(e, "cannot list the blobs".into()))?;
                    let hex = object.location.filename().unwrap_or_default();
                    digests.extend(format!("{algorithm}:{hex}").parse::<Digest>().ok());
                }
                Ok(digests)
            })
        };
        of("sha256").chain(of("sha512")).boxed()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::new(Kind::Io, "the file system work was cut short: shipway is stopping").caused(e)),
    }
}

fn io(error: std::io::Error, doing: String) -> Error {
    let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let (kind, way_out) =
        if full { (Kind::Full, ": the disk is full; free some space and try again") } else { (Kind::Io, "") };
    Error::new(kind, format!("{doing}{way_out}")).caused(error)
}

fn failed(error: object_store::Error, doing: String) -> Error {
    Error::new(Kind::Io, format!("{doing} in the object store")).caused(error)
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_loopback_is_spoken_to_in_plain() {
        assert!(is_loopback("http://127.0.0.1:9000") && is_loopback("http://localhost:9000/x"));
        assert!(is_loopback("http://[::1]:9000"));
        assert!(
            !is_loopback("http://example.org")
                && !is_loopback("https://127.0.0.1")
                && !is_loopback("http://127.0.0.1.example.org")
        );
    }
}
