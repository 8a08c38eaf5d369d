//! What a pod's status says, from what the kubelet knows of it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use serde_json::Value;
use tokio::time::Instant;

use super::plan::{self, Member, Role, Shape};
use super::resources;
use super::sources::Place;
use super::state::{Ended, Ending, Phase, Slot, State};
use crate::controllers::typed;

/// The conditions that the kubelet sets; others belong to others.
const OWN: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The whole status. Times of conditions that did not change are kept from the pod's status as it is stored.
pub fn status(pod: &Pod, shape: &Shape, state: &State, place: &Place, now: Timestamp, at: Instant) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let statuses = |init: bool| -> Option<Vec<ContainerStatus>> {
        let members = shape.members.iter().filter(|member| (member.role == Role::Main) != init);
        let statuses = members.filter_map(|member| {
            let slot = state.containers.get(&member.name)?;
            Some(container(pod, shape, state, member, slot, at))
        });
        Some(statuses.collect::<Vec<_>>()).filter(|all| !all.is_empty())
    };
    let (containers, init) = (statuses(false), statuses(true));
    let phase = phase(shape, state);
    let mut status = PodStatus {
        phase: Some(phase.into()),
        host_ip: Some(place.host_ip.clone()).filter(|ip| !ip.is_empty()),
        host_ips: Some(vec![HostIP { ip: place.host_ip.clone() }]).filter(|_| !place.host_ip.is_empty()),
        start_time: state.started.map(typed::seconds).or(before.start_time.clone()),
        qos_class: Some(resources::quality(pod).into()),
        observed_generation: before.observed_generation,
        ..PodStatus::default()
    };
    status.pod_ip = state.ip().map(|ip| ip.to_string()).or(before.pod_ip.clone());
    status.pod_ips = status.pod_ip.clone().map(|ip| vec![PodIP { ip }]);
    if state.ending == Some(Ending::Deadline) {
        status.phase = Some("Failed".into());
        status.reason = Some("DeadlineExceeded".into());
        status.message = Some("Pod was active on the node longer than the specified deadline".into());
    }
    status.conditions = Some(conditions(pod, shape, state, &before, phase, now));
    status.container_statuses = containers;
    status.init_container_statuses = init;
    status
}

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub fn phase(shape: &Shape, state: &State) -> &'static str {
    let slots = |main: bool| {
        let members = shape.members.iter().filter(move |member| (member.role == Role::Main) == main);
        members.filter_map(|member| Some((member, state.containers.get(&member.name)?)))
    };
    let failed_for_good = |member: &Member, slot: &Slot| {
        slot.ended().is_some_and(|ended| ended.exit.code != 0) && !plan::restarts(shape, member, slot)
    };
    if slots(false).any(|(member, slot)| member.role == Role::Init && failed_for_good(member, slot)) {
        return "Failed";
    }
    if !plan::initialized(shape, state) {
        return "Pending";
    }
    let main: Vec<(&Member, &Slot)> = slots(true).collect();
    let ended = main.iter().filter(|(_, slot)| slot.ended().is_some()).count();
    if !main.is_empty() && ended == main.len() && main.iter().all(|(member, slot)| !plan::restarts(shape, member, slot))
    {
        let failed = main.iter().any(|(_, slot)| slot.ended().is_some_and(|ended| ended.exit.code != 0));
        return if failed { "Failed" } else { "Succeeded" };
    }
    let begun = |slot: &Slot| slot.running().is_some() || slot.ended().is_some() || slot.last.is_some();
    // Like Kubernetes: a pod runs once every container was started.
    if main.iter().all(|(_, slot)| begun(slot)) { "Running" } else { "Pending" }
}

fn container(pod: &Pod, shape: &Shape, state: &State, member: &Member, slot: &Slot, at: Instant) -> ContainerStatus {
    let image = state.images.get(&member.image).and_then(|image| image.here());
    let mut status = ContainerStatus {
        name: member.name.clone(),
        image: member.image.clone(),
        restart_count: i32::try_from(slot.attempt).unwrap_or(i32::MAX),
        started: Some(false),
        ..ContainerStatus::default()
    };
    status.last_state =
        slot.last.as_ref().map(|ended| ContainerState { terminated: Some(terminated(ended)), ..Default::default() });
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..Default::default()
    };
    let known = slot.last.as_ref().map(|ended| (ended.image_id.clone(), ended.id.clone()));
    let mut image_id = known.as_ref().map(|(image, _)| image.clone()).unwrap_or_default();
    let mut id = known.map(|(_, id)| id);
    status.state = Some(match &slot.phase {
        Phase::Running(running) | Phase::Stopping(running) => {
            status.started = Some(running.started);
            status.ready = running.ready && matches!(slot.phase, Phase::Running(_));
            image_id = running.image_id.clone();
            id = Some(running.id.clone());
            let started_at = Some(typed::seconds(running.started_at));
            ContainerState { running: Some(ContainerStateRunning { started_at }), ..Default::default() }
        }
        Phase::Ended(ended) => {
            image_id = ended.image_id.clone();
            id = Some(ended.id.clone());
            if plan::restarts(shape, member, slot) && state.ending.is_none() && !plan::over(shape, state) {
                status.last_state = Some(ContainerState { terminated: Some(terminated(ended)), ..Default::default() });
                let wait = plan::restart_in(shape, member, slot, at).filter(|wait| !wait.is_zero());
                match wait {
                    Some(_) => {
                        let name = typed::name(&pod.metadata);
                        let namespace = typed::namespace(&pod.metadata);
                        let wait = slot.backoff.wait().as_secs();
                        let message = format!(
                            "back-off {wait}s restarting failed container={} pod={name}_{namespace}({})",
                            member.name,
                            typed::uid(&pod.metadata)
                        );
                        waiting("CrashLoopBackOff", Some(message))
                    }
                    None => waiting("ContainerCreating", None),
                }
            } else {
                // A finished init container did what it was there for.
                status.ready = member.role == Role::Init && ended.exit.code == 0;
                ContainerState { terminated: Some(terminated(ended)), ..Default::default() }
            }
        }
        Phase::Idle { .. } | Phase::Starting => {
            let own = match &slot.phase {
                Phase::Idle { failed: Some((_, failure)) } => Some(failure),
                _ => None,
            };
            let of_image = state.images.get(&member.image).and_then(|image| image.failure());
            let of_network = state.network.failure();
            let initializing = member.role != Role::Init && !plan::initialized(shape, state);
            match own.or(of_image).or(of_network) {
                Some(failure) => waiting(failure.reason, Some(failure.message.clone())),
                None if initializing => waiting("PodInitializing", None),
                None => waiting("ContainerCreating", None),
            }
        }
    });
    if image_id.is_empty()
        && let Some(image) = image
    {
        image_id = format!("{}@{}", image.repository, image.digest);
    }
    status.image_id = image_id;
    status.container_id = id.map(|id| format!("shipway://{id}"));
    status
}

pub fn terminated(ended: &Ended) -> ContainerStateTerminated {
    let reason = match ended.reason {
        Some(reason) => reason,
        None if ended.exit.out_of_memory => "OOMKilled",
        None if ended.exit.code == 0 => "Completed",
        None => "Error",
    };
    ContainerStateTerminated {
        container_id: Some(format!("shipway://{}", ended.id)),
        exit_code: ended.exit.code,
        signal: None,
        reason: Some(reason.into()),
        message: Some(ended.message.clone()).filter(|message| !message.is_empty()),
        started_at: ended.started_at.map(typed::seconds),
        finished_at: Some(typed::seconds(ended.exit.at)),
    }
}

/// Whether every main container and sidecar is ready.
fn all_ready(shape: &Shape, state: &State) -> bool {
    shape.members.iter().filter(|member| member.role != Role::Init).all(|member| {
        let phase = state.containers.get(&member.name).map(|slot| &slot.phase);
        matches!(phase, Some(Phase::Running(running)) if running.ready)
    })
}

fn conditions(
    pod: &Pod,
    shape: &Shape,
    state: &State,
    before: &PodStatus,
    phase: &str,
    now: Timestamp,
) -> Vec<PodCondition> {
    let ended = matches!(phase, "Succeeded" | "Failed") || state.ending == Some(Ending::Deadline);
    let unready: Vec<&str> = shape
        .members
        .iter()
        .filter(|member| member.role != Role::Init)
        .filter(|member| {
            let phase = state.containers.get(&member.name).map(|slot| &slot.phase);
            !matches!(phase, Some(Phase::Running(running)) if running.ready)
        })
        .map(|member| member.name.as_str())
        .collect();
    let initialized = plan::initialized(shape, state) || phase == "Succeeded";
    let containers_ready = !ended && initialized && all_ready(shape, state);
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    let gates_open = gates
        .into_iter()
        .flatten()
        .all(|gate| before.conditions.iter().flatten().any(|c| c.type_ == gate.condition_type && c.status == "True"));
    let not_ready = |what: &str| -> (Option<String>, Option<String>) {
        match phase {
            "Succeeded" => (Some("PodCompleted".into()), None),
            "Failed" => (Some("PodFailed".into()), None),
            _ => (
                Some("ContainersNotReady".into()),
                Some(format!("containers with {what} status: [{}]", unready.join(" "))),
            ),
        }
    };
    let incomplete = || {
        let names: Vec<&str> = shape
            .members
            .iter()
            .filter(|member| member.role != Role::Main)
            .filter(|member| {
                let ended = state.containers.get(&member.name).and_then(|slot| slot.ended());
                ended.is_none_or(|ended| ended.exit.code != 0)
            })
            .map(|member| member.name.as_str())
            .collect();
        let message = format!("containers with incomplete status: [{}]", names.join(" "));
        (Some("ContainersNotInitialized".to_owned()), Some(message))
    };
    let ready = containers_ready && gates_open;
    let values = [
        ("PodReadyToStartContainers", state.network.here().is_some(), (None, None)),
        ("Initialized", initialized, if initialized { (None, None) } else { incomplete() }),
        (
            "Ready",
            ready,
            match (ready, containers_ready) {
                (true, _) => (None, None),
                (false, true) => (Some("ReadinessGatesNotReady".into()), None),
                (false, false) => not_ready("unready"),
            },
        ),
        ("ContainersReady", containers_ready, if containers_ready { (None, None) } else { not_ready("unready") }),
        ("PodScheduled", true, (None, None)),
    ];
    let known = |kind: &str| before.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let mut all: Vec<PodCondition> = values
        .into_iter()
        .map(|(kind, value, (reason, message))| {
            let text = if value { "True" } else { "False" };
            let since = known(kind).filter(|c| c.status == text).and_then(|c| c.last_transition_time.clone());
            PodCondition {
                type_: kind.into(),
                status: text.into(),
                reason,
                message,
                last_transition_time: Some(since.unwrap_or_else(|| typed::seconds(now))),
                ..PodCondition::default()
            }
        })
        .collect();
    let others = before.conditions.iter().flatten().filter(|condition| !OWN.contains(&condition.type_.as_str()));
    all.extend(others.cloned());
    all
}

/// Puts a status into a pod, keeping the conditions that others set meanwhile.
pub fn put(object: &mut Value, status: &Value) {
    let others: Vec<Value> = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|condition| !OWN.contains(&condition["type"].as_str().unwrap_or_default()))
        .cloned()
        .collect();
    let mut status = status.clone();
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|condition| OWN.contains(&condition["type"].as_str().unwrap_or_default()));
        conditions.extend(others);
    }
    object["status"] = status;
}

/// Whether people or controllers wait for the difference between two statuses: readiness, phase, an end, a new address.
pub fn is_urgent(old: &PodStatus, new: &PodStatus) -> bool {
    let ready = |status: &PodStatus| {
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        found.is_some_and(|condition| condition.status == "True")
    };
    let reasons = |status: &PodStatus| -> Vec<Option<String>> {
        let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        all.map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone()).collect()
    };
    let ended = |status: &PodStatus| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    ready(old) != ready(new)
        || ended(old) != ended(new)
        || reasons(new).iter().zip(reasons(old)).any(|(new, old)| {
            new != &old
                && new.as_deref().is_some_and(|reason| !matches!(reason, "ContainerCreating" | "PodInitializing"))
        })
}

/// The containers of a pod in their order, with what they are to the pod.
pub fn shape(pod: &Pod) -> Shape {
    let spec = pod.spec.as_ref();
    let member = |container: &Container, role: Role| Member {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        role,
    };
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        member(container, if sidecar { Role::Sidecar } else { Role::Init })
    });
    let main = spec.map(|spec| spec.containers.iter()).into_iter().flatten().map(|c| member(c, Role::Main));
    let restart = plan::Restart::parse(spec.and_then(|spec| spec.restart_policy.as_deref()));
    Shape { members: init.chain(main).collect(), restart }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
