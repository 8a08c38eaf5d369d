//! Manifests as objects of a cluster.

use serde_json::Value;

use crate::{Cluster, Error, Resource};

/// An object and where it lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub resource: Resource,
    /// `None` for objects of the cluster as a whole.
    pub namespace: Option<String>,
    /// Empty when the cluster is to make one up (`generateName`).
    pub name: String,
    pub value: Value,
}

impl Object {
    pub fn kind(&self) -> &str {
        &self.resource.kind
    }

    /// The path of its kind in its namespace.
    pub fn collection(&self) -> String {
        self.resource.collection(self.namespace.as_deref())
    }

    pub fn path(&self) -> String {
        format!("{}/{}", self.collection(), crate::cluster::segment(&self.name))
    }

    /// Whether both name the same object.
    pub fn same(&self, other: &Self) -> bool {
        self.resource.group == other.resource.group
            && self.resource.kind == other.resource.kind
            && self.namespace == other.namespace
            && self.name == other.name
    }

    /// `Deployment "web" in namespace "shop"`.
    pub fn words(&self) -> String {
        format!("{} {:?} in namespace {:?}", self.kind(), self.name, self.namespace.as_deref().unwrap_or_default())
    }

    /// `shop/web apps/v1, Kind=Deployment`; the group without a name leaves its slash: `shop/web /v1, Kind=Service`.
    pub fn coordinates(&self) -> String {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let version = self.resource.api_version();
        let slash = if version.contains('/') { "" } else { "/" };
        format!("{namespace}/{} {slash}{version}, Kind={}", self.name, self.kind())
    }
}

/// The values of a manifest's documents; lists are taken apart.
pub fn documents(manifest: &str) -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
    for text in chart::manifest::split(manifest, chart::Flavor::Helm4) {
        let value = yaml::from_str(text)
            .map_err(|error| Error::Manifest(format!("error parsing : error converting YAML to JSON: {error}")))?;
        let value = serde_json::to_value(&value).map_err(|error| Error::Manifest(error.to_string()))?;
        flatten(value, &mut all);
    }
    Ok(all)
}

fn flatten(value: Value, all: &mut Vec<Value>) {
    let list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match value {
        Value::Null => {}
        Value::Object(mut fields) if list && fields.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = fields.remove("items") {
                items.into_iter().for_each(|item| flatten(item, all));
            }
        }
        other => all.push(other),
    }
}

/// The objects of a manifest, those without a namespace in the given one.
pub async fn build(cluster: &Cluster, manifest: &str, namespace: &str) -> Result<Vec<Object>, Error> {
    let documents = documents(manifest)?;
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    let mut kinds = cluster.kinds().await?;
    let mut fresh = false;
    let mut objects = Vec::new();
    for value in documents {
        let version = value["apiVersion"].as_str().unwrap_or_default();
        let kind = value["kind"].as_str().unwrap_or_default();
        if kinds.find(version, kind).is_none() && !fresh {
            // It may have come since.
            cluster.forget_kinds().await;
            kinds = cluster.kinds().await?;
            fresh = true;
        }
        let resource = kinds.find(version, kind).cloned().ok_or_else(|| unknown(&value))?;
        objects.push(place(resource, value, namespace)?);
    }
    Ok(objects)
}

fn unknown(value: &Value) -> Error {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if !value.is_object() || text(&value["kind"]).is_empty() {
        return Error::Manifest(format!("unable to decode \"\": Object 'Kind' is missing in '{}'", short(value)));
    }
    Error::Manifest(format!(
        "resource mapping not found for name: {:?} namespace: {:?} from \"\": no matches for kind {:?} in version {:?}\nensure CRDs are installed first",
        text(&value["metadata"]["name"]),
        text(&value["metadata"]["namespace"]),
        text(&value["kind"]),
        text(&value["apiVersion"]),
    ))
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

fn place(resource: Resource, mut value: Value, namespace: &str) -> Result<Object, Error> {
    if !value["metadata"].is_object() {
        value["metadata"] = Value::Object(serde_json::Map::new());
    }
    let metadata = &mut value["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() && metadata["generateName"].as_str().is_none_or(str::is_empty) {
        return Err(Error::Manifest(format!("{} has neither a name nor a generateName", resource.kind)));
    }
    let given = metadata["namespace"].as_str().filter(|given| !given.is_empty()).map(str::to_owned);
    let namespace = resource.namespaced.then(|| given.unwrap_or_else(|| namespace.to_owned()));
    match &namespace {
        Some(namespace) => metadata["namespace"] = namespace.as_str().into(),
        None => {
            metadata.as_object_mut().map(|metadata| metadata.remove("namespace"));
        }
    }
    Ok(Object { resource, namespace, name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart() {
        let all = documents(
            "---\n# Source: a\nkind: List\nitems:\n- {kind: A}\n- {kind: BList, items: [{kind: B}]}\n---\n# nothing\n---\nkind: C\n",
        );
        let kinds: Vec<_> = all.unwrap().iter().map(|value| value["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }

    #[test]
    fn rubbish_is_an_error() {
        assert!(documents("a: [").is_err());
    }
}
