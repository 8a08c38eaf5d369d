//! A chart in memory.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use yaml::Map;

use crate::{
    Flavor, Tree,
    metadata::{Lock, Metadata},
};

/// A file of a chart; the name is relative to the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub data: Bytes,
}

/// A chart and its subcharts, as loaded.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    pub metadata: Metadata,
    pub lock: Option<Lock>,
    /// Every file as it was, `charts/` included.
    pub raw: Vec<File>,
    /// What is under `templates/`.
    pub templates: Vec<File>,
    /// What is neither a template nor part of the chart's own description.
    pub files: Vec<File>,
    /// Others of that kind, which are read when a template asks for them.
    pub(crate) later: Later,
    /// The defaults.
    pub values: Map,
    /// `values.schema.json`.
    pub schema: Option<Bytes>,
    /// The charts under `charts/`, by the names of their directories or archives.
    pub dependencies: Vec<Chart>,
}

/// Files that lie where the chart was loaded from: their names in the chart, and their paths there.
#[derive(Clone, Default)]
pub(crate) struct Later {
    pub tree: Option<Arc<dyn Tree + Send + Sync>>,
    pub paths: BTreeMap<String, String>,
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Later").field(&self.paths).finish()
    }
}

/// A file under `crds/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crd<'c> {
    /// With the path of its chart.
    pub path: String,
    pub data: &'c Bytes,
}

impl Chart {
    /// The name in its `Chart.yaml`.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// A file by its name, from among all.
    pub fn raw(&self, name: &str) -> Option<&Bytes> {
        self.raw.iter().find(|file| file.name == name).map(|file| &file.data)
    }

    /// Refuses what only others can use.
    pub fn installable(&self) -> Result<(), crate::Error> {
        match self.metadata.kind.as_str() {
            "" | "application" => Ok(()),
            kind => Err(crate::Error::Chart(format!("{kind} charts are not installable"))),
        }
    }

    /// Refuses a chart whose declared dependencies do not lie in `charts/`.
    pub fn check_dependencies(&self, flavor: Flavor) -> Result<(), crate::Error> {
        let missing: Vec<&str> = self
            .metadata
            .dependencies
            .iter()
            .filter(|wanted| !self.dependencies.iter().any(|chart| chart.name() == wanted.name))
            .map(|wanted| wanted.name.as_str())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (start, command) = match flavor {
            Flavor::Helm3 => ("An", "`helm dependency build`"),
            Flavor::Helm4 => ("an", "'helm dependency build'"),
        };
        Err(crate::Error::Dependency(format!(
            "{start} error occurred while checking for chart dependencies. You may need to run {command} to fetch missing dependencies: found in Chart.yaml, but missing in charts/ directory: {}",
            missing.join(", ")
        )))
    }
}
