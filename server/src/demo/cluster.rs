//! The demo's view of the cluster: through the Kubernetes API, with the kubeconfig that the server wrote.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt, watcher},
};
use records::Timestamp;
use tokio::{process::Command, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    clock,
    fault::{Class, Fault, Result},
};

/// A client of the node, and when its first pod was ready.
pub struct Cluster {
    client: Client,
    kubeconfig: std::path::PathBuf,
    first_ready: Arc<OnceLock<Timestamp>>,
    _watch: AbortOnDropHandle<()>,
}

impl Cluster {
    /// Connects, and watches pods from now on.
    pub async fn connect(kubeconfig: &Path) -> Result<Self> {
        let client = client(kubeconfig).await?;
        let first_ready = Arc::new(OnceLock::new());
        let (pods, seen) = (Api::<Pod>::all(client.clone()), first_ready.clone());
        let watch = tokio::spawn(async move {
            let mut pods = watcher(pods, watcher::Config::default()).default_backoff().applied_objects().boxed();
            while let Ok(Some(pod)) = pods.try_next().await {
                if is_ready(&pod) && seen.set(clock::now()).is_ok() {
                    return;
                }
            }
        });
        let _watch = AbortOnDropHandle::new(watch);
        Ok(Self { client, kubeconfig: kubeconfig.to_owned(), first_ready, _watch })
    }

    pub fn first_ready(&self) -> Option<Timestamp> {
        self.first_ready.get().copied()
    }

    /// The name of a ready pod with this label.
    pub async fn a_pod(&self, namespace: &str, selector: &str) -> Result<String> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let list = pods.list(&ListParams::default().labels(selector)).await.map_err(|e| api(&e))?;
        let ready = list.items.into_iter().find(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        ready
            .and_then(|pod| pod.metadata.name)
            .ok_or_else(|| Fault::new(Class::Failed, format!("no pod in {namespace} with {selector} is ready")))
    }

    /// Asks for a pod as a person would, and returns why it does not start. The pod is deleted afterwards.
    pub async fn refused(&self, namespace: &str, name: &str, image: &str) -> Result<String> {
        let how = self.run(namespace, name, image).await?;
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let deadline = Instant::now() + Duration::from_secs(20);
        let message = loop {
            let pod = pods.get(name).await.map_err(|e| api(&e))?;
            let status = pod.status.unwrap_or_default();
            let state = status.container_statuses.unwrap_or_default().into_iter().next().and_then(|s| s.state);
            let state = state.unwrap_or_default();
            if state.running.is_some() || state.terminated.is_some() {
                break Err(Fault::new(Class::Failed, format!("the node ran {image} though nothing speaks for it")));
            }
            let waiting = state.waiting.unwrap_or_default();
            if waiting.reason.as_deref() == Some("EvidenceMissing") {
                break Ok(format!("{how}: {}", waiting.message.unwrap_or_default()));
            }
            if Instant::now() > deadline {
                let reason = waiting.reason.unwrap_or_else(|| "nothing".into());
                break Err(Fault::new(Class::Failed, format!("the pod waits for {reason}, not for evidence")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        pods.delete(name, &DeleteParams::default().grace_period(0)).await.map_err(|e| api(&e))?;
        message
    }

    /// `kubectl run`, or without kubectl the same request.
    async fn run(&self, namespace: &str, name: &str, image: &str) -> Result<&'static str> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", namespace, "run", name]);
        command.args(["--image", image, "--restart", "Never"]).kill_on_drop(true);
        match command.output().await {
            Ok(output) if output.status.success() => return Ok("kubectl run"),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Fault::new(Class::Failed, format!("kubectl run failed: {said}")));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Fault::new(Class::Unavailable, format!("cannot run kubectl: {e}"))),
        }
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "run": name } },
            "spec": { "restartPolicy": "Never", "containers": [{ "name": name, "image": image }] },
        });
        let pod: Pod = serde_json::from_value(pod).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        pods.create(&PostParams::default(), &pod).await.map_err(|e| api(&e))?;
        Ok("asked over the Kubernetes API (kubectl is not installed)")
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let unusable =
        |e: &dyn std::error::Error| Fault::new(Class::Unavailable, format!("cannot use {}: {e}", kubeconfig.display()));
    let file = Kubeconfig::read_from(kubeconfig).map_err(|e| unusable(&e))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|e| unusable(&e))?;
    Client::try_from(config).map_err(|e| unusable(&e))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn api(error: &kube::Error) -> Fault {
    Fault::from_error(Class::Failed, error)
}
