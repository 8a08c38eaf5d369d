//! From nodes to values.

use std::collections::HashMap;

use crate::{
    Document, Error, ErrorKind, Kind, Limits, Map, Mark, Node, Resolved, Value, number, parse::Parser, resolve, simple,
};

/// Whose rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// go-yaml v2, as in `sigs.k8s.io/yaml`: YAML 1.1 booleans; of two equal keys the last wins.
    #[default]
    V2,
    /// go-yaml v3, as in kyaml: only `true` and `false`; two equal keys are an error.
    V3,
}

/// How a text becomes values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decode {
    pub dialect: Dialect,
    /// In [`Dialect::V2`]: two equal keys are an error (`UnmarshalStrict`). Always so in [`Dialect::V3`].
    pub strict: bool,
    pub limits: Limits,
}

impl Decode {
    /// The first document; `Null` when there is none.
    pub fn value(&self, text: &str) -> Result<Value, Error> {
        self.of_value(text, None)
    }

    /// The first document; of a map only the `wanted` keys, if some are named.
    pub(crate) fn of_value(&self, text: &str, wanted: Option<&[&str]>) -> Result<Value, Error> {
        let Limits { bytes, depth, nodes, .. } = self.limits;
        // What has fewer bytes than nodes are allowed has fewer nodes too.
        let within = text.len() <= bytes.min(nodes) && depth > simple::MOST_DEPTH;
        let simple = within && self.dialect == Dialect::V2 && !self.strict;
        let read = if simple { simple::read(text, wanted) } else { None };
        let mut value = match read {
            Some(value) => value,
            None => self.read_whole(text)?,
        };
        if let (Value::Map(map), Some(wanted)) = (&mut value, wanted) {
            map.retain(|key, _| wanted.contains(&key.as_str()));
        }
        Ok(value)
    }

    /// The same over tokens and nodes, which is the only way that reads everything and knows what is wrong.
    pub(crate) fn read_whole(&self, text: &str) -> Result<Value, Error> {
        match Parser::new(text, &self.limits)?.document()? {
            Some(document) => self.document(document),
            None => Ok(Value::Null),
        }
    }

    /// Every document that has content.
    pub fn values(&self, text: &str) -> Result<Vec<Value>, Error> {
        let mut parser = Parser::new(text, &self.limits)?;
        let mut values = Vec::new();
        while let Some(document) = parser.document()? {
            if document.root.is_some() {
                values.push(self.document(document)?);
            }
        }
        Ok(values)
    }

    /// One document that was read already.
    pub fn document(&self, document: Document) -> Result<Value, Error> {
        let Some(root) = document.root else { return Ok(Value::Null) };
        let root = if document.aliases { expand(root, &self.limits)? } else { root };
        self.node(root)
    }

    /// A node without aliases.
    pub fn node(&self, node: Node) -> Result<Value, Error> {
        match node.kind {
            Kind::Scalar(_) => self.scalar(node),
            Kind::List(items) => {
                Ok(Value::List(items.into_iter().map(|item| self.node(item)).collect::<Result<_, _>>()?))
            }
            Kind::Map(entries) => {
                let mut map = Map::new();
                self.entries(entries, &mut map)?;
                Ok(Value::Map(map))
            }
            Kind::Alias(name) => {
                Err(Error::new(ErrorKind::Type, format!("unknown anchor '{name}' referenced"), node.start))
            }
        }
    }

    fn scalar(&self, node: Node) -> Result<Value, Error> {
        let (start, quoted, tag) = (node.start, node.is_quoted(), node.tag);
        let Kind::Scalar(text) = node.kind else { return Ok(Value::Null) };
        let resolved = match tag.as_deref() {
            None if quoted => Resolved::String,
            None | Some("!") => resolve(&text, self.dialect),
            Some("!!str") => Resolved::String,
            Some("!!binary") => {
                let Some(bytes) = number_base64(&text) else {
                    return Err(Error::new(ErrorKind::Type, "!!binary value contains invalid base64 data", start));
                };
                // Go's JSON puts the replacement character where the bytes are no text.
                return Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            }
            Some(tag @ ("!!int" | "!!bool" | "!!null" | "!!float" | "!!timestamp")) => {
                match (tag, resolve(&text, self.dialect)) {
                    ("!!float", Resolved::Int(n)) => Resolved::Float(n as f64),
                    (_, resolved) if resolved.tag() == tag => resolved,
                    (_, resolved) => {
                        let message = format!("cannot decode {} `{text}` as a {tag}", resolved.tag());
                        return Err(Error::new(ErrorKind::Type, message, start));
                    }
                }
            }
            Some(_) => Resolved::String,
        };
        Ok(match resolved {
            Resolved::Null => Value::Null,
            Resolved::Bool(b) => Value::Bool(b),
            Resolved::Int(n) => Value::Int(n),
            Resolved::Uint(n) => Value::Uint(n),
            Resolved::Float(f) => Value::Float(f),
            Resolved::Timestamp if self.dialect == Dialect::V3 && !quoted => Value::String(rfc3339(&text)),
            Resolved::Timestamp | Resolved::Merge | Resolved::String => Value::String(text),
        })
    }

    /// The text of a key, as `sigs.k8s.io/yaml` makes it.
    fn key(&self, node: Node) -> Result<String, Error> {
        let start = node.start;
        if !matches!(node.kind, Kind::Scalar(_)) {
            return Err(Error::new(ErrorKind::Type, "invalid map key: a list or a map cannot be one", start));
        }
        match self.scalar(node)? {
            Value::String(text) => Ok(text),
            Value::Bool(b) => Ok(b.to_string()),
            Value::Int(n) => Ok(n.to_string()),
            // Go formats float keys in single precision.
            Value::Float(f) => Ok(number::go_float32(f)),
            Value::Uint(n) if self.dialect == Dialect::V3 => Ok(n.to_string()),
            Value::Uint(n) => {
                Err(Error::new(ErrorKind::Type, format!("unsupported map key of type: uint64, key: {n:#x}"), start))
            }
            _ => Err(Error::new(ErrorKind::Type, "unsupported map key of type: %!s(<nil>), key: <nil>", start)),
        }
    }

    fn entries(&self, entries: Vec<(Node, Node)>, map: &mut Map) -> Result<(), Error> {
        match self.dialect {
            Dialect::V2 => {
                for (key, value) in entries {
                    if is_merge(&key) {
                        self.merge(value, map)?;
                        continue;
                    }
                    let start = value.start;
                    let key = self.key(key)?;
                    let value = self.node(value)?;
                    if self.strict && map.contains_key(&key) {
                        let message = format!("key {key:?} already set in map");
                        return Err(unmarshal(message, start));
                    }
                    map.insert(key, value);
                }
            }
            Dialect::V3 => {
                let mut merges = Vec::new();
                let mut lines = HashMap::new();
                for (key, value) in entries {
                    if is_merge(&key) {
                        merges.push(value);
                        continue;
                    }
                    let start = key.start;
                    let key = self.key(key)?;
                    if let Some(line) = lines.insert(key.clone(), start.line) {
                        return Err(unmarshal(format!("mapping key {key:?} already defined at line {line}"), start));
                    }
                    map.insert(key, self.node(value)?);
                }
                for value in merges {
                    let mut under = Map::new();
                    self.merge(value, &mut under)?;
                    for (key, value) in under {
                        map.entry(key).or_insert(value);
                    }
                }
            }
        }
        Ok(())
    }

    fn merge(&self, value: Node, map: &mut Map) -> Result<(), Error> {
        let refused =
            |at| Err(Error::new(ErrorKind::Type, "map merge requires map or sequence of maps as the value", at));
        match value.kind {
            Kind::Map(entries) => self.entries_over(entries, map),
            Kind::List(items) => {
                // Earlier ones win.
                for item in items.into_iter().rev() {
                    match item.kind {
                        Kind::Map(entries) => self.entries_over(entries, map)?,
                        _ => return refused(item.start),
                    }
                }
                Ok(())
            }
            _ => refused(value.start),
        }
    }

    fn entries_over(&self, entries: Vec<(Node, Node)>, map: &mut Map) -> Result<(), Error> {
        let mut over = Map::new();
        self.entries(entries, &mut over)?;
        map.extend(over);
        Ok(())
    }
}

fn unmarshal(message: String, at: Mark) -> Error {
    Error::new(ErrorKind::Type, format!("unmarshal errors:\n  line {}: {message}", at.line), at)
}

fn is_merge(key: &Node) -> bool {
    key.as_scalar() == Some("<<")
        && match key.tag.as_deref() {
            None | Some("!") => !key.is_quoted(),
            Some(tag) => tag == "!!merge",
        }
}

/// The tree with every alias replaced by what it stands for, and no anchors.
pub(crate) fn expand(root: Node, limits: &Limits) -> Result<Node, Error> {
    let mut expander = Expander { anchors: HashMap::new(), open: Vec::new(), made: 0, copied: 0, limits };
    expander.node(root)
}

struct Expander<'l> {
    anchors: HashMap<Box<str>, Node>,
    /// Anchors whose node is not finished.
    open: Vec<Box<str>>,
    made: usize,
    copied: usize,
    limits: &'l Limits,
}

impl Expander<'_> {
    fn node(&mut self, mut node: Node) -> Result<Node, Error> {
        self.made += 1;
        let anchor = node.anchor.take();
        if let Some(name) = &anchor {
            self.open.push(name.clone());
        }
        node.kind = match node.kind {
            Kind::Alias(name) => {
                if self.open.iter().any(|open| **open == *name) {
                    let message = format!("anchor '{name}' value contains itself");
                    return Err(Error::new(ErrorKind::Type, message, node.start));
                }
                let Some(found) = self.anchors.get(name.as_str()) else {
                    return Err(Error::new(ErrorKind::Type, format!("unknown anchor '{name}' referenced"), node.start));
                };
                let size = count(found);
                self.copied += size;
                self.made += size;
                if self.made > self.limits.expanded || excessive(self.copied, self.made) {
                    return Err(Error::new(ErrorKind::Limit, "document contains excessive aliasing", node.start));
                }
                return Ok(found.clone());
            }
            Kind::List(items) => Kind::List(items.into_iter().map(|item| self.node(item)).collect::<Result<_, _>>()?),
            Kind::Map(entries) => {
                let mut out = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    out.push((self.node(key)?, self.node(value)?));
                }
                Kind::Map(out)
            }
            scalar => scalar,
        };
        if let Some(name) = anchor {
            self.open.pop();
            self.anchors.insert(name, node.clone());
        }
        Ok(node)
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|(key, value)| count(key) + count(value)).sum::<usize>(),
        _ => 1,
    }
}

/// go-yaml's measure: of up to 400,000 nodes 99 % may come from aliases, of 4,000,000 and more 10 %.
fn excessive(copied: usize, made: usize) -> bool {
    if copied <= 100 || made <= 1000 {
        return false;
    }
    let allowed = match made {
        0..=400_000 => 0.99,
        4_000_000.. => 0.10,
        _ => 0.99 - 0.89 * (made - 400_000) as f64 / 3_600_000.0,
    };
    copied as f64 / made as f64 > allowed
}

/// Standard base64; line breaks in between are allowed.
fn number_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held, mut padding, mut seen) = (0u32, 0, 0, 0usize);
    for b in text.bytes() {
        let digit = match b {
            b'\n' | b'\r' => continue,
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                seen += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        seen += 1;
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    (seen % 4 == 0 && padding <= 2).then_some(out)
}

/// A time as Go's `time.Time` prints itself into JSON.
fn rfc3339(text: &str) -> String {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(i) => (&text[..i], &text[i + 1..]),
        None => (text, ""),
    };
    let pad = |text: &str, separator: char| {
        text.split(separator).map(|part| format!("{part:0>2}")).collect::<Vec<_>>().join(&separator.to_string())
    };
    if time.is_empty() {
        return format!("{}T00:00:00Z", pad(date, '-'));
    }
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let fraction = fraction.get(..9).unwrap_or(fraction).trim_end_matches('0');
    let zone = match zone {
        "" | "+00:00" | "-00:00" => "Z",
        zone => zone,
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{}T{}{dot}{fraction}{zone}", pad(date, '-'), pad(clock, ':'))
}

/// The tree with merge keys (`<<`) replaced by the entries they bring; what is written beside them wins.
pub(crate) fn merged(mut node: Node) -> Result<Node, Error> {
    match node.kind {
        Kind::List(items) => node.kind = Kind::List(items.into_iter().map(merged).collect::<Result<_, _>>()?),
        Kind::Map(entries) => {
            let mut own = Vec::with_capacity(entries.len());
            let mut brought = Vec::new();
            for (key, value) in entries {
                let value = merged(value)?;
                if !is_merge(&key) {
                    own.push((key, value));
                    continue;
                }
                match value.kind {
                    Kind::Map(entries) => brought.extend(entries),
                    Kind::List(items) if items.iter().all(|item| item.as_map().is_some()) => {
                        for item in items {
                            if let Kind::Map(entries) = item.kind {
                                brought.extend(entries);
                            }
                        }
                    }
                    _ => {
                        let message = "map merge requires map or sequence of maps as the value";
                        return Err(Error::new(ErrorKind::Type, message, value.start));
                    }
                }
            }
            for (key, value) in brought {
                if !own.iter().any(|(name, _)| name.as_scalar() == key.as_scalar()) {
                    own.push((key, value));
                }
            }
            node.kind = Kind::Map(own);
        }
        _ => {}
    }
    Ok(node)
}
