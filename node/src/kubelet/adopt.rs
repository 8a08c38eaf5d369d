//! What is known of a pod after a restart of the server: from what survived, and from its status as it was written last.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use tokio::time::Instant;

use super::plan::Shape;
use super::state::{Ended, Once, Phase, Running, Slot, State};
use crate::controllers::typed;
use crate::runtime::{ContainerId, Exit, SurvivingPod, Survivor};
use jiff::Timestamp;

/// The state to go on from, and the containers of earlier attempts that can be removed.
pub fn adopt(
    pod: &Pod,
    shape: &Shape,
    survived: Option<&SurvivingPod>,
    now: Timestamp,
    at: Instant,
) -> (State, Vec<ContainerId>) {
    let images = shape.members.iter().map(|member| member.image.as_str());
    let mut state = State::new(shape.members.iter().map(|member| member.name.as_str()), images);
    state.started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    if let Some(network) = survived.and_then(|survived| survived.network.clone()) {
        state.network = Once::Here(network);
    }
    let uid = typed::uid(&pod.metadata);
    let mut surplus = Vec::new();
    for (name, slot) in &mut state.containers {
        let mut own: Vec<&Survivor> =
            survived.into_iter().flat_map(|s| &s.containers).filter(|survivor| survivor.id.name == *name).collect();
        own.sort_by_key(|survivor| survivor.id.attempt);
        let newest = own.pop();
        surplus.extend(own.into_iter().map(|survivor| survivor.id.clone()));
        *slot = one(uid, name, written(pod, name), newest, now, at);
    }
    let strangers = survived.into_iter().flat_map(|survived| &survived.containers);
    surplus.extend(strangers.filter(|s| !state.containers.contains_key(&s.id.name)).map(|s| s.id.clone()));
    (state, surplus)
}

fn written<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.into_iter().find(|status| status.name == name)
}

fn one(
    uid: &str,
    name: &str,
    written: Option<&ContainerStatus>,
    survivor: Option<&Survivor>,
    now: Timestamp,
    at: Instant,
) -> Slot {
    let restarts = written.and_then(|status| u32::try_from(status.restart_count).ok()).unwrap_or(0);
    let image_id = written.map(|status| status.image_id.clone()).unwrap_or_default();
    let attempt = survivor.map_or(restarts, |survivor| survivor.id.attempt);
    let id = ContainerId { pod: uid.to_owned(), name: name.to_owned(), attempt };
    let end = |state: &ContainerState, attempt: u32| {
        let terminated = state.terminated.as_ref()?;
        Some(Ended {
            id: ContainerId { attempt, ..id.clone() },
            image_id: image_id.clone(),
            started_at: terminated.started_at.as_ref().map(|time| time.0),
            exit: Exit {
                code: terminated.exit_code,
                out_of_memory: terminated.reason.as_deref() == Some("OOMKilled"),
                at: terminated.finished_at.as_ref().map_or(now, |time| time.0),
            },
            message: terminated.message.clone().unwrap_or_default(),
            reason: terminated.reason.as_deref().and_then(known_reason),
            seen: at,
        })
    };
    let last = written.and_then(|status| end(status.last_state.as_ref()?, attempt.saturating_sub(1)));
    let current = written.and_then(|status| status.state.as_ref()).filter(|_| restarts == attempt);
    let started_at = survivor
        .and_then(|survivor| survivor.started_at)
        .or_else(|| current?.running.as_ref()?.started_at.as_ref().map(|time| time.0));
    let phase = match survivor {
        Some(Survivor { exit: None, image, .. }) => {
            let started = current.is_some() && written.is_some_and(|status| status.started == Some(true));
            Phase::Running(Running {
                id,
                image: None,
                image_id: image
                    .as_ref()
                    .map_or_else(|| image_id.clone(), |digest| with_digest(&image_id, digest.as_str())),
                started_at: started_at.unwrap_or(now),
                started,
                // It served until now: a probe says soon enough if it no longer does.
                ready: started && written.is_some_and(|status| status.ready),
            })
        }
        Some(Survivor { exit: Some(exit), .. }) => Phase::Ended(Ended {
            id,
            image_id,
            started_at,
            exit: exit.clone(),
            message: current.and_then(|c| c.terminated.as_ref()?.message.clone()).unwrap_or_default(),
            reason: None,
            seen: at,
        }),
        None => match current {
            Some(state) if state.terminated.is_some() => {
                end(state, attempt).map_or(Phase::Idle { failed: None }, Phase::Ended)
            }
            // It was running and is gone: the machine restarted, or somebody killed it.
            Some(state) if state.running.is_some() => Phase::Ended(Ended {
                id,
                image_id,
                started_at,
                exit: Exit { code: 137, out_of_memory: false, at: now },
                message: "The container could not be located when the node came back".into(),
                reason: Some("ContainerStatusUnknown"),
                seen: at,
            }),
            // In back-off: what it waits after is its last end.
            Some(_) if last.is_some() && written.is_some_and(in_back_off) => {
                let ended =
                    last.clone().map(|ended| Ended { id: ContainerId { attempt, ..ended.id.clone() }, ..ended });
                ended.map_or(Phase::Idle { failed: None }, Phase::Ended)
            }
            _ => Phase::Idle { failed: None },
        },
    };
    Slot { attempt, phase, last, backoff: Default::default() }
}

fn in_back_off(status: &ContainerStatus) -> bool {
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
}

fn known_reason(reason: &str) -> Option<&'static str> {
    ["ContainerStatusUnknown", "StartError"].into_iter().find(|known| *known == reason)
}

/// The image id with its digest replaced by the one that is known to run.
fn with_digest(image_id: &str, digest: &str) -> String {
    match image_id.split_once('@') {
        Some((repository, _)) => format!("{repository}@{digest}"),
        None => digest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::pods::tests::at;
    use crate::kubelet::status::shape;
    use crate::runtime::PodNetwork;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [{"name": "web", "image": "i"}]},
            "status": status,
        }))
        .unwrap()
    }

    fn status(restarts: i32, state: serde_json::Value) -> serde_json::Value {
        json!({"startTime": "2026-01-01T00:00:00Z", "containerStatuses": [
            {"name": "web", "image": "i", "imageID": "i@sha256:0", "restartCount": restarts, "ready": true, "started": true,
             "state": state}]})
    }

    fn survivor(attempt: u32, exit: Option<i32>) -> Survivor {
        Survivor {
            id: ContainerId { pod: "u".into(), name: "web".into(), attempt },
            image: None,
            started_at: Some(at(1)),
            exit: exit.map(|code| Exit { code, out_of_memory: false, at: at(2) }),
        }
    }

    fn state(pod: &Pod, containers: Vec<Survivor>) -> (State, Vec<ContainerId>) {
        let network = Some(PodNetwork { ip: [10, 0, 0, 2].into() });
        let survived = SurvivingPod { uid: "u".into(), network, containers };
        adopt(pod, &shape(pod), Some(&survived), at(9), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_container_goes_on_as_it_was() {
        let pod = pod(status(2, json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}})));
        let (state, surplus) = state(&pod, vec![survivor(1, Some(0)), survivor(2, None)]);
        let slot = &state.containers["web"];
        assert_eq!(slot.attempt, 2);
        assert!(matches!(&slot.phase, Phase::Running(running) if running.ready && running.started));
        assert_eq!(state.ip(), Some([10, 0, 0, 2].into()));
        assert_eq!(surplus.len(), 1, "the attempt before is removed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_was_not_written_down_yet_counts() {
        let (state, _) = state(&pod(status(0, json!({"running": {}}))), vec![survivor(1, None)]);
        let slot = &state.containers["web"];
        assert_eq!(slot.attempt, 1);
        assert!(matches!(&slot.phase, Phase::Running(running) if !running.ready), "it has to show that it is ready");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_nobody_saw_is_taken_from_the_runtime() {
        let (state, _) = state(&pod(status(0, json!({"running": {}}))), vec![survivor(0, Some(3))]);
        assert_eq!(state.containers["web"].ended().unwrap().exit.code, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_without_a_trace_has_ended_and_finished_ones_stay_finished() {
        let gone = pod(status(4, json!({"running": {}})));
        let (state, _) = adopt(&gone, &shape(&gone), None, at(9), Instant::now());
        let slot = &state.containers["web"];
        assert_eq!((slot.attempt, slot.ended().unwrap().reason), (4, Some("ContainerStatusUnknown")));
        let done = pod(status(0, json!({"terminated": {"exitCode": 0}})));
        let (state, _) = adopt(&done, &shape(&done), None, at(9), Instant::now());
        assert_eq!(state.containers["web"].ended().unwrap().exit.code, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_was_never_started_begins_from_nothing() {
        let new = pod(json!({}));
        let (state, surplus) = adopt(&new, &shape(&new), None, at(9), Instant::now());
        assert!(matches!(state.containers["web"].phase, Phase::Idle { failed: None }));
        assert!(surplus.is_empty());
    }
}
