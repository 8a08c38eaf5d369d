//! Makes repositories for projects, and writes down what arrived in them.

use std::collections::BTreeMap;

use records::{Commit, Name, Project, Record, Timestamp};
use store::{Expect, Kind, Records};

use crate::{Error, Repositories, Result, plan};

/// The activation of this stage: run it after each push and on a period. It is idempotent.
#[derive(Clone)]
pub struct Sources {
    repositories: Repositories,
    records: Records,
}

/// What an activation did.
#[derive(Debug, Default)]
pub struct Report {
    /// Commits that were written.
    pub recorded: Vec<Commit>,
    /// Projects that could not be looked at; the others were.
    pub failed: Vec<(Name, Error)>,
}

impl Sources {
    pub fn new(repositories: Repositories, records: Records) -> Self {
        Self { repositories, records }
    }

    /// Looks at all projects.
    pub async fn activate(&self, now: Timestamp) -> Result<Report> {
        let mut report = Report::default();
        for project in self.records.list::<Project>("").await? {
            let name = project.record.name.clone();
            match self.scan(&project.record, now).await {
                Ok(recorded) => report.recorded.extend(recorded),
                Err(error) => report.failed.push((name, error)),
            }
        }
        Ok(report)
    }

    /// Looks at one project, for example after a push to it.
    pub async fn activate_project(&self, project: &Name, now: Timestamp) -> Result<Vec<Commit>> {
        let found = self.records.get::<Project>(project.as_str()).await?;
        let found = found.ok_or_else(|| Error::NoProject(project.clone()))?;
        self.scan(&found.record, now).await
    }

    async fn scan(&self, project: &Project, now: Timestamp) -> Result<Vec<Commit>> {
        // The record is there before the repository: whoever wrote it may have died in between.
        if !self.repositories.exists(&project.name) {
            match self.repositories.create(&project.name, &project.default_branch).await {
                Err(Error::Exists(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        let branches = self.repositories.branches(&project.name).await?;
        let (mut known, mut versions) = (BTreeMap::new(), BTreeMap::new());
        for branch in &branches {
            let id = &branch.commit.id;
            if known.contains_key(id) {
                continue;
            }
            if let Some(found) = self.records.get::<Commit>(&format!("{}/{id}", project.name)).await? {
                versions.insert(id.clone(), found.seq);
                known.insert(id.clone(), found.record.branch);
            }
        }
        let mut recorded = Vec::new();
        for commit in plan(&project.name, &project.default_branch, &branches, &known, now) {
            let expect = versions.get(&commit.id).map_or(Expect::Absent, |seq| Expect::Version(*seq));
            match self.records.put(&commit, expect).await {
                Ok(_) => {
                    tracing::info!(commit = commit.key(), branch = commit.branch, "a commit arrived");
                    recorded.push(commit);
                }
                // Another activation was faster.
                Err(error) if error.kind == Kind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(recorded)
    }
}
