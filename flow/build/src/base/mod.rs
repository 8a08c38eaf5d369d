//! Base images, assembled from signed Debian packages.

pub mod resolve;
