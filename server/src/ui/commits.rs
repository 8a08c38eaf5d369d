//! What is known of commits, for pages that name them.

use records::{Commit, CommitId, Name};

use crate::{app::App, fault::Result};

/// The commits of a project.
pub struct Commits<'a> {
    app: &'a App,
    project: &'a Name,
}

impl<'a> Commits<'a> {
    pub fn new(app: &'a App, project: &'a Name) -> Self {
        Self { app, project }
    }

    pub async fn get(&self, id: &CommitId) -> Result<Option<Commit>> {
        let found = self.app.records.get::<Commit>(&format!("{}/{id}", self.project)).await?;
        Ok(found.map(|found| found.record))
    }

    /// The first line of the message; empty for a commit that is not recorded.
    pub async fn subject(&self, id: &CommitId) -> Result<String> {
        Ok(self.get(id).await?.map(|commit| commit.subject).unwrap_or_default())
    }
}
