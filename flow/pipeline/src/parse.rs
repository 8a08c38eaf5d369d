//! From the text of `.shipway.yaml` to a [`Pipeline`], or to everything that is wrong with it.

mod deploy;
mod image;
mod step;
mod verify;

use std::{sync::Arc, time::Duration};

use crate::{
    check,
    diagnostics::{Diagnostics, Source, Span},
    file::{Pipeline, Verify},
    read::{NO_HINT, Reader, TOP},
    yaml::{self, Node},
};

/// The keys of each mapping. The JSON Schema is tested against them.
pub(crate) mod keys {
    pub const TOP: &[&str] = &["steps", "images", "verify", "deploy"];
    pub const STEP: &[&str] = &[
        "name",
        "image",
        "run",
        "needs",
        "env",
        "workdir",
        "timeout",
        "secrets",
        "artifacts",
        "reports",
        "network",
        "memory",
    ];
    pub const SECRET: &[&str] = &["name", "env"];
    pub const REPORTS: &[&str] = &["junit"];
    pub const IMAGE: &[&str] = &[
        "name",
        "context",
        "dockerfile",
        "target",
        "args",
        "builder",
        "buildpacks",
        "run-image",
        "env",
        "descriptor",
        "default-process",
        "tag",
        "needs",
    ];
    /// What is for images made by Dockerfiles, and what is for those made by buildpacks.
    pub const DOCKERFILE: &[&str] = &["dockerfile", "target", "args"];
    pub const BUILDPACKS: &[&str] = &["builder", "buildpacks", "run-image", "env", "descriptor", "default-process"];
    pub const VERIFY: &[&str] = &["require", "vulnerabilities", "licences", "sign"];
    pub const VULNERABILITIES: &[&str] = &["fail", "vex"];
    pub const LICENCES: &[&str] = &["deny"];
    pub const DEPLOY: &[&str] = &["from", "values", "environments"];
    pub const ENVIRONMENT: &[&str] =
        &["name", "namespace", "after", "approve", "strategy", "on-failure", "progress-deadline", "values"];
}

/// Strategies that are foreseen but not there.
const LATER: [&str; 5] = ["canary", "blue-green", "ab", "shadow", "judge"];

/// Keys of a step that are foreseen but not there.
pub(crate) const LATER_KEYS: [&str; 5] = ["if", "matrix", "services", "cache", "retry"];
/// What runs call parts of their own.
const RESERVED: [&str; 2] = [crate::lower::CHECKOUT, crate::listing::EVIDENCE];
const PART: &str = "runs have a part of their own that is called so";

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30 * 60);
pub(crate) const PROGRESS_DEADLINE: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Less memory than this cannot hold a shell and what it starts.
const LEAST_MEMORY: u64 = 16 << 20;
const MOST_STEPS: usize = 200;

/// Parses the text of a pipeline file; `name` is how messages call the file, for example `.shipway.yaml`.
///
/// # Errors
/// Everything that is wrong, each with its place and what to do. Only when the text is not YAML, or exceeds a limit of size or depth,
/// it is that alone.
pub fn parse(text: &str, name: &str) -> Result<Pipeline, Diagnostics> {
    let source = Source::new(name, text);
    let root = yaml::parse(&source).map_err(|diagnostic| Diagnostics(vec![diagnostic]))?;
    let mut reader = Reader::new(source.clone());
    let pipeline = top(&mut reader, &root, source);
    reader.finish(pipeline)
}

fn top(r: &mut Reader, root: &Node, source: Arc<Source>) -> Pipeline {
    let mut pipeline =
        Pipeline { steps: Vec::new(), images: Vec::new(), verify: Verify::default(), deploy: None, source };
    let Some(fields) = r.fields(root, TOP, keys::TOP) else { return pipeline };
    let mut needs = Vec::new();
    if let Some(node) = fields.get("steps") {
        for item in limited(r, node, "- name: test", "steps") {
            if let Some((step, wants)) = step::step(r, item) {
                pipeline.steps.push(step);
                needs.push(wants);
            }
        }
    }
    let mut image_needs = Vec::new();
    if let Some(node) = fields.get("images") {
        for item in limited(r, node, "- name: journal/frontend", "images") {
            if let Some((image, wants)) = image::image(r, item) {
                pipeline.images.push(image);
                image_needs.push(wants);
            }
        }
    }
    if ["steps", "images", "deploy"].iter().all(|part| fields.get(part).is_none()) {
        r.error(fields.at, "there is nothing to do", "write `steps:`, `images:` or `deploy:`".to_owned());
    }
    check::steps(r, &mut pipeline, &needs, &image_needs);
    if let Some(node) = fields.get("verify") {
        pipeline.verify = verify::verify(r, node);
    }
    if let Some(node) = fields.get("deploy") {
        pipeline.deploy = deploy::deploy(r, node);
    }
    pipeline
}

fn limited<'n>(r: &mut Reader, node: &'n Node, example: &str, what: &str) -> &'n [Node] {
    let items = r.list_of_maps(node, example);
    match items.get(MOST_STEPS) {
        Some(item) => {
            r.error(item.at, format!("more than {MOST_STEPS} {what}"), NO_HINT);
            &items[..MOST_STEPS]
        }
        None => items,
    }
}

fn refuse_latest(r: &mut Reader, at: Span, what: &str) {
    let hint = "name a version: the same commit must give the same result tomorrow".to_owned();
    r.error(at, format!("`latest` is refused as the tag of {what}"), hint);
}
