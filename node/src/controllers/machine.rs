//! The Node object of this machine, and the Lease that says it is alive.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Controller;
use crate::Result;
use crate::objects::{Objects, Resource, meta, resource};

/// How often the lease is renewed. Each renewal is a durable write, and nobody but people reads it on a single machine.
const HEARTBEAT: Duration = Duration::from_secs(300);
const LEASES: &str = "kube-node-lease";

/// What there is to say about this machine.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    pub name: String,
    pub ip: Option<IpAddr>,
    pub pod_cidr: String,
    /// Of this program.
    pub version: String,
}

pub struct Machine {
    objects: Objects,
    config: MachineConfig,
    facts: Facts,
}

/// What the kernel says.
#[derive(Debug, Clone, Default)]
struct Facts {
    processors: usize,
    memory_kib: u64,
    kernel: String,
    machine_id: String,
    boot_id: String,
    os: String,
}

impl Facts {
    fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let field = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
            line.unwrap_or_default()
        };
        let memory = field(&text("/proc/meminfo"), "MemTotal:");
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0),
            kernel: text("/proc/sys/kernel/osrelease"),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            os: field(&text("/etc/os-release"), "PRETTY_NAME=").trim_matches('"').to_owned(),
        }
    }
}

impl Machine {
    pub fn new(objects: Objects, config: MachineConfig) -> Self {
        Self { objects, config, facts: Facts::read() }
    }

    fn architecture() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }

    fn node(&self) -> Value {
        let labels = json!({
            "kubernetes.io/hostname": self.config.name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": Self::architecture(), "node-role.kubernetes.io/control-plane": "",
        });
        json!({
            "metadata": {"name": self.config.name, "labels": labels},
            "spec": {"podCIDR": self.config.pod_cidr, "podCIDRs": [self.config.pod_cidr]},
        })
    }

    fn status(&self, known: &Value) -> Value {
        let facts = &self.facts;
        let now = meta::time(self.objects.now());
        let resources = json!({
            "cpu": facts.processors.to_string(), "memory": format!("{}Ki", facts.memory_kib), "pods": "1000",
        });
        let conditions = [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ];
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status, reason, message)| {
                let before = known["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == *kind);
                let since = before.filter(|c| c["status"] == *status).and_then(|c| c["lastTransitionTime"].as_str());
                json!({
                    "type": kind, "status": status, "reason": reason, "message": message,
                    "lastHeartbeatTime": now, "lastTransitionTime": since.unwrap_or(&now),
                })
            })
            .collect();
        let mut addresses = vec![json!({"type": "Hostname", "address": self.config.name})];
        if let Some(ip) = self.config.ip {
            addresses.insert(0, json!({"type": "InternalIP", "address": ip.to_string()}));
        }
        json!({
            "addresses": addresses, "capacity": resources, "allocatable": resources, "conditions": conditions,
            "nodeInfo": {
                "architecture": Self::architecture(), "operatingSystem": "linux", "osImage": facts.os,
                "kernelVersion": facts.kernel, "machineID": facts.machine_id, "bootID": facts.boot_id, "systemUUID": "",
                "containerRuntimeVersion": format!("shipway://{}", self.config.version),
                "kubeletVersion": format!("v1.34.0+shipway-{}", self.config.version), "kubeProxyVersion": "",
            },
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
        })
    }

    async fn beat(&self) -> Result<()> {
        let name = self.config.name.as_str();
        let renewed = meta::micro_time(self.objects.now());
        let spec = json!({
            "holderIdentity": name, "leaseDurationSeconds": HEARTBEAT.as_secs() * 2, "renewTime": renewed,
        });
        if self.objects.find(&resource::LEASES, LEASES, name).is_none() {
            match self.objects.create(&resource::NAMESPACES, json!({"metadata": {"name": LEASES}})).await {
                Err(error) if !error.is_already_exists() => return Err(error),
                _ => {}
            }
            let lease = json!({"metadata": {"name": name, "namespace": LEASES}, "spec": spec});
            match self.objects.create(&resource::LEASES, lease).await {
                Err(error) if !error.is_already_exists() => return Err(error),
                _ => return Ok(()),
            }
        }
        self.objects.modify(&resource::LEASES, LEASES, name, |lease| lease["spec"] = spec.clone()).await.map(drop)
    }
}

#[async_trait]
impl Controller for Machine {
    fn name(&self) -> &'static str {
        "machine"
    }

    fn watches(&self) -> Vec<&'static Resource> {
        vec![&resource::NODES]
    }

    fn initial(&self) -> Vec<String> {
        vec![self.config.name.clone()]
    }

    /// Its own changes do not bring it back: only a Node that is new or gone does.
    fn keys(&self, _: &'static Resource, object: &Value) -> Vec<String> {
        let own = meta::name(object) == self.config.name;
        let here = self.objects.find(&resource::NODES, "", &self.config.name).is_some();
        if own && here && object["status"]["nodeInfo"].is_object() {
            Vec::new()
        } else {
            vec![self.config.name.clone()]
        }
    }

    async fn reconcile(&self, name: &str) -> Result<Option<Duration>> {
        if name != self.config.name {
            return Ok(None);
        }
        let found = self.objects.find(&resource::NODES, "", name);
        if found.is_none() {
            match self.objects.create(&resource::NODES, self.node()).await {
                Err(error) if !error.is_already_exists() => return Err(error),
                _ => {}
            }
        }
        let known = found.map(|node| node["status"].clone()).unwrap_or_default();
        let (status, wanted) = (self.status(&known), self.node());
        let written = self.objects.modify(&resource::NODES, "", name, |node| {
            node["status"] = status.clone();
            for (label, value) in wanted["metadata"]["labels"].as_object().into_iter().flatten() {
                if node["metadata"].is_object() {
                    meta::map_mut(&mut node["metadata"], "labels").insert(label.clone(), value.clone());
                }
            }
            node["spec"]["podCIDR"] = wanted["spec"]["podCIDR"].clone();
        });
        let (written, beaten) = futures::join!(written, self.beat());
        written?;
        beaten?;
        Ok(Some(HEARTBEAT))
    }
}
