//! in-toto statements (<https://github.com/in-toto/attestation>, v1): a predicate about an artifact that is named by its digest.

use std::collections::BTreeMap;

use records::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, Result, clip};

/// The `_type` of a statement.
pub const TYPE: &str = "https://in-toto.io/Statement/v1";

/// The media type of a statement, which DSSE signs along with it.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The predicate of cosign's signatures in Sigstore bundles: that the image is signed, and nothing more.
pub const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// The predicate of a CycloneDX document.
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement<P> {
    #[serde(rename = "_type")]
    pub kind: String,
    pub subject: Vec<Subject>,
    pub predicate_type: String,
    pub predicate: P,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    #[serde(default)]
    pub name: String,
    /// Algorithm → hex.
    pub digest: BTreeMap<String, String>,
}

impl<P> Statement<P> {
    /// A statement about the image `digest` of `repository`.
    pub fn about(repository: &str, digest: &Digest, predicate_type: &str, predicate: P) -> Self {
        Self {
            kind: TYPE.into(),
            subject: vec![Subject { name: repository.into(), digest: digests(digest) }],
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    /// Whether it speaks of `digest` and of nothing else.
    pub fn is_about(&self, digest: &Digest) -> bool {
        let is = |subject: &Subject| subject.digest.get(digest.algorithm()).is_some_and(|hex| hex == digest.hex());
        !self.subject.is_empty() && self.subject.iter().all(is)
    }
}

impl<P: DeserializeOwned> Statement<P> {
    /// Reads a statement.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let read: Self = serde_json::from_slice(payload).map_err(|e| {
            Error::invalid(format!("the payload is not an in-toto statement: {}", clip(&e.to_string(), 200)))
        })?;
        if read.kind != TYPE {
            return Err(Error::invalid(format!(
                "the statement has the type `{}`, expected {TYPE}",
                clip(&read.kind, 100)
            )));
        }
        Ok(read)
    }
}

/// A digest as in-toto writes it.
pub fn digests(digest: &Digest) -> BTreeMap<String, String> {
    BTreeMap::from([(digest.algorithm().to_owned(), digest.hex().to_owned())])
}
