//! How evidence lies in the registry: manifests with a subject, their annotations, and reading them back with every digest checked.

use std::collections::BTreeMap;

use bytes::Bytes;
use image::{
    Registry,
    registry::{Attachment, Descriptor, Document},
};
use records::{Digest, EvidenceKind};
use serde_json::json;

use crate::error::{Error, Kind, Result};

/// When it was made (OCI image specification).
pub const CREATED: &str = "org.opencontainers.image.created";
/// The kind of evidence.
pub const KIND: &str = "dev.shipway.evidence.kind";
/// A digest over everything that the evidence was made from: the same inputs are not attached twice.
pub const INPUTS: &str = "dev.shipway.evidence.inputs";

/// An attached document may have so many bytes.
pub const LIMIT: u64 = 128 << 20;

/// A kind of evidence as annotations write it.
pub fn kind_name(kind: EvidenceKind) -> &'static str {
    match kind {
        EvidenceKind::Sbom => "sbom",
        EvidenceKind::Vulnerabilities => "vulnerabilities",
        EvidenceKind::Provenance => "provenance",
        EvidenceKind::Signature => "signature",
    }
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        let kind = match error.kind {
            image::Kind::ManifestUnknown | image::Kind::BlobUnknown | image::Kind::NameUnknown => Kind::NotFound,
            image::Kind::Store(store::Kind::NotFound) => Kind::NotFound,
            image::Kind::ManifestInvalid | image::Kind::NameInvalid => Kind::Invalid,
            _ => Kind::Io,
        };
        Self::new(kind, error.message.clone()).caused(error)
    }
}

/// A manifest of `repository`, after its bytes were found to have its digest.
pub async fn manifest(registry: &Registry, repository: &str, digest: &Digest) -> Result<Document> {
    let (info, content) = registry.manifest(repository, digest).await?;
    if image::hash::digest(image::Algorithm::of(digest), &content) != *digest {
        return Err(Error::invalid(format!(
            "the content of manifest {digest} in {repository} is not what its digest says"
        )));
    }
    let (document, _) = Document::parse(&info.media_type, &content)?;
    Ok(document)
}

/// The content of a blob of `repository`, after it was found to have its digest and size.
pub async fn blob(registry: &Registry, repository: &str, blob: &Descriptor) -> Result<Bytes> {
    let digest = &blob.digest;
    if registry.blob_size(repository, digest).await?.is_none() {
        return Err(Error::new(Kind::NotFound, format!("blob {digest} is not in {repository}")));
    }
    let content = store::blobs::get(&**registry.blobs(), digest, LIMIT).await?;
    if content.len() as u64 != blob.size || image::hash::digest(image::Algorithm::of(digest), &content) != *digest {
        return Err(Error::invalid(format!(
            "the content of blob {digest} in {repository} is not what its digest says"
        )));
    }
    Ok(content)
}

/// The only layer of an attached artifact, which must be of the type `media_type`.
pub fn only_layer<'a>(document: &'a Document, media_type: &str) -> Result<&'a Descriptor> {
    match document.layers.as_deref() {
        Some([layer]) if layer.media_type == media_type => Ok(layer),
        _ => Err(Error::invalid(format!("the manifest has not exactly one layer of type {media_type}"))),
    }
}

/// One layer without annotations.
pub fn layer(media_type: &str, content: Vec<u8>) -> Attachment {
    Attachment { media_type: media_type.to_owned(), content: content.into(), annotations: BTreeMap::new() }
}

/// What a manifest that is found by a tag says besides its layers.
pub struct Tagged<'a> {
    pub tag: &'a str,
    pub artifact_type: Option<&'a str>,
    /// With it, the manifest is a referrer as well.
    pub subject: Option<&'a Digest>,
    pub annotations: &'a BTreeMap<String, String>,
}

/// Pushes a manifest under a tag, in the form in which cosign's older clients read it.
pub async fn put_tagged(
    registry: &Registry,
    repository: &str,
    of: Tagged<'_>,
    layers: Vec<Attachment>,
) -> Result<Digest> {
    let mut descriptors = Vec::with_capacity(layers.len());
    let mut diff_ids = Vec::with_capacity(layers.len());
    for layer in layers {
        let stored = registry.store(layer.content).await?;
        diff_ids.push(stored.digest.clone());
        let mut descriptor = json!({ "mediaType": layer.media_type, "digest": stored.digest, "size": stored.size });
        if !layer.annotations.is_empty() {
            descriptor["annotations"] = json!(layer.annotations);
        }
        descriptors.push(descriptor);
    }
    // Older clients read the manifest as that of an image, with a configuration that lists the layers.
    let config = json!({
        "architecture": "", "created": "0001-01-01T00:00:00Z", "history": diff_ids.iter().map(|_| json!({ "created": "0001-01-01T00:00:00Z" })).collect::<Vec<_>>(),
        "os": "", "rootfs": { "type": "layers", "diff_ids": diff_ids }, "config": {},
    });
    let config = registry.store(config.to_string()).await?;
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": image::media::OCI_MANIFEST,
        "config": { "mediaType": image::media::OCI_CONFIG, "digest": config.digest, "size": config.size },
        "layers": descriptors,
    });
    if let Some(artifact_type) = of.artifact_type {
        manifest["artifactType"] = json!(artifact_type);
    }
    if let Some(subject) = of.subject {
        let Some(info) = registry.manifest_info(repository, subject).await? else {
            return Err(Error::new(Kind::NotFound, format!("image {repository}@{subject} is not in the registry")));
        };
        manifest["subject"] = json!({ "mediaType": info.media_type, "digest": subject, "size": info.size });
    }
    if !of.annotations.is_empty() {
        manifest["annotations"] = json!(of.annotations);
    }
    let pushed = registry.put_image(repository, &[of.tag], image::media::OCI_MANIFEST, manifest.to_string()).await?;
    Ok(pushed.digest)
}
