//! `Chart.yaml`, `requirements.yaml` and their locks.

mod decode;
mod describe;
mod validate;

pub(crate) use decode::decode_error;

use std::collections::BTreeMap;

/// A chart's `Chart.yaml`. What is not given is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    pub name: String,
    pub home: String,
    pub sources: Vec<String>,
    pub version: String,
    pub description: String,
    pub keywords: Vec<String>,
    pub maintainers: Vec<Maintainer>,
    pub icon: String,
    pub api_version: String,
    pub condition: String,
    pub tags: String,
    pub app_version: String,
    pub deprecated: bool,
    pub annotations: BTreeMap<String, String>,
    pub kube_version: String,
    pub dependencies: Vec<Dependency>,
    /// `application`, `library` or empty.
    pub kind: String,
}

/// Who looks after a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Maintainer {
    pub name: String,
    pub email: String,
    pub url: String,
}

/// A chart that another one needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dependency {
    pub name: String,
    /// A range of versions; one version in a lock.
    pub version: String,
    /// An URL, `file://…`, `oci://…`, `@name` or `alias:name`; empty when the chart lies in `charts/`.
    pub repository: String,
    /// Paths of values, the first boolean of which switches it.
    pub condition: String,
    pub tags: Vec<String>,
    pub enabled: bool,
    pub import_values: Vec<Import>,
    pub alias: String,
}

/// Values that a parent takes over from a subchart.
#[derive(Clone, Debug, PartialEq)]
pub enum Import {
    /// What the subchart has under `exports.NAME`, put at the parent's root.
    Export(String),
    /// The table at one path of the subchart, put at a path of the parent.
    Pair { child: String, parent: String },
}

/// `Chart.lock`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lock {
    /// When it was made, as written.
    pub generated: String,
    pub digest: String,
    pub dependencies: Vec<Dependency>,
}

impl Metadata {
    /// True for a chart that only others use.
    pub fn is_library(&self) -> bool {
        self.kind.eq_ignore_ascii_case("library")
    }
}
