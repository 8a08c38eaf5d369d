//! Content by digest.

use std::{pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use records::Digest;
use tokio::io::AsyncRead;

use crate::{Result, leases::Leases};

/// A blob being read.
pub type BlobReader = Pin<Box<dyn AsyncRead + Send>>;

/// A name that is being made durable.
#[must_use = "nobody may be told that it is stored before it is settled"]
pub struct Naming(Option<BoxFuture<'static, Result<()>>>);

impl Naming {
    /// One that is durable.
    pub fn done() -> Self {
        Self(None)
    }

    /// Durable when `work`, which goes on without being asked, is done.
    pub fn under_way(work: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }

    /// Returns when the name is durable.
    pub async fn settle(self) -> Result<()> {
        match self.0 {
            Some(work) => work.await,
            None => Ok(()),
        }
    }
}

/// A blob being written. Dropped without `finish`, it leaves nothing behind.
#[async_trait]
pub trait BlobWriter: Send {
    async fn write(&mut self, chunk: Bytes) -> Result<()>;

    /// Bytes so far.
    fn written(&self) -> u64;

    /// The SHA-256 of what was written so far.
    async fn digest(&mut self) -> Result<Digest>;

    /// Makes the content visible and durable under its digest. With `expected`, `WrongDigest` unless it is that one (and nothing is kept);
    /// without, the digest is SHA-256. Finishing content that is there already is no error.
    async fn finish(self: Box<Self>, expected: Option<&Digest>) -> Result<Digest>;

    /// The same for callers who have something else to write meanwhile: the content is durable, and its name will be. Until then nobody
    /// else is told that it is there, and nobody may be told that it is stored.
    async fn place(self: Box<Self>, expected: Option<&Digest>) -> Result<(Digest, Naming)> {
        Ok((self.finish(expected).await?, Naming::done()))
    }
}

/// Content-addressed storage.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    async fn writer(&self) -> Result<Box<dyn BlobWriter>>;

    /// The size in bytes, or `None` when it is not there.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// The same without counting as use: for those who only count or show.
    async fn stat(&self, digest: &Digest) -> Result<Option<u64>> {
        self.size(digest).await
    }

    /// Reads `length` bytes (or all that follow) from `offset`. `NotFound` when it is not there.
    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> Result<BlobReader>;

    /// Where the content lies as a plain file, for backends that have such a file.
    fn path(&self, digest: &Digest) -> Option<std::path::PathBuf>;

    /// Makes a finished file the content of `digest`, which the caller has hashed it to, without copying it; durable when it returns. The
    /// file is moved, or left where it is when the content is there already. `false`, and nothing is changed, where that cannot be done.
    async fn adopt(&self, file: &std::path::Path, digest: &Digest) -> Result<bool> {
        let _ = (file, digest);
        Ok(false)
    }

    /// The same as [`BlobWriter::place`] is to `finish`; `None` where it cannot be done.
    async fn adopt_soon(&self, file: &std::path::Path, digest: &Digest) -> Result<Option<Naming>> {
        Ok(self.adopt(file, digest).await?.then(Naming::done))
    }

    /// Removes it, whoever uses it; removing what is not there is no error.
    async fn delete(&self, digest: &Digest) -> Result<()>;

    /// Every digest that is there, in no order.
    async fn list(&self) -> Result<Vec<Digest>>;

    /// The same a part at a time, for those who go through stores of any size. What comes or goes meanwhile may be among them or not.
    fn pages(&self) -> BoxStream<'_, Result<Vec<Digest>>> {
        futures::stream::once(self.list()).boxed()
    }

    /// What is known of their users, for stores that can be collected while they are in use.
    fn leases(&self) -> Option<&Arc<Leases>> {
        None
    }
}

/// Writes a whole blob.
pub async fn put(blobs: &dyn Blobs, content: impl Into<Bytes> + Send) -> Result<Digest> {
    let mut writer = blobs.writer().await?;
    writer.write(content.into()).await?;
    writer.finish(None).await
}

/// Most manifests and configurations are smaller.
const SMALL: u64 = 16 << 10;

/// Reads a whole blob that is known to be small; `Corrupt` when it has more than `limit` bytes.
pub async fn get(blobs: &dyn Blobs, digest: &Digest, limit: u64) -> Result<Bytes> {
    use tokio::io::AsyncReadExt;
    // Room for a manifest: each read is a way to another thread and back, and an empty vector begins with 32 bytes.
    let mut content = Vec::with_capacity(limit.min(SMALL) as usize);
    let reader = blobs.read(digest, 0, None).await?;
    let read = reader.take(limit + 1).read_to_end(&mut content).await;
    read.map_err(|e| crate::Error::new(crate::Kind::Io, format!("cannot read blob {digest}")).caused(e))?;
    if content.len() as u64 > limit {
        return Err(crate::Error::new(crate::Kind::Corrupt, format!("blob {digest} has more than {limit} bytes")));
    }
    Ok(content.into())
}

/// The digest of a finished SHA-256 or SHA-512 sum.
pub(crate) fn sum(sum: aws_lc_rs::digest::Digest) -> Digest {
    let sum = sum.as_ref();
    match <&[u8; 32]>::try_from(sum) {
        Ok(sha256) => Digest::sha256(sha256),
        Err(_) => {
            let mut sha512 = [0; 64];
            sha512.copy_from_slice(sum);
            Digest::sha512(&sha512)
        }
    }
}

/// `WrongDigest` when the content is not what was expected.
pub(crate) fn verify(expected: Option<&Digest>, found: &Digest) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            let message = format!("the content has digest {found}, not {expected}: send it again");
            Err(crate::Error::new(crate::Kind::WrongDigest, message))
        }
        _ => Ok(()),
    }
}
