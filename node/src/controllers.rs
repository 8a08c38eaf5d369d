//! What keeps objects as their specs say: one controller a kind, each a pure `plan` and a thin hand that carries it out.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::Objects;

pub mod deployment;
pub mod endpoints;
pub mod job;
pub mod machine;
pub mod pods;
pub mod reconcile;
pub mod replicaset;
pub mod root_ca;
pub mod typed;

pub use machine::{Machine, MachineConfig};
pub use reconcile::{Controller, run};

/// Every controller that needs nothing but the objects. `root_ca` is PEM.
pub fn all(objects: &Objects, root_ca: &str) -> Vec<Arc<dyn Controller>> {
    vec![
        Arc::new(deployment::Deployments::new(objects.clone())),
        Arc::new(replicaset::ReplicaSets::new(objects.clone())),
        Arc::new(job::Jobs::new(objects.clone())),
        Arc::new(endpoints::Slices::new(objects.clone())),
        Arc::new(root_ca::RootCa::new(objects.clone(), root_ca.to_owned())),
    ]
}

/// Runs controllers until `stop`.
pub async fn run_all(controllers: Vec<Arc<dyn Controller>>, objects: Objects, stop: CancellationToken) {
    let running = controllers.into_iter().map(|controller| run(controller, objects.clone(), stop.clone()));
    futures::future::join_all(running).await;
}
