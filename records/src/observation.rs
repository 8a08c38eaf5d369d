use serde::{Deserialize, Serialize};

use crate::{Record, ReleaseId, Timestamp};

/// What was seen of a release while it rolled out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub release: ReleaseId,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Requests that people sent to the release's services through Shipway's port.
    pub requests: u64,
    /// Requests that were answered with 5xx or not at all.
    pub failed: u64,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
}

impl Record for Observation {
    const KIND: &'static str = "observation";
    fn key(&self) -> String {
        self.release.key()
    }
}
