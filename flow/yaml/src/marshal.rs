//! Values as trees, as go-yaml v3 makes them when it prints Go values.

use crate::{Dialect, Node, Resolved, Style, Value, go::base60, number, order, resolve};

/// The tree of a value: keys in go-yaml v3's order, texts quoted where they would read as something else.
pub fn to_node(value: &Value) -> Node {
    match value {
        Value::Null => Node::plain("null"),
        Value::Bool(b) => Node::plain(b.to_string()),
        Value::Int(n) => Node::plain(n.to_string()),
        Value::Uint(n) => Node::plain(n.to_string()),
        Value::Float(f) => Node::plain(number::go_float(*f)),
        Value::String(text) => text_node(text),
        Value::List(items) => Node::list(items.iter().map(to_node).collect()),
        Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            order::sort(&mut entries, Dialect::V3);
            Node::map(entries.into_iter().map(|(key, value)| (text_node(key), to_node(value))).collect())
        }
    }
}

/// A text: in double quotes where a YAML 1.1 reader would see a number or a boolean, as a block when it has lines.
pub fn text_node(text: &str) -> Node {
    let plain = resolve(text, Dialect::V3) == Resolved::String && !base60(text) && !old_bool(text);
    let style = match (text.contains('\n'), plain) {
        (true, _) => Style::Literal,
        (false, true) => Style::Plain,
        (false, false) => Style::DoubleQuoted,
    };
    Node { style, ..Node::string(text) }
}

fn old_bool(text: &str) -> bool {
    matches!(resolve(text, Dialect::V2), Resolved::Bool(_))
}
