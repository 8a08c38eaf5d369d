//! Which lists of an object a strategic merge merges, and by which keys.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use yaml::Value;

use crate::{Error, Gvk, Result};

/// What is known of one field.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Field {
    /// Keys by which a list is merged; nothing for a list that is replaced. No keys: by the items themselves.
    pub keys: Option<Vec<String>>,
    /// The type of the field, of the items when it is a list.
    pub of: Option<String>,
}

type Fields = HashMap<String, Field>;

/// Types and their lists.
#[derive(Debug, Default)]
pub struct Schema {
    types: HashMap<String, Fields>,
    kinds: HashMap<Gvk, String>,
}

static BUILT_IN: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(Schema::built_in()));

/// The types of Kubernetes itself.
pub fn built_in() -> Arc<Schema> {
    BUILT_IN.clone()
}

fn fields<'w>(words: impl Iterator<Item = &'w str>) -> Fields {
    words
        .map(|word| {
            let (name, of) = word.split_once('=').map_or((word, None), |(name, of)| (name, Some(of.to_owned())));
            let (name, keys) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
                Some((name, "")) => (name, Some(Vec::new())),
                Some((name, keys)) => (name, Some(keys.split(',').map(str::to_owned).collect())),
                None => (name, None),
            };
            (name.to_owned(), Field { keys, of })
        })
        .collect()
}

impl Schema {
    fn built_in() -> Self {
        let mut schema = Self::default();
        for line in include_str!("tables/merge.txt").lines().filter(|line| !line.starts_with('#')) {
            let Some(line) = line.strip_prefix("> ") else {
                let mut words = line.split(' ');
                let name = words.next().unwrap_or_default();
                schema.types.insert(name.to_owned(), fields(words));
                continue;
            };
            let words: Vec<&str> = line.split(' ').collect();
            let split = words.iter().position(|word| word.contains(['=', '['])).unwrap_or(words.len());
            let kinds = words[..split].join(" ");
            let name = format!("> {kinds}");
            for kind in kinds.split(',') {
                let (api_version, kind) = kind.split_once(' ').unwrap_or(("", kind));
                schema.kinds.insert(Gvk::new(api_version, kind), name.clone());
            }
            schema.types.insert(name, fields(words[split..].iter().copied()));
        }
        schema
    }

    /// Reads an OpenAPI document (JSON or YAML), which `openapi.path` names.
    pub fn read(text: &str, file: &str) -> Result<Self> {
        let value = yaml::from_str(text).map_err(|source| Error::Malformed { file: file.to_owned(), source })?;
        let definitions = value.get("definitions").and_then(Value::as_map);
        let Some(definitions) = definitions else {
            return Err(Error::wrong(format!("{file}: an OpenAPI schema must have 'definitions'")));
        };
        let mut schema = Self::default();
        for (name, definition) in definitions {
            for gvk in definition.get("x-kubernetes-group-version-kind").and_then(Value::as_list).unwrap_or_default() {
                let text = |key: &str| gvk.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let gvk = Gvk { group: text("group"), version: text("version"), kind: text("kind") };
                schema.kinds.insert(gvk, name.clone());
            }
            schema.define(name, definition, 0);
        }
        Ok(schema)
    }

    fn define(&mut self, name: &str, definition: &Value, depth: usize) {
        // Nested definitions are named by their path; depth is bounded by the reader, this bounds the names.
        if depth > 64 {
            return;
        }
        let mut fields = Fields::new();
        let empty = BTreeMap::new();
        for (key, property) in definition.get("properties").and_then(Value::as_map).unwrap_or(&empty) {
            let text = |name: &str| property.get(name).and_then(Value::as_str);
            let list = text("type") == Some("array");
            let keys = (list
                && text("x-kubernetes-patch-strategy").is_some_and(|s| s.split(',').any(|s| s == "merge")))
            .then(|| match property.get("x-kubernetes-list-map-keys").and_then(Value::as_list) {
                Some(keys) => keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect(),
                None => text("x-kubernetes-patch-merge-key").map(str::to_owned).into_iter().collect(),
            });
            let inner = if list { property.get("items").unwrap_or(&Value::Null) } else { property };
            let of = match inner.get("$ref").and_then(Value::as_str) {
                Some(reference) => Some(reference.trim_start_matches("#/definitions/").to_owned()),
                None if inner.get("properties").is_some() => {
                    let nested = format!("{name}/{key}");
                    self.define(&nested, inner, depth + 1);
                    Some(nested)
                }
                None => None,
            };
            if keys.is_some() || of.is_some() {
                fields.insert(key.clone(), Field { keys, of });
            }
        }
        self.types.insert(name.to_owned(), fields);
    }

    /// The type of an object.
    pub fn kind(&self, gvk: &Gvk) -> Option<&str> {
        self.kinds.get(gvk).map(String::as_str)
    }

    pub fn field(&self, of: Option<&str>, name: &str) -> Option<&Field> {
        self.types.get(of?)?.get(name)
    }
}
