//! Rollouts: releases brought onto the cluster.

use records::Timestamp;
use rollout::Report;

use super::release::Said;
use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// Kinds of the built-in node whose changes say how far a rollout is. Of other clusters nothing is seen here: they are looked at
/// again and again while something is under way.
pub const CLUSTER_KINDS: [&str; 4] =
    ["k8s/apps/deployments", "k8s/apps/replicasets", "k8s/batch/jobs", "k8s/core/pods"];

/// Goes on with what is under way; when to look again at the latest, if something is.
pub async fn activate(app: &App, said: &Said) -> Result<Option<Timestamp>> {
    let report = app.rooms.rollouts.activate(app.now()).await.map_err(|error| match error {
        rollout::Error::Store(error) => error.into(),
        error => Fault::from_error(Class::Unavailable, &error),
    })?;
    let Report { changed: _, released: _, waiting, again, failed } = report;
    let waiting = waiting.iter().map(|(id, waiting)| format!("release {id}: {waiting}"));
    let failed = failed.iter().map(|(id, error)| format!("release {id}: {}", crate::fault::chain(error)));
    for sentence in said.news(waiting.chain(failed)) {
        tracing::info!("{sentence}");
    }
    Ok(again)
}
