//! Runs the pods that are bound to this node: one worker a pod, started from what survived, ended with its pod.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::objects::events::Notice;
use crate::objects::{Happened, Objects, Scope, meta, resource};
use crate::runtime::{Runtime, SurvivingPod};
use crate::{Error, Result};

pub mod adopt;
pub mod backoff;
mod board;
mod effects;
pub mod env;
pub mod hooks;
pub mod logs;
pub mod plan;
pub mod probe;
pub mod resources;
pub mod sources;
pub mod start;
pub mod state;
pub mod status;
mod streams;
pub mod volumes;
mod worker;

use worker::{Seen, Worker};

/// Whoever sends traffic to pods.
#[async_trait]
pub trait Traffic: Send + Sync + 'static {
    /// Sends nothing new to this address from now on, and waits until what is under way there is answered, at most `within`.
    async fn retire(&self, ip: IpAddr, within: Duration);

    /// The address may be another pod's from now on.
    fn forget(&self, ip: IpAddr);
}

/// For nodes without traffic.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTraffic;

#[async_trait]
impl Traffic for NoTraffic {
    async fn retire(&self, _: IpAddr, _: Duration) {}
    fn forget(&self, _: IpAddr) {}
}

/// What every worker needs.
pub(crate) struct Context {
    pub objects: Objects,
    pub runtime: Arc<dyn Runtime>,
    pub admission: Arc<dyn Admission>,
    pub traffic: Arc<dyn Traffic>,
    pub node: String,
    pub host_ip: String,
    /// Holds `pods/` (volumes) and `logs/`.
    pub root: PathBuf,
    pub cluster_domain: String,
    pub board: board::Board,
    pub stop: CancellationToken,
}

pub struct KubeletConfig {
    /// The Node's name.
    pub node: String,
    pub host_ip: String,
    pub root: PathBuf,
    /// `cluster.local`
    pub cluster_domain: String,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Kubelet {
    context: Arc<Context>,
}

struct Handle {
    seen: watch::Sender<Seen>,
    refresh: Arc<Notify>,
    namespace: String,
}

impl Kubelet {
    pub fn new(
        config: KubeletConfig,
        objects: Objects,
        runtime: Arc<dyn Runtime>,
        admission: Arc<dyn Admission>,
        traffic: Arc<dyn Traffic>,
        stop: CancellationToken,
    ) -> Self {
        let KubeletConfig { node, host_ip, root, cluster_domain } = config;
        let board = board::Board::default();
        let context =
            Context { objects, runtime, admission, traffic, node, host_ip, root, cluster_domain, board, stop };
        Self { context: Arc::new(context) }
    }

    /// Runs until the token that it was made with is cancelled. What runs then goes on running.
    pub async fn run(&self) -> Result<()> {
        let context = &self.context;
        let survived = context.runtime.list().await;
        let survived = survived.map_err(|e| Error::caused("cannot tell which pods survived the last stop", e))?;
        let mut survived: HashMap<String, SurvivingPod> =
            survived.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        let (pods, _) = context.objects.list(&resource::PODS, &Scope::all());
        let bound: HashSet<&str> = pods.iter().filter(|pod| self.is_ours(pod)).map(|pod| meta::uid(pod)).collect();
        let mut side: JoinSet<()> = JoinSet::new();
        for uid in survived.keys().filter(|uid| !bound.contains(uid.as_str())).cloned().collect::<Vec<_>>() {
            tracing::info!(uid, "a pod that is no longer wanted is removed");
            survived.remove(&uid);
            let (runtime, directory) = (context.runtime.clone(), context.root.join("pods").join(&uid));
            side.spawn(async move {
                if let Err(error) = runtime.remove_pod(&uid).await {
                    tracing::warn!(uid, %error, "a pod that is no longer wanted could not be removed");
                }
                let _ = tokio::fs::remove_dir_all(directory).await;
            });
        }
        let mut workers = Workers { survived, ..Workers::default() };
        loop {
            let outcome = self.follow(&mut workers, &mut side).await;
            if context.stop.is_cancelled() {
                return Ok(());
            }
            if let Err(error) = outcome {
                tracing::debug!(%error, "following pods anew");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn is_ours(&self, pod: &Value) -> bool {
        pod["spec"]["nodeName"] == self.context.node.as_str()
    }

    /// Follows pods until the node stops or a watch breaks off.
    async fn follow(&self, workers: &mut Workers, side: &mut JoinSet<()>) -> Result<()> {
        let objects = &self.context.objects;
        let version = objects.version();
        let mut pods = objects.watch(&resource::PODS, Scope::all(), None)?;
        let mut maps = objects.watch(&resource::CONFIG_MAPS, Scope::all(), Some(version))?;
        let mut secrets = objects.watch(&resource::SECRETS, Scope::all(), Some(version))?;
        let (live, _) = objects.list(&resource::PODS, &Scope::all());
        let live: HashSet<&str> = live.iter().map(|pod| meta::uid(pod)).collect();
        workers.retain_live(&live);
        // Pods that could not be placed are looked at again now and then.
        let mut again = tokio::time::interval(Duration::from_secs(30));
        again.tick().await;
        loop {
            tokio::select! {
                () = self.context.stop.cancelled() => return Ok(()),
                event = pods.next() => {
                    let event = event?;
                    match event.happened {
                        Happened::Deleted => workers.gone(meta::uid(&event.object)),
                        _ if self.is_ours(&event.object) => workers.see(&self.context, event.object),
                        _ => self.place(event.object, side),
                    }
                }
                event = maps.next() => workers.refresh(meta::namespace(&event?.object)),
                event = secrets.next() => workers.refresh(meta::namespace(&event?.object)),
                Some(done) = workers.tasks.join_next_with_id(), if !workers.tasks.is_empty() => workers.done(done),
                Some(_) = side.join_next(), if !side.is_empty() => {}
                _ = again.tick() => {
                    let (pods, _) = objects.list(&resource::PODS, &Scope::all());
                    pods.into_iter().filter(|pod| !self.is_ours(pod)).for_each(|pod| self.place(pod, side));
                }
            }
        }
    }

    /// Binds a pod that no node has yet to this one.
    fn place(&self, pod: Arc<Value>, side: &mut JoinSet<()>) {
        let spec = &pod["spec"];
        let taken = spec["nodeName"].as_str().is_some_and(|node| !node.is_empty());
        let gated = spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
        let other = spec["schedulerName"].as_str().is_some_and(|name| !name.is_empty() && name != "default-scheduler");
        if taken || gated || other || meta::is_deleting(&pod) {
            return;
        }
        let context = self.context.clone();
        side.spawn(async move {
            if let Err(error) = bind(&context, &pod).await
                && !error.is_not_found()
            {
                tracing::warn!(pod = meta::name(&pod), %error, "a pod could not be bound to the node");
            }
        });
    }
}

/// The label of a pod's node selector that this node does not have.
fn unmet(objects: &Objects, node: &str, pod: &Value) -> Option<String> {
    let wanted = pod["spec"]["nodeSelector"].as_object()?;
    let own = objects.find(&resource::NODES, "", node);
    let has = |key: &str, value: &Value| own.as_ref().is_some_and(|own| own["metadata"]["labels"][key] == *value);
    wanted
        .iter()
        .find(|(key, value)| !has(key, value))
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
}

async fn bind(context: &Context, pod: &Value) -> Result<()> {
    let (namespace, name, uid) = (meta::namespace(pod), meta::name(pod), meta::uid(pod));
    let now = meta::time(context.objects.now());
    let unmet = unmet(&context.objects, &context.node, pod);
    let condition = match &unmet {
        None => json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now}),
        Some(label) => json!({
            "type": "PodScheduled", "status": "False", "lastTransitionTime": now, "reason": "Unschedulable",
            "message": format!("0/1 nodes are available: the node does not have the label {label} that the pod's node selector asks for"),
        }),
    };
    let bound = context.objects.modify(&resource::PODS, namespace, name, |object| {
        let free = object["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
        if meta::uid(object) != uid || !free || meta::is_deleting(object) {
            return;
        }
        let known = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let same = |known: &Value| known["type"] == "PodScheduled" && known["status"] == condition["status"];
        if unmet.is_some() && known.iter().any(same) {
            return;
        }
        if unmet.is_none() {
            object["spec"]["nodeName"] = context.node.as_str().into();
        }
        let others = known.into_iter().filter(|known| known["type"] != "PodScheduled");
        object["status"]["conditions"] = others.chain([condition.clone()]).collect();
    });
    let bound = bound.await?;
    let component = "default-scheduler";
    let (kind, reason, message) = match &unmet {
        None if bound["spec"]["nodeName"] == context.node.as_str() => {
            ("Normal", "Scheduled", format!("Successfully assigned {namespace}/{name} to {}", context.node))
        }
        None => return Ok(()),
        Some(label) => ("Warning", "FailedScheduling", format!("0/1 nodes are available: none has the label {label}")),
    };
    context.objects.notice(&bound, Notice { kind, reason, message, component, field: String::new() });
    Ok(())
}

/// The workers, by the uids of their pods.
#[derive(Default)]
struct Workers {
    survived: HashMap<String, SurvivingPod>,
    handles: HashMap<String, Handle>,
    tasks: JoinSet<()>,
    names: HashMap<tokio::task::Id, String>,
    /// Finished here, though their objects are still there.
    finished: HashSet<String>,
}

impl Workers {
    fn see(&mut self, context: &Arc<Context>, pod: Arc<Value>) {
        let uid = meta::uid(&pod).to_owned();
        if self.finished.contains(&uid) {
            return;
        }
        if let Some(handle) = self.handles.get(&uid) {
            handle.seen.send_replace(Seen::Live(pod));
            return;
        }
        let (seen, receiver) = watch::channel(Seen::Live(pod.clone()));
        let refresh = Arc::new(Notify::new());
        let namespace = meta::namespace(&pod).to_owned();
        let survived = self.survived.remove(&uid);
        let work = Worker::run(context.clone(), pod, survived, receiver, refresh.clone());
        let task = self.tasks.spawn(work);
        self.names.insert(task.id(), uid.clone());
        self.handles.insert(uid, Handle { seen, refresh, namespace });
    }

    fn gone(&mut self, uid: &str) {
        self.finished.remove(uid);
        if let Some(handle) = self.handles.get(uid) {
            handle.seen.send_replace(Seen::Gone);
        }
    }

    fn retain_live(&mut self, live: &HashSet<&str>) {
        let gone: Vec<String> = self.handles.keys().filter(|uid| !live.contains(uid.as_str())).cloned().collect();
        gone.iter().for_each(|uid| self.gone(uid));
        self.finished.retain(|uid| live.contains(uid.as_str()));
    }

    fn refresh(&self, namespace: &str) {
        self.handles
            .values()
            .filter(|handle| handle.namespace == namespace)
            .for_each(|handle| handle.refresh.notify_one());
    }

    fn done(&mut self, done: std::result::Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let (id, failed) = match done {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let Some(uid) = self.names.remove(&id) else { return };
        self.handles.remove(&uid);
        match failed {
            // The next change of the pod starts a worker anew, from its status.
            Some(error) => tracing::error!(uid, %error, "the worker of a pod ended badly"),
            None => drop(self.finished.insert(uid)),
        }
    }
}

#[cfg(test)]
#[path = "kubelet/fake.rs"]
pub(crate) mod fake;

#[cfg(test)]
#[path = "kubelet/tests.rs"]
mod tests;
