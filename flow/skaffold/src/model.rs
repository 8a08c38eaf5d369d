//! The model: a configuration of the newest version, as types. Field names are the schema's.

mod artifact;
mod deploy;

pub use artifact::*;
pub use deploy::*;

use std::collections::BTreeMap;

use serde::Deserialize;
use yaml::Value;

type Strings = BTreeMap<String, String>;

/// A configuration with its profiles applied and its defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    pub metadata: Metadata,
    pub build: Build,
    pub test: Vec<Test>,
    pub manifests: Manifests,
    pub deploy: Deploy,
    pub port_forward: Vec<PortForward>,
    pub resource_selector: ResourceSelector,
    pub verify: Vec<Verify>,
    pub custom_actions: Vec<CustomAction>,
}

impl Config {
    pub(crate) fn read(tree: &Value) -> std::result::Result<Self, String> {
        serde_json::from_value(tree.clone().into()).map_err(|error| error.to_string())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Metadata {
    pub name: String,
    pub labels: Strings,
    pub annotations: Strings,
}

/// Tests of an image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Test {
    pub image: String,
    pub context: String,
    pub custom: Vec<CustomTest>,
    /// Files for container-structure-test.
    pub structure_tests: Vec<String>,
    pub structure_tests_args: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTest {
    pub command: String,
    pub timeout_seconds: i64,
    pub dependencies: Option<Dependencies>,
}

/// Which changes matter.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Dependencies {
    pub dockerfile: Option<DockerfileDependency>,
    /// Prints a JSON list of paths.
    pub command: String,
    pub paths: Vec<String>,
    pub ignore: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerfileDependency {
    pub path: String,
    pub build_args: BTreeMap<String, Option<String>>,
}

/// A port of the cluster on this machine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortForward {
    pub resource_type: String,
    pub resource_name: String,
    pub namespace: String,
    pub port: Port,
    pub address: String,
    pub local_port: i64,
}

/// A port by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Port {
    Number(i64),
    Name(String),
}

impl Default for Port {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// Which kinds of objects have their images and labels changed, beyond the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ResourceSelector {
    pub allow: Vec<ResourceFilter>,
    pub deny: Vec<ResourceFilter>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceFilter {
    /// `Deployment.apps`; a regular expression.
    pub group_kind: String,
    /// JSON paths of images.
    pub image: Vec<String>,
    pub labels: Vec<String>,
    pub pod_spec: Vec<String>,
}

/// A container that is run against what was deployed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verify {
    pub name: String,
    /// Seconds.
    pub timeout: Option<i64>,
    pub container: Container,
    pub execution_mode: ExecutionMode,
}

/// Containers that are run by name, with `skaffold exec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomAction {
    pub name: String,
    pub fail_fast: Option<bool>,
    /// Seconds.
    pub timeout: Option<i64>,
    pub containers: Vec<Container>,
    pub execution_mode: ExecutionMode,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<Variable>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Variable {
    pub name: String,
    pub value: String,
}

/// Where containers run: on this machine unless it says a cluster.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutionMode {
    pub local: Option<LocalMode>,
    pub kubernetes_cluster: Option<ClusterMode>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalMode {
    pub use_local_images: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterMode {
    /// JSON over the Job.
    pub overrides: String,
    pub job_manifest_path: String,
}
