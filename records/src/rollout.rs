use serde::{Deserialize, Serialize};

use crate::{IllegalTransition, Record, ReleaseId, Timestamp};

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RolloutState {
    /// Written down; nothing has been applied.
    Pending,
    /// The manifests are with the cluster and its workloads are being replaced.
    Progressing {
        since: Timestamp,
        /// Replicas of the new release that are ready, of all its workloads.
        ready: u32,
        wanted: u32,
        /// When `ready` last grew.
        progressed_at: Timestamp,
    },
    /// Every workload runs the release and is ready.
    Complete { at: Timestamp },
    /// It did not become ready; `reason` is one sentence. `back_to` is the release that was brought back, if there was one.
    Failed { at: Timestamp, reason: String, back_to: Option<ReleaseId> },
    /// A newer release of the environment took its place before it ended.
    Superseded { at: Timestamp, by: ReleaseId },
}

impl RolloutState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Progressing { .. } => "progressing",
            Self::Complete { .. } => "complete",
            Self::Failed { .. } => "failed",
            Self::Superseded { .. } => "superseded",
        }
    }

    pub fn ended(&self) -> bool {
        matches!(self, Self::Complete { .. } | Self::Failed { .. } | Self::Superseded { .. })
    }
}

/// A release on its way into its environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub release: ReleaseId,
    pub state: RolloutState,
    pub created_at: Timestamp,
}

impl Rollout {
    pub fn new(release: ReleaseId, now: Timestamp) -> Self {
        Self { release, state: RolloutState::Pending, created_at: now }
    }

    /// Moves to `next`; an ended rollout stays as it ended, and nothing goes back to pending.
    pub fn become_state(self, next: RolloutState) -> Result<Self, IllegalTransition> {
        if self.state.ended() || matches!(next, RolloutState::Pending) {
            return Err(IllegalTransition {
                record: format!("rollout {}", self.release),
                from: self.state.name(),
                to: next.name(),
            });
        }
        Ok(Self { state: next, ..self })
    }
}

impl Record for Rollout {
    const KIND: &'static str = "rollout";
    fn key(&self) -> String {
        self.release.key()
    }
}
