//! What this stage needs of a cluster.

use std::collections::BTreeMap;

use async_trait::async_trait;
use records::Name;
use serde_json::Value;

/// An object by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    /// None for an object that stands in no namespace.
    pub namespace: Option<String>,
    pub name: String,
}

/// A workload (Deployment, StatefulSet, DaemonSet or Job) of the environment's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadRef {
    pub kind: String,
    pub name: String,
}

/// How far a workload is. Replicas of its newest version are counted apart from all older ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadStatus {
    pub kind: String,
    pub name: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`: below it, the other figures are of an older version.
    pub observed: i64,
    /// Replicas that are wanted; completions, of a Job.
    pub desired: u32,
    /// Replicas of the newest version.
    pub updated: u32,
    /// Replicas of the newest version that are ready; succeeded ones, of a Job.
    pub ready: u32,
    /// Replicas of the newest version that have been ready for as long as the workload asks for.
    pub available: u32,
    /// Replicas of older versions that are not terminating yet.
    pub old_replicas: u32,
    /// What keeps the newest version from becoming ready, as seen at its newest pod.
    pub failure: Option<Failure>,
}

/// Why a pod is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// The end of a sentence, for example `readiness probe GET /ready on port 8080 answered 503`.
    pub message: String,
}

/// What kind of failure it is: how much patience it deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It runs, or is about to, and may still become ready.
    NotReady,
    /// It ended, so many times.
    Crashing { restarts: u32 },
    /// Its image cannot be had.
    Image,
    /// The cluster does not let it run, and will not: evidence is missing, or a quota or a policy stands against it.
    Refused,
}

/// Why a cluster did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// It will not take an object as it is. `object` is for people: `deployment journal/frontend`.
    #[error("the cluster rejects {object}: {message}")]
    Rejected { object: String, message: String },
    /// It cannot be reached, or is busy: trying again may help.
    #[error("the cluster cannot be reached: {0}")]
    Unavailable(String),
}

/// Where releases are applied. Every method can be repeated.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Applies objects one after the other (server-side apply, forced), in this order.
    async fn apply(&self, objects: &[Value], field_manager: &str) -> Result<(), ClusterError>;

    /// Deletes the objects that have all these labels and are not to be kept: those in the namespace, no others.
    async fn prune(
        &self,
        namespace: &Name,
        labels: &BTreeMap<String, String>,
        keep: &[ObjectRef],
    ) -> Result<(), ClusterError>;

    /// The status of these workloads; what is not there is left out.
    async fn workloads(&self, namespace: &Name, workloads: &[WorkloadRef])
    -> Result<Vec<WorkloadStatus>, ClusterError>;
}
