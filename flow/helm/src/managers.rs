//! Who owns which fields, when a release goes over from patches of the client to server-side apply: what the client wrote
//! under its name becomes what it applied, so that a field that the next manifest gives up goes away.

use serde_json::{Map, Value, json};

/// The JSON patch that does so, with the version of the object it is for; nothing when there is nothing to take over.
pub fn take_over(object: &Value, manager: &str) -> Option<Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let own = |entry: &Value, operation: &str| {
        entry["manager"] == manager
            && entry["operation"] == operation
            && entry["subresource"].as_str().unwrap_or("").is_empty()
    };
    if !entries.iter().any(|entry| own(entry, "Update")) {
        return None;
    }
    let first = entries
        .iter()
        .find(|entry| own(entry, "Apply"))
        .or_else(|| entries.iter().find(|entry| own(entry, "Update")))?;
    let mut taken = first.clone();
    taken["operation"] = "Apply".into();
    for entry in entries.iter().filter(|entry| own(entry, "Update") && entry["apiVersion"] == first["apiVersion"]) {
        if let (Value::Object(into), Value::Object(from)) = (&mut taken["fieldsV1"], &entry["fieldsV1"]) {
            unite(into, from);
        }
    }
    let mut kept: Vec<Value> = vec![taken];
    kept.extend(entries.iter().filter(|entry| !own(entry, "Update") && !own(entry, "Apply")).cloned());
    Some(json!([
        { "op": "replace", "path": "/metadata/managedFields", "value": kept },
        { "op": "replace", "path": "/metadata/resourceVersion", "value": object["metadata"]["resourceVersion"] },
    ]))
}

fn unite(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => unite(inner, value),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn updates_become_applied() {
        let object = json!({"metadata": {"resourceVersion": "7", "managedFields": [
            entry("other", "Update", json!({"f:x": {}})),
            entry("helm", "Apply", json!({"f:data": {"f:a": {}}})),
            entry("helm", "Update", json!({"f:data": {"f:b": {}}})),
        ]}});
        let patch = take_over(&object, "helm").unwrap();
        let fields = patch[0]["value"].as_array().unwrap();
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[0], entry("helm", "Apply", json!({"f:data": {"f:a": {}, "f:b": {}}})));
        assert_eq!(patch[1]["value"], "7");
    }

    #[test]
    fn nothing_to_take_over() {
        assert_eq!(take_over(&json!({"metadata": {}}), "helm"), None);
        let applied = json!({"metadata": {"managedFields": [entry("helm", "Apply", json!({}))]}});
        assert_eq!(take_over(&applied, "helm"), None);
    }
}
