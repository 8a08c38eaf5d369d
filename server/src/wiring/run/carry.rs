//! Carries a pipeline through its graph: images resolved, steps run, images built. A server's run and a local run alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::FutureExt;
use graph::{Cancel, Graph, Outcome, Scope};
use pipeline::{Pipeline, Place, ResolvedImage};
use records::{Artifact, Commit, Digest, Image, Run, RunId, TestSummary};

use super::{
    board::{Board, Watch},
    images::{self, Build},
    packs::{self, Packed},
};
use crate::{
    fault::{Class, Fault, Result},
    wiring::{tree::Files, workshop::Workshop},
};

/// The largest test report that is read.
const REPORT: u64 = 16 << 20;

/// One attempt to carry one run to its end.
pub struct Attempt<'a> {
    pub shop: &'a Workshop,
    pub id: &'a RunId,
    pub commit: &'a Commit,
    pub tree: &'a dyn Files,
    pub parsed: &'a Pipeline,
    pub board: &'a Arc<Board>,
    pub secrets: Arc<dyn graph::Secrets>,
    /// The steps and images that are wanted, with what they need; `None` for all.
    pub only: Option<&'a BTreeSet<String>>,
    /// Where the images say that they come from.
    pub source: Option<String>,
    pub cancel: &'a Cancel,
}

impl Attempt<'_> {
    /// Runs the steps and builds the images. What is in the graph stays there, also when this fails.
    pub async fn carry(&self, graph: &mut Graph) -> Result<Vec<Image>> {
        let (steps, builds, packed) = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(self.cancelled()),
            prepared = self.prepare(graph).boxed() => prepared?,
        };
        let named = self.parsed.steps.iter().zip(&steps.steps);
        let mut wanted: Vec<usize> =
            named.filter(|(step, _)| self.wants(step.name.as_str())).map(|(_, vertex)| *vertex).collect();
        wanted.extend(builds.iter().map(|build| build.lowered.result));
        let places = builds.iter().flat_map(|build| build.lowered.places.clone()).collect();
        let watch = Arc::new(Watch::new(self.board.clone(), graph, &steps.steps, places));
        let options = graph::Options { secrets: self.secrets.clone(), cancel: self.cancel.clone(), fail_fast: true };
        let report = self.shop.scheduler.run(graph, &wanted, watch.clone(), options).boxed().await;
        self.results(&steps.steps, &report).await?;
        if let Some((vertex, error)) = report.failures().next() {
            return Err(Fault::new(Class::Failed, watch.reason(vertex, error)));
        }
        if self.cancel.is_cancelled() {
            return Err(self.cancelled());
        }
        let graph = &*graph;
        let exports = builds.iter().map(|build| images::export(self, build, graph).boxed());
        // Buildpacks run in containers of their own, not as vertices: they begin when the steps have succeeded.
        let packed = packed.iter().map(|packed| packs::export(self, packed).boxed());
        futures::future::try_join_all(exports.chain(packed)).await
    }

    /// Resolves every name to a digest and describes all that is to be done.
    async fn prepare(&self, graph: &mut Graph) -> Result<(pipeline::Lowered, Vec<Build<'_>>, Vec<Packed<'_>>)> {
        let resolved = self.step_images().await?;
        let place = Place {
            run: self.id,
            commit: &self.commit.id,
            branch: &self.commit.branch,
            checkout: self.tree.checkout().await?,
            images: &resolved,
            scope: Scope::Within(format!("run/{}", self.id)),
        };
        let steps = self.parsed.lower(graph, &place).map_err(|e| Fault::usage(e.to_string()))?;
        let (mut builds, mut packed) = (Vec::new(), Vec::new());
        for image in self.parsed.images.iter().filter(|image| self.wants(&image.name)) {
            if let Some(by_buildpacks) = packs::wanted(self, image).await? {
                packed.push(by_buildpacks);
                continue;
            }
            let after = steps.vertices(&image.needs);
            builds.push(images::lower(self, image, graph, &after).await?);
        }
        Ok((steps, builds, packed))
    }

    fn cancelled(&self) -> Fault {
        Fault::new(Class::Failed, format!("cancelled: {}", self.cancel.reason()))
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only.contains(name))
    }

    /// Every image that a step runs in, by digest, written down before anything runs.
    async fn step_images(&self) -> Result<BTreeMap<String, ResolvedImage>> {
        let mut resolved = BTreeMap::new();
        for name in self.parsed.step_images() {
            let user = self.parsed.steps.iter().find(|step| step.image == name);
            let user = user.map(|step| step.name.to_string()).unwrap_or_default();
            let say = |text: &str| self.board.note(&user, text);
            let found = self.shop.bases.resolve(name, &say).boxed().await;
            let (repository, digest) = match found {
                Ok(found) => found,
                Err(fault) if fault.class == Class::NotFound => {
                    let known = self.shop.bases.known();
                    let diagnostic = self.parsed.image_missing(name, known.iter().map(String::as_str));
                    return Err(Fault::usage(diagnostic.to_string()));
                }
                Err(fault) => return Err(fault),
            };
            let image = self.shop.images.describe(&repository, &digest).await.map_err(Fault::usage)?;
            let env = image.config.config.env.iter().filter_map(|entry| entry.split_once('='));
            let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            resolved.insert(name.to_owned(), ResolvedImage { repository, digest, env });
        }
        let digests: BTreeMap<String, Digest> =
            resolved.iter().map(|(name, image)| (name.clone(), image.digest.clone())).collect();
        self.shop
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
                let xml = store::blobs::get(&*self.shop.blobs, &file.digest, REPORT).await?;
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
        self.board.write(&self.shop.records).await.map(drop)
    }
}
