//! Laying what a writer applies onto an object, and taking out what it no longer applies.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{FieldSet, Parts, Step, key_step, parts};
use crate::api::schema::{List, Rule, Shape, schema};
use crate::{Error, Result};

/// `live` with everything in `config` laid onto it.
pub(super) fn merge(shape: &Shape, rule: &Rule, mut live: Value, config: &Value) -> Value {
    let (Parts::Each(after), Parts::Each(_)) = (parts(shape, rule, config), parts(shape, rule, &live)) else {
        return config.clone();
    };
    if let Value::Object(map) = &mut live {
        for part in after {
            let Step::Field(name) = part.step else { continue };
            let merged = match map.get_mut(&name).map(Value::take) {
                Some(old) => merge(part.shape, &part.rule, old, part.value),
                None => part.value.clone(),
            };
            map.insert(name, merged);
        }
        return live;
    }
    // A list: items in the order of `config`; those that only `live` has stay before the ones that they were before.
    let Parts::Each(before) = parts(shape, rule, &live) else { return config.clone() };
    let wanted: Vec<Step> = after.iter().map(|part| part.step.clone()).collect();
    let mut old: Vec<(Step, Value)> = before.into_iter().map(|part| (part.step, part.value.clone())).collect();
    let mut items = Vec::new();
    for part in after {
        if let Some(at) = old.iter().position(|(step, _)| *step == part.step) {
            let (lead, tail) = old.split_at(at);
            items.extend(lead.iter().filter(|(step, _)| !wanted.contains(step)).map(|(_, value)| value.clone()));
            items.push(merge(part.shape, &part.rule, tail[0].1.clone(), part.value));
            let skipped: Vec<_> = lead.iter().filter(|(step, _)| wanted.contains(step)).cloned().collect();
            old = skipped.into_iter().chain(tail[1..].iter().cloned()).collect();
        } else {
            items.push(part.value.clone());
        }
    }
    items.extend(old.into_iter().filter(|(step, _)| !wanted.contains(step)).map(|(_, value)| value));
    Value::Array(items)
}

/// Takes the fields in `last` that nobody owns out of `value`.
pub(super) fn prune(shape: &Shape, rule: &Rule, value: &mut Value, last: &FieldSet, owned: &FieldSet) {
    let nothing = FieldSet::default();
    let mut gone = Vec::new();
    let mut inner: BTreeMap<Step, (Shape, Rule, Value)> = BTreeMap::new();
    let Parts::Each(each) = parts(shape, rule, value) else { return };
    for part in each {
        let Some(last) = last.children.get(&part.step) else { continue };
        let owned = owned.children.get(&part.step).unwrap_or(&nothing);
        if owned.is_empty() {
            gone.push(part.step);
        } else if !last.children.is_empty() {
            let mut value = part.value.clone();
            prune(part.shape, &part.rule, &mut value, last, owned);
            inner.insert(part.step, (part.shape.clone(), part.rule, value));
        }
    }
    match value {
        Value::Object(map) => {
            for step in gone {
                if let Step::Field(name) = step {
                    map.shift_remove(&name);
                }
            }
            for (step, (_, _, value)) in inner {
                if let Step::Field(name) = step {
                    map.insert(name, value);
                }
            }
        }
        Value::Array(list) => {
            let step = |item: &Value| match rule.list {
                List::Map(keys) => key_step(keys, item),
                List::Set => Some(Step::Value(item.to_string())),
                List::Atomic => None,
            };
            list.retain(|item| step(item).is_none_or(|step| !gone.contains(&step)));
            for item in list {
                if let Some((_, _, value)) = step(item).and_then(|step| inner.remove(&step)) {
                    *item = value;
                }
            }
        }
        _ => {}
    }
}

/// Refuses lists whose items lack their keys or come twice.
pub(super) fn check_keys(shape: &Shape, rule: &Rule, value: &Value, path: &mut String) -> Result<()> {
    let (resolved, ..) = schema().resolve(shape);
    if let (Shape::List(_), Value::Array(list), false) = (resolved, value, rule.list == List::Atomic) {
        let mut seen = std::collections::HashSet::new();
        for (at, item) in list.iter().enumerate() {
            let key = match rule.list {
                List::Map(keys) => key_step(keys, item).ok_or_else(|| {
                    let missing = keys.iter().find(|key| key.default.is_none() && item.get(key.field).is_none());
                    let missing = missing.map_or("", |key| key.field);
                    Error::bad_request(format!(
                        "failed to create typed patch object: errors:\n  {path}: element {at}: associative list with keys has \
                         an element that omits key field {missing:?}"
                    ))
                })?,
                _ => Step::Value(item.to_string()),
            };
            if !seen.insert(format!("{key:?}")) {
                return Err(Error::bad_request(format!(
                    "failed to create typed patch object: errors:\n  {path}: element {at}: duplicate entries for key {item}"
                )));
            }
        }
    }
    if let Parts::Each(each) = parts(shape, rule, value) {
        for part in each {
            let length = path.len();
            match &part.step {
                Step::Field(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Step::Key(key) | Step::Value(key) => path.push_str(&format!("[{key}]")),
                Step::Index(at) => path.push_str(&format!("[{at}]")),
            }
            check_keys(part.shape, &part.rule, part.value, path)?;
            path.truncate(length);
        }
    }
    Ok(())
}
