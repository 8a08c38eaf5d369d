//! The rules for a container.

use std::collections::HashSet;

use serde_json::Value;

use super::{choice, items, names, not_negative, text};
use crate::Cause;

/// Checks the containers at `path`; `names` are those that are taken.
pub(super) fn container<'a>(
    container: &'a Value,
    path: &str,
    volumes: &HashSet<&str>,
    taken: &mut HashSet<&'a str>,
    causes: &mut Vec<Cause>,
) {
    names::dns_label(&container["name"], &format!("{path}.name"), causes);
    if !taken.insert(text(&container["name"])) && !text(&container["name"]).is_empty() {
        causes.push(Cause::duplicate(format!("{path}.name"), &container["name"]));
    }
    let image = text(&container["image"]);
    if image.is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        causes.push(Cause::invalid(format!("{path}.image"), &container["image"], detail));
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    choice(&container["imagePullPolicy"], &format!("{path}.imagePullPolicy"), &policies, false, causes);
    let policies = ["FallbackToLogsOnError", "File"];
    choice(
        &container["terminationMessagePolicy"],
        &format!("{path}.terminationMessagePolicy"),
        &policies,
        false,
        causes,
    );
    ports(container, path, causes);
    for (at, variable) in items(container, "env").enumerate() {
        let name = text(&variable["name"]);
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.env[{at}].name"), ""));
        } else if name.contains('=') || name.chars().any(char::is_control) {
            let detail =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            causes.push(Cause::invalid(format!("{path}.env[{at}].name"), &variable["name"], detail));
        }
        if !text(&variable["value"]).is_empty() && variable["valueFrom"].is_object() {
            let detail = "may not be specified when `value` is not empty";
            causes.push(Cause::invalid(format!("{path}.env[{at}].valueFrom"), &"".into(), detail));
        }
    }
    let mut mounts = HashSet::new();
    for (at, mount) in items(container, "volumeMounts").enumerate() {
        let name = text(&mount["name"]);
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.volumeMounts[{at}].name"), ""));
        } else if !volumes.contains(name) {
            causes.push(Cause::not_found(format!("{path}.volumeMounts[{at}].name"), &mount["name"]));
        }
        let target = text(&mount["mountPath"]);
        if target.is_empty() {
            causes.push(Cause::required(format!("{path}.volumeMounts[{at}].mountPath"), ""));
        } else if !mounts.insert(target) {
            let field = format!("{path}.volumeMounts[{at}].mountPath");
            causes.push(Cause::invalid(field, &mount["mountPath"], "must be unique"));
        }
        let inner = text(&mount["subPath"]);
        if inner.starts_with('/') {
            let field = format!("{path}.volumeMounts[{at}].subPath");
            causes.push(Cause::invalid(field, &mount["subPath"], "must be a relative path"));
        } else if inner.split('/').any(|step| step == "..") {
            let field = format!("{path}.volumeMounts[{at}].subPath");
            causes.push(Cause::invalid(field, &mount["subPath"], "must not contain '..'"));
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probe(container, kind, path, causes);
    }
    for hook in ["postStart", "preStop"] {
        let field = format!("{path}.lifecycle.{hook}");
        let value = &container["lifecycle"][hook];
        if value.is_object() {
            handler(value, &field, &["exec", "httpGet", "tcpSocket", "sleep"], causes);
        }
    }
    resources(&container["resources"], &format!("{path}.resources"), causes);
}

fn ports(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut taken = HashSet::new();
    for (at, port) in items(container, "ports").enumerate() {
        let field = format!("{path}.ports[{at}]");
        let name = text(&port["name"]);
        if !name.is_empty() {
            let fine = name.len() <= 15
                && super::is_dns_label(name)
                && name.contains(|c: char| c.is_ascii_lowercase())
                && !name.contains("--");
            if !fine {
                let detail =
                    "must be at most 15 lower-case letters, digits and single hyphens, with at least one letter";
                causes.push(Cause::invalid(format!("{field}.name"), &port["name"], detail));
            } else if !taken.insert(name) {
                causes.push(Cause::duplicate(format!("{field}.name"), &port["name"]));
            }
        }
        match port["containerPort"].as_i64() {
            None | Some(0) => causes.push(Cause::required(format!("{field}.containerPort"), "")),
            Some(1..=65_535) => {}
            Some(_) => causes.push(port_range(format!("{field}.containerPort"), &port["containerPort"])),
        }
        if port["hostPort"].as_i64().is_some_and(|port| port != 0 && !(1..=65_535).contains(&port)) {
            causes.push(port_range(format!("{field}.hostPort"), &port["hostPort"]));
        }
        choice(&port["protocol"], &format!("{field}.protocol"), &["SCTP", "TCP", "UDP"], true, causes);
    }
}

pub(super) fn port_range(field: String, value: &Value) -> Cause {
    Cause::invalid(field, value, "must be between 1 and 65535, inclusive")
}

fn probe(container: &Value, kind: &str, path: &str, causes: &mut Vec<Cause>) {
    let probe = &container[kind];
    if !probe.is_object() {
        return;
    }
    let path = format!("{path}.{kind}");
    handler(probe, &path, &["exec", "httpGet", "tcpSocket", "grpc"], causes);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(&probe[field], &format!("{path}.{field}"), causes);
    }
    if kind != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|n| n > 1) {
        causes.push(Cause::invalid(format!("{path}.successThreshold"), &probe["successThreshold"], "must be 1"));
    }
}

/// Exactly one way to do it must be there, and whole.
fn handler(handler: &Value, path: &str, ways: &[&str], causes: &mut Vec<Cause>) {
    let there: Vec<&&str> = ways.iter().filter(|way| handler[**way].is_object()).collect();
    if there.is_empty() {
        causes.push(Cause::required(path, "must specify a handler type"));
    }
    for extra in there.iter().skip(1) {
        causes.push(Cause::forbidden(format!("{path}.{extra}"), "may not specify more than 1 handler type"));
    }
    if handler["exec"].is_object() && items(&handler["exec"], "command").next().is_none() {
        causes.push(Cause::required(format!("{path}.exec.command"), ""));
    }
    for way in ["httpGet", "tcpSocket", "grpc"] {
        let value = &handler[way];
        if !value.is_object() {
            continue;
        }
        let field = format!("{path}.{way}.port");
        match &value["port"] {
            Value::Number(port) if port.as_i64().is_some_and(|port| (1..=65_535).contains(&port)) => {}
            Value::String(port) if !port.is_empty() && port.len() <= 15 && super::is_dns_label(port) => {}
            Value::Null => causes.push(Cause::required(field, "")),
            other => causes.push(port_range(field, other)),
        }
    }
}

fn resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    for kind in ["limits", "requests"] {
        for (what, amount) in resources[kind].as_object().into_iter().flatten() {
            let field = format!("{path}.{kind}[{what}]");
            match quantity(text(amount)) {
                None => {
                    let detail =
                        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                    causes.push(Cause::invalid(field, amount, detail));
                }
                Some(n) if n < 0.0 => {
                    causes.push(Cause::invalid(field, amount, "must be greater than or equal to 0"));
                }
                Some(n) => {
                    let limit = (kind == "requests").then(|| quantity(text(&resources["limits"][what]))).flatten();
                    if limit.is_some_and(|limit| n > limit) {
                        let limit = text(&resources["limits"][what]);
                        let detail = format!("must be less than or equal to {what} limit of {limit}");
                        causes.push(Cause::invalid(format!("{path}.requests"), amount, &detail));
                    }
                }
            }
        }
    }
}

/// An amount such as `500m`, `1.5Gi` or `2e3`.
pub fn quantity(text: &str) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let scale = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            10f64.powi(digits.parse::<i32>().ok().filter(|e| e.abs() < 100)?)
        }
    };
    Some(number * scale)
}
