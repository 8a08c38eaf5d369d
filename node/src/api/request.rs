//! What a request asks for: the place that its path names, its query, the form of answer that it accepts.

use http::{HeaderMap, header};

use crate::objects::{Resource, resource};
use crate::{Error, Result};

/// The longest path that is looked at.
const PATH: usize = 4096;

/// The parameters behind the `?`, decoded.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(256).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(&key.replace('+', " ")), decoded(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    /// The first value; `None` also when it is empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    pub fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1"))
    }

    pub fn number<N: std::str::FromStr>(&self, key: &str) -> Result<Option<N>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Error::bad_request(format!("the parameter {key} is no number: {text:?}")))
    }

    /// Whether nothing is to be written. The only kind of dry run is `All`.
    pub fn dry_run(&self) -> Result<bool> {
        let asked: Vec<&str> = self.all("dryRun").filter(|v| !v.is_empty()).collect();
        match asked.iter().find(|v| **v != "All") {
            Some(other) => {
                Err(Error::bad_request(format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"")))
            }
            None => Ok(!asked.is_empty()),
        }
    }
}

/// Undoes percent-encoding; bytes that are no UTF-8 become U+FFFD.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a path names.
#[derive(Debug, PartialEq)]
pub enum Place {
    /// `/`
    Index,
    Version,
    /// `/healthz`, `/livez`, `/readyz` and what is below them.
    Health,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`
    Resources {
        group: String,
        version: String,
    },
    OpenApiV2,
    /// `/openapi/v3` or the document of one group below it.
    OpenApiV3(Option<String>),
    /// `/apis/authorization.k8s.io/v1/<reviews>` and the like.
    Review {
        group: String,
        plural: String,
        namespace: Option<String>,
    },
    Objects(Target),
}

/// Objects of a kind: all, those of a namespace, one, or a part of one.
#[derive(Debug, PartialEq)]
pub struct Target {
    pub resource: &'static Resource,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

impl Target {
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

/// The place that a path names; `None` when there is none.
pub fn place(path: &str) -> Option<Place> {
    if path.len() > PATH {
        return None;
    }
    let steps: Vec<String> = path.split('/').filter(|step| !step.is_empty()).map(decoded).collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    Some(match steps[..] {
        [] => Place::Index,
        ["version"] => Place::Version,
        ["healthz" | "livez" | "readyz", ..] => Place::Health,
        ["openapi", "v2"] => Place::OpenApiV2,
        ["openapi", "v3"] => Place::OpenApiV3(None),
        ["openapi", "v3", ref rest @ ..] => Place::OpenApiV3(Some(rest.join("/"))),
        ["api"] => Place::CoreVersions,
        ["apis"] => Place::Groups,
        ["apis", group] => Place::Group(group.to_owned()),
        ["api", "v1"] => Place::Resources { group: String::new(), version: "v1".into() },
        ["apis", group, version] => Place::Resources { group: group.to_owned(), version: version.to_owned() },
        ["api", "v1", ref rest @ ..] => objects("", "v1", rest)?,
        ["apis", group, version, ref rest @ ..] => objects(group, version, rest)?,
        _ => return None,
    })
}

fn objects(group: &str, version: &str, steps: &[&str]) -> Option<Place> {
    let (namespace, rest) = match steps {
        // The parts of a namespace itself.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, steps),
        ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
        _ => (None, steps),
    };
    if group == "authorization.k8s.io" || group == "authentication.k8s.io" {
        let [plural] = rest else { return None };
        return Some(Place::Review { group: group.to_owned(), plural: (*plural).to_owned(), namespace });
    }
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        _ => return None,
    };
    let resource = resource::by_path(group, version, plural)?;
    if namespace.is_some() != resource.namespaced && (namespace.is_some() || name.is_some()) {
        return None;
    }
    if let Some(subresource) = subresource {
        resource.subresource(subresource)?;
    }
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Some(Place::Objects(Target { resource, namespace, name: owned(name), subresource: owned(subresource) }))
}

/// The form in which objects are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    /// `as=Table`, in this version of `meta.k8s.io`.
    Table(&'static str),
    /// `as=PartialObjectMetadata` (or its list).
    Metadata(&'static str),
    /// `as=APIGroupDiscoveryList`
    Discovery(&'static str),
}

/// The first form in the `Accept` header that the API knows. Formats other than JSON are answered in JSON, which every client
/// that sends them also reads.
pub fn form(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    for media in accepted.flat_map(|value| value.split(',')) {
        let parameter = |name: &str| {
            media.split(';').skip(1).find_map(|p| p.trim().strip_prefix(name)?.strip_prefix('=').map(str::trim))
        };
        let kind = media.split(';').next().unwrap_or_default().trim();
        if !matches!(kind, "application/json" | "application/*" | "*/*") {
            continue;
        }
        let version = match parameter("v") {
            Some("v1beta1") => "v1beta1",
            Some("v2beta1") => "v2beta1",
            Some("v2") => "v2",
            _ => "v1",
        };
        return match (parameter("as"), parameter("g")) {
            (None, _) => Form::Json,
            (Some("Table"), Some("meta.k8s.io")) => Form::Table(version),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io")) => {
                Form::Metadata(version)
            }
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io")) => Form::Discovery(version),
            _ => continue,
        };
    }
    Form::Json
}

/// Who writes: the parameter `fieldManager`, else the first word of the user agent.
pub fn manager(query: &Query, headers: &HeaderMap) -> Result<String> {
    if let Some(manager) = query.get("fieldManager") {
        if manager.len() > 128 || manager.chars().any(char::is_control) {
            return Err(Error::bad_request("fieldManager: Invalid value: must be at most 128 printable characters"));
        }
        return Ok(manager.to_owned());
    }
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let name: String = agent.split('/').next().unwrap_or_default().chars().take(128).collect();
    Ok(if name.is_empty() { "unknown".into() } else { name })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::objects::resource::{DEPLOYMENTS, NAMESPACES, PODS};

    fn target(resource: &'static Resource, parts: [&str; 3]) -> Option<Place> {
        let [namespace, name, subresource] = parts.map(|part| (!part.is_empty()).then(|| part.to_owned()));
        Some(Place::Objects(Target { resource, namespace, name, subresource }))
    }

    #[test]
    fn paths() {
        assert_eq!(place("/api/v1/pods"), target(&PODS, ["", "", ""]));
        assert_eq!(place("/api/v1/namespaces/a/pods/b/log"), target(&PODS, ["a", "b", "log"]));
        assert_eq!(place("/api/v1/namespaces"), target(&NAMESPACES, ["", "", ""]));
        assert_eq!(place("/api/v1/namespaces/a"), target(&NAMESPACES, ["", "a", ""]));
        assert_eq!(place("/api/v1/namespaces/a/status"), target(&NAMESPACES, ["", "a", "status"]));
        let scale = target(&DEPLOYMENTS, ["a", "b%c", "scale"]);
        assert_eq!(place("/apis/apps/v1/namespaces/a/deployments/b%25c/scale"), scale);
        assert_eq!(place("/apis/apps/v1beta1/deployments"), None);
        assert_eq!(place("/api/v1/namespaces/a/pods/b/nonsense"), None);
        assert_eq!(place("/api/v1/pods/b"), None);
        assert_eq!(place("/api/v1/namespaces/a/nodes/b"), None);
        assert_eq!(place("/api/v1/../../etc"), None);
    }

    #[test]
    fn forms() {
        let form = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            super::form(&headers)
        };
        assert_eq!(
            form(
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
            ),
            Form::Table("v1")
        );
        assert_eq!(form("application/vnd.kubernetes.protobuf,application/json"), Form::Json);
        assert_eq!(form("application/vnd.kubernetes.protobuf"), Form::Json);
        assert_eq!(
            form("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"),
            Form::Discovery("v2")
        );
        assert_eq!(form("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"), Form::Metadata("v1"));
    }

    #[test]
    fn queries() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+%28d%29&watch=1&x&dryRun=All");
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert!(query.flag("watch") && query.has("x") && query.dry_run().unwrap());
        assert!(Query::parse("dryRun=Some").dry_run().is_err());
    }
}
