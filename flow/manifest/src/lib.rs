//! Kubernetes objects from the files of a repository. Pure: text in, objects out; no cluster, no clock, no disk.
//!
//! Reads plain YAML and JSON. A chart or a kustomization is recognised, and refused with an error that says so.

mod error;
mod images;
mod order;
mod parse;
mod place;

pub use error::{Error, Position, Problem, Result};
pub use images::{Pinned, Unpinned, name_of, pin, references};
pub use order::{apply_order, is_namespaced};
pub use parse::{MAX_FILE_BYTES, MAX_OBJECTS, Object, SourceFile, is_manifest, parse};
pub use place::{Placement, place};
