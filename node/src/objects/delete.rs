//! Deleting objects: at once, after a grace period, or when the last finalizer is gone.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};
use store::Expect;

use super::{Objects, Resource, meta, modified, resource};
use crate::{Error, Result};

/// What becomes of the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How to delete. The default asks for what the kind does by itself.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Only the object with this uid.
    pub uid: Option<String>,
    /// Only this version.
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    /// Seconds that a pod has to stop.
    pub grace: Option<i64>,
    pub dry_run: bool,
}

impl DeleteOptions {
    pub fn propagation(propagation: Propagation) -> Self {
        Self { propagation: Some(propagation), ..Self::default() }
    }

    pub fn grace(seconds: i64) -> Self {
        Self { grace: Some(seconds), ..Self::default() }
    }
}

/// What a deletion came to.
#[derive(Debug, Clone)]
pub enum Deleted {
    /// The object is gone; this is what it was last.
    Gone(Arc<Value>),
    /// The object is marked and goes when its grace period is over and its finalizers are gone.
    Marked(Arc<Value>),
}

impl Deleted {
    pub fn object(&self) -> &Arc<Value> {
        match self {
            Self::Gone(object) | Self::Marked(object) => object,
        }
    }
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

impl Objects {
    /// Deletes an object, or marks it for deletion.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted> {
        loop {
            let old = self.get(resource, namespace, name)?;
            check(resource, &old, options)?;
            let marked = self.marked(resource, &old, options);
            let gone = meta::finalizers(&marked).next().is_none()
                && marked["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
                && resource != &resource::NAMESPACES;
            if options.dry_run {
                let object = Arc::new(marked);
                return Ok(if gone { Deleted::Gone(object) } else { Deleted::Marked(object) });
            }
            if !gone && marked == *old {
                return Ok(Deleted::Marked(old));
            }
            // What watchers see last is the object without the marks that were never stored.
            let last = if gone && !meta::is_deleting(&old) { Value::clone(&old) } else { marked };
            let expect = Expect::Version(meta::resource_version(&old));
            match self.append(resource, &last, expect, gone).await {
                Ok(object) if gone => return Ok(Deleted::Gone(object)),
                Ok(object) => return Ok(Deleted::Marked(object)),
                Err(error) if error.is_conflict() && options.resource_version.is_none() => continue,
                Err(error) => return Err(error),
            }
        }
    }

    /// The object with the marks of a deletion that `options` asks for.
    fn marked(&self, resource: &Resource, old: &Value, options: &DeleteOptions) -> Value {
        let mut new = old.clone();
        let grace = grace(resource, old, options);
        let before = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
        // A second request may only shorten the time.
        if !meta::is_deleting(old) || before.is_none_or(|before| grace < before) {
            let at = self.now() + SignedDuration::from_secs(grace);
            if !meta::is_deleting(old) || resource == &resource::PODS {
                new["metadata"]["deletionTimestamp"] = meta::time(at).into();
            }
            new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        }
        if resource.generations && !meta::is_deleting(old) {
            new["metadata"]["generation"] = (meta::generation(old) + 1).into();
        }
        let propagation = options.propagation.unwrap_or_else(|| by_itself(resource, old));
        let mut finalizers: Vec<&str> = meta::finalizers(old).filter(|f| ![ORPHAN, FOREGROUND].contains(f)).collect();
        match propagation {
            Propagation::Foreground => finalizers.push(FOREGROUND),
            Propagation::Orphan => finalizers.push(ORPHAN),
            Propagation::Background => {}
        }
        if finalizers.is_empty() {
            meta::map_mut(&mut new, "metadata").shift_remove("finalizers");
        } else {
            new["metadata"]["finalizers"] = json!(finalizers);
        }
        if resource == &resource::NAMESPACES {
            new["status"]["phase"] = "Terminating".into();
        }
        new
    }
}

/// What deletion does to owned objects when nobody says.
fn by_itself(resource: &Resource, old: &Value) -> Propagation {
    if meta::finalizers(old).any(|f| f == FOREGROUND) {
        Propagation::Foreground
    } else if meta::finalizers(old).any(|f| f == ORPHAN) || resource == &resource::JOBS {
        Propagation::Orphan
    } else {
        Propagation::Background
    }
}

/// The seconds that an object has to end by itself: only pods that run somewhere have any.
fn grace(resource: &Resource, old: &Value, options: &DeleteOptions) -> i64 {
    let ended = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let placed = old["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if resource != &resource::PODS || !placed || ended {
        return 0;
    }
    let own = || old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    match options.grace.unwrap_or_else(own) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn check(resource: &Resource, old: &Value, options: &DeleteOptions) -> Result<()> {
    let name = meta::name(old);
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(old)) {
        let found = meta::uid(old);
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
        return Err(Error::conflict(resource.group, resource.plural, name, &why));
    }
    match options.resource_version.as_deref() {
        Some(version) if old["metadata"]["resourceVersion"] != version => Err(modified(resource, name)),
        _ => Ok(()),
    }
}
