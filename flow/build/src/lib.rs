//! How images come to be: a Dockerfile becomes vertices of the step graph, and base images are assembled from signed Debian packages.
//!
//! Reads: a Dockerfile, the listing of a build context, a Debian archive. Writes: vertices into a [`graph::Graph`], images into the
//! registry. It never runs anything itself, never takes a maintainer script of a package, and never deploys.

pub mod base;
pub mod checks;
pub mod chmod;
pub mod compose;
pub mod config;
pub mod context;
pub mod diagnostic;
pub mod dockerfile;
pub mod error;
pub mod export;
mod glob;
pub mod ignore;
pub mod lower;
pub mod pattern;
pub mod tags;

pub use config::{ImageConfig, Platform};
pub use context::{ContextEntry, ContextTree, StatCache};
pub use diagnostic::{Diagnostic, Warning};
pub use error::{Error, Result};
pub use export::{ExportOptions, Exported, LayerInfo, check_tag, export};
pub use ignore::Ignore;
pub use lower::{
    Attempt, BaseName, Bases, Fetched, Fresh, Lowered, Named, Options, Plan, Remote, ResolvedBase, base_key,
    base_names, is_git, is_remote, lower, lower_or_needs, shown, without_credentials,
};
pub use lower::{csv, size};
pub use tags::{TagFacts, TagStrategy};
