//! Any blobs, with leases: what is written or looked at through this is not collected at once.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use records::Digest;

use crate::{
    BlobReader, BlobWriter, Blobs, Naming, Result,
    leases::{Clock, Leases},
};

/// Blobs whose users are known. Everything that uses the store has to go through the same one.
pub struct LeasedBlobs {
    inner: Arc<dyn Blobs>,
    leases: Arc<Leases>,
}

impl LeasedBlobs {
    pub fn new(inner: Arc<dyn Blobs>, clock: Clock) -> Self {
        Self { inner, leases: Leases::new(clock) }
    }
}

struct Writer {
    inner: Box<dyn BlobWriter>,
    leases: Arc<Leases>,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.inner.write(chunk).await
    }

    fn written(&self) -> u64 {
        self.inner.written()
    }

    async fn digest(&mut self) -> Result<Digest> {
        self.inner.digest().await
    }

    async fn finish(mut self: Box<Self>, expected: Option<&Digest>) -> Result<Digest> {
        // Content that is there already is not written again, so it must not leave between that look and the end.
        let digest = match expected {
            Some(expected) => expected.clone(),
            None => self.inner.digest().await?,
        };
        let _pin = self.leases.pin([&digest]).await;
        self.inner.finish(Some(&digest)).await
    }

    async fn place(mut self: Box<Self>, expected: Option<&Digest>) -> Result<(Digest, Naming)> {
        let digest = match expected {
            Some(expected) => expected.clone(),
            None => self.inner.digest().await?,
        };
        let _pin = self.leases.pin([&digest]).await;
        self.inner.place(Some(&digest)).await
    }
}

#[async_trait]
impl Blobs for LeasedBlobs {
    async fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer { inner: self.inner.writer().await?, leases: self.leases.clone() }))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.leases.see(digest).await;
        self.inner.size(digest).await
    }

    async fn stat(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.stat(digest).await
    }

    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> Result<BlobReader> {
        self.inner.read(digest, offset, length).await
    }

    fn path(&self, digest: &Digest) -> Option<std::path::PathBuf> {
        self.inner.path(digest)
    }

    async fn adopt(&self, file: &Path, digest: &Digest) -> Result<bool> {
        let _pin = self.leases.pin([digest]).await;
        self.inner.adopt(file, digest).await
    }

    async fn adopt_soon(&self, file: &Path, digest: &Digest) -> Result<Option<Naming>> {
        let _pin = self.leases.pin([digest]).await;
        self.inner.adopt_soon(file, digest).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.inner.delete(digest).await
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        self.inner.list().await
    }

    fn pages(&self) -> BoxStream<'_, Result<Vec<Digest>>> {
        self.inner.pages()
    }

    fn leases(&self) -> Option<&Arc<Leases>> {
        Some(&self.leases)
    }
}
