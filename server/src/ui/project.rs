//! One project: its environments, runs and images.

use askama::Template;
use axum::extract::{Path, State};
use records::{Image, Name, Run, RunState};

use super::{Page, Shared, commits::Commits, filters, home::newest_shipments, page};
use crate::{cli::exact, shipment::Shipment};

#[derive(Template)]
#[template(path = "project.html")]
struct ProjectPage {
    name: Name,
    branch: String,
    git: String,
    environments: Vec<(Name, Shipment)>,
    runs: Vec<RunRow>,
    /// Older runs that are not shown.
    older: usize,
    images: Vec<Image>,
}

struct RunRow {
    run: Run,
    subject: String,
    tests: String,
    took: String,
}

/// Rows of a table on this page.
const ROWS: usize = 50;

pub async fn project(State(app): Shared, Path(name): Path<Name>) -> Page {
    page(async {
        let branch = app.project(&name).await?.default_branch;
        let all = app.runs(&name).await?;
        let older = all.len().saturating_sub(ROWS);
        let commits = Commits::new(&app, &name);
        let mut runs = Vec::new();
        for run in all.into_iter().take(ROWS) {
            let tests = run.tests();
            let tests = match (tests.passed, tests.failed) {
                (0, 0) => "–".to_owned(),
                (passed, 0) => format!("{passed} passed"),
                (passed, failed) => format!("{failed} of {} failed", passed + failed),
            };
            runs.push(RunRow { subject: commits.subject(&run.commit).await?, tests, took: took(&run.state), run });
        }
        let mut images = app.images(&name).await?;
        images.truncate(ROWS);
        let git = format!("http://{}/git/{name}.git", app.rooms.address());
        let environments = newest_shipments(&app, &name).await?;
        Ok(ProjectPage { name, branch, git, environments, runs, older, images })
    })
    .await
}

/// How long a run took that has ended; empty for others.
pub fn took(state: &RunState) -> String {
    match state {
        RunState::Passed { since, at } | RunState::Failed { since, at, .. } => exact(*since, *at),
        RunState::Queued | RunState::Running { .. } | RunState::Cancelled { .. } => String::new(),
    }
}
