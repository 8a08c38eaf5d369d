//! One object against one schema.

use serde_json::{Map, Value};
use yaml::{Dialect, Kind, Mark, Node, Resolved};

use super::{Schema, Schemas, built_in, lifecycle, lifecycle::meanwhile, words::words};
use crate::{
    Position,
    document::{Document, Name, Origin},
    field::Path,
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing could be said: there is no schema.
    Unknown,
    Warning,
    /// The API server refuses it, or drops the field.
    Error,
}

/// Something that is wrong with an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub severity: Severity,
    pub object: Name,
    /// The field.
    pub path: Path,
    /// Where it was written: the file, or the template whose line made it.
    pub at: Position,
    /// The line (from 1) of the rendered object.
    pub line: u64,
    pub message: String,
    /// What to do; empty where there is nothing to say.
    pub hint: String,
}

/// Fields in fields.
const DEEPEST: usize = 100;
/// Findings of one object.
const MOST: usize = 100;

impl Schemas {
    /// Everything that is wrong with an object; the objects of a list are looked at one by one.
    pub fn check(&self, document: &Document) -> Vec<Finding> {
        let mut check = Check { schemas: self, document, name: document.name.clone(), found: Vec::new() };
        let parsed = yaml::parse_all(&document.text, &yaml::Limits::default(), false);
        let roots = parsed.and_then(|documents| {
            let expanded = documents.into_iter().map(|one| one.into_expanded(&yaml::Limits::default()));
            expanded.collect::<std::result::Result<Vec<_>, _>>()
        });
        match roots {
            Ok(roots) => roots.into_iter().flatten().for_each(|root| check.object(&root, Path::default())),
            Err(error) => {
                let mark = error.at.unwrap_or_default();
                check.add(Severity::Error, &Path::default(), mark, format!("this is no YAML: {}", error.message), "");
            }
        }
        check.found
    }
}

struct Check<'a> {
    schemas: &'a Schemas,
    document: &'a Document,
    name: Name,
    found: Vec<Finding>,
}

/// A schema after its references: the object that says something, and the name of the definition it is.
#[derive(Clone)]
struct Resolution<'s> {
    root: &'s Value,
    schema: &'s Map<String, Value>,
    definition: String,
}

fn text<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key).and_then(Node::as_scalar).unwrap_or_default()
}

/// Follows references; `None` for a schema that says nothing.
fn resolve<'s>(root: &'s Value, schema: &'s Value, definition: &str) -> Option<Resolution<'s>> {
    let mut schema = schema;
    let mut definition = definition.to_owned();
    for _ in 0..20 {
        let map = schema.as_object()?;
        let single = match map.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            Some([only]) if !map.contains_key("properties") => only.get("$ref"),
            _ => None,
        };
        match map.get("$ref").or(single).and_then(Value::as_str) {
            Some(reference) => {
                let path = reference.strip_prefix("#/")?;
                definition = path.rsplit('/').next().unwrap_or(path).to_owned();
                schema = path.split('/').try_fold(root, |value, key| value.get(key))?;
            }
            None => return Some(Resolution { root, schema: map, definition }),
        }
    }
    None
}

impl Check<'_> {
    fn add(&mut self, severity: Severity, path: &Path, mark: Mark, message: String, hint: impl Into<String>) {
        if self.found.len() >= MOST {
            return;
        }
        let line = u64::from(mark.line.max(1));
        let mut at = self.document.origin.at(mark.offset, line);
        match &self.document.origin {
            Origin::File { .. } => at.column = u64::from(mark.column.max(1)),
            Origin::Kustomization { .. } | Origin::Reprinted { .. } => {
                at = self.document.origin.of_field(&self.document.name, path).unwrap_or(at);
            }
            Origin::Template { .. } => {}
        }
        let object = self.name.clone();
        self.found.push(Finding { severity, object, path: path.clone(), at, line, message, hint: hint.into() });
    }

    fn object(&mut self, root: &Node, path: Path) {
        let (api, kind) = (text(root, "apiVersion").to_owned(), text(root, "kind").to_owned());
        if kind.ends_with("List")
            && let Some(items) = root.get("items").and_then(Node::as_list)
        {
            let path = path.with_key("items");
            for (i, item) in items.iter().enumerate().take(10_000) {
                self.object(item, path.with_index(i));
            }
            return;
        }
        let metadata =
            |key: &str| root.get("metadata").map(|metadata| text(metadata, key)).unwrap_or_default().to_owned();
        self.name = Name {
            kind: kind.clone(),
            namespace: metadata("namespace"),
            name: metadata("name"),
            api_version: api.clone(),
        };
        for (field, value) in [("apiVersion", &api), ("kind", &kind)] {
            if value.is_empty() {
                let hint = "every object has `apiVersion` and `kind`";
                return self.add(Severity::Error, &path, root.start, format!("there is no `{field}`"), hint);
            }
        }
        if self.name.name.is_empty() && metadata("generateName").is_empty() {
            let hint = "every object has a name";
            self.add(
                Severity::Error,
                &path.with_key("metadata"),
                root.start,
                "there is no `metadata.name`".into(),
                hint,
            );
        }
        let mark = root.get("apiVersion").map_or(root.start, |node| node.start);
        let gone = self.lifecycle(&api, &kind, &path.with_key("apiVersion"), mark);
        let Some((schema, custom)) = self.schemas.find(&api, &kind) else {
            if !gone {
                self.unknown(&api, &kind, root, &path);
            }
            return;
        };
        self.against(root, &schema, custom, &path);
    }

    fn against(&mut self, root: &Node, schema: &Schema, custom: bool, path: &Path) {
        let found = schema.at.iter().try_fold(&*schema.document, |value, key| match value {
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            value => value.get(key),
        });
        let definition = schema
            .at
            .last()
            .cloned()
            .or_else(|| schema.document.get("title").and_then(Value::as_str).map(str::to_owned));
        let Some(resolved) = found.and_then(|found| resolve(&schema.document, found, &definition.unwrap_or_default()))
        else {
            return;
        };
        if !custom {
            return self.node(root, &resolved, path, 0);
        }
        // What every object has is not written into the schema of a custom one.
        self.map(root, &resolved, path, 0, &["apiVersion", "kind", "metadata"]);
        self.metadata(root, path);
    }

    /// `metadata` of a custom resource, held against the one that all objects share.
    fn metadata(&mut self, root: &Node, path: &Path) {
        let Some(metadata) = root.get("metadata") else { return };
        let Some(schema) = self.schemas.built("v1", "ConfigMap") else { return };
        let found = schema.document.pointer("/properties/metadata");
        if let Some(resolved) = found.and_then(|found| resolve(&schema.document, found, "")) {
            self.node(metadata, &resolved, &path.with_key("metadata"), 1);
        }
    }

    /// Whether the API version is gone.
    fn lifecycle(&mut self, api: &str, kind: &str, path: &Path, mark: Mark) -> bool {
        let Some(life) = lifecycle(api, kind) else { return false };
        let (major, minor) = self.schemas.version;
        if major != 1 {
            return false;
        }
        let hint = match life.instead {
            "" => "there is nothing in its place".to_owned(),
            instead if life.since > minor => match meanwhile(api, minor) {
                Some(meanwhile) => format!("use {meanwhile}, and from Kubernetes 1.{} on {instead}", life.since),
                None => format!("from Kubernetes 1.{} on, use {instead}", life.since),
            },
            instead => format!("use {instead}"),
        };
        if let Some(removed) = life.removed.filter(|removed| *removed <= minor) {
            let message = format!("{kind} in {api} was removed in Kubernetes 1.{removed}");
            self.add(Severity::Error, path, mark, message, hint);
            return true;
        }
        if life.deprecated <= minor {
            let until = life.removed.map(|removed| format!(", and goes in 1.{removed}")).unwrap_or_default();
            let message = format!("{kind} in {api} is deprecated since Kubernetes 1.{}{until}", life.deprecated);
            self.add(Severity::Warning, path, mark, message, hint);
        }
        false
    }

    fn unknown(&mut self, api: &str, kind: &str, root: &Node, path: &Path) {
        let (group, _) = api.split_once('/').unwrap_or(("", api));
        let (major, minor) = self.schemas.version;
        let of_kubernetes = !group.contains('.') || group.ends_with(".k8s.io") && self.group_is_known(group);
        let versions = self.schemas.versions(kind);
        let known = lifecycle(api, kind).is_some() || !versions.is_empty();
        if of_kubernetes && known && !self.schemas.published && (major, minor) != super::BUILT_IN {
            // The schemas that are built in are another version's: what they lack, this one may have.
            let (_, own) = super::BUILT_IN;
            let message =
                format!("{kind} in {api} is not among the built-in schemas, which are those of Kubernetes 1.{own}");
            let hint = format!("give the swagger.json of Kubernetes {major}.{minor} with --schemas");
            self.add(Severity::Unknown, path, root.start, message, hint);
        } else if of_kubernetes {
            let message = format!("Kubernetes {major}.{minor} has no kind {kind} in {api}");
            let hint = match versions.as_slice() {
                [] => nearest(kind, built_in::kinds()).map(|kind| format!("did you mean {kind}?")).unwrap_or_default(),
                versions => format!("it is in {}", versions.join(", ")),
            };
            let mark = root.get("apiVersion").map_or(root.start, |node| node.start);
            self.add(Severity::Error, &path.with_key("apiVersion"), mark, message, hint);
        } else {
            let message = format!("there is no schema of {kind} in {api}");
            let hint = "give the file of its CustomResourceDefinition with --schemas".to_owned();
            self.add(Severity::Unknown, path, root.start, message, hint);
        }
    }

    fn group_is_known(&self, group: &str) -> bool {
        let has = |api: &str| api.split_once('/').is_some_and(|(known, _)| known == group);
        self.schemas.documents.keys().any(|(api, _)| has(api))
            || built_in::kinds().any(|kind| built_in::versions(kind).any(has))
    }

    fn node(&mut self, node: &Node, schema: &Resolution<'_>, path: &Path, depth: usize) {
        // A field that is null is a field that is not there.
        if depth > DEEPEST || is_null(node) {
            return;
        }
        let says = schema.schema;
        let either = says.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
            || says.get("format").and_then(Value::as_str) == Some("int-or-string");
        // What may be anything is published as a map.
        if ["JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"]
            .iter()
            .any(|any| schema.definition.ends_with(&format!("apiextensions.v1.{any}")))
        {
            return;
        }
        if schema.definition.ends_with("resource.Quantity") {
            return self.quantity(node, path);
        }
        if either {
            if !matches!(
                scalar(node),
                Some(Resolved::Int(_) | Resolved::Uint(_) | Resolved::String | Resolved::Timestamp)
            ) {
                self.wrong(node, path, "a number or a text");
            }
            return;
        }
        match says.get("type").and_then(Value::as_str) {
            Some("object") => self.map(node, schema, path, depth, &[]),
            Some("array") => self.list(node, schema, path, depth),
            Some("string") => match scalar(node) {
                Some(Resolved::String | Resolved::Timestamp | Resolved::Merge) => self.string(node, says, path),
                _ => self.wrong(node, path, "a text"),
            },
            Some("integer") => match scalar(node) {
                Some(Resolved::Int(n)) => self.number(node, says, n as f64, path),
                Some(Resolved::Uint(n)) => self.number(node, says, n as f64, path),
                Some(Resolved::Float(f)) if f.fract() == 0.0 => self.number(node, says, f, path),
                _ => self.wrong(node, path, "a whole number"),
            },
            Some("number") => match scalar(node) {
                Some(Resolved::Int(n)) => self.number(node, says, n as f64, path),
                Some(Resolved::Uint(n)) => self.number(node, says, n as f64, path),
                Some(Resolved::Float(f)) => self.number(node, says, f, path),
                _ => self.wrong(node, path, "a number"),
            },
            Some("boolean") if !matches!(scalar(node), Some(Resolved::Bool(_))) => {
                self.wrong(node, path, "true or false")
            }
            None if says.contains_key("properties") => self.map(node, schema, path, depth, &[]),
            _ => {}
        }
    }

    fn wrong(&mut self, node: &Node, path: &Path, wanted: &str) {
        let (is, hint) = match (&node.kind, scalar(node)) {
            (Kind::Map(_), _) => ("a map".to_owned(), ""),
            (Kind::List(_), _) => ("a list".to_owned(), ""),
            (_, Some(Resolved::String)) if node.is_quoted() && looks_like(node, wanted) => {
                (format!("the text {:?}", shown(node)), "take the quotes away")
            }
            (_, Some(Resolved::Bool(_))) if wanted == "a text" => {
                (format!("`{}`, which YAML reads as true or false", shown(node)), "put it in quotes")
            }
            (_, Some(Resolved::Int(_) | Resolved::Uint(_) | Resolved::Float(_))) if wanted == "a text" => {
                (format!("the number {}", shown(node)), "put it in quotes")
            }
            _ => (format!("`{}`", shown(node)), ""),
        };
        let message = format!("`{path}` has to be {wanted}, and is {is}");
        self.add(Severity::Error, path, node.start, message, hint);
    }

    fn list(&mut self, node: &Node, schema: &Resolution<'_>, path: &Path, depth: usize) {
        let Some(items) = node.as_list() else { return self.wrong(node, path, "a list") };
        let count = |key| schema.schema.get(key).and_then(Value::as_u64);
        if count("minItems").is_some_and(|min| (items.len() as u64) < min) {
            let message = format!("`{path}` has to have at least {} items", count("minItems").unwrap_or(0));
            self.add(Severity::Error, path, node.start, message, "");
        }
        if count("maxItems").is_some_and(|max| items.len() as u64 > max) {
            let message = format!("`{path}` may have at most {} items", count("maxItems").unwrap_or(0));
            self.add(Severity::Error, path, node.start, message, "");
        }
        let Some(of) = schema.schema.get("items").and_then(|of| resolve(schema.root, of, "")) else { return };
        for (i, item) in items.iter().enumerate() {
            if is_null(item) {
                self.add(Severity::Error, &path.with_index(i), item.start, format!("`{path}` has an empty item"), "");
            }
            self.node(item, &of, &path.with_index(i), depth + 1);
        }
    }

    fn map(&mut self, node: &Node, schema: &Resolution<'_>, path: &Path, depth: usize, also: &[&str]) {
        let Some(entries) = node.as_map() else { return self.wrong(node, path, "a map") };
        let properties = schema.schema.get("properties").and_then(Value::as_object);
        let others = schema.schema.get("additionalProperties");
        let preserves = schema.schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let embedded = schema.schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in entries {
            let Some(name) = key.as_scalar() else { continue };
            let here = path.with_key(name);
            if seen.contains(&name) {
                let message = format!("`{here}` is there twice; the last one counts");
                self.add(Severity::Error, &here, key.start, message, "remove one of them");
            }
            seen.push(name);
            if let Some(of) = properties.and_then(|properties| properties.get(name)) {
                if let Some(of) = resolve(schema.root, of, "") {
                    self.words(value, &schema.definition, name, &here);
                    self.node(value, &of, &here, depth + 1);
                }
                continue;
            }
            if also.contains(&name) || embedded && ["apiVersion", "kind", "metadata"].contains(&name) {
                continue;
            }
            match others {
                Some(Value::Object(_)) => {
                    if let Some(of) = others.and_then(|of| resolve(schema.root, of, "")) {
                        if is_null(value) && of.schema.contains_key("type") {
                            let message = format!("`{here}` has no value");
                            self.add(Severity::Warning, &here, key.start, message, "give it one, or take it away");
                        }
                        self.node(value, &of, &here, depth + 1);
                    }
                }
                Some(Value::Bool(true)) => {}
                _ if preserves || properties.is_none() && others.is_none() => {}
                _ => self.unknown_field(key, name, schema, path),
            }
        }
        for wanted in schema.schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let Some(wanted) = wanted.as_str() else { continue };
            let there = entries.iter().any(|(key, value)| key.as_scalar() == Some(wanted) && !is_null(value));
            if !there && !also.contains(&wanted) {
                let place = if path.0.is_empty() { self.name.to_string() } else { format!("`{path}`") };
                let message = format!("{place} has no `{wanted}`");
                self.add(Severity::Error, path, node.start, message, format!("`{wanted}` is required there"));
            }
        }
    }

    fn unknown_field(&mut self, key: &Node, name: &str, schema: &Resolution<'_>, path: &Path) {
        let names = schema.schema.get("properties").and_then(Value::as_object);
        let known = || names.into_iter().flatten().map(|(name, _)| name.as_str());
        let hint = match nearest(name, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => match self.elsewhere(name, schema) {
                Some(inside) => format!("it belongs into `{inside}`"),
                None => match known().count() {
                    0 => String::new(),
                    count if count <= 12 => format!("known there: {}", known().collect::<Vec<_>>().join(", ")),
                    _ => String::new(),
                },
            },
        };
        let place = if path.0.is_empty() { self.name.kind.clone() } else { format!("`{path}`") };
        let message = format!("{place} has no field `{name}`");
        self.add(Severity::Error, &path.with_key(name), key.start, message, hint);
    }

    /// A field beside, in which the name would be known.
    fn elsewhere(&self, name: &str, schema: &Resolution<'_>) -> Option<String> {
        let properties = schema.schema.get("properties").and_then(Value::as_object)?;
        let has = |of: &Value| {
            let resolved = resolve(schema.root, of, "");
            resolved.and_then(|resolved| resolved.schema.get("properties")?.get(name).map(drop)).is_some()
        };
        properties.iter().find(|(key, of)| *key != "status" && has(of)).map(|(key, _)| key.clone())
    }

    fn words(&mut self, value: &Node, definition: &str, field: &str, path: &Path) {
        let Some(words) = words(definition, field) else { return };
        let items = match value.as_list() {
            Some(items) => items.iter().enumerate().map(|(i, item)| (item, path.with_index(i))).collect(),
            None => vec![(value, path.clone())],
        };
        for (item, path) in items {
            let Some(word) = item.as_scalar().filter(|_| !is_null(item)) else { continue };
            // HugePages comes with a size behind it.
            if words.contains(&word) || word.starts_with("HugePages-") && words.contains(&"HugePages") {
                continue;
            }
            self.not_among(item, word, words.iter().copied(), &path);
        }
    }

    fn not_among<'w>(&mut self, node: &Node, word: &str, words: impl Iterator<Item = &'w str> + Clone, path: &Path) {
        let near = nearest(word, words.clone());
        let all = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
        let hint = near.map_or(format!("one of: {all}"), |near| format!("did you mean `{near}`? One of: {all}"));
        let word: String = word.chars().take(60).collect();
        self.add(Severity::Error, path, node.start, format!("`{path}` cannot be `{word}`"), hint);
    }

    fn string(&mut self, node: &Node, says: &Map<String, Value>, path: &Path) {
        let Some(value) = node.as_scalar() else { return };
        if let Some(words) = says.get("enum").and_then(Value::as_array)
            && !words.iter().any(|word| word.as_str() == Some(value))
        {
            self.not_among(node, value, words.iter().filter_map(Value::as_str), path);
        }
        let count = |key| says.get(key).and_then(Value::as_u64);
        let length = value.chars().count() as u64;
        if let Some(min) = count("minLength").filter(|min| length < *min) {
            self.add(Severity::Error, path, node.start, format!("`{path}` has to have at least {min} characters"), "");
        }
        if let Some(max) = count("maxLength").filter(|max| length > *max) {
            self.add(Severity::Error, path, node.start, format!("`{path}` may have at most {max} characters"), "");
        }
        if let Some(pattern) = says.get("pattern").and_then(Value::as_str)
            && let Some(regex) = self.schemas.pattern(pattern)
            && !regex.is_match(value)
        {
            let message = format!("`{path}` is `{}`, which does not match {pattern}", shown(node));
            self.add(Severity::Error, path, node.start, message, "");
        }
    }

    fn number(&mut self, node: &Node, says: &Map<String, Value>, value: f64, path: &Path) {
        let bound = |key| says.get(key).and_then(Value::as_f64);
        let strictly = |key| says.get(key) == Some(&Value::Bool(true));
        let low = bound("minimum").filter(|min| value < *min || strictly("exclusiveMinimum") && value == *min);
        let high = bound("maximum").filter(|max| value > *max || strictly("exclusiveMaximum") && value == *max);
        if let Some(min) = low {
            self.add(Severity::Error, path, node.start, format!("`{path}` is {value}, which is less than {min}"), "");
        }
        if let Some(max) = high {
            self.add(Severity::Error, path, node.start, format!("`{path}` is {value}, which is more than {max}"), "");
        }
        let small = says.get("format").and_then(Value::as_str) == Some("int32");
        if small && (value > f64::from(i32::MAX) || value < f64::from(i32::MIN)) {
            self.add(Severity::Error, path, node.start, format!("`{path}` is {value}, which is too large"), "");
        }
        if let Some(words) = says.get("enum").and_then(Value::as_array)
            && !words.iter().any(|word| word.as_f64() == Some(value))
        {
            let all = words.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
            self.add(
                Severity::Error,
                path,
                node.start,
                format!("`{path}` cannot be {value}"),
                format!("one of: {all}"),
            );
        }
    }

    fn quantity(&mut self, node: &Node, path: &Path) {
        let Some(value) = node.as_scalar() else { return self.wrong(node, path, "a quantity, like `500m` or `2Gi`") };
        if !is_quantity(value) {
            let hint = match value.trim_end_matches(['B', 'b']) {
                shorter if shorter != value && is_quantity(shorter) => format!("did you mean `{shorter}`?"),
                _ => "a number with one of m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or nothing behind it".to_owned(),
            };
            let message = format!("`{path}` is `{}`, which is no quantity", shown(node));
            self.add(Severity::Error, path, node.start, message, hint);
        }
    }
}

/// What a scalar is read as; `None` for lists and maps.
fn scalar(node: &Node) -> Option<Resolved> {
    let text = node.as_scalar()?;
    Some(match node.tag.as_deref() {
        Some("!!str") => Resolved::String,
        _ if node.is_quoted() => Resolved::String,
        _ => yaml::resolve(text, Dialect::V2),
    })
}

fn is_null(node: &Node) -> bool {
    matches!(scalar(node), Some(Resolved::Null))
}

fn shown(node: &Node) -> String {
    node.as_scalar().unwrap_or_default().chars().take(60).collect()
}

fn looks_like(node: &Node, wanted: &str) -> bool {
    let plain = yaml::resolve(node.as_scalar().unwrap_or_default(), Dialect::V2);
    match wanted {
        "true or false" => matches!(plain, Resolved::Bool(_)),
        "a number" | "a whole number" => matches!(plain, Resolved::Int(_) | Resolved::Uint(_) | Resolved::Float(_)),
        _ => false,
    }
}

/// Kubernetes' `resource.Quantity`.
fn is_quantity(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(digits);
    let proper = number.matches('.').count() <= 1 && number.bytes().any(|byte| byte.is_ascii_digit());
    let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].contains(&suffix);
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|digits| {
        let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    proper && (known || exponent)
}

/// The word that a person may have meant.
fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<String> {
    let wanted = word.to_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&wanted, &known.to_lowercase());
    let best = words.filter(|known| !known.is_empty()).map(|known| (distance(known), known)).min()?;
    let close = best.0 <= (word.chars().count() / 4).max(1)
        || wanted.trim_end_matches('s') == best.1.to_lowercase().trim_end_matches('s');
    close.then(|| best.1.to_owned())
}
