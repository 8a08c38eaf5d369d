//! A cluster, a store and a clock that do what a test says; and a server that can be killed at every call it makes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use records::{
    Cause, Decision, Environment, Name, OnFailure, Policy, Record, Release, ReleaseId, Rollout, RolloutState, Strategy,
    Timestamp,
};
use rollout::{Cluster, ClusterError, Failure, FailureKind, ObjectRef, Report, Rollouts, WorkloadRef, WorkloadStatus};
use serde_json::{Value, json};
use store::{Change, Entry, Expect, Kind, Log, MemoryBlobs, MemoryLog, Page, Records, Seq};
use tokio::sync::watch;

/// When the server dies: at its so-many-th call, before or after the call has its effect.
#[derive(Default)]
pub struct Fate {
    calls: AtomicI64,
    dies_at: AtomicI64,
    after: AtomicBool,
    dead: AtomicBool,
}

impl Fate {
    pub fn set(&self, dies_at: i64, after: bool) {
        self.calls.store(0, SeqCst);
        self.dies_at.store(dies_at, SeqCst);
        self.after.store(after, SeqCst);
    }

    pub fn calls(&self) -> i64 {
        self.calls.load(SeqCst)
    }

    /// Does a call, unless the server is dead; it does not hear the answer to the call that it dies at.
    async fn call<T>(&self, effect: impl Future<Output = T>) -> Option<T> {
        if self.dead.load(SeqCst) {
            return None;
        }
        let call = self.calls.fetch_add(1, SeqCst) + 1;
        let dies = call == self.dies_at.load(SeqCst);
        if dies {
            self.dead.store(true, SeqCst);
            if !self.after.load(SeqCst) {
                return None;
            }
        }
        let done = effect.await;
        (!dies).then_some(done)
    }
}

struct MortalLog {
    log: MemoryLog,
    fate: Arc<Fate>,
}

fn killed<T>(done: Option<store::Result<T>>) -> store::Result<T> {
    done.unwrap_or_else(|| Err(store::Error::new(Kind::Io, "killed")))
}

#[async_trait]
impl Log for MortalLog {
    async fn append(&self, changes: Vec<Change>) -> store::Result<Seq> {
        killed(self.fate.call(self.log.append(changes)).await)
    }
    async fn get(&self, kind: &str, key: &str) -> store::Result<Option<Entry>> {
        killed(self.fate.call(self.log.get(kind, key)).await)
    }
    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> store::Result<Page> {
        killed(self.fate.call(self.log.list(kind, prefix, after, limit)).await)
    }
    async fn changes(&self, kind_prefix: &str, after: Seq, limit: usize) -> store::Result<Vec<Entry>> {
        killed(self.fate.call(self.log.changes(kind_prefix, after, limit)).await)
    }
    fn head(&self) -> watch::Receiver<Seq> {
        self.log.head()
    }
    async fn compact(&self, kind_prefix: &str, upto: Seq) -> store::Result<()> {
        self.log.compact(kind_prefix, upto).await
    }
}

/// What a version does when it is started. It is the part of its image in front of the colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    NeverReady,
    Crashes,
    NoImage,
    Rejected,
}

impl Behaviour {
    pub const ALL: [Self; 5] = [Self::Good, Self::NeverReady, Self::Crashes, Self::NoImage, Self::Rejected];

    fn of(image: &str) -> Self {
        let name = image.split(':').next().unwrap_or_default();
        Self::ALL.into_iter().find(|known| format!("{known:?}") == name).expect("an image of these tests")
    }
}

#[derive(Debug, Clone)]
struct Pod {
    image: String,
    ready: bool,
    age: u32,
}

#[derive(Debug, Default)]
struct Workload {
    image: String,
    pods: Vec<Pod>,
    generation: i64,
    observed: i64,
}

const REPLICAS: usize = 3;

/// A namespace with Deployments of three replicas, which are replaced one at a time and never below three.
#[derive(Default)]
pub struct Simulated {
    state: Mutex<ClusterState>,
    fate: Arc<Fate>,
}

#[derive(Default)]
struct ClusterState {
    objects: BTreeMap<(String, String), Value>,
    workloads: BTreeMap<String, Workload>,
    unreachable: bool,
    applied: u32,
}

impl Simulated {
    fn state(&self) -> std::sync::MutexGuard<'_, ClusterState> {
        self.state.lock().unwrap()
    }

    pub fn unreachable(&self, unreachable: bool) {
        self.state().unreachable = unreachable;
    }

    pub fn applied(&self) -> u32 {
        self.state().applied
    }

    /// `Kind name` of all objects.
    pub fn objects(&self) -> Vec<String> {
        self.state().objects.keys().map(|(kind, name)| format!("{kind} {name}")).collect()
    }

    pub fn object(&self, kind: &str, name: &str) -> Value {
        self.state().objects[&(kind.to_owned(), name.to_owned())].clone()
    }

    /// The images of the pods that are ready.
    pub fn serving(&self) -> Vec<String> {
        let state = self.state();
        let pods = state.workloads.get("web").map(|workload| workload.pods.clone()).unwrap_or_default();
        pods.into_iter().filter(|pod| pod.ready).map(|pod| pod.image).collect()
    }

    /// Lets a little time pass.
    pub fn tick(&self) {
        for workload in self.state().workloads.values_mut() {
            workload.observed = workload.generation;
            let image = workload.image.clone();
            for pod in &mut workload.pods {
                pod.age += 1;
                pod.ready = pod.ready || (Behaviour::of(&pod.image) == Behaviour::Good && pod.age > 1);
            }
            let ready = workload.pods.iter().filter(|pod| pod.ready).count();
            // What is not ready can go at once, what is ready when there is one too many.
            let goes = workload.pods.iter().position(|pod| pod.image != image && (!pod.ready || ready > REPLICAS));
            if let Some(goes) = goes {
                workload.pods.remove(goes);
            }
            let new = workload.pods.iter().filter(|pod| pod.image == image).count();
            if new < REPLICAS && workload.pods.len() <= REPLICAS {
                workload.pods.push(Pod { image, ready: false, age: 0 });
            }
        }
    }

    fn reach(&self) -> Result<std::sync::MutexGuard<'_, ClusterState>, ClusterError> {
        let state = self.state();
        if state.unreachable { Err(ClusterError::Unavailable("connection refused".into())) } else { Ok(state) }
    }

    fn do_apply(&self, objects: &[Value]) -> Result<(), ClusterError> {
        let mut state = self.reach()?;
        state.applied += 1;
        for object in objects {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (kind, name) = (text("/kind"), text("/metadata/name"));
            if kind == "Deployment" {
                let image = text("/spec/template/spec/containers/0/image");
                if Behaviour::of(&image) == Behaviour::Rejected {
                    let message = "spec.replicas: Invalid value.".into();
                    return Err(ClusterError::Rejected { object: format!("deployment journal/{name}"), message });
                }
                let workload = state.workloads.entry(name.clone()).or_default();
                if workload.image != image {
                    workload.image = image;
                    workload.generation += 1;
                }
            }
            state.objects.insert((kind, name), object.clone());
        }
        Ok(())
    }

    fn do_prune(&self, labels: &BTreeMap<String, String>, keep: &[ObjectRef]) -> Result<(), ClusterError> {
        assert_eq!(labels.len(), 2, "project and environment");
        let mut state = self.reach()?;
        state.objects.retain(|(kind, name), object| {
            let ours = labels.iter().all(|(key, value)| object["metadata"]["labels"][key] == *value);
            !ours || keep.iter().any(|keep| keep.kind == *kind && keep.name == *name)
        });
        Ok(())
    }

    fn do_workloads(&self, wanted: &[WorkloadRef]) -> Result<Vec<WorkloadStatus>, ClusterError> {
        let state = self.reach()?;
        let status = |wanted: &WorkloadRef| {
            let workload = state.workloads.get(&wanted.name)?;
            let new: Vec<&Pod> = workload.pods.iter().filter(|pod| pod.image == workload.image).collect();
            let ready = new.iter().filter(|pod| pod.ready).count() as u32;
            let newest = new.iter().rev().find(|pod| !pod.ready);
            let failure = newest.and_then(|pod| {
                let (kind, message) = match Behaviour::of(&pod.image) {
                    Behaviour::NeverReady => {
                        (FailureKind::NotReady, "readiness probe GET /ready on port 8080 answered 503")
                    }
                    Behaviour::Crashes => (
                        FailureKind::Crashing { restarts: pod.age / 3 },
                        "its container web keeps exiting with status 1",
                    ),
                    Behaviour::NoImage => (FailureKind::Image, "the registry has no such image"),
                    Behaviour::Good | Behaviour::Rejected => return None,
                };
                Some(Failure { kind, message: message.into() })
            });
            Some(WorkloadStatus {
                kind: wanted.kind.clone(),
                name: wanted.name.clone(),
                generation: workload.generation,
                observed: workload.observed,
                desired: REPLICAS as u32,
                updated: new.len() as u32,
                ready,
                available: ready,
                old_replicas: (workload.pods.len() - new.len()) as u32,
                failure,
            })
        };
        Ok(wanted.iter().filter_map(status).collect())
    }
}

fn cut<T>(done: Option<Result<T, ClusterError>>) -> Result<T, ClusterError> {
    done.unwrap_or_else(|| Err(ClusterError::Unavailable("killed".into())))
}

#[async_trait]
impl Cluster for Simulated {
    async fn apply(&self, objects: &[Value], field_manager: &str) -> Result<(), ClusterError> {
        assert_eq!(field_manager, "shipway");
        cut(self.fate.call(async { self.do_apply(objects) }).await)
    }
    async fn prune(&self, _: &Name, labels: &BTreeMap<String, String>, keep: &[ObjectRef]) -> Result<(), ClusterError> {
        cut(self.fate.call(async { self.do_prune(labels, keep) }).await)
    }
    async fn workloads(&self, _: &Name, workloads: &[WorkloadRef]) -> Result<Vec<WorkloadStatus>, ClusterError> {
        cut(self.fate.call(async { self.do_workloads(workloads) }).await)
    }
}

/// Everything together.
pub struct World {
    pub records: Records,
    pub cluster: Arc<Simulated>,
    pub fate: Arc<Fate>,
    pub now: Timestamp,
    pub restarts: u32,
    blobs: Arc<MemoryBlobs>,
    server: Rollouts,
}

pub const DEADLINE_S: u64 = 20;

impl World {
    pub fn new() -> Self {
        let fate = Arc::new(Fate::default());
        let records = Records::new(Arc::new(MortalLog { log: MemoryLog::new(), fate: fate.clone() }));
        let blobs = Arc::new(MemoryBlobs::new());
        let cluster = Arc::new(Simulated { fate: fate.clone(), ..Simulated::default() });
        let server = Rollouts::new(records.clone(), blobs.clone(), cluster.clone());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { records, cluster, fate, now, restarts: 0, blobs, server }
    }

    /// A release of the next number, with a ConfigMap that only it has. `Pause`s when `on_failure` says so.
    pub async fn release(&self, behaviour: Behaviour, on_failure: OnFailure) -> ReleaseId {
        // The test's own hand is not the server's.
        let alive = self.fate.calls.load(SeqCst);
        let dies_at = self.fate.dies_at.swap(0, SeqCst);
        let number = self.records.list::<Release>("").await.unwrap().len() as u64 + 1;
        let id: ReleaseId = format!("journal/prod/{number}").parse().unwrap();
        let labels = json!({ "shipway.dev/project": "journal", "shipway.dev/environment": "prod" });
        let containers = json!([{ "name": "web", "image": format!("{behaviour:?}:{number}") }]);
        let objects = json!([
            { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "journal" } },
            { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("config-{number}"), "namespace": "journal", "labels": labels } },
            { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "journal", "labels": labels },
              "spec": { "template": { "spec": { "containers": containers } } } },
        ]);
        let environment = Environment {
            name: id.environment.clone(),
            namespace: id.project.clone(),
            after: None,
            approve: vec![],
            policy: Policy::default(),
            strategy: Strategy::Rolling,
            on_failure,
            progress_deadline_s: DEADLINE_S,
        };
        let release = Release {
            id: id.clone(),
            run: format!("journal/{number}").parse().unwrap(),
            commit: format!("{number:040x}").parse().unwrap(),
            environment,
            images: vec![],
            manifests: store::blobs::put(&*self.blobs, objects.to_string()).await.unwrap(),
            cause: Cause::Run,
            decision: Decision::Admitted { at: self.now },
            created_at: self.now,
        };
        self.records.put(&release, Expect::Absent).await.unwrap();
        self.fate.calls.store(alive, SeqCst);
        self.fate.dies_at.store(dies_at, SeqCst);
        id
    }

    /// One activation; a server that died in it is started again.
    pub async fn activate(&mut self) -> Option<Report> {
        let done = self.server.activate(self.now).await;
        if self.fate.dead.load(SeqCst) {
            self.restart();
            return None;
        }
        Some(done.expect("a server that lives"))
    }

    pub fn restart(&mut self) {
        self.restarts += 1;
        self.fate.dead.store(false, SeqCst);
        self.fate.dies_at.store(0, SeqCst);
        self.server = Rollouts::new(self.records.clone(), self.blobs.clone(), self.cluster.clone());
    }

    pub fn pass(&mut self, milliseconds: u64) {
        self.now = self.now.checked_add(std::time::Duration::from_millis(milliseconds)).unwrap();
        self.cluster.tick();
    }

    /// Goes on until nothing is under way any more.
    pub async fn settle(&mut self) {
        for _ in 0..1000 {
            let report = self.activate().await;
            if report.is_some_and(|report| report.again.is_none()) {
                return;
            }
            self.pass(500);
        }
        panic!("it never ends: {:?}", self.states().await);
    }

    pub async fn rollout(&self, id: &ReleaseId) -> Rollout {
        self.records.get(&id.key()).await.unwrap().expect("a rollout").record
    }

    /// Every release with the name of its rollout's state.
    pub async fn states(&self) -> Vec<(u64, String)> {
        let rollouts = self.records.list::<Rollout>("").await.unwrap();
        rollouts.into_iter().map(|found| (found.record.release.number, found.record.state.name().to_owned())).collect()
    }

    pub async fn all<R: Record>(&self) -> Vec<R> {
        self.records.list::<R>("").await.unwrap().into_iter().map(|found| found.record).collect()
    }

    pub async fn reason(&self, id: &ReleaseId) -> String {
        match self.rollout(id).await.state {
            RolloutState::Failed { reason, .. } => reason,
            state => panic!("{} has not failed: {state:?}", id),
        }
    }
}
