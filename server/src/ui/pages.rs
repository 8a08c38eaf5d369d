//! What each page shows.

use std::sync::Arc;

use askama::Template;
use axum::{
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use records::{
    Artifact, Cause, Commit, Decision, Digest, Evidence, EvidenceDetail, Finding, Image, Name, Project, Release,
    Rollout, RolloutState, Run, RunId, RunState, StepRun, TestSummary, Timestamp,
};

use super::{Page, filters};
use crate::{
    app::App,
    cli::{ago, duration},
    fault::{Fault, Result},
    shipment::Shipment,
    trace::Trace,
};

type Shared = State<Arc<App>>;

/// A handler's result as a page.
async fn page<T: Template>(made: impl Future<Output = Result<T>>) -> Page {
    match made.await {
        Ok(template) => Page::render(&template),
        Err(fault) => fault.into(),
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    projects: Vec<ProjectRow>,
}

struct ProjectRow {
    name: Name,
    run: Option<Run>,
    environments: Vec<(Name, Shipment)>,
}

pub async fn home(State(app): Shared) -> Page {
    page(async {
        let mut projects = Vec::new();
        for found in app.records.list::<Project>("").await? {
            let name = found.record.name;
            let run = app.runs(&name).await?.into_iter().next();
            let environments = newest_shipments(&app, &name).await?;
            projects.push(ProjectRow { name, run, environments });
        }
        Ok(Home { projects })
    })
    .await
}

/// The newest release of each environment of a project.
async fn newest_shipments(app: &App, project: &Name) -> Result<Vec<(Name, Shipment)>> {
    let mut newest = std::collections::BTreeMap::new();
    for release in app.newest_first::<Release>(&format!("{project}/")).await? {
        newest.entry(release.id.environment.clone()).or_insert(release);
    }
    let mut all = Vec::new();
    for (environment, release) in newest {
        let rollout = app.records.get::<Rollout>(&release.id.key()).await?.map(|found| found.record);
        all.push((environment, Shipment { release, rollout }));
    }
    Ok(all)
}

#[derive(Template)]
#[template(path = "project.html")]
struct ProjectPage {
    name: Name,
    git: String,
    environments: Vec<(Name, Shipment)>,
    runs: Vec<RunRow>,
    images: Vec<Image>,
}

struct RunRow {
    run: Run,
    subject: String,
    tests: String,
    took: String,
    age: String,
}

pub async fn project(State(app): Shared, Path(name): Path<Name>) -> Page {
    page(async {
        app.project(&name).await?;
        let mut runs = Vec::new();
        for run in app.runs(&name).await?.into_iter().take(50) {
            let tests = run.tests();
            let tests = match tests.passed + tests.failed {
                0 => "–".to_owned(),
                _ => format!("{} of {}", tests.passed, tests.passed + tests.failed),
            };
            let (subject, _) = who(&app, &run).await?;
            let age = ago(run.created_at, app.now());
            runs.push(RunRow { subject, tests, took: took(&run.state, app.now()), age, run });
        }
        let mut images = app.images(&name).await?;
        images.truncate(50);
        let git = format!("http://{}/git/{name}.git", app.rooms.address());
        let environments = newest_shipments(&app, &name).await?;
        Ok(ProjectPage { name, git, environments, runs, images })
    })
    .await
}

/// Subject and author of a run's commit.
async fn who(app: &App, run: &Run) -> Result<(String, String)> {
    let commit = app.records.get::<Commit>(&format!("{}/{}", run.id.project, run.commit)).await?;
    Ok(commit.map(|found| (found.record.subject, found.record.author.name)).unwrap_or_default())
}

fn took(state: &RunState, now: Timestamp) -> String {
    let (since, at) = match state {
        RunState::Running { since } => (since, &now),
        RunState::Passed { since, at } | RunState::Failed { since, at, .. } => (since, at),
        RunState::Queued | RunState::Cancelled { .. } => return String::new(),
    };
    duration(at.duration_since(*since).as_secs())
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    run: Run,
    subject: String,
    author: String,
    took: String,
    reason: Option<String>,
    columns: Vec<Vec<StepRun>>,
    tests: TestSummary,
    artifacts: Vec<(String, Artifact)>,
    images: Vec<Image>,
}

pub async fn run(State(app): Shared, Path((project, build)): Path<(Name, u64)>) -> Page {
    page(async {
        let id = RunId { project, build };
        let run = app.run(&id).await?;
        let (subject, author) = who(&app, &run).await?;
        let reason = match &run.state {
            RunState::Failed { reason, .. } => Some(reason.clone()),
            RunState::Cancelled { by, .. } => Some(format!("cancelled by {by}")),
            _ => None,
        };
        let artifacts =
            run.steps.iter().flat_map(|s| s.artifacts.iter().map(|a| (s.name.clone(), a.clone()))).collect();
        let images = app.newest_first::<Image>(&format!("{}/", id.key())).await?;
        let (took, tests, columns) = (took(&run.state, app.now()), run.tests(), columns(&run.steps));
        Ok(RunPage { run, subject, author, took, reason, columns, tests, artifacts, images })
    })
    .await
}

/// Steps by how many others have to end before them: what stands in one column could run at the same time.
fn columns(steps: &[StepRun]) -> Vec<Vec<StepRun>> {
    let mut depth = vec![0usize; steps.len()];
    // Names that a step needs always end before it, so as many rounds as there are steps are enough.
    for _ in 0..steps.len() {
        for (at, step) in steps.iter().enumerate() {
            let needed = steps.iter().enumerate().filter(|(_, other)| step.needs.contains(&other.name));
            depth[at] = needed.map(|(before, _)| depth[before] + 1).max().unwrap_or(0).min(steps.len());
        }
    }
    let mut columns: Vec<Vec<StepRun>> = Vec::new();
    for (step, depth) in steps.iter().zip(depth) {
        columns.resize_with(columns.len().max(depth + 1), Vec::new);
        columns[depth].push(step.clone());
    }
    columns
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

#[derive(Template)]
#[template(path = "environment.html")]
struct EnvironmentPage {
    project: Name,
    environment: Name,
    newest: Option<Shipment>,
    rows: Vec<ReleaseRow>,
    pods: Vec<PodRow>,
}

struct ReleaseRow {
    shipment: Shipment,
    cause: String,
    age: String,
    note: String,
    may_return: bool,
}

/// A pod of an environment.
pub struct PodRow {
    pub namespace: String,
    pub name: String,
    pub phase: String,
    pub ready: bool,
    pub image: String,
}

pub async fn environment(State(app): Shared, Path((project, environment)): Path<(Name, Name)>) -> Page {
    page(async {
        app.project(&project).await?;
        let all = app.shipments(&project, &environment).await?;
        let newest = all.first().cloned();
        let pods = match &newest {
            Some(newest) => app.rooms.pods(newest.release.environment.namespace.as_str()).await?,
            None => Vec::new(),
        };
        let row = |(at, shipment): (usize, Shipment)| {
            let release = &shipment.release;
            let cause = match &release.cause {
                Cause::Run => format!("run {}", release.run.build),
                Cause::Rollback { of } => format!("went back from {}", of.number),
                Cause::Undo { by, to } => format!("{} brought back by {by}", to.number),
            };
            let note = match (&release.decision, shipment.rollout.as_ref().map(|rollout| &rollout.state)) {
                (Decision::Refused { reasons, .. }, _) => reasons.join("; "),
                (_, Some(RolloutState::Failed { reason, .. })) => reason.clone(),
                _ => String::new(),
            };
            let may_return = at > 0 && shipment.state() == "complete";
            ReleaseRow { cause, age: ago(release.created_at, app.now()), note, may_return, shipment }
        };
        let rows = all.into_iter().take(50).enumerate().map(row).collect();
        Ok(EnvironmentPage { project, environment, newest, rows, pods })
    })
    .await
}

#[derive(Template)]
#[template(path = "image.html")]
struct ImagePage {
    repository: String,
    digest: Digest,
    image: Option<Image>,
    evidence: Vec<EvidenceRow>,
    findings: Vec<Finding>,
    releases: Vec<Shipment>,
}

struct EvidenceRow {
    kind: &'static str,
    says: String,
    referrer: Digest,
}

pub async fn image(State(app): Shared, Path(name): Path<String>) -> Page {
    page(async {
        let missing = || Fault::not_found(format!("{name} names no image")).hint("write REPOSITORY@sha256:…");
        let (repository, digest) = name.split_once('@').ok_or_else(missing)?;
        let digest: Digest = digest.parse().map_err(|_| missing())?;
        let images: Vec<Image> = app.newest_first("").await?;
        let image = images.into_iter().find(|image| image.digest == digest && image.repository == repository);
        if image.is_none() && !app.rooms.has_image(repository, &digest).await? {
            return Err(Fault::not_found(format!("the registry has no {name}")));
        }
        let all: Vec<Evidence> = app.newest_first(&format!("{digest}/")).await?;
        let mut findings = Vec::new();
        let mut evidence = Vec::new();
        for piece in all {
            evidence.push(EvidenceRow {
                kind: piece.detail.kind().title(),
                says: says(&piece.detail),
                referrer: piece.referrer,
            });
            if let EvidenceDetail::Vulnerabilities { findings: found, .. } = piece.detail {
                findings = found;
            }
        }
        let mut releases = Vec::new();
        for release in app.newest_first::<Release>("").await? {
            if release.images.iter().any(|image| image.digest == digest) {
                let rollout = app.records.get::<Rollout>(&release.id.key()).await?.map(|found| found.record);
                releases.push(Shipment { release, rollout });
            }
        }
        Ok(ImagePage { repository: repository.to_owned(), digest, image, evidence, findings, releases })
    })
    .await
}

/// What a piece of evidence says, in a few words.
fn says(detail: &EvidenceDetail) -> String {
    match detail {
        EvidenceDetail::Sbom { components, licences } => {
            format!("{components} components, {} licences", licences.len())
        }
        EvidenceDetail::Vulnerabilities { findings, database } => {
            format!("{} findings against database {}", findings.len(), database.short())
        }
        EvidenceDetail::Provenance { builder } => format!("built by {builder}"),
        EvidenceDetail::Signature { key } => format!("signed with key {key}"),
    }
}

#[derive(Template)]
#[template(path = "trace.html")]
struct TracePage {
    trace: Trace,
}

pub async fn trace(State(app): Shared, Path(what): Path<String>) -> Page {
    page(async { Ok(TracePage { trace: crate::trace::trace(&app, &what).await? }) }).await
}

#[cfg(test)]
mod tests {
    use records::{StepKind, StepState};

    use super::*;

    fn step(name: &str, needs: &[&str]) -> StepRun {
        let needs = needs.iter().map(|need| (*need).to_owned()).collect();
        let (kind, state) = (StepKind::Step, StepState::Waiting);
        StepRun { name: name.into(), kind, needs, state, tests: None, artifacts: Vec::new() }
    }

    #[test]
    fn a_step_stands_right_of_all_that_it_needs() {
        let steps = [step("c", &["a", "b"]), step("a", &[]), step("b", &["a"]), step("d", &[])];
        let names: Vec<Vec<String>> =
            columns(&steps).into_iter().map(|column| column.into_iter().map(|s| s.name).collect()).collect();
        assert_eq!(names, [vec!["a", "d"], vec!["b"], vec!["c"]]);
    }
}
