use super::*;
use proptest::prelude::*;
use serde_json::json;

fn deployment(containers: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": containers}}}})
}

fn strategic(before: &Value, new: &Value, live: &Value) -> Option<Value> {
    match plan("apps", "Deployment", before, new, live, false) {
        Some(Change::Strategic(patch)) => Some(patch),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_to_do() {
    let manifest = deployment(json!([{"name": "a", "image": "a:1"}]));
    let mut live = manifest.clone();
    live["spec"]["replicas"] = 3.into();
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    assert_eq!(strategic(&manifest, &manifest, &live), None);
}

#[test]
fn what_others_set_stays_and_what_is_given_up_goes() {
    let before =
        deployment(json!([{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]));
    let new = deployment(json!([{"name": "a", "image": "a:2"}]));
    // A sidecar that somebody else put in, and a drifted image.
    let live = deployment(json!([
        {"name": "a", "image": "a:9", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}, {"name": "mesh"},
    ]));
    let patch = strategic(&before, &new, &live).unwrap();
    assert_eq!(
        patch["spec"]["template"]["spec"],
        json!({
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "image": "a:2", "env": null}, {"$patch": "delete", "name": "b"}],
        })
    );
}

#[test]
fn a_strategy_keeps_only_its_own_fields() {
    let with = |strategy: Value| json!({"kind": "Deployment", "spec": {"strategy": strategy}});
    let live = with(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}));
    let new = with(json!({"type": "Recreate"}));
    let patch = strategic(&json!({}), &new, &live).unwrap();
    assert_eq!(patch, json!({"spec": {"strategy": {"type": "Recreate", "$retainKeys": ["type"]}}}));
}

#[test]
fn kinds_that_are_not_built_in() {
    let before = json!({"spec": {"size": 1, "list": [1, 2], "old": true}});
    let new = json!({"spec": {"size": 2, "list": [1, 2]}});
    let live = json!({"spec": {"size": 7, "list": [3], "old": true}, "status": {}});
    let patch = |wholly| plan("example.com", "Widget", &before, &new, &live, wholly);
    assert_eq!(patch(false), Some(Change::Merge(json!({"spec": {"size": 2, "old": null}}))));
    assert_eq!(patch(true), Some(Change::Merge(json!({"spec": {"size": 2, "list": [1, 2], "old": null}}))));
    assert_eq!(plan("example.com", "Widget", &new, &new, &live, false), None, "drift in other kinds is left alone");
}

#[test]
fn items_without_a_key_replace_the_list() {
    let ports = |ports: Value| json!({"kind": "Service", "spec": {"ports": ports}});
    let live = ports(json!([{"port": 80, "protocol": "TCP"}]));
    let new = ports(json!([{"name": "odd"}]));
    let Some(Change::Strategic(patch)) = plan("", "Service", &json!({}), &new, &live, false) else { panic!() };
    assert_eq!(patch["spec"]["ports"], json!([{"name": "odd"}, {"$patch": "replace"}]));
}

#[test]
fn numbers_are_numbers() {
    assert!(same(&json!({"a": [1.0]}), &json!({"a": [1]})));
    assert!(!same(&json!(1), &json!(2)) && !same(&json!("1"), &json!(1)));
}

fn env() -> impl Strategy<Value = Value> {
    let item = ("[a-d]", "[x-z]?").prop_map(|(name, value)| json!({"name": name, "value": value}));
    proptest::collection::vec(item, 0..4).prop_map(|mut items| {
        let mut seen = Vec::new();
        items.retain(|item| {
            !seen.contains(&item["name"]) && {
                seen.push(item["name"].clone());
                true
            }
        });
        Value::Array(items)
    })
}

fn manifest() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
    (labels, env(), proptest::option::of(0_i64..3), proptest::collection::vec("[a-c]", 0..3)).prop_map(
        |(labels, env, replicas, args)| {
            let mut container = json!({"name": "c", "env": env});
            if !args.is_empty() {
                container["args"] = json!(args);
            }
            let mut object = deployment(json!([container]));
            object["metadata"]["labels"] = json!(labels);
            if let Some(replicas) = replicas {
                object["spec"]["replicas"] = replicas.into();
            }
            object
        },
    )
}

/// Everything that the manifest says is so in the object.
fn holds(manifest: &Value, object: &Value) -> bool {
    match (manifest, object) {
        (Value::Object(a), Value::Object(b)) => a.iter().all(|(k, v)| b.get(k).is_some_and(|w| holds(v, w))),
        (Value::Array(a), Value::Array(b)) if a.iter().all(|item| item["name"].is_string()) => {
            a.iter().all(|item| b.iter().any(|other| other["name"] == item["name"] && holds(item, other)))
        }
        _ => same(manifest, object),
    }
}

proptest! {
    /// The server of this workspace applies the patch, and then the object is as the new manifest says, without what only
    /// the manifest before said.
    #[test]
    fn applied_patches_give_what_is_wanted(before in manifest(), new in manifest(), drift in manifest()) {
        let mut live = before.clone();
        let resource = node::objects::resource::by_kind("apps/v1", "Deployment").unwrap();
        let shape = node::api::schema::schema().of(resource);
        node::api::patch::strategic(shape, &mut live, drift).unwrap();
        if let Some(patch) = strategic(&before, &new, &live) {
            node::api::patch::strategic(shape, &mut live, patch).unwrap();
        }
        prop_assert!(holds(&new, &live), "{new} is not in {live}");
        for label in before["metadata"]["labels"].as_object().unwrap().keys() {
            let wanted = new["metadata"]["labels"].get(label).is_some();
            prop_assert_eq!(live["metadata"]["labels"].get(label).is_some(), wanted, "label {}", label);
        }
        prop_assert_eq!(strategic(&new, &new, &live), None, "a second time there is nothing to do");
    }
}
