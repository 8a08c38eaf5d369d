//! Readiness as Helm 3 understands it.

use serde_json::Value;

use super::{State, Status, conditions, current, failed, int, kind_of, progress, text};

/// The state of an object by Helm 3's rules. `related` are the ReplicaSets of a Deployment, or the Pods of a ReplicaSet or
/// ReplicationController; `jobs` says that Jobs must have ended.
pub fn legacy(object: &Value, related: &[Value], jobs: bool) -> Status {
    let ready = match kind_of(object) {
        ("", "Pod") => is_ready(object),
        ("batch", "Job") if jobs => return job(object),
        ("apps", "Deployment") => deployment(object, related),
        ("", "PersistentVolumeClaim") => text(object, "/status/phase", "") == "Bound",
        ("", "Service") => service(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => conditions(object).any(|(kind, status, reason, _)| {
            (kind, status) == ("Established", "True") || (kind, status, reason) == ("NamesAccepted", "False", "")
        }),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => observed(object) && related.iter().all(is_ready),
        _ => true,
    };
    if ready { current("ready") } else { progress(format!("{} is not ready", text(object, "/kind", ""))) }
}

/// The ReplicaSet of a Deployment's newest revision.
fn newest<'a>(deployment: &Value, sets: &'a [Value]) -> Option<&'a Value> {
    const REVISION: &str = "deployment.kubernetes.io/revision";
    let uid = text(deployment, "/metadata/uid", "");
    let wanted = deployment["metadata"]["annotations"][REVISION].as_str()?;
    sets.iter().find(|set| {
        let owners = set["metadata"]["ownerReferences"].as_array();
        let owned = owners.into_iter().flatten().any(|owner| owner["uid"] == uid);
        owned && set["metadata"]["annotations"][REVISION] == wanted
    })
}

fn is_ready(pod: &Value) -> bool {
    conditions(pod).any(|(kind, status, ..)| (kind, status) == ("Ready", "True"))
}

fn observed(object: &Value) -> bool {
    int(object, "/status/observedGeneration", 0) == int(object, "/metadata/generation", 0)
}

fn job(object: &Value) -> Status {
    let failures = int(object, "/status/failed", 0);
    if failures > int(object, "/spec/backoffLimit", 6) {
        let (namespace, name) = (text(object, "/metadata/namespace", ""), text(object, "/metadata/name", ""));
        return failed(format!("job is failed: {namespace}/{name}"));
    }
    match object.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) if int(object, "/status/succeeded", 0) < wanted => progress("Job is not completed"),
        _ => current("Job is completed"),
    }
}

/// A number or a share of `whole` in percent.
fn scaled(value: Option<&Value>, whole: i64, up: bool) -> Option<i64> {
    match value? {
        Value::Number(n) => n.as_i64(),
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            Some((percent * whole + if up { 99 } else { 0 }) / 100)
        }
        _ => None,
    }
}

fn deployment(object: &Value, sets: &[Value]) -> bool {
    if object.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return true;
    }
    let Some(set) = newest(object, sets) else { return false };
    let replicas = int(object, "/spec/replicas", 1);
    let rolling = text(object, "/spec/strategy/type", "RollingUpdate") == "RollingUpdate";
    let allowed = match rolling && replicas > 0 {
        true => {
            let update = |field: &str| object.pointer(&format!("/spec/strategy/rollingUpdate/{field}"));
            let surge = scaled(update("maxSurge"), replicas, true).unwrap_or(0);
            let unavailable = scaled(update("maxUnavailable"), replicas, false).unwrap_or(0);
            if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) }
        }
        false => 0,
    };
    observed(set) && observed(object) && int(set, "/status/readyReplicas", 0) >= replicas - allowed
}

fn service(object: &Value) -> bool {
    let kind = text(object, "/spec/type", "ClusterIP");
    if kind == "ExternalName" {
        return true;
    }
    if text(object, "/spec/clusterIP", "").is_empty() {
        return false;
    }
    let some = |path: &str| object.pointer(path).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    kind != "LoadBalancer" || some("/spec/externalIPs") || some("/status/loadBalancer/ingress")
}

fn daemon_set(object: &Value) -> bool {
    if !observed(object) {
        return false;
    }
    if text(object, "/spec/updateStrategy/type", "") != "RollingUpdate" {
        return true;
    }
    let wanted = int(object, "/status/desiredNumberScheduled", 0);
    let allowed = scaled(object.pointer("/spec/updateStrategy/rollingUpdate/maxUnavailable"), wanted, true);
    int(object, "/status/updatedNumberScheduled", 0) == wanted
        && int(object, "/status/numberReady", 0) >= wanted - allowed.unwrap_or(wanted)
}

fn stateful_set(object: &Value) -> bool {
    if !observed(object) {
        return false;
    }
    if text(object, "/spec/updateStrategy/type", "") != "RollingUpdate" {
        return true;
    }
    let partition = int(object, "/spec/updateStrategy/rollingUpdate/partition", 0);
    let replicas = int(object, "/spec/replicas", 1);
    int(object, "/status/updatedReplicas", 0) >= replicas - partition
        && int(object, "/status/readyReplicas", 0) == replicas
        && (partition != 0 || text(object, "/status/currentRevision", "") == text(object, "/status/updateRevision", ""))
}

/// Whether waiting goes on.
impl Status {
    pub fn is_current(&self) -> bool {
        self.state == State::Current
    }
}
