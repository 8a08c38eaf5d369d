//! What to change in an object that is there: from the manifest before, the new one, and what lives in the cluster.
//!
//! What the new manifest says and the cluster does not is set; what the manifest before said and the new one does not is
//! taken away; what neither says (defaults, other people's fields) stays. Built-in kinds get a strategic merge patch, whose
//! lists merge by the keys in [`rules`]; others get a JSON merge patch from the old manifest to the new.

mod rules;

use serde_json::{Map, Value};

use rules::{Rule, Type};

/// A patch and its kind; nothing when there is nothing to change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `application/strategic-merge-patch+json`
    Strategic(Value),
    /// `application/merge-patch+json`
    Merge(Value),
}

/// The patch for an object. `group` and `kind` are the object's; `wholly` takes the live state into account for kinds that
/// are not built in too, as is needed when an object is adopted.
pub fn plan(group: &str, kind: &str, before: &Value, new: &Value, live: &Value, wholly: bool) -> Option<Change> {
    let patch = if rules::built_in(group) {
        return object(before, new, live, Type::Root(kind), false).map(Change::Strategic);
    } else if wholly {
        merge(before, new, live)
    } else {
        merge(before, new, before)
    };
    patch.map(Change::Merge)
}

fn fields(value: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

/// RFC 7396: lists as a whole, null takes away.
fn merge(before: &Value, new: &Value, live: &Value) -> Option<Value> {
    let (before, live) = (fields(before), fields(live));
    let mut patch = Map::new();
    for (key, value) in fields(new) {
        match (value, live.get(key)) {
            (value, Some(have)) if same(value, have) => {}
            (Value::Object(_), Some(have @ Value::Object(_))) => {
                if let Some(inner) = merge(before.get(key).unwrap_or(&Value::Null), value, have) {
                    patch.insert(key.clone(), inner);
                }
            }
            (value, _) => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    remove(before, new, live, &mut patch);
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn remove(before: &Map<String, Value>, new: &Value, live: &Map<String, Value>, patch: &mut Map<String, Value>) {
    for key in before.keys() {
        if !fields(new).contains_key(key) && live.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
}

/// The strategic merge patch of a map of this type.
fn object(before: &Value, new: &Value, live: &Value, at: Type<'_>, retain: bool) -> Option<Value> {
    let (old, have) = (fields(before), fields(live));
    let mut patch = Map::new();
    for (key, value) in fields(new) {
        let (inner, rule) = at.field(key);
        let was = old.get(key).unwrap_or(&Value::Null);
        match (value, have.get(key)) {
            // An empty map asks for nothing; a null of what is not there neither.
            (Value::Null, None) => {}
            (Value::Object(_), Some(live @ Value::Object(_))) => {
                if rule == Rule::Replace {
                    if !same(value, live) {
                        let mut whole = fields(value).clone();
                        whole.insert("$patch".to_owned(), "replace".into());
                        patch.insert(key.clone(), Value::Object(whole));
                    }
                } else if let Some(change) = object(was, value, live, inner, rule == Rule::RetainKeys) {
                    patch.insert(key.clone(), change);
                }
            }
            (Value::Array(wanted), Some(Value::Array(live))) => {
                let was = was.as_array().map(Vec::as_slice).unwrap_or_default();
                list(key, rule, inner, was, wanted, live, &mut patch);
            }
            (value, Some(live)) if same(value, live) => {}
            (value, _) => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    remove(old, new, have, &mut patch);
    if patch.is_empty() {
        return None;
    }
    if retain {
        let keys = fields(new).keys().map(|key| Value::from(key.as_str())).collect();
        patch.insert("$retainKeys".to_owned(), Value::Array(keys));
    }
    Some(Value::Object(patch))
}

fn list(
    key: &str,
    rule: Rule,
    inner: Type<'_>,
    before: &[Value],
    new: &[Value],
    live: &[Value],
    patch: &mut Map<String, Value>,
) {
    match rule {
        Rule::Set => {
            let added: Vec<Value> = new.iter().filter(|item| !live.contains(item)).cloned().collect();
            let gone = |item: &&Value| !new.contains(item) && live.contains(item);
            let removed: Vec<Value> = before.iter().filter(gone).cloned().collect();
            if !removed.is_empty() {
                patch.insert(format!("$deleteFromPrimitiveList/{key}"), Value::Array(removed.clone()));
            }
            if !added.is_empty() || !removed.is_empty() {
                patch.insert(format!("$setElementOrder/{key}"), Value::Array(new.to_vec()));
            }
            if !added.is_empty() {
                patch.insert(key.to_owned(), Value::Array(added));
            }
        }
        Rule::ByKey { name, retain } if keyed(new, name) && keyed(live, name) => {
            let find = |items: &[Value], id: &Value| items.iter().find(|item| same(&item[name], id)).cloned();
            let mut changes = Vec::new();
            for item in new {
                let Some(have) = find(live, &item[name]) else {
                    changes.push(item.clone());
                    continue;
                };
                let was = find(before, &item[name]).unwrap_or(Value::Null);
                if let Some(Value::Object(mut change)) = object(&was, item, &have, inner, retain) {
                    change.insert(name.to_owned(), item[name].clone());
                    changes.push(Value::Object(change));
                }
            }
            for item in before {
                let id = &item[name];
                if !id.is_null() && find(new, id).is_none() && find(live, id).is_some() {
                    changes.push(serde_json::json!({ "$patch": "delete", name: id }));
                }
            }
            let order: Vec<&Value> = new.iter().map(|item| &item[name]).collect();
            let wanted = |item: &&Value| order.iter().any(|id| same(id, &item[name]));
            let ordered = live.iter().filter(wanted).map(|item| &item[name]).eq(order.iter().copied());
            if !changes.is_empty() || !ordered {
                let order: Vec<Value> = order.into_iter().map(|id| serde_json::json!({ name: id })).collect();
                patch.insert(format!("$setElementOrder/{key}"), Value::Array(order));
            }
            if !changes.is_empty() {
                patch.insert(key.to_owned(), Value::Array(changes));
            }
        }
        _ if same_list(new, live) => {}
        // The whole list: no key to tell the items apart by, or an item that lacks it.
        _ => {
            let mut whole = new.to_vec();
            if matches!(rule, Rule::ByKey { .. }) {
                whole.push(serde_json::json!({ "$patch": "replace" }));
            }
            patch.insert(key.to_owned(), Value::Array(whole));
        }
    }
}

/// Every item is a map with the key, and no two have the same.
fn keyed(items: &[Value], name: &str) -> bool {
    let ids: Vec<&Value> = items.iter().map(|item| &item[name]).collect();
    ids.iter().enumerate().all(|(at, id)| !id.is_null() && !ids[..at].iter().any(|other| same(other, id)))
}

fn same_list(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// Equal, where 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64() && x.is_f64() != y.is_f64(),
        (Value::Array(x), Value::Array(y)) => same_list(x, y),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, value)| y.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;
