//! The two shapes of events: `v1`, in which they are kept, and `events.k8s.io/v1`.

use serde_json::Value;

use crate::objects::{Resource, resource};

/// The field in the stored shape and in the newer one.
const FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>) {
    if let Some(map) = object.as_object_mut() {
        for (from, to) in names {
            if let Some(value) = map.shift_remove(from) {
                map.insert(to.to_owned(), value);
            }
        }
    }
}

/// An object as `resource` shows it.
pub fn shown(resource: &Resource, mut object: Value) -> Value {
    if resource == &resource::EVENTS_V1 {
        rename(&mut object, FIELDS.into_iter());
        object["apiVersion"] = "events.k8s.io/v1".into();
        if object.get("eventTime").is_none() {
            object["eventTime"] = object["deprecatedFirstTimestamp"].clone();
        }
    }
    object
}

/// An object of `resource` as it is kept.
pub fn stored(resource: &Resource, mut object: Value) -> Value {
    if resource == &resource::EVENTS_V1 {
        rename(&mut object, FIELDS.into_iter().map(|(stored, shown)| (shown, stored)));
        object["apiVersion"] = "v1".into();
    }
    object
}

/// A field selector of `resource` in the names in which objects are kept.
pub fn stored_selector(resource: &Resource, selector: &str) -> String {
    if resource == &resource::EVENTS_V1 {
        return selector.replace("regarding.", "involvedObject.").replace("reportingController", "reportingComponent");
    }
    selector.to_owned()
}
