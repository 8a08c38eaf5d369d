//! The rules that an object must keep, with the sentences of the Kubernetes API.

mod container;
mod names;
mod pod;
mod service;
mod workload;

use serde_json::Value;

pub use names::{is_dns_label, is_dns_subdomain};

use crate::objects::{Resource, meta};
use crate::{Cause, Error, Result};

/// The most bytes in a ConfigMap or Secret.
const DATA: usize = 1 << 20;
/// The most bytes in annotations.
const ANNOTATIONS: usize = 256 << 10;

/// Refuses an object that breaks a rule of its kind; with `old`, also a change that is not allowed.
pub fn validate(resource: &Resource, object: &Value, old: Option<&Value>) -> Result<()> {
    let mut causes = Vec::new();
    metadata(resource, object, &mut causes);
    match (resource.group, resource.kind) {
        ("", "Pod") => pod::pod(object, old, &mut causes),
        ("apps", "Deployment") => workload::deployment(object, old, &mut causes),
        ("apps", "ReplicaSet") => workload::replica_set(object, old, &mut causes),
        ("batch", "Job") => workload::job(object, old, &mut causes),
        ("", "Service") => service::service(object, &mut causes),
        ("", "ConfigMap") => {
            data(object, &["data", "binaryData"], &mut causes);
            kept(object, old, &["data", "binaryData"], &mut causes);
        }
        ("", "Secret") => secret(object, old, &mut causes),
        ("coordination.k8s.io", "Lease") => lease(object, &mut causes),
        ("discovery.k8s.io", "EndpointSlice") => {
            let types = ["FQDN", "IPv4", "IPv6"];
            choice(&object["addressType"], "addressType", &types, true, &mut causes);
        }
        _ => {}
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(resource.group, resource.kind, meta::name(object), &causes))
}

fn metadata(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    let name = meta::name(object);
    if !name.is_empty() {
        names::object_name(resource, name, "metadata.name", causes);
    } else if let Some(prefix) = object["metadata"]["generateName"].as_str().filter(|prefix| !prefix.is_empty()) {
        names::object_name(resource, &format!("{}x", prefix), "metadata.generateName", causes);
    } else {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    }
    names::labels(&object["metadata"]["labels"], "metadata.labels", causes);
    let mut size = 0;
    for (key, value) in object["metadata"]["annotations"].as_object().into_iter().flatten() {
        names::qualified(&key.to_lowercase(), "metadata.annotations", causes);
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS {
        let message = format!("Too long: may not be more than {ANNOTATIONS} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: "metadata.annotations".into(), message });
    }
    for (at, owner) in meta::owner_references(object).enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(&owner[field]).is_empty() {
                causes.push(Cause::invalid(
                    format!("metadata.ownerReferences[{at}].{field}"),
                    &"".into(),
                    "must not be empty",
                ));
            }
        }
    }
    if meta::owner_references(object).filter(|owner| owner["controller"] == true).count() > 1 {
        let list = &object["metadata"]["ownerReferences"];
        causes.push(Cause::invalid(
            "metadata.ownerReferences",
            list,
            "Only one reference can have Controller set to true",
        ));
    }
}

fn data(object: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    let mut size = 0;
    for field in fields {
        for (key, value) in object[*field].as_object().into_iter().flatten() {
            let legal = key.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
            if !legal || key.is_empty() || key.len() > 253 || key == "." || key == ".." {
                let detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', \
                              or 'KEY_NAME', or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                causes.push(Cause::invalid(format!("{field}[{key}]"), &key.as_str().into(), detail));
            }
            size += value.as_str().map_or(0, str::len);
        }
    }
    if size > DATA {
        let message = format!("Too long: may not be more than {DATA} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: String::new(), message });
    }
}

/// What says that it is immutable is.
fn kept(object: &Value, old: Option<&Value>, fields: &[&str], causes: &mut Vec<Cause>) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return };
    if object["immutable"] != true {
        causes.push(Cause::forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    for field in fields.iter().filter(|field| old[**field] != object[**field]) {
        causes.push(Cause::forbidden(*field, "field is immutable when `immutable` is set"));
    }
}

fn secret(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    data(object, &["data"], causes);
    kept(object, old, &["data"], causes);
    if let Some(old) = old {
        same(object, old, &["type"], "type", causes);
    }
    let needed: &[&str] = match object["type"].as_str() {
        Some("kubernetes.io/tls") => &["tls.crt", "tls.key"],
        Some("kubernetes.io/dockerconfigjson") => &[".dockerconfigjson"],
        Some("kubernetes.io/dockercfg") => &[".dockercfg"],
        Some("kubernetes.io/ssh-auth") => &["ssh-privatekey"],
        _ => &[],
    };
    for key in needed.iter().filter(|key| object["data"].get(**key).is_none()) {
        causes.push(Cause::required(format!("data[{key}]"), ""));
    }
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        causes.push(Cause::invalid(
            "spec.leaseDurationSeconds",
            &spec["leaseDurationSeconds"],
            "must be greater than 0",
        ));
    }
    not_negative(&spec["leaseTransitions"], "spec.leaseTransitions", causes);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// A number that is there may not be below zero.
fn not_negative(value: &Value, field: &str, causes: &mut Vec<Cause>) {
    if value.as_i64().is_some_and(|n| n < 0) {
        causes.push(Cause::invalid(field, value, "must be greater than or equal to 0"));
    }
}

/// A text must be one of a few.
fn choice(value: &Value, field: &str, choices: &[&str], required: bool, causes: &mut Vec<Cause>) {
    match value.as_str() {
        None | Some("") if required => causes.push(Cause::required(field, "")),
        None | Some("") => {}
        Some(chosen) if choices.contains(&chosen) => {}
        Some(_) => causes.push(Cause::unsupported(field, value, choices)),
    }
}

/// A part of an object may never change.
fn same(object: &Value, old: &Value, path: &[&str], field: &str, causes: &mut Vec<Cause>) {
    let at = |value: &Value| path.iter().fold(value.clone(), |value, step| value[*step].clone());
    if at(object) != at(old) {
        causes.push(Cause::invalid(field, &at(object), "field is immutable"));
    }
}

#[cfg(test)]
mod tests;
