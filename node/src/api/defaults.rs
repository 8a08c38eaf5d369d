//! What objects are given when their author left it out: the defaults of the Kubernetes API.
//!
//! Clients and controllers count on them: a stored object says everything. Applying them twice changes nothing.

mod pod;

use serde_json::{Map, Value, json};

use crate::objects::{Resource, create, meta};
use crate::{Cause, Error, Result};

/// Fills in what the kind's author left out.
pub fn apply(resource: &Resource, object: &mut Value) {
    match (resource.group, resource.kind) {
        ("", "Pod") => pod::pod(object),
        ("apps", "Deployment") => deployment(object),
        ("apps", "ReplicaSet") => {
            set(&mut object["spec"], "replicas", json!(1));
            pod::template(&mut object["spec"]);
        }
        ("batch", "Job") => job(object),
        ("", "Service") => service(object),
        ("", "Secret") => secret(object),
        ("", "Namespace") => {
            let name = object["metadata"]["name"].clone();
            meta::map_mut(&mut object["metadata"], "labels").insert("kubernetes.io/metadata.name".into(), name);
        }
        ("", "Endpoints") => {
            for subset in items(object, "subsets") {
                items(subset, "ports").for_each(|port| set(port, "protocol", json!("TCP")));
            }
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            items(object, "ports").for_each(|port| {
                set(port, "protocol", json!("TCP"));
                set(port, "name", json!(""));
            });
        }
        _ => {}
    }
}

/// Gives an object that comes into being what only the API may say: its first status.
pub fn born(resource: &Resource, object: &mut Value) {
    if !resource.has_status() {
        return;
    }
    let status = match (resource.group, resource.kind) {
        ("", "Pod") => json!({"phase": "Pending", "qosClass": pod::quality(&object["spec"])}),
        ("", "Namespace") => {
            meta::map_mut(object, "spec").insert("finalizers".into(), json!(["kubernetes"]));
            json!({"phase": "Active"})
        }
        ("", "Service") => json!({"loadBalancer": {}}),
        ("", "Node") => match object.get("status") {
            Some(status) if status.is_object() => status.clone(),
            _ => json!({}),
        },
        ("apps", "ReplicaSet") => json!({"replicas": 0}),
        _ => json!({}),
    };
    object["status"] = status;
    if (resource.group, resource.kind) == ("batch", "Job") {
        job_selector(object);
    }
}

/// A Service keeps its addresses when a writer leaves them out; whoever asks for another is refused.
pub fn keep_addresses(old: &Value, new: &mut Value) -> Result<()> {
    let headed = |service: &Value| service["spec"]["type"] != "ExternalName";
    if !headed(old) || !headed(new) {
        if let Some(spec) = new["spec"].as_object_mut().filter(|spec| spec["type"] == "ExternalName") {
            spec.shift_remove("clusterIP");
            spec.shift_remove("clusterIPs");
        }
        return Ok(());
    }
    let had = old["spec"]["clusterIP"].clone();
    match new["spec"]["clusterIP"].as_str() {
        None | Some("") => new["spec"]["clusterIP"] = had,
        Some(asked) if had.is_string() && asked != had => {
            let cause = Cause::invalid("spec.clusterIPs[0]", &json!([asked]), "may not change once set");
            return Err(Error::invalid("", "Service", meta::name(new), &[cause]));
        }
        Some(_) => {}
    }
    if new["spec"]["type"] != "NodePort" && new["spec"]["type"] != "LoadBalancer" {
        return Ok(());
    }
    // Ports that were given out stay with the port of the same number and protocol.
    let given: Vec<Value> = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    if let Some(spec) = new.get_mut("spec") {
        for port in items(spec, "ports") {
            let same = given.iter().find(|g| g["port"] == port["port"] && g["protocol"] == port["protocol"]);
            if let Some(number) = same.and_then(|g| g.get("nodePort")) {
                set(port, "nodePort", number.clone());
            }
        }
    }
    Ok(())
}

/// Sets a field that is missing or null.
fn set(object: &mut Value, field: &str, value: Value) {
    if object.is_null() {
        *object = Value::Object(Map::new());
    }
    if let Some(map) = object.as_object_mut()
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), value);
    }
}

/// The maps in the list at `field`; none when there is no such list. Never makes one.
fn items<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = object.get_mut(field).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter(|item| item.is_object())
}

fn deployment(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    set(spec, "progressDeadlineSeconds", json!(600));
    set(spec, "strategy", json!({}));
    let Some(strategy) = spec.get_mut("strategy") else { return };
    set(strategy, "type", json!("RollingUpdate"));
    if strategy["type"] == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        if let Some(rolling) = strategy.get_mut("rollingUpdate") {
            set(rolling, "maxUnavailable", json!("25%"));
            set(rolling, "maxSurge", json!("25%"));
        }
    }
    pod::template(spec);
}

fn job(object: &mut Value) {
    let spec = &mut object["spec"];
    let unset = |spec: &Value, field: &str| spec.get(field).is_none_or(Value::is_null);
    if unset(spec, "completions") && unset(spec, "parallelism") {
        set(spec, "completions", json!(1));
    }
    set(spec, "parallelism", json!(1));
    set(spec, "backoffLimit", json!(6));
    set(spec, "completionMode", json!("NonIndexed"));
    set(spec, "suspend", json!(false));
    set(spec, "manualSelector", json!(false));
    set(spec, "podReplacementPolicy", json!("TerminatingOrFailed"));
    pod::template(spec);
}

/// A Job selects its pods by its own uid unless its author says otherwise.
fn job_selector(object: &mut Value) {
    if object["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (meta::uid(object).to_owned(), meta::name(object).to_owned());
    let template = meta::map_mut(&mut object["spec"], "template");
    let metadata = template.entry("metadata").or_insert_with(|| json!({}));
    let labels = meta::map_mut(metadata, "labels");
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels.insert(key.into(), value.as_str().into());
    }
    object["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
}

fn service(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "type", json!("ClusterIP"));
    set(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10_800}}));
    }
    for port in items(spec, "ports") {
        set(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        if number.is_number() && (port["targetPort"] == 0 || port["targetPort"] == "") {
            port["targetPort"] = number.clone();
        }
        if number.is_number() {
            set(port, "targetPort", number);
        }
    }
    if spec["type"] == "ExternalName" {
        return;
    }
    set(spec, "internalTrafficPolicy", json!("Cluster"));
    set(spec, "ipFamilies", json!(["IPv4"]));
    set(spec, "ipFamilyPolicy", json!("SingleStack"));
    if spec["type"] != "ClusterIP" {
        set(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if spec["type"] == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
}

/// `stringData` is only ever written: it ends in `data`.
fn secret(object: &mut Value) {
    use base64::Engine as _;
    set(object, "type", json!("Opaque"));
    let written = object.as_object_mut().and_then(|map| map.shift_remove("stringData"));
    let Some(Value::Object(written)) = written else { return };
    let data = meta::map_mut(object, "data");
    for (key, text) in written {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        data.insert(key, encoded.into());
    }
}

/// A name for generated children; re-exported so that controllers name alike.
pub fn suffix(length: usize) -> Result<String> {
    create::suffix(length)
}
