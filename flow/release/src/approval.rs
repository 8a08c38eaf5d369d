use records::{Name, Record, RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// A member of a group said that a run may go to an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub run: RunId,
    pub environment: Name,
    pub group: String,
    pub by: String,
    pub at: Timestamp,
}

impl Record for Approval {
    const KIND: &'static str = "approval";
    fn key(&self) -> String {
        format!("{}/{}/{}", self.run.key(), self.environment, self.group)
    }
}
