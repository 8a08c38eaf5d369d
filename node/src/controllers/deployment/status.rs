//! What a Deployment's status says, and when a rollout counts as stuck.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};

use super::rolling::Bounds;
use crate::controllers::pods::Counts;
use crate::controllers::typed;

pub const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// What happened to the new ReplicaSet in this step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewSet {
    /// There is none (paused, or waiting for old pods to end).
    None,
    Same,
    Created,
    /// It is one that was there before: a roll back, or an adoption.
    Found,
}

/// What is known when the status is made.
pub struct Facts<'a> {
    pub deployment: &'a Deployment,
    /// Pods of all ReplicaSets.
    pub all: Counts,
    /// Pods of the new one.
    pub new: Counts,
    pub new_name: &'a str,
    pub change: NewSet,
    pub collisions: Option<i32>,
    pub now: Timestamp,
}

/// The status, and when the deadline passes if nothing moves.
pub fn status(facts: &Facts<'_>) -> (DeploymentStatus, Option<Duration>) {
    let spec = facts.deployment.spec.clone().unwrap_or_default();
    let before = facts.deployment.status.clone().unwrap_or_default();
    let bounds = Bounds::of(facts.deployment);
    let some = |n: i32| Some(n).filter(|n| *n > 0);
    let mut after = DeploymentStatus {
        observed_generation: facts.deployment.metadata.generation,
        replicas: some(facts.all.active),
        updated_replicas: some(facts.new.active),
        ready_replicas: some(facts.all.ready),
        available_replicas: some(facts.all.available),
        unavailable_replicas: some(facts.all.active.max(bounds.replicas) - facts.all.available),
        terminating_replicas: None,
        collision_count: facts.collisions,
        conditions: before.conditions.clone(),
    };
    let enough = facts.all.available >= bounds.replicas - bounds.max_unavailable;
    let available = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut after, "Available", available.0, available.1, available.2.into(), facts.now, false);
    let deadline = spec.progress_deadline_seconds.filter(|seconds| *seconds < i32::MAX);
    let Some(deadline) = deadline else {
        after.conditions.iter_mut().for_each(|all| all.retain(|c| c.type_ != "Progressing"));
        return (after, None);
    };
    let paused = spec.paused == Some(true);
    progress(facts, &before, &mut after, paused, bounds.replicas, deadline);
    let again = (!paused).then(|| waits(&after, deadline, facts.now)).flatten();
    (after, again)
}

fn progress(
    facts: &Facts<'_>,
    before: &DeploymentStatus,
    after: &mut DeploymentStatus,
    paused: bool,
    replicas: i32,
    deadline: i32,
) {
    let now = facts.now;
    let known = find(before, "Progressing").cloned();
    let reason = known.as_ref().and_then(|condition| condition.reason.clone()).unwrap_or_default();
    let name = facts.new_name;
    if paused {
        if reason != PAUSED {
            set(after, "Progressing", "Unknown", PAUSED, "Deployment is paused".into(), now, true);
        }
        return;
    }
    if reason == PAUSED {
        set(after, "Progressing", "Unknown", RESUMED, "Deployment is resumed".into(), now, true);
        return;
    }
    let n = |value: Option<i32>| value.unwrap_or(0);
    let complete = n(after.updated_replicas) == replicas
        && n(after.replicas) == replicas
        && n(after.available_replicas) == replicas
        && facts.change == NewSet::Same;
    if complete {
        let message = format!("ReplicaSet {name:?} has successfully progressed.");
        let fresh = reason != NEW_SET_AVAILABLE;
        set(after, "Progressing", "True", NEW_SET_AVAILABLE, message, now, fresh);
        return;
    }
    // A rollout that was complete and has merely lost a pod is not a rollout again.
    if reason == NEW_SET_AVAILABLE && facts.change == NewSet::Same && n(after.updated_replicas) == n(after.replicas) {
        return;
    }
    let moved = n(after.updated_replicas) > n(before.updated_replicas)
        || n(after.replicas) - n(after.updated_replicas) < n(before.replicas) - n(before.updated_replicas)
        || n(after.ready_replicas) > n(before.ready_replicas)
        || n(after.available_replicas) > n(before.available_replicas);
    match facts.change {
        NewSet::Created => {
            let message = format!("Created new replica set {name:?}");
            set(after, "Progressing", "True", "NewReplicaSetCreated", message, now, true);
        }
        NewSet::Found => {
            let message = format!("Found new replica set {name:?}");
            set(after, "Progressing", "True", "FoundNewReplicaSet", message, now, true);
        }
        _ if moved || known.is_none() => {
            let message = format!("ReplicaSet {name:?} is progressing.");
            set(after, "Progressing", "True", "ReplicaSetUpdated", message, now, true);
        }
        _ if reason != TIMED_OUT && due(after, deadline, now).is_some_and(|left| !left.is_positive()) => {
            let message = format!("ReplicaSet {name:?} has timed out progressing.");
            set(after, "Progressing", "False", TIMED_OUT, message, now, true);
        }
        _ => {}
    }
}

pub fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// How long the rollout may still stand still; `None` when it is complete or was given up.
fn due(status: &DeploymentStatus, deadline: i32, now: Timestamp) -> Option<SignedDuration> {
    let condition = find(status, "Progressing")?;
    if matches!(condition.reason.as_deref(), Some(NEW_SET_AVAILABLE | TIMED_OUT)) {
        return None;
    }
    let from = condition.last_update_time.as_ref().or(condition.last_transition_time.as_ref())?;
    Some((from.0 + SignedDuration::from_secs(deadline.into())).duration_since(now))
}

fn waits(status: &DeploymentStatus, deadline: i32, now: Timestamp) -> Option<Duration> {
    let left = due(status, deadline, now)?;
    Some(Duration::from_secs(u64::try_from(left.as_secs()).unwrap_or(0) + 1))
}

/// Sets a condition. Its transition time moves with its status; its update time when it says something new, or is `fresh`.
fn set(
    status: &mut DeploymentStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
    fresh: bool,
) {
    let now = typed::seconds(now);
    let all = status.conditions.get_or_insert_with(Vec::new);
    let known = all.iter().position(|condition| condition.type_ == kind);
    let mut condition = DeploymentCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(now.clone()),
        last_update_time: Some(now),
    };
    match known {
        Some(at) => {
            let old = &all[at];
            if old.status == condition.status {
                condition.last_transition_time = old.last_transition_time.clone();
                if !fresh && old.reason == condition.reason {
                    condition.last_update_time = old.last_update_time.clone();
                }
            }
            all[at] = condition;
        }
        None => all.push(condition),
    }
}
