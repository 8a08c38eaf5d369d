//! Whether an object has become what its manifest asks for.
//!
//! [`compute`] follows kstatus, which `--wait` of Helm 4 asks; [`legacy`] follows the rules of Helm 3 (`--wait=legacy`);
//! [`hook`] is for hooks, whose Jobs and Pods must end.

mod legacy;

use serde_json::Value;

pub use legacy::legacy;

/// How far an object has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    InProgress,
    Current,
    Failed,
    Terminating,
    NotFound,
}

impl State {
    /// kstatus' word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Current => "Current",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
            Self::NotFound => "NotFound",
        }
    }
}

/// A state and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    pub message: String,
}

fn current(message: impl Into<String>) -> Status {
    Status { state: State::Current, message: message.into() }
}

fn progress(message: impl Into<String>) -> Status {
    Status { state: State::InProgress, message: message.into() }
}

fn failed(message: impl Into<String>) -> Status {
    Status { state: State::Failed, message: message.into() }
}

fn int(object: &Value, path: &str, default: i64) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or(default)
}

fn text<'a>(object: &'a Value, path: &str, default: &'a str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or(default)
}

/// Type, status, reason, message of each condition.
fn conditions(object: &Value) -> impl Iterator<Item = (&str, &str, &str, &str)> {
    let all = object.pointer("/status/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|c| (text(c, "/type", ""), text(c, "/status", ""), text(c, "/reason", ""), text(c, "/message", "")))
}

fn kind_of(object: &Value) -> (&str, &str) {
    let version = text(object, "/apiVersion", "");
    (version.split_once('/').map_or("", |(group, _)| group), text(object, "/kind", ""))
}

/// The state of an object; `old` says that it was made long enough ago (15 s) for a pod to have found a node.
pub fn compute(object: &Value, old: bool) -> Status {
    if let Some(status) = generic(object) {
        return status;
    }
    match kind_of(object) {
        ("apps" | "extensions", "Deployment") => deployment(object),
        ("apps" | "extensions", "ReplicaSet") => replica_set(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps" | "extensions", "DaemonSet") => daemon_set(object),
        ("", "Pod") => pod(object, old),
        ("", "PersistentVolumeClaim") => match text(object, "/status/phase", "unknown") {
            "Bound" => current("PVC is Bound"),
            phase => progress(format!("PVC is not Bound. phase: {phase}")),
        },
        ("", "Service") => {
            if text(object, "/spec/type", "ClusterIP") == "LoadBalancer"
                && text(object, "/spec/clusterIP", "").is_empty()
            {
                return progress("ClusterIP not set. Service type: LoadBalancer");
            }
            current("Service is ready")
        }
        ("", "Secret" | "ConfigMap") | ("batch", "CronJob") => current("Resource is always ready"),
        ("policy", "PodDisruptionBudget") => current("AllowedDisruptions has been computed."),
        ("batch", "Job") => job(object, false),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        _ => match conditions(object).find(|(kind, ..)| *kind == "Ready") {
            Some((_, "False" | "Unknown", _, message)) => progress(message),
            Some((_, "True", ..)) => current("Resource is Ready"),
            _ => current("Resource is current"),
        },
    }
}

fn generic(object: &Value) -> Option<Status> {
    if object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) {
        return Some(Status { state: State::Terminating, message: "Resource scheduled for deletion".to_owned() });
    }
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
    if let (Some(wanted), Some(observed)) = (object.pointer("/metadata/generation").and_then(Value::as_i64), observed)
        && wanted != observed
    {
        let kind = text(object, "/kind", "");
        return Some(progress(format!("{kind} generation is {wanted}, but latest observed generation is {observed}")));
    }
    conditions(object).find_map(|(kind, status, _, message)| match (kind, status) {
        ("Reconciling", "True") => Some(progress(message)),
        ("Stalled", "True") => Some(failed(message)),
        _ => None,
    })
}

fn deployment(object: &Value) -> Status {
    let mut progressing = int(object, "/spec/progressDeadlineSeconds", i64::from(i32::MAX)) == i64::from(i32::MAX);
    let mut available = false;
    for (kind, status, reason, _) in conditions(object) {
        match (kind, status, reason) {
            ("Progressing", _, "ProgressDeadlineExceeded") => return failed("Progress deadline exceeded"),
            ("Progressing", "True", "NewReplicaSetAvailable") => progressing = true,
            ("Available", "True", _) => available = true,
            _ => {}
        }
    }
    let wanted = int(object, "/spec/replicas", 1);
    let count = |name: &str| int(object, &format!("/status/{name}"), 0);
    let (replicas, updated) = (count("replicas"), count("updatedReplicas"));
    if wanted > replicas {
        return progress(format!("Replicas: {replicas}/{wanted}"));
    }
    if wanted > updated {
        return progress(format!("Updated: {updated}/{wanted}"));
    }
    if replicas > wanted {
        return progress(format!("Pending termination: {}", replicas - wanted));
    }
    if updated > count("availableReplicas") {
        return progress(format!("Available: {}/{updated}", count("availableReplicas")));
    }
    if wanted > count("readyReplicas") {
        return progress(format!("Ready: {}/{wanted}", count("readyReplicas")));
    }
    if !progressing {
        return progress("ReplicaSet not Available");
    }
    if !available {
        return progress("Deployment not Available");
    }
    current(format!("Deployment is available. Replicas: {replicas}"))
}

fn replica_set(object: &Value) -> Status {
    if conditions(object).any(|(kind, status, ..)| (kind, status) == ("ReplicaFailure", "True")) {
        return progress("Replica Failure condition. Check Pods");
    }
    let wanted = int(object, "/spec/replicas", 1);
    for (words, field) in
        [("Labelled", "fullyLabeledReplicas"), ("Available", "availableReplicas"), ("Ready", "readyReplicas")]
    {
        let have = int(object, &format!("/status/{field}"), 0);
        if wanted > have {
            return progress(format!("{words}: {have}/{wanted}"));
        }
    }
    let replicas = int(object, "/status/replicas", 0);
    if replicas > wanted {
        return progress(format!("Pending termination: {}", replicas - wanted));
    }
    current(format!("ReplicaSet is available. Replicas: {replicas}"))
}

fn stateful_set(object: &Value) -> Status {
    if text(object, "/spec/updateStrategy/type", "") == "OnDelete" {
        return current("StatefulSet is using the ondelete update strategy");
    }
    let wanted = int(object, "/spec/replicas", 1);
    let count = |name: &str| int(object, &format!("/status/{name}"), 0);
    let replicas = count("replicas");
    if wanted > replicas {
        return progress(format!("Replicas: {replicas}/{wanted}"));
    }
    if wanted > count("readyReplicas") {
        return progress(format!("Ready: {}/{wanted}", count("readyReplicas")));
    }
    if replicas > wanted {
        return progress(format!("Pending termination: {}", replicas - wanted));
    }
    let partition = int(object, "/spec/updateStrategy/rollingUpdate/partition", -1);
    if partition != -1 {
        let updated = count("updatedReplicas");
        if updated < wanted - partition {
            return progress(format!("updated: {updated}/{}", wanted - partition));
        }
        return current(format!("Partition rollout complete. updated: {updated}"));
    }
    if wanted > count("currentReplicas") {
        return progress(format!("current: {}/{wanted}", count("currentReplicas")));
    }
    if text(object, "/status/currentRevision", "") != text(object, "/status/updateRevision", "") {
        return progress("Waiting for updated revision to match current");
    }
    current(format!("All replicas scheduled as expected. Replicas: {replicas}"))
}

fn daemon_set(object: &Value) -> Status {
    for (path, words) in
        [("/metadata/generation", "metadata.generation"), ("/status/observedGeneration", "status.observedGeneration")]
    {
        if object.pointer(path).and_then(Value::as_i64).is_none() {
            return progress(format!("DaemonSet {words} not found"));
        }
    }
    let wanted = int(object, "/status/desiredNumberScheduled", -1);
    if wanted == -1 {
        return progress("Missing .status.desiredNumberScheduled");
    }
    for (words, field) in [
        ("Current", "currentNumberScheduled"),
        ("Updated", "updatedNumberScheduled"),
        ("Available", "numberAvailable"),
        ("Ready", "numberReady"),
    ] {
        let have = int(object, &format!("/status/{field}"), 0);
        if wanted > have {
            return progress(format!("{words}: {have}/{wanted}"));
        }
    }
    current(format!("All replicas scheduled as expected. Replicas: {wanted}"))
}

fn pod(object: &Value, old: bool) -> Status {
    let has = |kind: &str, status: &str| conditions(object).find(|c| c.0 == kind && c.1 == status);
    match text(object, "/status/phase", "") {
        "Succeeded" => current("Pod has completed successfully"),
        "Failed" => current("Pod has completed, but not successfully"),
        "Running" if has("Ready", "True").is_some() => current("Pod is Ready"),
        "Running" => {
            let all = object.pointer("/status/containerStatuses").and_then(Value::as_array);
            let crashing: Vec<&str> = all
                .into_iter()
                .flatten()
                .filter(|status| text(status, "/state/waiting/reason", "") == "CrashLoopBackOff")
                .map(|status| text(status, "/name", ""))
                .collect();
            match crashing.as_slice() {
                [] => progress("Pod is running but is not Ready"),
                names => failed(format!("Containers in CrashLoop state: {}", names.join(","))),
            }
        }
        "Pending" => match has("PodScheduled", "False") {
            Some((_, _, "Unschedulable", _)) if old => failed("Pod could not be scheduled"),
            Some((_, _, "Unschedulable", _)) => progress("Pod has not been scheduled"),
            _ => progress("Pod is in the Pending phase"),
        },
        "" => progress("Pod phase not available"),
        phase => progress(format!("unknown phase {phase}")),
    }
}

/// A Job; `whole` asks that it has ended, otherwise it is enough that it runs.
fn job(object: &Value, whole: bool) -> Status {
    let completions = int(object, "/spec/completions", int(object, "/spec/parallelism", 1));
    let count = |name: &str| int(object, &format!("/status/{name}"), 0);
    let (succeeded, failures) = (count("succeeded"), count("failed"));
    for (kind, status, ..) in conditions(object) {
        match (kind, status) {
            ("Complete", "True") => return current(format!("Job Completed. succeeded: {succeeded}/{completions}")),
            ("Failed", "True") => return failed(format!("Job Failed. failed: {failures}/{completions}")),
            _ => {}
        }
    }
    if whole {
        return progress("Job in progress");
    }
    if text(object, "/status/startTime", "").is_empty() {
        return progress("Job not started");
    }
    current(format!("Job in progress. success:{succeeded}, active: {}, failed: {failures}", count("active")))
}

fn definition(object: &Value) -> Status {
    for (kind, status, reason, message) in conditions(object) {
        match (kind, status) {
            ("NamesAccepted", "False") => return failed(message),
            ("Established", "False") if reason != "Installing" => return failed(message),
            ("Established", "True") => return current("CRD is established"),
            _ => {}
        }
    }
    progress("Install in progress")
}

/// Like [`compute`], but a Job must have ended (`--wait-for-jobs`).
pub fn with_jobs(object: &Value, old: bool) -> Status {
    match kind_of(object) {
        ("batch", "Job") => generic(object).unwrap_or_else(|| job(object, true)),
        _ => compute(object, old),
    }
}

/// The state of a hook's object: Jobs and Pods must have ended well, everything else is as it should be once it is there.
pub fn hook(object: &Value) -> Status {
    match kind_of(object) {
        ("batch", "Job") => job(object, true),
        ("", "Pod") => {
            let name = text(object, "/metadata/name", "");
            match text(object, "/status/phase", "") {
                "Succeeded" => current(format!("pod {name} succeeded")),
                "Failed" => failed(format!("pod {name} failed")),
                _ => progress("Pod in progress"),
            }
        }
        _ => current("Resource is current"),
    }
}

#[cfg(test)]
mod tests;
