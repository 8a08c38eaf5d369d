//! Images as those who run them or build on them need them: one platform's manifest, configuration and layers.

use bytes::Bytes;
use oci_spec::image::ImageConfiguration;
use records::Digest;
use serde::Deserialize;

use super::{Descriptor, Document, ManifestRef, Registry};
use crate::{
    Error, Kind, Result,
    media::Shape,
    oci::{self, Platform},
};

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct Found {
    /// The manifest of this platform: what is run and what is recorded.
    pub digest: Digest,
    /// What the name stands for: the same, or the index that lists it.
    pub named: Digest,
    pub media_type: String,
    pub manifest: Bytes,
    pub configuration: ImageConfiguration,
    /// Lowest first.
    pub layers: Vec<Layer>,
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// What an index says about the platform of a manifest.
#[derive(Deserialize)]
struct Choice {
    digest: Digest,
    #[serde(default)]
    platform: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Choices {
    manifests: Vec<Choice>,
}

impl Registry {
    /// The image of that name for `platform`. An index is looked through, nested ones too.
    pub async fn image(&self, repository: &str, reference: &ManifestRef, platform: &Platform) -> Result<Found> {
        let named = self.find_digest(repository, reference).await?;
        let mut digest = named.clone();
        // Indexes of indexes are allowed; nobody nests them deep.
        for _ in 0..4 {
            let (info, content) = self.manifest(repository, &digest).await?;
            let (document, media_type) = Document::parse(&info.media_type, &content)?;
            if crate::media::shape(&media_type) == Some(Shape::Image) {
                return self.assemble(repository, named, digest, media_type, content, document).await;
            }
            digest = choose(&content, platform).ok_or_else(|| {
                Error::new(
                    Kind::ManifestUnknown,
                    format!("{repository}:{reference} has no image for {}/{}", platform.os, platform.architecture),
                )
            })?;
        }
        Err(Error::new(Kind::ManifestInvalid, format!("{repository}:{reference} nests indexes too deep")))
    }

    async fn assemble(
        &self,
        repository: &str,
        named: Digest,
        digest: Digest,
        media_type: String,
        manifest: Bytes,
        document: Document,
    ) -> Result<Found> {
        let invalid = |why: &str| Error::new(Kind::ManifestInvalid, format!("image {repository}@{digest} {why}"));
        let Some(config) = &document.config else { return Err(invalid("has no configuration")) };
        if self.blob_size(repository, &config.digest).await?.is_none() {
            return Err(super::blobs::unknown(repository, &config.digest));
        }
        let content = store::blobs::get(&**self.blobs(), &config.digest, oci::MAX_CONFIG).await?;
        let configuration = oci::parse_configuration(&content)?;
        let descriptors = document.layers.unwrap_or_default();
        let diff_ids = configuration.rootfs().diff_ids();
        if diff_ids.len() != descriptors.len() {
            return Err(invalid(&format!(
                "has {} layers, but its configuration {}",
                descriptors.len(),
                diff_ids.len()
            )));
        }
        let mut layers = Vec::with_capacity(descriptors.len());
        for (descriptor, diff_id) in descriptors.into_iter().zip(diff_ids) {
            let diff_id = diff_id.parse().map_err(|_| invalid("has a diff id that is no digest"))?;
            layers.push(Layer { descriptor, diff_id });
        }
        let annotations = document.annotations.unwrap_or_default();
        Ok(Found { digest, named, media_type, manifest, configuration, layers, annotations })
    }
}

/// The manifest of an index for the platform.
pub fn choose(content: &[u8], platform: &Platform) -> Option<Digest> {
    let choices: Choices = serde_json::from_slice(content).ok()?;
    let fits = |choice: &&Choice| {
        choice
            .platform
            .as_ref()
            .is_some_and(|named| platform.runs(&named.os, &named.architecture, named.variant.as_deref()))
    };
    let chosen = choices.manifests.iter().find(fits);
    // Indexes of one image often leave out what it is for.
    let only = || match choices.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    chosen.or_else(only).map(|choice| choice.digest.clone())
}
