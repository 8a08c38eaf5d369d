//! `shipway run --local`: the steps and images of the working tree, on this machine, without a server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures::FutureExt;
use graph::{Cancel, Graph, Scope};
use pipeline::Pipeline;
use records::{Image, Run, RunId, StepKind, StepRun};
use source::Repositories;
use store::{Blobs, Expect, Records, directory::DirectoryBlobs, sqlite::SqliteLog};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::{
    run::{board::Board, carry::Attempt},
    tree::Files,
    workshop::{Ground, Workshop},
    worktree::WorkingTree,
};
use crate::{
    cli::{Live, LocalOptions},
    clock,
    fault::{Class, Fault, Result},
};

/// How long containers have to end.
const END: Duration = Duration::from_secs(30);

/// How long results that this run did not use are kept.
const KEEP: Duration = Duration::from_secs(14 * 24 * 3600);

const CTRL_C: &str = "Ctrl-C";
const TERMINATED: &str = "SIGTERM";
const HUNG_UP: &str = "the terminal was closed";

/// What became of a local run.
pub struct Local {
    pub run: Run,
    pub images: Vec<Image>,
}

/// Runs the pipeline of a working tree. What is wrong with the pipeline is an error; a step that fails is a run that failed.
pub async fn run_local(options: &LocalOptions) -> Result<Local> {
    let cancel = Cancel::new();
    let _signals = cancelled_by_signals(&cancel)?;
    let tree = WorkingTree::read(&options.directory).await?;
    let text = tree.text(pipeline::FILE_NAME).await?.ok_or_else(|| {
        Fault::usage(format!("{} has no {}", tree.name(), pipeline::FILE_NAME))
            .hint("name the directory that holds it, for example `shipway run --local path/to/project`")
    })?;
    let parsed = pipeline::parse(&text, pipeline::FILE_NAME).map_err(|e| Fault::usage(e.to_string()))?;
    let parts = parts(&parsed, &options.step)?;
    let shop = open(options).await?;
    let ran = run(options, &shop, &tree, &parsed, parts, &cancel).await;
    shop.close(END).await;
    ran
}

/// Ctrl-C, an ended terminal and SIGTERM stop the run, which then cleans up.
pub(super) fn cancelled_by_signals(cancel: &Cancel) -> Result<AbortOnDropHandle<()>> {
    let on = |kind| signal(kind).map_err(|e| Fault::from_error(Class::Internal, &e));
    let (mut interrupt, mut terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let mut hangup = on(SignalKind::hangup())?;
    let cancel = cancel.clone();
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let reason = tokio::select! {
            _ = interrupt.recv() => CTRL_C,
            _ = terminate.recv() => TERMINATED,
            _ = hangup.recv() => HUNG_UP,
        };
        cancel.cancel(reason);
    })))
}

/// The signal behind the reason of a cancellation, if it was one of [`cancelled_by_signals`].
pub fn signal_of(reason: &str) -> Option<u8> {
    match reason {
        CTRL_C => Some(2),
        TERMINATED => Some(15),
        HUNG_UP => Some(1),
        _ => None,
    }
}

/// What was cancelled, as an error: one that a signal cancelled ends with that signal's exit code.
pub(super) fn cancelled(cancel: &Cancel) -> Fault {
    let class = signal_of(cancel.reason()).map_or(Class::Failed, Class::Signalled);
    Fault::new(class, format!("cancelled: {}", cancel.reason()))
}

/// The parts of the run: steps and images, all of them or those that are named with what they need. Evidence is a server's.
fn parts(parsed: &Pipeline, named: &[String]) -> Result<Vec<StepRun>> {
    let mut parts = parsed.step_runs();
    parts.retain(|part| part.kind != StepKind::Evidence);
    if parts.is_empty() {
        return Err(Fault::usage(format!(
            "{} has no steps and no images: there is nothing to run here",
            pipeline::FILE_NAME
        ))
        .hint("what `deploy` names is released by a server: push it there; `shipway render` shows it"));
    }
    if named.is_empty() {
        return Ok(parts);
    }
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut look: Vec<&str> = named.iter().map(String::as_str).collect();
    while let Some(name) = look.pop() {
        let Some(part) = parts.iter().find(|part| part.name == name) else {
            let known: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
            return Err(Fault::usage(format!("{} has no step or image `{name}`", pipeline::FILE_NAME))
                .hint(format!("it has {}", known.join(", "))));
        };
        if wanted.insert(&part.name) {
            look.extend(part.needs.iter().map(String::as_str));
        }
    }
    Ok(parts.iter().filter(|part| wanted.contains(part.name.as_str())).cloned().collect())
}

async fn open(options: &LocalOptions) -> Result<Workshop> {
    let data = &options.data;
    crate::serve::make_private(data)?;
    let data = data.canonicalize().map_err(|e| Fault::usage(format!("cannot open {}: {e}", data.display())))?;
    // Locks the directory: one local run at a time.
    let log = Arc::new(SqliteLog::open(&data.join("records.db")).await?);
    let blobs: Arc<dyn Blobs> = Arc::new(DirectoryBlobs::open(data.join("blobs")).await?);
    let repositories = Repositories::open(data.join("git"), source::Limits::default());
    let packages = options.package_cache.clone().unwrap_or_else(|| data.join("packages"));
    Workshop::open(Ground {
        data: &data,
        packages: &packages,
        mirror: &options.mirror,
        hosts: Vec::new(),
        repositories: repositories.map_err(|e| Fault::from_error(Class::Unavailable, &e))?,
        records: Records::new(log),
        blobs,
        clock: clock::system(),
    })
    .await
}

async fn run(
    options: &LocalOptions,
    shop: &Workshop,
    tree: &WorkingTree,
    parsed: &Pipeline,
    parts: Vec<StepRun>,
    cancel: &Cancel,
) -> Result<Local> {
    let project = tree.project()?;
    let commit = tree.commit(&project, shop.now())?;
    let before = shop.records.list::<Run>(&format!("{project}/")).await?;
    let build = before.last().map_or(1, |newest| newest.record.id.build + 1);
    let id = RunId { project, build };
    let run = Run::new(id.clone(), commit.id.clone(), shop.now()).start(shop.now())?;
    shop.records.put(&Run { steps: parts.clone(), ..run }, Expect::Absent).await?;
    let only: BTreeSet<String> = parts.iter().map(|part| part.name.clone()).collect();
    let live = Live::new(parts.iter().map(|part| part.name.as_str()), options.json);
    live.title(&format!("run {id} of {}", tree.name()));
    let board = Arc::new(Board::new(id.clone(), parts, live.sink(), shop.clock.clone()));
    let attempt = Attempt {
        shop,
        id: &id,
        commit: &commit,
        tree,
        parsed,
        board: &board,
        secrets: Arc::new(Environment),
        only: Some(&only),
        source: None,
        cancel,
    };
    let mut graph = Graph::new();
    let ended = attempt.carry(&mut graph).boxed().await;
    board.close(match &ended {
        Ok(_) => "it was not needed",
        Err(_) if cancel.is_cancelled() => cancel.reason(),
        Err(fault) => &fault.message,
    });
    board.write(&shop.records).await?;
    let now = shop.now();
    let change = |run: Run| {
        Ok::<_, Fault>(match &ended {
            Ok(_) => run.pass(now)?,
            Err(_) if cancel.is_cancelled() => run.cancel(now, cancel.reason())?,
            Err(fault) => run.fail(now, fault.message.clone())?,
        })
    };
    let run = shop.records.update(&id.key(), change).await?;
    tidy(shop, &graph);
    Ok(Local { run, images: ended.unwrap_or_default() })
}

/// Secrets of a local run are variables of its environment.
struct Environment;

#[async_trait]
impl graph::Secrets for Environment {
    async fn values(&self, names: &[String]) -> graph::Result<BTreeMap<String, String>> {
        let value = |name: &String| match std::env::var(name) {
            Ok(value) => Ok((name.clone(), value)),
            Err(_) => Err(graph::Error::Invalid(format!(
                "there is no secret `{name}`: a local run takes it from the environment variable of that name"
            ))),
        };
        names.iter().map(value).collect()
    }
}

/// Removes what no later run can use (files and results of this run's steps) and what none has used for long.
fn tidy(shop: &Workshop, graph: &Graph) {
    let snapshots = shop.sandbox.snapshots();
    let (mut own, mut used) = (BTreeSet::new(), BTreeSet::new());
    for (at, vertex) in graph.vertices().iter().enumerate() {
        let mine = vertex.scope != Scope::Shared || vertex.group == pipeline::lower::CHECKOUT;
        (if mine { &mut own } else { &mut used }).insert(graph.id(at).to_string());
    }
    let old = SystemTime::from(shop.now()).checked_sub(KEEP).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut removable: Vec<String> = snapshots
        .list()
        .into_iter()
        .filter(|one| own.contains(&one.key) || (one.committed < old && !used.contains(&one.key)))
        .map(|one| one.key)
        .collect();
    // What others stand on goes after them, or stays when they do.
    loop {
        let before = removable.len();
        removable.retain(|key| snapshots.remove(key).is_err());
        if removable.len() == before {
            return;
        }
    }
}
