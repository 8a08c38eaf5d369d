//! One environment: what it runs, and how that came.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use records::{Cause, Decision, Digest, Image, Name, Observation, RolloutState};

use super::{Page, Shared, commits::Commits, filters, page};
use crate::{cli::exact, shipment::Shipment};

#[derive(Template)]
#[template(path = "environment.html")]
struct EnvironmentPage {
    project: Name,
    environment: Name,
    newest: Option<Shipment>,
    /// Ready and wanted replicas while a rollout is under way.
    progress: Option<(u32, u32)>,
    /// Tags of the newest release's images, by repository.
    tags: BTreeMap<String, String>,
    rows: Vec<ReleaseRow>,
    pods: Vec<Running>,
}

/// A pod with the page of its image.
struct Running {
    pod: PodRow,
    /// Repository and digest, where the image is of this registry.
    image: Option<(String, Digest)>,
}

impl From<PodRow> for Running {
    fn from(pod: PodRow) -> Self {
        let image = pod.image.split_once('@').and_then(|(name, digest)| {
            let (_, repository) = name.split_once('/')?;
            Some((repository.to_owned(), digest.parse().ok()?))
        });
        Self { pod, image }
    }
}

struct ReleaseRow {
    shipment: Shipment,
    subject: String,
    cause: String,
    /// How long the rollout took, once it has ended.
    took: String,
    note: String,
    traffic: Option<Observation>,
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

/// Releases that are shown.
const ROWS: usize = 50;

pub async fn environment(State(app): Shared, Path((project, environment)): Path<(Name, Name)>) -> Page {
    page(async {
        app.project(&project).await?;
        let all = app.shipments(&project, &environment).await?;
        let newest = all.first().cloned();
        let (mut pods, mut tags) = (Vec::new(), BTreeMap::new());
        if let Some(newest) = &newest {
            let found = app.rooms.pods(newest.release.environment.namespace.as_str()).await?;
            pods = found.into_iter().map(Running::from).collect();
            for image in app.newest_first::<Image>(&format!("{}/", newest.release.run.key())).await? {
                tags.insert(image.repository, image.tag);
            }
        }
        let progress = match newest.as_ref().and_then(|newest| newest.rollout.as_ref()).map(|rollout| &rollout.state) {
            Some(RolloutState::Progressing { ready, wanted, .. }) => Some((*ready, *wanted)),
            _ => None,
        };
        let commits = Commits::new(&app, &project);
        let mut rows = Vec::new();
        for (at, shipment) in all.into_iter().take(ROWS).enumerate() {
            let release = &shipment.release;
            let cause = match &release.cause {
                Cause::Run => "a run that passed".to_owned(),
                Cause::Rollback { of } => format!("went back from {}", of.number),
                Cause::Undo { by, to } => format!("{by} brought {} back", to.number),
            };
            let rollout = shipment.rollout.as_ref();
            let note = match (&release.decision, rollout.map(|rollout| &rollout.state)) {
                (Decision::Refused { reasons, .. }, _) => reasons.join("\n"),
                (_, Some(RolloutState::Failed { reason, back_to: Some(back), .. })) => {
                    format!("{reason}\nrelease {} came back", back.number)
                }
                (_, Some(RolloutState::Failed { reason, .. })) => reason.clone(),
                _ => String::new(),
            };
            let took = match rollout.map(|rollout| (&rollout.state, rollout.created_at)) {
                Some((RolloutState::Complete { at } | RolloutState::Failed { at, .. }, began)) => exact(began, *at),
                _ => String::new(),
            };
            let traffic = app.records.get::<Observation>(&release.id.key()).await?.map(|found| found.record);
            let may_return = at > 0 && shipment.state() == "complete";
            let subject = commits.subject(&release.commit).await?;
            rows.push(ReleaseRow { subject, cause, took, note, traffic, may_return, shipment });
        }
        Ok(EnvironmentPage { project, environment, newest, progress, tags, rows, pods })
    })
    .await
}
