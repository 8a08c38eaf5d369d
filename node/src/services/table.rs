//! Who answers for which Service, kept in memory from Services, pods and EndpointSlices as they change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::load::{Load, Under};
use crate::Result;
use crate::controllers::endpoints::plan::{self, SERVICE_NAME, Target};
use crate::controllers::typed;
use crate::kubelet::Traffic;
use crate::objects::{LabelSelector, Objects, Scope, meta, resource};

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    pub namespace: String,
    pub name: String,
}

impl ServiceKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Empty when the Service has only one.
    pub name: String,
    pub number: u16,
    pub protocol: Protocol,
    pub node_port: Option<u16>,
    /// `http`, `kubernetes.io/ws` …
    pub application: Option<String>,
}

/// A Service as traffic sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceView {
    /// `None` for headless Services and for names of the outside.
    pub cluster_ip: Option<IpAddr>,
    /// The name outside that this one stands for.
    pub external_name: Option<String>,
    pub ports: Vec<Port>,
    pub targets: Vec<Target>,
    /// A client stays with the pod that it had.
    pub sticky: bool,
}

impl ServiceView {
    /// The addresses behind a port that take new traffic.
    pub fn ready(&self, port: &str) -> Vec<SocketAddr> {
        self.addresses(port, |target| target.ready)
    }

    fn addresses(&self, port: &str, wanted: impl Fn(&Target) -> bool) -> Vec<SocketAddr> {
        let wanted = self.targets.iter().filter(|target| wanted(target));
        wanted.filter_map(|target| Some(SocketAddr::new(target.ip, *target.ports.get(port)?))).collect()
    }

    /// Like Kubernetes: while no pod is ready, those that still answer on their way out are better than none.
    pub fn usable(&self, port: &str) -> Vec<SocketAddr> {
        let ready = self.ready(port);
        if ready.is_empty() { self.addresses(port, |target| target.serving && target.terminating) } else { ready }
    }

    /// The port that people mean when they name none: the one that speaks HTTP, else the first.
    pub fn web_port(&self) -> Option<&Port> {
        let tcp = || self.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        let is_http =
            |port: &&Port| port.application.as_deref() == Some("http") || port.name == "http" || port.number == 80;
        tcp().find(is_http).or_else(|| tcp().next())
    }

    pub fn pod_at(&self, ip: IpAddr) -> Option<&Target> {
        self.targets.iter().find(|target| target.ip == ip)
    }
}

type Services = HashMap<ServiceKey, Arc<ServiceView>>;

/// Cheap to share behind an `Arc`.
pub struct Table {
    services: RwLock<Services>,
    /// Counts changes.
    changed: watch::Sender<u64>,
    pub load: Load,
}

impl Default for Table {
    fn default() -> Self {
        Self { services: RwLock::default(), changed: watch::Sender::new(0), load: Load::default() }
    }
}

impl Table {
    fn read(&self) -> RwLockReadGuard<'_, Services> {
        // Entries are replaced whole.
        self.services.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Services> {
        self.services.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &ServiceKey) -> Option<Arc<ServiceView>> {
        self.read().get(key).cloned()
    }

    pub fn all(&self) -> BTreeMap<ServiceKey, Arc<ServiceView>> {
        self.read().iter().map(|(key, view)| (key.clone(), view.clone())).collect()
    }

    /// Is woken after each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts a Service in, or takes it out.
    pub fn set(&self, key: ServiceKey, view: Option<ServiceView>) {
        {
            let mut services = self.write();
            match view {
                Some(view) if services.get(&key).is_some_and(|known| **known == view) => return,
                Some(view) => drop(services.insert(key, Arc::new(view))),
                None if services.remove(&key).is_none() => return,
                None => {}
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// An address behind a port of a Service, none of `tried`.
    pub fn pick(&self, key: &ServiceKey, port: &str, tried: &[SocketAddr]) -> Option<(SocketAddr, Under)> {
        let view = self.get(key)?;
        let mut candidates = view.usable(port);
        candidates.retain(|address| !tried.contains(address));
        self.load.pick(&candidates)
    }

    /// As [`Table::pick`], always the same one for the same client while it is there.
    pub fn pick_for(&self, view: &ServiceView, port: &str, client: IpAddr, tried: &[SocketAddr]) -> Option<SocketAddr> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut candidates = view.usable(port);
        candidates.retain(|address| !tried.contains(address) && !self.load.is_retired(address.ip()));
        // The highest of the hashes of client and address: another address coming or going moves few clients.
        candidates.into_iter().max_by_key(|address| {
            let mut hasher = DefaultHasher::new();
            (client, address).hash(&mut hasher);
            hasher.finish()
        })
    }

    /// Follows the objects until `stop`.
    pub async fn run(&self, objects: &Objects, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.follow(objects) => outcome,
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "following Services anew");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn follow(&self, objects: &Objects) -> Result<()> {
        let version = objects.version();
        let mut streams = Vec::new();
        for kind in [&resource::SERVICES, &resource::PODS, &resource::ENDPOINT_SLICES] {
            let watcher = objects.watch(kind, Scope::all(), Some(version))?;
            streams.push(watcher.into_stream().map(move |event| (kind, event)).boxed());
        }
        self.fill(objects);
        let mut events = futures::stream::select_all(streams);
        while let Some((kind, event)) = events.next().await {
            let object = event?.object;
            let namespace = meta::namespace(&object);
            let concerned: BTreeSet<ServiceKey> = if kind == &resource::SERVICES {
                [ServiceKey::new(namespace, meta::name(&object))].into()
            } else if kind == &resource::ENDPOINT_SLICES {
                let service = meta::label(&object, SERVICE_NAME);
                service.map(|name| ServiceKey::new(namespace, name)).into_iter().collect()
            } else {
                let (services, _) = objects.list(&resource::SERVICES, &Scope::namespace(namespace));
                let named = |view: &ServiceView| view.targets.iter().any(|target| target.pod == meta::name(&object));
                let selects = |service: &Value| LabelSelector::from_map(&service["spec"]["selector"]).matches(&object);
                let keys = services.iter().filter_map(|service| {
                    let key = ServiceKey::new(namespace, meta::name(service));
                    let knows = self.get(&key).is_some_and(|view| named(&view));
                    (knows || selects(service)).then_some(key)
                });
                keys.collect()
            };
            for key in concerned {
                let view = view(objects, &key);
                self.set(key, view);
            }
        }
        Ok(())
    }

    /// Brings everything up to date at once.
    pub fn fill(&self, objects: &Objects) {
        let (services, _) = objects.list(&resource::SERVICES, &Scope::all());
        let keys: BTreeSet<ServiceKey> =
            services.iter().map(|service| ServiceKey::new(meta::namespace(service), meta::name(service))).collect();
        for gone in self.all().into_keys().filter(|key| !keys.contains(key)) {
            self.set(gone, None);
        }
        for key in keys {
            let view = view(objects, &key);
            self.set(key, view);
        }
    }
}

/// A Service as it is now; `None` when there is none.
pub fn view(objects: &Objects, key: &ServiceKey) -> Option<ServiceView> {
    let object = objects.find(&resource::SERVICES, &key.namespace, &key.name)?;
    let service: Service = typed::read(&object)?;
    let spec = service.spec.clone().unwrap_or_default();
    let targets = if plan::has_selector(&service) {
        let selector = LabelSelector::from_map(&object["spec"]["selector"]);
        let pods: Vec<Pod> = typed::list(objects, &resource::PODS, &key.namespace, |pod| selector.matches(pod));
        plan::targets(&service, &pods)
    } else {
        by_hand(objects, key)
    };
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(Port {
            name: port.name.clone().unwrap_or_default(),
            number: u16::try_from(port.port).ok()?,
            protocol: match port.protocol.as_deref() {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some(_) => return None,
            },
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
            application: port.app_protocol.clone(),
        })
    });
    Some(ServiceView {
        cluster_ip: spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()),
        external_name: spec.external_name.clone().filter(|_| spec.type_.as_deref() == Some("ExternalName")),
        ports: ports.collect(),
        targets,
        sticky: spec.session_affinity.as_deref() == Some("ClientIP"),
    })
}

/// The endpoints that somebody wrote for a Service without a selector.
fn by_hand(objects: &Objects, key: &ServiceKey) -> Vec<Target> {
    let slices: Vec<EndpointSlice> = typed::list(objects, &resource::ENDPOINT_SLICES, &key.namespace, |slice| {
        meta::label(slice, SERVICE_NAME) == Some(&key.name)
    });
    let mut targets = Vec::new();
    for slice in slices {
        let ports: BTreeMap<String, u16> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| Some((port.name.clone().unwrap_or_default(), u16::try_from(port.port?).ok()?)))
            .collect();
        for endpoint in slice.endpoints {
            let conditions = endpoint.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let reference = endpoint.target_ref.unwrap_or_default();
            let target = |ip| Target {
                pod: reference.name.clone().unwrap_or_default(),
                uid: reference.uid.clone().unwrap_or_default(),
                namespace: key.namespace.clone(),
                node: endpoint.node_name.clone().unwrap_or_default(),
                ip,
                hostname: endpoint.hostname.clone(),
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                ports: ports.clone(),
            };
            targets.extend(endpoint.addresses.iter().filter_map(|address| address.parse().ok()).map(target));
        }
    }
    targets
}

#[async_trait]
impl Traffic for Table {
    async fn retire(&self, ip: IpAddr, within: Duration) {
        self.load.retire(ip);
        let _ = tokio::time::timeout(within, self.load.idle(ip)).await;
    }

    fn forget(&self, ip: IpAddr) {
        self.load.forget(ip);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use store::MemoryLog;

    use super::*;
    use crate::objects::DeleteOptions;

    /// A Service whose only port leads to these addresses.
    pub fn serving(addresses: &[SocketAddr]) -> ServiceView {
        let target = |address: &SocketAddr| Target {
            pod: format!("pod-{address}"),
            uid: String::new(),
            namespace: "shop".into(),
            node: String::new(),
            ip: address.ip(),
            hostname: None,
            ready: true,
            serving: true,
            terminating: false,
            ports: [(String::new(), address.port())].into(),
        };
        ServiceView {
            ports: vec![Port {
                name: String::new(),
                number: 80,
                protocol: Protocol::Tcp,
                node_port: None,
                application: None,
            }],
            targets: addresses.iter().map(target).collect(),
            ..ServiceView::default()
        }
    }

    pub fn key() -> ServiceKey {
        ServiceKey::new("shop", "web")
    }

    fn pod(name: &str, ip: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"nodeName": "here", "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    async fn until(table: &Table, what: &str, holds: impl Fn(&ServiceView) -> bool) {
        let mut changes = table.changes();
        let waiting = async {
            while !table.get(&key()).is_some_and(|view| holds(&view)) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    #[tokio::test]
    async fn the_table_follows_services_pods_and_slices_written_by_hand() {
        let clock = crate::kubelet::fake::clock();
        let objects = Objects::open(Arc::new(MemoryLog::new()), clock).await.unwrap();
        objects.create(&resource::NAMESPACES, json!({"metadata": {"name": "shop"}})).await.unwrap();
        let table = Arc::new(Table::default());
        let (own, stop, other) = (table.clone(), CancellationToken::new(), objects.clone());
        let ending = stop.clone();
        let running = tokio::spawn(async move { own.run(&other, ending).await });
        let service = json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
        objects.create(&resource::SERVICES, service).await.unwrap();
        until(&table, "the Service", |view| view.targets.is_empty()).await;
        let created = objects.create(&resource::PODS, pod("a", "10.0.0.1")).await.unwrap();
        let status = pod("a", "10.0.0.1")["status"].clone();
        objects.modify(&resource::PODS, "shop", "a", |pod| pod["status"] = status.clone()).await.unwrap();
        until(&table, "a ready pod", |view| view.ready("") == ["10.0.0.1:8080".parse().unwrap()]).await;
        objects.delete(&resource::PODS, "shop", meta::name(&created), &DeleteOptions::default()).await.unwrap();
        until(&table, "a leaving pod", |view| view.ready("").is_empty() && !view.usable("").is_empty()).await;
        objects.delete(&resource::PODS, "shop", "a", &DeleteOptions::grace(0)).await.unwrap();
        until(&table, "no pod", |view| view.targets.is_empty()).await;
        objects
            .modify(&resource::SERVICES, "shop", "web", |service| service["spec"]["selector"] = Value::Null)
            .await
            .unwrap();
        let slice = json!({"metadata": {"name": "x", "namespace": "shop", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 99}], "endpoints": [{"addresses": ["192.0.2.9"]}]});
        objects.create(&resource::ENDPOINT_SLICES, slice).await.unwrap();
        until(&table, "by hand", |view| view.ready("") == ["192.0.2.9:99".parse().unwrap()]).await;
        objects.delete(&resource::SERVICES, "shop", "web", &DeleteOptions::default()).await.unwrap();
        let mut changes = table.changes();
        while table.get(&key()).is_some() {
            changes.changed().await.unwrap();
        }
        stop.cancel();
        running.await.unwrap();
    }

    #[test]
    fn a_sticky_client_stays_and_few_move_when_an_address_goes() {
        let addresses: Vec<SocketAddr> = (1..=4).map(|n| SocketAddr::from(([10, 0, 0, n], 80))).collect();
        let table = Table::default();
        let (all, fewer) = (serving(&addresses), serving(&addresses[..3]));
        let mut moved = 0;
        for client in 0..100_u8 {
            let client = IpAddr::from([192, 0, 2, client]);
            let before = table.pick_for(&all, "", client, &[]).unwrap();
            assert_eq!(table.pick_for(&all, "", client, &[]), Some(before));
            let after = table.pick_for(&fewer, "", client, &[]).unwrap();
            moved += usize::from(before != after);
            assert!(before == after || before == addresses[3]);
        }
        assert!(moved > 0 && moved < 60);
    }
}
