//! What `.shipway.yaml` says, after parsing: every default filled in, every name checked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use records::{EvidenceKind, Name, OnFailure, Severity, Strategy};

use crate::diagnostics::{Diagnostic, Source, Span, nearest};

/// The name of the file at the top of a repository.
pub const FILE_NAME: &str = ".shipway.yaml";

/// A pipeline. The steps it names exist, and nothing waits for itself.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// In the order of the file.
    pub steps: Vec<Step>,
    /// In the order of the file.
    pub images: Vec<ImageBuild>,
    pub verify: Verify,
    pub deploy: Option<Deploy>,
    pub(crate) source: Arc<Source>,
}

/// A program that runs in a container on the files of the commit.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: Name,
    /// The image as the file names it, for example `node`: to be resolved to a digest once.
    pub image: String,
    pub run: Command,
    /// Indices of the steps that must have succeeded before it starts.
    pub needs: Vec<usize>,
    pub env: BTreeMap<String, String>,
    /// A path inside the repository; empty for its top.
    pub workdir: String,
    pub timeout: Duration,
    pub secrets: Vec<graph::SecretUse>,
    /// Patterns of files to keep, relative to the top of the repository.
    pub artifacts: Vec<String>,
    /// Patterns of JUnit XML files, relative to the top of the repository.
    pub junit: Vec<String>,
    pub network: graph::Network,
    /// Bytes; `None` for no limit of its own.
    pub memory: Option<u64>,
    pub(crate) image_at: Span,
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A script for `/bin/sh -eu`.
    Shell(String),
    /// A program and its arguments, without a shell.
    Program(Vec<String>),
}

/// An image that is made by a Dockerfile or by buildpacks, and pushed.
#[derive(Debug, Clone)]
pub struct ImageBuild {
    /// The repository in Shipway's registry, for example `journal/frontend`.
    pub name: String,
    /// The directory that the build sees; empty for the top of the repository.
    pub context: String,
    /// The Dockerfile, relative to the context; `None` where the file does not say.
    pub dockerfile: Option<String>,
    /// The stage to build; `None` for the last.
    pub target: Option<String>,
    pub args: BTreeMap<String, String>,
    /// What the file says of buildpacks. Where it says anything, or the context has no Dockerfile and none is named, they make the image.
    pub buildpacks: Option<Buildpacks>,
    pub tag: Tag,
    /// Indices of the steps that must have succeeded before it is built.
    pub needs: Vec<usize>,
    pub(crate) name_at: Span,
}

/// How buildpacks make an image. The names are those of `pack build`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buildpacks {
    /// An image, or a directory of the repository with `builder.toml`; `None` for that of `project.toml`, else the server's.
    pub builder: Option<String>,
    /// In place of the builder's order: directories of the repository, images, addresses, ids of the builder's.
    pub buildpacks: Vec<String>,
    pub run_image: Option<String>,
    /// Variables for buildpacks.
    pub env: BTreeMap<String, String>,
    /// The project's file, relative to the context; `None` for `project.toml`.
    pub descriptor: Option<String>,
    /// The process that the image starts.
    pub process: Option<String>,
    pub(crate) builder_at: Option<Span>,
    pub(crate) buildpacks_at: Vec<Span>,
    pub(crate) run_image_at: Option<Span>,
}

/// A part of what the file says of an image that is made by buildpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildpackPart {
    /// The name of the image: for what the file does not say.
    Name,
    Builder,
    /// By its place in the list.
    Buildpack(usize),
    RunImage,
}

/// A tag with `{commit}`, `{build}` or `{system-build}` in it, so that no two builds share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(pub(crate) String);

/// What every image of the pipeline must bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    pub require: Vec<EvidenceKind>,
    /// The severity from which a finding refuses an image; `None` for never.
    pub fail_on: Option<Severity>,
    /// Patterns of OpenVEX documents in the repository.
    pub vex: Vec<String>,
    /// SPDX identifiers.
    pub deny_licences: Vec<String>,
    /// The keys that sign: `ci` is the server's own.
    pub sign: Vec<String>,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            require: EvidenceKind::ALL.to_vec(),
            fail_on: Some(Severity::High),
            vex: Vec::new(),
            deny_licences: Vec::new(),
            sign: vec!["ci".into()],
        }
    }
}

/// Where the images go.
#[derive(Debug, Clone)]
pub struct Deploy {
    /// The directory or file with the manifests, or the directory of a chart.
    pub from: String,
    /// Files of values for the chart, for every environment.
    pub values: Vec<String>,
    pub environments: Vec<Target>,
}

/// An environment as the file describes it.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: Name,
    /// `None` for `<project>-<environment>`.
    pub namespace: Option<Name>,
    pub after: Option<Name>,
    pub approve: Vec<String>,
    pub strategy: Strategy,
    pub on_failure: OnFailure,
    pub progress_deadline: Duration,
    /// Files of values for the chart, over those for every environment.
    pub values: Vec<String>,
}

impl Tag {
    /// Names of ways to tag, each with the template that it stands for.
    pub(crate) const STRATEGIES: [(&'static str, &'static str); 4] = [
        ("build-id", "{build}"),
        ("system-build-id", "{system-build}"),
        ("git-hash", "{commit}"),
        ("git-hash-build-id", "{commit}-{build}"),
    ];

    /// The tag of one build: `{commit}` becomes the first twelve digits of the commit, `{build}` the number of the run, and
    /// `{system-build}` what the run is called on the whole server, for example `journal-42`.
    pub fn render(&self, commit: &records::CommitId, run: &records::RunId) -> String {
        self.0
            .replace("{commit}", commit.short())
            .replace("{build}", &run.build.to_string())
            .replace("{system-build}", &format!("{}-{}", run.project, run.build))
    }
}

impl Pipeline {
    /// What to tell a person about a part of an image that buildpacks make: with its place, or that of the image's name where the file
    /// does not say it.
    pub fn buildpacks_wrong(
        &self,
        image: &ImageBuild,
        part: BuildpackPart,
        message: &str,
        hint: Option<String>,
    ) -> Diagnostic {
        let packs = image.buildpacks.as_ref();
        let at = packs.and_then(|packs| match part {
            BuildpackPart::Name => None,
            BuildpackPart::Builder => packs.builder_at,
            BuildpackPart::Buildpack(index) => packs.buildpacks_at.get(index).copied(),
            BuildpackPart::RunImage => packs.run_image_at,
        });
        self.source.diagnostic(at.unwrap_or(image.name_at), message, hint)
    }

    /// The names of the images that steps run in, each once, in the order of the file.
    pub fn step_images(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for step in &self.steps {
            if !names.contains(&step.image.as_str()) {
                names.push(&step.image);
            }
        }
        names
    }

    /// What to tell a person whose step names an image that does not exist. `known` are the names that do.
    pub fn image_missing<'k>(&self, image: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Diagnostic {
        let at = self.steps.iter().find(|step| step.image == image).map_or(Span::default(), |step| step.image_at);
        let hint = match nearest(image, known.clone()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => {
                let known: Vec<String> = known.into_iter().take(10).map(|name| format!("`{name}`")).collect();
                if known.is_empty() {
                    "push it to this registry first".into()
                } else {
                    format!("there are {}; others must be pushed to this registry first", known.join(", "))
                }
            }
        };
        self.source.diagnostic(at, format!("there is no image `{image}`"), Some(hint))
    }
}
