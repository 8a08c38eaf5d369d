//! How many pods a ReplicaSet makes, which it deletes, and what its status says.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::{pods, typed};

/// The most pods made in one step.
const BURST: usize = 500;

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: usize,
    /// Name and uid.
    pub delete: Vec<(String, String)>,
    pub status: ReplicaSetStatus,
    /// When a pod will become available by the passing of time alone.
    pub again: Option<Duration>,
}

/// `pods` are those that the ReplicaSet controls.
pub fn plan(set: &ReplicaSet, owned: &[Pod], now: Timestamp) -> Plan {
    let spec = &set.spec;
    let min_ready = spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let wanted = spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0);
    let (counts, again) = pods::count(owned, min_ready, now);
    let status = status(set, owned, counts);
    let mut plan = Plan { status, again, ..Plan::default() };
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let difference = i64::from(wanted) - i64::from(counts.active);
    if difference > 0 {
        plan.create = usize::try_from(difference).unwrap_or(BURST).min(BURST);
    } else if difference < 0 {
        let surplus = usize::try_from(-difference).unwrap_or(0);
        plan.delete = victims(owned.iter().filter(|pod| pods::is_active(pod)).collect(), surplus, now);
    }
    plan
}

fn status(set: &ReplicaSet, owned: &[Pod], counts: pods::Counts) -> ReplicaSetStatus {
    let before = set.status.clone().unwrap_or_default();
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let labelled = owned.iter().filter(|pod| pods::is_active(pod)).filter(|pod| {
        let own = pod.metadata.labels.as_ref();
        labels.into_iter().flatten().all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
    });
    ReplicaSetStatus {
        replicas: counts.active,
        fully_labeled_replicas: Some(i32::try_from(labelled.count()).unwrap_or(i32::MAX)).filter(|n| *n > 0),
        ready_replicas: Some(counts.ready).filter(|n| *n > 0),
        available_replicas: Some(counts.available).filter(|n| *n > 0),
        terminating_replicas: before.terminating_replicas.and(Some(counts.terminating)),
        observed_generation: set.metadata.generation,
        conditions: before.conditions,
    }
}

/// The `surplus` pods that are missed least, as Kubernetes ranks them: not placed before placed, pending before running, not
/// ready before ready, cheap before dear, ready for a short time before ready for long, often restarted before seldom, young
/// before old.
fn victims(mut active: Vec<&Pod>, surplus: usize, now: Timestamp) -> Vec<(String, String)> {
    active.sort_by_key(|pod| {
        let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().is_some_and(|n| !n.is_empty()));
        let phase = match pods::phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost = typed::annotation(&pod.metadata, "controller.kubernetes.io/pod-deletion-cost");
        let cost: i32 = cost.and_then(|cost| cost.parse().ok()).unwrap_or(0);
        let ready_for = pods::ready_since(pod).map(|since| magnitude(now.as_second() - since.as_second()));
        let age = pod.metadata.creation_timestamp.as_ref().map(|at| now.as_second() - at.0.as_second());
        (placed, phase, pods::is_ready(pod), cost, ready_for, Reverse(pods::restarts(pod)), age)
    });
    let chosen = active.into_iter().take(surplus);
    chosen.map(|pod| (typed::name(&pod.metadata).to_owned(), typed::uid(&pod.metadata).to_owned())).collect()
}

/// Times are compared by order of magnitude, so that pods of one rollout are alike.
fn magnitude(seconds: i64) -> u32 {
    u64::try_from(seconds).map_or(0, |seconds| 64 - seconds.leading_zeros())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSetSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::controllers::pods::tests::{at, pod};

    fn set(replicas: i32) -> ReplicaSet {
        ReplicaSet {
            spec: Some(ReplicaSetSpec { replicas: Some(replicas), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn makes_what_is_missing_and_counts_what_is_there() {
        let mut leaving = pod("b", "Running", Some(0));
        leaving.metadata.deletion_timestamp = Some(Time(at(1)));
        let plan = plan(&set(3), &[pod("a", "Running", Some(0)), leaving, pod("c", "Failed", None)], at(5));
        assert_eq!((plan.create, plan.delete.len()), (2, 0), "terminating and failed pods are replaced");
        assert_eq!((plan.status.replicas, plan.status.ready_replicas), (1, Some(1)));
    }

    #[test]
    fn deletes_the_pods_that_are_missed_least() {
        let mut young = pod("young", "Running", Some(0));
        young.metadata.creation_timestamp = Some(Time(at(4)));
        let mut cheap = pod("cheap", "Running", Some(0));
        let cost = ("controller.kubernetes.io/pod-deletion-cost".to_owned(), "-1".to_owned());
        cheap.metadata.annotations = Some([cost].into());
        let owned = [
            pod("old", "Running", Some(0)),
            young,
            cheap,
            pod("unready", "Running", None),
            pod("pending", "Pending", None),
        ];
        let names =
            |replicas| plan(&set(replicas), &owned, at(5)).delete.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(names(4), ["pending"]);
        assert_eq!(names(1), ["pending", "unready", "cheap", "young"]);
        assert_eq!(names(5), [""; 0]);
    }

    #[test]
    fn a_replica_set_that_is_being_deleted_makes_nothing() {
        let mut dying = set(3);
        dying.metadata.deletion_timestamp = Some(Time(at(0)));
        let plan = plan(&dying, &[], at(5));
        assert_eq!((plan.create, plan.delete.len()), (0, 0));
    }
}
