//! The whole node: objects, API, controllers, pods and traffic, started and stopped as one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use store::Log;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::api::{Server, ServerConfig};
use crate::controllers::{self, Machine, MachineConfig};
use crate::dns::Names;
use crate::kubelet::{Kubelet, KubeletConfig};
use crate::objects::{Cidr, Clock, Objects, Resource, meta, resource};
use crate::runtime::Runtime;
use crate::services::{Proxies, Router, RouterConfig, Table};
use crate::{Error, Result};

/// How long what was started may take to stop.
const CLEANUP: Duration = Duration::from_secs(20);
const API: &str = "kubernetes";

#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Of the Node object: a DNS label.
    pub name: String,
    /// Holds certificates, volumes and logs of pods.
    pub directory: PathBuf,
    /// Where the Kubernetes API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Further names in the API's certificate.
    pub names: Vec<String>,
    /// `cluster.local`
    pub cluster_domain: String,
    /// The address of this machine that pods see: the gateway of their network.
    pub host_ip: Option<IpAddr>,
    /// For people: the block that pods' addresses are of.
    pub pod_cidr: String,
    /// The block that Services' addresses are of; the machine must answer to all of them.
    pub services: Cidr,
    /// Of this program.
    pub version: String,
    pub router: RouterConfig,
}

impl NodeConfig {
    /// The defaults, with everything kept below `directory`.
    pub fn new(name: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            directory: directory.into(),
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            names: Vec::new(),
            cluster_domain: "cluster.local".into(),
            host_ip: None,
            pod_cidr: String::new(),
            services: Cidr::default(),
            version: env!("CARGO_PKG_VERSION").into(),
            router: RouterConfig::default(),
        }
    }
}

/// A running node. Dropped, it stops at once and leaves the containers running; [`Node::shutdown`] does it in order.
pub struct Node {
    objects: Objects,
    runtime: Arc<dyn Runtime>,
    server: Option<Server>,
    kubeconfig: String,
    address: SocketAddr,
    router: Router,
    names: Names,
    table: Arc<Table>,
    stop: CancellationToken,
    supervisor: Option<tokio::task::JoinHandle<()>>,
    broken: watch::Receiver<Option<String>>,
}

impl Node {
    /// Starts everything; the API answers when this returns, and pods that survived go on.
    pub async fn start(
        config: NodeConfig,
        log: Arc<dyn Log>,
        runtime: Arc<dyn Runtime>,
        admission: Arc<dyn Admission>,
        clock: Clock,
    ) -> Result<Self> {
        let objects = Objects::with_services(log, clock, config.services).await?;
        let stop = CancellationToken::new();
        let table = Arc::new(Table::default());
        let kubelet_config = KubeletConfig {
            node: config.name.clone(),
            host_ip: config.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            root: config.directory.clone(),
            cluster_domain: config.cluster_domain.clone(),
        };
        let kubelet =
            Kubelet::new(kubelet_config, objects.clone(), runtime.clone(), admission, table.clone(), stop.clone());
        let server_config = ServerConfig {
            listen: config.listen,
            directory: config.directory.join("tls"),
            names: config.names.clone(),
        };
        let server = Server::start(server_config, objects.clone(), kubelet.streams()).await?;
        announce(&objects, server.addr).await?;
        objects.readdress().await?;
        let machine = MachineConfig {
            name: config.name.clone(),
            ip: config.host_ip,
            pod_cidr: config.pod_cidr.clone(),
            version: config.version.clone(),
        };
        let mut all = controllers::all(&objects, &server.credentials().authority);
        all.push(Arc::new(Machine::new(objects.clone(), machine)));

        // Before anybody asks: a Service that was there before the start is there now.
        table.fill(&objects);
        let mut tasks: JoinSet<(&'static str, Result<()>)> = JoinSet::new();
        let (own, ending) = (objects.clone(), stop.clone());
        tasks.spawn(async move {
            controllers::run_all(all, own, ending).await;
            ("controllers", Ok(()))
        });
        let (own, ending, shared) = (objects.clone(), stop.clone(), table.clone());
        tasks.spawn(async move {
            shared.run(&own, ending).await;
            ("traffic table", Ok(()))
        });
        let (proxies, ending) = (Proxies::new(table.clone()), stop.clone());
        tasks.spawn(async move {
            proxies.run(ending).await;
            ("Service proxies", Ok(()))
        });
        tasks.spawn(async move { ("kubelet", kubelet.run().await) });
        let (report, broken) = watch::channel(None);
        let supervisor = tokio::spawn(supervise(tasks, stop.clone(), report));
        let router = Router::new(table.clone(), config.router.clone());
        let names = Names::new(table.clone(), &config.cluster_domain);
        Ok(Self {
            kubeconfig: server.kubeconfig(),
            address: server.addr,
            server: Some(server),
            supervisor: Some(supervisor),
            objects,
            runtime,
            router,
            names,
            table,
            stop,
            broken,
        })
    }

    /// The objects, for whoever is in the same process. The API is the way for everybody else.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Where the Kubernetes API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The text of a kubeconfig with which `kubectl` is let in.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Sends HTTP to Services by host name.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Answers the names of the cluster: give it to the name server of the pods' network.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Waits until a part of the node has ended though nobody asked it to; a sentence says which and why. Never, otherwise.
    pub async fn broken(&self) -> String {
        let mut broken = self.broken.clone();
        match broken.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops everything. With `keep_pods` containers go on and are found again at the next start; else they are killed, and
    /// nothing of them is left. Their objects stay either way.
    pub async fn shutdown(mut self, keep_pods: bool) {
        let clean = async {
            if let Some(server) = self.server.take() {
                server.shutdown().await;
            }
            self.stop.cancel();
            if let Some(supervisor) = self.supervisor.take() {
                let _ = supervisor.await;
            }
            if !keep_pods {
                self.remove_pods().await;
            }
        };
        if tokio::time::timeout(CLEANUP, clean).await.is_err() {
            tracing::error!("the node did not stop within {CLEANUP:?}; what is left is found at the next start");
        }
    }

    async fn remove_pods(&self) {
        let pods = match self.runtime.list().await {
            Ok(pods) => pods,
            Err(error) => return tracing::error!(%error, "cannot tell which pods are left"),
        };
        let removals = pods.iter().map(|pod| async {
            if let Err(error) = self.runtime.remove_pod(&pod.uid).await {
                tracing::error!(uid = pod.uid, %error, "a pod could not be removed");
            }
        });
        futures::future::join_all(removals).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.abort();
        }
    }
}

/// Owns the node's tasks: all end together.
async fn supervise(
    mut tasks: JoinSet<(&'static str, Result<()>)>,
    stop: CancellationToken,
    broken: watch::Sender<Option<String>>,
) {
    while let Some(ended) = tasks.join_next().await {
        if stop.is_cancelled() {
            continue;
        }
        let why = match ended {
            Ok((name, Ok(()))) => format!("the node's {name} ended"),
            Ok((name, Err(error))) => format!("the node's {name} ended: {error}"),
            Err(error) => format!("a part of the node ended badly: {error}"),
        };
        tracing::error!(why, "the node is broken and stops");
        broken.send_replace(Some(why));
        stop.cancel();
    }
}

/// The Service under which pods reach the API.
async fn announce(objects: &Objects, address: SocketAddr) -> Result<()> {
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    let first = Ipv4Addr::from(u32::from(objects.service_network().network).wrapping_add(1));
    let service = json!({
        "metadata": {"name": API, "namespace": "default", "labels": {"component": "apiserver", "provider": API}},
        "spec": {
            "clusterIP": first.to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": address.port()}],
        },
    });
    let slice = json!({
        "metadata": {"name": API, "namespace": "default", "labels": {"kubernetes.io/service-name": API}},
        "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [ip.to_string()], "conditions": {"ready": true, "serving": true, "terminating": false}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    });
    let (service, slice) =
        futures::join!(put(objects, &resource::SERVICES, service), put(objects, &resource::ENDPOINT_SLICES, slice));
    service.and(slice)
}

async fn put(objects: &Objects, kind: &Resource, wanted: Value) -> Result<()> {
    match objects.create(kind, wanted.clone()).await {
        Err(error) if error.is_already_exists() => {}
        done => return done.map(drop),
    }
    let written = objects.modify(kind, meta::namespace(&wanted), meta::name(&wanted), |object| {
        for field in ["endpoints", "ports"] {
            if let Some(value) = wanted.get(field) {
                object[field] = value.clone();
            }
        }
        if let Some(spec) = wanted.get("spec") {
            object["spec"]["clusterIP"] = spec["clusterIP"].clone();
            object["spec"]["clusterIPs"] = json!([spec["clusterIP"]]);
            object["spec"]["ports"] = spec["ports"].clone();
        }
    });
    written.await.map(drop).map_err(|e: Error| Error::caused("the Service of the API could not be written", e))
}

#[cfg(test)]
#[path = "node/tests.rs"]
mod tests;
