//! What is rendered, and how it is deployed.

use serde::Deserialize;

use super::{HostHook, HostHooks, Strings};

/// What is rendered.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifests {
    /// Files of Kubernetes objects; `*` and `**` as in globs.
    pub raw_yaml: Vec<String>,
    pub remote_manifests: Vec<RemoteManifest>,
    pub kustomize: Option<Kustomize>,
    pub helm: Option<Helm>,
    pub kpt: Vec<String>,
    pub hooks: RenderHooks,
    pub transform: Option<Vec<Function>>,
    pub validate: Option<Vec<Function>>,
    pub output: String,
}

/// An object that is read from a cluster.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RemoteManifest {
    /// `NAMESPACE:KIND/NAME`.
    pub manifest: String,
    pub kube_context: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kustomize {
    pub paths: Vec<String>,
    pub build_args: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Helm {
    pub flags: HelmFlags,
    pub releases: Vec<HelmRelease>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HelmFlags {
    pub global: Vec<String>,
    pub install: Vec<String>,
    pub upgrade: Vec<String>,
    pub dep_build: Vec<String>,
    pub template: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HelmRelease {
    pub name: String,
    pub chart_path: String,
    pub remote_chart: String,
    pub values_files: Vec<String>,
    pub namespace: String,
    pub version: String,
    pub set_values: Strings,
    pub set_value_templates: Strings,
    pub set_files: Strings,
    pub create_namespace: Option<bool>,
    pub wait: bool,
    pub recreate_pods: bool,
    pub skip_build_dependencies: bool,
    pub skip_tests: bool,
    pub use_helm_secrets: bool,
    pub repo: String,
    pub upgrade_on_change: Option<bool>,
    /// Values, as a file of them.
    pub overrides: serde_json::Map<String, serde_json::Value>,
    pub packaged: Option<Packaged>,
    pub depends_on: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Packaged {
    pub version: String,
    pub app_version: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RenderHooks {
    pub before: Vec<RenderHook>,
    pub after: Vec<RenderHook>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RenderHook {
    pub host: Option<HostHook>,
}

/// A function of kpt.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Function {
    pub name: String,
    pub config_map: Vec<String>,
}

/// How it is deployed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deploy {
    pub docker: Option<DockerDeploy>,
    pub helm: Option<HelmDeploy>,
    /// Kept as it is.
    pub kpt: Option<serde_json::Value>,
    pub kubectl: Option<KubectlDeploy>,
    pub cloudrun: Option<CloudRunDeploy>,
    pub status_check: Option<bool>,
    pub status_check_deadline_seconds: i64,
    pub tolerate_failures_until_deadline: bool,
    pub kube_context: String,
    pub logs: Logs,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerDeploy {
    pub use_compose: bool,
    pub images: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HelmDeploy {
    pub concurrency: Option<i64>,
    pub releases: Vec<HelmRelease>,
    pub flags: HelmFlags,
    pub hooks: DeployHooks,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubectlDeploy {
    pub flags: KubectlFlags,
    pub remote_manifests: Vec<String>,
    pub default_namespace: Option<String>,
    pub hooks: DeployHooks,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubectlFlags {
    pub global: Vec<String>,
    pub apply: Vec<String>,
    pub delete: Vec<String>,
    pub disable_validation: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CloudRunDeploy {
    pub projectid: String,
    pub region: String,
    pub hooks: HostHooks,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeployHooks {
    pub before: Vec<DeployHook>,
    pub after: Vec<DeployHook>,
}

/// A command on this machine, or in a container of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeployHook {
    pub host: Option<HostHook>,
    pub container: Option<ContainerHook>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerHook {
    pub command: Vec<String>,
    pub pod_name: String,
    pub container_name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logs {
    /// `container`, `podAndContainer`, `auto` or `none`.
    pub prefix: String,
    pub json_parse: JsonParse,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JsonParse {
    pub fields: Vec<String>,
}
