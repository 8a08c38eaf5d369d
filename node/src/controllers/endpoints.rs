//! Where a Service's traffic goes, written down as EndpointSlices and, for older clients, as Endpoints.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::Value;

use super::{Controller, typed};
use crate::Result;
use crate::objects::{DeleteOptions, LabelSelector, Objects, Resource, Scope, meta, resource};

pub mod plan;

pub struct Slices {
    objects: Objects,
}

impl Slices {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    async fn put(&self, kind: &'static Resource, wanted: Value) -> Result<()> {
        let (namespace, name) = (meta::namespace(&wanted).to_owned(), meta::name(&wanted).to_owned());
        if self.objects.find(kind, &namespace, &name).is_none() {
            match self.objects.create(kind, wanted.clone()).await {
                Err(error) if error.is_already_exists() => {}
                // The namespace is going, and everything in it.
                Err(error) if error.is_not_found() || error.code() == 403 => return Ok(()),
                done => return done.map(drop),
            }
        }
        let modified = self.objects.modify(kind, &namespace, &name, |object| {
            for field in ["endpoints", "ports", "subsets", "addressType"] {
                match wanted.get(field) {
                    Some(value) => object[field] = value.clone(),
                    None => drop(object.as_object_mut().and_then(|map| map.shift_remove(field))),
                }
            }
            for field in ["labels", "ownerReferences"] {
                if let Some(value) = wanted["metadata"].get(field) {
                    object["metadata"][field] = value.clone();
                }
            }
        });
        match modified.await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn remove(&self, kind: &'static Resource, namespace: &str, name: &str) -> Result<()> {
        match self.objects.delete(kind, namespace, name, &DeleteOptions::default()).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// The slices of a Service that this controller made.
    fn made(&self, namespace: &str, service: &str) -> Vec<String> {
        let labels = serde_json::json!({plan::SERVICE_NAME: service, plan::MANAGED_BY: plan::MANAGER});
        let scope = Scope::namespace(namespace).labels(LabelSelector::from_map(&labels));
        let (slices, _) = self.objects.list(&resource::ENDPOINT_SLICES, &scope);
        slices.iter().map(|slice| meta::name(slice).to_owned()).collect()
    }
}

#[async_trait]
impl Controller for Slices {
    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        vec![&resource::SERVICES, &resource::PODS, &resource::ENDPOINT_SLICES, &resource::ENDPOINTS]
    }

    fn keys(&self, resource: &'static Resource, object: &Value) -> Vec<String> {
        let namespace = meta::namespace(object);
        if resource == &resource::PODS {
            // Also a Service that selected the pod before its labels changed: its slice still names the pod.
            let (services, _) = self.objects.list(&resource::SERVICES, &Scope::namespace(namespace));
            let concerned = services.iter().filter(|service| service["spec"]["selector"].is_object());
            return concerned.map(|service| typed::key_of(service)).collect();
        }
        if resource == &resource::ENDPOINT_SLICES {
            let ours = meta::label(object, plan::MANAGED_BY) == Some(plan::MANAGER);
            let service = meta::label(object, plan::SERVICE_NAME).filter(|_| ours);
            return service.map(|service| format!("{namespace}/{service}")).into_iter().collect();
        }
        vec![typed::key_of(object)]
    }

    async fn reconcile(&self, key: &str) -> Result<Option<Duration>> {
        let (namespace, name) = typed::split(key);
        let object = self.objects.find(&resource::SERVICES, namespace, name).filter(|s| !meta::is_deleting(s));
        let service = object.as_ref().and_then(|object| typed::read::<Service>(object));
        let (Some(object), Some(service)) = (object, service.filter(plan::has_selector)) else {
            for slice in self.made(namespace, name) {
                self.remove(&resource::ENDPOINT_SLICES, namespace, &slice).await?;
            }
            let stale = self.objects.find(&resource::ENDPOINTS, namespace, name);
            if stale.is_some_and(|stale| meta::label(&stale, plan::MANAGED_BY) == Some(plan::MANAGER)) {
                self.remove(&resource::ENDPOINTS, namespace, name).await?;
            }
            return Ok(None);
        };
        let selector = LabelSelector::from_map(&object["spec"]["selector"]);
        let pods: Vec<Pod> = typed::list(&self.objects, &resource::PODS, namespace, |pod| selector.matches(pod));
        let targets = plan::targets(&service, &pods);
        let mut wanted: Vec<(&'static Resource, Value)> = plan::slices(&object, &service, &targets)
            .into_iter()
            .map(|slice| (&resource::ENDPOINT_SLICES, slice))
            .collect();
        let keep: Vec<String> = wanted.iter().map(|(_, slice)| meta::name(slice).to_owned()).collect();
        wanted.push((&resource::ENDPOINTS, plan::endpoints(&object, &service, &targets)));
        let put = futures::future::join_all(wanted.into_iter().map(|(kind, object)| self.put(kind, object)));
        for outcome in put.await {
            outcome?;
        }
        for stale in self.made(namespace, name).into_iter().filter(|name| !keep.contains(name)) {
            self.remove(&resource::ENDPOINT_SLICES, namespace, &stale).await?;
        }
        Ok(None)
    }
}
