//! Where the values in a pod's environment and files come from.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::resources;
use crate::controllers::typed;

/// The ConfigMaps and Secrets of the pod's namespace. A key holds bytes.
pub trait Sources: Send + Sync {
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
    fn secret(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
}

/// What is known of the pod only once it is placed.
#[derive(Debug, Clone, Default)]
pub struct Place {
    pub node: String,
    pub host_ip: String,
    pub pod_ip: String,
}

/// The value behind a `fieldRef`; `None` for a path that is not supported.
pub fn field(pod: &Pod, place: &Place, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return None,
        };
        return Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    Some(match path {
        "metadata.name" => typed::name(meta).to_owned(),
        "metadata.namespace" => typed::namespace(meta).to_owned(),
        "metadata.uid" => typed::uid(meta).to_owned(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => place.node.clone(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".into())
        }
        "status.hostIP" | "status.hostIPs" => place.host_ip.clone(),
        "status.podIP" | "status.podIPs" => place.pod_ip.clone(),
        _ => return None,
    })
}

/// A map as the downward API writes it into a file: one quoted pair a line.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let pairs = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    pairs.collect::<Vec<_>>().join("\n")
}

fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value behind a `resourceFieldRef`. `own` is the container in which it stands, if any.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    name: Option<&str>,
    resource: &str,
    divisor: Option<&str>,
) -> String {
    let named = name.filter(|name| !name.is_empty());
    let spec = pod.spec.as_ref();
    let all = spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let container = match named {
        Some(name) => all.into_iter().find(|container| container.name == name),
        None => own,
    };
    container.and_then(|container| resources::field(container, resource, divisor)).unwrap_or_else(|| "0".into())
}
