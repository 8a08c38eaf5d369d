//! A cluster without machines: an API whose Jobs, Pods and Deployments are ended and made ready by a task of the test.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chart::{Chart, Flavor, Loader, Tree, Warnings, load::Kind};
use futures::{StreamExt, stream::BoxStream};
use helm::{Cluster, Deploy, Driver, Helm, Life, Owner, Say, Source, Storage};
use kube::{
    Client, Config,
    api::{Api, DynamicObject, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    discovery::ApiResource,
};
use node::{
    api::{
        Server, ServerConfig,
        streams::{Connection, ExecOptions, LogOptions, PodStreams, Process},
    },
    objects::Objects,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub struct World {
    pub client: Client,
    pub directory: tempfile::TempDir,
    pub said: Arc<Mutex<Vec<String>>>,
    server: Server,
    kubelet: tokio::task::JoinHandle<()>,
}

struct Logs;

#[async_trait]
impl PodStreams for Logs {
    async fn logs(
        &self,
        _: &str,
        pod: &str,
        _: &str,
        _: LogOptions,
    ) -> node::Result<BoxStream<'static, node::Result<Bytes>>> {
        let text = Bytes::from(format!("{pod} says hello\n"));
        Ok(futures::stream::iter([Ok(text)]).boxed())
    }

    async fn exec(&self, _: &str, _: &str, _: &str, _: ExecOptions) -> node::Result<Process> {
        Err(node::Error::bad_request("no containers here"))
    }

    async fn connect(&self, _: &str, _: &str, _: u16) -> node::Result<std::pin::Pin<Box<dyn Connection>>> {
        Err(node::Error::bad_request("no containers here"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the real helm reads the wall clock, so must its server")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

impl World {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(Arc::new(store::MemoryLog::default()), Arc::new(now)).await.unwrap();
        let config = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            directory: directory.path().join("tls"),
            names: Vec::new(),
        };
        let server = Server::start(config, objects, Arc::new(Logs)).await.unwrap();
        std::fs::write(directory.path().join("kubeconfig"), server.kubeconfig()).unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let kubelet = tokio::spawn(kubelet(client.clone()));
        Self { client, directory, said: Arc::default(), server, kubelet }
    }

    pub async fn end(self) {
        self.kubelet.abort();
        self.server.shutdown().await;
    }

    /// What a process of its own would carry operations out with; `life` is what it knows of all others.
    pub fn helm(&self, id: &str, life: Life) -> Helm {
        self.helm_with(id, life, Driver::Secret)
    }

    pub fn helm_with(&self, id: &str, life: Life, driver: Driver) -> Helm {
        let cluster = Cluster::new(self.client.clone());
        let said = self.said.clone();
        Helm {
            releases: Storage::new(cluster.clone(), driver, "default"),
            cluster,
            clock: Arc::new(now),
            owner: Owner { id: id.to_owned(), alive: Arc::new(move |_| life) },
            patience: Helm::PATIENCE,
            tell: Arc::new(move |say| {
                said.lock().unwrap().push(match say {
                    Say::Warning(text) => text,
                    Say::Log(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                });
            }),
            stop: CancellationToken::new(),
        }
    }

    pub fn api(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        Api::default_namespaced_with(self.client.clone(), &resource(version, kind))
    }

    pub async fn find(&self, version: &str, kind: &str, name: &str) -> Option<Value> {
        let found = self.api(version, kind).get_opt(name).await.unwrap()?;
        Some(serde_json::to_value(found).unwrap())
    }

    /// The names of all objects of a kind.
    pub async fn names(&self, version: &str, kind: &str) -> Vec<String> {
        let all = self.api(version, kind).list(&ListParams::default()).await.unwrap();
        all.items.into_iter().filter_map(|object| object.metadata.name).collect()
    }
}

fn resource(version: &str, kind: &str) -> ApiResource {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind))
}

/// Ends Jobs and Pods, those named `bad…` badly, those named `slow…` never; makes Deployments ready unless an image is `bad`.
async fn kubelet(client: Client) {
    loop {
        for (version, kind) in [("batch/v1", "Job"), ("v1", "Pod"), ("apps/v1", "Deployment")] {
            let api: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource(version, kind));
            let Ok(all) = api.list(&ListParams::default()).await else { continue };
            for object in all.items {
                let name = object.metadata.name.clone().unwrap_or_default();
                let value = serde_json::to_value(&object).unwrap();
                if let Some(status) = outcome(kind, &name, &value) {
                    let patch = Patch::Merge(json!({ "status": status }));
                    let _ = api.patch_status(&name, &PatchParams::default(), &patch).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn outcome(kind: &str, name: &str, object: &Value) -> Option<Value> {
    let bad = name.starts_with("bad");
    let condition = |kind: &str| {
        json!([{ "type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
        "lastProbeTime": "2026-01-01T00:00:00Z" }])
    };
    if name.starts_with("slow") {
        return None;
    }
    match kind {
        "Job" if object["status"]["conditions"].is_null() => {
            let ended = if bad { "Failed" } else { "Complete" };
            Some(json!({ "conditions": condition(ended), "startTime": "2026-01-01T00:00:00Z" }))
        }
        "Pod" if object["status"]["phase"] != "Succeeded" && object["status"]["phase"] != "Failed" => {
            Some(json!({ "phase": if bad { "Failed" } else { "Succeeded" } }))
        }
        "Deployment" => {
            let image = object.pointer("/spec/template/spec/containers/0/image")?.as_str()?;
            let generation = &object["metadata"]["generation"];
            let ready = if image.starts_with("bad") { 0 } else { object["spec"]["replicas"].as_i64()? };
            let same = &object["status"]["observedGeneration"] == generation
                && object["status"]["readyReplicas"].as_i64().unwrap_or(0) == ready;
            (!same).then(|| {
                json!({
                    "observedGeneration": generation, "replicas": object["spec"]["replicas"],
                    "updatedReplicas": object["spec"]["replicas"], "readyReplicas": ready, "availableReplicas": ready,
                    "conditions": [{ "type": "Available", "status": if ready > 0 { "True" } else { "False" } },
                        { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }],
                })
            })
        }
        _ => None,
    }
}

/// A chart in memory, which is also written to a directory for the real `helm`.
pub struct Files(pub Vec<(&'static str, String)>);

impl Tree for Files {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut entries: Vec<(String, Kind)> = Vec::new();
        for (path, text) in &self.0 {
            let Some(rest) = path.strip_prefix(&prefix) else { continue };
            let entry = match rest.split_once('/') {
                Some((directory, _)) => (directory.to_owned(), Kind::Directory),
                None => (rest.to_owned(), Kind::File(text.len() as u64)),
            };
            if !entries.iter().any(|(name, _)| *name == entry.0) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        let found = self.0.iter().find(|(path, _)| *path == file);
        found.map(|(_, text)| text.clone().into_bytes()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

impl Files {
    pub fn write(&self, directory: &Path) {
        for (path, text) in &self.0 {
            let file = directory.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
    }

    pub fn chart(&self) -> Chart {
        Loader::default().tree(self, &Warnings::default()).unwrap()
    }
}

/// `web` in a version: a ConfigMap, a Service and a Deployment, hooks before and after, a test, notes.
pub fn web(version: &str) -> Files {
    let hook = |name: &str, kind: &str, events: &str, weight: i32, policy: &str| {
        let spec = "{restartPolicy: Never, containers: [{name: c, image: \"job:1\"}]}";
        let (api, spec) = match kind {
            "Job" => ("batch/v1", format!("{{template: {{spec: {spec}}}}}")),
            _ => ("v1", spec.to_owned()),
        };
        format!(
            "apiVersion: {api}\nkind: {kind}\nmetadata:\n  name: {name}\n  annotations:\n    helm.sh/hook: {events}\n    helm.sh/hook-weight: \"{weight}\"\n    helm.sh/hook-delete-policy: {policy}\nspec: {spec}\n"
        )
    };
    let deployment = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}", labels: {app: web}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: {{ .Values.image | quote }}
        env:
        - {name: A, value: one}
        {{- if .Values.more }}
        - {name: B, value: two}
        {{- end }}
"#;
    let config = r#"apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-config"}
data:
  version: {{ .Chart.Version | quote }}
  revision: {{ .Release.Revision | quote }}
  found: {{ (lookup "v1" "ConfigMap" .Release.Namespace "outside").data | toJson | quote }}
{{- if .Values.more }}
  more: "yes"
{{- end }}
{{- if .Values.extra }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Values.extra }}}
{{- end }}
{{- if .Values.kept }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}
{{- end }}
"#;
    let hooks = format!(
        "{{{{ if .Values.hooks }}}}\n{}---\n{}---\n{}{{{{ end }}}}\n",
        hook("{{ .Values.before }}", "Job", "pre-install,pre-upgrade", -5, "before-hook-creation"),
        hook("after", "Job", "post-install,post-upgrade,post-rollback", 0, "hook-succeeded"),
        hook("gone", "Job", "pre-delete", 0, "hook-succeeded"),
    );
    Files(vec![
        ("Chart.yaml", format!("apiVersion: v2\nname: web\nversion: {version}\nappVersion: \"7\"\n")),
        ("values.yaml", "replicas: 2\nimage: web:1\nhooks: true\nbefore: before\nmore: false\nextra: \"\"\nkept: false\n".to_owned()),
        ("templates/NOTES.txt", "{{ .Release.Name }} {{ .Chart.Version }} is up.\n".to_owned()),
        ("templates/config.yaml", config.to_owned()),
        ("templates/deployment.yaml", deployment.to_owned()),
        ("templates/hooks.yaml", hooks),
        (
            "templates/service.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: \"{{ .Release.Name }}\"}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n".to_owned(),
        ),
        ("templates/tests/test.yaml", hook("{{ .Release.Name }}-test", "Pod", "test", 0, "before-hook-creation")),
    ])
}

pub fn source(version: &str, set: &[&str]) -> Source {
    let given = chart::Given { typed: set.iter().map(|text| (*text).to_owned()).collect(), ..chart::Given::default() };
    Source {
        chart: web(version).chart(),
        values: given.merge(&mut |_| Err("no files".to_owned()), Flavor::Helm4).unwrap(),
        filter: None,
        seed: 7,
        flavor: Flavor::Helm4,
    }
}

pub fn deploy(name: &str) -> Deploy {
    Deploy {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        timeout: Duration::from_secs(20),
        ..Deploy::default()
    }
}

/// The real programs; says so when there are none.
pub fn helms() -> Vec<PathBuf> {
    let split = |name: &str| std::env::var_os(name).map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    let mut found: Vec<PathBuf> = split("PATH")
        .unwrap_or_default()
        .into_iter()
        .map(|path| path.join("helm"))
        .filter(|path| path.is_file())
        .collect();
    found.truncate(1);
    found.extend(split("SHIPWAY_TEST_HELM").unwrap_or_default());
    if found.is_empty() {
        eprintln!("SKIPPED: there is no helm on the path, and SHIPWAY_TEST_HELM names none");
    }
    found
}
