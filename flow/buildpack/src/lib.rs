//! Cloud Native Buildpacks: the platform's side of the specification (Platform API 0.15, Buildpack API 0.7 to 0.12).
//!
//! Reads descriptors (`buildpack.toml`, orders, `project.toml`, labels of builders), decides which group of buildpacks takes an
//! application, drives `bin/detect` and `bin/build` through the caller's [`Runner`], reads what they leave, and says of which layers,
//! labels and configuration the image is made; and it rebases images by their documents alone. It starts no process, opens no
//! connection and pushes nothing. Image extensions are refused.

pub mod api;
pub mod build;
pub mod descriptor;
pub mod detect;
pub mod environment;
mod error;
pub mod export;
mod files;
pub mod labels;
pub mod launch;
pub mod layer;
pub mod plan;
pub mod project;
pub mod rebase;
pub mod restore;
mod runner;
pub mod slices;
pub mod target;
pub mod write;

pub use error::{Error, Result};
pub use runner::{Ended, Ground, Place, Program, Runner};

/// The version of the Platform API that is followed.
pub const PLATFORM_API: &str = "0.15";

/// The program that starts the processes of an image, for this platform: static, without dependencies.
pub const LAUNCHER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/launcher"));

/// The directory name of a buildpack's id: ids may have slashes.
pub fn escaped(id: &str) -> String {
    id.replace('/', "_")
}
