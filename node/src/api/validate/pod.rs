//! The rules for pods and for templates of pods.

use std::collections::HashSet;

use serde_json::Value;

use super::{choice, container, items, names, not_negative, text};
use crate::Cause;

pub(super) fn pod(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    spec(&object["spec"], "spec", causes);
    let Some(old) = old else { return };
    if masked(&object["spec"], &old["spec"]) != old["spec"] {
        causes.push(Cause::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

/// The new spec with everything that may change as it was.
fn masked(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    for list in ["containers", "initContainers"] {
        for (at, container) in masked[list].as_array_mut().into_iter().flatten().enumerate() {
            if let Some(image) = old[list][at].get("image") {
                container["image"] = image.clone();
            }
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations"] {
        if let Some(map) = masked.as_object_mut() {
            match old.get(field) {
                Some(value) => map.insert(field.to_owned(), value.clone()),
                None => map.shift_remove(field),
            };
        }
    }
    // A list that was never there may come back empty.
    for list in ["initContainers", "volumes"] {
        if old.get(list).is_none()
            && masked[list].as_array().is_none_or(Vec::is_empty)
            && let Some(map) = masked.as_object_mut()
        {
            map.shift_remove(list);
        }
    }
    masked
}

/// The template in a controller's spec.
pub(super) fn template(template: &Value, path: &str, causes: &mut Vec<Cause>) {
    names::labels(&template["metadata"]["labels"], &format!("{path}.metadata.labels"), causes);
    spec(&template["spec"], &format!("{path}.spec"), causes);
}

const SOURCES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "hostPath",
    "image",
    "nfs",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut volumes = HashSet::new();
    for (at, volume) in items(spec, "volumes").enumerate() {
        let field = format!("{path}.volumes[{at}]");
        names::dns_label(&volume["name"], &format!("{field}.name"), causes);
        if !volumes.insert(text(&volume["name"])) {
            causes.push(Cause::duplicate(format!("{field}.name"), &volume["name"]));
        }
        for extra in SOURCES.iter().filter(|source| volume[**source].is_object()).skip(1) {
            causes.push(Cause::forbidden(format!("{field}.{extra}"), "may not specify more than 1 volume type"));
        }
        for (source, name) in [("secret", "secretName"), ("configMap", "name"), ("hostPath", "path")] {
            if volume[source].is_object() && text(&volume[source][name]).is_empty() {
                causes.push(Cause::required(format!("{field}.{source}.{name}"), ""));
            }
        }
    }
    if items(spec, "containers").next().is_none() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut taken = HashSet::new();
    for list in ["containers", "initContainers"] {
        for (at, value) in items(spec, list).enumerate() {
            container::container(value, &format!("{path}.{list}[{at}]"), &volumes, &mut taken, causes);
        }
    }
    choice(&spec["restartPolicy"], &format!("{path}.restartPolicy"), &["Always", "Never", "OnFailure"], true, causes);
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    choice(&spec["dnsPolicy"], &format!("{path}.dnsPolicy"), &policies, true, causes);
    not_negative(&spec["terminationGracePeriodSeconds"], &format!("{path}.terminationGracePeriodSeconds"), causes);
    if spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds < 1) {
        let detail = "must be between 1 and 2147483647, inclusive";
        causes.push(Cause::invalid(format!("{path}.activeDeadlineSeconds"), &spec["activeDeadlineSeconds"], detail));
    }
    let account = text(&spec["serviceAccountName"]);
    if !account.is_empty() && !super::is_dns_subdomain(account) {
        let field = format!("{path}.serviceAccountName");
        causes.push(Cause::invalid(field, &spec["serviceAccountName"], "a lowercase RFC 1123 subdomain is required"));
    }
    names::labels(&spec["nodeSelector"], &format!("{path}.nodeSelector"), causes);
}
