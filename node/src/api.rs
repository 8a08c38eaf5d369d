//! The Kubernetes API over HTTPS.

pub mod apply;
pub mod defaults;
pub mod patch;
pub mod schema;
pub mod streams;
