//! From steps to vertices of the graph.
//!
//! A step becomes an [`Exec`] in its image, with the files of the commit (and the artifacts of the steps that it needs, directly or not)
//! writable at [`WORKSPACE`]. What it writes there is seen by it alone; what its `artifacts` and `reports` name is kept.

use std::collections::BTreeMap;

use graph::{Collect, Copy, Exec, FileSource, Graph, Mount, Op, Scope, Vertex};
use records::{CommitId, Digest, Name, RunId};

use crate::file::{Command, Pipeline, Step};

/// Where the files of the commit are in the container of a step.
pub const WORKSPACE: &str = "/workspace";
/// The group of the vertex that holds the files of the commit.
pub const CHECKOUT: &str = "checkout";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image name of the file stands for.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    pub repository: String,
    pub digest: Digest,
    /// The environment of the image's configuration.
    pub env: BTreeMap<String, String>,
}

/// The run that the vertices are for.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    pub run: &'a RunId,
    pub commit: &'a CommitId,
    pub branch: &'a str,
    /// The files of the commit, at the top of the result.
    pub checkout: FileSource,
    /// One for each of [`Pipeline::step_images`].
    pub images: &'a BTreeMap<String, ResolvedImage>,
    /// The circle in which results of steps are used again, for example `Scope::Within("run/journal/3")`.
    pub scope: Scope,
}

/// An image of a step was not resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the image `{image}` of the step `{step}` was not resolved to a digest")]
pub struct Unresolved {
    pub step: Name,
    pub image: String,
}

/// Where the steps are in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// The vertex of each step, in the order of [`Pipeline::steps`]: all of them are wanted.
    pub steps: Vec<usize>,
    /// The vertex with the files of the commit.
    pub checkout: usize,
}

impl Lowered {
    /// The vertices of steps, for example of [`ImageBuild::needs`](crate::ImageBuild::needs): what goes into `after` of what waits for them.
    pub fn vertices(&self, steps: &[usize]) -> Vec<usize> {
        steps.iter().map(|step| self.steps[*step]).collect()
    }
}

impl Step {
    /// Whether a file that the step left is one of its test reports. `path` is relative to the workspace.
    pub fn is_report(&self, path: &str) -> bool {
        matches(&self.junit, path)
    }

    /// Whether a file that the step left is one of its artifacts.
    pub fn is_artifact(&self, path: &str) -> bool {
        matches(&self.artifacts, path)
    }
}

fn matches(globs: &[String], path: &str) -> bool {
    globs.iter().any(|glob| {
        let glob = globset::GlobBuilder::new(glob).literal_separator(true).build();
        glob.is_ok_and(|glob| glob.compile_matcher().is_match(path))
    })
}

impl Pipeline {
    /// Adds the steps to the graph.
    pub fn lower(&self, graph: &mut Graph, place: &Place<'_>) -> Result<Lowered, Unresolved> {
        for step in &self.steps {
            if !place.images.contains_key(&step.image) {
                return Err(Unresolved { step: step.name.clone(), image: step.image.clone() });
            }
        }
        let checkout = graph.add(Vertex {
            name: "checkout".into(),
            group: CHECKOUT.into(),
            op: Op::Files(place.checkout.clone()),
            inputs: vec![],
            after: vec![],
            scope: Scope::Shared,
        });
        let mut images: BTreeMap<&str, usize> = BTreeMap::new();
        let mut vertices: Vec<Option<usize>> = vec![None; self.steps.len()];
        for index in self.order() {
            let step = &self.steps[index];
            let image = &place.images[&step.image];
            let root = *images.entry(&step.image).or_insert_with(|| {
                graph.add(Vertex {
                    name: format!("image {}", step.image),
                    group: step.name.to_string(),
                    op: Op::Image { repository: image.repository.clone(), digest: image.digest.clone() },
                    inputs: vec![],
                    after: vec![],
                    scope: Scope::Shared,
                })
            });
            let left = self.ancestors(index).into_iter().filter(|i| !self.steps[*i].artifacts.is_empty());
            let left: Vec<usize> = left.filter_map(|i| vertices[i]).collect();
            let files =
                if left.is_empty() { checkout } else { self.with_artifacts(graph, step, checkout, left, place) };
            vertices[index] = Some(graph.add(Vertex {
                name: step.name.to_string(),
                group: step.name.to_string(),
                op: Op::Exec(exec(step, image, place)),
                inputs: vec![root, files],
                after: step.needs.iter().filter_map(|need| vertices[*need]).collect(),
                scope: place.scope.clone(),
            }));
        }
        Ok(Lowered { steps: vertices.into_iter().flatten().collect(), checkout })
    }

    /// The files of the commit with what earlier steps left on top, the later over the earlier.
    fn with_artifacts(
        &self,
        graph: &mut Graph,
        step: &Step,
        checkout: usize,
        left: Vec<usize>,
        place: &Place<'_>,
    ) -> usize {
        let vertex = |name: String, op, inputs| Vertex {
            name,
            group: step.name.to_string(),
            op,
            inputs,
            after: vec![],
            scope: place.scope.clone(),
        };
        let artifacts = graph.add(vertex(format!("artifacts for {}", step.name), Op::Artifacts, left));
        let copy = Copy { sources: vec!["/".into()], target: "/".into(), ..Copy::default() };
        graph.add(vertex(format!("workspace of {}", step.name), Op::Copy(copy), vec![checkout, artifacts]))
    }

    /// The steps so that each comes after those that it needs; otherwise in the order of the file.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::with_capacity(self.steps.len());
        // The parser refuses circles, so each round finds one.
        while let Some(next) = (0..self.steps.len())
            .find(|i| !order.contains(i) && self.steps[*i].needs.iter().all(|need| order.contains(need)))
        {
            order.push(next);
        }
        order
    }

    /// Every step that must have succeeded before this one, in the order in which they run.
    fn ancestors(&self, step: usize) -> Vec<usize> {
        let mut found = vec![false; self.steps.len()];
        let mut look = vec![step];
        while let Some(step) = look.pop() {
            for need in &self.steps[step].needs {
                if !std::mem::replace(&mut found[*need], true) {
                    look.push(*need);
                }
            }
        }
        self.order().into_iter().filter(|i| found[*i]).collect()
    }
}

/// The environment, weakest first: defaults, the image's own, what Shipway says, what the step says.
fn environment(step: &Step, image: &ResolvedImage, place: &Place<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), "/root".to_owned())]);
    env.extend(image.env.clone());
    let said = [
        ("CI", "true".to_owned()),
        ("SHIPWAY", "true".to_owned()),
        ("SHIPWAY_PROJECT", place.run.project.to_string()),
        ("SHIPWAY_BUILD", place.run.build.to_string()),
        ("SHIPWAY_COMMIT", place.commit.to_string()),
        ("SHIPWAY_BRANCH", place.branch.to_owned()),
        ("SHIPWAY_STEP", step.name.to_string()),
    ];
    env.extend(said.map(|(name, value)| (name.to_owned(), value)));
    env.extend(step.env.clone());
    env
}

fn exec(step: &Step, image: &ResolvedImage, place: &Place<'_>) -> Exec {
    let argv = match &step.run {
        Command::Shell(script) => vec!["/bin/sh".into(), "-eu".into(), "-c".into(), script.clone()],
        Command::Program(argv) => argv.clone(),
    };
    let mut globs: Vec<&String> = step.artifacts.iter().chain(&step.junit).collect();
    globs.sort_unstable();
    globs.dedup();
    let cwd = if step.workdir.is_empty() { WORKSPACE.to_owned() } else { format!("{WORKSPACE}/{}", step.workdir) };
    Exec {
        argv,
        env: environment(step, image, place),
        cwd,
        user: String::new(),
        mounts: vec![Mount { input: 1, source: String::new(), target: WORKSPACE.into(), writable: true }],
        network: step.network,
        secrets: step.secrets.clone(),
        collect: globs.into_iter().map(|glob| Collect { glob: glob.clone(), root: WORKSPACE.into() }).collect(),
        timeout: Some(step.timeout),
        memory: step.memory,
        ..Exec::default()
    }
}
