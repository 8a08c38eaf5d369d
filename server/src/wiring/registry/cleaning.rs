//! Clean-up of the registry, now and then and when somebody asks: abandoned uploads, what rules do not keep, what nothing names, old events.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use image::registry::cleanup::{Cleanup, GRACE, LEASE, Report, Retention};
use records::{Digest, Evidence, Image, Observation, Record, Release, Rollout, RolloutState, Timestamp};

use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// How often abandoned uploads are looked for.
const UPLOADS: Duration = Duration::from_secs(600);
/// Every how many of those times everything is cleaned up.
const EVERY: u32 = 6;
/// How long it is remembered what was done in the registry.
const EVENTS: Duration = Duration::from_secs(90 * 24 * 3600);

/// What a clean-up is asked to do.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Asked {
    pub dry_run: bool,
    /// Seconds for which a repository holds what no manifest names.
    pub grace_s: u64,
    /// Seconds for which content stays that no record names.
    pub lease_s: u64,
}

impl Default for Asked {
    fn default() -> Self {
        Self { dry_run: false, grace_s: GRACE.as_secs(), lease_s: LEASE.as_secs() }
    }
}

/// Starts the clean-up that nobody has to ask for.
pub fn start(app: &Arc<App>) {
    let cancel = app.supervisor.token();
    let (owner, app) = (app.clone(), app.clone());
    owner.supervisor.spawn("registry clean-up", async move {
        let mut period = tokio::time::interval(UPLOADS);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick comes at once, when there are better things to do.
        period.tick().await;
        for round in 1u32.. {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = period.tick() => {}
            }
            let work = activate(&app, round.is_multiple_of(EVERY));
            tokio::select! {
                () = cancel.cancelled() => return,
                done = work => if let Err(fault) = done {
                    tracing::warn!(%fault, "the registry could not be cleaned up; it is tried again");
                },
            }
        }
    });
}

async fn activate(app: &App, everything: bool) -> Result<()> {
    let unavailable = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    app.rooms.registry.expire_uploads(app.now()).await.map_err(unavailable)?;
    if !everything {
        return Ok(());
    }
    if let Ok(before) = app.now().checked_sub(EVENTS) {
        app.rooms.registry.forget_events(before).await.map_err(unavailable)?;
    }
    let report = clean_up(app, Asked::default()).await?;
    let Report { tags, manifests, links, blobs, bytes, .. } = report;
    tracing::info!(tags, manifests, links, blobs, bytes, "the registry is cleaned up");
    Ok(())
}

/// Cleans the registry up, or says what would go.
pub async fn clean_up(app: &App, asked: Asked) -> Result<Report> {
    let settings = app.rooms.registry.all_settings().await.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    let retention = |repository: &str| -> Option<Retention> { settings.of(repository).1.retention.clone() };
    let in_use: BTreeSet<Digest> = running(app).await?.into_keys().collect();
    let cleanup = Cleanup {
        dry_run: asked.dry_run,
        grace: Duration::from_secs(asked.grace_s),
        lease: Duration::from_secs(asked.lease_s),
        retention: &retention,
        speaking: &SPEAKING,
        in_use: &in_use,
    };
    app.rooms.registry.clean_up(&cleanup, app.now()).await.map_err(|e| {
        let class = if e.kind == image::Kind::TooMany { Class::Conflict } else { Class::Unavailable };
        Fault::from_error(class, &e)
    })
}

/// Records that speak of content, and layers of steps, which are made again when they are gone. What the registry holds, it holds itself.
const SPEAKING: [&str; 4] = [Image::KIND, Evidence::KIND, Observation::KIND, "layer"];

/// What runs, or may be brought back, and where: of each environment the newest release, those under way and the last that was complete; and
/// all pods.
pub async fn running(app: &App) -> Result<BTreeMap<Digest, String>> {
    let releases: Vec<Release> = app.newest_first("").await?;
    let mut found = BTreeMap::new();
    let (mut newest, mut complete) = (BTreeSet::new(), BTreeSet::new());
    for release in releases {
        let environment = (release.id.project.clone(), release.id.environment.clone());
        let rollout = app.records.get::<Rollout>(&release.id.key()).await?.map(|found| found.record.state);
        let first = newest.insert(environment.clone());
        let under_way = rollout.as_ref().is_some_and(|state| !state.ended());
        let done = rollout.as_ref().is_some_and(is_complete) && complete.insert(environment);
        if first || under_way || done {
            let place =
                format!("environment {}/{} (release {})", release.id.project, release.id.environment, release.id);
            for image in release.images {
                found.entry(image.digest).or_insert_with(|| place.clone());
            }
        }
    }
    // What the newest run of a project found in the registry may be released yet.
    let runs: Vec<records::Run> = app.newest_first("").await?;
    let mut seen = BTreeSet::new();
    for run in runs.into_iter().filter(|run| !run.found.is_empty() && seen.insert(run.id.project.clone())) {
        for image in run.found.into_values() {
            found.entry(image.digest).or_insert_with(|| format!("run {}", run.id));
        }
    }
    let log = app.records.log();
    let mut after: Option<String> = None;
    loop {
        let page = log.list("k8s/core/pods", "", after.as_deref(), 500).await?;
        after = page.entries.last().map(|entry| entry.key.clone());
        for entry in &page.entries {
            let pod: serde_json::Value = serde_json::from_slice(&entry.value).unwrap_or_default();
            let statuses =
                ["containerStatuses", "initContainerStatuses"].map(|name| pod["status"][name].as_array().cloned());
            for status in statuses.into_iter().flatten().flatten() {
                let image = status["imageID"].as_str().and_then(|id| id.rsplit_once('@'));
                if let Some(digest) = image.and_then(|(_, digest)| digest.parse::<Digest>().ok()) {
                    found.entry(digest).or_insert_with(|| format!("pod {}", entry.key));
                }
            }
        }
        if !page.more {
            return Ok(found);
        }
    }
}

fn is_complete(state: &RolloutState) -> bool {
    state.name() == "complete"
}

/// What is known of an event that happened since.
pub fn since(app: &App, hours: u64) -> Timestamp {
    let span = Duration::from_secs(hours.min(24 * 365 * 100) * 3600);
    app.now().checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH)
}
