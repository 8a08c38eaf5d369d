use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::schema::schema;
use crate::objects::resource;

fn writer(manager: &str) -> Writer {
    Writer {
        manager: manager.into(),
        subresource: String::new(),
        api_version: "apps/v1".into(),
        now: "2026-11-20T10:00:00Z".into(),
    }
}

fn shape() -> &'static Shape {
    schema().of(&resource::DEPLOYMENTS)
}

fn applied(live: Option<&Applied>, config: &Value, manager: &str, force: bool) -> Result<Applied> {
    let managers = live.map(|a| a.managers.clone()).unwrap_or_default();
    apply(shape(), live.map(|a| &a.object), config, managers, &writer(manager), force)
}

fn updated(live: &Applied, change: impl Fn(&mut Value), manager: &str) -> Applied {
    let mut object = live.object.clone();
    change(&mut object);
    let managers = update(shape(), Some(&live.object), &object, live.managers.clone(), &writer(manager));
    Applied { object, managers }
}

fn deployment(replicas: Option<u32>, containers: &Value) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "1"}},
        "spec": {"template": {"spec": {"containers": containers}}}});
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

#[test]
fn fields_are_written_as_the_api_writes_them() {
    let config = deployment(Some(2), &json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]));
    let first = applied(None, &config, "me", false).unwrap();
    assert_eq!(
        encode(&first.managers),
        json!([{"manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-11-20T10:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {
                "f:metadata": {"f:labels": {"f:a": {}}},
                "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {},
                    "f:image": {}, "f:name": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}}}])
    );
    let back = decode(&encode(&first.managers)).unwrap();
    assert_eq!(back, first.managers);
}

#[test]
fn a_field_that_is_no_longer_applied_goes() {
    let containers = json!([{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]);
    let first = applied(None, &deployment(Some(2), &containers), "me", false).unwrap();
    let second = applied(Some(&first), &deployment(None, &json!([{"name": "c", "image": "i"}])), "me", false).unwrap();
    assert_eq!(second.object, deployment(None, &json!([{"name": "c", "image": "i"}])));
}

#[test]
fn a_field_that_another_has_too_stays() {
    let containers = json!([{"name": "c", "image": "i"}]);
    let first = applied(None, &deployment(Some(2), &containers), "me", false).unwrap();
    let both = applied(Some(&first), &deployment(Some(2), &json!([])), "you", false).unwrap();
    let left = applied(Some(&both), &deployment(None, &containers), "me", false).unwrap();
    assert_eq!(left.object["spec"]["replicas"], 2);
    let gone = applied(Some(&left), &deployment(None, &json!([])), "you", false).unwrap();
    assert!(gone.object["spec"].get("replicas").is_none());
}

#[test]
fn another_value_is_a_conflict_unless_forced() {
    let first = applied(None, &deployment(Some(2), &json!([{"name": "c", "image": "i"}])), "me", false).unwrap();
    let scaled = updated(&first, |o| o["spec"]["replicas"] = 5.into(), "kubectl");
    let config = deployment(Some(2), &json!([{"name": "c", "image": "i"}]));
    let error = applied(Some(&scaled), &config, "me", false).err().unwrap();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1 at 2026-11-20T10:00:00Z: .spec.replicas"
    );
    assert_eq!(error.status()["details"]["causes"][0]["field"], ".spec.replicas");
    let forced = applied(Some(&scaled), &config, "me", true).unwrap();
    assert_eq!(forced.object["spec"]["replicas"], 2);
    assert_eq!(forced.managers.len(), 1, "who lost the only field is no manager any more");
    let same = applied(Some(&scaled), &deployment(Some(5), &json!([])), "you", false);
    assert!(same.is_ok(), "the same value is shared");
}

#[test]
fn an_item_that_another_extended_keeps_what_is_anothers() {
    let first = applied(None, &deployment(None, &json!([{"name": "c", "image": "i"}])), "me", false).unwrap();
    let extended = deployment(None, &json!([{"name": "c", "env": [{"name": "X", "value": "1"}]}]));
    let both = applied(Some(&first), &extended, "you", false).unwrap();
    let left = applied(Some(&both), &deployment(None, &json!([])), "me", false).unwrap();
    assert_eq!(
        left.object["spec"]["template"]["spec"]["containers"],
        json!([{"name": "c", "env": [{"name": "X", "value": "1"}]}])
    );
}

#[test]
fn items_without_keys_or_twice_are_refused() {
    let error = applied(None, &deployment(None, &json!([{"image": "i"}])), "me", false).err().unwrap();
    assert!(error.to_string().contains("omits key field \"name\""), "{error}");
    let twice = json!([{"name": "c"}, {"name": "c"}]);
    let error = applied(None, &deployment(None, &twice), "me", false).err().unwrap();
    assert!(error.to_string().contains("duplicate entries"), "{error}");
}

#[test]
fn many_updaters_become_one() {
    let mut live = applied(None, &deployment(Some(1), &json!([])), "me", false).unwrap();
    for n in 0..20 {
        let label = |o: &mut Value| o["metadata"]["labels"][format!("l{n}")] = "x".into();
        live = updated(&live, label, &format!("m{n}"));
    }
    assert_eq!(live.managers.iter().filter(|m| m.operation == Operation::Update).count(), 10);
    assert!(live.managers.iter().any(|m| m.manager == "ancient-changes"));
}

fn config() -> impl Strategy<Value = Value> {
    let container = ("[a-c]", proptest::option::of("[0-9]"), proptest::collection::btree_map("[X-Z]", "[0-9]", 0..3));
    let containers = proptest::collection::vec(container, 0..4).prop_map(|list| {
        let mut seen = std::collections::HashSet::new();
        let list = list.into_iter().filter(|(name, ..)| seen.insert(name.clone())).map(|(name, image, env)| {
            let mut container = json!({"name": name});
            if let Some(image) = image {
                container["image"] = image.into();
            }
            if !env.is_empty() {
                container["env"] = env.into_iter().map(|(k, v)| json!({"name": k, "value": v})).collect();
            }
            container
        });
        list.collect::<Value>()
    });
    (proptest::option::of(0..4u32), containers).prop_map(|(replicas, containers)| deployment(replicas, &containers))
}

/// Whether everything in `part` is in `whole`.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(k, v)| whole.get(k).is_some_and(|w| holds(w, v)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|p| whole.iter().any(|w| w["name"] == p["name"] && holds(w, p)))
        }
        (whole, part) => whole == part,
    }
}

proptest! {
    #[test]
    fn applying_again_changes_nothing(a in config(), b in config()) {
        let first = applied(None, &a, "me", false).unwrap();
        let second = applied(Some(&first), &b, "you", true).unwrap();
        let third = applied(Some(&second), &b, "you", false).unwrap();
        prop_assert_eq!(&third.object, &second.object);
        prop_assert_eq!(&third.managers, &second.managers);
    }

    #[test]
    fn what_is_applied_is_there(a in config(), b in config()) {
        let first = applied(None, &a, "me", false).unwrap();
        let second = applied(Some(&first), &b, "you", true).unwrap();
        prop_assert!(holds(&second.object, &b), "{} lacks {}", second.object, b);
    }

    #[test]
    fn a_single_applier_gets_exactly_what_it_says(a in config(), b in config()) {
        let first = applied(None, &a, "me", false).unwrap();
        let second = applied(Some(&first), &b, "me", false).unwrap();
        prop_assert!(holds(&second.object, &b) && holds(&b, &second.object), "{} is not {}", second.object, b);
    }

    #[test]
    fn fields_survive_being_written(a in config()) {
        let first = applied(None, &a, "me", false).unwrap();
        prop_assert_eq!(decode(&encode(&first.managers)).unwrap(), first.managers);
    }
}
