//! Stores in memory that hand over to another task before and after everything they do.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use records::Digest;
use store::{BlobReader, BlobWriter, Blobs, Change, Entry, Leases, Log, MemoryBlobs, MemoryLog, Page, Result, Seq};
use tokio::sync::watch;

/// Another task goes on here.
async fn pause() {
    let mut once = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut once, true) {
            return std::task::Poll::Ready(());
        }
        // For what polls several at once and asks only those again that say so.
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await
}

pub struct SlowLog(pub MemoryLog);

#[async_trait]
impl Log for SlowLog {
    async fn append(&self, changes: Vec<Change>) -> Result<Seq> {
        pause().await;
        let done = self.0.append(changes).await;
        pause().await;
        done
    }

    async fn get(&self, kind: &str, key: &str) -> Result<Option<Entry>> {
        pause().await;
        self.0.get(kind, key).await
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        pause().await;
        // Small pages, so that a listing is of many moments.
        self.0.list(kind, prefix, after, limit.min(2)).await
    }

    async fn changes(&self, kind_prefix: &str, after: Seq, limit: usize) -> Result<Vec<Entry>> {
        pause().await;
        self.0.changes(kind_prefix, after, limit.min(3)).await
    }

    async fn kinds(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.kinds(prefix).await
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.0.head()
    }

    async fn compact(&self, kind_prefix: &str, upto: Seq) -> Result<()> {
        self.0.compact(kind_prefix, upto).await
    }
}

/// Blobs that can be watched; `deleted` counts.
pub struct SlowBlobs {
    pub inner: MemoryBlobs,
    pub deleted: Arc<AtomicU64>,
}

struct SlowWriter(Box<dyn BlobWriter>, MemoryBlobs);

#[async_trait]
impl BlobWriter for SlowWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        pause().await;
        self.0.write(chunk).await
    }

    fn written(&self) -> u64 {
        self.0.written()
    }

    async fn digest(&mut self) -> Result<Digest> {
        self.0.digest().await
    }

    async fn finish(mut self: Box<Self>, expected: Option<&Digest>) -> Result<Digest> {
        // As a directory does it: content that is there is not written again.
        let digest = match expected {
            Some(expected) => expected.clone(),
            None => self.0.digest().await?,
        };
        let there = self.1.size(&digest).await?.is_some();
        pause().await;
        if there {
            return Ok(digest);
        }
        self.0.finish(expected).await
    }
}

#[async_trait]
impl Blobs for SlowBlobs {
    async fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(SlowWriter(self.inner.writer().await?, self.inner.clone())))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        pause().await;
        let size = self.inner.size(digest).await;
        pause().await;
        size
    }

    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> Result<BlobReader> {
        pause().await;
        self.inner.read(digest, offset, length).await
    }

    fn path(&self, _: &Digest) -> Option<std::path::PathBuf> {
        None
    }

    async fn adopt(&self, _: &Path, _: &Digest) -> Result<bool> {
        Ok(false)
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        pause().await;
        self.inner.delete(digest).await?;
        self.deleted.fetch_add(1, Ordering::Relaxed);
        pause().await;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        pause().await;
        let all = self.inner.list().await;
        pause().await;
        all
    }

    /// As a directory or a bucket is listed: each part is of another moment, and what comes meanwhile may be among them.
    fn pages(&self) -> BoxStream<'_, Result<Vec<Digest>>> {
        let after = move |after: Option<Digest>| async move {
            pause().await;
            let all = match self.inner.list().await {
                Ok(all) => all,
                Err(error) => return Some((Err(error), None)),
            };
            let next = all.into_iter().filter(|digest| after.as_ref().is_none_or(|after| digest > after)).min()?;
            Some((Ok(vec![next.clone()]), Some(next)))
        };
        futures::stream::unfold(None, after).boxed()
    }
}

/// Says that it knows its users, and knows none: what a clean-up without leases would be.
pub struct Careless {
    pub inner: SlowBlobs,
}

#[async_trait]
impl Blobs for Careless {
    async fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        self.inner.writer().await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.size(digest).await
    }

    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> Result<BlobReader> {
        self.inner.read(digest, offset, length).await
    }

    fn path(&self, _: &Digest) -> Option<std::path::PathBuf> {
        None
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
        // Each time new ones, so that no pin is ever known to the round.
        Some(&*Box::leak(Box::new(Leases::new(Arc::new(|| records::Timestamp::UNIX_EPOCH)))))
    }
}
