//! One run, from its start to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::FutureExt;
use graph::{Cancel, Graph};
use records::{Commit, Image, ReleasedImage, Run, RunId};
use tokio_util::task::AbortOnDropHandle;

use super::{
    board::{Board, Sink},
    carry::Attempt,
};
use crate::{
    app::App,
    fault::{Class, Fault, Result},
    wiring::{
        manifests,
        tree::{Files, Tree},
    },
};

/// Works on a run until it has ended, or until the server ends; then the next server goes on.
pub async fn work(app: &Arc<App>, id: &RunId, cancel: Cancel) {
    match app.run(id).await {
        // It ended between the decision to work on it and now.
        Ok(run) if run.state.ended() => return,
        Ok(_) => {}
        Err(fault) => return tracing::error!(run = %id, %fault, "cannot read a run"),
    }
    let stop = app.supervisor.token();
    let stopping = {
        let cancel = cancel.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            stop.cancelled().await;
            cancel.cancel("the server is stopping");
        }))
    };
    let ended = attempt(app, id, &cancel).await;
    drop(stopping);
    if app.supervisor.token().is_cancelled() {
        // Not ended: the record says that it runs, and the next server takes it up.
        return;
    }
    let now = app.now();
    let written = app
        .records
        .update::<Run, Fault>(&id.key(), |run| {
            // A person who cancelled it was faster.
            if run.state.ended() {
                return Ok(run);
            }
            Ok(match &ended {
                Ok(()) => run.pass(now)?,
                Err(fault) => run.fail(now, fault.message.clone())?,
            })
        })
        .await;
    match (&ended, written) {
        (_, Err(fault)) => tracing::error!(run = %id, %fault, "cannot write how a run ended"),
        (Err(fault), _) => tracing::info!(run = %id, reason = %fault, "run failed"),
        (Ok(()), _) => tracing::info!(run = %id, "run passed"),
    }
}

async fn attempt(app: &Arc<App>, id: &RunId, cancel: &Cancel) -> Result<()> {
    let now = app.now();
    let run = app.records.update::<Run, Fault>(&id.key(), |run| Ok(run.start(now)?)).await?;
    let key = format!("{}/{}", id.project, run.commit);
    let commit = app.records.get::<Commit>(&key).await?.map(|found| found.record);
    let commit = commit.ok_or_else(|| Fault::new(Class::Internal, format!("commit {key} is not recorded")))?;
    let tree = Tree { repositories: &app.rooms.repositories, project: &id.project, commit: &commit.id };
    let text = tree
        .text(pipeline::FILE_NAME)
        .await?
        .ok_or_else(|| Fault::usage(format!("commit {} has no {}", commit.id.short(), pipeline::FILE_NAME)))?;
    let parsed = pipeline::parse(&text, pipeline::FILE_NAME).map_err(|e| Fault::usage(e.to_string()))?;
    let steps = resumed(parsed.step_runs(), &run);
    let board = Arc::new(Board::new(id.clone(), steps, into_logs(app, id), app.clock.clone()));
    // What is wrong with the manifests is said before anything is built.
    let manifests = manifests::read(app, &tree, &parsed).await?;
    let environments = parsed.environments(&id.project);
    let found = found(app, &run, &parsed, &manifests).await?;
    let shown = board.steps();
    app.records
        .update::<Run, Fault>(&id.key(), |run| {
            let (steps, environments) = (shown.clone(), environments.clone());
            let (all, own) = (manifests.all.clone(), manifests.environments.clone());
            Ok(Run { steps, environments, found: found.clone(), manifests: all, manifests_of: own, ..run })
        })
        .await?;
    let publishing = {
        let (board, records) = (board.clone(), app.records.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { board.publish(&records).await }))
    };
    let attempt = Attempt {
        shop: &app.rooms.shop,
        id,
        commit: &commit,
        tree: &tree,
        parsed: &parsed,
        board: &board,
        secrets: Arc::new(app.secrets.all(&id.project)?),
        only: None,
        source: Some(format!("http://{}/git/{}.git", app.rooms.address(), id.project)),
        cancel,
    };
    let ended = async {
        let made = attempt.carry(&mut Graph::new()).boxed().await?;
        evidence(app, &commit, &board, &made).await
    };
    let ended = ended.await;
    drop(publishing);
    if !app.supervisor.token().is_cancelled() {
        let because = match &ended {
            Ok(()) => "it was not needed".to_owned(),
            Err(_) if cancel.is_cancelled() => cancel.reason().to_owned(),
            Err(fault) => fault.message.clone(),
        };
        board.close(&because);
        board.write(&app.records).await?;
    }
    ended
}

/// The images that the manifests ask for and that are there already: by tag, what the registry holds, or a base image. What an earlier
/// attempt found stays.
async fn found(
    app: &App,
    run: &Run,
    parsed: &pipeline::Pipeline,
    manifests: &manifests::Deployed,
) -> Result<BTreeMap<String, ReleasedImage>> {
    let steps = parsed.step_images().into_iter().map(|name| manifest::name_of(name).to_owned());
    let known: BTreeSet<String> = steps.chain(parsed.images.iter().map(|image| image.name.clone())).collect();
    let registry = app.rooms.address().to_string();
    let mut all = BTreeMap::new();
    for digest in manifests.all.iter().chain(manifests.environments.values()) {
        let text = store::blobs::get(&*app.blobs, digest, manifests::LIMIT).await?;
        let objects: Vec<serde_json::Value> =
            serde_json::from_slice(&text).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        for asked in manifest::unpinned(&objects, &registry, &known) {
            if all.contains_key(&asked.image) {
                continue;
            }
            let image = match run.found.get(&asked.image) {
                Some(image) => image.clone(),
                None => {
                    let found = app.rooms.shop.bases.resolve(&asked.image, &|_| {}).boxed().await;
                    let (repository, digest) =
                        found.map_err(|fault| Fault { message: format!("{}: {}", asked, fault.message), ..fault })?;
                    ReleasedImage { repository, digest }
                }
            };
            all.insert(asked.image, image);
        }
    }
    Ok(all)
}

/// The parts as an earlier server left them: what had ended well keeps its times.
fn resumed(fresh: Vec<records::StepRun>, run: &Run) -> Vec<records::StepRun> {
    let old = |name: &str| run.steps.iter().find(|step| step.name == name);
    let keep = |step: records::StepRun| match old(&step.name) {
        Some(old) if matches!(old.state, records::StepState::Passed { .. }) => old.clone(),
        _ => step,
    };
    fresh.into_iter().map(keep).collect()
}

/// Evidence for all images, before the run counts as passed.
async fn evidence(app: &Arc<App>, commit: &Commit, board: &Board, made: &[Image]) -> Result<()> {
    if made.is_empty() {
        return Ok(());
    }
    let name = pipeline::EVIDENCE;
    board.begin(name);
    let run = board.write(&app.records).await?;
    let say = |text: &str| board.note(name, text);
    let all = made.iter().map(|image| crate::wiring::evidence::make(app, &run, image, commit, &say).boxed());
    match futures::future::try_join_all(all).await {
        Ok(_) => {
            board.pass(name, false);
            Ok(())
        }
        Err(fault) => {
            board.fail(name, &fault.message, None);
            Err(fault)
        }
    }
}

/// What the parts say goes into the run's logs.
fn into_logs(app: &App, id: &RunId) -> Sink {
    let (logs, id) = (app.logs.clone(), id.clone());
    Box::new(move |step, stream, text, now| {
        if let Err(fault) = logs.append(&id, step, stream, text, now) {
            tracing::warn!(run = %id, step, %fault, "a line of a log is lost");
        }
    })
}
