//! OCI images: references, layers, documents, layouts, the registry (server and client).
//!
//! Reads blobs and records under the kinds `registry/…`, and writes the same; everything is content by digest, and a tag is
//! resolved once, at the edge. Layers and manifests come from outside: they are bounded in size and count, never trusted as paths,
//! and refused with an error that names the entry. Whole blobs are never held in memory. The clock is an argument.

pub mod client;
pub mod error;
pub mod hash;
pub mod holes;
pub mod layer;
pub mod layout;
pub mod media;
pub mod oci;
pub mod reference;
pub mod registry;

use std::sync::Arc;

pub use error::{Error, Kind, Result};
pub use hash::{Algorithm, Hasher};
pub use oci_spec::image as spec;
pub use reference::Reference;
pub use registry::Registry;

/// Tells the time; the wall clock in production, a fixed or moving one in tests.
pub type Clock = Arc<dyn Fn() -> records::Timestamp + Send + Sync>;
