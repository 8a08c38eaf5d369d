//! The strategic merge patch: a merge patch in which lists of maps merge item by item, steered by `$patch`, `$retainKeys`,
//! `$setElementOrder/<list>` and `$deleteFromPrimitiveList/<list>`.

use serde_json::{Map, Value};

use crate::api::schema::{Rule, Shape, schema};
use crate::{Error, Result};

/// How deep a patch may be nested.
const DEPTH: usize = 64;
const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to an object of the given shape.
pub fn strategic(shape: &Shape, target: &mut Value, patch: Value) -> Result<()> {
    let Value::Object(patch) = patch else {
        return Err(Error::bad_request("error decoding patch: a strategic merge patch is a JSON object"));
    };
    *target = map(shape, std::mem::take(target), patch, 0)?;
    Ok(())
}

/// The shape and the merge rule of a field.
fn child<'a>(shape: &'a Shape, field: &str) -> (&'a Shape, Option<&'a Rule>) {
    match schema().resolve(shape).0 {
        Shape::Struct(fields) => fields.get(field).map_or((&Shape::Any, None), |f| (&f.shape, Some(&f.rule))),
        Shape::Map(inner) => (inner, None),
        _ => (&Shape::Any, None),
    }
}

fn map(shape: &Shape, original: Value, mut patch: Map<String, Value>, depth: usize) -> Result<Value> {
    if depth > DEPTH {
        return Err(Error::bad_request(format!("the patch is nested deeper than {DEPTH} levels")));
    }
    match patch.shift_remove(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) => match directive.as_str() {
            "replace" => return Ok(Value::Object(patch)),
            "delete" => return Ok(Value::Object(Map::new())),
            "merge" => {}
            other => return Err(Error::bad_request(format!("Unknown patch type found: {other}"))),
        },
        Some(other) => return Err(Error::bad_request(format!("Unknown patch type found: {other}"))),
    }
    let mut original = match original {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    if let Some(retained) = patch.shift_remove(RETAIN) {
        let retained = texts(RETAIN, &retained)?;
        if let Some(extra) = patch.keys().find(|key| !key.starts_with('$') && !retained.contains(key)) {
            return Err(Error::bad_request(format!("the patch sets {extra:?}, which its $retainKeys does not keep")));
        }
        original.retain(|key, _| retained.contains(key));
    }
    let mut orders: Map<String, Value> = Map::new();
    let mut plain: Map<String, Value> = Map::new();
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(ORDER) {
            orders.insert(list.to_owned(), value);
        } else if let Some(list) = key.strip_prefix(DELETE) {
            let Value::Array(gone) = value else {
                return Err(Error::bad_request(format!("{key} must be a list")));
            };
            if let Some(Value::Array(items)) = original.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
        } else {
            plain.insert(key, value);
        }
    }
    for (key, value) in plain {
        let (inner, rule) = child(shape, &key);
        let order = orders.shift_remove(&key);
        let old = original.get_mut(&key).map(Value::take);
        let new = match value {
            Value::Null => {
                original.shift_remove(&key);
                continue;
            }
            Value::Object(patch) => map(inner, old.unwrap_or_default(), patch, depth + 1)?,
            Value::Array(patch) => list(inner, rule, old, patch, order.as_ref(), depth + 1)?,
            scalar => scalar,
        };
        original.insert(key, new);
    }
    // An order without items only moves what is there.
    for (key, order) in orders {
        let (inner, rule) = child(shape, &key);
        if let Some(old @ Value::Array(_)) = original.get_mut(&key).map(Value::take) {
            let moved = list(inner, rule, Some(old), Vec::new(), Some(&order), depth + 1)?;
            original.insert(key, moved);
        }
    }
    Ok(Value::Object(original))
}

fn list(
    shape: &Shape,
    rule: Option<&Rule>,
    old: Option<Value>,
    patch: Vec<Value>,
    order: Option<&Value>,
    depth: usize,
) -> Result<Value> {
    let Some(merge_key) = rule.and_then(|rule| rule.merge_key) else { return Ok(Value::Array(patch)) };
    let original = match old {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let before = original.clone();
    let item_shape = match schema().resolve(shape).0 {
        Shape::List(inner) => inner,
        _ => &Shape::Any,
    };
    let merged = if merge_key.is_empty() {
        let mut merged = original;
        for item in patch {
            if !merged.contains(&item) {
                merged.push(item);
            }
        }
        merged
    } else {
        items(item_shape, merge_key, original, patch, depth)?
    };
    let Some(order) = order else { return Ok(Value::Array(merged)) };
    let Value::Array(order) = order else {
        return Err(Error::bad_request("$setElementOrder must be a list"));
    };
    Ok(Value::Array(ordered(merge_key, merged, order, &before)))
}

/// Merges items that are told apart by `merge_key`.
fn items(
    shape: &Shape,
    merge_key: &str,
    mut merged: Vec<Value>,
    patch: Vec<Value>,
    depth: usize,
) -> Result<Vec<Value>> {
    if patch.iter().any(|item| item[DIRECTIVE] == "replace") {
        return Ok(patch.into_iter().filter(|item| item[DIRECTIVE] != "replace").collect());
    }
    for item in patch {
        let Value::Object(mut item) = item else {
            return Err(Error::bad_request(format!("the patch has {item} in a list of objects")));
        };
        let Some(key) = item.get(merge_key).filter(|key| !key.is_null()).cloned() else {
            let shown = Value::Object(item);
            return Err(Error::bad_request(format!("map: {shown} does not contain declared merge key: {merge_key}")));
        };
        let found = merged.iter().position(|old| old[merge_key] == key);
        if item.get(DIRECTIVE).is_some_and(|d| d == "delete") {
            merged.retain(|old| old[merge_key] != key);
            continue;
        }
        if item.get(DIRECTIVE).is_some_and(|d| d == "merge") {
            item.shift_remove(DIRECTIVE);
        }
        match found {
            Some(at) => merged[at] = map(shape, merged[at].take(), item, depth + 1)?,
            None => merged.push(map(shape, Value::Null, item, depth + 1)?),
        }
    }
    Ok(merged)
}

/// Items in the order that the patch asks for; those that only the server has come before the first one that they were
/// before.
fn ordered(merge_key: &str, merged: Vec<Value>, order: &[Value], before: &[Value]) -> Vec<Value> {
    let key = |item: &Value| if merge_key.is_empty() { item.clone() } else { item[merge_key].clone() };
    let wanted = |item: &Value| order.iter().position(|o| key(o) == key(item));
    let place = |item: &Value| before.iter().position(|b| key(b) == key(item));
    let (mut right, mut left): (Vec<Value>, Vec<Value>) = merged.into_iter().partition(|item| wanted(item).is_some());
    right.sort_by_key(|item| wanted(item));
    left.sort_by_key(|item| place(item));
    let mut from = 0;
    for item in left {
        let own = place(&item);
        let later =
            right[from..].iter().position(|other| place(other).is_some_and(|other| own.is_some_and(|own| own < other)));
        let at = later.map_or(right.len(), |offset| from + offset);
        right.insert(at, item);
        from = at + 1;
    }
    right
}

fn texts(what: &str, value: &Value) -> Result<Vec<String>> {
    let texts =
        value.as_array().map(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
    texts.flatten().ok_or_else(|| Error::bad_request(format!("{what} must be a list of names")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::objects::resource;

    fn patched(mut object: Value, patch: Value) -> Value {
        strategic(schema().of(&resource::DEPLOYMENTS), &mut object, patch).unwrap();
        object
    }

    fn containers(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn lists_merge_by_their_key() {
        let object =
            containers(json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]));
        let patch = containers(json!([{"name": "b", "image": "2"}, {"name": "c", "image": "3"},
            {"name": "a", "env": [{"name": "X", "$patch": "delete"}, {"name": "Y", "value": "2"}]}]));
        let expected = containers(json!([{"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}]},
            {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]));
        assert_eq!(patched(object, patch), expected);
    }

    #[test]
    fn directives() {
        let object = containers(json!([{"name": "a", "args": ["x"]}, {"name": "b"}]));
        let patch = containers(json!([{"$patch": "replace"}, {"name": "c"}]));
        assert_eq!(patched(object.clone(), patch), containers(json!([{"name": "c"}])));
        let patch = containers(json!([{"name": "a", "args": ["y"]}, {"$patch": "delete", "name": "b"}]));
        assert_eq!(patched(object, patch), containers(json!([{"name": "a", "args": ["y"]}])));
        let strategy = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        assert_eq!(patched(strategy.clone(), patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
        let patch = json!({"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}});
        assert_eq!(patched(strategy.clone(), patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
        assert_eq!(patched(strategy, json!({"spec": {"strategy": null}})), json!({"spec": {}}));
    }

    #[test]
    fn order_and_primitive_lists() {
        let object = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d", "a"],
            "$setElementOrder/finalizers": ["d", "a"]}});
        assert_eq!(patched(object, patch), json!({"metadata": {"finalizers": ["d", "a", "c"]}}));
        let object = containers(json!([{"name": "server"}, {"name": "a"}, {"name": "b"}]));
        let patch = json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "x"}]}}}});
        let expected = containers(json!([{"name": "server"}, {"name": "b"}, {"name": "a", "image": "x"}]));
        assert_eq!(patched(object, patch), expected);
    }

    #[test]
    fn an_item_without_its_key_is_refused() {
        let mut object = containers(json!([]));
        let patch = containers(json!([{"image": "x"}]));
        let error = strategic(schema().of(&resource::DEPLOYMENTS), &mut object, patch).unwrap_err();
        assert!(error.to_string().contains("does not contain declared merge key: name"), "{error}");
    }

    fn container() -> impl Strategy<Value = Value> {
        ("[a-e]", "[0-9]{1,2}", proptest::collection::btree_map("[X-Z]", "[0-9]", 0..3)).prop_map(
            |(name, image, env)| {
                let env: Vec<Value> = env.into_iter().map(|(k, v)| json!({"name": k, "value": v})).collect();
                json!({"name": name, "image": image, "env": env})
            },
        )
    }

    fn list_of_containers() -> impl Strategy<Value = Value> {
        proptest::collection::vec(container(), 0..5).prop_map(|list| {
            let mut seen = std::collections::HashSet::new();
            let list: Vec<Value> = list.into_iter().filter(|c| seen.insert(c["name"].clone())).collect();
            containers(list.into())
        })
    }

    proptest! {
        #[test]
        fn patching_twice_changes_nothing_more(object in list_of_containers(), patch in list_of_containers()) {
            let once = patched(object, patch.clone());
            prop_assert_eq!(patched(once.clone(), patch), once);
        }

        #[test]
        fn everything_in_the_patch_is_there_afterwards(object in list_of_containers(), patch in list_of_containers()) {
            let result = patched(object.clone(), patch.clone());
            let list = |v: &Value| v["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
            for wanted in list(&patch) {
                let found = list(&result).into_iter().find(|c| c["name"] == wanted["name"]).unwrap();
                prop_assert_eq!(&found["image"], &wanted["image"]);
            }
            for old in list(&object) {
                prop_assert!(list(&result).iter().any(|c| c["name"] == old["name"]));
            }
        }
    }
}
