//! Where releases go and what they must bring: the `deploy` and `verify` parts of a pipeline file, after parsing.

use serde::{Deserialize, Serialize};

use crate::{EvidenceKind, Name, Severity};

/// An environment of a project, as the pipeline file of a commit describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub name: Name,
    pub namespace: Name,
    /// The environment in which a release must be complete before it may come here.
    pub after: Option<Name>,
    /// The groups of which one must approve; empty means that nobody has to.
    pub approve: Vec<String>,
    pub policy: Policy,
    pub strategy: Strategy,
    pub on_failure: OnFailure,
    /// Seconds without progress after which a rollout has failed.
    pub progress_deadline_s: u64,
}

/// What an image must bring to run in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The kinds of evidence without which nothing runs.
    pub require: Vec<EvidenceKind>,
    /// The severity from which a finding (without a VEX statement against it) refuses the image.
    pub fail_on: Option<Severity>,
    /// SPDX identifiers of licences that refuse the image.
    pub deny_licences: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { require: EvidenceKind::ALL.to_vec(), fail_on: Some(Severity::High), deny_licences: Vec::new() }
    }
}

/// How a release replaces the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Strategy {
    /// What the Deployment's own `strategy` says.
    #[default]
    Rolling,
    Recreate,
}

/// What happens when a rollout fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Back to the last release that was complete.
    #[default]
    Rollback,
    /// Left as it is, for a person to look at.
    Pause,
}
