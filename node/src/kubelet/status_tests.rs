use serde_json::json;

use super::super::backoff::{Backoff, KUBERNETES};
use super::super::state::{Failure, Once, Running};
use super::*;
use crate::controllers::pods::tests::at;
use crate::runtime::{ContainerId, Exit, PodNetwork};

fn pod(restart: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {
            "restartPolicy": restart,
            "initContainers": [{"name": "first", "image": "i"}],
            "containers": [{"name": "web", "image": "i"}],
        },
    }))
    .unwrap()
}

fn id(name: &str) -> ContainerId {
    ContainerId { pod: "u".into(), name: name.into(), attempt: 0 }
}

fn ended(name: &str, code: i32) -> Phase {
    Phase::Ended(Ended {
        id: id(name),
        image_id: "i@sha256:0".into(),
        started_at: Some(at(1)),
        exit: Exit { code, out_of_memory: code == 137, at: at(2) },
        message: String::new(),
        reason: None,
        seen: Instant::now(),
    })
}

fn running(name: &str, ready: bool) -> Phase {
    let image_id = "i@sha256:0".into();
    Phase::Running(Running { id: id(name), image: None, image_id, started_at: at(3), started: true, ready })
}

struct Case {
    pod: Pod,
    shape: Shape,
    state: State,
}

impl Case {
    fn new(restart: &str) -> Self {
        let pod = pod(restart);
        let shape = shape(&pod);
        let state = State::new(["first", "web"], ["i"]);
        Self { pod, shape, state }
    }

    fn set(&mut self, name: &str, phase: Phase) -> &mut Self {
        self.state.containers.get_mut(name).unwrap().phase = phase;
        self
    }

    fn status(&self) -> PodStatus {
        let place = Place { host_ip: "192.0.2.1".into(), ..Place::default() };
        status(&self.pod, &self.shape, &self.state, &place, at(9), Instant::now())
    }

    fn web(&self) -> (Option<String>, Option<String>) {
        let status = self.status();
        let state = status.container_statuses.unwrap().remove(0).state.unwrap();
        (state.waiting.and_then(|w| w.reason), state.terminated.and_then(|t| t.reason))
    }
}

fn condition(status: &PodStatus, kind: &str) -> String {
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    found.unwrap().status.clone()
}

#[tokio::test(start_paused = true)]
async fn the_way_of_a_pod_through_its_phases() {
    let mut case = Case::new("Always");
    assert_eq!(case.status().phase.as_deref(), Some("Pending"));
    assert_eq!(case.web().0.as_deref(), Some("PodInitializing"));
    case.set("first", ended("first", 0));
    assert_eq!(condition(&case.status(), "Initialized"), "True");
    assert_eq!(case.web().0.as_deref(), Some("ContainerCreating"));
    case.set("web", running("web", false));
    let status = case.status();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready"), "False");
    case.set("web", running("web", true));
    let status = case.status();
    assert_eq!((condition(&status, "Ready"), condition(&status, "ContainersReady")), ("True".into(), "True".into()));
    case.state.network = Once::Here(PodNetwork { ip: [10, 0, 0, 7].into() });
    assert_eq!(case.status().pod_ip.as_deref(), Some("10.0.0.7"));
}

#[tokio::test(start_paused = true)]
async fn ends_are_told_by_exit_code_and_restart_policy() {
    for (restart, code, phase, reason) in [
        ("Never", 0, "Succeeded", Some("Completed")),
        ("Never", 1, "Failed", Some("Error")),
        ("Never", 137, "Failed", Some("OOMKilled")),
        ("OnFailure", 0, "Succeeded", Some("Completed")),
        ("OnFailure", 1, "Running", None),
        ("Always", 0, "Running", None),
    ] {
        let mut case = Case::new(restart);
        case.set("first", ended("first", 0)).set("web", ended("web", code));
        let status = case.status();
        assert_eq!(status.phase.as_deref(), Some(phase), "{restart} {code}");
        assert_eq!(case.web().1.as_deref(), reason, "{restart} {code}");
    }
    let mut case = Case::new("Never");
    case.set("first", ended("first", 1));
    assert_eq!(case.status().phase.as_deref(), Some("Failed"));
}

#[tokio::test(start_paused = true)]
async fn a_container_in_back_off_says_so_and_keeps_its_last_end() {
    let mut case = Case::new("Always");
    case.set("first", ended("first", 0)).set("web", ended("web", 1));
    let now = Instant::now();
    case.state.containers.get_mut("web").unwrap().backoff = Backoff::default().again(KUBERNETES, now, now);
    let status = case.status();
    let web = &status.container_statuses.unwrap()[0];
    let waiting = web.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert!(waiting.message.as_ref().unwrap().starts_with("back-off 10s restarting failed container=web pod=p_ns(u)"));
    assert_eq!(web.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
}

#[tokio::test(start_paused = true)]
async fn missing_evidence_is_the_reason_that_people_read() {
    let mut case = Case::new("Always");
    let failure = Failure { reason: plan::EVIDENCE_MISSING, message: "i: no signature".into() };
    let image = Once::Missing { backoff: Backoff::default(), failed: Some((Instant::now(), failure)) };
    let before = case.status();
    case.state.images.insert("i".into(), image);
    assert_eq!(case.web().0.as_deref(), Some("EvidenceMissing"));
    let after = case.status();
    assert_eq!(after.phase.as_deref(), Some("Pending"));
    assert!(is_urgent(&before, &after));
}

#[tokio::test(start_paused = true)]
async fn times_of_unchanged_conditions_and_conditions_of_others_stay() {
    let mut case = Case::new("Always");
    case.set("first", ended("first", 0)).set("web", running("web", true));
    let mut status = case.status();
    let conditions = status.conditions.as_mut().unwrap();
    conditions.iter_mut().for_each(|condition| condition.last_transition_time = Some(typed::seconds(at(1))));
    conditions.push(PodCondition { type_: "shop/paid".into(), status: "True".into(), ..Default::default() });
    case.pod.status = Some(status);
    let again = case.status();
    assert!(again.conditions.iter().flatten().any(|c| c.type_ == "shop/paid"));
    let ready = again.conditions.iter().flatten().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.last_transition_time, Some(typed::seconds(at(1))));
    assert!(!is_urgent(case.pod.status.as_ref().unwrap(), &again));
}

#[tokio::test(start_paused = true)]
async fn a_readiness_gate_that_is_closed_keeps_the_pod_unready() {
    let mut case = Case::new("Always");
    case.pod.spec.as_mut().unwrap().readiness_gates =
        Some(vec![k8s_openapi::api::core::v1::PodReadinessGate { condition_type: "shop/paid".into() }]);
    case.set("first", ended("first", 0)).set("web", running("web", true));
    let status = case.status();
    assert_eq!((condition(&status, "ContainersReady"), condition(&status, "Ready")), ("True".into(), "False".into()));
}
