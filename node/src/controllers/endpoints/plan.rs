//! Which pods a Service reaches, and under which ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::controllers::{pods, typed};
use crate::objects::{meta, resource};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The most endpoints that one slice may hold.
const SLICE: usize = 1000;

/// One pod behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub pod: String,
    pub uid: String,
    pub namespace: String,
    pub node: String,
    pub ip: IpAddr,
    /// The pod's own name under a headless Service: its `hostname`, when its `subdomain` is the Service.
    pub hostname: Option<String>,
    /// Takes new traffic.
    pub ready: bool,
    /// Answers, though it may be on its way out.
    pub serving: bool,
    pub terminating: bool,
    /// The number behind each port of the Service, by the Service port's name (empty for the only one).
    pub ports: BTreeMap<String, u16>,
}

pub fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let external = spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"));
    !external && spec.is_some_and(|spec| spec.selector.as_ref().is_some_and(|selector| !selector.is_empty()))
}

/// The pods with an address among those that the selector takes, in the order of their names.
pub fn targets(service: &Service, selected: &[Pod]) -> Vec<Target> {
    let spec = service.spec.as_ref();
    let unready_too = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let name = typed::name(&service.metadata);
    let mut targets: Vec<Target> = selected
        .iter()
        .filter(|pod| !pods::has_ended(pod))
        .filter_map(|pod| {
            let ip = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
            let (ready, terminating) = (pods::is_ready(pod), pods::is_terminating(pod));
            let own = pod.spec.as_ref();
            let hostname = own.and_then(|spec| spec.hostname.clone());
            let under_us = own.and_then(|spec| spec.subdomain.as_deref()) == Some(name);
            let service_ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
            Some(Target {
                pod: typed::name(&pod.metadata).to_owned(),
                uid: typed::uid(&pod.metadata).to_owned(),
                namespace: typed::namespace(&pod.metadata).to_owned(),
                node: own.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
                ip,
                hostname: hostname.filter(|_| under_us),
                ready: unready_too || (ready && !terminating),
                serving: unready_too || ready,
                terminating,
                ports: service_ports
                    .filter_map(|port| Some((port.name.clone().unwrap_or_default(), number(port, pod)?)))
                    .collect(),
            })
        })
        .collect();
    targets.sort_by(|a, b| a.pod.cmp(&b.pod));
    targets
}

/// The pod's port behind a Service's port, which names it or gives its number.
fn number(port: &ServicePort, pod: &Pod) -> Option<u16> {
    let valid = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    match port.target_port.as_ref() {
        None => valid(port.port),
        Some(IntOrString::Int(0)) => valid(port.port),
        Some(IntOrString::Int(number)) => valid(*number),
        Some(IntOrString::String(name)) => {
            if let Ok(number) = name.parse::<i32>() {
                return valid(number);
            }
            let containers = pod.spec.as_ref().map(|spec| spec.containers.iter());
            let mut ports = containers.into_iter().flatten().flat_map(|container| container.ports.iter().flatten());
            let protocol = |p: Option<&str>| p.unwrap_or("TCP").to_owned();
            let found = ports.find(|candidate| {
                candidate.name.as_ref() == Some(name)
                    && protocol(candidate.protocol.as_deref()) == protocol(port.protocol.as_deref())
            });
            found.and_then(|found| valid(found.container_port))
        }
    }
}

/// Targets with the same ports, in the order in which the ports first appear.
fn by_ports(targets: &[Target]) -> Vec<(&BTreeMap<String, u16>, Vec<&Target>)> {
    let mut groups: Vec<(&BTreeMap<String, u16>, Vec<&Target>)> = Vec::new();
    for target in targets {
        match groups.iter_mut().find(|(ports, _)| **ports == target.ports) {
            Some((_, members)) => members.push(target),
            None => groups.push((&target.ports, vec![target])),
        }
    }
    groups
}

fn port_objects(service: &Service, ports: &BTreeMap<String, u16>) -> Vec<Value> {
    let all = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let known = all.filter_map(|port| {
        let number = ports.get(port.name.as_deref().unwrap_or_default())?;
        let mut object = json!({
            "name": port.name.as_deref().unwrap_or_default(),
            "port": number,
            "protocol": port.protocol.as_deref().unwrap_or("TCP"),
        });
        if let Some(application) = &port.app_protocol {
            object["appProtocol"] = application.as_str().into();
        }
        Some(object)
    });
    known.collect()
}

fn reference(target: &Target) -> Value {
    json!({"kind": "Pod", "name": target.pod, "namespace": target.namespace, "uid": target.uid})
}

/// The EndpointSlices of a Service. Their names follow from their ports, so that the same ports keep their slice.
pub fn slices(object: &Value, service: &Service, targets: &[Target]) -> Vec<Value> {
    let (name, namespace) = (meta::name(object), meta::namespace(object));
    let mut labels = json!({SERVICE_NAME: name, MANAGED_BY: MANAGER});
    let headless = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    if headless {
        labels["service.kubernetes.io/headless"] = "".into();
    }
    let nothing = BTreeMap::new();
    let mut groups = by_ports(targets);
    if groups.is_empty() {
        groups.push((&nothing, Vec::new()));
    }
    let mut slices = Vec::new();
    for (ports, members) in groups {
        let ports = port_objects(service, ports);
        let chunks: Vec<&[&Target]> = if members.is_empty() { vec![&[]] } else { members.chunks(SLICE).collect() };
        for (at, chunk) in chunks.into_iter().enumerate() {
            let endpoints: Vec<Value> = chunk.iter().map(|target| endpoint(target)).collect();
            let hash = crate::controllers::deployment::template::hash(&json!({"ports": ports, "at": at}), 0);
            slices.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{name}-{hash}"), "namespace": namespace, "labels": labels,
                    "ownerReferences": [meta::controller_reference(&resource::SERVICES, object)],
                },
                "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
            }));
        }
    }
    slices
}

fn endpoint(target: &Target) -> Value {
    let mut object = json!({
        "addresses": [target.ip.to_string()],
        "conditions": {"ready": target.ready, "serving": target.serving, "terminating": target.terminating},
        "targetRef": reference(target),
        "nodeName": target.node,
    });
    if let Some(hostname) = &target.hostname {
        object["hostname"] = hostname.as_str().into();
    }
    object
}

/// The Endpoints object of a Service: ready and not ready addresses by port set.
pub fn endpoints(object: &Value, service: &Service, targets: &[Target]) -> Value {
    let present: Vec<Target> = targets.iter().filter(|target| target.ready || !target.terminating).cloned().collect();
    let mut subsets = Vec::new();
    for (ports, members) in by_ports(&present) {
        let address = |target: &&Target| {
            let mut object =
                json!({"ip": target.ip.to_string(), "nodeName": target.node, "targetRef": reference(target)});
            if let Some(hostname) = &target.hostname {
                object["hostname"] = hostname.as_str().into();
            }
            object
        };
        let (ready, unready): (Vec<&Target>, Vec<&Target>) = members.into_iter().partition(|target| target.ready);
        let mut subset = json!({});
        for (field, list) in [("addresses", ready), ("notReadyAddresses", unready)] {
            if !list.is_empty() {
                subset[field] = list.iter().map(address).collect();
            }
        }
        subset["ports"] = port_objects(service, ports).into();
        subsets.push(subset);
    }
    let mut labels = object["metadata"]["labels"].clone();
    if !labels.is_object() {
        labels = json!({});
    }
    labels[MANAGED_BY] = MANAGER.into();
    let mut endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": meta::name(object), "namespace": meta::namespace(object), "labels": labels,
            "ownerReferences": [meta::controller_reference(&resource::SERVICES, object)],
        },
    });
    if !subsets.is_empty() {
        endpoints["subsets"] = subsets.into();
    }
    endpoints
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::controllers::pods::tests::{at, pod};

    fn service(spec: Value) -> (Value, Service) {
        let object = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop", "uid": "s"}, "spec": spec});
        let service = typed::read(&object).unwrap();
        (object, service)
    }

    fn placed(name: &str, ip: &str, ready: bool) -> Pod {
        let mut pod = pod(name, "Running", ready.then_some(0));
        pod.status.as_mut().unwrap().pod_ip = Some(ip.into());
        let spec = json!({"nodeName": "here", "hostname": "zero", "subdomain": "web",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]});
        pod.spec = Some(serde_json::from_value(spec).unwrap());
        pod
    }

    #[test]
    fn readiness_termination_and_named_ports_are_told_apart() {
        let (object, service) = service(json!({"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "http"}]}));
        let mut leaving = placed("c", "10.0.0.3", true);
        leaving.metadata.deletion_timestamp = Some(Time(at(1)));
        let pods = [placed("a", "10.0.0.1", true), placed("b", "10.0.0.2", false), leaving, pod("d", "Pending", None)];
        let targets = targets(&service, &pods);
        let seen: Vec<_> = targets.iter().map(|t| (t.pod.as_str(), t.ready, t.serving, t.terminating)).collect();
        assert_eq!(seen, [("a", true, true, false), ("b", false, false, false), ("c", false, true, true)]);
        assert_eq!(targets[0].ports[""], 8080);
        assert_eq!(targets[0].hostname.as_deref(), Some("zero"));
        let slices = slices(&object, &service, &targets);
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0]["endpoints"].as_array().unwrap().len(), 3);
        let endpoints = endpoints(&object, &service, &targets);
        assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.0.0.1");
        assert_eq!(endpoints["subsets"][0]["notReadyAddresses"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn unready_addresses_are_published_where_asked_for() {
        let (_, service) =
            service(json!({"publishNotReadyAddresses": true, "selector": {"a": "b"}, "ports": [{"port": 80}]}));
        assert!(targets(&service, &[placed("b", "10.0.0.2", false)])[0].ready);
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice_and_pods_with_other_ports_one_more() {
        let (object, service) = service(json!({"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "http"}]}));
        assert_eq!(slices(&object, &service, &[])[0]["endpoints"], json!([]));
        let mut other = placed("b", "10.0.0.2", true);
        other.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 9090;
        let targets = targets(&service, &[placed("a", "10.0.0.1", true), other]);
        let slices = slices(&object, &service, &targets);
        assert_eq!(slices.len(), 2);
        assert_ne!(slices[0]["metadata"]["name"], slices[1]["metadata"]["name"]);
        assert_eq!(endpoints(&object, &service, &targets)["subsets"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn external_names_and_services_without_selector_are_left_alone() {
        for spec in
            [json!({"ports": []}), json!({"selector": {}}), json!({"type": "ExternalName", "selector": {"a": "b"}})]
        {
            assert!(!has_selector(&service(spec).1));
        }
    }
}
