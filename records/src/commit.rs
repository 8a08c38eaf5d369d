use serde::{Deserialize, Serialize};

use crate::{CommitId, Name, Record, Timestamp};

/// Who wrote a commit, as git has it: not verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub name: String,
    pub email: String,
}

/// A commit that arrived on a branch of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub project: Name,
    pub id: CommitId,
    pub branch: String,
    pub parent: Option<CommitId>,
    pub author: Person,
    /// The first line of the message.
    pub subject: String,
    pub committed_at: Timestamp,
    pub received_at: Timestamp,
}

impl Record for Commit {
    const KIND: &'static str = "commit";
    fn key(&self) -> String {
        format!("{}/{}", self.project, self.id)
    }
}
