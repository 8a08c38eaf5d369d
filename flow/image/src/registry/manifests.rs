//! Manifests: pushed whole, checked against what the repository holds, read by digest.

use std::{collections::HashSet, fmt, str::FromStr};

use bytes::Bytes;
use records::Digest;
use store::{Change, Expect};

use super::{Descriptor, Document, Registry, StoredBlob, entries, entries::ManifestInfo, events::Event};
use crate::{
    Error, Kind, Result,
    hash::{self, Algorithm},
    media,
    reference::{check_repository, check_tag},
};

/// The largest manifest that is taken, in bytes: what the specification asks every registry to take.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestRef {
    Tag(String),
    Digest(Digest),
}

impl FromStr for ManifestRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.contains(':') {
            let digest = text.parse().map_err(|e: records::digest::InvalidDigest| {
                Error::new(Kind::DigestInvalid, e.to_string()).caused(e)
            })?;
            return Ok(Self::Digest(digest));
        }
        check_tag(text)?;
        Ok(Self::Tag(text.to_owned()))
    }
}

impl fmt::Display for ManifestRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// What a push of a manifest came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    pub digest: Digest,
    pub media_type: String,
    /// The manifest that it refers to, if it is a referrer.
    pub subject: Option<Digest>,
}

/// How often a push whose tags others set meanwhile is looked at again before others have to wait.
const ATTEMPTS: usize = 3;

/// A push of a manifest.
pub(super) struct Push<'a> {
    pub repository: &'a str,
    pub tags: &'a [&'a str],
    /// The digest that the content must have; SHA-256 without.
    pub expected: Option<&'a Digest>,
    /// May be empty.
    pub content_type: &'a str,
    pub reach: Reach,
    /// Written down together with it, once it is known what was pushed.
    pub events: Vec<Event>,
}

impl<'a> Push<'a> {
    pub(super) fn new(repository: &'a str, tags: &'a [&'a str], content_type: &'a str, reach: Reach) -> Self {
        Self { repository, tags, expected: None, content_type, reach, events: Vec::new() }
    }
}

/// What a manifest may name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// What its repository holds.
    Repository,
    /// What is in the store at all; it is linked with the push.
    Store,
    /// Anything: what is not here is at the registry that it was fetched from.
    Elsewhere,
}

impl Registry {
    /// Pushes a manifest, as a client does: everything that it names must be in `repository` already. It is tagged with `tags`.
    ///
    /// With `expected`, `DigestInvalid` unless the content has that digest; without, its digest is SHA-256. `content_type` may be empty.
    pub async fn put_manifest(
        &self,
        repository: &str,
        tags: &[&str],
        expected: Option<&Digest>,
        content_type: &str,
        content: impl Into<Bytes>,
    ) -> Result<Pushed> {
        let push = Push { expected, ..Push::new(repository, tags, content_type, Reach::Repository) };
        self.push(&push, content.into()).await
    }

    /// Pushes a manifest from within: blobs that it names only need to be in the store, and become the repository's in the same batch.
    pub async fn put_image(
        &self,
        repository: &str,
        tags: &[&str],
        media_type: &str,
        content: impl Into<Bytes>,
    ) -> Result<Pushed> {
        self.push(&Push::new(repository, tags, media_type, Reach::Store), content.into()).await
    }

    /// The same with a digest that is known, which may be SHA-512.
    pub(crate) async fn put_loaded(
        &self,
        repository: &str,
        tags: &[&str],
        expected: &Digest,
        media_type: &str,
        content: impl Into<Bytes>,
    ) -> Result<Pushed> {
        let push = Push { expected: Some(expected), ..Push::new(repository, tags, media_type, Reach::Store) };
        self.push(&push, content.into()).await
    }

    pub(super) async fn push(&self, push: &Push<'_>, content: Bytes) -> Result<Pushed> {
        check_repository(push.repository)?;
        push.tags.iter().try_for_each(|tag| check_tag(tag))?;
        if content.len() as u64 > MAX_MANIFEST {
            return Err(Error::new(
                Kind::ManifestTooLarge,
                format!("the manifest has {} bytes, more than the {MAX_MANIFEST} that are taken", content.len()),
            ));
        }
        let digest = hash::digest(push.expected.map_or(Algorithm::Sha256, Algorithm::of), &content);
        if let Some(expected) = push.expected.filter(|expected| **expected != digest) {
            return Err(Error::new(Kind::DigestInvalid, format!("the manifest has digest {digest}, not {expected}")));
        }
        let (document, media_type) = Document::parse(push.content_type, &content)?;
        let subject = document.subject.as_ref().map(|subject| subject.digest.clone());
        let pushed = Pushed { digest, media_type, subject };

        let named = document.contents().chain(document.children()).map(|named| &named.digest);
        let _pin = self.pin(named.chain([&pushed.digest])).await;
        for _ in 1..ATTEMPTS {
            let _shared = self.share(push.repository).await;
            match self.write_down(push, &document, &content, &pushed).await {
                // Somebody was quicker with a tag: what that means for this push has to be looked at again.
                Err(error) if error.kind == Kind::Store(store::Kind::Conflict) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(pushed),
            }
        }
        // The last time nobody else changes the repository meanwhile.
        let _alone = self.lock(push.repository).await;
        self.write_down(push, &document, &content, &pushed).await?;
        Ok(pushed)
    }

    /// Stores a manifest and writes it down. `Conflict` when one of its tags was changed meanwhile.
    async fn write_down(
        &self,
        push: &Push<'_>,
        document: &Document,
        content: &Bytes,
        Pushed { digest, media_type, subject }: &Pushed,
    ) -> Result<()> {
        let Push { repository, tags, reach, .. } = *push;
        let mut changes = Vec::new();
        self.check_contents(repository, document, reach, &mut changes).await?;
        self.check_children(repository, document, reach).await?;
        let size = content.len() as u64;
        if self.blobs().size(digest).await? != Some(size) {
            let mut writer = self.blobs().writer().await?;
            writer.write(content.clone()).await?;
            writer.finish(Some(digest)).await?;
        }

        let now = self.now();
        let key = entries::by_digest(repository, digest);
        let found = self.log().get(entries::MANIFEST, &key).await?;
        let known = found.as_ref().map(entries::read::<ManifestInfo>).transpose()?;
        let old = |pushed| now.duration_since(pushed).as_secs() > 4 * 3600;
        if known.is_none_or(|known| known.media_type != *media_type || old(known.pushed)) {
            let info = ManifestInfo {
                media_type: media_type.clone(),
                size,
                artifact_type: document.shown_artifact_type(),
                subject: subject.clone(),
                pushed: now,
            };
            changes.push(entries::put(entries::MANIFEST, key, &info, Expect::Any)?);
        }
        if let Some(subject) = subject {
            let referrer = Descriptor {
                media_type: media_type.clone(),
                digest: digest.clone(),
                size,
                artifact_type: document.shown_artifact_type(),
                annotations: document.annotations.clone(),
                urls: None,
                data: None,
            };
            self.referrer_change(repository, subject, referrer, &mut changes).await?;
        }
        let (mut seen, mut rooms) = (HashSet::new(), Vec::new());
        for tag in tags.iter().filter(|tag| seen.insert(**tag)) {
            let key = entries::by_tag(repository, tag);
            let found = self.log().get(entries::TAG, &key).await?;
            let current = found.as_ref().map(entries::read::<entries::Tag>).transpose()?;
            if let Some(current) = &current
                && current.digest != *digest
                && reach == Reach::Repository
            {
                self.check_mutable(repository, tag).await?;
            }
            if current.is_none() && reach == Reach::Repository {
                rooms.push(self.room_for_tag(repository, tag).await?);
            }
            if current.is_none_or(|current| current.digest != *digest) {
                let value = entries::Tag { digest: digest.clone(), updated: now };
                let expect = found.map_or(Expect::Absent, |found| Expect::Version(found.seq));
                changes.push(entries::put(entries::TAG, key, &value, expect)?);
            }
        }
        if !changes.is_empty() {
            self.repository_change(repository, &mut changes).await?;
        }
        for mut event in push.events.iter().cloned() {
            (event.digest, event.media_type, event.size) = (Some(digest.clone()), Some(media_type.clone()), Some(size));
            changes.push(event.change()?);
        }
        if !changes.is_empty() {
            self.log().append(changes).await?;
        }
        Ok(())
    }

    /// Every blob that the manifest names must be there and have the size that it says.
    async fn check_contents(
        &self,
        repository: &str,
        document: &Document,
        reach: Reach,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        for named in document.contents().filter(|named| seen.insert(&named.digest)) {
            let size = match reach {
                Reach::Repository | Reach::Elsewhere => self.blob_size(repository, &named.digest).await?,
                Reach::Store => self.blobs().size(&named.digest).await?,
            };
            match size {
                Some(size) if size != named.size => {
                    return Err(Error::new(
                        Kind::ManifestInvalid,
                        format!(
                            "the manifest says that blob {} has {} bytes, but it has {size}",
                            named.digest, named.size
                        ),
                    ));
                }
                Some(size) if reach == Reach::Store => {
                    let stored = StoredBlob { digest: named.digest.clone(), size };
                    self.link_changes(repository, &stored, changes).await?;
                }
                Some(_) => {}
                None if may_be_absent(named) || (reach == Reach::Repository && self.limits().sparse) => {}
                None if reach == Reach::Elsewhere => {}
                None => return Err(missing("blob", repository, named)),
            }
        }
        Ok(())
    }

    /// Every manifest that an index names must be in the repository (as a manifest, or as a blob where it is of another kind).
    async fn check_children(&self, repository: &str, document: &Document, reach: Reach) -> Result<()> {
        let mut seen = HashSet::new();
        for named in document.children().filter(|named| seen.insert(&named.digest)) {
            let size = self.blob_size(repository, &named.digest).await?;
            match size {
                Some(size) if size != named.size => {
                    return Err(Error::new(
                        Kind::ManifestInvalid,
                        format!("the index says that {} has {} bytes, but it has {size}", named.digest, named.size),
                    ));
                }
                Some(_) => {}
                None if self.limits().sparse || reach == Reach::Elsewhere => {}
                None => return Err(missing("manifest", repository, named)),
            }
        }
        Ok(())
    }

    /// What is known of a manifest, or `None`.
    pub async fn manifest_info(&self, repository: &str, digest: &Digest) -> Result<Option<ManifestInfo>> {
        check_repository(repository)?;
        let found = self.log().get(entries::MANIFEST, &entries::by_digest(repository, digest)).await?;
        found.as_ref().map(entries::read).transpose()
    }

    /// A manifest, byte for byte as it was pushed.
    pub async fn manifest(&self, repository: &str, digest: &Digest) -> Result<(ManifestInfo, Bytes)> {
        let Some(info) = self.manifest_info(repository, digest).await? else {
            return Err(unknown(repository, digest));
        };
        let content = store::blobs::get(&**self.blobs(), digest, MAX_MANIFEST).await?;
        Ok((info, content))
    }

    /// The manifest and its digest by tag or digest.
    pub async fn find_manifest(
        &self,
        repository: &str,
        reference: &ManifestRef,
    ) -> Result<(Digest, ManifestInfo, Bytes)> {
        let digest = self.find_digest(repository, reference).await?;
        let (info, content) = self.manifest(repository, &digest).await?;
        Ok((digest, info, content))
    }

    pub(super) async fn find_digest(&self, repository: &str, reference: &ManifestRef) -> Result<Digest> {
        match reference {
            ManifestRef::Tag(tag) => self.resolve(repository, tag).await,
            ManifestRef::Digest(digest) => Ok(digest.clone()),
        }
    }

    /// Removes a manifest, every tag that stands for it, and it from the referrers of its subject. What refers to it stays.
    pub async fn delete_manifest(&self, repository: &str, digest: &Digest) -> Result<()> {
        check_repository(repository)?;
        let _guard = self.lock(repository).await;
        let Some(found) = self.log().get(entries::MANIFEST, &entries::by_digest(repository, digest)).await? else {
            return Err(unknown(repository, digest));
        };
        let mut changes = vec![entries::remove(&found)];
        if let Some(subject) = entries::read::<ManifestInfo>(&found)?.subject {
            let key = entries::referrer(repository, &subject, digest);
            changes.extend(self.log().get(entries::REFERRER, &key).await?.as_ref().map(entries::remove));
        }
        let prefix = entries::by_tag(repository, "");
        let mut after: Option<String> = None;
        loop {
            let page = self.log().list(entries::TAG, &prefix, after.as_deref(), 1000).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            for entry in &page.entries {
                if entries::read::<entries::Tag>(entry)?.digest == *digest {
                    changes.push(entries::remove(entry));
                }
            }
            if !page.more {
                break;
            }
        }
        self.log().append(changes).await?;
        Ok(())
    }
}

/// Layers that are meant to be fetched from elsewhere.
fn may_be_absent(named: &Descriptor) -> bool {
    media::nondistributable(&named.media_type)
}

fn unknown(repository: &str, digest: &Digest) -> Error {
    Error::new(Kind::ManifestUnknown, format!("repository {repository} has no manifest {digest}"))
}

fn missing(what: &str, repository: &str, named: &Descriptor) -> Error {
    Error::new(
        Kind::ManifestBlobUnknown,
        format!(
            "the manifest names {what} {}, which repository {repository} does not hold: push it first",
            named.digest
        ),
    )
}
