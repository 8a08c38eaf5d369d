//! An image of another registry, brought into ours.

use records::Digest;

use super::{Client, Manifest};
use crate::{
    Error, Kind, Reference, Result, media,
    oci::Platform,
    registry::{Descriptor, Document, ManifestRef, Registry},
};

impl Client {
    /// Brings what `reference` stands for into `repository` and tags it with `tags`. Of an index, with `platform` only the image for it,
    /// which then is what is tagged; without, all. Returns the digest of what was tagged. What is there already is not fetched again.
    pub async fn pull(
        &self,
        reference: &Reference,
        registry: &Registry,
        repository: &str,
        tags: &[&str],
        platform: Option<&Platform>,
    ) -> Result<Digest> {
        let mut manifest = self.manifest(reference).await?;
        if let Some(platform) = platform {
            manifest = self.narrow(reference, manifest, platform).await?;
        }
        self.bring(reference, registry, repository, tags, manifest, 0).await
    }

    /// The image for the platform, if the manifest is an index.
    async fn narrow(&self, reference: &Reference, mut manifest: Manifest, platform: &Platform) -> Result<Manifest> {
        for _ in 0..4 {
            if media::shape(&manifest.media_type) != Some(media::Shape::Index) {
                return Ok(manifest);
            }
            let chosen = crate::registry::choose(&manifest.content, platform).ok_or_else(|| {
                Error::new(
                    Kind::ManifestUnknown,
                    format!("{reference} has no image for {}/{}", platform.os, platform.architecture),
                )
            })?;
            manifest = self.manifest(&reference.pinned(chosen)).await?;
        }
        Err(Error::new(Kind::ManifestInvalid, format!("{reference} nests indexes too deep")))
    }

    async fn bring(
        &self,
        reference: &Reference,
        registry: &Registry,
        repository: &str,
        tags: &[&str],
        manifest: Manifest,
        depth: usize,
    ) -> Result<Digest> {
        if depth > 4 {
            return Err(Error::new(Kind::ManifestInvalid, format!("{reference} nests indexes too deep")));
        }
        let (document, media_type) = Document::parse(&manifest.media_type, &manifest.content)?;
        for blob in document.contents() {
            self.bring_blob(reference, registry, blob).await?;
        }
        for child in document.children() {
            let known = registry.find_manifest(repository, &ManifestRef::Digest(child.digest.clone())).await;
            if known.is_ok() {
                continue;
            }
            if media::shape(&child.media_type).is_some() {
                let inner = self.manifest(&reference.pinned(child.digest.clone())).await?;
                Box::pin(self.bring(reference, registry, repository, &[], inner, depth + 1)).await?;
            } else {
                self.bring_blob(reference, registry, child).await?;
                registry.link_blob(repository, &child.digest).await?;
            }
        }
        let pushed =
            registry.put_loaded(repository, tags, &manifest.digest, &media_type, manifest.content.clone()).await?;
        Ok(pushed.digest)
    }

    async fn bring_blob(&self, reference: &Reference, registry: &Registry, named: &Descriptor) -> Result<()> {
        if media::nondistributable(&named.media_type) || registry.blobs().size(&named.digest).await?.is_some() {
            return Ok(());
        }
        let chunks = self.blob(reference, &named.digest).await?;
        registry.store_stream(Bounded { chunks, rest: named.size }.stream(), Some(&named.digest)).await?;
        Ok(())
    }
}

/// Content that ends with an error when it has more bytes than its descriptor says.
struct Bounded<S> {
    chunks: S,
    rest: u64,
}

impl<S> Bounded<S>
where
    S: futures::Stream<Item = Result<bytes::Bytes>> + Send + Unpin,
{
    fn stream(self) -> impl futures::Stream<Item = Result<bytes::Bytes>> + Send + Unpin {
        use futures::StreamExt;
        let mut rest = self.rest;
        self.chunks.map(move |chunk| {
            let chunk = chunk?;
            rest = rest
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| Error::new(Kind::SizeInvalid, "a blob has more bytes than the manifest says"))?;
            Ok(chunk)
        })
    }
}
