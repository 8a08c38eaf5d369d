//! Leaving out what a version does not have, and what means nothing.

use yaml::{Map, Value};

use crate::schema::{self, Type, Version};

/// Takes out the fields that the version does not know.
pub(crate) fn prune(map: &mut Map, of: &str, version: Version) {
    map.retain(|key, value| match schema::find(of, key, version) {
        Some(field) => {
            inside(value, &field.of, version);
            !empty(value, &field.of)
        }
        None => false,
    });
}

fn inside(value: &mut Value, of: &Type, version: Version) {
    match (of, value) {
        (Type::Maybe(of), value) => inside(value, of, version),
        (Type::Struct(name), Value::Map(map)) => prune(map, name, version),
        (Type::List(of), Value::List(items)) => items.iter_mut().for_each(|item| inside(item, of, version)),
        (Type::Map(of), Value::Map(map)) => map.values_mut().for_each(|value| inside(value, of, version)),
        _ => {}
    }
}

fn empty(value: &Value, of: &Type) -> bool {
    match (of, value) {
        (Type::Maybe(_) | Type::Any, value) => value.is_null(),
        (Type::Port, _) => false,
        (_, Value::Null | Value::Bool(false) | Value::Int(0)) => true,
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::List(items)) => items.is_empty(),
        (_, Value::Map(map)) => map.is_empty(),
        _ => false,
    }
}
