use serde::{Deserialize, Serialize};

use crate::{CommitId, Digest, Record, RunId, Timestamp};

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    pub digest: Digest,
    /// Bytes as stored (compressed).
    pub size: u64,
    /// The instruction that made it.
    pub created_by: String,
}

/// An image that a run built and pushed into the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub run: RunId,
    pub commit: CommitId,
    /// The repository in Shipway's registry, for example `journal/frontend`.
    pub repository: String,
    pub tag: String,
    /// The digest of the manifest: what is deployed.
    pub digest: Digest,
    /// Bytes of all layers as stored.
    pub size: u64,
    pub layers: Vec<ImageLayer>,
    /// What every `FROM` resolved to, as `name@digest`.
    pub bases: Vec<String>,
    pub built_at: Timestamp,
}

impl Record for Image {
    const KIND: &'static str = "image";
    fn key(&self) -> String {
        format!("{}/{}", self.run.key(), self.repository)
    }
}
