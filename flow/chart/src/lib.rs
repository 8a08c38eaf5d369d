//! Helm charts: files in, rendered documents out, byte for byte as `helm` prints them.
//!
//! Loads charts ([`Loader`]), puts values together ([`Given`]), renders ([`Render`]), checks ([`lint`]), packs
//! ([`package`]), reads repositories ([`repository`]) and decides what happens to releases ([`release`]).
//! No disk, network, clock or randomness of its own: time and seed are arguments, and what is outside is asked for through
//! small traits. Where Helm 3 and Helm 4 differ, a [`Flavor`] says whose way it is; the default is Helm 4's.

mod capabilities;
mod chart;
mod error;
mod files;
mod glob;
pub mod jsonpath;
pub mod lint;
pub mod load;
pub mod manifest;
pub mod metadata;
pub mod package;
mod part;
mod pattern;
pub mod provenance;
mod quote;
pub mod release;
pub mod render;
pub mod repository;
pub mod scaffold;
pub mod values;
pub mod version;
mod warnings;

pub use capabilities::{Capabilities, KubeVersion};
pub use chart::{Chart, Crd, File};
pub use error::Error;
pub use load::{Limits, Loader, Tree};
pub use render::{Release, Render, Rendered};
pub use values::Given;
pub use warnings::Warnings;

/// Whose behaviour and wording is wanted, where two major versions of Helm differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flavor {
    Helm3,
    #[default]
    Helm4,
}
