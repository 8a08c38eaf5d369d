//! Jobs: pods that run to their end, as many as must succeed.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Controller, replicaset, typed};
use crate::Result;
use crate::objects::events::Notice;
use crate::objects::{DeleteOptions, Objects, Propagation, Resource, meta, resource};

pub mod plan;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";

pub struct Jobs {
    objects: Objects,
}

impl Jobs {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    /// A new Job gets a selector that nothing else has, and its pods' labels. True when something was missing.
    async fn complete_spec(&self, job: &Value) -> Result<bool> {
        let manual = job["spec"]["manualSelector"] == true;
        if manual || job["spec"]["selector"]["matchLabels"].is_object() {
            return Ok(false);
        }
        let (uid, name) = (meta::uid(job), meta::name(job));
        self.objects
            .modify(&resource::JOBS, meta::namespace(job), name, |job| {
                job["spec"]["selector"] = json!({"matchLabels": {UID_LABEL: uid}});
                let template = meta::map_mut(&mut job["spec"], "template");
                let metadata = template.entry("metadata").or_insert_with(|| json!({}));
                let labels = meta::map_mut(metadata, "labels");
                for (label, value) in
                    [(UID_LABEL, uid), (NAME_LABEL, name), ("controller-uid", uid), ("job-name", name)]
                {
                    labels.insert(label.into(), value.into());
                }
            })
            .await?;
        Ok(true)
    }

    fn say(&self, job: &Value, kind: &str, reason: &str, message: String) {
        let component = "job-controller";
        self.objects.notice(job, Notice { kind, reason, message, component, field: String::new() });
    }
}

#[async_trait]
impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        vec![&resource::JOBS, &resource::PODS]
    }

    fn keys(&self, resource: &'static Resource, object: &Value) -> Vec<String> {
        replicaset::owner_keys(resource, object, &resource::JOBS)
    }

    async fn reconcile(&self, key: &str) -> Result<Option<Duration>> {
        let Some(object) = typed::at_key(&self.objects, &resource::JOBS, key) else { return Ok(None) };
        if !meta::is_deleting(&object) && self.complete_spec(&object).await? {
            // The change brings it back.
            return Ok(None);
        }
        let Some(job) = typed::read::<Job>(&object) else { return Ok(None) };
        let (namespace, name) = typed::split(key);
        let uid = meta::uid(&object);
        let pods: Vec<Pod> =
            typed::list(&self.objects, &resource::PODS, namespace, |pod| typed::controlled_by(pod, uid));
        let plan = plan::plan(&job, &pods, self.objects.now());
        if plan.expired {
            let options = DeleteOptions::propagation(Propagation::Background);
            return match self.objects.delete(&resource::JOBS, namespace, name, &options).await {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok(None),
            };
        }
        // The verdict is written before pods are deleted: a finished Job makes no others.
        let status = typed::write(&plan.status)?;
        let written = self.objects.modify(&resource::JOBS, namespace, name, |job| job["status"] = status.clone()).await;
        match written {
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if let Some((kind, reason, message)) = &plan.verdict {
            self.say(&object, kind, reason, message.clone());
        }
        let object = &object;
        let created = futures::future::join_all(plan.create.iter().map(|index| async move {
            let mut pod = replicaset::pod_of(&resource::JOBS, object, &object["spec"]["template"]);
            if let Some(index) = index {
                plan::give_index(&mut pod, name, *index);
            }
            let pod = self.objects.create(&resource::PODS, pod).await?;
            self.say(object, "Normal", "SuccessfulCreate", format!("Created pod: {}", meta::name(&pod)));
            Ok(())
        }));
        let deleted = futures::future::join_all(plan.delete.iter().map(|(pod, uid)| async move {
            let options = DeleteOptions { uid: Some(uid.clone()), ..Default::default() };
            match self.objects.delete(&resource::PODS, namespace, pod, &options).await {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok(()),
            }
        }));
        let (created, deleted) = futures::join!(created, deleted);
        for outcome in created.into_iter().chain(deleted) {
            outcome?;
        }
        Ok(plan.again)
    }
}
