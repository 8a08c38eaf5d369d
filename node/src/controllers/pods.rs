//! What the controllers need to know of a pod.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither ended nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !has_ended(pod) && !is_terminating(pod)
}

/// When it last became ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether it has been ready for `min_ready` seconds; else how long until it will have been, if it stays ready.
pub fn is_available(pod: &Pod, min_ready: i32, now: Timestamp) -> Result<(), Option<Duration>> {
    if !is_ready(pod) {
        return Err(None);
    }
    if min_ready <= 0 {
        return Ok(());
    }
    let Some(since) = ready_since(pod) else { return Err(None) };
    let left = since + SignedDuration::from_secs(min_ready.into()) - now;
    let left = SignedDuration::try_from(left).unwrap_or_default();
    if left.is_positive() { Err(Some(left.unsigned_abs())) } else { Ok(()) }
}

/// The sum of the restarts of its containers.
pub fn restarts(pod: &Pod) -> i32 {
    pod.status.as_ref().map_or(0, |status| status.container_statuses.iter().flatten().map(|c| c.restart_count).sum())
}

/// How many pods there are of each sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Neither ended nor terminating.
    pub active: i32,
    pub ready: i32,
    pub available: i32,
    pub terminating: i32,
}

/// Counts pods, and says after which time one more will be available.
pub fn count<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    min_ready: i32,
    now: Timestamp,
) -> (Counts, Option<Duration>) {
    let (mut counts, mut soonest) = (Counts::default(), None::<Duration>);
    for pod in pods {
        if has_ended(pod) {
            continue;
        }
        if is_terminating(pod) {
            counts.terminating += 1;
            continue;
        }
        counts.active += 1;
        counts.ready += i32::from(is_ready(pod));
        match is_available(pod, min_ready, now) {
            Ok(()) => counts.available += 1,
            Err(Some(left)) => soonest = Some(soonest.map_or(left, |soonest| soonest.min(left))),
            Err(None) => {}
        }
    }
    (counts, soonest)
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::PodStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;

    pub fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    /// A pod in a phase, ready since a second of the test or not.
    pub fn pod(name: &str, phase: &str, ready: Option<i64>) -> Pod {
        let status = if ready.is_some() { "True" } else { "False" };
        let condition = PodCondition {
            type_: "Ready".into(),
            status: status.into(),
            last_transition_time: ready.map(|second| Time(at(second))),
            ..Default::default()
        };
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                creation_timestamp: Some(Time(at(0))),
                ..Default::default()
            },
            spec: None,
            status: Some(PodStatus {
                phase: Some(phase.into()),
                conditions: Some(vec![condition]),
                ..Default::default()
            }),
        }
    }

    #[test]
    fn a_pod_is_available_once_it_was_ready_long_enough() {
        let ready = pod("a", "Running", Some(10));
        assert_eq!(is_available(&ready, 0, at(10)), Ok(()));
        assert_eq!(is_available(&ready, 5, at(12)), Err(Some(Duration::from_secs(3))));
        assert_eq!(is_available(&ready, 5, at(15)), Ok(()));
        assert_eq!(is_available(&pod("b", "Running", None), 5, at(99)), Err(None));
    }

    #[test]
    fn pods_that_ended_or_terminate_do_not_count_as_active() {
        let mut leaving = pod("c", "Running", Some(0));
        leaving.metadata.deletion_timestamp = Some(Time(at(1)));
        let pods = [pod("a", "Running", Some(0)), pod("b", "Failed", None), leaving, pod("d", "Pending", None)];
        let (counts, soonest) = count(&pods, 0, at(5));
        assert_eq!(counts, Counts { active: 2, ready: 1, available: 1, terminating: 1 });
        assert_eq!(soonest, None);
    }
}
