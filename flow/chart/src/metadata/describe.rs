//! Metadata as others see it: `.Chart` in templates, JSON in stored releases and `helm show chart`.

use serde_json::{Map as Json, Value as J, json};
use template::{Element, List, Map, MapType, Value};

use super::{Dependency, Import, Lock, Maintainer, Metadata};

impl Metadata {
    /// `.Chart`: the fields under their Go names.
    pub(crate) fn object(&self, root: bool) -> Map {
        let map = Map::new();
        map.insert("Name", self.name.as_str());
        map.insert("Home", self.home.as_str());
        map.insert("Sources", texts(&self.sources));
        map.insert("Version", self.version.as_str());
        map.insert("Description", self.description.as_str());
        map.insert("Keywords", texts(&self.keywords));
        map.insert("Maintainers", list(self.maintainers.iter().map(Maintainer::object)));
        map.insert("Icon", self.icon.as_str());
        map.insert("APIVersion", self.api_version.as_str());
        map.insert("Condition", self.condition.as_str());
        map.insert("Tags", self.tags.as_str());
        map.insert("AppVersion", self.app_version.as_str());
        map.insert("Deprecated", self.deprecated);
        let annotations = Map::of(MapType::Str);
        self.annotations.iter().for_each(|(key, value)| annotations.insert(key.as_str(), value.as_str()));
        map.insert("Annotations", annotations);
        map.insert("KubeVersion", self.kube_version.as_str());
        map.insert("Dependencies", list(self.dependencies.iter().map(Dependency::object)));
        map.insert("Type", self.kind.as_str());
        map.insert("IsRoot", root);
        map
    }

    /// As JSON, in Go's order of fields, empty ones left out.
    pub fn json(&self) -> J {
        let mut out = Json::new();
        put(&mut out, "name", &self.name);
        put(&mut out, "home", &self.home);
        put_list(&mut out, "sources", &self.sources);
        put(&mut out, "version", &self.version);
        put(&mut out, "description", &self.description);
        put_list(&mut out, "keywords", &self.keywords);
        if !self.maintainers.is_empty() {
            out.insert("maintainers".into(), self.maintainers.iter().map(Maintainer::json).collect());
        }
        put(&mut out, "icon", &self.icon);
        put(&mut out, "apiVersion", &self.api_version);
        put(&mut out, "condition", &self.condition);
        put(&mut out, "tags", &self.tags);
        put(&mut out, "appVersion", &self.app_version);
        if self.deprecated {
            out.insert("deprecated".into(), true.into());
        }
        if !self.annotations.is_empty() {
            out.insert("annotations".into(), json!(self.annotations));
        }
        put(&mut out, "kubeVersion", &self.kube_version);
        if !self.dependencies.is_empty() {
            out.insert("dependencies".into(), self.dependencies.iter().map(Dependency::json).collect());
        }
        put(&mut out, "type", &self.kind);
        J::Object(out)
    }

    /// As `Chart.yaml` text, keys sorted.
    pub fn yaml(&self) -> String {
        yaml::to_go(&yaml::Value::from(self.json()))
    }
}

impl Maintainer {
    fn object(&self) -> Map {
        let map = Map::new();
        map.insert("Name", self.name.as_str());
        map.insert("Email", self.email.as_str());
        map.insert("URL", self.url.as_str());
        map
    }

    fn json(&self) -> J {
        let mut out = Json::new();
        put(&mut out, "name", &self.name);
        put(&mut out, "email", &self.email);
        put(&mut out, "url", &self.url);
        J::Object(out)
    }
}

impl Dependency {
    fn object(&self) -> Map {
        let map = Map::new();
        map.insert("Name", self.name.as_str());
        map.insert("Version", self.version.as_str());
        map.insert("Repository", self.repository.as_str());
        map.insert("Condition", self.condition.as_str());
        map.insert("Tags", texts(&self.tags));
        map.insert("Enabled", self.enabled);
        let imports = self.import_values.iter().map(|import| {
            let (child, parent) = match import {
                Import::Export(name) => (format!("exports.{name}"), "."),
                Import::Pair { child, parent } => (child.clone(), parent.as_str()),
            };
            let map = Map::of(MapType::Str);
            map.insert("child", child);
            map.insert("parent", parent);
            map
        });
        map.insert("ImportValues", list(imports));
        map.insert("Alias", self.alias.as_str());
        map
    }

    /// As JSON, in Go's order of fields; the name and the repository are always there.
    pub fn json(&self) -> J {
        let mut out = Json::new();
        out.insert("name".into(), self.name.clone().into());
        put(&mut out, "version", &self.version);
        out.insert("repository".into(), self.repository.clone().into());
        put(&mut out, "condition", &self.condition);
        put_list(&mut out, "tags", &self.tags);
        if self.enabled {
            out.insert("enabled".into(), true.into());
        }
        if !self.import_values.is_empty() {
            let imports = self.import_values.iter().map(|import| match import {
                Import::Export(name) => J::from(name.clone()),
                Import::Pair { child, parent } => json!({ "child": child, "parent": parent }),
            });
            out.insert("import-values".into(), imports.collect());
        }
        put(&mut out, "alias", &self.alias);
        J::Object(out)
    }
}

impl Lock {
    /// As JSON, in Go's order of fields.
    pub fn json(&self) -> J {
        let dependencies: Vec<J> = self.dependencies.iter().map(Dependency::json).collect();
        json!({ "generated": self.generated, "digest": self.digest, "dependencies": dependencies })
    }

    /// As the text of a `Chart.lock`.
    pub fn yaml(&self) -> String {
        yaml::to_go(&yaml::Value::from(self.json()))
    }
}

fn texts(items: &[String]) -> Value {
    Value::list(items.iter().map(|item| Value::str(item.as_str())).collect())
}

fn list(items: impl Iterator<Item = Map>) -> Value {
    Value::List(List::of(Element::Any, items.map(Value::Map).collect()))
}

fn put(out: &mut Json<String, J>, key: &str, text: &str) {
    if !text.is_empty() {
        out.insert(key.into(), text.into());
    }
}

fn put_list(out: &mut Json<String, J>, key: &str, items: &[String]) {
    if !items.is_empty() {
        out.insert(key.into(), items.to_vec().into());
    }
}
