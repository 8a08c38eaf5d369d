//! The certificate of the node's authority, where every pod of a namespace can mount it.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Controller, typed};
use crate::Result;
use crate::objects::{Objects, Resource, meta, resource};

const NAME: &str = "kube-root-ca.crt";

pub struct RootCa {
    objects: Objects,
    /// PEM.
    certificate: String,
}

impl RootCa {
    pub fn new(objects: Objects, certificate: String) -> Self {
        Self { objects, certificate }
    }
}

#[async_trait]
impl Controller for RootCa {
    fn name(&self) -> &'static str {
        "root-ca"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        vec![&resource::NAMESPACES, &resource::CONFIG_MAPS]
    }

    fn keys(&self, resource: &'static Resource, object: &Value) -> Vec<String> {
        if resource == &resource::NAMESPACES {
            return vec![meta::name(object).to_owned()];
        }
        let own = meta::name(object) == NAME;
        own.then(|| meta::namespace(object).to_owned()).into_iter().collect()
    }

    async fn reconcile(&self, namespace: &str) -> Result<Option<Duration>> {
        let found = typed::at_key(&self.objects, &resource::NAMESPACES, namespace);
        if found.is_none_or(|namespace| meta::is_deleting(&namespace)) {
            return Ok(None);
        }
        let data = json!({"ca.crt": self.certificate});
        match self.objects.find(&resource::CONFIG_MAPS, namespace, NAME) {
            Some(found) if found["data"] == data => {}
            Some(_) => {
                let written =
                    self.objects.modify(&resource::CONFIG_MAPS, namespace, NAME, |map| map["data"] = data.clone());
                written.await?;
            }
            None => {
                let map = json!({"metadata": {"name": NAME, "namespace": namespace}, "data": data});
                match self.objects.create(&resource::CONFIG_MAPS, map).await {
                    Err(error) if !error.is_already_exists() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(None)
    }
}
