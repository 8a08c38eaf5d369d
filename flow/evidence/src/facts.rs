//! What is known of the run that made an image: what its provenance is written from.

use records::{Commit, CommitId, Digest, Image, Run, RunId, RunState, TestSummary, Timestamp};
use serde::Serialize;

/// What is known of the run that made an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunFacts {
    pub run: RunId,
    pub commit: CommitId,
    pub source: Source,
    /// Who built it, as a URI.
    pub builder: String,
    pub started_at: Timestamp,
    /// When the image was there.
    pub finished_at: Timestamp,
    /// What every `FROM` resolved to, as `name@digest`.
    pub bases: Vec<String>,
    /// The images that steps ran in, as `name@digest`.
    pub step_images: Vec<String>,
    pub tests: TestSummary,
}

/// Where the commit and its pipeline are from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    /// For example `git+https://ship.example/git/journal.git`.
    pub uri: String,
    pub branch: String,
    /// The pipeline file, relative to the repository.
    pub pipeline: String,
    pub pipeline_digest: Digest,
}

impl RunFacts {
    /// The facts of an image, from the records of its run. Nothing in it changes when the run goes on.
    pub fn of(run: &Run, image: &Image, commit: &Commit, source: Source, builder: &str) -> Self {
        let started_at = match run.state {
            RunState::Running { since } | RunState::Passed { since, .. } | RunState::Failed { since, .. } => since,
            RunState::Queued | RunState::Cancelled { .. } => run.created_at,
        };
        Self {
            run: run.id.clone(),
            commit: commit.id.clone(),
            source,
            builder: builder.to_owned(),
            started_at,
            finished_at: image.built_at,
            bases: image.bases.clone(),
            step_images: run.resolved.iter().map(|(name, digest)| format!("{name}@{digest}")).collect(),
            tests: run.tests(),
        }
    }
}
