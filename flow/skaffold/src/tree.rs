//! Reaching into values.

use yaml::{Map, Value};

/// The map under a key, made when there is none.
pub(crate) fn map_under<'m>(map: &'m mut Map, key: &str) -> &'m mut Map {
    let value = map.entry(key.to_owned()).or_default();
    if !matches!(value, Value::Map(_)) {
        *value = Value::Map(Map::new());
    }
    match value {
        Value::Map(map) => map,
        // The line above made it one.
        _ => unreachable!("a map was just put there"),
    }
}

/// The map at a path, when there is one.
pub(crate) fn map_at<'m>(map: &'m mut Map, path: &[&str]) -> Option<&'m mut Map> {
    path.iter().try_fold(map, |map, key| map.get_mut(*key)?.as_map_mut())
}

/// The maps in the list at a path.
pub(crate) fn maps_in<'m>(map: &'m mut Map, path: &[&str]) -> Vec<&'m mut Map> {
    let Some((last, above)) = path.split_last() else { return Vec::new() };
    match map_at(map, above).and_then(|map| map.get_mut(*last)) {
        Some(Value::List(items)) => items.iter_mut().filter_map(Value::as_map_mut).collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn text<'m>(map: &'m Map, key: &str) -> &'m str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Moves what is under a key to another, over what is there.
pub(crate) fn rename(map: &mut Map, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

/// A list of texts; empty when there is none.
pub(crate) fn texts(map: &Map, key: &str) -> Vec<String> {
    let items = map.get(key).and_then(Value::as_list).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Adds the items of one list to those of another.
pub(crate) fn extend(to: &mut Map, from: &Map, key: &str) {
    if let Some(Value::List(more)) = from.get(key) {
        match to.get_mut(key) {
            Some(Value::List(items)) => items.extend(more.iter().cloned()),
            _ => {
                to.insert(key.to_owned(), Value::List(more.clone()));
            }
        }
    }
}
