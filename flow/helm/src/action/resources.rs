//! What lives of a release, for its status.

use futures::FutureExt;
use serde_json::Value;

use super::Helm;
use crate::{Error, apply::each, build::build, cluster::segment};

/// The objects as rows for people.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

impl Helm {
    /// The live objects of a revision by `VERSION/KIND`, and the pods that its workloads select; each as the cluster's own
    /// table if asked for. What is not there is left out.
    pub async fn resources(
        &self,
        record: &chart::release::Record,
        table: bool,
    ) -> Result<Vec<(String, Vec<Value>)>, Error> {
        // A kind may be gone from the cluster; the rest of the status is still of use.
        let objects = match build(&self.cluster, &record.manifest, &record.namespace).await {
            Ok(objects) => objects,
            Err(error @ Error::Unreachable(_)) => return Err(error),
            Err(error) => {
                self.warn(error.to_string());
                return Ok(Vec::new());
            }
        };
        let accept = if table { TABLE } else { "application/json" };
        let mut groups: Vec<(String, Vec<Value>)> = Vec::new();
        let mut add = |kind: String, value: Value| match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, all)) => all.push(value),
            None => groups.push((kind, vec![value])),
        };
        let find = |object: &crate::build::Object| {
            let path = object.path();
            async move { self.cluster.get_as(&path, accept).await.ok() }.boxed()
        };
        let found = each(&objects, find).await;
        let mut selectors: Vec<(String, String)> = Vec::new();
        for (object, live) in objects.iter().zip(found) {
            let Some(live) = live else { continue };
            add(format!("{}/{}", object.resource.version, object.kind()), live);
            let at = match object.kind() {
                "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => "/spec/selector/matchLabels",
                "ReplicationController" => "/spec/selector",
                _ => continue,
            };
            let labels = object.value.pointer(at).and_then(Value::as_object).into_iter().flatten();
            let labels: Vec<String> =
                labels.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?))).collect();
            let selector = (object.namespace.clone().unwrap_or_default(), labels.join(","));
            if !labels.is_empty() && !selectors.contains(&selector) {
                selectors.push(selector);
            }
        }
        for (namespace, selector) in selectors {
            let (namespace, selector) = (segment(&namespace), segment(&selector));
            let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
            let Ok(pods) = self.cluster.get_as(&path, accept).await else { continue };
            if table {
                add("v1/Pod(related)".to_owned(), pods);
            } else {
                for pod in pods["items"].as_array().into_iter().flatten() {
                    add("v1/Pod(related)".to_owned(), pod.clone());
                }
            }
        }
        Ok(groups)
    }
}
