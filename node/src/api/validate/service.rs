//! The rules for Services.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::container::port_range;
use super::{choice, items, names, text};
use crate::Cause;

pub(super) fn service(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    choice(&spec["type"], "spec.type", &kinds, true, causes);
    choice(&spec["sessionAffinity"], "spec.sessionAffinity", &["ClientIP", "None"], true, causes);
    let kind = text(&spec["type"]);
    let headless = spec["clusterIP"] == "None";
    if kind == "ExternalName" {
        if !super::is_dns_subdomain(text(&spec["externalName"]).trim_end_matches('.')) {
            causes.push(Cause::required("spec.externalName", "a DNS name is needed when `type` is ExternalName"));
        }
    } else if !headless && items(spec, "ports").next().is_none() {
        causes.push(Cause::required("spec.ports", ""));
    }
    if headless && (kind == "NodePort" || kind == "LoadBalancer") {
        let detail = "may not be set to 'None' for LoadBalancer and NodePort services";
        causes.push(Cause::invalid("spec.clusterIPs[0]", &spec["clusterIP"], detail));
    }
    let ip = text(&spec["clusterIP"]);
    if !ip.is_empty() && !headless && ip.parse::<IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        causes.push(Cause::invalid("spec.clusterIPs[0]", &spec["clusterIP"], detail));
    }
    names::labels(&spec["selector"], "spec.selector", causes);
    let many = items(spec, "ports").count() > 1;
    let (mut taken, mut numbers) = (HashSet::new(), HashSet::new());
    for (at, port) in items(spec, "ports").enumerate() {
        let field = format!("spec.ports[{at}]");
        let name = text(&port["name"]);
        if many || !name.is_empty() {
            names::dns_label(&port["name"], &format!("{field}.name"), causes);
            if !name.is_empty() && !taken.insert(name) {
                causes.push(Cause::duplicate(format!("{field}.name"), &port["name"]));
            }
        }
        match port["port"].as_i64() {
            Some(1..=65_535) => {}
            Some(_) => causes.push(port_range(format!("{field}.port"), &port["port"])),
            None => causes.push(port_range(format!("{field}.port"), &0.into())),
        }
        choice(&port["protocol"], &format!("{field}.protocol"), &["SCTP", "TCP", "UDP"], true, causes);
        match &port["targetPort"] {
            Value::Number(number) if number.as_i64().is_some_and(|n| (1..=65_535).contains(&n)) => {}
            Value::Number(_) => causes.push(port_range(format!("{field}.targetPort"), &port["targetPort"])),
            Value::String(name) if name.len() > 15 || !super::is_dns_label(name) => {
                let detail = "must be the name of a port: at most 15 lower-case letters, digits and hyphens";
                causes.push(Cause::invalid(format!("{field}.targetPort"), &port["targetPort"], detail));
            }
            _ => {}
        }
        let node = port["nodePort"].as_i64().unwrap_or_default();
        if node != 0 && (kind == "ClusterIP" || kind == "ExternalName") {
            let detail = format!("may not be used when `type` is '{kind}'");
            causes.push(Cause::forbidden(format!("{field}.nodePort"), &detail));
        } else if node != 0 && !(30_000..=32_767).contains(&node) {
            let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
            causes.push(Cause::invalid(format!("{field}.nodePort"), &port["nodePort"], detail));
        }
        if !numbers.insert((port["port"].as_i64(), text(&port["protocol"]))) {
            causes.push(Cause::duplicate(field, port));
        }
    }
}
