//! What the API serves, for clients that ask.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::request::Form;
use crate::objects::{Resource, resource};
use crate::{Error, Result};

/// The version of Kubernetes whose API this is.
const MINOR: u32 = 34;

pub fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR.to_string(), "gitVersion": format!("v1.{MINOR}.0+shipway"),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "rustc", "platform": format!("linux/{}", machine()),
    })
}

/// The machine's name as Go and Kubernetes write it.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/`
pub fn index() -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".into(), "/apis".into()];
    for (group, version) in groups() {
        paths.push(format!("/apis/{group}"));
        paths.push(format!("/apis/{group}/{version}"));
    }
    paths.extend(["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    json!({"paths": paths})
}

/// Named groups with their version, in the order in which they are shown.
pub fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups = Vec::new();
    for resource in resource::ALL.iter().filter(|r| !r.group.is_empty()) {
        if !groups.contains(&(resource.group, resource.version)) {
            groups.push((resource.group, resource.version));
        }
    }
    groups.extend([("authentication.k8s.io", "v1"), ("authorization.k8s.io", "v1")]);
    groups
}

/// What can be posted and is answered, but not kept.
const REVIEWS: [(&str, &str, &str, bool); 5] = [
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", false),
    ("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", true),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", false),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", false),
];

/// `/api`
pub fn core_versions(form: Form, address: &str) -> Answer {
    if let Form::Discovery(version) = form {
        return aggregated(version, &[("", "v1")]);
    }
    answer::ok(&json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }))
}

fn group_value(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// `/apis`
pub fn group_list(form: Form) -> Answer {
    if let Form::Discovery(version) = form {
        return aggregated(version, &groups());
    }
    let groups: Vec<Value> = groups().into_iter().map(|(group, version)| group_value(group, version)).collect();
    answer::ok(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/<group>`
pub fn group(name: &str) -> Result<Answer> {
    let (group, version) = groups().into_iter().find(|(group, _)| *group == name).ok_or_else(unknown_path)?;
    let mut value = group_value(group, version);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Ok(answer::ok(&value))
}

pub fn unknown_path() -> Error {
    Error::refused(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
}

fn kinds(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    resource::ALL.iter().copied().filter(move |r| r.group == group && r.version == version)
}

/// `/api/v1`, `/apis/<group>/<version>`
pub fn resources(group: &str, version: &str) -> Result<Answer> {
    let mut list = Vec::new();
    for r in kinds(group, version) {
        let mut entry = json!({
            "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": r.verbs,
        });
        if !r.short_names.is_empty() {
            entry["shortNames"] = json!(r.short_names);
        }
        if !r.categories.is_empty() {
            entry["categories"] = json!(r.categories);
        }
        list.push(entry);
        for s in r.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", r.plural, s.name), "singularName": "", "namespaced": r.namespaced,
                "kind": s.kind, "verbs": s.verbs,
            });
            if (s.group, s.version) != (r.group, r.version) {
                entry["group"] = s.group.into();
                entry["version"] = s.version.into();
            }
            list.push(entry);
        }
    }
    for (_, plural, kind, namespaced) in REVIEWS.iter().filter(|(g, ..)| *g == group && version == "v1") {
        list.push(json!({"name": plural, "singularName": kind.to_lowercase(), "namespaced": namespaced,
            "kind": kind, "verbs": ["create"]}));
    }
    if list.is_empty() {
        return Err(unknown_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(answer::ok(
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}),
    ))
}

/// All groups in one document (`apidiscovery.k8s.io`).
fn aggregated(form: &'static str, groups: &[(&str, &str)]) -> Answer {
    let scope = |namespaced: bool| if namespaced { "Namespaced" } else { "Cluster" };
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, version)| {
            let mut list: Vec<Value> = kinds(group, version)
                .map(|r| {
                    let subresources: Vec<Value> = r
                        .subresources
                        .iter()
                        .map(|s| {
                            json!({"subresource": s.name, "verbs": s.verbs,
                                "responseKind": {"group": s.group, "version": s.version, "kind": s.kind}})
                        })
                        .collect();
                    json!({
                        "resource": r.plural, "singularResource": r.singular, "scope": scope(r.namespaced),
                        "responseKind": {"group": r.group, "version": r.version, "kind": r.kind},
                        "verbs": r.verbs, "shortNames": r.short_names, "categories": r.categories,
                        "subresources": subresources,
                    })
                })
                .collect();
            for (_, plural, kind, namespaced) in REVIEWS.iter().filter(|(g, ..)| g == group) {
                list.push(json!({
                    "resource": plural, "singularResource": kind.to_lowercase(), "scope": scope(*namespaced),
                    "responseKind": {"group": group, "version": version, "kind": kind}, "verbs": ["create"],
                }));
            }
            let mut metadata = json!({"creationTimestamp": null});
            if !group.is_empty() {
                metadata["name"] = (*group).into();
            }
            let version = json!({"version": version, "resources": list, "freshness": "Current"});
            json!({"metadata": metadata, "versions": [version]})
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{form}"), "metadata": {},
        "items": items,
    });
    let media = if form == "v2" {
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    } else {
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    };
    answer::raw(StatusCode::OK, media, body.to_string())
}

/// The answer to a review: whoever is let in at all may do everything.
pub fn review(group: &str, plural: &str, namespace: Option<&str>, mut body: Value) -> Result<Answer> {
    let (_, _, kind, namespaced) =
        REVIEWS.iter().find(|(g, p, ..)| *g == group && *p == plural).ok_or_else(unknown_path)?;
    if *namespaced != namespace.is_some() {
        return Err(unknown_path());
    }
    if !body.is_object() {
        return Err(Error::bad_request("the object provided is unrecognized: it is no JSON object"));
    }
    body["apiVersion"] = format!("{group}/v1").into();
    body["kind"] = (*kind).into();
    body["status"] = match *kind {
        "SelfSubjectReview" => {
            json!({"userInfo": {"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]}})
        }
        "SelfSubjectRulesReview" => json!({
            "incomplete": false,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }),
        _ => json!({"allowed": true}),
    };
    Ok(answer::json(StatusCode::CREATED, &body, &[]))
}
