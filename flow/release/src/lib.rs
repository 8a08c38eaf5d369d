//! What each environment is to run.
//!
//! Reads `Run`, `Image`, `Evidence` and `Rollout` records and its own; writes `Release` records, each with the verdict of its
//! environment's policy, and `Approval` records. It never talks to a cluster.

pub mod act;
mod approval;
mod error;
mod licence;
mod plan;
mod policy;
mod render;

pub use act::{Releases, Report};
pub use approval::Approval;
pub use error::{Error, Result};
pub use plan::{Candidate, EVIDENCE_GRACE_S, Outcome, Plan, View, Waiting, plan, settle};
pub use policy::{decide, missing};
pub use render::{Rendered, render};
