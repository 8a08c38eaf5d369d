//! ReplicaSets: as many pods of one template as asked for.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::typed;
use crate::objects::events::Notice;
use crate::objects::{DeleteOptions, LabelSelector, Objects, Resource, meta, resource};
use crate::{Result, controllers::Controller};

pub mod plan;

pub struct ReplicaSets {
    objects: Objects,
}

impl ReplicaSets {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    async fn create_pod(&self, set: &Value) -> Result<()> {
        let pod = pod_of(&resource::REPLICA_SETS, set, &set["spec"]["template"]);
        match self.objects.create(&resource::PODS, pod).await {
            Ok(pod) => {
                let message = format!("Created pod: {}", meta::name(&pod));
                self.say(set, "Normal", "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                self.say(set, "Warning", "FailedCreate", format!("Error creating: {error}"));
                Err(error)
            }
        }
    }

    fn say(&self, set: &Value, kind: &str, reason: &str, message: String) {
        let component = "replicaset-controller";
        self.objects.notice(set, Notice { kind, reason, message, component, field: String::new() });
    }

    /// Makes pods without a controller that the selector takes its own.
    async fn adopt(&self, set: &Value) -> Result<()> {
        let selector = LabelSelector::from_object(&set["spec"]["selector"])?;
        let orphans: Vec<Pod> = typed::list(&self.objects, &resource::PODS, meta::namespace(set), |pod| {
            meta::controller(pod).is_none() && !meta::is_deleting(pod) && selector.matches(pod)
        });
        for orphan in orphans {
            let reference = meta::controller_reference(&resource::REPLICA_SETS, set);
            adopt(&self.objects, &resource::PODS, meta::namespace(set), typed::name(&orphan.metadata), reference)
                .await?;
        }
        Ok(())
    }
}

/// Adds a controller to an object that has none.
pub async fn adopt(objects: &Objects, kind: &Resource, namespace: &str, name: &str, reference: Value) -> Result<()> {
    let adopted = objects.modify(kind, namespace, name, |object| {
        if meta::controller(object).is_none() {
            let metadata = meta::map_mut(object, "metadata");
            match metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
                Some(owners) => owners.push(reference.clone()),
                None => drop(metadata.insert("ownerReferences".into(), json!([reference]))),
            }
        }
    });
    match adopted.await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// A pod made from a template, owned by its controller.
pub fn pod_of(kind: &Resource, owner: &Value, template: &Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": template["spec"]});
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field) {
            pod["metadata"][field] = value.clone();
        }
    }
    pod["metadata"]["namespace"] = meta::namespace(owner).into();
    pod["metadata"]["generateName"] = format!("{}-", meta::name(owner)).into();
    pod["metadata"]["ownerReferences"] = json!([meta::controller_reference(kind, owner)]);
    pod
}

#[async_trait]
impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        vec![&resource::REPLICA_SETS, &resource::PODS]
    }

    fn keys(&self, resource: &'static Resource, object: &Value) -> Vec<String> {
        owner_keys(resource, object, &resource::REPLICA_SETS)
    }

    async fn reconcile(&self, key: &str) -> Result<Option<Duration>> {
        let Some(object) = typed::at_key(&self.objects, &resource::REPLICA_SETS, key) else { return Ok(None) };
        let Some(set) = typed::read::<ReplicaSet>(&object) else { return Ok(None) };
        if !meta::is_deleting(&object) {
            self.adopt(&object).await?;
        }
        let (namespace, uid) = (meta::namespace(&object), meta::uid(&object));
        let pods: Vec<Pod> =
            typed::list(&self.objects, &resource::PODS, namespace, |pod| typed::controlled_by(pod, uid));
        let plan = plan::plan(&set, &pods, self.objects.now());
        let set_object = &object;
        let created = futures::future::join_all((0..plan.create).map(|_| self.create_pod(&object)));
        let deleted = futures::future::join_all(plan.delete.iter().map(|(name, uid)| async move {
            let options = DeleteOptions { uid: Some(uid.clone()), ..Default::default() };
            match self.objects.delete(&resource::PODS, namespace, name, &options).await {
                Err(error) if !error.is_not_found() => Err(error),
                _ => {
                    self.say(set_object, "Normal", "SuccessfulDelete", format!("Deleted pod: {name}"));
                    Ok(())
                }
            }
        }));
        let status = typed::write(&plan.status)?;
        let written = self.objects.modify(&resource::REPLICA_SETS, namespace, meta::name(&object), |object| {
            object["status"] = status.clone();
        });
        let (created, deleted, written) = futures::join!(created, deleted, written);
        for outcome in created.into_iter().chain(deleted) {
            outcome?;
        }
        match written {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(plan.again),
        }
    }
}

/// The key of an object itself, when it is of the kind `own`, else that of its controller of that kind.
pub fn owner_keys(resource: &Resource, object: &Value, own: &Resource) -> Vec<String> {
    if resource == own {
        return vec![typed::key_of(object)];
    }
    let owner = meta::controller(object).filter(|owner| owner["kind"] == own.kind);
    let name = owner.and_then(|owner| owner["name"].as_str());
    name.map(|name| format!("{}/{name}", meta::namespace(object))).into_iter().collect()
}
