//! Namespaces: what each has from the start, and how everything in one goes with it.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Controller, typed};
use crate::Result;
use crate::objects::{DeleteOptions, Objects, Resource, Scope, meta, resource};

const ROOT_CA: &str = "kube-root-ca.crt";
const ACCOUNT: &str = "default";

pub struct Namespaces {
    objects: Objects,
    /// PEM.
    root_ca: String,
}

impl Namespaces {
    pub fn new(objects: Objects, root_ca: String) -> Self {
        Self { objects, root_ca }
    }

    async fn furnish(&self, namespace: &str) -> Result<()> {
        if self.objects.find(&resource::SERVICE_ACCOUNTS, namespace, ACCOUNT).is_none() {
            let account = json!({"metadata": {"name": ACCOUNT, "namespace": namespace}});
            ignore_exists(self.objects.create(&resource::SERVICE_ACCOUNTS, account).await)?;
        }
        let data = json!({"ca.crt": self.root_ca});
        match self.objects.find(&resource::CONFIG_MAPS, namespace, ROOT_CA) {
            Some(found) if found["data"] == data => {}
            Some(_) => {
                let modify = self.objects.modify(&resource::CONFIG_MAPS, namespace, ROOT_CA, |map| map["data"] = data.clone());
                modify.await?;
            }
            None => {
                let map = json!({"metadata": {"name": ROOT_CA, "namespace": namespace}, "data": data});
                ignore_exists(self.objects.create(&resource::CONFIG_MAPS, map).await)?;
            }
        }
        Ok(())
    }

    /// Deletes what is in the namespace; how many objects are still there.
    async fn empty(&self, namespace: &str) -> Result<usize> {
        let kinds = resource::ALL.iter().filter(|kind| kind.namespaced && kind.stored_as.is_none());
        let mut left = 0;
        for kind in kinds {
            let (objects, _) = self.objects.list(kind, &Scope::namespace(namespace));
            let options = DeleteOptions::default();
            let deletions = objects.iter().filter(|object| !meta::is_deleting(object)).map(|object| {
                self.objects.delete(kind, namespace, meta::name(object), &options)
            });
            for outcome in futures::future::join_all(deletions).await {
                match outcome {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
            let (objects, _) = self.objects.list(kind, &Scope::namespace(namespace));
            left += objects.len();
        }
        Ok(left)
    }
}

fn ignore_exists<T>(outcome: Result<T>) -> Result<()> {
    match outcome {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

#[async_trait]
impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        vec![&resource::NAMESPACES, &resource::PODS, &resource::SERVICE_ACCOUNTS, &resource::CONFIG_MAPS]
    }

    fn keys(&self, resource: &'static Resource, object: &Value) -> Vec<String> {
        if resource == &resource::NAMESPACES {
            return vec![meta::name(object).to_owned()];
        }
        let own = matches!(meta::name(object), ROOT_CA | ACCOUNT) && resource != &resource::PODS;
        let namespace = meta::namespace(object);
        let going = || self.objects.find(&resource::NAMESPACES, "", namespace).is_some_and(|ns| meta::is_deleting(&ns));
        if own || going() { vec![namespace.to_owned()] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &str) -> Result<Option<Duration>> {
        let Some(namespace) = typed::at_key(&self.objects, &resource::NAMESPACES, key) else { return Ok(None) };
        if !meta::is_deleting(&namespace) {
            self.furnish(key).await?;
            return Ok(None);
        }
        if self.empty(key).await? > 0 {
            return Ok(Some(Duration::from_millis(250)));
        }
        let finished = self.objects.modify(&resource::NAMESPACES, "", key, |namespace| {
            namespace["spec"]["finalizers"] = json!([]);
        });
        match finished.await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(None),
        }
    }
}
