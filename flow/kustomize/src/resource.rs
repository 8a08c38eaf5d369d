//! One object while it is being customized.

use yaml::{Kind, Node};

use crate::{
    Error, Gvk, Id, Result,
    origin::Origin,
    tree::{self, map_under},
};

/// What a generated object does to one that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behavior {
    #[default]
    Unspecified,
    Create,
    Replace,
    Merge,
}

impl Behavior {
    pub fn named(name: &str) -> Self {
        match name {
            "replace" => Self::Replace,
            "merge" => Self::Merge,
            "create" => Self::Create,
            _ => Self::Unspecified,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Merge => "merge",
        }
    }
}

impl std::fmt::Display for Behavior {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// An object and how it came to be what it is.
#[derive(Debug, Clone)]
pub struct Resource {
    pub node: Node,
    /// What it was called before, oldest first.
    pub previous: Vec<Id>,
    pub prefixes: Vec<String>,
    pub suffixes: Vec<String>,
    pub behavior: Behavior,
    pub needs_hash: bool,
    pub name_change: bool,
    pub kind_change: bool,
    /// Variables that take their value from here.
    pub variables: Vec<String>,
    pub origin: Option<Origin>,
    pub transformations: Vec<Origin>,
    /// Made by a chart, which knows its own namespace.
    pub from_chart: bool,
}

impl Resource {
    pub fn new(node: Node) -> Self {
        Self {
            node,
            previous: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
            behavior: Behavior::default(),
            needs_hash: false,
            name_change: false,
            kind_change: false,
            variables: Vec::new(),
            origin: None,
            transformations: Vec::new(),
            from_chart: false,
        }
    }

    pub fn kind(&self) -> &str {
        tree::text_at(&self.node, &["kind"])
    }

    pub fn name(&self) -> &str {
        tree::text_at(&self.node, &["metadata", "name"])
    }

    pub fn namespace(&self) -> &str {
        tree::text_at(&self.node, &["metadata", "namespace"])
    }

    pub fn gvk(&self) -> Gvk {
        Gvk::new(tree::text_at(&self.node, &["apiVersion"]), self.kind())
    }

    pub fn id(&self) -> Id {
        Id { gvk: self.gvk(), name: self.name().to_owned(), namespace: self.namespace().to_owned() }
    }

    /// What it was called first.
    pub fn first_id(&self) -> Id {
        self.previous.first().cloned().unwrap_or_else(|| self.id())
    }

    /// Remembers what it is called now. The API version is the one it has at the end.
    pub fn store_id(&mut self) {
        let mut id = self.id();
        id.namespace = id.effective_namespace().to_owned();
        self.previous.push(id);
    }

    /// Every id it has or had, with the API version it has now.
    pub fn ids(&self) -> Vec<Id> {
        let now = self.id();
        let mut ids = self.previous_ids(&now.gvk);
        ids.push(now);
        ids
    }

    pub fn previous_ids(&self, now: &Gvk) -> Vec<Id> {
        self.previous
            .iter()
            .map(|id| Id {
                gvk: Gvk { kind: id.gvk.kind.clone(), group: now.group.clone(), version: now.version.clone() },
                ..id.clone()
            })
            .collect()
    }

    pub fn set_name(&mut self, name: &str) -> Result<()> {
        let metadata = map_under(&mut self.node, "metadata")?;
        tree::set_string(metadata, "name", name);
        Ok(())
    }

    pub fn set_namespace(&mut self, namespace: &str) -> Result<()> {
        if namespace.is_empty() {
            if let Some(metadata) = self.node.get_mut("metadata") {
                tree::remove(metadata, "namespace");
            }
            return Ok(());
        }
        tree::set_string(map_under(&mut self.node, "metadata")?, "namespace", namespace);
        Ok(())
    }

    pub fn set_kind(&mut self, kind: &str) {
        tree::set_string(&mut self.node, "kind", kind);
    }

    fn strings(&self, key: &str) -> Vec<(String, String)> {
        let map = tree::lookup(&self.node, &["metadata", key]).and_then(Node::as_map).unwrap_or_default();
        map.iter()
            .filter_map(|(key, value)| {
                Some((key.as_scalar()?.to_owned(), value.as_scalar().unwrap_or_default().to_owned()))
            })
            .collect()
    }

    pub fn labels(&self) -> Vec<(String, String)> {
        self.strings("labels")
    }

    pub fn annotations(&self) -> Vec<(String, String)> {
        self.strings("annotations")
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        tree::lookup(&self.node, &["metadata", "annotations", key]).and_then(Node::as_scalar)
    }

    /// Writes a map of `metadata` anew: sorted, strings only, gone when empty.
    pub fn set_strings(&mut self, key: &str, mut pairs: Vec<(String, String)>) -> Result<()> {
        pairs.sort();
        if pairs.is_empty() {
            if let Some(metadata) = self.node.get_mut("metadata") {
                tree::remove(metadata, key);
            }
            return Ok(());
        }
        let entries = pairs.into_iter().map(|(key, value)| (Node::string(key), Node::string(value))).collect();
        tree::set(map_under(&mut self.node, "metadata")?, key, Node::map(entries));
        Ok(())
    }

    /// True once a patch took it away.
    pub fn is_gone(&self) -> bool {
        tree::is_null(&self.node) || matches!(&self.node.kind, Kind::Map(entries) if entries.is_empty())
    }

    /// For a generated object with `behavior: replace` or `merge`: what the old one keeps.
    pub fn take_metadata_from(&mut self, old: &Resource) -> Result<()> {
        let over = |under: Vec<(String, String)>, top: Vec<(String, String)>| {
            let mut map: std::collections::BTreeMap<String, String> = under.into_iter().collect();
            map.extend(top);
            map.into_iter().collect::<Vec<_>>()
        };
        self.set_strings("labels", over(old.labels(), self.labels()))?;
        self.set_strings("annotations", over(old.annotations(), self.annotations()))?;
        self.set_name(old.name())?;
        self.set_namespace(old.namespace())?;
        self.needs_hash = self.needs_hash && old.needs_hash;
        self.previous.clone_from(&old.previous);
        self.prefixes.clone_from(&old.prefixes);
        self.suffixes.clone_from(&old.suffixes);
        self.behavior = old.behavior;
        self.name_change = old.name_change;
        self.kind_change = old.kind_change;
        self.variables.clone_from(&old.variables);
        Ok(())
    }

    /// The maps `data` and `binaryData` of the old one under this one's.
    pub fn merge_data_from(&mut self, old: &Resource) -> Result<()> {
        for key in ["data", "binaryData"] {
            let read = |node: &Node| -> std::collections::BTreeMap<String, String> {
                let map = node.get(key).and_then(Node::as_map).unwrap_or_default();
                map.iter()
                    .filter_map(|(k, v)| {
                        Some((k.as_scalar()?.to_owned(), v.as_scalar().unwrap_or_default().to_owned()))
                    })
                    .collect()
            };
            let mut merged = read(&old.node);
            merged.extend(read(&self.node));
            if merged.is_empty() {
                tree::remove(&mut self.node, key);
            } else {
                let entries = merged.into_iter().map(|(k, v)| (Node::string(k), Node::string(v))).collect();
                tree::set(&mut self.node, key, Node::map(entries));
            }
        }
        Ok(())
    }

    pub(crate) fn check(node: &Node) -> Result<()> {
        let kind = tree::text_at(node, &["kind"]);
        if node.as_map().is_none() {
            return Err(Error::wrong("wrong node kind: expected MappingNode: an object must be a map"));
        }
        let place = |what: &str| Error::wrong(format!("missing {what} in object (line {})", node.start.line));
        if kind.is_empty() {
            return Err(place("kind"));
        }
        if !kind.ends_with("List") && tree::text_at(node, &["metadata", "name"]).is_empty() {
            return Err(place("metadata.name"));
        }
        Ok(())
    }
}
