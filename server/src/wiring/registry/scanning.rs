//! Scans what is in quarantine: pushed there or fetched from elsewhere, so that a verdict comes without anybody asking for it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::FutureExt;
use image::registry::{Document, Upstream, upstream::Upstreams};
use records::{Digest, Evidence, EvidenceDetail, EvidenceKind, Name, RunId};
use store::{Expect, Records};

use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// How often everything is looked at, also when nothing was pushed: the database of vulnerabilities changes, too.
const PERIOD: Duration = Duration::from_secs(60);
/// How long pushes gather.
const PACE: Duration = Duration::from_millis(200);
const KIND: &str = "registry/manifest";

/// Starts the scanner; the app's supervisor owns it.
pub fn start(app: &Arc<App>, upstreams: Upstreams) {
    let cancel = app.supervisor.token();
    let (owner, app) = (app.clone(), app.clone());
    owner.supervisor.spawn("quarantine", async move {
        let mut head = app.records.log().head();
        let mut at = 0;
        // What cannot be scanned is tried again with the next look at everything, and said once.
        let mut failed: BTreeSet<String> = BTreeSet::new();
        loop {
            head.borrow_and_update();
            tokio::select! {
                () = cancel.cancelled() => return,
                done = activate(&app, &upstreams, &mut failed) => if let Err(fault) = done {
                    tracing::warn!(%fault, "what is in quarantine could not be scanned; it is tried again");
                }
            }
            let pushed = async {
                loop {
                    match app.records.log().changes(KIND, at, 1000).await {
                        Ok(changes) => match changes.last() {
                            Some(last) => {
                                at = last.seq;
                                return;
                            }
                            None => drop(head.changed().await),
                        },
                        Err(_) => {
                            at = *head.borrow();
                            return;
                        }
                    }
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
                () = pushed => tokio::time::sleep(PACE).await,
            }
        }
    });
}

async fn activate(app: &Arc<App>, upstreams: &Upstreams, failed: &mut BTreeSet<String>) -> Result<()> {
    let unavailable = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    let registry = &app.rooms.registry;
    let settings = registry.all_settings().await.map_err(unavailable)?;
    if settings.iter().all(|(_, settings)| settings.quarantine.is_none()) {
        return Ok(());
    }
    let database = app.rooms.osv.current().await?;
    let mut after: Option<String> = None;
    loop {
        let page = registry.repositories(after.as_deref(), 500).await.map_err(unavailable)?;
        for repository in &page.names {
            let (part, settings) = settings.of(repository);
            if settings.quarantine.is_none() {
                continue;
            }
            for digest in registry.manifests(repository).await.map_err(unavailable)? {
                let name = format!("{repository}@{digest}");
                if is_scanned(app, &digest, database.digest()).await? {
                    continue;
                }
                let from = settings.upstream.as_ref().map(|upstream| (upstreams, part.as_str(), upstream));
                let scanned = scan(app, repository, &digest, &database, from).boxed().await;
                match scanned {
                    Ok(()) => drop(failed.remove(&name)),
                    Err(fault) if failed.insert(name.clone()) => {
                        tracing::warn!(image = name, %fault, "cannot be scanned and stays in quarantine");
                    }
                    Err(_) => {}
                }
            }
        }
        after = page.names.last().cloned();
        if !page.more {
            return Ok(());
        }
    }
}

async fn is_scanned(app: &App, digest: &Digest, database: &Digest) -> Result<bool> {
    let key = format!("{digest}/{:?}", EvidenceKind::Vulnerabilities);
    let found = app.records.get::<Evidence>(&key).await?.map(|found| found.record.detail);
    Ok(matches!(found, Some(EvidenceDetail::Vulnerabilities { database: with, .. }) if with == *database))
}

async fn scan(
    app: &App,
    repository: &str,
    digest: &Digest,
    database: &evidence::Database,
    from: Option<(&Upstreams, &str, &Upstream)>,
) -> Result<()> {
    let unavailable = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    let (info, content) = app.rooms.registry.manifest(repository, digest).await.map_err(unavailable)?;
    let (document, media_type) = Document::parse(&info.media_type, &content).map_err(unavailable)?;
    let config = document.config.as_ref().map_or("", |config| config.media_type.as_str());
    let image = image::media::shape(&media_type) == Some(image::media::Shape::Image);
    // Indexes and artifacts go by the images that they are about.
    if !image || ![image::media::OCI_CONFIG, image::media::DOCKER_CONFIG].contains(&config) {
        return Ok(());
    }
    if let Some((upstreams, part, upstream)) = from {
        for named in document.contents() {
            upstreams.blob(part, upstream, repository, &named.digest).await.map_err(unavailable)?;
        }
    }
    let project = repository.split('/').next().unwrap_or_default();
    let project: Name = project.parse().or_else(|_| "registry".parse())?;
    let run = RunId { project, build: 0 };
    let vex = evidence::Vex::default();
    let maker = &app.rooms.maker;
    let made = maker.rescan(repository, digest, &run, BUILDER, database, &vex, app.now()).await;
    let made = made.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    app.records.log().append(vec![Records::change(&made, Expect::Any)?]).await?;
    tracing::info!(repository, %digest, "scanned");
    Ok(())
}

/// Who scans.
const BUILDER: &str = concat!("https://shipway.dev/registry/v", env!("CARGO_PKG_VERSION"));
