//! Against the built-in node's API and controllers; nothing runs the pods but these tests.

use std::pin::Pin;

use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Pod, Secret},
};
use kube::api::{Patch, PatchParams};
use node::{
    Objects,
    api::{
        Server, ServerConfig,
        streams::{Connection, ExecOptions, LogOptions, PodStreams, Process},
    },
};
use records::labels::{ENVIRONMENT, PROJECT, RELEASE};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

struct NoPods;

fn nothing() -> node::Error {
    node::Error::bad_request("no pod runs here")
}

#[async_trait]
impl PodStreams for NoPods {
    async fn logs(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: LogOptions,
    ) -> node::Result<BoxStream<'static, node::Result<Bytes>>> {
        Err(nothing())
    }
    async fn exec(&self, _: &str, _: &str, _: &str, _: ExecOptions) -> node::Result<Process> {
        Err(nothing())
    }
    async fn connect(&self, _: &str, _: &str, _: u16) -> node::Result<Pin<Box<dyn Connection>>> {
        Err(nothing())
    }
}

struct Bench {
    server: Server,
    objects: Objects,
    directory: tempfile::TempDir,
    cluster: KubeCluster,
    client: Client,
    _controllers: DropGuard,
}

impl Bench {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(Arc::new(store::MemoryLog::default()), crate::clock::system()).await.unwrap();
        let server = serve(&objects, &directory, 0).await;
        let kubeconfig = directory.path().join("kubeconfig");
        let client = Session::open(&kubeconfig).await.unwrap().client;
        let stop = CancellationToken::new();
        let controllers = node::controllers::all(&objects, "");
        tokio::spawn(node::controllers::run_all(controllers, objects.clone(), stop.clone()));
        let cluster = KubeCluster::new(kubeconfig);
        Self { server, objects, directory, cluster, client, _controllers: stop.drop_guard() }
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "journal")
    }

    async fn apply(&self, objects: &[Value]) -> Result<(), ClusterError> {
        self.cluster.apply(objects, "shipway").await
    }

    async fn web(&self) -> WorkloadStatus {
        let web = WorkloadRef { kind: "Deployment".into(), name: "web".into() };
        self.cluster.workloads(&namespace(), &[web]).await.unwrap().remove(0)
    }

    /// Looks until it holds.
    async fn until(&self, what: &str, holds: impl Fn(&WorkloadStatus) -> bool) -> WorkloadStatus {
        for _ in 0..6000 {
            let status = self.web().await;
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not {what}: {:?}", self.web().await);
    }

    /// Says of all pods of an image that they are ready, or what their containers wait for.
    async fn report(&self, image: &str, waiting: Option<Value>) {
        for pod in self.api::<Pod>().list(&ListParams::default()).await.unwrap() {
            if pod.spec.as_ref().unwrap().containers[0].image.as_deref() != Some(image) {
                continue;
            }
            let ready = waiting.is_none();
            let state = waiting.as_ref().map_or(json!({ "running": {} }), |waiting| json!({ "waiting": waiting }));
            let condition = json!({ "type": "Ready", "status": if ready { "True" } else { "False" } });
            let container = json!({ "name": "web", "image": image, "imageID": "", "ready": ready, "restartCount": 0, "state": state });
            let status = json!({ "status": { "phase": "Running", "conditions": [condition], "containerStatuses": [container] } });
            let name = pod.metadata.name.unwrap();
            self.api::<Pod>().patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
    }
}

async fn serve(objects: &Objects, directory: &tempfile::TempDir, port: u16) -> Server {
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], port).into(),
        directory: directory.path().join("tls"),
        names: Vec::new(),
    };
    let server = Server::start(config, objects.clone(), Arc::new(NoPods)).await.unwrap();
    std::fs::write(directory.path().join("kubeconfig"), server.kubeconfig()).unwrap();
    server
}

fn namespace() -> Name {
    "journal".parse().unwrap()
}

fn object(version: &str, kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": version, "kind": kind,
        "metadata": { "name": name, "namespace": "journal", "labels": { PROJECT: "journal", ENVIRONMENT: "prod" },
            "annotations": { RELEASE: "journal/prod/1" } },
    })
}

fn web(image: &str) -> Value {
    let mut web = object("apps/v1", "Deployment", "web");
    let labels = json!({ "app": "web", PROJECT: "journal", ENVIRONMENT: "prod" });
    web["spec"] = json!({
        "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
        "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "web", "image": image }] } },
    });
    web
}

#[tokio::test]
async fn a_release_is_applied_into_a_namespace_that_is_not_there_and_followed_to_its_end() {
    let bench = Bench::start().await;
    bench.apply(&[object("v1", "ConfigMap", "settings"), web("one")]).await.unwrap();
    assert!(Api::<Namespace>::all(bench.client.clone()).get("journal").await.is_ok());
    let found = bench.api::<Deployment>().get("web").await.unwrap();
    let managers: Vec<_> =
        found.metadata.managed_fields.unwrap().into_iter().map(|m| (m.manager, m.operation)).collect();
    assert!(managers.contains(&(Some("shipway".into()), Some("Apply".into()))), "{managers:?}");

    bench.until("started", |web| web.updated == 2 && web.ready == 0).await;
    bench.report("one", None).await;
    let done = bench.until("ready", |web| web.ready == 2).await;
    assert_eq!((done.desired, done.available, done.old_replicas, done.failure), (2, 2, 0, None));

    // Applying the same again changes nothing.
    let before = bench.objects.version();
    bench.apply(&[object("v1", "ConfigMap", "settings"), web("one")]).await.unwrap();
    assert_eq!(bench.objects.version(), before);

    bench.apply(&[web("two")]).await.unwrap();
    bench.until("replaced", |web| web.observed == web.generation && web.updated > 0 && web.ready == 0).await;
    bench.report("two", Some(json!({ "reason": "EvidenceMissing", "message": "two has no signature" }))).await;
    let refused = bench.until("refused", |web| web.failure.is_some()).await;
    let failure = refused.failure.unwrap();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Refused, "two has no signature"));
    assert!(refused.old_replicas > 0);
    bench.server.shutdown().await;
}

#[tokio::test]
async fn what_a_release_no_longer_has_goes_and_nothing_else() {
    let bench = Bench::start().await;
    let kept = object("v1", "ConfigMap", "kept");
    let mut foreign = object("v1", "ConfigMap", "foreign");
    foreign["metadata"]["labels"][ENVIRONMENT] = "dev".into();
    let mut by_hand = object("v1", "Secret", "by-hand");
    by_hand["metadata"].as_object_mut().unwrap().remove("annotations");
    let gone = [object("v1", "ConfigMap", "gone"), object("v1", "Secret", "gone")];
    bench.apply(&[kept, foreign, by_hand, gone[0].clone(), gone[1].clone(), web("one")]).await.unwrap();
    bench.until("started", |web| web.updated == 2).await;

    let labels =
        BTreeMap::from([(PROJECT.to_owned(), "journal".to_owned()), (ENVIRONMENT.to_owned(), "prod".to_owned())]);
    let keep =
        [("v1", "ConfigMap", "kept"), ("apps/v1", "Deployment", "web")].map(|(api_version, kind, name)| ObjectRef {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: Some("journal".into()),
            name: name.into(),
        });
    bench.cluster.prune(&namespace(), &labels, &keep).await.unwrap();
    let names = async |what| {
        let mut names: Vec<String> = match what {
            "configmaps" => bench
                .api::<ConfigMap>()
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .into_iter()
                .filter_map(|c| c.metadata.name)
                .collect(),
            _ => bench
                .api::<Secret>()
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .into_iter()
                .filter_map(|s| s.metadata.name)
                .collect(),
        };
        names.retain(|name| !name.starts_with("kube-"));
        names
    };
    assert_eq!(names("configmaps").await, ["foreign", "kept"]);
    assert_eq!(names("secrets").await, ["by-hand"]);
    // Pods carry the labels too, but they belong to their set.
    assert_eq!(bench.web().await.updated, 2);
    bench.server.shutdown().await;
}

#[tokio::test]
async fn what_the_cluster_does_not_take_is_named_with_its_reason() {
    let bench = Bench::start().await;
    let rejected = async |object: Value| match bench.apply(&[object]).await {
        Err(error @ ClusterError::Rejected { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let mut typo = web("one");
    typo["spec"]["replica"] = 3.into();
    insta::assert_snapshot!(rejected(typo).await, @r#"the cluster rejects deployment journal/web: Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replica""#);
    insta::assert_snapshot!(rejected(object("example.org/v1", "Backup", "nightly")).await, @"the cluster rejects backup journal/nightly: it has no kind Backup in example.org/v1; is its definition missing?");
    insta::assert_snapshot!(rejected(object("v1", "ConfigMap", "../secrets/admin")).await, @"the cluster rejects configmap journal/../secrets/admin: its name or its namespace cannot be a name");
    let mut nowhere = object("v1", "ConfigMap", "nowhere");
    nowhere["metadata"].as_object_mut().unwrap().remove("namespace");
    insta::assert_snapshot!(rejected(nowhere).await, @"the cluster rejects configmap nowhere: it names no namespace");
    bench.server.shutdown().await;
}

#[tokio::test]
async fn a_cluster_that_comes_back_is_found_again() {
    let bench = Bench::start().await;
    bench.apply(&[web("one")]).await.unwrap();
    let Bench { server, objects, directory, cluster, .. } = bench;
    server.shutdown().await;
    let gone = cluster.apply(&[web("one")], "shipway").await;
    assert!(matches!(&gone, Err(ClusterError::Unavailable(_))), "{gone:?}");
    // On another port, as after a restart.
    let server = serve(&objects, &directory, 0).await;
    cluster.apply(&[web("one")], "shipway").await.unwrap();
    server.shutdown().await;

    let nowhere = KubeCluster::new(directory.path().join("other"));
    let missing = nowhere.apply(&[web("one")], "shipway").await.unwrap_err().to_string();
    assert!(
        missing.starts_with("the cluster cannot be reached: there is no ") && missing.ends_with("other yet"),
        "{missing}"
    );
}
