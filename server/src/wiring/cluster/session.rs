//! A connection to a cluster, and what the cluster serves.

use std::{path::Path, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{ApiCapabilities, ApiResource, Discovery},
};
use rollout::ClusterError;
use tokio::{sync::Mutex, time::Instant};

use super::{ANSWER, Failed, MESSAGE, answered, failure::tidy};
use crate::fault::chain;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How old what is known of the kinds may be, where it matters that none is missing.
const KINDS_AGE: Duration = Duration::from_secs(600);

pub(super) struct Session {
    pub client: Client,
    kinds: Mutex<Option<(Instant, Arc<Discovery>)>>,
}

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self { client, kinds: Mutex::new(None) }
    }

    pub(super) async fn open(kubeconfig: &Path) -> Result<Self, ClusterError> {
        let shown = kubeconfig.display();
        if !tokio::fs::try_exists(kubeconfig).await.unwrap_or(false) {
            return Err(ClusterError::Unavailable(format!("there is no {shown} yet")));
        }
        let wrong = |error: &(dyn std::error::Error + 'static)| {
            ClusterError::Unavailable(tidy(&format!("{shown}: {}", chain(error)), MESSAGE))
        };
        let path = kubeconfig.to_owned();
        let read = tokio::task::spawn_blocking(move || Kubeconfig::read_from(path)).await.map_err(|e| wrong(&e))?;
        let read = read.map_err(|e| wrong(&e))?;
        let proxied = read.clusters.iter().any(|named| named.cluster.as_ref().is_some_and(|c| c.proxy_url.is_some()));
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|e| wrong(&e))?;
        // A proxy counts when the kubeconfig names it; that of the environment is for the world outside.
        if !proxied {
            config.proxy_url = None;
        }
        config.connect_timeout = Some(CONNECT);
        config.write_timeout = Some(ANSWER);
        // Whoever asks tries again by himself.
        config.default_retry = false;
        Ok(Self::new(Client::try_from(config).map_err(|e| wrong(&e))?))
    }

    /// How a kind is served. A kind that is not known is looked for once more, since it may have been added meanwhile.
    pub(super) async fn resolve(
        &self,
        gvk: &GroupVersionKind,
    ) -> Result<Option<(ApiResource, ApiCapabilities)>, ClusterError> {
        if let Some(known) = self.known().await
            && let Some(found) = known.resolve_gvk(gvk)
        {
            return Ok(Some(found));
        }
        Ok(self.discover().await?.resolve_gvk(gvk))
    }

    /// All kinds, not older than a while.
    pub(super) async fn kinds(&self) -> Result<Arc<Discovery>, ClusterError> {
        match self.known().await {
            Some(known) => Ok(known),
            None => self.discover().await,
        }
    }

    /// What is known of the kinds is out of date.
    pub(super) async fn forget_kinds(&self) {
        *self.kinds.lock().await = None;
    }

    async fn known(&self) -> Option<Arc<Discovery>> {
        let kinds = self.kinds.lock().await;
        kinds.as_ref().filter(|(at, _)| at.elapsed() < KINDS_AGE).map(|(_, kinds)| kinds.clone())
    }

    async fn discover(&self) -> Result<Arc<Discovery>, ClusterError> {
        let mut kinds = self.kinds.lock().await;
        let error = |error: Failed| error.into_cluster_error("the question which kinds there are");
        // Two requests; older clusters need one for each group.
        let found = match answered(Discovery::new(self.client.clone()).run_aggregated()).await {
            Ok(found) if found.groups().next().is_some() => found,
            Ok(_) | Err(Failed::Kube(kube::Error::SerdeError(_) | kube::Error::Api(_) | kube::Error::Discovery(_))) => {
                answered(Discovery::new(self.client.clone()).run()).await.map_err(error)?
            }
            Err(failed) => return Err(error(failed)),
        };
        let found = Arc::new(found);
        *kinds = Some((Instant::now(), found.clone()));
        Ok(found)
    }
}
