//! The software bill of materials of an image: what its layers hold, as CycloneDX 1.6.
//!
//! Layers are read as streams, once each ([`LayerCache`]); only files that speak of packages are kept. Debian packages come from
//! dpkg's database, npm packages from what is installed and from lock files,
//! what buildpacks brought from the lists that they leave. Files outside of packages are not listed.

pub mod cache;
pub mod catalogue;
pub mod copyright;
pub mod cyclonedx;
pub mod dpkg;
pub mod facts;
pub mod layer;
pub mod listed;
pub mod npm;
pub mod origin;
pub mod os_release;

pub use cache::LayerCache;
pub use catalogue::{Catalogue, Ecosystem, Package};
