//! Changing objects.

use std::sync::Arc;

use serde_json::Value;
use store::Expect;

use super::{Objects, Resource, meta, modified, resource};
use crate::{Error, Result, api::defaults};

/// Which part of an object a writer may change; the rest stays as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status (where the kind has one).
    Main,
    /// Only the status (and labels, annotations, ownership of fields).
    Status,
    /// Everything: for the node's own controllers.
    All,
}

impl Objects {
    /// Replaces an object but for its status. With a `resourceVersion` in it, only that version.
    pub async fn update(&self, resource: &Resource, object: Value) -> Result<Arc<Value>> {
        self.replace(resource, object, Part::Main, false).await
    }

    /// Replaces an object's status. With a `resourceVersion` in it, only that version.
    pub async fn update_status(&self, resource: &Resource, object: Value) -> Result<Arc<Value>> {
        self.replace(resource, object, Part::Status, false).await
    }

    /// Reads, changes and writes until no other writer came between. Nothing is written when nothing changes. `change` may
    /// run several times.
    pub async fn modify(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value),
    ) -> Result<Arc<Value>> {
        loop {
            let found = self.get(resource, namespace, name)?;
            let mut object = Value::clone(&found);
            change(&mut object);
            if object == *found {
                return Ok(found);
            }
            object["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
            match self.replace(resource, object, Part::All, false).await {
                Err(error) if error.is_conflict() => continue,
                done => return done,
            }
        }
    }

    /// Replaces `part` of an object; with `dry_run` everything but the writing. An object that is being deleted and has lost
    /// its last finalizer is gone afterwards; the answer is then what it was last.
    pub async fn replace(
        &self,
        resource: &Resource,
        mut object: Value,
        part: Part,
        dry_run: bool,
    ) -> Result<Arc<Value>> {
        let name = meta::name(&object).to_owned();
        if resource.namespaced && meta::namespace(&object).is_empty() {
            meta::map_mut(&mut object, "metadata").insert("namespace".into(), "default".into());
        }
        let asked = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        loop {
            let old = self.get(resource, meta::namespace(&object), &name)?;
            if !asked.is_empty() && old["metadata"]["resourceVersion"] != asked.as_str() {
                return Err(modified(resource, &name));
            }
            let uid = meta::uid(&object);
            if !uid.is_empty() && uid != meta::uid(&old) {
                let why =
                    format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(&old));
                return Err(Error::conflict(resource.group, resource.plural, &name, &why));
            }
            let new = merged(resource, &old, std::mem::take(&mut object), part);
            match self.put(resource, &old, new, dry_run).await {
                // Whoever named no version takes whichever is there.
                Err((back, error)) if error.is_conflict() && asked.is_empty() => object = back,
                Err((_, error)) => return Err(error),
                Ok(written) => return Ok(written),
            }
        }
    }

    /// Writes `new` over `old`; gives `new` back with an error.
    async fn put(
        &self,
        resource: &Resource,
        old: &Arc<Value>,
        mut new: Value,
        dry_run: bool,
    ) -> std::result::Result<Arc<Value>, (Value, Error)> {
        defaults::apply(resource, &mut new);
        let _guard = match resource == &resource::SERVICES {
            true => Some(self.shared.allocation.lock().await),
            false => None,
        };
        if resource == &resource::SERVICES
            && let Err(error) = self.keep_addresses(old, &mut new).and_then(|()| self.allocate(&mut new))
        {
            return Err((new, error));
        }
        if resource.generations && spec_changed(old, &new) {
            new["metadata"]["generation"] = (meta::generation(old) + 1).into();
        }
        if same(old, &new) {
            return Ok(old.clone());
        }
        let gone = meta::is_deleting(&new)
            && meta::finalizers(&new).next().is_none()
            && new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
            && (resource != &resource::NAMESPACES || new["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty));
        if dry_run {
            return Ok(Arc::new(new));
        }
        let expect = Expect::Version(meta::resource_version(old));
        match self.append(resource, &new, expect, gone).await {
            Ok(written) => Ok(written),
            Err(error) => Err((new, error)),
        }
    }
}

/// The object that is to be stored when a writer of `part` hands in `new`.
pub(crate) fn merged(resource: &Resource, old: &Value, mut new: Value, part: Part) -> Value {
    if part == Part::Status {
        let mut kept = old.clone();
        kept["status"] = new["status"].take();
        if kept["status"].is_null() {
            meta::map_mut(&mut kept, "status");
        }
        for field in ["labels", "annotations", "managedFields"] {
            if let Some(value) = new["metadata"].get(field) {
                kept["metadata"][field] = value.clone();
            }
        }
        return kept;
    }
    new["apiVersion"] = old["apiVersion"].clone();
    new["kind"] = old["kind"].clone();
    let identity = ["name", "namespace", "uid", "creationTimestamp", "generation", "generateName", "resourceVersion"];
    let deletion = ["deletionTimestamp", "deletionGracePeriodSeconds"];
    let metadata = meta::map_mut(&mut new, "metadata");
    metadata.shift_remove("selfLink");
    let guarded = if part == Part::All { &[][..] } else { &deletion[..] };
    for field in identity.iter().chain(guarded) {
        match old["metadata"].get(*field) {
            Some(value) => metadata.insert((*field).to_owned(), value.clone()),
            None => metadata.shift_remove(*field),
        };
    }
    if part == Part::Main && resource.has_status() {
        match old.get("status") {
            Some(status) => new["status"] = status.clone(),
            None => drop(new.as_object_mut().and_then(|map| map.shift_remove("status"))),
        }
    }
    new
}

/// Whether anything but metadata and status differs.
fn spec_changed(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return true };
    let counts = |key: &&String| !matches!(key.as_str(), "metadata" | "status" | "apiVersion" | "kind");
    old.keys().chain(new.keys()).filter(counts).any(|key| old.get(key) != new.get(key))
}

/// Whether a write would change nothing but the times at which managers last wrote.
fn same(old: &Value, new: &Value) -> bool {
    if old == new {
        return true;
    }
    let timeless = |object: &Value| {
        let mut object = object.clone();
        for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            entry["time"] = Value::Null;
        }
        object
    };
    old["metadata"].get("managedFields").is_some() && timeless(old) == timeless(new)
}
