//! What a release no longer has, off the cluster.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, PartialObjectMeta, Preconditions},
    discovery::{ApiResource, Scope, verbs},
};
use records::labels::RELEASE;
use rollout::{ClusterError, ObjectRef};

use super::{answered, session::Session, shown};

/// Requests at the same time.
const PARALLEL: usize = 8;
/// What controllers make, never a release; there can be very many of them.
const MADE_BY_CONTROLLERS: [(&str, &str); 6] = [
    ("", "events"),
    ("events.k8s.io", "events"),
    ("", "endpoints"),
    ("discovery.k8s.io", "endpointslices"),
    ("apps", "controllerrevisions"),
    ("coordination.k8s.io", "leases"),
];

/// Deletes the objects of the namespace that were applied by a release, have all these labels and are not to be kept.
pub(super) async fn prune(
    session: &Session,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    keep: &[ObjectRef],
) -> Result<(), ClusterError> {
    // A kind may be served in several versions and groups; what an object is called stays.
    let keep: BTreeSet<(&str, &str)> = keep.iter().map(|keep| (keep.kind.as_str(), keep.name.as_str())).collect();
    let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let selector = ListParams::default().labels(&selector.join(","));
    let kinds = session.kinds().await?;
    let resources = kinds.groups().flat_map(|group| group.recommended_resources());
    let resources: Vec<ApiResource> = resources
        .filter(|(_, can)| can.scope == Scope::Namespaced)
        .filter(|(_, can)| can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE))
        .map(|(resource, _)| resource)
        .filter(|resource| !MADE_BY_CONTROLLERS.contains(&(resource.group.as_str(), resource.plural.as_str())))
        .collect();
    let of_kind = |resource: ApiResource| {
        let (keep, selector) = (&keep, &selector);
        async move {
            let api: Api<DynamicObject> = Api::namespaced_with(session.client.clone(), namespace, &resource);
            let what = format!("the {} of namespace {namespace}", resource.plural);
            let listed = match answered(api.list_metadata(selector)).await {
                Ok(listed) => listed,
                // What may not be listed was not applied either.
                Err(failed) if matches!(failed.code(), Some(403..=405)) => return Ok(()),
                Err(failed) => return Err(failed.into_cluster_error(&what)),
            };
            for found in listed.items {
                if goes(&found.metadata, &resource.kind, keep) {
                    delete(&api, &resource.kind, namespace, &found).await?;
                }
            }
            Ok(())
        }
    };
    stream::iter(resources).map(of_kind).buffer_unordered(PARALLEL).try_collect().await
}

/// Whether an object with the labels of the environment is one that a release applied and that is not wanted any more.
fn goes(metadata: &ObjectMeta, kind: &str, keep: &BTreeSet<(&str, &str)>) -> bool {
    let name = metadata.name.as_deref().unwrap_or_default();
    // Controllers copy labels, and some copy annotations, but what they make is owned.
    let owned = metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    let applied = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(RELEASE));
    applied && !owned && metadata.deletion_timestamp.is_none() && !name.is_empty() && !keep.contains(&(kind, name))
}

async fn delete(
    api: &Api<DynamicObject>,
    kind: &str,
    namespace: &str,
    found: &PartialObjectMeta<DynamicObject>,
) -> Result<(), ClusterError> {
    let name = found.name_any();
    // Only the one that was seen, should another have its name by now.
    let preconditions = Preconditions { uid: found.uid(), resource_version: None };
    match answered(api.delete(&name, &DeleteParams::background().preconditions(preconditions))).await {
        Ok(_) => {
            tracing::info!(object = shown(kind, Some(namespace), &name), "deleted, since the release no longer has it");
            Ok(())
        }
        Err(failed) if matches!(failed.code(), Some(404 | 409)) => Ok(()),
        Err(failed) => Err(failed.into_cluster_error(&shown(kind, Some(namespace), &name))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_a_release_applied_goes() {
        let goes = |metadata: Value| {
            let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap();
            goes(&metadata, "ConfigMap", &BTreeSet::from([("ConfigMap", "kept"), ("Secret", "other")]))
        };
        let applied = json!({"shipway.dev/release": "journal/prod/1"});
        assert!(goes(json!({"name": "other", "annotations": applied})));
        assert!(!goes(json!({"name": "kept", "annotations": applied})));
        assert!(!goes(json!({"name": "by-hand"})));
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1", "controller": true}]);
        assert!(!goes(json!({"name": "owned", "annotations": applied, "ownerReferences": owner})));
        assert!(!goes(json!({"name": "going", "annotations": applied, "deletionTimestamp": "2026-01-01T00:00:00Z"})));
    }
}
