//! Pod templates: when two are the same, and the short hash that names one.

use serde_json::{Map, Value};

pub const HASH_LABEL: &str = "pod-template-hash";

const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The template without what does not count: the hash label, nulls, empty maps of labels and annotations.
pub fn canonical(template: &Value) -> Value {
    let mut plain = without_nulls(template);
    if let Some(metadata) = plain.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.shift_remove(HASH_LABEL);
        }
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    let metadata_is_empty = plain.get("metadata").and_then(Value::as_object).is_some_and(Map::is_empty);
    if metadata_is_empty && let Some(map) = plain.as_object_mut() {
        map.shift_remove("metadata");
    }
    plain
}

/// Keys in order, so that equal templates print equally.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by_key(|(key, _)| *key);
            Value::Object(fields.into_iter().map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

pub fn same(a: &Value, b: &Value) -> bool {
    canonical(a) == canonical(b)
}

/// A short name for a template: FNV-1a over its canonical form, in letters that spell no words. `collisions` counts how often
/// another template had the same name.
pub fn hash(template: &Value, collisions: i32) -> String {
    let mut text = canonical(template).to_string();
    if collisions > 0 {
        text.push_str(&collisions.to_string());
    }
    let sum = text.bytes().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    sum.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hash_label_nulls_and_the_order_of_keys_do_not_count() {
        let a = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"x": 1, "y": 2}});
        let b = json!({"spec": {"y": 2, "x": 1, "z": null},
            "metadata": {"creationTimestamp": null, "annotations": {}, "labels": {"pod-template-hash": "q", "app": "a"}}});
        assert!(same(&a, &b));
        assert_eq!(hash(&a, 0), hash(&b, 0));
        let c = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"x": 1, "y": 3}});
        assert!(!same(&a, &c));
        assert_ne!(hash(&a, 0), hash(&c, 0));
        assert_ne!(hash(&a, 0), hash(&a, 1));
    }
}
