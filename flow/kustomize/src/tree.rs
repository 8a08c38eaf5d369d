//! Reaching into a tree of nodes.

use yaml::{Decode, Dialect, Kind, Node, Resolved, Value};

use crate::{Error, Result};

/// True for a plain `null`, `~` or nothing.
pub fn is_null(node: &Node) -> bool {
    match (&node.kind, node.tag.as_deref()) {
        (Kind::Scalar(_), Some("!!null")) => true,
        (Kind::Scalar(text), None) => !node.is_quoted() && yaml::resolve(text, Dialect::V3) == Resolved::Null,
        _ => false,
    }
}

/// The text of a scalar; empty for null and for what is no scalar.
pub fn text(node: &Node) -> &str {
    if is_null(node) { "" } else { node.as_scalar().unwrap_or_default() }
}

/// True for a scalar that reads as a string.
pub fn is_string(node: &Node) -> bool {
    match (&node.kind, node.tag.as_deref()) {
        (Kind::Scalar(_), Some(tag)) => tag == "!!str",
        // What was made here without saying what it is counts as a string.
        (Kind::Scalar(_), None) if node.start.line == 0 => true,
        (Kind::Scalar(text), None) => {
            node.is_quoted() || matches!(yaml::resolve(text, Dialect::V3), Resolved::String | Resolved::Merge)
        }
        _ => false,
    }
}

pub fn lookup<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, part| node.get(part))
}

pub fn lookup_mut<'n>(node: &'n mut Node, path: &[&str]) -> Option<&'n mut Node> {
    let mut here = node;
    for part in path {
        here = here.get_mut(part)?;
    }
    Some(here)
}

/// The text at a path, empty when there is none.
pub fn text_at<'n>(node: &'n Node, path: &[&str]) -> &'n str {
    lookup(node, path).map_or("", text)
}

/// The map under a key, made when missing or null.
pub fn map_under<'n>(node: &'n mut Node, key: &str) -> Result<&'n mut Node> {
    let Kind::Map(entries) = &mut node.kind else {
        return Err(Error::wrong(format!("wrong node kind: expected MappingNode at the parent of '{key}'")));
    };
    let at = match entries.iter().position(|(name, _)| name.as_scalar() == Some(key)) {
        Some(at) => at,
        None => {
            entries.push((Node::string(key), Node::map(Vec::new())));
            entries.len() - 1
        }
    };
    let value = &mut entries[at].1;
    if is_null(value) {
        *value = Node::map(Vec::new());
    }
    Ok(value)
}

/// Sets a key; one that is there keeps its place.
pub fn set(node: &mut Node, key: &str, value: Node) {
    if let Kind::Map(entries) = &mut node.kind {
        match entries.iter_mut().find(|(name, _)| name.as_scalar() == Some(key)) {
            Some((_, old)) => *old = value,
            None => entries.push((Node::string(key), value)),
        }
    }
}

/// Sets a scalar's text. It keeps how it is written (its quotes); `tag` says what it is.
pub fn set_scalar(node: &mut Node, text: &str, tag: Option<&str>) {
    let quoted = node.is_quoted();
    node.kind = Kind::Scalar(text.to_owned());
    // Quotes win over a tag that is not a string's.
    node.tag = if quoted { None } else { tag.map(Into::into) };
    node.start.line = 0;
}

/// Writes down what a plain scalar is, so that a new text does not make it something else.
pub fn keep_type(node: &mut Node) {
    let plain = node.tag.is_none() && !node.is_quoted();
    if let (true, Kind::Scalar(text)) = (plain, &node.kind) {
        let tag = match yaml::resolve(text, Dialect::V3) {
            // What was made empty for a new field may become anything.
            Resolved::Null if text.is_empty() => return,
            resolved => resolved.tag(),
        };
        node.tag = Some(tag.into());
        node.start.line = 0;
    }
}

/// Sets a key of a map to a string, keeping the quotes of what was there.
pub fn set_string(node: &mut Node, key: &str, text: &str) {
    match node.get_mut(key) {
        Some(old) if matches!(old.kind, Kind::Scalar(_)) => set_scalar(old, text, Some("!!str")),
        Some(old) => *old = Node::string(text),
        None => set(node, key, Node::string(text)),
    }
}

pub fn remove(node: &mut Node, key: &str) -> Option<Node> {
    let entries = node.as_map_mut()?;
    let at = entries.iter().position(|(name, _)| name.as_scalar() == Some(key))?;
    Some(entries.remove(at).1)
}

/// The tree of a value.
pub fn from_value(value: &Value) -> Node {
    let tagged = |tag: &str, text: String| Node { tag: Some(tag.into()), ..Node::plain(text) };
    match value {
        Value::Null => tagged("!!null", "null".to_owned()),
        Value::Bool(b) => tagged("!!bool", b.to_string()),
        Value::Int(n) => tagged("!!int", n.to_string()),
        Value::Uint(n) => tagged("!!int", n.to_string()),
        Value::Float(f) => tagged("!!float", yaml::go_float(*f)),
        Value::String(text) => Node::string(text.clone()),
        Value::List(items) => Node::list(items.iter().map(from_value).collect()),
        Value::Map(map) => {
            Node::map(map.iter().map(|(key, value)| (Node::string(key.clone()), from_value(value))).collect())
        }
    }
}

/// The original prints a tree and reads it again. For a folded text (`>`) that is not the same: each line break before
/// or behind an indented line is doubled.
fn refold(node: &mut Node) {
    match &mut node.kind {
        Kind::Scalar(text) if node.style == yaml::Style::Folded => {
            let bare = Node { style: yaml::Style::Folded, ..Node::string(std::mem::take(text)) };
            let printed = yaml::print(&Node::map(vec![(Node::string("t"), bare.clone())]), &yaml::Layout::default());
            let read = yaml::from_str(&printed).ok().and_then(|value| value.get("t")?.as_str().map(str::to_owned));
            *text = match (read, bare.kind) {
                (Some(read), _) => read,
                (None, Kind::Scalar(text)) => text,
                _ => return,
            };
        }
        Kind::List(items) => items.iter_mut().for_each(refold),
        Kind::Map(entries) => entries.iter_mut().for_each(|(_, value)| refold(value)),
        _ => {}
    }
}

/// What a tree means.
pub fn to_value(mut node: Node) -> Result<Value> {
    refold(&mut node);
    let decode = Decode { dialect: Dialect::V3, ..Decode::default() };
    decode.node(node).map_err(|source| Error::Malformed { file: String::new(), source })
}

/// A path split at `separator`, which `\` protects.
pub fn split(path: &str, separator: char) -> Vec<String> {
    let mut parts: Vec<String> = path.split(separator).map(str::to_owned).collect();
    if parts.len() > 1 && parts[0].is_empty() {
        parts.remove(0);
    }
    let mut out: Vec<String> = Vec::with_capacity(parts.len());
    for part in parts {
        match out.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(separator);
                last.push_str(&part);
            }
            _ => out.push(part),
        }
    }
    out
}

/// As [`split`] at dots, with what is in brackets kept whole.
pub fn split_dots(path: &str) -> Vec<String> {
    let parts = split(path, '.');
    let mut out = Vec::new();
    let mut parts = parts.into_iter();
    while let Some(part) = parts.next() {
        if !part.starts_with('[') || part.ends_with(']') {
            out.push(part);
            continue;
        }
        let mut whole = part;
        for more in parts.by_ref() {
            whole.push('.');
            whole.push_str(&more);
            if more.ends_with(']') {
                break;
            }
        }
        out.push(if whole.contains('=') { whole } else { whole.trim_matches(['[', ']']).to_owned() });
    }
    out
}

/// How deep and how large an object may become: values can be copied into themselves.
const MAX_DEPTH: usize = 512;
const MAX_NODES: usize = 1_000_000;

fn too_large() -> Error {
    Error::Refused(format!("an object grew beyond {MAX_NODES} nodes or {MAX_DEPTH} levels"))
}

/// An error when a value is too large. Called after each step, so that no step starts with one.
pub fn check_value(value: &Value) -> Result<()> {
    fn fits(value: &Value, depth: usize, nodes: &mut usize) -> bool {
        *nodes += 1;
        depth < MAX_DEPTH
            && *nodes < MAX_NODES
            && match value {
                Value::List(items) => items.iter().all(|item| fits(item, depth + 1, nodes)),
                Value::Map(map) => map.values().all(|item| fits(item, depth + 1, nodes)),
                _ => true,
            }
    }
    if fits(value, 0, &mut 0) { Ok(()) } else { Err(too_large()) }
}

/// As [`check_value`], for a tree.
pub fn check_node(node: &Node) -> Result<()> {
    fn fits(node: &Node, depth: usize, nodes: &mut usize) -> bool {
        *nodes += 1;
        depth < MAX_DEPTH
            && *nodes < MAX_NODES
            && match &node.kind {
                Kind::List(items) => items.iter().all(|item| fits(item, depth + 1, nodes)),
                Kind::Map(entries) => entries.iter().all(|(_, value)| fits(value, depth + 1, nodes)),
                _ => true,
            }
    }
    if fits(node, 0, &mut 0) { Ok(()) } else { Err(too_large()) }
}
