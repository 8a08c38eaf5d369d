use serde::{Deserialize, Serialize};

use crate::{Name, Record, Timestamp};

/// A repository and everything that becomes of its commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub name: Name,
    /// The branch whose commits are run and released.
    pub default_branch: String,
    pub created_at: Timestamp,
}

impl Record for Project {
    const KIND: &'static str = "project";
    fn key(&self) -> String {
        self.name.to_string()
    }
}
