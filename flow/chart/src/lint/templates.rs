//! What `helm lint` says about templates and what they give.

use yaml::Value;

use super::{
    Findings, Severity, names,
    objects::{self, Object},
    text,
};
use crate::{Chart, Error, Flavor, Render, Warnings, load::Kind};

const PATH: &str = "templates/";

/// `directory` is what `templates` is, if it is there.
pub(super) fn check(
    directory: Option<Kind>,
    loaded: &Result<Chart, Error>,
    given: &yaml::Map,
    render: &Render<'_>,
    warnings: &Warnings,
    findings: &mut Findings,
) {
    let newer = render.flavor == Flavor::Helm4;
    match directory {
        Some(Kind::Directory) => {}
        Some(_) => {
            let severity = if newer { Severity::Error } else { Severity::Warning };
            findings.add(severity, PATH, "not a directory");
            return;
        }
        None if newer => {
            findings.add(Severity::Warning, PATH, "directory does not exist");
            return;
        }
        None => {}
    }
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
        if !newer && crd_hook(&source) {
            findings.add(Severity::Warning, path, "manifest is a crd-install hook. This hook is no longer supported in v3 and all CRDs should also exist the crds/ directory at the top level of the chart");
        }
        if !newer && source.contains(".Release.Time") {
            findings.error(
                path,
                ".Release.Time has been removed in v3, please replace with the `now` function in your templates",
            );
        }
        let read = extension == ".yaml" || newer && [".yaml", ".yml"].contains(&extension.to_lowercase().as_str());
        if !read {
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
        let mut fits = |object: Object| findings.fits(path, &object, content, render);
        if let Err(fault) = objects::each(content, render.flavor, &mut fits) {
            findings.error(path, format!("unable to parse YAML: {fault}"));
            return;
        }
    }
}

impl Findings {
    /// What is to be said of one object of a template that gave `content`.
    fn fits(&mut self, path: &str, object: &Object, content: &str, render: &Render<'_>) {
        let Object { version, kind, name, whole } = object;
        if let Some(fault) = names::fault(kind, name) {
            let name = crate::quote::quote(name);
            let said = format!(
                "object name does not conform to Kubernetes naming requirements: {name}: metadata.name: Invalid value: {name}: {fault}"
            );
            self.add(Severity::Warning, path, said);
        }
        if let Some(fault) = names::deprecated(version, kind, &render.capabilities.kube) {
            self.add(Severity::Warning, path, fault);
        }
        if matches!(kind.as_str(), "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet")
            && !content.contains("matchLabels")
            && !content.contains("matchExpressions")
        {
            self.error(path, format!("a {kind} must contain matchLabels or matchExpressions, and {name:?} does not"));
        }
        if kind == "List" {
            let items = whole.get("items").and_then(Value::as_list).unwrap_or_default();
            let kept = |item: &Value| {
                item.get("metadata")
                    .and_then(|m| m.get("annotations"))
                    .and_then(|a| a.get("helm.sh/resource-policy"))
                    .is_some()
            };
            if items.iter().any(kept) {
                let first = if render.flavor == Flavor::Helm4 { 'a' } else { 'A' };
                self.error(path, format!("{first}nnotation 'helm.sh/resource-policy' within List objects are ignored"));
            }
        }
    }
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
