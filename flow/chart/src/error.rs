//! What can go wrong with a chart. Texts are Helm's where Helm has one, so that they can be searched for.

/// An error of this crate.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of an unpacked chart.
    #[error("{path}: {cause}")]
    File { path: String, cause: String },
    /// `.helmignore`.
    #[error(".helmignore: {0}")]
    Ignore(String),
    /// A packed chart.
    #[error("{0}")]
    Archive(String),
    /// The files make no chart.
    #[error("{0}")]
    Chart(String),
    /// Values that cannot be read or put together.
    #[error("{0}")]
    Values(String),
    /// Values that the chart's schema refuses.
    #[error("values don't meet the specifications of the schema(s) in the following chart(s):\n{0}")]
    Schema(String),
    /// A chart that is not for this version of Kubernetes.
    #[error("chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {have}")]
    KubeVersion { wanted: String, have: String },
    /// A template that cannot be parsed or carried out.
    #[error("{text}")]
    Template {
        /// What `helm` says.
        text: String,
        /// The chain of templates.
        source: Box<template::Error>,
    },
    /// Rendered text that is no YAML.
    #[error("YAML parse error on {path}: {cause}")]
    Manifest {
        path: String,
        cause: String,
        /// All that was rendered, for whoever looks for the line.
        rendered: String,
    },
    /// A template that `--show-only` names and that is not there.
    #[error("could not find template {0} in chart")]
    NoTemplate(String),
    /// A post-renderer that failed.
    #[error("{0}")]
    PostRender(String),
    /// Dependencies that cannot be found or resolved.
    #[error("{0}")]
    Dependency(String),
    /// A repository's index.
    #[error("{0}")]
    Index(String),
    /// A stored release.
    #[error("{0}")]
    Record(String),
    /// An operation that the state of a release does not allow.
    #[error("{0}")]
    Release(String),
    /// A provenance file.
    #[error("{0}")]
    Provenance(String),
}
