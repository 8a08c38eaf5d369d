//! Changing every text of a kind in a configuration: paths, and texts that hold templates.

use yaml::{Map, Value};

use crate::schema::{self, Field, Type, Version};

/// Calls `change` with the name of the field and the text, for every text (alone, in a list or in a map) of the fields that
/// `chosen` picks. What is behind a chosen field is not looked into further.
pub(crate) fn texts<E>(
    map: &mut Map,
    of: &str,
    chosen: &dyn Fn(&Field) -> bool,
    change: &mut dyn FnMut(&str, &mut String) -> Result<(), E>,
) -> Result<(), E> {
    for field in schema::fields(of).iter().filter(|field| field.in_version(Version::newest())) {
        if let (true, Type::Struct(inner)) = (field.inline(), &field.of) {
            texts(map, inner, chosen, change)?;
            continue;
        }
        let Some(value) = map.get_mut(field.name) else { continue };
        if chosen(field) { leaves(field.name, value, change)? } else { inside(value, &field.of, chosen, change)? }
    }
    Ok(())
}

fn inside<E>(
    value: &mut Value,
    of: &Type,
    chosen: &dyn Fn(&Field) -> bool,
    change: &mut dyn FnMut(&str, &mut String) -> Result<(), E>,
) -> Result<(), E> {
    match (of, value) {
        (Type::Maybe(of), value) => inside(value, of, chosen, change),
        (Type::Struct(name), Value::Map(map)) => texts(map, name, chosen, change),
        (Type::List(of), Value::List(items)) => items.iter_mut().try_for_each(|item| inside(item, of, chosen, change)),
        _ => Ok(()),
    }
}

fn leaves<E>(
    name: &str,
    value: &mut Value,
    change: &mut dyn FnMut(&str, &mut String) -> Result<(), E>,
) -> Result<(), E> {
    match value {
        Value::String(text) => change(name, text),
        Value::List(items) => items.iter_mut().try_for_each(|item| leaves(name, item, change)),
        Value::Map(map) => map.values_mut().try_for_each(|item| leaves(name, item, change)),
        _ => Ok(()),
    }
}

/// Makes every path of a configuration absolute.
pub(crate) fn absolute(config: &mut Map, base: &str) {
    let done: Result<(), std::convert::Infallible> =
        texts(config, "SkaffoldConfig", &|field| field.path, &mut |_, text| {
            if !text.is_empty() && !text.starts_with('/') {
                *text = kustomize::path::join(base, text);
            }
            Ok(())
        });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
}
