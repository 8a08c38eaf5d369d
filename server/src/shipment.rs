//! A release together with its rollout: what people mean by "the release".

use records::{Decision, Release, Rollout, RolloutState};
use serde::{Deserialize, Serialize};

/// A release and how far it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shipment {
    pub release: Release,
    pub rollout: Option<Rollout>,
}

impl Shipment {
    /// One word on where it is.
    pub fn state(&self) -> &'static str {
        match (&self.release.decision, &self.rollout) {
            (Decision::Refused { .. }, _) => "refused",
            (_, Some(rollout)) => rollout.state.name(),
            (_, None) => "pending",
        }
    }

    /// One line on where it is.
    pub fn sentence(&self) -> String {
        let id = &self.release.id;
        match (&self.release.decision, self.rollout.as_ref().map(|r| &r.state)) {
            (Decision::Refused { reasons, .. }, _) => format!("release {id} was refused: {}", reasons.join("; ")),
            (_, None | Some(RolloutState::Pending)) => format!("release {id} waits to be applied"),
            (_, Some(RolloutState::Progressing { ready, wanted, .. })) => {
                format!("release {id}: {ready} of {wanted} replicas are ready")
            }
            (_, Some(RolloutState::Complete { .. })) => {
                format!("release {id} is complete: commit {}", self.release.commit.short())
            }
            (_, Some(RolloutState::Failed { reason, .. })) => format!("release {id} failed: {reason}"),
            (_, Some(RolloutState::Superseded { by, .. })) => format!("release {id} was superseded by {by}"),
        }
    }
}
