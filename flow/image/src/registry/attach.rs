//! Attaching artifacts to an image: one manifest with the empty configuration whose subject is the image.

use std::collections::BTreeMap;

use bytes::Bytes;
use records::Digest;
use serde_json::json;

use super::{Descriptor, Registry};
use crate::{Error, Kind, Result, media};

/// One piece of content of an attached artifact.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub media_type: String,
    pub content: Bytes,
    pub annotations: BTreeMap<String, String>,
}

impl Registry {
    /// Attaches an artifact of type `artifact_type` to the manifest `subject` of `repository`, and returns the digest of the referrer.
    /// The same content gives the same digest, so doing it again changes nothing.
    pub async fn attach(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: &str,
        layers: Vec<Attachment>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Digest> {
        let Some(info) = self.manifest_info(repository, subject).await? else {
            return Err(Error::new(
                Kind::ManifestUnknown,
                format!("repository {repository} has no manifest {subject}"),
            ));
        };
        let empty = self.store(Bytes::from_static(b"{}")).await?;
        let mut descriptors = Vec::with_capacity(layers.len());
        for layer in layers {
            let stored = self.store(layer.content).await?;
            descriptors.push(Descriptor {
                media_type: layer.media_type,
                digest: stored.digest,
                size: stored.size,
                artifact_type: None,
                annotations: (!layer.annotations.is_empty()).then_some(layer.annotations),
                urls: None,
                data: None,
            });
        }
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": { "mediaType": media::OCI_EMPTY, "digest": empty.digest, "size": empty.size, "data": "e30=" },
            "layers": descriptors,
            "subject": { "mediaType": info.media_type, "digest": subject, "size": info.size },
        });
        if !annotations.is_empty() {
            manifest["annotations"] = json!(annotations);
        }
        let pushed = self.put_image(repository, &[], media::OCI_MANIFEST, manifest.to_string()).await?;
        Ok(pushed.digest)
    }
}
