//! From values to the text that skaffold prints of them.

use yaml::{Layout, Map, Node, Value};

use crate::{
    decode::zero,
    schema::{self, Type, Version},
};

/// A configuration of the newest version, as `skaffold diagnose` prints it.
pub(crate) fn text(config: &Value) -> String {
    let root = node(config, &Type::Struct("SkaffoldConfig"));
    yaml::print(&root, &Layout { indent: 2, compact: false })
}

fn node(value: &Value, of: &Type) -> Node {
    match (of, value) {
        (_, Value::Null) => Node::plain("null"),
        (Type::Maybe(inner), value) => node(value, inner),
        (Type::Struct(name), value) => {
            let empty = Map::new();
            let map = value.as_map().unwrap_or(&empty);
            // These two print themselves by way of a map without order.
            if matches!(*name, "KanikoArtifact" | "ClusterDetails") {
                return yaml::to_node(&written(map, name));
            }
            let mut entries = Vec::new();
            struct_entries(map, name, &mut entries);
            Node::map(entries)
        }
        (Type::List(inner), Value::List(items)) => Node::list(items.iter().map(|item| node(item, inner)).collect()),
        (_, value) => yaml::to_node(value),
    }
}

fn struct_entries(map: &Map, of: &str, entries: &mut Vec<(Node, Node)>) {
    for field in schema::fields(of).iter().filter(|field| field.in_version(Version::newest())) {
        match (&field.of, map.get(field.name)) {
            (Type::Struct(inner), _) if field.inline() => struct_entries(map, inner, entries),
            (of, Some(value)) => entries.push((yaml::text_node(field.name), node(value, of))),
            (of, None) if field.always => entries.push((yaml::text_node(field.name), node(&zero(of), of))),
            _ => {}
        }
    }
}

/// A struct with all that is always written, as one value.
fn written(map: &Map, of: &str) -> Value {
    let mut out = Map::new();
    for field in schema::fields(of).iter().filter(|field| field.in_version(Version::newest())) {
        match map.get(field.name) {
            Some(found) => out.insert(field.name.to_owned(), whole(found, &field.of)),
            None if field.always => out.insert(field.name.to_owned(), zero(&field.of)),
            None => None,
        };
    }
    Value::Map(out)
}

fn whole(value: &Value, of: &Type) -> Value {
    match (of, value) {
        (_, Value::Null) => Value::Null,
        (Type::Maybe(inner), other) => whole(other, inner),
        (Type::Struct(name), Value::Map(map)) => written(map, name),
        (Type::List(inner), Value::List(items)) => Value::List(items.iter().map(|item| whole(item, inner)).collect()),
        (_, other) => other.clone(),
    }
}
