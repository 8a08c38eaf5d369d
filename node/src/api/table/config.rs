//! The rows of everything that makes no pods.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{age, joined, labels, or_none, since};
use super::{AGE, Layout, NAME, column, name, number, wide};
use crate::objects::meta;

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn count(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

pub(super) const SERVICE: Layout = Layout {
    columns: &[
        NAME,
        column("Type", "How the service is reached."),
        column("Cluster-IP", "The address of the service inside the cluster."),
        column("External-IP", "The address of the service outside of the cluster."),
        column("Port(s)", "The ports of the service."),
        AGE,
        wide("Selector", "Pods with these labels serve."),
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        let kind = spec["type"].as_str().unwrap_or("ClusterIP");
        let given: Vec<String> = items(spec, "externalIPs").filter_map(Value::as_str).map(str::to_owned).collect();
        let external = match kind {
            "ExternalName" => or_none(&spec["externalName"]),
            "LoadBalancer" => {
                let ingress = items(&object["status"]["loadBalancer"], "ingress");
                let mut all: Vec<String> =
                    ingress.filter_map(|i| i["ip"].as_str().or(i["hostname"].as_str())).map(str::to_owned).collect();
                all.extend(given);
                if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
            }
            _ => joined(&given),
        };
        let ports: Vec<String> = items(spec, "ports")
            .map(|port| {
                let protocol = port["protocol"].as_str().unwrap_or("TCP");
                match port["nodePort"].as_u64().filter(|port| *port > 0) {
                    Some(node) => format!("{}:{node}/{protocol}", port["port"]),
                    None => format!("{}/{protocol}", port["port"]),
                }
            })
            .collect();
        vec![
            name(object),
            kind.into(),
            or_none(&spec["clusterIP"]),
            external,
            joined(&ports),
            age(object, now),
            labels(&spec["selector"]),
        ]
    },
};

/// The first few of many, and how many more there are.
fn few(all: &[String]) -> Value {
    match all {
        [] => "<none>".into(),
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a},{b},{c} + {} more...", rest.len()).into(),
        all => all.join(",").into(),
    }
}

pub(super) const ENDPOINTS: Layout = Layout {
    columns: &[NAME, column("Endpoints", "The addresses behind the service."), AGE],
    cells: |object, now| {
        let mut all = Vec::new();
        for subset in items(object, "subsets") {
            for address in items(subset, "addresses") {
                let ip = address["ip"].as_str().unwrap_or_default();
                if items(subset, "ports").next().is_none() {
                    all.push(ip.to_owned());
                }
                all.extend(items(subset, "ports").map(|port| format!("{ip}:{}", port["port"])));
            }
        }
        vec![name(object), few(&all), age(object, now)]
    },
};

pub(super) const ENDPOINT_SLICE: Layout = Layout {
    columns: &[
        NAME,
        column("AddressType", "The type of the addresses."),
        column("Ports", "The ports of each endpoint."),
        column("Endpoints", "The addresses."),
        AGE,
    ],
    cells: |object, now| {
        let ports: Vec<String> = items(object, "ports").map(|port| port["port"].to_string()).collect();
        let ports = if ports.is_empty() { "<unset>".into() } else { few(&ports) };
        let addresses: Vec<String> = items(object, "endpoints")
            .flat_map(|endpoint| items(endpoint, "addresses"))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let addresses = if addresses.is_empty() { "<unset>".into() } else { few(&addresses) };
        vec![name(object), or_none(&object["addressType"]), ports, addresses, age(object, now)]
    },
};

pub(super) const CONFIG_MAP: Layout = Layout {
    columns: &[NAME, number("Data", "How many entries there are."), AGE],
    cells: |object, now| {
        let entries = count(&object["data"]) + count(&object["binaryData"]);
        vec![name(object), entries.into(), age(object, now)]
    },
};

pub(super) const SECRET: Layout = Layout {
    columns: &[NAME, column("Type", "What the secret is for."), number("Data", "How many entries there are."), AGE],
    cells: |object, now| vec![name(object), or_none(&object["type"]), count(&object["data"]).into(), age(object, now)],
};

pub(super) const SERVICE_ACCOUNT: Layout = Layout {
    columns: &[NAME, number("Secrets", "How many secrets it may use."), AGE],
    cells: |object, now| vec![name(object), items(object, "secrets").count().into(), age(object, now)],
};

pub(super) const NAMESPACE: Layout = Layout {
    columns: &[NAME, column("Status", "Whether it is active or being deleted."), AGE],
    cells: |object, now| vec![name(object), or_none(&object["status"]["phase"]), age(object, now)],
};

pub(super) const NODE: Layout = Layout {
    columns: &[
        NAME,
        column("Status", "Whether the node takes pods."),
        column("Roles", "What the node is for."),
        AGE,
        column("Version", "The version of the kubelet."),
        wide("Internal-IP", "The address inside the cluster."),
        wide("External-IP", "The address outside of the cluster."),
        wide("OS-Image", "The operating system."),
        wide("Kernel-Version", "The kernel."),
        wide("Container-Runtime", "What runs the containers."),
    ],
    cells: |object, now| {
        let status = &object["status"];
        let ready = items(status, "conditions").find(|c| c["type"] == "Ready").map(|c| c["status"] == "True");
        let mut words = vec![match ready {
            Some(true) => "Ready".to_owned(),
            Some(false) => "NotReady".into(),
            None => "Unknown".into(),
        }];
        if object["spec"]["unschedulable"] == true {
            words.push("SchedulingDisabled".into());
        }
        let mut roles: Vec<String> = object["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
            .map(str::to_owned)
            .collect();
        roles.sort();
        let address = |kind: &str| {
            let found = items(status, "addresses").find(|a| a["type"] == kind);
            found.map_or_else(|| "<none>".into(), |a| a["address"].clone())
        };
        let info = |field: &str| match status["nodeInfo"][field].as_str() {
            Some(text) if !text.is_empty() => text.into(),
            _ => Value::from("<unknown>"),
        };
        vec![
            name(object),
            words.join(",").into(),
            joined(&roles),
            age(object, now),
            status["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default().into(),
            address("InternalIP"),
            address("ExternalIP"),
            info("osImage"),
            info("kernelVersion"),
            info("containerRuntimeVersion"),
        ]
    },
};

pub(super) const EVENT: Layout = Layout {
    columns: &[
        column("Last Seen", "When this last happened."),
        column("Type", "Normal or Warning."),
        column("Reason", "One word for what happened."),
        column("Object", "What it happened to."),
        wide("Subobject", "The part that it happened to."),
        wide("Source", "Who says so."),
        column("Message", "What happened."),
        wide("First Seen", "When this first happened."),
        wide("Count", "How often this happened."),
        super::Column { name: "Name", kind: "string", wide: true, description: "The name of the event." },
    ],
    cells: event,
};

fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let first = [&object["firstTimestamp"], &object["eventTime"], &object["metadata"]["creationTimestamp"]];
    let last = [
        &object["series"]["lastObservedTime"],
        &object["lastTimestamp"],
        &object["firstTimestamp"],
        &object["eventTime"],
    ];
    let known = |times: &[&Value]| {
        times.iter().find(|time| time.is_string()).map_or_else(|| "<unknown>".to_owned(), |time| since(time, now))
    };
    let count = object["series"]["count"].as_i64().or(object["count"].as_i64()).unwrap_or(1);
    let involved = &object["involvedObject"];
    let about = format!(
        "{}/{}",
        involved["kind"].as_str().unwrap_or_default().to_lowercase(),
        involved["name"].as_str().unwrap_or_default()
    );
    let source = match (object["source"]["component"].as_str(), object["source"]["host"].as_str()) {
        (Some(component), Some(host)) => format!("{component}, {host}"),
        (Some(component), None) => component.to_owned(),
        _ => object["reportingComponent"].as_str().unwrap_or_default().to_owned(),
    };
    vec![
        known(&last).into(),
        object["type"].as_str().unwrap_or_default().into(),
        object["reason"].as_str().unwrap_or_default().into(),
        about.into(),
        involved["fieldPath"].as_str().unwrap_or_default().into(),
        source.into(),
        object["message"].as_str().unwrap_or_default().trim().into(),
        known(&first).into(),
        count.to_string().into(),
        meta::name(object).into(),
    ]
}

pub(super) const LEASE: Layout = Layout {
    columns: &[NAME, column("Holder", "Who holds the lease."), AGE],
    cells: |object, now| {
        vec![name(object), object["spec"]["holderIdentity"].as_str().unwrap_or_default().into(), age(object, now)]
    },
};
