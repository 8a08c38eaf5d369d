//! What is built, how, and under which tags.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Dependencies, Strings};

/// What is built.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Build {
    pub hooks: HostHooks,
    pub artifacts: Vec<Artifact>,
    pub insecure_registries: Vec<String>,
    pub tag_policy: TagPolicy,
    /// For every artifact that does not say itself (`linux/amd64`).
    pub platforms: Vec<String>,
    /// One of these is there: where builds run.
    pub local: Option<Local>,
    /// Kept as it is: Shipway builds on its own machines.
    pub google_cloud_build: Option<serde_json::Value>,
    /// Kept as it is: Shipway builds on its own machines.
    pub cluster: Option<serde_json::Value>,
}

/// Builds on this machine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Local {
    /// Unsaid: to remote clusters only.
    pub push: Option<bool>,
    pub try_import_missing: bool,
    #[serde(rename = "useDockerCLI")]
    pub use_docker_cli: bool,
    pub use_buildkit: Option<bool>,
    /// 0: as many as there are.
    pub concurrency: Option<i64>,
}

/// How images are tagged; one field is there.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagPolicy {
    pub git_commit: Option<GitCommit>,
    /// `latest`.
    pub sha256: Option<Nothing>,
    pub env_template: Option<EnvTemplate>,
    pub date_time: Option<DateTime>,
    pub custom_template: Option<CustomTemplate>,
    pub input_digest: Option<Nothing>,
}

/// A map without fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Nothing {}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GitCommit {
    /// `Tags` (also when empty), `CommitSha`, `AbbrevCommitSha`, `TreeSha`, `AbbrevTreeSha`, `Branches`.
    pub variant: String,
    pub prefix: String,
    pub ignore_changes: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EnvTemplate {
    pub template: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DateTime {
    /// Go's layout.
    pub format: String,
    pub timezone: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CustomTemplate {
    pub template: String,
    pub components: Vec<TagComponent>,
}

/// A policy that a template names.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TagComponent {
    pub name: String,
    #[serde(flatten)]
    pub policy: TagPolicy,
}

/// One image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Artifact {
    pub image: String,
    pub context: String,
    pub sync: Option<Sync>,
    pub docker: Option<Docker>,
    pub bazel: Option<Bazel>,
    pub ko: Option<Ko>,
    pub jib: Option<Jib>,
    /// Kept as it is.
    pub kaniko: Option<Kaniko>,
    pub buildpacks: Option<Buildpacks>,
    pub custom: Option<Custom>,
    /// Images that must be there first.
    pub requires: Vec<ArtifactDependency>,
    pub hooks: HostHooks,
    pub platforms: Vec<String>,
    pub runtime_type: String,
}

/// What builds an artifact.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Builder<'a> {
    Docker(&'a Docker),
    Kaniko(&'a Kaniko),
    Bazel(&'a Bazel),
    Ko(&'a Ko),
    Jib(&'a Jib),
    Buildpacks(&'a Buildpacks),
    Custom(&'a Custom),
}

impl Artifact {
    /// What builds it. After [`crate::load`] there is one.
    pub fn builder(&self) -> Option<Builder<'_>> {
        None.or(self.docker.as_ref().map(Builder::Docker))
            .or(self.kaniko.as_ref().map(Builder::Kaniko))
            .or(self.bazel.as_ref().map(Builder::Bazel))
            .or(self.ko.as_ref().map(Builder::Ko))
            .or(self.jib.as_ref().map(Builder::Jib))
            .or(self.buildpacks.as_ref().map(Builder::Buildpacks))
            .or(self.custom.as_ref().map(Builder::Custom))
    }

    /// Why Shipway cannot build it; nothing when it can: with a Dockerfile, or by a command.
    pub fn unsupported(&self) -> Option<String> {
        let (name, instead) = match self.builder()? {
            Builder::Docker(_) | Builder::Kaniko(_) | Builder::Custom(_) => return None,
            Builder::Bazel(_) => ("bazel", "run bazel in a `custom` build"),
            Builder::Ko(_) => ("ko", "run ko in a `custom` build, or write a Dockerfile"),
            Builder::Jib(_) => ("jib", "run Maven or Gradle in a `custom` build, or write a Dockerfile"),
            Builder::Buildpacks(_) => ("buildpacks", "run pack in a `custom` build, or write a Dockerfile"),
        };
        Some(format!("artifact {}: the builder `{name}` is not supported: {instead}", self.image))
    }
}

/// Files that go into running containers when they change.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Sync {
    pub manual: Vec<SyncRule>,
    pub infer: Vec<String>,
    pub auto: Option<bool>,
    /// Kept as they are.
    pub hooks: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SyncRule {
    pub src: String,
    pub dest: String,
    pub strip: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Docker {
    /// Relative to the context.
    pub dockerfile: String,
    pub target: String,
    /// Go templates; nothing: from the environment of the build.
    pub build_args: BTreeMap<String, Option<String>>,
    pub network: String,
    pub add_host: Vec<String>,
    pub cache_from: Vec<String>,
    pub cli_flags: Vec<String>,
    pub pull_parent: bool,
    pub no_cache: bool,
    pub squash: bool,
    pub secrets: Vec<DockerSecret>,
    pub ssh: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DockerSecret {
    pub id: String,
    /// A file.
    pub src: String,
    /// A variable.
    pub env: String,
}

/// The fields of kaniko that say what is built; the rest says how it runs in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kaniko {
    pub dockerfile: String,
    pub target: String,
    pub build_args: BTreeMap<String, Option<String>>,
    pub context_sub_path: String,
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Bazel {
    pub target: String,
    pub args: Vec<String>,
    pub platforms: Vec<BazelPlatform>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BazelPlatform {
    pub platform: String,
    pub target: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ko {
    pub from_image: String,
    pub dependencies: Option<Dependencies>,
    pub dir: String,
    pub env: Vec<String>,
    pub flags: Vec<String>,
    pub labels: Strings,
    pub ldflags: Vec<String>,
    pub main: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Jib {
    pub project: String,
    pub args: Vec<String>,
    /// `maven` or `gradle`; empty: by what is there.
    #[serde(rename = "type")]
    pub of: String,
    pub from_image: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Buildpacks {
    pub builder: String,
    pub run_image: String,
    pub env: Vec<String>,
    pub buildpacks: Vec<String>,
    pub trust_builder: bool,
    pub clear_cache: bool,
    pub project_descriptor: String,
    pub dependencies: Option<Dependencies>,
    pub volumes: Vec<BuildpackVolume>,
    pub build_args: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BuildpackVolume {
    pub host: String,
    pub target: String,
    pub options: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Custom {
    pub build_command: String,
    pub dependencies: Option<Dependencies>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ArtifactDependency {
    pub image: String,
    /// The build argument that gets the image.
    pub alias: String,
}

/// Commands on this machine, before and after.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HostHooks {
    pub before: Vec<HostHook>,
    pub after: Vec<HostHook>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostHook {
    pub command: Vec<String>,
    pub os: Vec<String>,
    pub dir: String,
    pub with_change: bool,
}
