//! Objects as Kubernetes types.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::objects::{Objects, Resource, Scope};
use crate::{Error, Result};

/// The object as a type; `None`, said in the log, when it does not have the type's shape.
pub fn read<K: DeserializeOwned>(object: &Value) -> Option<K> {
    match K::deserialize(object) {
        Ok(typed) => Some(typed),
        Err(error) => {
            let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
            tracing::warn!(%kind, %name, %error, "an object does not have the shape of its kind; it is passed over");
            None
        }
    }
}

pub fn find<K: DeserializeOwned>(objects: &Objects, resource: &Resource, namespace: &str, name: &str) -> Option<K> {
    read(&*objects.find(resource, namespace, name)?)
}

/// All objects of a kind in a namespace (everywhere, when it is empty) for which `wanted` holds.
pub fn list<K: DeserializeOwned>(
    objects: &Objects,
    resource: &Resource,
    namespace: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Vec<K> {
    let scope = if namespace.is_empty() { Scope::all() } else { Scope::namespace(namespace) };
    let (all, _) = objects.list(resource, &scope);
    all.iter().filter(|object| wanted(object)).filter_map(|object| read(object)).collect()
}

pub fn write<K: Serialize>(typed: &K) -> Result<Value> {
    serde_json::to_value(typed).map_err(|e| Error::caused("cannot write an object as JSON", e))
}

/// The object at `key` (`<namespace>/<name>` or `<name>`).
pub fn at_key(objects: &Objects, resource: &Resource, key: &str) -> Option<Arc<Value>> {
    let (namespace, name) = split(key);
    objects.find(resource, namespace, name)
}

/// Namespace and name of a key; the namespace is empty for kinds without one.
pub fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// `<namespace>/<name>` of an object.
pub fn key_of(object: &Value) -> String {
    let (namespace, name) = (crate::objects::meta::namespace(object), crate::objects::meta::name(object));
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    Some(meta.annotations.as_ref()?.get(key)?.as_str())
}

pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    Some(meta.labels.as_ref()?.get(key)?.as_str())
}

/// The reference to the controller that manages the object.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the controller with this uid manages the object.
pub fn controlled_by(object: &Value, uid: &str) -> bool {
    crate::objects::meta::controller(object).is_some_and(|owner| owner["uid"] == uid)
}

/// A time as objects hold it: whole seconds.
pub fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
