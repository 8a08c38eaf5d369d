//! Blobs of a repository: content in the blob store, plus the record that the repository holds it.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use records::{Digest, Timestamp};
use store::{BlobReader, BlobWriter, Change, Expect, Naming};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Registry, entries};
use crate::{Error, Kind, Result, hash, reference::check_repository};

/// How much is read or written at once.
pub(crate) const CHUNK: usize = 256 << 10;

/// After how many seconds it is written down again that a blob or manifest is wanted; much less than [`super::cleanup::GRACE`].
const RENEW: i64 = 4 * 3600;

/// Content that is in the blob store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    pub digest: Digest,
    pub size: u64,
}

/// A blob or a part of one, being read.
pub struct BlobContent {
    pub reader: BlobReader,
    /// Bytes of the whole blob.
    pub size: u64,
}

impl Registry {
    /// Stores content that no repository holds yet; to be linked by [`Registry::link_blob`] or named by [`Registry::put_image`].
    pub async fn store(&self, content: impl Into<Bytes> + Send) -> Result<StoredBlob> {
        let content = content.into();
        let found = StoredBlob { digest: hash::digest(hash::Algorithm::Sha256, &content), size: content.len() as u64 };
        if self.blobs().size(&found.digest).await? == Some(found.size) {
            return Ok(found);
        }
        let mut writer = self.blobs().writer().await?;
        writer.write(content).await?;
        writer.finish(Some(&found.digest)).await?;
        Ok(found)
    }

    /// Stores what `reader` gives, with `expected` only if that is its digest.
    pub async fn store_reader(
        &self,
        reader: impl AsyncRead + Send + Unpin,
        expected: Option<&Digest>,
    ) -> Result<StoredBlob> {
        let chunks = futures::stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            let mut chunk = Vec::with_capacity(CHUNK);
            match (&mut reader).take(CHUNK as u64).read_to_end(&mut chunk).await {
                Ok(0) => None,
                Ok(_) => Some((Ok(Bytes::from(chunk)), Some(reader))),
                Err(error) => Some((Err(Error::io("read the content of a blob", error)), None)),
            }
        });
        self.store_stream(std::pin::pin!(chunks), expected).await
    }

    /// Stores a stream of chunks, at most [`super::Limits::blob`] bytes.
    pub async fn store_stream(
        &self,
        chunks: impl Stream<Item = Result<Bytes>> + Send + Unpin,
        expected: Option<&Digest>,
    ) -> Result<StoredBlob> {
        let writer = self.write_stream(chunks).await?;
        let size = writer.written();
        let digest = writer.finish(expected).await?;
        Ok(StoredBlob { digest, size })
    }

    /// The same for [`Registry::link_placed`].
    pub(super) async fn place_stream(
        &self,
        chunks: impl Stream<Item = Result<Bytes>> + Send + Unpin,
        expected: &Digest,
    ) -> Result<(StoredBlob, Naming)> {
        let writer = self.write_stream(chunks).await?;
        let size = writer.written();
        let (digest, naming) = writer.place(Some(expected)).await?;
        Ok((StoredBlob { digest, size }, naming))
    }

    async fn write_stream(
        &self,
        mut chunks: impl Stream<Item = Result<Bytes>> + Send + Unpin,
    ) -> Result<Box<dyn BlobWriter>> {
        let mut writer = self.blobs().writer().await?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            self.check_blob_size(writer.written() + chunk.len() as u64)?;
            writer.write(chunk).await?;
        }
        Ok(writer)
    }

    /// Stores `content` in `repository`.
    pub async fn put_blob(&self, repository: &str, content: impl Into<Bytes> + Send) -> Result<StoredBlob> {
        check_repository(repository)?;
        let content = content.into();
        let digest = hash::digest(hash::Algorithm::Sha256, &content);
        let _pin = self.pin([&digest]).await;
        let stored = self.store(content).await?;
        self.link_stored(repository, &stored).await?;
        Ok(stored)
    }

    /// Stores a stream of chunks in `repository`, if its digest is `digest`.
    pub async fn put_stream(
        &self,
        repository: &str,
        chunks: impl Stream<Item = Result<Bytes>> + Send + Unpin,
        digest: &Digest,
    ) -> Result<StoredBlob> {
        check_repository(repository)?;
        let _pin = self.pin([digest]).await;
        let (stored, naming) = self.place_stream(chunks, digest).await?;
        self.link_placed(repository, &stored, naming).await?;
        Ok(stored)
    }

    /// Lets `repository` hold content that is in the store already.
    pub async fn link_blob(&self, repository: &str, digest: &Digest) -> Result<()> {
        check_repository(repository)?;
        let _pin = self.pin([digest]).await;
        match self.blobs().size(digest).await? {
            Some(size) => self.link_stored(repository, &StoredBlob { digest: digest.clone(), size }).await,
            None => Err(unknown(repository, digest)),
        }
    }

    /// Whether `repository` holds the blob, by its records.
    pub(super) async fn holds(&self, repository: &str, digest: &Digest) -> Result<bool> {
        check_repository(repository)?;
        let key = entries::by_digest(repository, digest);
        // Manifests are blobs of their repository, too.
        Ok(self.log().get(entries::BLOB, &key).await?.is_some()
            || self.log().get(entries::MANIFEST, &key).await?.is_some())
    }

    /// The size of a blob that `repository` holds, or `None`.
    pub async fn blob_size(&self, repository: &str, digest: &Digest) -> Result<Option<u64>> {
        if !self.holds(repository, digest).await? {
            return Ok(None);
        }
        // Asked of the store itself: should the content be lost, a client that pushes again heals it.
        Ok(self.blobs().stat(digest).await?)
    }

    /// Notes that somebody who pushes asked for a blob or manifest and was told that it is there: it stays for the rest of the push.
    pub async fn renew(&self, repository: &str, digest: &Digest) -> Result<()> {
        // Nearly always there is nothing to write down, and then nobody has to wait.
        if self.renewals(repository, digest).await?.is_empty() {
            return Ok(());
        }
        let _guard = self.lock(repository).await;
        let changes = self.renewals(repository, digest).await?;
        if !changes.is_empty() {
            self.log().append(changes).await?;
        }
        Ok(())
    }

    async fn renewals(&self, repository: &str, digest: &Digest) -> Result<Vec<Change>> {
        let key = entries::by_digest(repository, digest);
        let now = self.now();
        // Written down not more often than it matters.
        let old = |since: Timestamp| now.duration_since(since).as_secs() > RENEW;
        let mut changes = Vec::new();
        if let Some(entry) = self.log().get(entries::BLOB, &key).await? {
            let blob: entries::Blob = entries::read(&entry)?;
            if blob.linked.is_none_or(old) {
                let renewed = entries::Blob { linked: Some(now), ..blob };
                changes.push(entries::put(entries::BLOB, key.clone(), &renewed, Expect::Version(entry.seq))?);
            }
        }
        if let Some(entry) = self.log().get(entries::MANIFEST, &key).await? {
            let info: entries::ManifestInfo = entries::read(&entry)?;
            if old(info.pushed) {
                let renewed = entries::ManifestInfo { pushed: now, ..info };
                changes.push(entries::put(entries::MANIFEST, key, &renewed, Expect::Version(entry.seq))?);
            }
        }
        Ok(changes)
    }

    /// Reads `length` bytes (or all) from `offset` of a blob that `repository` holds.
    pub async fn read_blob(
        &self,
        repository: &str,
        digest: &Digest,
        offset: u64,
        length: Option<u64>,
    ) -> Result<BlobContent> {
        let size = self.blob_size(repository, digest).await?.ok_or_else(|| unknown(repository, digest))?;
        if offset > size {
            return Err(Error::new(Kind::RangeInvalid, format!("blob {digest} has {size} bytes: no byte {offset}")));
        }
        let reader = self.blobs().read(digest, offset, length).await?;
        Ok(BlobContent { reader, size })
    }

    /// Repositories that hold the blob, at most 64.
    pub async fn holders(&self, digest: &Digest) -> Result<Vec<String>> {
        let prefix = format!("{digest}/");
        let page = self.log().list(entries::HOLDER, &prefix, None, 64).await?;
        let names = page.entries.iter().filter_map(|entry| entry.key.strip_prefix(&prefix));
        Ok(names.map(str::to_owned).collect())
    }

    /// Takes the blob out of the repository. The content stays for others that hold it, until it is collected.
    pub async fn delete_blob(&self, repository: &str, digest: &Digest) -> Result<()> {
        check_repository(repository)?;
        let _guard = self.lock(repository).await;
        let Some(found) = self.log().get(entries::BLOB, &entries::by_digest(repository, digest)).await? else {
            return Err(unknown(repository, digest));
        };
        let mut changes = vec![entries::remove(&found)];
        if let Some(holder) = self.log().get(entries::HOLDER, &entries::holder(repository, digest)).await? {
            changes.push(entries::remove(&holder));
        }
        self.log().append(changes).await?;
        Ok(())
    }

    /// Lets `repository` hold a blob whose name is being made durable: the record goes to the disk at the same time. A record without its
    /// content, which a loss of power may leave where nobody was told that the blob is stored, counts for nothing.
    pub(super) async fn link_placed(&self, repository: &str, stored: &StoredBlob, naming: Naming) -> Result<()> {
        let (linked, named) = tokio::join!(self.link_stored(repository, stored), naming.settle());
        named?;
        linked
    }

    pub(super) async fn link_stored(&self, repository: &str, stored: &StoredBlob) -> Result<()> {
        let _room = self.room_for_blob(repository, &stored.digest, stored.size).await?;
        let _guard = self.share(repository).await;
        if self.is_known(repository).await? && self.link_new(repository, stored).await? {
            return Ok(());
        }
        let mut changes = Vec::new();
        self.link_changes(repository, stored, &mut changes).await?;
        if !changes.is_empty() {
            self.repository_change(repository, &mut changes).await?;
            self.log().append(changes).await?;
        }
        Ok(())
    }

    /// Most blobs that are pushed are new to their repository, and then nothing needs to be read first. Whether it was so.
    async fn link_new(&self, repository: &str, stored: &StoredBlob) -> Result<bool> {
        let blob = entries::Blob { size: stored.size, linked: Some(self.now()) };
        let (key, holder) =
            (entries::by_digest(repository, &stored.digest), entries::holder(repository, &stored.digest));
        let changes = vec![
            entries::put(entries::BLOB, key, &blob, Expect::Absent)?,
            entries::put(entries::HOLDER, holder, &entries::Holder {}, Expect::Any)?,
        ];
        match self.log().append(changes).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == store::Kind::Conflict => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The changes, if any, after which `repository` holds the blob.
    pub(super) async fn link_changes(
        &self,
        repository: &str,
        stored: &StoredBlob,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let key = entries::by_digest(repository, &stored.digest);
        let now = self.now();
        let found =
            self.log().get(entries::BLOB, &key).await?.as_ref().map(entries::read::<entries::Blob>).transpose()?;
        let young = |since: Timestamp| now.duration_since(since).as_secs() <= RENEW;
        if found.as_ref().is_none_or(|found| !found.linked.is_some_and(young)) {
            let blob = entries::Blob { size: stored.size, linked: Some(now) };
            changes.push(entries::put(entries::BLOB, key, &blob, Expect::Any)?);
        }
        if found.is_none() {
            let key = entries::holder(repository, &stored.digest);
            changes.push(entries::put(entries::HOLDER, key, &entries::Holder {}, Expect::Any)?);
        }
        Ok(())
    }

    pub(super) fn check_blob_size(&self, size: u64) -> Result<()> {
        let limit = self.limits().blob;
        if size <= limit {
            return Ok(());
        }
        Err(Error::new(
            Kind::SizeInvalid,
            format!("the blob has more than {limit} bytes, the most this registry takes"),
        ))
    }
}

pub(super) fn unknown(repository: &str, digest: &Digest) -> Error {
    Error::new(Kind::BlobUnknown, format!("repository {repository} holds no blob {digest}"))
}
