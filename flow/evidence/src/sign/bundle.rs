//! Sigstore bundles v0.3 (<https://github.com/sigstore/protobuf-specs>) of DSSE envelopes that a key of one's own signed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{dsse::Envelope, key::PublicKey};
use crate::error::{Error, Result, clip};

/// The media type of a bundle, also its artifact type in a registry.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Annotations of the manifest of a bundle: <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>
pub const CONTENT: &str = "dev.sigstore.bundle.content";
pub const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    pub media_type: String,
    pub verification_material: VerificationMaterial,
    pub dsse_envelope: Envelope,
}

/// The key is not in the bundle: who verifies has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationMaterial {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Hint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tlog_entries: Vec<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hint {
    #[serde(default)]
    pub hint: String,
}

impl Bundle {
    pub fn new(envelope: Envelope, key: &PublicKey) -> Self {
        Self {
            media_type: MEDIA_TYPE.into(),
            verification_material: VerificationMaterial {
                public_key: Some(Hint { hint: key.hint() }),
                tlog_entries: Vec::new(),
            },
            dsse_envelope: envelope,
        }
    }

    /// Reads a bundle with an envelope.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("the bundle cannot be read: {}", clip(why, 200)));
        let bundle: Self = serde_json::from_slice(content).map_err(|e| invalid(&e.to_string()))?;
        if bundle.media_type != MEDIA_TYPE {
            return Err(invalid(&format!("it is of type `{}`, expected {MEDIA_TYPE}", bundle.media_type)));
        }
        Ok(bundle)
    }
}
