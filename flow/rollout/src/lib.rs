//! Brings releases into their environments, and brings the one before back when one fails.
//!
//! Reads `Release` and `Rollout` records and the status of workloads; writes `Rollout` records, and a `Release` record for each way back.
//! It knows no Kubernetes client: a [`Cluster`] applies and looks.

pub mod act;
mod cluster;
mod error;
mod plan;

pub use act::{Report, Rollouts};
pub use cluster::{Cluster, ClusterError, Failure, FailureKind, ObjectRef, WorkloadRef, WorkloadStatus};
pub use error::{Error, Result};
pub use plan::{CRASHES, IMAGE_PATIENCE_S, Step, Target, Waiting, assess, targets, way_back};
