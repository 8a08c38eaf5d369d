//! The node as one, on the fake runtime whose programs are real servers, in real time.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use store::MemoryLog;
use tokio::time::Instant;

use super::*;
use crate::admission::AllowAll;
use crate::kubelet::fake::{Fake, Program};
use crate::objects::{DeleteOptions, LabelSelector, Scope};

/// A web server on the pod's address that takes a moment until it is ready, and answers with its version.
fn web(start: &crate::runtime::StartContainer, ip: IpAddr) -> Program {
    let version = start.env.iter().find(|(name, _)| name == "VERSION").map(|(_, v)| v.clone()).unwrap_or_default();
    Box::pin(async move {
        let listener = tokio::net::TcpListener::bind((ip, 8080)).await.unwrap();
        let ready_at = Instant::now() + Duration::from_millis(60);
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let version = version.clone();
            connections.spawn(async move {
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let version = version.clone();
                    async move {
                        let mut response = Response::new(Body::from(version.clone()));
                        let probed = request.uri().path() == "/ready";
                        if probed && (Instant::now() < ready_at || version == "broken") {
                            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                        }
                        Ok::<_, Infallible>(response)
                    }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn clock() -> Clock {
    let (start, base) = (Instant::now(), jiff::Timestamp::from_second(1_800_000_000).unwrap());
    Arc::new(move || base + jiff::SignedDuration::try_from(start.elapsed()).unwrap())
}

async fn start(log: Arc<dyn Log>, fake: &Fake, directory: &std::path::Path) -> Node {
    let mut config = NodeConfig::new("here", directory);
    // Addresses of the loopback network, so that the proxies find them here.
    config.services = Cidr { network: Ipv4Addr::new(127, 96, 0, 0), prefix: 16 };
    Node::start(config, log, Arc::new(fake.clone()), Arc::new(AllowAll), clock()).await.unwrap()
}

fn deployment(version: &str, replicas: u32) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas, "progressDeadlineSeconds": 1, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
                    "name": "web", "image": "shop/web", "env": [{"name": "VERSION", "value": version}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
                }]},
            },
        },
    })
}

async fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn rolled_out(objects: &Objects, replicas: u64) -> Option<()> {
    let deployment = objects.find(&resource::DEPLOYMENTS, "default", "web")?;
    let status = &deployment["status"];
    let n = |field: &str| status[field].as_u64().unwrap_or(0);
    let seen = status["observedGeneration"] == deployment["metadata"]["generation"];
    let complete = n("updatedReplicas") == replicas && n("availableReplicas") == replicas && n("replicas") == replicas;
    (seen && complete).then_some(())
}

async fn ask(router: &Router) -> (u16, String) {
    use http_body_util::BodyExt;
    let response = router.forward("web.default.localhost", Request::get("/").body(Body::empty()).unwrap()).await;
    let status = response.status().as_u16();
    (status, String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned())
}

async fn update(objects: &Objects, version: &str) {
    let next = deployment(version, 3);
    let change = |object: &mut Value| object["spec"]["template"] = next["spec"]["template"].clone();
    objects.modify(&resource::DEPLOYMENTS, "default", "web", change).await.unwrap();
}

/// Asks from several sides until it is dropped.
struct Clients {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Clients {
    fn start(router: &Router) -> Self {
        let mut clients =
            Self { stop: Arc::default(), sent: Arc::default(), failed: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..6 {
            let (router, stop) = (router.clone(), clients.stop.clone());
            let (sent, failed) = (clients.sent.clone(), clients.failed.clone());
            clients.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let (status, _) = ask(&router).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(status != 200), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        clients
    }

    async fn finish(mut self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        (self.sent.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_rolled_over_and_back_under_load_without_a_failed_request() {
    let (log, directory): (Arc<dyn Log>, _) = (Arc::new(MemoryLog::new()), tempfile::tempdir().unwrap());
    let fake = Fake::new(clock()).with_programs(web);
    let node = start(log.clone(), &fake, directory.path()).await;
    let objects = node.objects().clone();
    let service = json!({"metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    objects.create(&resource::SERVICES, service).await.unwrap();
    let began = Instant::now();
    objects.create(&resource::DEPLOYMENTS, deployment("v1", 3)).await.unwrap();
    // A request that comes before the first pod waits for it, once the Service is known.
    let first = loop {
        let answer = ask(node.router()).await;
        if answer.0 != 404 || began.elapsed() > Duration::from_secs(60) {
            break answer;
        }
    };
    assert_eq!(first, (200, "v1".into()));
    eprintln!("first answer after {:?}", began.elapsed());
    until("first version", || rolled_out(&objects, 3)).await;
    let clients = Clients::start(node.router());
    let began = Instant::now();
    update(&objects, "v2").await;
    until("second version", || rolled_out(&objects, 3)).await;
    eprintln!("rolled over after {:?}", began.elapsed());
    // Until the last of the old pods has gone, it may answer.
    until("only the new pods are left", || (fake.pods() == 3).then_some(())).await;
    assert_eq!(ask(node.router()).await.1, "v2");
    // A version that never becomes ready takes no pod away and is given up.
    update(&objects, "broken").await;
    until("given up", || {
        let deployment = objects.find(&resource::DEPLOYMENTS, "default", "web")?;
        let conditions = deployment["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|c| c["reason"] == "ProgressDeadlineExceeded").then_some(())
    })
    .await;
    assert_eq!(ask(node.router()).await.1, "v2");
    update(&objects, "v2").await;
    until("back again", || rolled_out(&objects, 3)).await;
    until("requests enough for a load", || (clients.sent.load(Ordering::Relaxed) > 500).then_some(())).await;
    let (sent, failed) = clients.finish().await;
    assert_eq!(failed, 0, "of {sent}");
    let traffic = node.router().traffic();
    let web = traffic.iter().find(|(key, _)| key.name == "web").unwrap().1;
    assert_eq!(web.failures, 0);

    // The Service's own address leads there too, and names are found.
    let ip =
        objects.find(&resource::SERVICES, "default", "web").unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    until("the proxy listens", || std::net::TcpStream::connect((ip.as_str(), 80)).ok()).await;
    let found = node.names().lookup("web.default.svc.cluster.local", crate::dns::Kind::A);
    assert_eq!(found, crate::dns::Answer::Records(vec![crate::dns::Record::Address(ip.parse().unwrap())]));
    until("three endpoints", || {
        let of_web = LabelSelector::from_map(&json!({"kubernetes.io/service-name": "web"}));
        let slices = objects.list(&resource::ENDPOINT_SLICES, &Scope::namespace("default").labels(of_web));
        let endpoints = slices.0.first()?["endpoints"].as_array()?.clone();
        (endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count() == 3).then_some(())
    })
    .await;

    // A stop and a start: pods go on, nothing is started again.
    let starts = fake.count("start");
    node.shutdown(true).await;
    let node = start(log.clone(), &fake, directory.path()).await;
    assert_eq!(ask(node.router()).await, (200, "v2".into()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.count("start"), starts);

    // Deleting the Deployment takes everything along.
    let objects = node.objects().clone();
    objects.delete(&resource::DEPLOYMENTS, "default", "web", &DeleteOptions::default()).await.unwrap();
    until("no pods", || objects.list(&resource::PODS, &Scope::all()).0.is_empty().then_some(())).await;
    until("nothing runs", || (fake.pods() == 0).then_some(())).await;
    assert_eq!(objects.find(&resource::NODES, "", "here").unwrap()["status"]["conditions"][3]["status"], "True");
    node.shutdown(false).await;
    assert_eq!(fake.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_its_end_and_a_stop_without_keeping_leaves_nothing() {
    let (log, directory): (Arc<dyn Log>, _) = (Arc::new(MemoryLog::new()), tempfile::tempdir().unwrap());
    let fake = Fake::new(clock());
    let node = start(log, &fake, directory.path()).await;
    let objects = node.objects().clone();
    let job = json!({"metadata": {"name": "once", "namespace": "default"}, "spec": {
        "completions": 2, "parallelism": 1,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "work", "image": "shop/work"}]}},
    }});
    objects.create(&resource::JOBS, job).await.unwrap();
    for _ in 0..2 {
        until("a pod works", || (fake.running() == ["work"]).then_some(())).await;
        fake.end("work", 0);
        until("it is seen", || fake.running().is_empty().then_some(())).await;
    }
    until("complete", || {
        let job = objects.find(&resource::JOBS, "default", "once")?;
        let conditions = job["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|c| c["type"] == "Complete").then_some(())
    })
    .await;
    let pod = json!({"metadata": {"name": "stays", "namespace": "default"},
        "spec": {"containers": [{"name": "stays", "image": "shop/web"}]}});
    objects.create(&resource::PODS, pod).await.unwrap();
    until("it runs", || (fake.running() == ["stays"]).then_some(())).await;
    node.shutdown(false).await;
    assert_eq!(fake.pods(), 0);
}
