//! One run, from its start to its end.

use std::{collections::BTreeMap, sync::Arc};

use futures::FutureExt;
use graph::{Cancel, Graph, Outcome, Scope};
use pipeline::{Pipeline, Place, ResolvedImage};
use records::{Artifact, Commit, Digest, Image, Run, RunId, TestSummary};
use store::Expect;
use tokio_util::task::AbortOnDropHandle;

use super::{
    board::{Board, Watch},
    images,
};
use crate::{
    app::App,
    fault::{Class, Fault, Result},
    wiring::{manifests, tree::Tree},
};

/// The largest test report that is read.
const REPORT: u64 = 16 << 20;

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
    let board = Arc::new(Board::new(id.clone(), steps, app.logs.clone(), app.clock.clone()));
    // What is wrong with the manifests is said before anything is built.
    let manifests = manifests::read(app, &tree, &parsed).await?;
    let environments = parsed.environments(&id.project);
    let shown = board.steps();
    app.records
        .update::<Run, Fault>(&id.key(), |run| {
            let (steps, environments) = (shown.clone(), environments.clone());
            Ok(Run { steps, environments, manifests: manifests.clone(), ..run })
        })
        .await?;
    let publishing = {
        let (board, records) = (board.clone(), app.records.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { board.publish(&records).await }))
    };
    let ended =
        Attempt { app, id, commit: &commit, tree: &tree, parsed: &parsed, board: &board, cancel }.carry().boxed().await;
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

/// The parts as an earlier server left them: what had ended well keeps its times.
fn resumed(fresh: Vec<records::StepRun>, run: &Run) -> Vec<records::StepRun> {
    let old = |name: &str| run.steps.iter().find(|step| step.name == name);
    let keep = |step: records::StepRun| match old(&step.name) {
        Some(old) if matches!(old.state, records::StepState::Passed { .. }) => old.clone(),
        _ => step,
    };
    fresh.into_iter().map(keep).collect()
}

struct Attempt<'a> {
    app: &'a Arc<App>,
    id: &'a RunId,
    commit: &'a Commit,
    tree: &'a Tree<'a>,
    parsed: &'a Pipeline,
    board: &'a Arc<Board>,
    cancel: &'a Cancel,
}

impl Attempt<'_> {
    async fn carry(&self) -> Result<()> {
        let resolved = self.step_images().await?;
        let mut graph = Graph::new();
        let place = Place {
            run: self.id,
            commit: &self.commit.id,
            branch: &self.commit.branch,
            checkout: self.tree.checkout().await?,
            images: &resolved,
            scope: Scope::Within(format!("run/{}", self.id)),
        };
        let steps = self.parsed.lower(&mut graph, &place).map_err(|e| Fault::usage(e.to_string()))?;
        let mut builds = Vec::new();
        for image in &self.parsed.images {
            let after = steps.vertices(&image.needs);
            builds.push(images::lower(self.app, self.tree, self.commit, image, &mut graph, &after, self.board).await?);
        }
        let mut wanted = steps.steps.clone();
        wanted.extend(builds.iter().map(|build| build.lowered.result));
        let watch = Arc::new(Watch::new(self.board.clone(), &graph, &steps.steps));
        let secrets = Arc::new(self.app.secrets.all(&self.id.project)?);
        let options = graph::Options { secrets, cancel: self.cancel.clone(), fail_fast: true };
        let report = self.app.rooms.scheduler.run(&graph, &wanted, watch, options).boxed().await;
        self.results(&steps.steps, &report).await?;
        if let Some((vertex, error)) = report.failures().next() {
            let vertex = &graph.vertices()[vertex];
            return Err(Fault::new(Class::Failed, format!("{} {error}", vertex.name)));
        }
        if self.cancel.is_cancelled() {
            return Err(Fault::new(Class::Failed, format!("cancelled: {}", self.cancel.reason())));
        }
        let mut exports = Vec::new();
        for build in &builds {
            exports.push(images::export(self.app, self.id, self.commit, build, &graph, self.board).boxed());
        }
        let made: Vec<Image> = futures::future::try_join_all(exports).await?;
        self.evidence(&made).await
    }

    /// Every image that a step runs in, by digest, written down before anything runs.
    async fn step_images(&self) -> Result<BTreeMap<String, ResolvedImage>> {
        let mut resolved = BTreeMap::new();
        for name in self.parsed.step_images() {
            let users = self.parsed.steps.iter().find(|step| step.image == name);
            let user = users.map(|step| step.name.to_string()).unwrap_or_default();
            let say = |text: &str| self.board.note(&user, text);
            let found = self.app.rooms.bases.resolve(name, &say).boxed().await;
            let (repository, digest) = match found {
                Ok(found) => found,
                Err(fault) if fault.class == Class::NotFound => {
                    let known = self.app.rooms.bases.known();
                    let diagnostic = self.parsed.image_missing(name, known.iter().map(String::as_str));
                    return Err(Fault::usage(diagnostic.to_string()));
                }
                Err(fault) => return Err(fault),
            };
            let image = self.app.rooms.images.describe(&repository, &digest).await.map_err(Fault::usage)?;
            let env = image.config.config.env.iter().filter_map(|entry| entry.split_once('='));
            let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            resolved.insert(name.to_owned(), ResolvedImage { repository, digest, env });
        }
        let digests: BTreeMap<String, Digest> =
            resolved.iter().map(|(name, image)| (name.clone(), image.digest.clone())).collect();
        self.app
            .records
            .update::<Run, Fault>(&self.id.key(), |run| Ok(Run { resolved: digests.clone(), ..run }))
            .await?;
        Ok(resolved)
    }

    /// Artifacts and test results of each step, also of those that failed.
    async fn results(&self, vertices: &[usize], report: &graph::Report) -> Result<()> {
        for (step, vertex) in self.parsed.steps.iter().zip(vertices) {
            let collected: &[Artifact] = match &report.outcomes[*vertex] {
                Outcome::Finished { output, .. } => &output.artifacts,
                Outcome::Failed(graph::Error::Exit { artifacts, .. }) => artifacts,
                _ => continue,
            };
            let mut summaries: Vec<TestSummary> = Vec::new();
            for file in collected.iter().filter(|file| step.is_report(&file.path)) {
                let xml = store::blobs::get(&*self.app.blobs, &file.digest, REPORT).await?;
                match pipeline::junit::parse(&xml) {
                    Ok(summary) => summaries.push(summary),
                    Err(error) => {
                        self.board.note(step.name.as_str(), &format!("{} is no test report: {error}", file.path));
                    }
                }
            }
            let tests = (!summaries.is_empty()).then(|| pipeline::junit::merge(summaries));
            self.board.left(step.name.as_str(), collected.to_vec(), tests);
        }
        self.board.write(&self.app.records).await.map(drop)
    }

    /// Evidence for all images, before the run counts as passed.
    async fn evidence(&self, made: &[Image]) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let name = pipeline::EVIDENCE;
        self.board.begin(name);
        let run = self.board.write(&self.app.records).await?;
        let say = |text: &str| self.board.note(name, text);
        let mut all = Vec::new();
        for image in made {
            all.push(crate::wiring::evidence::make(self.app, &run, image, self.commit, &say).boxed());
        }
        match futures::future::try_join_all(all).await {
            Ok(_) => {
                self.board.pass(name, false);
                Ok(())
            }
            Err(fault) => {
                self.board.fail(name, &fault.message, None);
                Err(fault)
            }
        }
    }
}

/// Writes an image down; building the same again changes nothing.
pub async fn record(app: &App, image: &Image) -> Result<()> {
    app.records.put(image, Expect::Any).await?;
    Ok(())
}
