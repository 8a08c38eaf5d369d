//! Holding objects against the schemas of Kubernetes: what the API server would refuse or silently drop, said beforehand.
//!
//! Built in are the schemas of one version ([`BUILT_IN`]). Those of any other come from the OpenAPI document that Kubernetes
//! publishes and every cluster serves at `/openapi/v2` ([`Schemas::openapi`]). Custom resources are held against the
//! definitions that are rendered with them or given ([`Schemas::add_definition`]).

mod built_in;
mod check;
mod lifecycle;
mod words;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

pub use built_in::VERSION as BUILT_IN;
pub use check::{Finding, Severity};
pub use lifecycle::{Lifecycle, lifecycle};
use serde_json::Value;

use crate::{Error, Result};

/// A schema and the document in which its references are looked up.
#[derive(Clone)]
pub(crate) struct Schema {
    pub document: Rc<Value>,
    /// The keys from the document's root to the schema.
    pub at: Vec<String>,
}

/// Where schemas come from.
pub struct Schemas {
    version: (u32, u32),
    /// Definitions of OpenAPI documents, by API version and kind.
    documents: BTreeMap<(String, String), Schema>,
    /// Whether those stand for all that this version of Kubernetes has.
    published: bool,
    custom: BTreeMap<(String, String), Schema>,
    made: RefCell<BTreeMap<(String, String), Option<Schema>>>,
    patterns: RefCell<BTreeMap<String, Option<Rc<regex::Regex>>>>,
}

/// The largest OpenAPI document, in bytes.
pub const LARGEST: usize = 64 << 20;

impl Schemas {
    /// The schemas that are built in, for the rules of a version of Kubernetes (major, minor).
    pub fn built_in(version: (u32, u32)) -> Self {
        Self {
            version,
            documents: BTreeMap::new(),
            published: false,
            custom: BTreeMap::new(),
            made: RefCell::default(),
            patterns: RefCell::default(),
        }
    }

    /// The version whose removals and deprecations count.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Takes the definitions of an OpenAPI document, version 2 (`swagger.json`, `/openapi/v2`) or 3, in place of those that are
    /// built in. Its `info.version` becomes the version, unless one was asked for.
    pub fn openapi(&mut self, file: &str, text: &[u8], keep_version: bool) -> Result<()> {
        let wrong = |cause: String| Error::Unreadable { file: file.to_owned(), cause };
        if text.len() > LARGEST {
            return Err(wrong(format!("it has more than {} MiB", LARGEST >> 20)));
        }
        let document: Value = serde_json::from_slice(text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        let base: &[&str] =
            if document.get("definitions").is_some() { &["definitions"] } else { &["components", "schemas"] };
        let definitions = base.iter().try_fold(&document, |value, key| value.get(*key)).and_then(Value::as_object);
        let Some(definitions) = definitions else {
            return Err(wrong(
                "it is no OpenAPI document: it has neither `definitions` nor `components.schemas`".to_owned(),
            ));
        };
        let mut found = Vec::new();
        for (name, definition) in definitions {
            let kinds = definition.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
            for kind in kinds.into_iter().flatten() {
                let text = |key| kind.get(key).and_then(Value::as_str).unwrap_or_default();
                let api = match text("group") {
                    "" => text("version").to_owned(),
                    group => format!("{group}/{}", text("version")),
                };
                let at = base.iter().map(|key| (*key).to_owned()).chain([name.clone()]).collect();
                found.push(((api, text("kind").to_owned()), at));
            }
        }
        if let Some(version) = document.pointer("/info/version").and_then(Value::as_str).and_then(minor)
            && !keep_version
        {
            self.version = version;
        }
        // A document of OpenAPI 3 is of one group alone.
        self.published |= base.len() == 1 && found.len() > 50;
        let document = Rc::new(document);
        self.documents.extend(found.into_iter().map(|(name, at)| (name, Schema { document: document.clone(), at })));
        Ok(())
    }

    /// Takes the schemas of a CustomResourceDefinition; says whether it is one.
    pub fn add_definition(&mut self, definition: &yaml::Value) -> bool {
        let text = |value: Option<&yaml::Value>| value.and_then(yaml::Value::as_str).unwrap_or_default().to_owned();
        if text(definition.get("kind")) != "CustomResourceDefinition" {
            return false;
        }
        let Some(spec) = definition.get("spec") else { return true };
        let (group, kind) = (text(spec.get("group")), text(spec.get("names").and_then(|names| names.get("kind"))));
        let json = Rc::new(Value::from(spec.clone()));
        let root = json.pointer("/validation/openAPIV3Schema").is_some();
        let versions = json.get("versions").and_then(Value::as_array).cloned().unwrap_or_default();
        for (i, version) in versions.iter().enumerate() {
            let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
            let at: Vec<String> = if version.pointer("/schema/openAPIV3Schema").is_some() {
                ["versions", &i.to_string(), "schema", "openAPIV3Schema"].map(str::to_owned).into()
            } else if root {
                ["validation", "openAPIV3Schema"].map(str::to_owned).into()
            } else {
                continue;
            };
            self.custom.insert((format!("{group}/{name}"), kind.clone()), Schema { document: json.clone(), at });
        }
        true
    }

    fn find(&self, api_version: &str, kind: &str) -> Option<(Schema, bool)> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(custom) = self.custom.get(&key) {
            return Some((custom.clone(), true));
        }
        if let Some(document) = self.documents.get(&key) {
            return Some((document.clone(), false));
        }
        if self.published {
            return None;
        }
        self.built(api_version, kind).map(|schema| (schema, false))
    }

    fn built(&self, api_version: &str, kind: &str) -> Option<Schema> {
        let key = (api_version.to_owned(), kind.to_owned());
        let make = || {
            let document = Rc::new(built_in::schema(api_version, kind)?);
            Some(Schema { document, at: Vec::new() })
        };
        self.made.borrow_mut().entry(key).or_insert_with(make).clone()
    }

    /// API versions in which a kind is known.
    fn versions(&self, kind: &str) -> Vec<String> {
        let given = self.documents.keys().chain(self.custom.keys()).filter(|(_, known)| known == kind);
        let mut all: Vec<String> = given.map(|(api, _)| api.clone()).collect();
        if !self.published {
            all.extend(built_in::versions(kind).map(str::to_owned));
        }
        all.sort();
        all.dedup();
        all
    }

    fn pattern(&self, pattern: &str) -> Option<Rc<regex::Regex>> {
        let make = || regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().ok().map(Rc::new);
        self.patterns.borrow_mut().entry(pattern.to_owned()).or_insert_with(make).clone()
    }
}

/// Major and minor of `v1.34.2`, `1.34`, `1.34+`.
pub fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let number = |part: Option<&str>| -> Option<u32> {
        let part = part?;
        part[..part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len())].parse().ok()
    };
    Some((number(parts.next())?, number(parts.next())?))
}
