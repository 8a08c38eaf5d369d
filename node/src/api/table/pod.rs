//! The row of a pod.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, Layout, NAME, column, name, text, wide};
use crate::objects::meta;

pub(super) const LAYOUT: Layout = Layout {
    columns: &[
        NAME,
        column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        column("Status", "The aggregate status of the containers in this pod."),
        RESTARTS,
        AGE,
        wide("IP", "IP address allocated to the pod."),
        wide("Node", "The node on which the pod runs."),
        wide("Nominated Node", "The node that the pod is meant to run on."),
        wide("Readiness Gates", "Conditions that are part of readiness."),
    ],
    cells,
};

const RESTARTS: Column = column(
    "Restarts",
    "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
);

fn items<'a>(value: &'a Value, field: &str) -> impl DoubleEndedIterator<Item = &'a Value> + use<'a> {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let total = items(spec, "containers").count();
    let ready = items(status, "containerStatuses")
        .filter(|c| c["ready"] == true && c["state"].get("running").is_some())
        .count();
    let gates = items(spec, "readinessGates").count();
    let passed = items(spec, "readinessGates")
        .filter(|gate| items(status, "conditions").any(|c| c["type"] == gate["conditionType"] && c["status"] == "True"))
        .count();
    vec![
        name(pod),
        format!("{ready}/{total}").into(),
        state(pod).into(),
        restarts(status, now),
        text::age(pod, now),
        text::or_none(&status["podIP"]),
        text::or_none(&spec["nodeName"]),
        text::or_none(&status["nominatedNodeName"]),
        if gates == 0 { "<none>".into() } else { format!("{passed}/{gates}").into() },
    ]
}

fn restarts(status: &Value, now: Timestamp) -> Value {
    let count: i64 = items(status, "containerStatuses").filter_map(|c| c["restartCount"].as_i64()).sum();
    let last = items(status, "containerStatuses")
        .filter_map(|c| c["lastState"]["terminated"]["finishedAt"].as_str())
        .max()
        .map(Value::from);
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", text::since(&last, now)).into(),
        _ => count.to_string().into(),
    }
}

/// One word for what the pod does or waits for.
pub(super) fn state(pod: &Value) -> String {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let own = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let mut word = own(&status["reason"]).or_else(|| own(&status["phase"])).unwrap_or_else(|| "Unknown".into());
    let total = items(spec, "initContainers").count();
    let mut initializing = false;
    for (at, container) in items(status, "initContainerStatuses").enumerate() {
        let name = &container["name"];
        let sidecar = items(spec, "initContainers").any(|c| c["name"] == *name && c["restartPolicy"] == "Always");
        let state = &container["state"];
        if state["terminated"]["exitCode"] == 0 || (sidecar && container["started"] == true) {
            continue;
        }
        word = match ended(state) {
            Some(reason) => format!("Init:{reason}"),
            None => match state["waiting"]["reason"].as_str() {
                Some(reason) if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
                _ => format!("Init:{at}/{total}"),
            },
        };
        initializing = true;
        break;
    }
    if !initializing {
        let mut running = false;
        for container in items(status, "containerStatuses").rev() {
            let state = &container["state"];
            if let Some(reason) = state["waiting"]["reason"].as_str().filter(|reason| !reason.is_empty()) {
                reason.clone_into(&mut word);
            } else if let Some(reason) = ended(state) {
                word = reason;
            } else if container["ready"] == true && state.get("running").is_some() {
                running = true;
            }
        }
        if word == "Completed" && running {
            let ready = items(status, "conditions").any(|c| c["type"] == "Ready" && c["status"] == "True");
            word = if ready { "Running" } else { "NotReady" }.into();
        }
    }
    if meta::is_deleting(pod) {
        let lost = status["reason"] == "NodeLost";
        let over = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
        if lost {
            word = "Unknown".into();
        } else if !over {
            word = "Terminating".into();
        }
    }
    word
}

/// Why a container ended, if it did.
fn ended(state: &Value) -> Option<String> {
    let ended = state.get("terminated").filter(|ended| ended.is_object())?;
    if let Some(reason) = ended["reason"].as_str().filter(|reason| !reason.is_empty()) {
        return Some(reason.to_owned());
    }
    Some(match ended["signal"].as_i64() {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or_default()),
    })
}
