use super::*;
use serde_json::json;

fn deployment_of(spec: Value, status: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generation": 2, "uid": "u",
        "annotations": {"deployment.kubernetes.io/revision": "3"}}, "spec": spec, "status": status})
}

#[test]
fn a_deployment_on_its_way() {
    let full = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
        "conditions": [{"type": "Available", "status": "True"},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]});
    let spec = json!({"replicas": 2, "progressDeadlineSeconds": 600});
    let state = |change: &dyn Fn(&mut Value)| {
        let mut status = full.clone();
        change(&mut status);
        let status = compute(&deployment_of(spec.clone(), status), false);
        format!("{}: {}", status.state.as_str(), status.message)
    };
    assert_eq!(state(&|_| ()), "Current: Deployment is available. Replicas: 2");
    for (field, value, said) in [
        ("observedGeneration", 1, "InProgress: Deployment generation is 2, but latest observed generation is 1"),
        ("replicas", 1, "InProgress: Replicas: 1/2"),
        ("replicas", 3, "InProgress: Pending termination: 1"),
        ("updatedReplicas", 1, "InProgress: Updated: 1/2"),
        ("availableReplicas", 0, "InProgress: Available: 0/2"),
        ("readyReplicas", 1, "InProgress: Ready: 1/2"),
    ] {
        assert_eq!(state(&|status| status[field] = value.into()), said);
    }
    let late = state(&|status| status["conditions"][1]["reason"] = "ProgressDeadlineExceeded".into());
    assert_eq!(late, "Failed: Progress deadline exceeded");
}

#[test]
fn every_kind_waits_for_its_own() {
    let object = |version: &str, kind: &str, rest: Value| {
        let mut object = rest;
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        object
    };
    let condition = |kind: &str, status: &str| json!({"status": {"conditions": [{"type": kind, "status": status}]}});
    for (object, wanted) in [
        (object("v1", "ConfigMap", json!({})), State::Current),
        (object("v1", "Secret", json!({"metadata": {"deletionTimestamp": "x"}})), State::Terminating),
        (object("v1", "PersistentVolumeClaim", json!({"status": {"phase": "Pending"}})), State::InProgress),
        (object("v1", "PersistentVolumeClaim", json!({"status": {"phase": "Bound"}})), State::Current),
        (object("v1", "Service", json!({"spec": {"type": "LoadBalancer"}})), State::InProgress),
        (object("v1", "Pod", json!({"status": {"phase": "Running"}})), State::InProgress),
        (object("v1", "Pod", json!({"status": {"phase": "Succeeded"}})), State::Current),
        (object("batch/v1", "Job", json!({"status": {"startTime": "x"}})), State::Current),
        (object("batch/v1", "Job", condition("Failed", "True")), State::Failed),
        (object("example.com/v1", "Widget", json!({})), State::Current),
        (object("example.com/v1", "Widget", condition("Ready", "False")), State::InProgress),
        (object("example.com/v1", "Widget", condition("Stalled", "True")), State::Failed),
        (object("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({})), State::InProgress),
        (
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", condition("Established", "True")),
            State::Current,
        ),
        (object("apps/v1", "DaemonSet", json!({})), State::InProgress),
        (object("apps/v1", "StatefulSet", json!({"spec": {"replicas": 0}})), State::Current),
    ] {
        assert_eq!(compute(&object, false).state, wanted, "{object}");
    }
}

#[test]
fn hooks_must_end() {
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"startTime": "x"}});
    assert_eq!(hook(&job).state, State::InProgress);
    assert_eq!(with_jobs(&job, false).state, State::InProgress);
    let pod = |phase: &str| {
        hook(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "t"}, "status": {"phase": phase}}))
    };
    assert_eq!(pod("Running").state, State::InProgress);
    assert_eq!(pod("Failed").message, "pod t failed");
    assert_eq!(hook(&json!({"apiVersion": "v1", "kind": "ConfigMap"})).state, State::Current);
}

#[test]
fn helm_3_lets_some_be_missing() {
    let deployment = deployment_of(
        json!({"replicas": 4, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}}),
        json!({"observedGeneration": 2}),
    );
    let set = |ready: i64, revision: &str| {
        json!({"metadata": {"generation": 1, "ownerReferences": [{"uid": "u"}],
            "annotations": {"deployment.kubernetes.io/revision": revision}},
            "status": {"observedGeneration": 1, "readyReplicas": ready}})
    };
    assert!(legacy(&deployment, &[set(0, "2"), set(3, "3")], false).is_current());
    assert!(!legacy(&deployment, &[set(4, "2"), set(2, "3")], false).is_current());
    assert!(!legacy(&deployment, &[], false).is_current());
}
