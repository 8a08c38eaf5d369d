//! Deployments: versions of a template, replaced by rolling over or by recreating.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{Controller, pods, replicaset, typed};
use crate::Result;
use crate::objects::events::Notice;
use crate::objects::{DeleteOptions, LabelSelector, Objects, Propagation, Resource, Scope, meta, resource};

pub mod plan;
pub mod rolling;
pub mod status;
pub mod template;

use plan::{Action, Owned};

pub struct Deployments {
    objects: Objects,
}

impl Deployments {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    /// The ReplicaSets that the Deployment controls, with the counts of their pods as they are now: their own status may lag.
    fn owned(&self, deployment: &Value, min_ready: i32) -> (Vec<Owned>, Option<Duration>) {
        let (sets, _) = self.objects.list(&resource::REPLICA_SETS, &Scope::namespace(meta::namespace(deployment)));
        let mut soonest = None::<Duration>;
        let uid = meta::uid(deployment);
        let owned = sets.into_iter().filter(|set| typed::controlled_by(set, uid)).filter_map(|set| {
            let pods: Vec<Pod> = typed::list(&self.objects, &resource::PODS, meta::namespace(&set), |pod| {
                typed::controlled_by(pod, meta::uid(&set))
            });
            let (counts, available_in) = pods::count(&pods, min_ready, self.objects.now());
            soonest = soonest.into_iter().chain(available_in).min();
            Owned::new(set, counts)
        });
        let owned = owned.collect();
        (owned, soonest)
    }

    async fn adopt(&self, deployment: &Value) -> Result<()> {
        let selector = LabelSelector::from_object(&deployment["spec"]["selector"])?;
        let namespace = meta::namespace(deployment);
        let (sets, _) = self.objects.list(&resource::REPLICA_SETS, &Scope::namespace(namespace).labels(selector));
        for set in sets.iter().filter(|set| meta::controller(set).is_none() && !meta::is_deleting(set)) {
            let reference = meta::controller_reference(&resource::DEPLOYMENTS, deployment);
            replicaset::adopt(&self.objects, &resource::REPLICA_SETS, namespace, meta::name(set), reference).await?;
        }
        Ok(())
    }

    async fn act(&self, deployment: &Value, action: Action) -> Result<()> {
        let namespace = meta::namespace(deployment);
        let done = match action {
            Action::CreateSet(set) => {
                let (name, replicas) = (meta::name(&set).to_owned(), set["spec"]["replicas"].clone());
                let created = self.objects.create(&resource::REPLICA_SETS, *set).await;
                if created.is_ok() {
                    self.scaled(deployment, format!("Scaled up replica set {name} from 0 to {replicas}"));
                }
                created.map(drop)
            }
            Action::ChangeSet { name, replicas, before, annotations, min_ready_seconds } => {
                let changed = self.objects.modify(&resource::REPLICA_SETS, namespace, &name, |set| {
                    set["spec"]["replicas"] = replicas.into();
                    set["spec"]["minReadySeconds"] = min_ready_seconds.into();
                    if !set["metadata"].is_object() {
                        return;
                    }
                    let known = meta::map_mut(&mut set["metadata"], "annotations");
                    for (key, value) in &annotations {
                        known.insert(key.clone(), value.as_str().into());
                    }
                });
                let changed = changed.await;
                if changed.is_ok() && replicas != before {
                    let way = if replicas > before { "up" } else { "down" };
                    self.scaled(deployment, format!("Scaled {way} replica set {name} from {before} to {replicas}"));
                }
                changed.map(drop)
            }
            Action::DeleteSet { name } => {
                let options = DeleteOptions::propagation(Propagation::Background);
                self.objects.delete(&resource::REPLICA_SETS, namespace, &name, &options).await.map(drop)
            }
            // Written together with the status.
            Action::Revision(_) => Ok(()),
        };
        match done {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    fn scaled(&self, deployment: &Value, message: String) {
        let component = "deployment-controller";
        let (kind, reason) = ("Normal", "ScalingReplicaSet");
        self.objects.notice(deployment, Notice { kind, reason, message, component, field: String::new() });
    }
}

#[async_trait]
impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        vec![&resource::DEPLOYMENTS, &resource::REPLICA_SETS, &resource::PODS]
    }

    fn keys(&self, resource: &'static Resource, object: &Value) -> Vec<String> {
        if resource == &resource::PODS {
            let sets = replicaset::owner_keys(resource, object, &resource::REPLICA_SETS);
            let sets = sets.iter().filter_map(|key| typed::at_key(&self.objects, &resource::REPLICA_SETS, key));
            return sets
                .flat_map(|set| replicaset::owner_keys(&resource::REPLICA_SETS, &set, &resource::DEPLOYMENTS))
                .collect();
        }
        replicaset::owner_keys(resource, object, &resource::DEPLOYMENTS)
    }

    async fn reconcile(&self, key: &str) -> Result<Option<Duration>> {
        let Some(object) = typed::at_key(&self.objects, &resource::DEPLOYMENTS, key) else { return Ok(None) };
        let Some(deployment) = typed::read::<Deployment>(&object) else { return Ok(None) };
        if !meta::is_deleting(&object) {
            self.adopt(&object).await?;
        }
        let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        let (owned, available_in) = self.owned(&object, min_ready);
        let plan = plan::plan(&object, &deployment, &owned, available_in, self.objects.now());
        let revision = plan.actions.iter().find_map(|action| match action {
            Action::Revision(revision) => Some(revision.to_string()),
            _ => None,
        });
        let status = typed::write(&plan.status)?;
        for outcome in futures::future::join_all(plan.actions.into_iter().map(|a| self.act(&object, a))).await {
            outcome?;
        }
        let (namespace, name) = typed::split(key);
        let written = self.objects.modify(&resource::DEPLOYMENTS, namespace, name, |object| {
            object["status"] = status.clone();
            if let Some(revision) = &revision
                && object["metadata"].is_object()
            {
                let annotations = meta::map_mut(&mut object["metadata"], "annotations");
                annotations.insert(plan::REVISION.into(), revision.as_str().into());
            }
        });
        match written.await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(plan.again),
        }
    }
}
