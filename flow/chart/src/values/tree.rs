//! Values while they are put together. Tables are shared on purpose: Helm hands the tables of `global` down by reference, so
//! that what a subchart's defaults add deep inside them is seen by its parent and its siblings too.

use std::collections::BTreeMap;

use template::{List, Map, Text, Value};

/// A tree of its own with this content.
pub(crate) fn plant(value: &yaml::Value) -> Value {
    match value {
        yaml::Value::Null => Value::Nil,
        yaml::Value::Bool(b) => Value::Bool(*b),
        yaml::Value::Int(n) => Value::int64(*n),
        yaml::Value::Uint(n) => Value::Float(*n as f64),
        yaml::Value::Float(f) => Value::Float(*f),
        yaml::Value::String(text) => Value::str(text.as_str()),
        yaml::Value::List(items) => Value::list(items.iter().map(plant).collect()),
        yaml::Value::Map(map) => Value::Map(table(map)),
    }
}

/// A table of its own with this content.
pub(crate) fn table(map: &yaml::Map) -> Map {
    let cells: BTreeMap<Text, Value> = map.iter().map(|(key, value)| (key.as_str().into(), plant(value))).collect();
    cells.into()
}

/// A tree that shares no table with this one.
pub(crate) fn copy(map: &Map) -> Map {
    // The cells are copied as they lie, which costs no comparing of keys.
    let mut cells = map.cells().clone();
    cells.values_mut().for_each(unshare);
    cells.into()
}

fn unshare(value: &mut Value) {
    match value {
        Value::Map(map) => *value = Value::Map(copy(map)),
        Value::List(list) if list.iter().any(|item| matches!(item, Value::Map(_) | Value::List(_))) => {
            let mut items = list.to_vec();
            items.iter_mut().for_each(unshare);
            *value = Value::List(List::of(list.element(), items));
        }
        _ => {}
    }
}

/// The table at a path of keys, or the key at which there is none.
pub(crate) fn lookup(map: &Map, path: &str) -> Result<Map, String> {
    let mut at = map.clone();
    for part in path.split('.') {
        at = match at.get(part) {
            Some(Value::Map(inner)) => inner,
            _ => return Err(part.to_owned()),
        };
    }
    Ok(at)
}

/// The value at a path of keys that is not a table.
pub(crate) fn scalar(map: &Map, path: &str) -> Option<Value> {
    let found = match path.rsplit_once('.') {
        None => map.get(path),
        Some((tables, key)) => lookup(map, tables).ok()?.get(key),
    };
    found.filter(|value| !matches!(value, Value::Map(_)))
}

/// The tree as JSON, keys sorted.
pub(crate) fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(_, n) => (*n).into(),
        Value::Uint(_, n) => (*n).into(),
        Value::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => (*f as i64).into(),
        Value::Float(f) => (*f).into(),
        Value::Str(text) | Value::Bytes(text) => text.to_str().into_owned().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(map) => serde_json::Value::Object(
            map.cells().iter().map(|(key, value)| (key.to_str().into_owned(), json(value))).collect(),
        ),
        Value::Complex(..) | Value::Object(_) => serde_json::Value::Null,
    }
}
