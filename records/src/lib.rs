//! What is written down about a commit on its way to running software.
//!
//! One file a record, in the order of the chain: [`Commit`] → [`Run`] → [`Image`] → [`Evidence`] → [`Release`] →
//! [`Rollout`] → [`Observation`]. Each record names its predecessor, so the provenance of anything that runs is a walk
//! back along the chain. This crate does no I/O, knows no clock and is not async: `now` is always an argument.

pub mod commit;
pub mod digest;
pub mod environment;
pub mod evidence;
pub mod id;
pub mod image;
pub mod labels;
pub mod observation;
pub mod project;
pub mod release;
pub mod rollout;
pub mod run;

pub use commit::{Commit, Person};
pub use digest::Digest;
pub use environment::{Environment, OnFailure, Policy, Strategy};
pub use evidence::{Evidence, EvidenceDetail, EvidenceKind, Finding, Severity};
pub use id::{CommitId, InvalidName, Name, ReleaseId, RunId};
pub use image::{Image, ImageLayer};
pub use observation::Observation;
pub use project::Project;
pub use release::{Cause, Decision, Release, ReleasedImage};
pub use rollout::{Rollout, RolloutState};
pub use run::{Artifact, Run, RunState, StepKind, StepRun, StepState, TestSummary};

pub use jiff::Timestamp;

use serde::{Serialize, de::DeserializeOwned};

/// Something that is kept in the log under a kind and a key.
///
/// The key is a path of segments separated by `/`; records that belong together share a prefix.
pub trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name of the stream in the log, for example `run`.
    const KIND: &'static str;
    /// The key within the kind; stable for the life of the record.
    fn key(&self) -> String;
}

/// A transition that the state a record is in does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record} is {from} and cannot become {to}")]
pub struct IllegalTransition {
    /// What was to change, for example `run journal/3`.
    pub record: String,
    /// The state that it is in.
    pub from: &'static str,
    /// The state that was asked for.
    pub to: &'static str,
}
