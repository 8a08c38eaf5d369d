//! Labels of images: JSON that buildpack tools leave for each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    descriptor::{Order, RunImage},
    launch::Metadata,
    layer::LayerFile,
};

pub const LIFECYCLE: &str = "io.buildpacks.lifecycle.metadata";
pub const BUILD: &str = "io.buildpacks.build.metadata";
pub const PROJECT: &str = "io.buildpacks.project.metadata";
pub const REBASABLE: &str = "io.buildpacks.rebasable";
pub const EXEC_ENV: &str = "io.buildpacks.exec-env";
pub const BUILDER: &str = "io.buildpacks.builder.metadata";
pub const BUILDPACKAGE: &str = "io.buildpacks.buildpackage.metadata";
pub const BUILDPACK_LAYERS: &str = "io.buildpacks.buildpack.layers";
pub const BUILDPACK_ORDER: &str = "io.buildpacks.buildpack.order";
pub const STACK: &str = "io.buildpacks.stack.id";

/// A layer by the digest of its tar.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sha {
    pub sha: String,
}

/// A launch layer of a buildpack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerLabel {
    #[serde(default)]
    pub sha: String,
    #[serde(flatten)]
    pub file: LayerFile,
}

/// `store.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    #[serde(default)]
    pub metadata: toml::Table,
}

/// A buildpack's layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackLayers {
    #[serde(rename = "key")]
    pub id: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub layers: BTreeMap<String, LayerLabel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
}

/// The run image under an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunImageLabel {
    #[serde(default)]
    pub top_layer: String,
    #[serde(default)]
    pub reference: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StackLabel {
    pub run_image: RunImage,
}

/// `io.buildpacks.lifecycle.metadata`: of which layers an image is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    #[serde(default)]
    pub app: Vec<Sha>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<Sha>,
    #[serde(default)]
    pub buildpacks: Vec<BuildpackLayers>,
    #[serde(default)]
    pub config: Sha,
    #[serde(default)]
    pub launcher: Sha,
    #[serde(default, rename = "process-types")]
    pub process_types: Sha,
    #[serde(default)]
    pub run_image: RunImageLabel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackLabel>,
    #[serde(default, rename = "exec-env", skip_serializing_if = "String::is_empty")]
    pub exec_env: String,
}

impl Lifecycle {
    pub fn of(&self, buildpack: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().find(|one| one.id == buildpack)
    }

    /// The names of the run image, also of an image from before there was `runImage`.
    pub fn run_names(&self) -> RunImage {
        match (&self.stack, self.run_image.image.is_empty()) {
            (Some(stack), true) => stack.run_image.clone(),
            _ => RunImage { image: self.run_image.image.clone(), mirrors: self.run_image.mirrors.clone() },
        }
    }
}

/// `io.buildpacks.builder.metadata`: what a builder has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Builder {
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub stack: StackLabel,
    #[serde(default)]
    pub run_images: Vec<RunImage>,
    #[serde(default)]
    pub buildpacks: Vec<BuilderModule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct BuilderModule {
    pub id: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub homepage: String,
}

impl Builder {
    pub fn run(&self) -> Vec<RunImage> {
        match (self.run_images.is_empty(), self.stack.run_image.image.is_empty()) {
            (false, _) => self.run_images.clone(),
            (true, false) => vec![self.stack.run_image.clone()],
            (true, true) => Vec::new(),
        }
    }
}

/// `io.buildpacks.buildpackage.metadata`: the buildpack that an image is.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Buildpackage {
    pub id: String,
    #[serde(default)]
    pub version: String,
}

/// `io.buildpacks.buildpack.layers`: id, version, and the layer that holds it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct LayerOf {
    #[serde(default)]
    pub api: String,
    #[serde(default, rename = "layerDiffID")]
    pub diff_id: String,
    #[serde(default)]
    pub order: Order,
}

pub type LayersOf = BTreeMap<String, BTreeMap<String, LayerOf>>;

/// Reads a label; `None` where the image has none.
pub fn read<T: serde::de::DeserializeOwned>(config: &serde_json::Value, label: &str) -> Result<Option<T>> {
    let Some(text) = config["config"]["Labels"][label].as_str() else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|e| Error::Document {
        file: format!("label {label}"),
        line: e.line(),
        column: e.column(),
        message: e.to_string(),
    })
}

/// `io.buildpacks.build.metadata`.
pub fn build(metadata: &Metadata) -> serde_json::Value {
    let processes: Vec<serde_json::Value> = metadata
        .processes
        .iter()
        .map(|process| {
            let mut one = serde_json::json!({
                "type": process.kind,
                "command": process.command,
                // Nothing, and not an empty list, where a buildpack says nothing, as the lifecycle has it.
                "args": (!process.args.is_empty()).then_some(&process.args),
                "direct": process.direct,
                "buildpackID": process.buildpack,
            });
            if !process.working_dir.is_empty() {
                one["working-dir"] = process.working_dir.clone().into();
            }
            if !process.exec_env.is_empty() {
                one["exec-env"] = process.exec_env.clone().into();
            }
            one
        })
        .collect();
    let buildpacks = metadata.buildpacks.iter().map(|member| {
        let mut one = serde_json::json!({ "id": member.id, "version": member.version });
        if !member.homepage.is_empty() {
            one["homepage"] = member.homepage.clone().into();
        }
        one
    });
    let mut all = serde_json::json!({
        "buildpacks": buildpacks.collect::<Vec<_>>(),
        "launcher": { "version": env!("CARGO_PKG_VERSION"), "source": { "git": { "repository": "", "commit": "" } } },
        "processes": processes,
    });
    if let Some(default) = &metadata.default {
        all["buildpack-default-process-type"] = default.clone().into();
    }
    all
}
