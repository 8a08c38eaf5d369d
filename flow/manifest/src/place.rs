//! Puts objects into an environment.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{images::pod_templates, order::is_namespaced};

/// Where objects go, and what is written onto them.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    pub namespace: String,
    /// Put onto every object and every pod template, so they should be the same from release to release: a template that changes
    /// restarts its pods.
    pub labels: BTreeMap<String, String>,
    /// Put onto every object, but on no pod template.
    pub annotations: BTreeMap<String, String>,
}

/// Gives every object that stands in one the namespace, whatever it said itself, and adds labels and annotations. The namespace itself is
/// put in front, unless it is there.
pub fn place(objects: &mut Vec<Value>, placement: &Placement) {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": placement.namespace } });
    let is_it = |object: &Value| object["kind"] == "Namespace" && object["metadata"]["name"] == placement.namespace;
    if !objects.iter().any(is_it) {
        objects.insert(0, namespace);
    }
    for object in objects {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if kind == "Namespace" {
            // It outlives what runs in it: nothing may take it for an object of the release that can be pruned.
            continue;
        }
        if let Some(metadata) = map(object, "metadata") {
            if is_namespaced(&kind) {
                metadata.insert("namespace".into(), placement.namespace.clone().into());
            }
            add(metadata, "labels", &placement.labels);
            add(metadata, "annotations", &placement.annotations);
        }
        if matches!(kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
            // An account that moves takes its rights with it.
            for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                if subject["kind"] == "ServiceAccount"
                    && let Some(subject) = subject.as_object_mut()
                {
                    subject.insert("namespace".into(), placement.namespace.clone().into());
                }
            }
        }
        if kind == "Pod" {
            continue;
        }
        for template in pod_templates(object) {
            if let Some(metadata) = map(template, "metadata") {
                add(metadata, "labels", &placement.labels);
            }
        }
    }
}

/// The map under `name`, made if it is not there.
fn map<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let inner = value.as_object_mut()?.entry(name).or_insert_with(|| json!({}));
    if inner.is_null() {
        *inner = json!({});
    }
    inner.as_object_mut()
}

fn add(metadata: &mut Map<String, Value>, name: &str, values: &BTreeMap<String, String>) {
    if values.is_empty() {
        return;
    }
    let inner = metadata.entry(name).or_insert_with(|| json!({}));
    if inner.is_null() {
        *inner = json!({});
    }
    if let Some(inner) = inner.as_object_mut() {
        inner.extend(values.iter().map(|(key, value)| (key.clone(), value.clone().into())));
    }
}
