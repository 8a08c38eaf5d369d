//! The pipeline: what a repository's `.shipway.yaml` asks for, turned into vertices of the step graph.
//!
//! Reads the text of the file, the records of commits and runs; writes nothing itself. [`parse`] gives a [`Pipeline`] or everything that is
//! wrong with the file; [`lower`](Pipeline::lower) turns its steps into vertices; [`plan`](plan::plan) decides which runs are to be.
//! This crate does no I/O and knows no clock.

mod check;
pub mod diagnostics;
pub mod file;
pub mod junit;
mod listing;
pub mod lower;
mod parse;
pub mod plan;
mod read;
pub mod schema;
mod units;
mod yaml;

pub use diagnostics::{Diagnostic, Diagnostics, Span};
pub use file::{
    BuildpackPart, Buildpacks, Command, Deploy, FILE_NAME, ImageBuild, Pipeline, Step, Tag, Target, Verify,
};
pub use listing::EVIDENCE;
pub use lower::{Lowered, Place, ResolvedImage};
pub use parse::parse;
pub use schema::schema;
