//! What `helm lint` says about templates and what they give.

use yaml::Value;

use super::{Findings, Severity, names, text};
use crate::{Chart, Error, Render, Warnings, values::json_type};

const PATH: &str = "templates/";

pub(super) fn check(
    loaded: &Result<Chart, Error>,
    given: &yaml::Map,
    render: &Render<'_>,
    warnings: &Warnings,
    findings: &mut Findings,
) {
    let chart = match loaded {
        Ok(chart) => chart,
        Err(error) => {
            findings.error(PATH, error.to_string());
            return;
        }
    };
    let (part, values) = match render.prepare(chart, given, warnings) {
        Ok(prepared) => prepared,
        Err(error @ Error::Schema(_)) => {
            findings.error(PATH, error.to_string());
            return;
        }
        Err(_) => return,
    };
    let rendered = match render.templates(&part, &values, |_, _| {}) {
        Ok(rendered) => rendered,
        Err(error) => {
            findings.error(PATH, error.to_string());
            return;
        }
    };
    for file in &chart.templates {
        let path = file.name.as_str();
        let extension = path.rsplit('/').next().and_then(|name| name.rfind('.').map(|at| &name[at..])).unwrap_or("");
        if ![".yaml", ".yml", ".tpl", ".txt"].contains(&extension) {
            findings.error(
                path,
                format!("file extension '{extension}' not valid. Valid extensions are .yaml, .yml, .tpl, or .txt"),
            );
        }
        let source = text(file);
        if crd_hook(&source) {
            findings.add(Severity::Warning, path, "manifest is a crd-install hook. This hook is no longer supported in v3 and all CRDs should also exist the crds/ directory at the top level of the chart");
        }
        if source.contains(".Release.Time") {
            findings.error(
                path,
                ".Release.Time has been removed in v3, please replace with the `now` function in your templates",
            );
        }
        if extension != ".yaml" {
            continue;
        }
        let Some(content) = rendered.get(&format!("{}/{path}", chart.name())) else { continue };
        if content.trim().is_empty() {
            continue;
        }
        if let Some(line) = content.lines().find(|line| !line.trim().is_empty())
            && line.starts_with([' ', '\t'])
        {
            findings.add(
                Severity::Warning,
                path,
                format!(
                    "document starts with an illegal indent: {}, which may cause parsing problems",
                    crate::quote::quote(line)
                ),
            );
        }
        if !objects(path, content, render, findings) {
            return;
        }
    }
}

/// Every document of a file; false when one is no YAML, with which the whole check ends.
fn objects(path: &str, content: &str, render: &Render<'_>, findings: &mut Findings) -> bool {
    for document in documents(content) {
        let object = match yaml::from_str(document) {
            Ok(Value::Null) => continue,
            Ok(object @ Value::Map(_)) => object,
            Ok(other) => {
                findings.error(path, format!("unable to parse YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type rules.k8sYamlStruct", json_type(&other)));
                return false;
            }
            Err(error) => {
                findings.error(path, format!("unable to parse YAML: error converting YAML to JSON: {error}"));
                return false;
            }
        };
        let field = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = object.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (field("apiVersion"), field("kind"));
        if let Some(fault) = names::fault(kind, name) {
            findings.add(
                Severity::Warning,
                path,
                format!("object name does not conform to Kubernetes naming requirements: {name:?}: metadata.name: Invalid value: {name:?}: {fault}"),
            );
        }
        if let Some(fault) = names::deprecated(version, kind, &render.capabilities.kube) {
            findings.add(Severity::Warning, path, fault);
        }
        if matches!(kind, "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet")
            && !content.contains("matchLabels")
            && !content.contains("matchExpressions")
        {
            findings
                .error(path, format!("a {kind} must contain matchLabels or matchExpressions, and {name:?} does not"));
        }
        if kind == "List" {
            let items = object.get("items").and_then(Value::as_list).unwrap_or_default();
            let kept = |item: &Value| {
                item.get("metadata")
                    .and_then(|m| m.get("annotations"))
                    .and_then(|a| a.get("helm.sh/resource-policy"))
                    .is_some()
            };
            if items.iter().any(kept) {
                findings.error(path, "Annotation 'helm.sh/resource-policy' within List objects are ignored");
            }
        }
    }
    true
}

/// The documents between lines that are `---`.
fn documents(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut from, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty()) {
            out.push(&text[from..at]);
            from = at + line.len();
        }
        at += line.len();
    }
    out.push(&text[from..]);
    out.into_iter().filter(|document| !document.trim().is_empty()).collect()
}

/// `helm.sh/hook: crd-install`, with any white space.
fn crd_hook(text: &str) -> bool {
    text.match_indices("helm.sh/hook").any(|(at, key)| {
        let rest = &text[at + key.len()..];
        let rest = rest.strip_prefix('"').unwrap_or(rest);
        rest.strip_prefix(':')
            .is_some_and(|rest| rest.trim_start().len() < rest.len() && rest.trim_start().starts_with("crd-install"))
    })
}
