//! The built-in node: a single-machine cluster that speaks the Kubernetes API.
//!
//! Reads and writes Kubernetes objects in the log (kinds `k8s/<group>/<plural>`), reads images by digest, and starts containers
//! through `sandbox`. It never starts an image that the admission it was given refuses.

pub mod admission;
pub mod api;
pub mod controllers;
pub mod dns;
pub mod error;
pub mod kubelet;
pub mod node;
pub mod objects;
pub mod runtime;
pub mod services;
pub mod tls;

pub use error::{Cause, Error, Refusal, Result};
pub use node::{Node, NodeConfig};
pub use objects::Objects;
