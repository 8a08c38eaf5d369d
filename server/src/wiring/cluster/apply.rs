//! Objects onto a cluster, by server-side apply.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::Scope,
};
use rollout::ClusterError;
use serde_json::Value;

use super::{Failed, MESSAGE, answered, failure::tidy, session::Session, shown};

/// Applies all in their order, each whoever else owns its fields; a namespace that is missing is made.
pub(super) async fn apply(session: &Session, objects: &[Value], field_manager: &str) -> Result<(), ClusterError> {
    // Unknown fields are mistakes, and are said rather than dropped.
    let how = PatchParams::apply(field_manager).force().validation_strict();
    for object in objects {
        let mut made = false;
        loop {
            let target = Target::of(session, object).await?;
            let patched = answered(target.api(session).patch(&target.name, &how, &Patch::Apply(&target.object))).await;
            match patched {
                Ok(_) => break,
                // Its namespace or its kind is not there.
                Err(failed) if failed.code() == Some(404) && !made => {
                    made = true;
                    session.forget_kinds().await;
                    if let Some(namespace) = &target.namespace {
                        make_namespace(session, namespace, field_manager).await?;
                    }
                }
                Err(failed) => return Err(failed.into_cluster_error(&target.shown())),
            }
        }
    }
    Ok(())
}

/// An object and where it is put.
struct Target {
    object: Value,
    resource: kube::discovery::ApiResource,
    kind: String,
    namespace: Option<String>,
    name: String,
}

impl Target {
    async fn of(session: &Session, object: &Value) -> Result<Self, ClusterError> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let namespace = Some(text("/metadata/namespace")).filter(|namespace| !namespace.is_empty());
        let rejected =
            |message: String| ClusterError::Rejected { object: shown(&kind, namespace.as_deref(), &name), message };
        if !is_segment(&name) || namespace.as_deref().is_some_and(|namespace| !is_segment(namespace)) {
            return Err(rejected("its name or its namespace cannot be a name".into()));
        }
        let (group, short) = version.rsplit_once('/').unwrap_or(("", &version));
        let found = session.resolve(&GroupVersionKind::gvk(group, short, &kind)).await?;
        let Some((resource, capabilities)) = found else {
            return Err(rejected(tidy(
                &format!("it has no kind {kind} in {version}; is its definition missing?"),
                MESSAGE,
            )));
        };
        let mut object = object.clone();
        let namespace = match capabilities.scope {
            Scope::Namespaced if namespace.is_none() => return Err(rejected("it names no namespace".into())),
            Scope::Namespaced => namespace,
            // Whoever placed it could not know that it stands in none.
            Scope::Cluster => {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.shift_remove("namespace");
                }
                None
            }
        };
        Ok(Self { object, resource, kind, namespace, name })
    }

    fn api(&self, session: &Session) -> Api<DynamicObject> {
        let client = session.client.clone();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.resource),
            None => Api::all_with(client, &self.resource),
        }
    }

    fn shown(&self) -> String {
        shown(&self.kind, self.namespace.as_deref(), &self.name)
    }
}

/// Whether a name can stand in the path of a request as it is.
fn is_segment(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    !name.is_empty() && name.len() <= 253 && name != "." && name != ".." && name.bytes().all(ok)
}

async fn make_namespace(session: &Session, name: &str, field_manager: &str) -> Result<(), ClusterError> {
    let namespace =
        Namespace { metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() }, ..Default::default() };
    let how = PostParams { field_manager: Some(field_manager.to_owned()), ..Default::default() };
    match answered(Api::<Namespace>::all(session.client.clone()).create(&how, &namespace)).await {
        Ok(_) => {
            tracing::info!(namespace = name, "made a namespace");
            Ok(())
        }
        // It is there already.
        Err(Failed::Kube(kube::Error::Api(status))) if status.is_already_exists() => Ok(()),
        Err(failed) => Err(failed.into_cluster_error(&shown("Namespace", None, name))),
    }
}

#[cfg(test)]
mod tests {
    use super::is_segment;

    #[test]
    fn names_that_would_lead_elsewhere_are_none() {
        for good in ["web", "web-1", "kube-root-ca.crt", "system:node"] {
            assert!(is_segment(good), "{good}");
        }
        for bad in ["", ".", "..", "../secrets/x", "a/b", "a?force=true", "a%2Fb", "a b", "ä", &"a".repeat(254)] {
            assert!(!is_segment(bad), "{bad}");
        }
    }
}
