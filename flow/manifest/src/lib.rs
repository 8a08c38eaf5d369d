//! Kubernetes objects from the files of a repository. Pure: text in, objects out; no cluster, no clock, no disk.
//!
//! Reads plain YAML and JSON, and renders kustomizations. A chart is recognised, and refused with an error that says so.

mod error;
mod images;
mod order;
mod parse;
mod place;
mod rendered;

pub use error::{Error, Position, Problem, Result};
pub use images::{Pinned, Unpinned, name_of, pin, references};
pub use kustomize::{FileError, Files};
pub use order::{apply_order, is_namespaced};
pub use parse::{MAX_FILE_BYTES, MAX_OBJECTS, Object, SourceFile, is_manifest, parse};
pub use place::{Placement, place};
pub use rendered::{Kind, kustomization, recognise};
