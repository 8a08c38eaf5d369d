//! The rows of what makes pods.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{age, containers, integer, selector, span};
use super::{AGE, Layout, NAME, column, name, number, wide};
use crate::objects::meta;

const CONTAINERS: super::Column = wide("Containers", "Names of each container in the template.");
const IMAGES: super::Column = wide("Images", "Images referenced by each container in the template.");
const SELECTOR: super::Column = wide("Selector", "Label selector for pods.");

pub(super) const DEPLOYMENT: Layout = Layout {
    columns: &[
        NAME,
        column("Ready", "Number of the pod with ready state."),
        number("Up-to-date", "Number of pods that have the desired template."),
        number("Available", "Number of pods that have been ready for at least minReadySeconds."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let ready = status["readyReplicas"].as_i64().unwrap_or_default();
        let desired = spec["replicas"].as_i64().unwrap_or_default();
        let mut cells = vec![
            name(object),
            format!("{ready}/{desired}").into(),
            integer(&status["updatedReplicas"]),
            integer(&status["availableReplicas"]),
            age(object, now),
        ];
        cells.extend(template(spec));
        cells
    },
};

pub(super) const REPLICA_SET: Layout = Layout {
    columns: &[
        NAME,
        number("Desired", "Number of desired pods."),
        number("Current", "Number of pods that exist."),
        number("Ready", "Number of ready pods."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let mut cells = vec![
            name(object),
            integer(&spec["replicas"]),
            integer(&status["replicas"]),
            integer(&status["readyReplicas"]),
            age(object, now),
        ];
        cells.extend(template(spec));
        cells
    },
};

pub(super) const JOB: Layout = Layout {
    columns: &[
        NAME,
        column("Status", "What the job does."),
        column("Completions", "Pods that succeeded, of those that have to."),
        column("Duration", "How long the job has been or was active."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let done = status["succeeded"].as_i64().unwrap_or_default();
        let completions = match (spec["completions"].as_i64(), spec["parallelism"].as_i64()) {
            (Some(all), _) => format!("{done}/{all}"),
            (None, Some(workers)) if workers > 1 => format!("{done}/1 of {workers}"),
            (None, _) => format!("{done}/1"),
        };
        let mut cells = vec![
            name(object),
            job_status(object).into(),
            completions.into(),
            duration(status, now).into(),
            age(object, now),
        ];
        cells.extend(template(spec));
        cells
    },
};

pub(super) const CONTROLLER_REVISION: Layout = Layout {
    columns: &[
        NAME,
        column("Controller", "Controller of the object."),
        number("Revision", "Revision is the revision of the state represented by data."),
        AGE,
    ],
    cells: |object, now| {
        let owner = meta::controller(object).map_or_else(
            || "<none>".to_owned(),
            |owner| {
                let (version, kind) =
                    (owner["apiVersion"].as_str().unwrap_or(""), owner["kind"].as_str().unwrap_or(""));
                let kind = kind.to_lowercase();
                let name = owner["name"].as_str().unwrap_or("");
                match version.split_once('/') {
                    Some((group, _)) => format!("{kind}.{group}/{name}"),
                    None => format!("{kind}/{name}"),
                }
            },
        );
        vec![name(object), owner.into(), integer(&object["revision"]), age(object, now)]
    },
};

fn template(spec: &Value) -> [Value; 3] {
    let pod = &spec["template"]["spec"];
    [containers(pod, "name"), containers(pod, "image"), selector(&spec["selector"])]
}

fn job_status(job: &Value) -> &'static str {
    let holds = |kind: &str| {
        let conditions = job["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
    };
    if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if meta::is_deleting(job) {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn duration(status: &Value, now: Timestamp) -> String {
    let time = |field: &str| status[field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match (time("startTime"), time("completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => span(end.unwrap_or(now).duration_since(start).as_secs()),
    }
}
