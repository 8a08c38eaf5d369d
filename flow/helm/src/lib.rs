//! Helm's releases in a cluster: install, upgrade, roll back, uninstall, test, and what there is to read about them.
//!
//! Reads charts and values, and through the Kubernetes API what lives in the cluster; writes objects, and for every revision
//! of a release a Secret or ConfigMap exactly as Helm does, so that either program goes on from where the other stopped.
//! What changes is decided by pure functions ([`patch`], [`ownership`], [`status`], `chart::release`); the rest carries it
//! out. A revision that is being worked on names its [`Owner`], so that one whose process is gone never blocks the next
//! command. Never reads the disk, the environment or the wall clock: what is needed of them is an argument.

pub mod action;
mod apply;
mod build;
mod claim;
mod cluster;
mod error;
mod formatted;
mod hooks;
mod lookup;
pub mod managers;
pub mod ownership;
pub mod patch;
mod render;
pub mod status;
mod storage;
mod values;
mod wait;

pub use action::{Deploy, DryRun, Helm, Rollback, Say, Strategy, Testing, Uninstall, Uninstalled};
pub use claim::{Life, Owner};
pub use cluster::{Cluster, Kinds, Resource};
pub use error::Error;
pub use formatted::{formatted, with_template};
pub use render::{Filter, Source};
pub use storage::{Driver, Held, Labels, Storage};
pub use values::{Reuse, computed};

/// The name under which fields are owned: that of the real Helm, so that the two do not conflict.
pub const MANAGER: &str = "helm";
