//! Where an object and its changes come from (`buildMetadata`).

use yaml::{Map, Value};

use crate::path;

/// A place that made or changed an object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origin {
    pub path: String,
    pub repo: String,
    pub reference: String,
    pub configured_in: String,
    /// API version, kind, name and namespace of what is configured there.
    pub configured_by: Option<[String; 4]>,
}

impl Origin {
    pub fn append(&self, more: &str) -> Self {
        let path = if self.path.is_empty() { path::clean(more) } else { path::join(&self.path, more) };
        Self { path, ..self.clone() }
    }

    /// What a built-in transformation of the kustomization `file` changes.
    pub fn built_in(&self, file: &str, kind: &str) -> Self {
        let mut by = [const { String::new() }; 4];
        by[0] = "builtin".to_owned();
        by[1] = kind.to_owned();
        Self { path: String::new(), configured_in: self.append(file).path, configured_by: Some(by), ..self.clone() }
    }

    /// As kustomize writes it: fields in their own order.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut field = |indent: &str, key: &str, value: &str| {
            if !value.is_empty() {
                let mut map = Map::new();
                map.insert(key.to_owned(), Value::from(value));
                out.push_str(indent);
                out.push_str(&yaml::to_go(&Value::Map(map)));
            }
        };
        field("", "path", &self.path);
        field("", "repo", &self.repo);
        field("", "ref", &self.reference);
        field("", "configuredIn", &self.configured_in);
        if let Some(by) = &self.configured_by {
            out.push_str("configuredBy:\n");
            let mut field = |key: &str, value: &str| {
                if !value.is_empty() {
                    let mut map = Map::new();
                    map.insert(key.to_owned(), Value::from(value));
                    out.push_str("  ");
                    out.push_str(&yaml::to_go(&Value::Map(map)));
                }
            };
            field("apiVersion", &by[0]);
            field("kind", &by[1]);
            field("name", &by[2]);
            field("namespace", &by[3]);
        }
        out
    }

    pub fn list(origins: &[Origin]) -> String {
        let mut out = String::new();
        for origin in origins {
            for (i, line) in origin.text().lines().enumerate() {
                out.push_str(if i == 0 { "- " } else { "  " });
                out.push_str(line);
                out.push('\n');
            }
        }
        out
    }
}
