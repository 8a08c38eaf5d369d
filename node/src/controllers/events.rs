//! Events are kept for an hour.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Controller, typed};
use crate::Result;
use crate::objects::{DeleteOptions, Objects, Resource, resource};

const KEPT: SignedDuration = SignedDuration::from_hours(1);

pub struct OldEvents {
    objects: Objects,
}

impl OldEvents {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }
}

/// When an event last happened.
fn last(event: &Value) -> Option<Timestamp> {
    let fields = [&event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
    fields.into_iter().find_map(|field| field.as_str()?.parse().ok())
}

#[async_trait]
impl Controller for OldEvents {
    fn name(&self) -> &'static str {
        "events"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        vec![&resource::EVENTS]
    }

    fn keys(&self, _: &'static Resource, object: &Value) -> Vec<String> {
        vec![typed::key_of(object)]
    }

    async fn reconcile(&self, key: &str) -> Result<Option<Duration>> {
        let Some(event) = typed::at_key(&self.objects, &resource::EVENTS, key) else { return Ok(None) };
        let age = last(&event).map_or(KEPT, |last| self.objects.now().duration_since(last));
        if age < KEPT {
            return Ok(Some((KEPT - age).unsigned_abs()));
        }
        let (namespace, name) = typed::split(key);
        match self.objects.delete(&resource::EVENTS, namespace, name, &DeleteOptions::default()).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(None),
        }
    }
}
