//! The Kubernetes API over HTTPS.
//!
//! Serves the objects in [`Objects`] to `kubectl` and every other client of Kubernetes: discovery, reading, watching, writing,
//! patches, server-side apply, tables, logs and commands. It lets in who shows a certificate of the node's authority or its
//! token; whoever is in may do everything. Starts no container and decides nothing about pods; it also takes away what is owned
//! by what is gone ([`gc`]) and empties deleted namespaces.

mod answer;
pub mod apply;
mod body;
pub mod defaults;
mod discovery;
mod events;
pub mod gc;
mod namespaces;
mod openapi;
pub mod patch;
mod pod;
mod protobuf;
mod read;
mod remove;
mod request;
mod route;
pub mod schema;
mod server;
pub mod streams;
mod table;
pub mod validate;
mod write;

use std::sync::Arc;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

pub use server::{Server, ServerConfig};
pub use validate::{is_dns_label, is_dns_subdomain};

use crate::Error;
use crate::objects::Objects;
use streams::PodStreams;

/// What every request needs.
pub(crate) struct Api {
    pub objects: Objects,
    pub streams: Arc<dyn PodStreams>,
    /// The bearer token that lets in.
    pub token: String,
    /// `host:port`, as clients reach the API.
    pub address: String,
    pub stop: CancellationToken,
}

fn not_allowed() -> Error {
    Error::refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    )
}
