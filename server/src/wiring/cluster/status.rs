//! How far workloads are, from what the cluster lists. Pure.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{Event, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rollout::{Failure, FailureKind, WorkloadRef, WorkloadStatus};

use super::failure::{is_ready, of_pods, tidy};

/// The number of a Deployment's template, on it and on its ReplicaSets.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The template that a pod of a StatefulSet was made from.
const REVISION_HASH: &str = "controller-revision-hash";
/// Characters of a controller's own message.
const MESSAGE: usize = 300;

/// What was found in a namespace, all at about the same time.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub deployments: Vec<Deployment>,
    pub replica_sets: Vec<ReplicaSet>,
    pub stateful_sets: Vec<StatefulSet>,
    pub daemon_sets: Vec<DaemonSet>,
    pub jobs: Vec<Job>,
    pub pods: Vec<Pod>,
    pub events: Vec<Event>,
}

impl Found {
    /// The status of these workloads; what is not there is left out.
    pub(super) fn statuses(&self, workloads: &[WorkloadRef]) -> Vec<WorkloadStatus> {
        let status = |workload: &WorkloadRef| match workload.kind.as_str() {
            "Deployment" => named(&self.deployments, workload, |d| &d.metadata).map(|found| self.deployment(found)),
            "StatefulSet" => {
                named(&self.stateful_sets, workload, |s| &s.metadata).map(|found| self.stateful_set(found))
            }
            "DaemonSet" => named(&self.daemon_sets, workload, |d| &d.metadata).map(|found| self.daemon_set(found)),
            "Job" => named(&self.jobs, workload, |j| &j.metadata).map(|found| self.job(found)),
            _ => None,
        };
        workloads.iter().filter_map(status).collect()
    }

    /// The newest version is the ReplicaSet of the revision that the Deployment says it is at. The lists are not of one instant; while
    /// that ReplicaSet is not among those that were seen, nothing of the newest version is there.
    fn deployment(&self, deployment: &Deployment) -> WorkloadStatus {
        let (meta, spec, status) = (&deployment.metadata, deployment.spec.as_ref(), deployment.status.as_ref());
        let mut sets: Vec<&ReplicaSet> = self.replica_sets.iter().filter(|set| owned(&set.metadata, meta)).collect();
        sets.sort_by_key(|set| std::cmp::Reverse(revision(&set.metadata)));
        let newest = match revision(meta) {
            Some(revision_now) => sets.iter().find(|set| revision(&set.metadata) == Some(revision_now)),
            None => sets.first(),
        };
        let new: Vec<&Pod> = newest.map(|set| self.live(&set.metadata).collect()).unwrap_or_default();
        let all = sets.iter().flat_map(|set| self.live(&set.metadata)).count();
        let ready = new.iter().filter(|pod| is_ready(pod)).count();
        let available = match spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0) {
            0 => ready,
            // Only the controller knows since when.
            _ => ready.min(count(newest.and_then(|set| set.status.as_ref()?.available_replicas))),
        };
        let paused = spec.and_then(|spec| spec.paused) == Some(true);
        let failure = of_pods(&new, &self.events)
            .or_else(|| cannot_create(*newest?))
            .or_else(|| paused.then(|| waits("it is paused, so nothing of it is replaced")));
        WorkloadStatus {
            observed: status.and_then(|status| status.observed_generation).unwrap_or(0),
            desired: small(spec.and_then(|spec| spec.replicas).unwrap_or(1)),
            updated: as_count(new.len()),
            ready: as_count(ready),
            available: as_count(available),
            old_replicas: as_count(all - new.len()),
            failure,
            ..blank("Deployment", meta)
        }
    }

    fn stateful_set(&self, set: &StatefulSet) -> WorkloadStatus {
        let (meta, spec, status) = (&set.metadata, set.spec.as_ref(), set.status.as_ref());
        let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
        let by_hand = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
        let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or(0);
        let revision = status.and_then(|status| status.update_revision.as_deref());
        let is_new = |pod: &&Pod| {
            let labels = pod.metadata.labels.as_ref();
            by_hand || revision.is_some() && labels.and_then(|l| l.get(REVISION_HASH)).map(String::as_str) == revision
        };
        // Below the partition the older version is what is wanted.
        let counts = |pod: &&Pod| is_new(pod) || ordinal(&pod.metadata).is_none_or(|ordinal| ordinal >= partition);
        let (new, old): (Vec<&Pod>, Vec<&Pod>) = self.live(meta).filter(counts).partition(is_new);
        let ready = new.iter().filter(|pod| is_ready(pod)).count();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let available = match spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0) {
            0 => ready,
            _ => ready.min(count(status.and_then(|status| status.available_replicas))),
        };
        WorkloadStatus {
            observed: status.and_then(|status| status.observed_generation).unwrap_or(0),
            desired: small(replicas - partition.clamp(0, replicas)),
            updated: as_count(new.len()),
            ready: as_count(ready),
            available: as_count(available),
            old_replicas: as_count(old.len()),
            failure: of_pods(&new, &self.events),
            ..blank("StatefulSet", meta)
        }
    }

    /// Which pods are of the newest version is known to the controller alone, which gives totals: older ones are taken to be ready.
    fn daemon_set(&self, set: &DaemonSet) -> WorkloadStatus {
        let (meta, status) = (&set.metadata, set.status.clone().unwrap_or_default());
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref());
        let desired = small(status.desired_number_scheduled);
        let updated = match strategy {
            Some("OnDelete") => small(status.current_number_scheduled),
            _ => small(status.updated_number_scheduled.unwrap_or(0)),
        };
        let old = small(status.current_number_scheduled).saturating_sub(updated);
        let of_new = |all: i32| small(all).saturating_sub(old).min(updated);
        let ready = of_new(status.number_ready);
        let pods: Vec<&Pod> = self.live(meta).collect();
        WorkloadStatus {
            observed: status.observed_generation.unwrap_or(0),
            desired,
            updated,
            ready,
            available: ready.min(of_new(status.number_available.unwrap_or(0))),
            old_replicas: old,
            failure: of_pods(&pods, &self.events),
            ..blank("DaemonSet", meta)
        }
    }

    fn job(&self, job: &Job) -> WorkloadStatus {
        let (meta, spec) = (&job.metadata, job.spec.clone().unwrap_or_default());
        let status = job.status.clone().unwrap_or_default();
        let holds =
            |kind: &str| status.conditions.iter().flatten().find(|found| found.type_ == kind && found.status == "True");
        let succeeded = small(status.succeeded.unwrap_or(0));
        // Without a number of completions, one of its pods that succeeds is enough.
        let desired = if holds("Complete").is_some() { succeeded } else { small(spec.completions.unwrap_or(1)) };
        let pods: Vec<&Pod> = self.pods.iter().filter(|pod| owned(&pod.metadata, meta)).collect();
        let of_pods = of_pods(&pods, &self.events);
        let failure = match holds("Failed") {
            Some(failed) => {
                let own = tidy(failed.message.as_deref().or(failed.reason.as_deref()).unwrap_or_default(), MESSAGE);
                let message = of_pods.map_or(own, |failure| failure.message);
                Some(Failure { kind: FailureKind::Refused, message: format!("it failed: {message}") })
            }
            None if spec.suspend == Some(true) => Some(waits("it is suspended")),
            // The job itself counts how often it is tried.
            None => of_pods.map(|failure| match failure.kind {
                FailureKind::Crashing { .. } => Failure { kind: FailureKind::NotReady, ..failure },
                _ => failure,
            }),
        };
        WorkloadStatus {
            // A job's pods cannot be changed, so it is never behind.
            observed: meta.generation.unwrap_or(0),
            desired,
            updated: succeeded + small(status.active.unwrap_or(0)),
            ready: succeeded,
            available: succeeded,
            old_replicas: 0,
            failure: failure.filter(|_| holds("Complete").is_none()),
            ..blank("Job", meta)
        }
    }

    /// Pods of an owner that are there to stay.
    fn live<'a>(&'a self, owner: &'a ObjectMeta) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            owned(&pod.metadata, owner)
                && pod.metadata.deletion_timestamp.is_none()
                && !matches!(phase, Some("Failed" | "Succeeded"))
        })
    }
}

/// Why no pod of a ReplicaSet is made, in the words of its controller.
fn cannot_create(set: &ReplicaSet) -> Option<Failure> {
    let conditions = set.status.as_ref()?.conditions.iter().flatten();
    let failed = conditions.into_iter().find(|found| found.type_ == "ReplicaFailure" && found.status == "True")?;
    let message = failed.message.as_deref().unwrap_or_default();
    // A quota is free again once older pods have ended.
    let kind = match message.contains("forbidden") && !message.contains("exceeded quota") {
        true => FailureKind::Refused,
        false => FailureKind::NotReady,
    };
    Some(Failure { kind, message: format!("its pods cannot be made: {}", tidy(message, MESSAGE)) })
}

fn waits(message: &str) -> Failure {
    Failure { kind: FailureKind::NotReady, message: message.to_owned() }
}

fn blank(kind: &str, meta: &ObjectMeta) -> WorkloadStatus {
    WorkloadStatus {
        kind: kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or(0),
        observed: 0,
        desired: 0,
        updated: 0,
        ready: 0,
        available: 0,
        old_replicas: 0,
        failure: None,
    }
}

fn named<'a, K>(all: &'a [K], workload: &WorkloadRef, meta: impl Fn(&K) -> &ObjectMeta) -> Option<&'a K> {
    all.iter().find(|found| meta(found).name.as_deref() == Some(&workload.name))
}

/// Whether the owner is the controller of this object.
fn owned(object: &ObjectMeta, owner: &ObjectMeta) -> bool {
    let Some(uid) = &owner.uid else { return false };
    object.owner_references.iter().flatten().any(|found| found.controller == Some(true) && found.uid == *uid)
}

fn revision(meta: &ObjectMeta) -> Option<u64> {
    meta.annotations.as_ref()?.get(REVISION)?.parse().ok()
}

/// The number at the end of the name of a StatefulSet's pod.
fn ordinal(meta: &ObjectMeta) -> Option<i32> {
    meta.name.as_ref()?.rsplit_once('-')?.1.parse().ok()
}

fn small(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn count(number: Option<i32>) -> usize {
    small(number.unwrap_or(0)) as usize
}

fn as_count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
