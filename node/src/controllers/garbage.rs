//! Objects go when their last owner goes; owners that are deleted in the foreground wait for what they own.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Controller, typed};
use crate::Result;
use crate::objects::{DeleteOptions, Objects, Propagation, Resource, Scope, meta, resource};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

pub struct Garbage {
    objects: Objects,
}

impl Garbage {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    /// The owner that a reference means: `None` when its kind is not known here.
    fn owner(&self, object: &Value, reference: &Value) -> Option<Owner> {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let kind = resource::by_kind(text("apiVersion"), text("kind"))?;
        let namespace = if kind.namespaced { meta::namespace(object) } else { "" };
        let found = self.objects.find(kind, namespace, text("name"));
        let alive = found.is_some_and(|found| meta::uid(&found) == text("uid"));
        Some(Owner { kind, key: kind.key(namespace, text("name")), alive })
    }

    fn dependents(&self, owner: &Value) -> Vec<(&'static Resource, std::sync::Arc<Value>)> {
        let (uid, namespace) = (meta::uid(owner), meta::namespace(owner));
        let scope = if namespace.is_empty() { Scope::all() } else { Scope::namespace(namespace) };
        let mut found = Vec::new();
        for kind in resource::ALL.iter().copied().filter(|kind| kind.stored_as.is_none()) {
            if !namespace.is_empty() && !kind.namespaced {
                continue;
            }
            let (objects, _) = self.objects.list(kind, &scope);
            let owned = |object: &Value| meta::owner_references(object).any(|owner| owner["uid"] == uid);
            found.extend(objects.into_iter().filter(|object| owned(object)).map(|object| (kind, object)));
        }
        found
    }

    async fn delete(&self, kind: &Resource, object: &Value, propagation: Propagation) -> Result<()> {
        let uid = Some(meta::uid(object).to_owned());
        let options = DeleteOptions { uid, propagation: Some(propagation), ..Default::default() };
        match self.objects.delete(kind, meta::namespace(object), meta::name(object), &options).await {
            // Another object of the same name has come meanwhile, or it went by itself.
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    async fn drop_finalizer(&self, kind: &Resource, object: &Value, finalizer: &str) -> Result<()> {
        let done = self.objects.modify(kind, meta::namespace(object), meta::name(object), |object| {
            if let Some(all) = object["metadata"].get_mut("finalizers").and_then(Value::as_array_mut) {
                all.retain(|known| known != finalizer);
            }
        });
        match done.await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn disown(&self, owner: &Value) -> Result<()> {
        let uid = meta::uid(owner);
        for (kind, object) in self.dependents(owner) {
            let done = self.objects.modify(kind, meta::namespace(&object), meta::name(&object), |object| {
                if let Some(owners) = object["metadata"].get_mut("ownerReferences").and_then(Value::as_array_mut) {
                    owners.retain(|owner| owner["uid"] != uid);
                }
            });
            match done.await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

struct Owner {
    kind: &'static Resource,
    key: String,
    alive: bool,
}

fn key(kind: &Resource, key: &str) -> String {
    format!("{}/{}|{key}", kind.api_version(), kind.kind)
}

fn parse(text: &str) -> Option<(&'static Resource, &str)> {
    let (kind, key) = text.split_once('|')?;
    let (api_version, kind) = kind.rsplit_once('/')?;
    Some((resource::by_kind(api_version, kind)?, key))
}

#[async_trait]
impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "garbage"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        let owned = |kind: &Resource| kind.stored_as.is_none() && ![&resource::EVENTS, &resource::LEASES].contains(&kind);
        resource::ALL.iter().copied().filter(|kind| owned(kind)).collect()
    }

    fn keys(&self, resource: &'static Resource, object: &Value) -> Vec<String> {
        let own = typed::key_of(object);
        let now = typed::at_key(&self.objects, resource, &own).filter(|now| meta::uid(now) == meta::uid(object));
        let owners = meta::owner_references(object).filter_map(|reference| self.owner(object, reference));
        let mut keys: Vec<String> = Vec::new();
        match now {
            Some(now) => {
                let concerned = meta::owner_references(&now).next().is_some()
                    || (meta::is_deleting(&now) && meta::finalizers(&now).any(|f| f == ORPHAN || f == FOREGROUND));
                if concerned {
                    keys.push(key(resource, &own));
                }
            }
            // It is gone: its owners may be waiting for that, and what it owned goes too.
            None => {
                keys.extend(owners.filter(|owner| owner.alive).map(|owner| key(owner.kind, &owner.key)));
                let dependents = self.dependents(object);
                keys.extend(dependents.iter().map(|(kind, object)| key(kind, &typed::key_of(object))));
            }
        }
        keys
    }

    async fn reconcile(&self, text: &str) -> Result<Option<Duration>> {
        let Some((kind, at)) = parse(text) else { return Ok(None) };
        let Some(object) = typed::at_key(&self.objects, kind, at) else { return Ok(None) };
        if meta::is_deleting(&object) {
            if meta::finalizers(&object).any(|finalizer| finalizer == ORPHAN) {
                self.disown(&object).await?;
                self.drop_finalizer(kind, &object, ORPHAN).await?;
            } else if meta::finalizers(&object).any(|finalizer| finalizer == FOREGROUND) {
                let uid = meta::uid(&object).to_owned();
                let blocking = |dependent: &Value| {
                    let mut owners = meta::owner_references(dependent);
                    owners.any(|owner| owner["uid"] == uid.as_str() && owner["blockOwnerDeletion"] == true)
                };
                let dependents = self.dependents(&object);
                let waiting = dependents.iter().any(|(_, dependent)| blocking(dependent));
                for (kind, dependent) in dependents.iter().filter(|(_, dependent)| !meta::is_deleting(dependent)) {
                    self.delete(kind, dependent, Propagation::Foreground).await?;
                }
                if !waiting {
                    self.drop_finalizer(kind, &object, FOREGROUND).await?;
                } else {
                    return Ok(Some(Duration::from_millis(500)));
                }
            }
            return Ok(None);
        }
        let references: Vec<Value> = meta::owner_references(&object).cloned().collect();
        if references.is_empty() {
            return Ok(None);
        }
        let owners: Vec<(Value, Option<Owner>)> =
            references.into_iter().map(|reference| (reference.clone(), self.owner(&object, &reference))).collect();
        // An owner of an unknown kind counts as there: nothing is deleted on a guess.
        let alive = |owner: &Option<Owner>| owner.as_ref().is_none_or(|owner| owner.alive);
        if owners.iter().all(|(_, owner)| !alive(owner)) {
            self.delete(kind, &object, Propagation::Background).await?;
        } else if owners.iter().any(|(_, owner)| !alive(owner)) {
            let keep: Vec<Value> = owners.iter().filter(|(_, owner)| alive(owner)).map(|(r, _)| r.clone()).collect();
            let done = self.objects.modify(kind, meta::namespace(&object), meta::name(&object), |object| {
                object["metadata"]["ownerReferences"] = json!(keep);
            });
            done.await?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_a_kind_and_an_object() {
        for kind in resource::ALL {
            let text = key(kind, "shop/web");
            let (parsed, at) = parse(&text).expect("a key that was made");
            assert_eq!((parsed.kind, parsed.group, at), (kind.kind, kind.group, "shop/web"));
        }
        assert!(parse("nonsense").is_none());
    }
}
