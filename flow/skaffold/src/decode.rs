//! From the tree of a document to values that fit the schema of its version.
//!
//! What is empty and means the same as nothing is left out, so that two values are equal when they mean the same.

use yaml::{Dialect, Kind, Map, Mark, Node, Resolved, Value};

use crate::{
    Error, Place, Result,
    schema::{self, Type, Version},
};

/// Reads values of one version.
pub(crate) struct Decoder<'a> {
    pub file: &'a str,
    pub version: Version,
    /// Fields that are unknown are errors; else they are left out.
    pub strict: bool,
    /// Unknown fields where skaffold does not mind them.
    pub warnings: Vec<String>,
}

impl Decoder<'_> {
    fn place(&self, at: Mark) -> Place {
        Place { file: self.file.to_owned(), line: at.line, column: at.column }
    }

    fn wrong<T>(&self, node: &Node, path: &str, expected: &'static str) -> Result<T> {
        let found = match &node.kind {
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
            Kind::Scalar(text) if text.is_empty() => "nothing".to_owned(),
            Kind::Scalar(text) | Kind::Alias(text) => {
                format!("{:?}", text.chars().take(60).collect::<String>())
            }
        };
        Err(Error::Type { place: self.place(node.start), path: path.to_owned(), expected, found })
    }

    /// A value; nothing when it is empty and that means nothing.
    pub fn value(&mut self, node: &Node, of: &Type, path: &str) -> Result<Option<Value>> {
        let null = is_null(node);
        match of {
            Type::Maybe(_) if null => Ok(None),
            Type::Maybe(inner) => Ok(Some(self.value(node, inner, path)?.unwrap_or_else(|| zero(inner)))),
            _ if null => Ok(None),
            Type::Text => match text(node) {
                Some(text) => Ok((!text.is_empty()).then_some(Value::String(text))),
                None => self.wrong(node, path, "a text"),
            },
            Type::Bool => match (&node.kind, scalar(node)) {
                (_, Some(Resolved::Bool(b))) => Ok(b.then_some(Value::Bool(true))),
                (Kind::Scalar(text), Some(Resolved::String)) => match yaml::resolve(text, Dialect::V2) {
                    Resolved::Bool(b) => Ok(b.then_some(Value::Bool(true))),
                    _ => self.wrong(node, path, "true or false"),
                },
                _ => self.wrong(node, path, "true or false"),
            },
            Type::Int => match scalar(node) {
                Some(Resolved::Int(n)) => Ok((n != 0).then_some(Value::Int(n))),
                Some(Resolved::Float(f)) if f.abs() < 9e15 => {
                    Ok((f.trunc() != 0.0).then_some(Value::Int(f.trunc() as i64)))
                }
                _ => self.wrong(node, path, "a whole number"),
            },
            Type::Port => match text(node) {
                Some(text) => match text.parse() {
                    Ok(0) => Ok(None),
                    Ok(n) => Ok(Some(Value::Int(n))),
                    Err(_) => Ok(Some(Value::String(text))),
                },
                None => self.wrong(node, path, "a number or a name"),
            },
            Type::Any => Ok(Some(self.any(node)?)),
            Type::Flat => {
                let Kind::Map(entries) = &node.kind else { return self.wrong(node, path, "a map") };
                let mut map = Map::new();
                flatten(entries, "", &mut map);
                Ok((!map.is_empty()).then_some(Value::Map(map)))
            }
            Type::Struct(name) => {
                let map = self.fields(node, name, path)?;
                Ok((!map.is_empty()).then_some(Value::Map(map)))
            }
            Type::List(inner) => {
                let Kind::List(items) = &node.kind else { return self.wrong(node, path, "a list") };
                let mut list = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    let value = self.value(item, inner, &format!("{path}[{i}]"))?;
                    list.push(value.unwrap_or_else(|| zero(inner)));
                }
                Ok((!list.is_empty()).then_some(Value::List(list)))
            }
            Type::Map(inner) => {
                let Kind::Map(entries) = &node.kind else { return self.wrong(node, path, "a map") };
                let mut map = Map::new();
                for (key, value) in entries {
                    let Some(key_text) = text(key) else { return self.wrong(key, path, "a text as key") };
                    let value = self.value(value, inner, &format!("{path}.{key_text}"))?;
                    map.insert(key_text, value.unwrap_or_else(|| zero(inner)));
                }
                Ok((!map.is_empty()).then_some(Value::Map(map)))
            }
        }
    }

    /// The fields of a type.
    pub fn fields(&mut self, node: &Node, of: &'static str, path: &str) -> Result<Map> {
        let Kind::Map(entries) = &node.kind else { return self.wrong(node, path, "a map") };
        let mut map = Map::new();
        for (key, value) in entries {
            let Some(name) = key.as_scalar() else { return self.wrong(key, path, "a text as key") };
            let Some(field) = schema::find(of, name, self.version) else {
                if path.is_empty() && name.starts_with('.') {
                    // Only there to hang anchors on.
                    continue;
                }
                self.unknown(key, name, of, path)?;
                continue;
            };
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            if let Some(value) = self.value(value, &field.of, &below)? {
                map.insert(name.to_owned(), value);
            }
        }
        Ok(map)
    }

    fn unknown(&mut self, key: &Node, name: &str, of: &'static str, path: &str) -> Result<()> {
        let parent = match path {
            "" => format!("a configuration of skaffold/{}", self.version.name()),
            path => format!("{path} (skaffold/{})", self.version.name()),
        };
        let hint = hint(of, name, self.version);
        let error = Error::UnknownField { place: self.place(key.start), field: name.to_owned(), parent, hint };
        // skaffold reads these two without looking for unknown fields.
        if !self.strict {
            return Ok(());
        }
        if matches!(of, "KanikoArtifact" | "ClusterDetails") {
            self.warnings.push(format!("{error}; it is ignored"));
            return Ok(());
        }
        Err(error)
    }

    fn any(&self, node: &Node) -> Result<Value> {
        let decode = yaml::Decode { dialect: Dialect::V3, ..yaml::Decode::default() };
        decode.node(node.clone()).map_err(|source| Error::Malformed { file: self.file.to_owned(), source })
    }
}

/// What stands where nothing was given.
pub(crate) fn zero(of: &Type) -> Value {
    match of {
        Type::Text => Value::String(String::new()),
        Type::Bool => Value::Bool(false),
        Type::Int | Type::Port => Value::Int(0),
        Type::Any | Type::Maybe(_) => Value::Null,
        Type::List(_) => Value::List(Vec::new()),
        Type::Flat | Type::Struct(_) | Type::Map(_) => Value::Map(Map::new()),
    }
}

/// What a scalar is.
fn scalar(node: &Node) -> Option<Resolved> {
    let text = node.as_scalar()?;
    Some(match node.tag.as_deref() {
        Some("!!str") => Resolved::String,
        None if node.is_quoted() => Resolved::String,
        _ => yaml::resolve(text, Dialect::V3),
    })
}

fn is_null(node: &Node) -> bool {
    scalar(node) == Some(Resolved::Null)
}

/// A scalar as a text. It passes through its own type first, as in the original: `1.10` is the number 1.1.
fn text(node: &Node) -> Option<String> {
    Some(match scalar(node)? {
        Resolved::Null => String::new(),
        Resolved::Bool(b) => b.to_string(),
        Resolved::Int(n) => n.to_string(),
        Resolved::Uint(n) => n.to_string(),
        Resolved::Float(f) => yaml::go_float(f),
        Resolved::Timestamp => {
            let decode = yaml::Decode { dialect: Dialect::V3, ..yaml::Decode::default() };
            decode.node(node.clone()).ok()?.as_str()?.to_owned()
        }
        Resolved::String | Resolved::Merge => node.as_scalar()?.to_owned(),
    })
}

fn flatten(entries: &[(Node, Node)], prefix: &str, to: &mut Map) {
    for (key, value) in entries {
        flat(value, format!("{prefix}{}", text(key).unwrap_or_default()), to);
    }
}

fn flat(node: &Node, key: String, to: &mut Map) {
    match (&node.kind, scalar(node)) {
        (Kind::Map(entries), _) => flatten(entries, &format!("{key}."), to),
        (Kind::List(items), _) => {
            for (i, item) in items.iter().enumerate() {
                flat(item, format!("{key}[{i}]"), to);
            }
        }
        (_, Some(Resolved::Null)) => {
            to.insert(key, Value::from("<nil>"));
        }
        _ => {
            to.insert(key, Value::String(text(node).unwrap_or_default()));
        }
    }
}

/// What may have been meant by an unknown field.
fn hint(of: &str, name: &str, version: Version) -> String {
    let elsewhere = schema::ever(of, name);
    if let Some(field) = elsewhere.iter().find(|field| field.since > version) {
        return format!(": it exists since skaffold/{}; change the apiVersion", field.since.name());
    }
    if let Some(field) = elsewhere.iter().find(|field| field.until < version) {
        return format!(": it was there until skaffold/{}", field.until.name());
    }
    let most = name.chars().count() / 3 + 1;
    let near = schema::names(of, version)
        .into_iter()
        .map(|known| (distance(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= most)
        .min();
    match near {
        Some((_, known)) => format!(": did you mean {known:?}?"),
        None => String::new(),
    }
}

/// How many letters must change to make one text of the other.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(80).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(80).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
