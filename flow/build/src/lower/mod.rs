//! A Dockerfile to vertices of the step graph. Pure: every name was resolved before, and nothing is read or run.

mod arguments;
mod copy;
mod health;
mod run;
mod settings;
mod stage;
mod stages;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use graph::{Graph, Op, Scope, Vertex};
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
    /// What the image is for; only this machine's platform can be built.
    pub platform: Platform,
    /// Labels that are set on top of those in the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970 that the image is dated with. Commands see it where their stage says `ARG SOURCE_DATE_EPOCH`, and nowhere else:
    /// it differs from commit to commit, and would let no result be used again.
    pub source_date_epoch: Option<i64>,
    /// Who may use the results again.
    pub scope: Scope,
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
    fn resolve(&self, name: &str) -> Result<ResolvedBase, String>;

    /// Names that exist, for hints.
    fn known(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Bases for HashMap<String, ResolvedBase> {
    fn resolve(&self, name: &str) -> Result<ResolvedBase, String> {
        self.get(name).cloned().ok_or_else(|| format!("there is no image `{name}`"))
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
            graph.add(Vertex {
                name: planned.name.clone(),
                group: group.to_owned(),
                op: planned.op.clone(),
                inputs: planned.inputs.iter().map(|input| input + offset).collect(),
                after: after.to_vec(),
                scope: self.scope.clone(),
            });
        }
        let shift = |layer: LayerVertex| LayerVertex { vertex: layer.vertex + offset, below: layer.below + offset };
        let steps: Vec<Step> = self
            .steps
            .iter()
            .map(|step| Step { created_by: step.created_by.clone(), layer: step.layer.map(shift) })
            .collect();
        Lowered {
            result: self.result + offset,
            layer_vertices: steps.iter().filter_map(|s| s.layer.map(|l| (l.vertex, s.created_by.clone()))).collect(),
            steps,
            base: self.base.clone(),
            config: self.config.clone(),
            places: (offset..).zip(&self.vertices).filter_map(|(at, v)| Some((at, v.place.clone()?))).collect(),
        }
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

/// The names of images that lowering will ask [`Bases`] for: those of the stages that the target needs.
pub fn base_names(dockerfile: &Dockerfile, options: &Options) -> Result<Vec<String>> {
    let stages = stages::Stages::read(dockerfile, options)?;
    let mut names = Vec::new();
    for name in stages.images() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Lowers the target stage and what it needs; other stages are not looked at.
///
/// # Errors
/// [`crate::Error::Dockerfile`] with the place of what is wrong or not supported yet.
pub fn lower(dockerfile: &Dockerfile, context: &ContextTree, options: &Options, bases: &dyn Bases) -> Result<Plan> {
    let stages = stages::Stages::read(dockerfile, options)?;
    stage::Lowering::new(dockerfile, context, options, bases, &stages).run()
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
