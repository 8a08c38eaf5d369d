//! cosign's own signatures (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>): a simple-signing payload that
//! names the digest, and a signature of it in an annotation.

use records::Digest;
use serde::{Deserialize, Serialize};

/// The media type of the payload.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with the signature in base64.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The artifact type of signatures that are attached as referrers.
pub const ARTIFACT_TYPE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

const TYPE: &str = "cosign container image signature";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    pub critical: Critical,
    pub optional: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Critical {
    pub identity: Identity,
    pub image: Image,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    #[serde(rename = "docker-reference")]
    pub reference: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    #[serde(rename = "docker-manifest-digest")]
    pub digest: String,
}

impl Payload {
    pub fn new(repository: &str, digest: &Digest) -> Self {
        let identity = Identity { reference: repository.to_owned() };
        let image = Image { digest: digest.to_string() };
        Self { critical: Critical { identity, image, kind: TYPE.to_owned() }, optional: None }
    }

    /// Whether it is a signature of `digest`.
    pub fn is_of(&self, digest: &Digest) -> bool {
        self.critical.kind == TYPE && self.critical.image.digest == digest.as_str()
    }
}

/// The tag under which older clients look: `sha256-<hex>.sig`, `.att`.
pub fn tag(digest: &Digest, ending: &str) -> String {
    format!("{}-{}.{ending}", digest.algorithm(), digest.hex())
}
