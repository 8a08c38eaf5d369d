//! A Kubernetes cluster as rollouts need it, through its API: the built-in node or any other.

mod apply;
mod failure;
mod prune;
mod session;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Event};
use kube::{Api, Client, Resource, api::ListParams};
use records::Name;
use rollout::{Cluster, ClusterError, FailureKind, ObjectRef, WorkloadRef, WorkloadStatus};
use serde_json::Value;
use tokio::sync::Mutex;

use self::{session::Session, status::Found};
use crate::fault::chain;

/// How long the cluster has to answer one request.
const ANSWER: Duration = Duration::from_secs(15);
/// Characters of an error that are handed on.
const MESSAGE: usize = 600;
/// Events that are looked through for why pods are not ready.
const EVENTS: u32 = 500;

/// The cluster that a kubeconfig names. The file is read when it is first needed, and again after a failure.
pub struct KubeCluster {
    kubeconfig: PathBuf,
    session: Mutex<Option<Arc<Session>>>,
}

impl KubeCluster {
    pub fn new(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig, session: Mutex::new(None) }
    }

    async fn session(&self) -> Result<Arc<Session>, ClusterError> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(session.clone());
        }
        let opened = Arc::new(Session::open(&self.kubeconfig).await?);
        *session = Some(opened.clone());
        Ok(opened)
    }

    /// Forgets the connection when what was done over it shows that it no longer serves.
    async fn settle<T>(&self, done: Result<T, ClusterError>) -> Result<T, ClusterError> {
        if let Err(ClusterError::Unavailable(_)) = &done {
            *self.session.lock().await = None;
        }
        done
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn apply(&self, objects: &[Value], field_manager: &str) -> Result<(), ClusterError> {
        let session = self.session().await?;
        self.settle(apply::apply(&session, objects, field_manager).await).await
    }

    async fn prune(
        &self,
        namespace: &Name,
        labels: &BTreeMap<String, String>,
        keep: &[ObjectRef],
    ) -> Result<(), ClusterError> {
        let session = self.session().await?;
        self.settle(prune::prune(&session, namespace.as_str(), labels, keep).await).await
    }

    async fn workloads(
        &self,
        namespace: &Name,
        workloads: &[WorkloadRef],
    ) -> Result<Vec<WorkloadStatus>, ClusterError> {
        let session = self.session().await?;
        self.settle(look(&session.client, namespace.as_str(), workloads).await).await
    }
}

/// One listing of each kind that matters, all at once; events only where something is not ready and does not say why itself.
async fn look(
    client: &Client,
    namespace: &str,
    workloads: &[WorkloadRef],
) -> Result<Vec<WorkloadStatus>, ClusterError> {
    let kinds: BTreeSet<&str> = workloads.iter().map(|workload| workload.kind.as_str()).collect();
    let has = |kind: &str| kinds.contains(kind);
    let mut found = Found::default();
    (found.deployments, found.replica_sets, found.stateful_sets, found.daemon_sets, found.jobs, found.pods) = tokio::try_join!(
        list(client, namespace, has("Deployment")),
        list(client, namespace, has("Deployment")),
        list(client, namespace, has("StatefulSet")),
        list(client, namespace, has("DaemonSet")),
        list(client, namespace, has("Job")),
        list(client, namespace, !kinds.is_empty()),
    )?;
    let statuses = found.statuses(workloads);
    if !statuses.iter().any(needs_events) {
        return Ok(statuses);
    }
    let warnings = ListParams::default().fields("involvedObject.kind=Pod,type=Warning").limit(EVENTS);
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    match answered(events.list(&warnings)).await {
        Ok(events) => found.events = events.items,
        // They only explain; without them there is less to say.
        Err(error) => tracing::debug!(%error, "cannot list events"),
    }
    Ok(found.statuses(workloads))
}

fn needs_events(status: &WorkloadStatus) -> bool {
    let explained = status.failure.as_ref().is_some_and(|failure| {
        // Of what crashes, events say whether a probe was the reason.
        !matches!(failure.kind, FailureKind::NotReady | FailureKind::Crashing { .. })
    });
    status.ready < status.desired && status.updated > 0 && !explained
}

async fn list<K>(client: &Client, namespace: &str, wanted: bool) -> Result<Vec<K>, ClusterError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    if !wanted {
        return Ok(Vec::new());
    }
    let what = format!("the {} of namespace {namespace}", K::plural(&()));
    let listed = answered(Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default())).await;
    Ok(listed.map_err(|error| error.into_cluster_error(&what))?.items)
}

/// Why a request did not do what it was made for.
#[derive(Debug)]
enum Failed {
    Kube(kube::Error),
    Late,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kube(kube::Error::Api(status)) if !status.message.is_empty() => f.write_str(&status.message),
            Self::Kube(error) => f.write_str(&chain(error)),
            Self::Late => write!(f, "no answer within {} s", ANSWER.as_secs()),
        }
    }
}

impl Failed {
    /// The HTTP status that the API answered with.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// `object` is what the request was about, for people.
    fn into_cluster_error(self, object: &str) -> ClusterError {
        let text = self.to_string();
        let message = failure::tidy(&text, MESSAGE);
        match self.code() {
            // A namespace that is being deleted is gone in a while, and then made again.
            Some(403) if text.contains("because it is being terminated") => ClusterError::Unavailable(message),
            Some(401) => {
                ClusterError::Unavailable(format!("it does not accept the credentials of the kubeconfig: {message}"))
            }
            // Somebody else wrote at the same time, or it is busy.
            Some(408 | 409 | 429) => ClusterError::Unavailable(message),
            Some(400..=499) => ClusterError::Rejected { object: object.to_owned(), message },
            _ => ClusterError::Unavailable(message),
        }
    }
}

async fn answered<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(answer) => answer.map_err(Failed::Kube),
        Err(_) => Err(Failed::Late),
    }
}

/// An object as people call it: `deployment journal/frontend`. Its parts may come from anywhere.
fn shown(kind: &str, namespace: Option<&str>, name: &str) -> String {
    let short = |text: &str| failure::tidy(text, 100);
    let kind = short(kind).to_lowercase();
    match namespace {
        Some(namespace) => format!("{kind} {}/{}", short(namespace), short(name)),
        None => format!("{kind} {}", short(name)),
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
