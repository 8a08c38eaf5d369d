use serde::{Deserialize, Serialize};

use crate::{CommitId, Digest, Environment, Record, ReleaseId, RunId, Timestamp};

/// An image that a release puts in place of a name in the manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedImage {
    pub repository: String,
    pub digest: Digest,
}

/// Why a release was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Cause {
    /// A run passed.
    Run,
    /// The release `of` failed and the one before it comes back.
    Rollback { of: ReleaseId },
    /// A person asked for an earlier release.
    Undo { by: String, to: ReleaseId },
}

/// What the environment's policy says of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Decision {
    /// It may run.
    Admitted { at: Timestamp },
    /// It may not, and these are the reasons, each a sentence.
    Refused { at: Timestamp, reasons: Vec<String> },
}

/// What one environment is to run: rendered manifests with every image by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub id: ReleaseId,
    pub run: RunId,
    pub commit: CommitId,
    pub environment: Environment,
    pub images: Vec<ReleasedImage>,
    /// The blob that holds the objects to apply: a JSON array of Kubernetes objects.
    pub manifests: Digest,
    pub cause: Cause,
    pub decision: Decision,
    pub created_at: Timestamp,
}

impl Record for Release {
    const KIND: &'static str = "release";
    fn key(&self) -> String {
        self.id.key()
    }
}
