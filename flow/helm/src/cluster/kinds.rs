//! What a cluster serves: which kinds there are, and where.

use serde_json::Value;

use super::{Cluster, segment};
use crate::Error;

/// All groups in one answer; clusters before 1.26 answer with the older form.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// One kind of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// As in paths.
    pub plural: String,
    pub namespaced: bool,
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of all objects of a namespace, or of the cluster.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let (group, version, plural) = (segment(&self.group), segment(&self.version), segment(&self.plural));
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/namespaces/{}/{plural}", segment(namespace)),
            None => format!("{root}/{plural}"),
        }
    }
}

/// The kinds that a cluster serves.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    all: Vec<Resource>,
    versions: Vec<String>,
    /// What parts of resources take (`v1/PodExecOptions`, `apps/v1/Scale`): templates are told of them, nothing else needs them.
    parts: Vec<String>,
}

impl Kinds {
    /// Asks a cluster.
    pub(super) async fn ask(cluster: &Cluster) -> Result<Self, Error> {
        let mut kinds = Self::default();
        for (path, core) in [("/api", true), ("/apis", false)] {
            let answer = cluster.get_as(path, AGGREGATED).await?;
            match (answer["kind"].as_str(), core) {
                (Some("APIGroupDiscoveryList"), _) => kinds.aggregated(&answer),
                (_, true) => kinds.plain(cluster, "/api/v1", "", "v1").await?,
                (_, false) => {
                    for group in array(&answer["groups"]) {
                        let name = text(&group["name"]);
                        for version in array(&group["versions"]) {
                            let version = text(&version["version"]);
                            let path = format!("/apis/{}/{}", segment(&name), segment(&version));
                            match kinds.plain(cluster, &path, &name, &version).await {
                                Ok(()) => {}
                                // A group whose own server is down takes nothing from the others.
                                Err(error @ Error::Api { .. }) => {
                                    tracing::warn!(%error, path, "a group does not answer")
                                }
                                Err(error) => return Err(error),
                            }
                        }
                    }
                }
            }
        }
        Ok(kinds)
    }

    fn aggregated(&mut self, answer: &Value) {
        for group in array(&answer["items"]) {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in array(&group["versions"]) {
                let number = text(&version["version"]);
                self.add_version(name, &number);
                for resource in array(&version["resources"]) {
                    let kind = &resource["responseKind"];
                    let namespaced = resource["scope"] == "Namespaced";
                    self.add(name, &number, kind, &text(&resource["resource"]), namespaced);
                    for part in array(&resource["subresources"]) {
                        self.add_part(name, &number, &part["responseKind"]);
                    }
                }
            }
        }
    }

    async fn plain(&mut self, cluster: &Cluster, path: &str, group: &str, version: &str) -> Result<(), Error> {
        let answer = cluster.get(path).await?;
        self.add_version(group, version);
        for resource in array(&answer["resources"]) {
            let plural = text(&resource["name"]);
            if plural.contains('/') {
                self.add_part(group, version, resource);
            } else {
                self.add(group, version, resource, &plural, resource["namespaced"] == true);
            }
        }
        Ok(())
    }

    fn add_part(&mut self, group: &str, version: &str, kind: &Value) {
        let slash = if group.is_empty() { "" } else { "/" };
        self.parts.push(format!("{group}{slash}{version}/{}", text(&kind["kind"])));
    }

    fn add_version(&mut self, group: &str, version: &str) {
        self.versions.push(if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") });
    }

    fn add(&mut self, group: &str, version: &str, kind: &Value, plural: &str, namespaced: bool) {
        self.all.push(Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text(&kind["kind"]),
            plural: plural.to_owned(),
            namespaced,
        });
    }

    /// The kind of an object with this `apiVersion` and `kind`.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.all.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }

    /// Whether a group is served in this version.
    pub fn has_version(&self, api_version: &str) -> bool {
        self.versions.iter().any(|version| version == api_version)
    }

    /// `v1`, `apps/v1`, …, `v1/Pod`, `apps/v1/Deployment`, …: what `.Capabilities.APIVersions` holds.
    pub fn api_versions(&self) -> Vec<String> {
        let mut all = self.versions.clone();
        all.extend(self.all.iter().map(|resource| format!("{}/{}", resource.api_version(), resource.kind)));
        all.extend(self.parts.iter().cloned());
        all.sort();
        all.dedup();
        all
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
