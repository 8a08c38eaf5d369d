//! A Dockerfile to vertices of the step graph. Pure: every name was resolved before, and nothing is read or run.

mod arguments;
mod copy;
mod health;
mod mounts;
mod onbuild;
mod remote;
mod run;
mod select;
mod settings;
mod stage;
mod stages;

pub use mounts::{bytes as size, fields as csv};
pub use remote::{is_git, is_remote, shown, without_credentials};

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use graph::{Graph, Op, Origin, Scope, Vertex};
use records::Digest;

use crate::{
    Result,
    config::{ImageConfig, Platform},
    context::ContextTree,
    diagnostic::{Diagnostic, Warning},
    dockerfile::Dockerfile,
};

/// What a build is told beside its Dockerfile and context.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stage to build: a name or an index; the last where none is named.
    pub target: Option<String>,
    pub build_args: BTreeMap<String, String>,
    /// What the image is for.
    pub platform: Platform,
    /// Labels that are set on top of those in the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970 that the image is dated with. Commands see it where their stage says `ARG SOURCE_DATE_EPOCH`, and nowhere else:
    /// it differs from commit to commit, and would let no result be used again.
    pub source_date_epoch: Option<i64>,
    /// Who may use the results again.
    pub scope: Scope,
    /// Who may use results again that were made with a secret or an agent; a name such as `project/journal`.
    pub private: String,
    /// Further contexts by name: `FROM name` and `--from=name` mean them before any stage or image.
    pub contexts: BTreeMap<String, Named>,
    /// The ids of the secrets that there are. `None` when only the run will tell: then each is needed.
    pub secrets: Option<BTreeSet<String>>,
    /// The ids of the SSH agents that there are; `None` as for secrets.
    pub agents: Option<BTreeSet<String>>,
    /// What commands reach that do not say it themselves.
    pub network: graph::Network,
    /// Names with their addresses that commands find in `/etc/hosts`.
    pub hosts: Vec<(String, std::net::IpAddr)>,
    pub ulimits: Vec<graph::Ulimit>,
    /// Bytes of `/dev/shm`; `None` for the usual 64 MiB.
    pub shm_size: Option<u64>,
    /// Set before the id of every cache mount, so that two builds do not share them.
    pub cache_namespace: String,
    /// Results of these stages (all, when there is none in it) are not taken from earlier builds.
    pub fresh: Option<Fresh>,
    /// What was fetched for `ADD`, by what it asks for.
    pub remotes: HashMap<Remote, Fetched>,
    /// Whether this platform is one of several that are built: names of vertices say which they are of.
    pub several_platforms: bool,
}

/// Stages that are built anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// Names or numbers; empty for all.
    pub stages: Vec<String>,
    /// What makes this build another than all before.
    pub nonce: String,
}

/// What the name of a context stands for.
#[derive(Debug, Clone)]
pub enum Named {
    Tree(Box<ContextTree>),
    /// An image by the name that [`Bases`] knows.
    Image(String),
}

/// Something from another machine that `ADD` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Remote {
    File {
        url: String,
        /// What its content must hash to.
        checksum: Option<Digest>,
    },
    Git {
        /// As written, with `#ref:directory`.
        url: String,
        /// The commit that the reference must stand for.
        checksum: Option<String>,
        /// Whether `.git` is kept.
        keep_git: bool,
    },
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::File { url, .. } | Self::Git { url, .. }) = self;
        f.write_str(&remote::shown(url))
    }
}

/// What was fetched.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// A file that is in the store, and the name that its server gave it.
    File { digest: Digest, name: String },
    /// The tree of a commit.
    Tree(Box<ContextTree>),
}

/// What lowering comes to.
#[derive(Debug)]
pub enum Attempt {
    Ready(Box<Plan>),
    /// These must be in [`Options::remotes`] first. Each with its place, whose reason is empty: it is for what goes wrong with it.
    Needs(Vec<(Remote, Diagnostic)>),
}

/// An image that a `FROM` or `--from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseName {
    pub name: String,
    /// What it is for.
    pub platform: Platform,
    /// Where it is named. The reason is empty: it is for what goes wrong with it.
    pub place: Diagnostic,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            platform: Platform::host(),
            labels: BTreeMap::new(),
            source_date_epoch: None,
            scope: Scope::Shared,
            private: "local".into(),
            contexts: BTreeMap::new(),
            secrets: None,
            agents: None,
            network: graph::Network::Bridge,
            hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            cache_namespace: String::new(),
            fresh: None,
            remotes: HashMap::new(),
            several_platforms: false,
        }
    }
}

/// An image that a name in `FROM` or `--from` stands for, resolved once.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedBase {
    /// As written in the Dockerfile, variables replaced.
    pub name: String,
    /// Where it lies in this installation's registry.
    pub repository: String,
    /// Of its manifest for the platform.
    pub digest: Digest,
    pub config: ImageConfig,
    /// Lowest first; `config.rootfs.diff_ids` has as many.
    pub layers: Vec<image::registry::Descriptor>,
}

/// Knows what names of images stand for. [`base_names`] says which will be asked for.
pub trait Bases {
    /// `Err` is a reason for people, for example ``there is no base image `nod` ``.
    fn resolve(&self, name: &str, platform: &Platform) -> Result<ResolvedBase, String>;

    /// Names that exist, for hints.
    fn known(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The key of an image in a map of bases: its name, for this machine's platform, else with the platform.
pub fn base_key(name: &str, platform: &Platform) -> String {
    if *platform == Platform::host() { name.to_owned() } else { format!("{name} for {platform}") }
}

impl Bases for HashMap<String, ResolvedBase> {
    fn resolve(&self, name: &str, platform: &Platform) -> Result<ResolvedBase, String> {
        self.get(&base_key(name, platform)).cloned().ok_or_else(|| match *platform == Platform::host() {
            true => format!("there is no image `{name}`"),
            false => format!("there is no image `{name}` for {platform}"),
        })
    }

    fn known(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// A vertex before it is in a graph; `inputs` are indices into the plan.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub name: String,
    pub op: Op,
    pub inputs: Vec<usize>,
    /// The instruction that it is of, without a reason yet.
    pub place: Option<Diagnostic>,
    /// The `USER` as which it is done, where one was said.
    pub user: Option<Diagnostic>,
    /// Where its result may be used again, when not where all may.
    pub scope: Option<Scope>,
    /// Paths of the main context that it is made from.
    pub paths: Vec<String>,
}

/// One entry of the image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The instruction.
    pub created_by: String,
    /// The vertex whose difference from `below` is the layer; `None` when only the configuration changed.
    pub layer: Option<LayerVertex>,
}

/// Where a layer comes from: the difference between two results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerVertex {
    pub vertex: usize,
    /// The result it was made on.
    pub below: usize,
}

/// What a Dockerfile becomes.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) vertices: Vec<Planned>,
    pub(crate) result: usize,
    pub(crate) scope: Scope,
    /// What was done on top of the base, in order.
    pub steps: Vec<Step>,
    /// The image that the last stage stands on; `None` for `scratch`.
    pub base: Option<ResolvedBase>,
    /// Every image that a `FROM` or `--from` of a used stage names.
    pub bases: Vec<ResolvedBase>,
    /// The configuration of the image, with the base's `rootfs` and `history`.
    pub config: ImageConfig,
    /// Contents from heredocs that must be in the store before the graph runs.
    pub inline: Vec<(Digest, Bytes)>,
    pub warnings: Vec<Warning>,
    /// `# check=error=true`: with a warning nothing is to be built.
    pub warnings_fail: bool,
    /// Platforms other than this machine's that commands are run for, each with the first of them.
    pub foreign: Vec<(Platform, Diagnostic)>,
}

/// Where a plan lies in a graph. All indices are the graph's.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The vertex whose result is the image's file system.
    pub result: usize,
    /// The vertices that made layers, lowest first, each with its instruction.
    pub layer_vertices: Vec<(usize, String)>,
    /// The whole history on top of the base.
    pub steps: Vec<Step>,
    pub base: Option<ResolvedBase>,
    pub config: ImageConfig,
    /// The instruction of each vertex that has one. Its reason is empty: it is for what goes wrong later.
    pub places: BTreeMap<usize, Diagnostic>,
    /// The `USER` instruction of each vertex that is done as somebody, likewise.
    pub users: BTreeMap<usize, Diagnostic>,
    /// For each of `layer_vertices`, the paths of the main context (`` for all of it) that it and what it stands on are made from.
    pub layer_paths: Vec<Vec<String>>,
}

impl Plan {
    /// Adds the vertices to a graph; `group` is the step or image of the run that logs are kept under.
    pub fn add_to(&self, graph: &mut Graph, group: &str) -> Lowered {
        self.add_after(graph, group, &[])
    }

    /// As [`Plan::add_to`]; nothing starts before the vertices `after` have succeeded.
    pub fn add_after(&self, graph: &mut Graph, group: &str, after: &[usize]) -> Lowered {
        let offset = graph.len();
        for planned in &self.vertices {
            let (op, inputs) = self.fused(planned).unwrap_or_else(|| (planned.op.clone(), planned.inputs.clone()));
            graph.add(Vertex {
                name: planned.name.clone(),
                group: group.to_owned(),
                op,
                inputs: inputs.iter().map(|input| input + offset).collect(),
                after: after.to_vec(),
                scope: planned.scope.clone().unwrap_or_else(|| self.scope.clone()),
            });
        }
        let shift = |layer: LayerVertex| LayerVertex { vertex: layer.vertex + offset, below: layer.below + offset };
        let steps: Vec<Step> = self
            .steps
            .iter()
            .map(|step| Step { created_by: step.created_by.clone(), layer: step.layer.map(shift) })
            .collect();
        let made_from = self.made_from();
        Lowered {
            layer_paths: self.steps.iter().filter_map(|s| Some(made_from[s.layer?.vertex].clone())).collect(),
            result: self.result + offset,
            layer_vertices: steps.iter().filter_map(|s| s.layer.map(|l| (l.vertex, s.created_by.clone()))).collect(),
            steps,
            base: self.base.clone(),
            config: self.config.clone(),
            places: (offset..).zip(&self.vertices).filter_map(|(at, v)| Some((at, v.place.clone()?))).collect(),
            users: (offset..).zip(&self.vertices).filter_map(|(at, v)| Some((at, v.user.clone()?))).collect(),
        }
    }

    /// A copy of files of a directory on this machine, made straight from there. The vertex of the files stays, and is done only when
    /// something else needs it.
    fn fused(&self, planned: &Planned) -> Option<(Op, Vec<usize>)> {
        let Op::Copy(copy) = &planned.op else { return None };
        let (from, below) = planned.inputs.split_last()?;
        let Op::Files(files) = &self.vertices[*from].op else { return None };
        let plain = matches!(files.origin, Origin::Directory(_)) && !copy.parents && copy.exclude.is_empty();
        plain.then(|| (Op::Put { files: files.clone(), copy: copy.clone() }, below.to_vec()))
    }

    /// For each vertex the paths of the main context that it, or anything below it, is made from.
    fn made_from(&self) -> Vec<Vec<String>> {
        let mut all: Vec<Vec<String>> = Vec::with_capacity(self.vertices.len());
        for planned in &self.vertices {
            let mut paths = planned.paths.clone();
            planned.inputs.iter().for_each(|input| paths.extend_from_slice(&all[*input]));
            paths.sort();
            paths.dedup();
            if paths.first().is_some_and(String::is_empty) {
                paths.truncate(1);
            }
            all.push(paths);
        }
        all
    }

    /// The number of vertices.
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }

    /// Every base as `name@digest`, as an image's record has it.
    pub fn base_references(&self) -> Vec<String> {
        self.bases.iter().map(|base| format!("{}@{}", base.repository, base.digest)).collect()
    }
}

/// The images that lowering will ask [`Bases`] for: those of the stages that the target needs, and what they are for.
pub fn base_names(dockerfile: &Dockerfile, options: &Options) -> Result<Vec<BaseName>> {
    Ok(stages::Stages::read(dockerfile, options)?.images(&dockerfile.source, options))
}

/// Lowers the target stage and what it needs; other stages are not looked at. Files of the context that are copied are hashed.
///
/// # Errors
/// [`crate::Error::Dockerfile`] with the place of what is wrong, or of an `ADD` of something that is not in [`Options::remotes`].
pub fn lower(dockerfile: &Dockerfile, context: &ContextTree, options: &Options, bases: &dyn Bases) -> Result<Plan> {
    let stages = stages::Stages::read(dockerfile, options)?;
    let (plan, missing) = stage::Lowering::new(dockerfile, context, options, bases, &stages).run()?;
    match missing.into_iter().next() {
        None => Ok(plan),
        Some((_, place)) => {
            let reason = "this was not fetched, and cannot be fetched here".to_owned();
            Err(Diagnostic { reason, ..place }.hint("fetch it in a RUN, and check its digest there").into())
        }
    }
}

/// As [`lower`], for callers who can fetch: it tells what is to be fetched, and is called again with that.
///
/// # Errors
/// [`crate::Error::Dockerfile`] with the place of what is wrong.
pub fn lower_or_needs(
    dockerfile: &Dockerfile,
    context: &ContextTree,
    options: &Options,
    bases: &dyn Bases,
) -> Result<Attempt> {
    let stages = stages::Stages::read(dockerfile, options)?;
    let (plan, missing) = stage::Lowering::new(dockerfile, context, options, bases, &stages).run()?;
    Ok(match missing.is_empty() {
        true => Attempt::Ready(Box::new(plan)),
        false => Attempt::Needs(missing),
    })
}

/// The labels and platform words of a build.
pub(crate) fn platform_arguments(platform: &Platform) -> Vec<(&'static str, String)> {
    let mut arguments = Vec::new();
    let host = Platform::host();
    let words = [
        ("TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", platform),
        ("BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT", &host),
    ];
    for (whole, os, architecture, variant, platform) in words {
        arguments.push((whole, platform.to_string()));
        arguments.push((os, platform.os.clone()));
        arguments.push((architecture, platform.architecture.clone()));
        arguments.push((variant, platform.variant.clone().unwrap_or_default()));
    }
    arguments
}

#[cfg(test)]
mod tests;
