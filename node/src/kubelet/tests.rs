//! The kubelet as a whole, on the fake runtime, with a paused clock.

use std::sync::Mutex;

use records::Digest;
use store::MemoryLog;
use tokio::time::Instant;

use super::fake::{Fake, clock};
use super::*;
use crate::admission::Verdict;
use crate::api::streams::{ExecOptions, LogOptions, PodStreams};
use crate::objects::DeleteOptions;

/// Refuses until it is told to allow.
#[derive(Default)]
struct Gate(Mutex<Option<String>>);

#[async_trait]
impl Admission for Gate {
    async fn admit(&self, repository: &str, _: &Digest, _: &str) -> Verdict {
        match &*self.0.lock().unwrap() {
            Some(missing) => Verdict::Deny { reasons: vec![format!("{repository} has no {missing}")] },
            None => Verdict::Allow,
        }
    }
}

struct Bench {
    objects: Objects,
    fake: Fake,
    gate: Arc<Gate>,
    root: tempfile::TempDir,
    stop: CancellationToken,
    kubelet: Kubelet,
    running: tokio::task::JoinHandle<Result<()>>,
}

impl Bench {
    async fn new() -> Self {
        let clock = clock();
        let objects = Objects::open(Arc::new(MemoryLog::new()), clock.clone()).await.unwrap();
        objects.create(&resource::NAMESPACES, json!({"metadata": {"name": "default"}})).await.unwrap();
        let (fake, gate) = (Fake::new(clock), Arc::new(Gate::default()));
        let root = tempfile::tempdir().unwrap();
        let (kubelet, stop, running) = launch(&objects, &fake, &gate, root.path());
        Self { objects, fake, gate, root, stop, kubelet, running }
    }

    /// As `kill -9` and a new start: nothing is said to anybody.
    async fn crash(&mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
        self.stop.cancel();
        let (kubelet, stop, running) = launch(&self.objects, &self.fake, &self.gate, self.root.path());
        (self.kubelet, self.stop, self.running) = (kubelet, stop, running);
    }

    async fn create(&self, spec: Value) {
        let pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
        self.objects.create(&resource::PODS, pod).await.unwrap();
    }

    fn pod(&self) -> Value {
        self.objects.find(&resource::PODS, "default", "p").map(|pod| Value::clone(&pod)).unwrap_or_default()
    }

    async fn delete(&self) {
        self.objects.delete(&resource::PODS, "default", "p", &DeleteOptions::default()).await.unwrap();
    }

    /// Lets time pass until something holds; fails after an hour.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        for _ in 0..360_000 {
            if holds(&self.pod()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never came true: {what}: {:#}\n{:?}", self.pod(), self.fake.done());
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn events(&self) -> Vec<String> {
        let (events, _) = self.objects.list(&resource::EVENTS, &Scope::all());
        events.iter().filter_map(|event| event["reason"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
        if !std::thread::panicking() {
            assert_eq!(self.fake.faults(), [""; 0], "the runtime was used in a way that a real one would not bear");
        }
    }
}

fn launch(
    objects: &Objects,
    fake: &Fake,
    gate: &Arc<Gate>,
    root: &std::path::Path,
) -> (Kubelet, CancellationToken, tokio::task::JoinHandle<Result<()>>) {
    let config = KubeletConfig {
        node: "here".into(),
        host_ip: "192.0.2.1".into(),
        root: root.to_owned(),
        cluster_domain: "cluster.local".into(),
    };
    let stop = CancellationToken::new();
    let (runtime, traffic) = (Arc::new(fake.clone()), Arc::new(NoTraffic));
    let kubelet = Kubelet::new(config, objects.clone(), runtime, gate.clone(), traffic, stop.clone());
    let own = kubelet.clone();
    (kubelet, stop, tokio::spawn(async move { own.run().await }))
}

fn condition(pod: &Value, kind: &str) -> String {
    let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or("None").to_owned()
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == "True"
}

fn waiting(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0)
}

fn one(container: Value) -> Value {
    let mut container = container;
    container["name"] = "web".into();
    container["image"] = "shop/web".into();
    json!({"containers": [container], "terminationGracePeriodSeconds": 5})
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_started_and_ready_with_few_writes() {
    let bench = Bench::new().await;
    let before = bench.objects.version();
    bench.create(one(json!({}))).await;
    bench.until("ready", is_ready).await;
    let pod = bench.pod();
    assert_eq!(pod["spec"]["nodeName"], "here");
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "127.0.5.1");
    assert_eq!(pod["status"]["hostIP"], "192.0.2.1");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert_eq!(condition(&pod, "PodScheduled"), "True");
    bench.pass(1).await;
    let events = bench.events().len() as u64;
    let writes = bench.objects.version() - before - events;
    assert!(writes <= 3, "created, bound, ready: {writes} writes beside {events} events");
    for event in ["Scheduled", "Pulled", "Started"] {
        assert!(bench.events().contains(&event.to_owned()), "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_is_restarted_later_and_later() {
    let bench = Bench::new().await;
    bench.create(one(json!({}))).await;
    let mut waits = Vec::new();
    for round in 0..5 {
        bench.until("running", |_| bench.fake.running() == ["web"]).await;
        let ended = Instant::now();
        bench.fake.end("web", 1);
        bench.until("started again", |_| bench.fake.count("start web") == round + 2).await;
        waits.push(ended.elapsed().as_secs());
        bench.until("counted", |pod| restarts(pod) == i64::try_from(round).unwrap() + 1).await;
    }
    assert_eq!(waits, [0, 10, 20, 40, 80]);
    let last = &bench.pod()["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 1);
    assert!(bench.events().contains(&"BackOff".to_owned()));
    bench.pass(700).await;
    bench.fake.end("web", 1);
    let ended = Instant::now();
    bench.until("forgiven", |_| bench.fake.count("start web") == 7).await;
    assert_eq!(ended.elapsed().as_secs(), 0, "ten minutes without an end are forgiven");
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_evidence_stays_pending_and_says_what_is_missing() {
    let bench = Bench::new().await;
    *bench.gate.0.lock().unwrap() = Some("signature".into());
    bench.create(one(json!({}))).await;
    bench.until("refused", |pod| waiting(pod) == "EvidenceMissing").await;
    let pod = bench.pod();
    assert_eq!(pod["status"]["phase"], "Pending");
    let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("shop/web has no signature") && message.contains("namespace default"), "{message}");
    bench.pass(1).await;
    let (events, _) = bench.objects.list(&resource::EVENTS, &Scope::all());
    let event = events.iter().find(|event| event["reason"] == "EvidenceMissing").expect("an event");
    assert_eq!(event["type"], "Warning");
    bench.pass(100).await;
    assert_eq!(bench.fake.count("start"), 0, "nothing of a refused pod starts");
    *bench.gate.0.lock().unwrap() = None;
    bench.until("allowed at last", is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_pulled_again_with_back_off() {
    let bench = Bench::new().await;
    bench.fake.hide_image("shop/web", true);
    bench.create(one(json!({}))).await;
    bench.until("failed", |pod| waiting(pod) == "ErrImagePull").await;
    bench.until("backing off", |pod| waiting(pod) == "ImagePullBackOff").await;
    assert_eq!(bench.fake.count("pull"), 2);
    bench.fake.hide_image("shop/web", false);
    bench.until("pulled", is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn deletion_runs_the_hook_then_the_signal_and_removes_everything() {
    let bench = Bench::new().await;
    let stop = json!({"lifecycle": {"preStop": {"exec": {"command": ["drain"]}}}});
    bench.create(one(stop)).await;
    bench.until("ready", is_ready).await;
    bench.delete().await;
    bench.until("gone", Value::is_null).await;
    let done = bench.fake.done();
    let end: Vec<&str> = done.iter().map(String::as_str).skip_while(|line| !line.starts_with("exec")).collect();
    assert_eq!(end, ["exec web drain", "signal web 15", "remove pod"]);
    assert_eq!(bench.fake.pods(), 0);
    assert_eq!(std::fs::read_dir(bench.root.path().join("logs")).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_listen_is_killed_when_its_time_is_up() {
    let bench = Bench::new().await;
    bench.fake.be_deaf("web");
    bench.create(one(json!({}))).await;
    bench.until("ready", is_ready).await;
    let asked = Instant::now();
    bench.delete().await;
    bench.until("gone", Value::is_null).await;
    assert_eq!(asked.elapsed().as_secs(), 5);
    assert_eq!(bench.fake.count("kill web"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_forced_deletion_kills_at_once() {
    let bench = Bench::new().await;
    bench.fake.be_deaf("web");
    bench.create(one(json!({}))).await;
    bench.until("ready", is_ready).await;
    bench.delete().await;
    bench.pass(1).await;
    bench.objects.delete(&resource::PODS, "default", "p", &DeleteOptions::grace(0)).await.unwrap();
    assert!(bench.pod().is_null());
    let forced = Instant::now();
    bench.until("removed", |_| bench.fake.pods() == 0).await;
    assert!(forced.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_probe_and_liveness_restarts() {
    let bench = Bench::new().await;
    bench.fake.answer("web", 1);
    let probe = json!({"exec": {"command": ["ok"]}, "periodSeconds": 5, "failureThreshold": 2});
    bench.create(one(json!({"readinessProbe": probe}))).await;
    bench.until("running", |pod| pod["status"]["phase"] == "Running").await;
    bench.pass(20).await;
    assert!(!is_ready(&bench.pod()));
    bench.fake.answer("web", 0);
    let healed = Instant::now();
    bench.until("ready", is_ready).await;
    assert!(healed.elapsed() <= Duration::from_secs(1), "it is asked often until it is ready first");
    bench.fake.answer("web", 1);
    let ill = Instant::now();
    bench.until("not ready", |pod| !is_ready(pod)).await;
    assert!((5..=10).contains(&ill.elapsed().as_secs()), "two failures in a row: {:?}", ill.elapsed());
    assert_eq!(restarts(&bench.pod()), 0);
    bench.delete().await;
    bench.until("gone", Value::is_null).await;
    bench.fake.answer("web", 0);
    bench.create(one(json!({"livenessProbe": probe}))).await;
    bench.until("ready", is_ready).await;
    bench.fake.answer("web", 1);
    bench.until("restarted", |pod| restarts(pod) == 1).await;
    assert!(bench.events().contains(&"Unhealthy".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_holds_back_the_others() {
    let bench = Bench::new().await;
    bench.fake.answer("web", 1);
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 30});
    bench.create(one(json!({"startupProbe": probe("up"), "livenessProbe": probe("alive")}))).await;
    bench.pass(10).await;
    assert_eq!(bench.fake.count("exec web alive"), 0);
    assert!(bench.fake.count("exec web up") >= 10);
    bench.fake.answer("web", 0);
    bench.until("ready", is_ready).await;
    bench.pass(3).await;
    assert!(bench.fake.count("exec web alive") >= 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_running_containers_go_on_and_orphans_are_removed() {
    let mut bench = Bench::new().await;
    bench.create(one(json!({}))).await;
    bench.until("ready", is_ready).await;
    let ip = bench.pod()["status"]["podIP"].clone();
    bench.crash().await;
    bench.pass(30).await;
    assert_eq!(bench.fake.count("start web"), 1, "it runs on, and nothing runs twice");
    assert!(is_ready(&bench.pod()));
    assert_eq!(bench.pod()["status"]["podIP"], ip);
    bench.fake.end("web", 3);
    bench.until("restarted", |pod| restarts(pod) == 1).await;
    // While nobody looks, the container ends and the pod is deleted by force.
    bench.running.abort();
    bench.objects.delete(&resource::PODS, "default", "p", &DeleteOptions::grace(0)).await.unwrap();
    bench.crash().await;
    bench.until("orphan removed", |_| bench.fake.pods() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn crashes_at_any_moment_never_start_a_container_twice() {
    for moment in 0..30 {
        let mut bench = Bench::new().await;
        let mut spec = one(json!({"readinessProbe": {"exec": {"command": ["ok"]}}}));
        spec["initContainers"] = json!([{"name": "first", "image": "shop/init"}]);
        bench.create(spec).await;
        for _ in 0..moment {
            tokio::task::yield_now().await;
        }
        bench.crash().await;
        bench.until("init runs", |_| bench.fake.running() == ["first"]).await;
        bench.fake.end("first", 0);
        for _ in 0..moment {
            tokio::task::yield_now().await;
        }
        bench.crash().await;
        bench.until("ready", is_ready).await;
        assert_eq!((bench.fake.count("start first"), bench.fake.count("start web")), (1, 1), "moment {moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_in_order_and_a_sidecar_stays() {
    let bench = Bench::new().await;
    let mut spec = one(json!({}));
    spec["initContainers"] = json!([
        {"name": "first", "image": "shop/init"},
        {"name": "side", "image": "shop/side", "restartPolicy": "Always"},
    ]);
    bench.create(spec).await;
    bench.until("first runs", |_| bench.fake.running() == ["first"]).await;
    bench.pass(1).await;
    assert_eq!(condition(&bench.pod(), "Initialized"), "False");
    bench.fake.end("first", 0);
    bench.until("ready", is_ready).await;
    assert_eq!(bench.fake.running(), ["side", "web"]);
    bench.delete().await;
    bench.until("gone", Value::is_null).await;
    let signals: Vec<String> = bench.fake.done().into_iter().filter(|line| line.starts_with("signal")).collect();
    assert_eq!(signals, ["signal web 15", "signal side 15"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_restarts_succeeds_or_fails() {
    for (code, phase) in [(0, "Succeeded"), (7, "Failed")] {
        let bench = Bench::new().await;
        let mut spec = one(json!({}));
        spec["restartPolicy"] = "Never".into();
        bench.create(spec).await;
        bench.until("ready", is_ready).await;
        bench.fake.end("web", code);
        bench.until("over", |pod| pod["status"]["phase"] == phase).await;
        bench.until("its network is free", |_| bench.fake.pods() == 0).await;
        let pod = bench.pod();
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], code);
        assert_eq!(pod["status"]["podIP"], "127.0.5.1", "for people who look later");
        bench.pass(60).await;
        assert_eq!(bench.fake.count("start"), 1);
        bench.delete().await;
        bench.until("gone", Value::is_null).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_cannot_be_started_counts_as_an_end() {
    let bench = Bench::new().await;
    bench.fake.break_program("web");
    bench.create(one(json!({}))).await;
    bench.until("backing off", |pod| waiting(pod) == "CrashLoopBackOff").await;
    let last = &bench.pod()["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((last["reason"].as_str(), last["exitCode"].as_i64()), (Some("StartError"), Some(128)));
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_waited_for_and_its_changes_reach_the_files() {
    let bench = Bench::new().await;
    let mut spec = one(json!({"volumeMounts": [{"name": "c", "mountPath": "/c"}]}));
    spec["volumes"] = json!([{"name": "c", "configMap": {"name": "conf"}}]);
    bench.create(spec).await;
    bench.until("waiting", |pod| waiting(pod) == "CreateContainerConfigError").await;
    let map = json!({"metadata": {"name": "conf", "namespace": "default"}, "data": {"key": "one"}});
    let made = Instant::now();
    bench.objects.create(&resource::CONFIG_MAPS, map).await.unwrap();
    bench.until("ready", is_ready).await;
    assert!(made.elapsed() < Duration::from_millis(500), "it is tried at once");
    let file = bench.fake.started("web").unwrap().mounts[0].source.join("key");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    let change = |map: &mut Value| map["data"]["key"] = "two".into();
    bench.objects.modify(&resource::CONFIG_MAPS, "default", "conf", change).await.unwrap();
    bench.until("changed", |_| std::fs::read_to_string(&file).is_ok_and(|text| text == "two")).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_outlives_its_deadline_fails() {
    let bench = Bench::new().await;
    let mut spec = one(json!({}));
    spec["activeDeadlineSeconds"] = 30.into();
    bench.create(spec).await;
    bench.until("ready", is_ready).await;
    bench.until("over", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(bench.pod()["status"]["reason"], "DeadlineExceeded");
    bench.until("ended", |_| bench.fake.running().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_for_another_kind_of_node_is_not_placed() {
    let bench = Bench::new().await;
    let mut spec = one(json!({}));
    spec["nodeSelector"] = json!({"disk": "fast"});
    bench.create(spec).await;
    bench.until("told", |pod| condition(pod, "PodScheduled") == "False").await;
    let node = json!({"metadata": {"name": "here", "labels": {"disk": "fast"}}});
    bench.objects.create(&resource::NODES, node).await.unwrap();
    bench.until("placed", is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn logs_and_exec_find_the_container_of_the_moment() {
    let bench = Bench::new().await;
    bench.create(one(json!({}))).await;
    bench.until("ready", is_ready).await;
    let write = |attempt: u32| {
        let log = bench.fake.started("web").unwrap().log;
        let line = format!("2026-01-01T00:00:00.0Z stdout F attempt {attempt}\n");
        std::fs::write(log, line).unwrap();
    };
    write(0);
    bench.fake.end("web", 1);
    bench.until("restarted", |pod| restarts(pod) == 1 && is_ready(pod)).await;
    write(1);
    let read = async |options: LogOptions| -> String {
        use futures::StreamExt;
        let parts: Vec<_> = bench.kubelet.logs("default", "p", "web", options).await.unwrap().collect().await;
        parts.into_iter().map(|part| String::from_utf8_lossy(&part.unwrap()).into_owned()).collect()
    };
    assert_eq!(read(LogOptions::default()).await, "attempt 1\n");
    assert_eq!(read(LogOptions { previous: true, ..Default::default() }).await, "attempt 0\n");
    let options = ExecOptions { command: vec!["hi".into()], stdout: true, ..Default::default() };
    let mut process = bench.kubelet.exec("default", "p", "web", options).await.unwrap();
    assert_eq!(process.stdout.as_mut().unwrap().recv().await.unwrap(), "said\n");
    assert_eq!(process.exit.await.unwrap().code, 0);
}
