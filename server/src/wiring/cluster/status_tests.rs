//! What the cluster lists, as JSON, and what is made of it.

use insta::assert_snapshot;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn owner(kind: &str, uid: &str) -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": uid, "controller": true }])
}

/// A Deployment of three replicas that its controller has brought to revision 2.
fn deployment() -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "journal", "uid": "d", "generation": 4,
            "annotations": { "deployment.kubernetes.io/revision": "2" } },
        "spec": { "replicas": 3, "selector": {}, "template": {} },
        "status": { "observedGeneration": 4 },
    })
}

fn replica_set(revision: u32, uid: &str) -> Value {
    json!({
        "metadata": { "name": format!("web-{uid}"), "uid": uid, "ownerReferences": owner("Deployment", "d"),
            "annotations": { "deployment.kubernetes.io/revision": revision.to_string() } },
        "spec": { "selector": {} },
        "status": { "replicas": 3, "availableReplicas": 1 },
    })
}

/// A pod of the set `of`, with the state of its container `web` and whether that is ready.
fn pod(name: &str, of: &str, ready: bool, state: Value) -> Value {
    let mut status = json!({ "name": "web", "image": "shop:5000/journal/web@sha256:0123", "imageID": "", "ready": ready, "restartCount": 0 });
    status.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
    let probe = json!({ "httpGet": { "path": "/ready", "port": 8080 } });
    let live = json!({ "exec": { "command": ["cat", "/tmp/alive"] } });
    json!({
        "metadata": { "name": name, "uid": format!("uid-{name}"), "ownerReferences": owner("ReplicaSet", of),
            "creationTimestamp": "2026-03-01T12:00:00Z" },
        "spec": { "containers": [{ "name": "web", "readinessProbe": probe, "livenessProbe": live }] },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
            "containerStatuses": [status],
        },
    })
}

fn good(name: &str, of: &str) -> Value {
    pod(name, of, true, json!({ "state": { "running": {} } }))
}

fn event(pod: &str, reason: &str, at: &str, message: &str) -> Value {
    json!({
        "metadata": {}, "reason": reason, "message": message, "type": "Warning", "lastTimestamp": format!("2026-03-01T12:00:{at}Z"),
        "involvedObject": { "kind": "Pod", "name": pod, "uid": format!("uid-{pod}"), "fieldPath": "spec.containers{web}" },
    })
}

fn found(sets: Vec<Value>, pods: Vec<Value>, events: Vec<Value>) -> Found {
    Found {
        deployments: vec![read(deployment())],
        replica_sets: sets.into_iter().map(read).collect(),
        pods: pods.into_iter().map(read).collect(),
        events: events.into_iter().map(read).collect(),
        ..Found::default()
    }
}

fn only(found: &Found, kind: &str) -> WorkloadStatus {
    let workload = |name: &str| WorkloadRef { kind: kind.into(), name: name.into() };
    let mut statuses = found.statuses(&[workload("web"), workload("not-there")]);
    assert_eq!(statuses.len(), 1);
    statuses.remove(0)
}

/// updated, ready, available, older ones
fn figures(status: &WorkloadStatus) -> (u32, u32, u32, u32) {
    (status.updated, status.ready, status.available, status.old_replicas)
}

/// Why the Deployment's one new pod is not ready.
fn why(state: Value, events: Vec<Value>) -> String {
    let found = found(vec![replica_set(2, "new")], vec![pod("a", "new", false, state)], events);
    said(only(&found, "Deployment").failure)
}

fn said(failure: Option<Failure>) -> String {
    failure.map_or("–".into(), |failure| format!("{:?}: {}", failure.kind, failure.message))
}

#[test]
fn the_newest_version_is_counted_apart_from_older_ones() {
    let sets = vec![replica_set(1, "old"), replica_set(2, "new")];
    let mut leaving = good("c", "old");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:09Z");
    let mut evicted = good("f", "new");
    evicted["status"]["phase"] = json!("Failed");
    let starting = pod("d", "new", false, json!({ "state": { "waiting": { "reason": "ContainerCreating" } } }));
    let pods =
        vec![good("a", "old"), good("b", "old"), leaving, starting, good("e", "new"), evicted, good("g", "else")];
    let status = only(&found(sets.clone(), pods.clone(), vec![]), "Deployment");
    assert_eq!((status.generation, status.observed, status.desired), (4, 4, 3));
    assert_eq!(figures(&status), (2, 1, 1, 2));
    assert_eq!(status.failure, None);

    // Only its controller knows since when a pod has been ready.
    let mut all = found(sets, vec![good("a", "new"), good("b", "new"), good("c", "new")], vec![]);
    all.deployments[0].spec.as_mut().unwrap().min_ready_seconds = Some(5);
    assert_eq!(figures(&only(&all, "Deployment")), (3, 3, 1, 0));
}

#[test]
fn a_listing_that_has_not_seen_the_newest_version_does_not_take_the_one_before_for_it() {
    let pods = vec![good("a", "old"), good("b", "old"), good("c", "old")];
    let status = only(&found(vec![replica_set(1, "old")], pods, vec![]), "Deployment");
    assert_eq!(figures(&status), (0, 0, 0, 3));
}

#[test]
fn what_keeps_a_pod_from_being_ready_is_said_in_half_a_sentence() {
    let waiting = |reason: &str, message: &str| {
        why(json!({ "state": { "waiting": { "reason": reason, "message": message } } }), vec![])
    };
    let digest = format!("sha256:{}", "0123456789ab".repeat(6).split_at(64).0);
    let refused = format!("127.0.0.1:8080/x/y@{digest} may not run in namespace journal: it has no signature.");
    assert_snapshot!(waiting("EvidenceMissing", &refused), @"Refused: 127.0.0.1:8080/x/y@sha256:0123456789ab may not run in namespace journal: it has no signature");
    assert_snapshot!(waiting("ImagePullBackOff", r#"Back-off: Failed to pull image "shop:5000/journal/web@sha256:0123": there is no such image"#), @"Image: the image shop:5000/journal/web@sha256:0123 of container web cannot be had: there is no such image");
    assert_snapshot!(waiting("ImagePullBackOff", r#"Back-off pulling image "shop:5000/journal/web@sha256:0123""#), @"Image: the image shop:5000/journal/web@sha256:0123 of container web cannot be had");
    assert_snapshot!(waiting("CreateContainerConfigError", "configmap \"settings\" not found"), @r#"NotReady: container web cannot be started: configmap "settings" not found"#);
    assert_snapshot!(waiting("ContainerCreating", ""), @"–");
}

#[test]
fn crashes_say_how_the_program_ended() {
    let ended = |code: i32, reason: &str, message: &str| {
        let last = json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } });
        json!({ "restartCount": 3, "lastState": last, "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s" } } })
    };
    let trace =
        "node:internal/modules:1\n  throw err;\n\nError: Cannot find module 'express'\n    at x\n\nNode.js v22.0.0\n";
    assert_snapshot!(why(ended(1, "Error", trace), vec![]), @"Crashing { restarts: 3 }: container web keeps ending with status 1: Error: Cannot find module 'express'");
    assert_snapshot!(why(ended(3, "Error", "one\nbye now\n"), vec![]), @"Crashing { restarts: 3 }: container web keeps ending with status 3: bye now");
    assert_snapshot!(why(ended(137, "OOMKilled", ""), vec![]), @"Crashing { restarts: 3 }: container web keeps running out of memory");
    assert_snapshot!(why(ended(139, "Error", ""), vec![]), @"Crashing { restarts: 3 }: container web keeps ending with status 139 (SIGSEGV)");
    assert_snapshot!(why(ended(128, "StartError", "exec: \"serve\": not found"), vec![]), @r#"Crashing { restarts: 3 }: container web cannot be started: exec: "serve": not found"#);
    assert_snapshot!(why(ended(0, "Completed", ""), vec![]), @"Crashing { restarts: 3 }: container web keeps ending with status 0");
    let probe = event("a", "Unhealthy", "07", "Liveness probe failed: cat: /tmp/alive: No such file or directory");
    assert_snapshot!(why(ended(143, "Error", ""), vec![probe]), @"Crashing { restarts: 3 }: container web is restarted again and again, since its liveness probe `cat /tmp/alive` failed: cat: /tmp/alive: No such file or directory");
    // It runs again, and may do better.
    let again = json!({ "restartCount": 2, "lastState": { "terminated": { "exitCode": 1, "message": "no Redis" } }, "state": { "running": {} } });
    assert_snapshot!(why(again, vec![]), @"NotReady: container web runs again after 2 restarts, since it ended with status 1: no Redis");
}

#[test]
fn the_last_word_of_a_probe_counts() {
    let running = || json!({ "state": { "running": {} } });
    let probe = |message: &str| why(running(), vec![event("a", "Unhealthy", "05", message)]);
    assert_snapshot!(probe("Readiness probe failed: HTTP probe failed with statuscode: 503"), @"NotReady: readiness probe GET /ready on port 8080 answered 503");
    assert_snapshot!(probe(r#"Readiness probe failed: Get "http://10.4.0.7:8080/ready": dial tcp 10.4.0.7:8080: connect: connection refused"#), @"NotReady: readiness probe GET /ready on port 8080 found nobody listening");
    assert_snapshot!(probe("Readiness probe failed: no answer within 1s"), @"NotReady: readiness probe GET /ready on port 8080 got no answer in time");
    assert_snapshot!(probe("Liveness probe failed: gone"), @"NotReady: liveness probe `cat /tmp/alive` failed: gone");
    let events = vec![
        event("a", "Unhealthy", "09", "Readiness probe failed: HTTP probe failed with statuscode: 500"),
        event("a", "Unhealthy", "05", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        event("other", "Unhealthy", "10", "Readiness probe failed: HTTP probe failed with statuscode: 404"),
    ];
    assert_snapshot!(why(running(), events), @"NotReady: readiness probe GET /ready on port 8080 answered 500");
    assert_snapshot!(why(running(), vec![]), @"–");
}

#[test]
fn what_concerns_the_whole_pod_is_said_too() {
    let mut nowhere = pod("a", "new", false, json!({}));
    nowhere["status"]["containerStatuses"] = json!([]);
    nowhere["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient memory." }]);
    let failure =
        |pod: Value, events| said(only(&found(vec![replica_set(2, "new")], vec![pod], events), "Deployment").failure);
    assert_snapshot!(failure(nowhere, vec![]), @"NotReady: no node can take its pod: 0/1 nodes are available: 1 Insufficient memory");
    let creating = json!({ "state": { "waiting": { "reason": "ContainerCreating" } } });
    let mount =
        event("a", "FailedMount", "03", "MountVolume.SetUp failed for volume \"tls\" : secret \"tls\" not found");
    assert_snapshot!(why(creating, vec![mount]), @r#"NotReady: its pod cannot be set up: MountVolume.SetUp failed for volume "tls" : secret "tls" not found"#);
    let mut gated = good("a", "new");
    gated["status"]["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
    gated["spec"]["readinessGates"] = json!([{ "conditionType": "example.org/behind-balancer" }]);
    assert_snapshot!(failure(gated, vec![]), @"NotReady: its readiness gate example.org/behind-balancer does not hold");

    let mut forbidden = replica_set(2, "new");
    forbidden["status"]["conditions"] = json!([{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"web-1\" is forbidden: violates PodSecurity \"restricted:latest\"" }]);
    assert_snapshot!(said(only(&found(vec![forbidden.clone()], vec![], vec![]), "Deployment").failure), @r#"Refused: its pods cannot be made: pods "web-1" is forbidden: violates PodSecurity "restricted:latest""#);
    forbidden["status"]["conditions"][0]["message"] = json!("pods \"web-1\" is forbidden: exceeded quota: small");
    assert_snapshot!(said(only(&found(vec![forbidden], vec![], vec![]), "Deployment").failure), @r#"NotReady: its pods cannot be made: pods "web-1" is forbidden: exceeded quota: small"#);
}

#[test]
fn the_gravest_reason_speaks_for_all_pods_and_then_the_newest() {
    let crash = json!({ "restartCount": 1, "state": { "terminated": { "exitCode": 2 } } });
    let mut newer = pod("c", "new", false, json!({ "state": { "waiting": { "reason": "Oops", "message": "newer" } } }));
    newer["metadata"]["creationTimestamp"] = json!("2026-03-01T12:30:00Z");
    let older = pod("b", "new", false, json!({ "state": { "waiting": { "reason": "Oops", "message": "older" } } }));
    let all = |pods| said(only(&found(vec![replica_set(2, "new")], pods, vec![]), "Deployment").failure);
    let crashing = pod("a", "new", false, crash);
    assert_snapshot!(all(vec![newer.clone(), crashing, older.clone()]), @"Crashing { restarts: 1 }: container web keeps ending with status 2");
    assert_snapshot!(all(vec![newer, older]), @"NotReady: container web cannot be started: newer");
}

#[test]
fn text_from_outside_is_bounded() {
    let long = "x\u{7}y ".repeat(1_000_000);
    let message = why(json!({ "state": { "waiting": { "reason": "Oops", "message": long } } }), vec![]);
    assert!(message.len() < 600, "{}", message.len());
    assert!(!message.contains('\u{7}') && message.ends_with('…'));
}

#[test]
fn a_stateful_set_counts_from_its_partition_on() {
    let set = |partition: u32| {
        json!({
            "metadata": { "name": "web", "uid": "s", "generation": 2 },
            "spec": { "replicas": 3, "selector": {}, "template": {}, "serviceName": "web",
                "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": partition } } },
            "status": { "observedGeneration": 2, "updateRevision": "new", "replicas": 3 },
        })
    };
    let pods = [("web-0", "old", true), ("web-1", "old", true), ("web-2", "new", false)].map(|(name, hash, ready)| {
        let mut pod = pod(name, "s", ready, json!({}));
        pod["metadata"]["labels"] = json!({ "controller-revision-hash": hash });
        read(pod)
    });
    let status = |partition| {
        let found = Found { stateful_sets: vec![read(set(partition))], pods: pods.to_vec(), ..Found::default() };
        only(&found, "StatefulSet")
    };
    assert_eq!((status(0).desired, figures(&status(0))), (3, (1, 0, 0, 2)));
    assert_eq!((status(2).desired, figures(&status(2))), (1, (1, 0, 0, 0)));
}

#[test]
fn a_daemon_set_is_read_from_totals() {
    let set = json!({
        "metadata": { "name": "web", "uid": "s", "generation": 2 },
        "spec": { "selector": {}, "template": {} },
        "status": { "observedGeneration": 2, "desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberReady": 2,
            "numberAvailable": 2, "updatedNumberScheduled": 1, "numberMisscheduled": 0 },
    });
    let status = only(&Found { daemon_sets: vec![read(set)], ..Found::default() }, "DaemonSet");
    assert_eq!((status.desired, figures(&status)), (3, (1, 0, 0, 2)));
}

#[test]
fn a_job_is_ready_when_it_succeeded_and_hopeless_when_it_failed() {
    let job = |status: Value| json!({ "metadata": { "name": "web", "uid": "j", "generation": 1 }, "spec": { "template": {} }, "status": status });
    let status = |job: Value, pods: Vec<Value>| {
        let pods = pods.into_iter().map(read).collect();
        only(&Found { jobs: vec![read(job)], pods, ..Found::default() }, "Job")
    };
    let running = status(job(json!({ "active": 1 })), vec![]);
    assert_eq!((running.desired, running.observed, figures(&running)), (1, 1, (1, 0, 0, 0)));
    let done = status(job(json!({ "succeeded": 1, "conditions": [{ "type": "Complete", "status": "True" }] })), vec![]);
    assert_eq!((done.desired, figures(&done), done.failure), (1, (1, 1, 1, 0), None));
    let failed = job(
        json!({ "failed": 2, "conditions": [{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
        "message": "Job has reached the specified backoff limit" }] }),
    );
    assert_snapshot!(said(status(failed.clone(), vec![]).failure), @"Refused: it failed: Job has reached the specified backoff limit");
    let pod =
        pod("a", "j", false, json!({ "state": { "terminated": { "exitCode": 9, "message": "fatal: no table" } } }));
    assert_snapshot!(said(status(failed, vec![pod.clone()]).failure), @"Refused: it failed: container web keeps ending with status 9: fatal: no table");
    assert_snapshot!(said(status(job(json!({ "active": 1 })), vec![pod]).failure), @"NotReady: container web keeps ending with status 9: fatal: no table");
}
