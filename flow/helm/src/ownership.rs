//! Which release an object belongs to: a label and two annotations.

use serde_json::{Map, Value};

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const HELM: &str = "Helm";
const RELEASE_NAME: &str = "meta.helm.sh/release-name";
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// Objects with this annotation and the value `keep` are not deleted.
pub const POLICY: &str = "helm.sh/resource-policy";

/// Marks an object as the release's.
pub fn stamp(object: &mut Value, release: &str, namespace: &str) {
    set(object, "labels", MANAGED_BY, HELM);
    set(object, "annotations", RELEASE_NAME, release);
    set(object, "annotations", RELEASE_NAMESPACE, namespace);
}

fn set(object: &mut Value, field: &str, key: &str, value: &str) {
    if !object.is_object() {
        return;
    }
    for place in ["/metadata", &format!("/metadata/{field}")] {
        let (parent, name) = place.rsplit_once('/').unwrap_or(("", place));
        if let Some(Value::Object(parent)) = object.pointer_mut(parent)
            && !parent.get(name).is_some_and(Value::is_object)
        {
            parent.insert(name.to_owned(), Value::Object(Map::new()));
        }
    }
    object["metadata"][field][key] = value.into();
}

/// Whether an object in the cluster is the release's; otherwise what is wrong, in Helm's words.
pub fn check(object: &Value, release: &str, namespace: &str) -> Result<(), String> {
    let metadata = &object["metadata"];
    let wrong: Vec<String> = [
        ("label", &metadata["labels"], MANAGED_BY, HELM),
        ("annotation", &metadata["annotations"], RELEASE_NAME, release),
        ("annotation", &metadata["annotations"], RELEASE_NAMESPACE, namespace),
    ]
    .into_iter()
    .filter_map(|(what, at, key, wanted)| match at[key].as_str() {
        Some(have) if have == wanted => None,
        Some(have) => {
            Some(format!("{what} validation error: key {key:?} must equal {wanted:?}: current value is {have:?}"))
        }
        None => Some(format!("{what} validation error: missing key {key:?}: must be set to {wanted:?}")),
    })
    .collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("invalid ownership metadata; {}", wrong.join("; "))) }
}

/// Whether an object stays when its release goes.
pub fn kept(annotation: Option<&str>) -> bool {
    annotation.is_some_and(|policy| policy.trim().eq_ignore_ascii_case("keep"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stamped_passes() {
        let mut object = json!({"kind": "ConfigMap", "metadata": {"name": "a", "labels": null}});
        stamp(&mut object, "web", "shop");
        assert_eq!(check(&object, "web", "shop"), Ok(()));
        let wrong = check(&object, "web", "other").unwrap_err();
        assert_eq!(
            wrong,
            "invalid ownership metadata; annotation validation error: key \"meta.helm.sh/release-namespace\" must equal \"other\": current value is \"shop\""
        );
    }

    #[test]
    fn what_nobody_stamped_is_nobodys() {
        let wrong = check(&json!({"metadata": {"name": "a"}}), "web", "shop").unwrap_err();
        assert_eq!(wrong.matches("missing key").count(), 3, "{wrong}");
        stamp(&mut json!("no object"), "web", "shop");
        assert!(kept(Some(" Keep ")) && !kept(Some("delete")) && !kept(None));
    }
}
