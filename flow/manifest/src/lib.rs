//! Kubernetes objects from the files of a repository. Pure: text in, objects out; no cluster, no clock, no disk.
//!
//! Finds out what a path is ([`recognise_path`]) and renders it ([`Kitchen`]): charts, kustomizations, plain YAML and JSON.
//! Says what changed between two renderings ([`differences`]), what is behind a field ([`explain`]), and what is wrong with
//! objects by the schemas of Kubernetes ([`Schemas`]). What was asked of the files can be noted ([`Watched`]), so that a
//! rendering is kept until an answer changes.

mod diff;
pub mod document;
mod error;
mod explain;
pub mod field;
pub mod history;
mod images;
mod order;
mod parse;
mod place;
mod plain;
mod render;
mod rendered;
pub mod schema;
pub mod tree;

pub use diff::{Change, Difference, differences};
pub use document::{Document, Name, Origin};
pub use error::{Error, Position, Problem, Result};
pub use explain::{Cause, Explanation, Role, explain};
pub use images::{Pinned, Unpinned, name_of, pin, references, unpinned};
pub use kustomize::{FileError, Files};
pub use order::{apply_order, is_namespaced};
pub use parse::{MAX_FILE_BYTES, MAX_OBJECTS, Object, SourceFile, is_manifest, parse};
pub use place::{Placement, place};
pub use plain::objects_of;
pub use render::{App, How, Kitchen, Output, recognise_path};
pub use rendered::{Kind, kustomization, recognise};
pub use schema::{Finding, Schemas, Severity};
pub use tree::{Snapshot, Tree, Watched};
