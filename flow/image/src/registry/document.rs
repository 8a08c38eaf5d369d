//! Manifests as far as the registry reads them: what they name, and whether they hang together.

use std::collections::BTreeMap;

use base64::Engine;
use records::Digest;
use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Result, hash, media, reference::clip};

/// How many blobs or manifests one manifest may name.
const MAX_DESCRIPTORS: usize = 10_000;

/// A descriptor of the OCI image specification. Fields that the registry does not read stay in the manifest's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// A manifest: an image (configuration and layers), or an index (a list of manifests).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: Option<String>,
    #[serde(default)]
    pub artifact_type: Option<String>,
    #[serde(default)]
    pub config: Option<Descriptor>,
    #[serde(default)]
    pub layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub subject: Option<Descriptor>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Document {
    /// Reads and checks a manifest that came with `content_type` (empty when none was given). Returns it with its media type.
    pub fn parse(content_type: &str, content: &[u8]) -> Result<(Self, String)> {
        let invalid = |why: String| Error::new(Kind::ManifestInvalid, format!("the manifest is invalid: {why}"));
        let document: Self = serde_json::from_slice(content).map_err(|e| invalid(e.to_string()).caused(e))?;
        let declared = document.media_type.as_deref().filter(|declared| !declared.is_empty());
        let media_type = match (media::essence(content_type), declared) {
            ("", Some(declared)) => declared,
            ("", None) if document.manifests.is_some() => media::OCI_INDEX,
            ("", None) => media::OCI_MANIFEST,
            (sent, Some(declared)) if sent != declared => {
                return Err(invalid(format!(
                    "it was sent as `{}` but says that it is `{}`",
                    clip(sent),
                    clip(declared)
                )));
            }
            (sent, _) => sent,
        };
        let Some(shape) = media::shape(media_type) else {
            return Err(invalid(format!(
                "media type `{}` is not one of {}",
                clip(media_type),
                media::ACCEPT_MANIFESTS
            )));
        };
        let media_type = media_type.to_owned();
        if document.schema_version != 2 {
            return Err(invalid(format!("schemaVersion is {}, expected 2", document.schema_version)));
        }
        // A document that can be read both ways would be one image to one client and another to the next (CVE-2021-41190).
        match shape {
            media::Shape::Image if document.manifests.is_some() => {
                return Err(invalid("an image manifest cannot have `manifests`".into()));
            }
            media::Shape::Index if document.layers.is_some() || document.config.is_some() => {
                return Err(invalid("an index cannot have `config` or `layers`".into()));
            }
            media::Shape::Image if document.config.is_none() => return Err(invalid("it has no `config`".into())),
            media::Shape::Image if document.layers.is_none() => return Err(invalid("it has no `layers`".into())),
            media::Shape::Index if document.manifests.is_none() => return Err(invalid("it has no `manifests`".into())),
            _ => {}
        }
        if document.children().count() + document.contents().count() > MAX_DESCRIPTORS {
            return Err(invalid(format!("it names more than {MAX_DESCRIPTORS} blobs or manifests")));
        }
        for descriptor in document.children().chain(document.contents()).chain(document.subject.as_ref()) {
            check_data(descriptor).map_err(invalid)?;
        }
        Ok((document, media_type))
    }

    /// The configuration and layers.
    pub fn contents(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(self.layers.iter().flatten())
    }

    /// The manifests of an index.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().flatten()
    }

    /// The artifact type that a referrers listing shows: the manifest's own, else for an image that of its configuration.
    pub fn shown_artifact_type(&self) -> Option<String> {
        let own = self.artifact_type.as_ref().filter(|own| !own.is_empty());
        own.or(self.config.as_ref().map(|config| &config.media_type)).cloned()
    }
}

/// Embedded content must be what the descriptor says.
fn check_data(descriptor: &Descriptor) -> std::result::Result<(), String> {
    let Some(data) = &descriptor.data else { return Ok(()) };
    let content = base64::engine::general_purpose::STANDARD
        .decode(data)
        .map_err(|e| format!("the `data` of {} is not base64: {e}", descriptor.digest))?;
    let found = hash::digest(hash::Algorithm::of(&descriptor.digest), &content);
    if content.len() as u64 == descriptor.size && found == descriptor.digest {
        Ok(())
    } else {
        Err(format!("the `data` of {} is {} bytes with digest {found}", descriptor.digest, content.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> String {
        hash::digest(hash::Algorithm::Sha256, b"{}").to_string()
    }

    fn image(extra: &str) -> String {
        let config = format!(r#"{{"mediaType":"{}","digest":"{}","size":2{extra}}}"#, media::OCI_EMPTY, digest());
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#)
    }

    #[test]
    fn takes_the_type_from_the_header_the_document_or_the_shape() {
        let (document, found) = Document::parse("", image("").as_bytes()).unwrap();
        assert_eq!(found, media::OCI_MANIFEST);
        assert_eq!(document.shown_artifact_type().as_deref(), Some(media::OCI_EMPTY));
        let (_, found) =
            Document::parse("application/vnd.docker.distribution.manifest.v2+json; x=y", image("").as_bytes()).unwrap();
        assert_eq!(found, media::DOCKER_MANIFEST);
        let (document, found) = Document::parse("", br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        assert_eq!((found.as_str(), document.shown_artifact_type()), (media::OCI_INDEX, None));
    }

    #[test]
    fn refuses_documents_that_contradict_themselves() {
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX);
        let one = image("").replace(":2,\"config", ":1,\"config");
        let data = image(r#","data":"AAAA""#);
        for (content_type, text) in [
            (media::OCI_MANIFEST, index.as_str()),
            (media::OCI_INDEX, both),
            ("", both),
            ("", one.as_str()),
            ("", data.as_str()),
            ("application/json", r#"{"schemaVersion":2,"manifests":[]}"#),
            (media::OCI_MANIFEST, r#"{"schemaVersion":2}"#),
            ("", "[]"),
            ("", "{"),
            ("", ""),
        ] {
            let error = Document::parse(content_type, text.as_bytes()).unwrap_err();
            assert_eq!(error.kind, Kind::ManifestInvalid, "{text}");
        }
        assert!(Document::parse("", image(r#","data":"e30=""#).as_bytes()).is_ok());
    }
}
