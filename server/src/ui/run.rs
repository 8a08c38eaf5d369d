//! One run: its graph, logs, tests, and what it left.

use askama::Template;
use axum::{
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use records::{Artifact, Commit, Digest, Image, Name, Release, Run, RunId, RunState, TestSummary};

use super::{
    Page, Shared,
    commits::Commits,
    filters,
    graph::{HEIGHT, WIDTH},
    page,
    project::took,
};
use crate::{
    app::App,
    fault::{Fault, Result},
    shipment::Shipment,
};

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    run: Run,
    commit: Option<Commit>,
    took: String,
    reason: Option<String>,
    tests: TestSummary,
    artifacts: Vec<(String, Artifact)>,
    images: Vec<Image>,
    releases: Vec<Shipment>,
}

pub async fn run(State(app): Shared, Path((project, build)): Path<(Name, u64)>) -> Page {
    page(async {
        let id = RunId { project, build };
        let run = app.run(&id).await?;
        let commit = Commits::new(&app, &id.project).get(&run.commit).await?;
        let reason = match &run.state {
            RunState::Failed { reason, .. } => Some(reason.clone()),
            RunState::Cancelled { by, .. } => Some(format!("cancelled by {by}")),
            _ => None,
        };
        let artifacts =
            run.steps.iter().flat_map(|s| s.artifacts.iter().map(|a| (s.name.clone(), a.clone()))).collect();
        let images = app.newest_first::<Image>(&format!("{}/", id.key())).await?;
        let releases = releases(&app, &run).await?;
        let (took, tests) = (took(&run.state), run.tests());
        Ok(RunPage { run, commit, took, reason, tests, artifacts, images, releases })
    })
    .await
}

/// What the run brought into environments.
async fn releases(app: &App, run: &Run) -> Result<Vec<Shipment>> {
    let mut all = Vec::new();
    for release in app.newest_first::<Release>(&format!("{}/", run.id.project)).await? {
        if release.run == run.id {
            let rollout = app.records.get(&release.id.key()).await?.map(|found| found.record);
            all.push(Shipment { release, rollout });
        }
    }
    Ok(all)
}

/// An artifact of a run. It is content that the project made, so a browser only downloads it.
pub async fn artifact(
    State(app): Shared,
    Path((project, build, digest, path)): Path<(Name, u64, Digest, String)>,
) -> Result<Response> {
    let run = app.run(&RunId { project, build }).await?;
    let known = run.steps.iter().flat_map(|step| &step.artifacts).any(|a| a.digest == digest && a.path == path);
    if !known {
        return Err(Fault::not_found(format!("run {} has no artifact {path}", run.id)));
    }
    let body = Body::from_stream(tokio_util::io::ReaderStream::new(app.blobs.read(&digest, 0, None).await?));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, body).into_response())
}
