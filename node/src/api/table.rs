//! Objects as rows of a table, with the columns that `kubectl get` shows.

mod config;
mod pod;
mod text;
mod workload;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::objects::{Resource, meta};

/// How much of each object goes along with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    Nothing,
    Metadata,
    Object,
}

/// A column; `wide` ones are only shown with `-o wide`.
struct Column {
    name: &'static str,
    kind: &'static str,
    wide: bool,
    description: &'static str,
}

const fn column(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", wide: false, description }
}

const fn number(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", wide: false, description }
}

const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", wide: true, description }
}

const NAME: Column = column("Name", "Name must be unique within a namespace.");
const AGE: Column = column("Age", "How long ago the object was created.");

/// What a kind shows: its columns, and how an object fills them.
struct Layout {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

fn layout(resource: &Resource) -> Layout {
    match (resource.group, resource.kind) {
        ("", "Pod") => pod::LAYOUT,
        ("apps", "Deployment") => workload::DEPLOYMENT,
        ("apps", "ReplicaSet") => workload::REPLICA_SET,
        ("apps", "ControllerRevision") => workload::CONTROLLER_REVISION,
        ("batch", "Job") => workload::JOB,
        ("", "Service") => config::SERVICE,
        ("", "Endpoints") => config::ENDPOINTS,
        ("discovery.k8s.io", "EndpointSlice") => config::ENDPOINT_SLICE,
        ("", "ConfigMap") => config::CONFIG_MAP,
        ("", "Secret") => config::SECRET,
        ("", "ServiceAccount") => config::SERVICE_ACCOUNT,
        ("", "Namespace") => config::NAMESPACE,
        ("", "Node") => config::NODE,
        (_, "Event") => config::EVENT,
        ("coordination.k8s.io", "Lease") => config::LEASE,
        _ => Layout { columns: &[NAME, AGE], cells: |object, now| vec![name(object), text::age(object, now)] },
    }
}

fn name(object: &Value) -> Value {
    meta::name(object).into()
}

/// A `Table` of objects. Without `columns` its `columnDefinitions` are empty, as they are in a watch after the first event.
pub fn render<'a>(
    resource: &Resource,
    objects: impl Iterator<Item = &'a Value>,
    version: &str,
    metadata: &Value,
    include: Include,
    now: Timestamp,
    columns: bool,
) -> Value {
    let layout = layout(resource);
    let definitions: Vec<Value> = layout
        .columns
        .iter()
        .filter(|_| columns)
        .map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": if column.name == "Name" { "name" } else { "" },
                "description": column.description, "priority": i32::from(column.wide),
            })
        })
        .collect();
    let rows: Vec<Value> = objects
        .map(|object| {
            let mut row = json!({"cells": (layout.cells)(object, now)});
            match include {
                Include::Nothing => {}
                Include::Metadata => row["object"] = super::read::metadata_only(object, version),
                Include::Object => row["object"] = super::events::shown(resource, object.clone()),
            }
            row
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::resource;

    #[test]
    fn every_row_fills_every_column() {
        for resource in resource::ALL {
            let object = json!({"metadata": {"name": "a"}});
            let table = render(
                resource,
                std::iter::once(&object),
                "v1",
                &json!({}),
                Include::Nothing,
                Timestamp::UNIX_EPOCH,
                true,
            );
            let columns = table["columnDefinitions"].as_array().unwrap().len();
            assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns, "{}", resource.plural);
        }
    }

    fn cells(resource: &Resource, object: &Value) -> Vec<String> {
        let now = "2026-11-20T10:00:00Z".parse().unwrap();
        let table = render(resource, std::iter::once(object), "v1", &json!({}), Include::Nothing, now, true);
        let cells = table["rows"][0]["cells"].as_array().unwrap().clone();
        cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned)).collect()
    }

    #[test]
    fn pods_show_what_they_wait_for() {
        let pod = json!({
            "metadata": {"name": "web-1", "creationTimestamp": "2026-11-20T09:00:00Z"},
            "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
                {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
                    "lastState": {"terminated": {"finishedAt": "2026-11-20T09:55:00Z"}}},
                {"name": "b", "ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            ]},
        });
        let row = cells(&resource::PODS, &pod);
        assert_eq!(row[..5], ["web-1", "1/2", "CrashLoopBackOff", "3 (5m ago)", "60m"]);
        assert_eq!(row[5..], ["10.0.0.1", "n", "<none>", "<none>"]);
        let mut leaving = pod;
        leaving["metadata"]["deletionTimestamp"] = "2026-11-20T10:00:00Z".into();
        assert_eq!(cells(&resource::PODS, &leaving)[2], "Terminating");
    }

    #[test]
    fn services_show_their_ports() {
        let service = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort", "clusterIP": "10.96.0.2",
            "selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
        let row = cells(&resource::SERVICES, &service);
        assert_eq!(row, ["web", "NodePort", "10.96.0.2", "<none>", "80:30080/TCP,53/UDP", "<unknown>", "app=web"]);
    }
}
