//! One task a pod: decides with the plan, has it done, and writes down what became of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::effects::{self, NotStarted, Report};
use super::plan::{self, Action, Shape};
use super::probe::{Kind, Schedule, Verdict};
use super::sources::Place;
use super::start::{self, Directories};
use super::state::{Ended, Ending, Failure, Once, Phase, Running, State};
use super::{Context, adopt, hooks, status};
use crate::controllers::typed;
use crate::objects::events::Notice;
use crate::objects::{meta, resource};
use crate::runtime::{ContainerId, Exit, ImageHandle, PodNetwork, RuntimeResult, SurvivingPod, signal_number};

/// How long a change that nobody waits for may wait for others before it is written.
const GATHER: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_secs(1);

/// What the kubelet tells a worker of its pod.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Live(Arc<Value>),
    Gone,
}

/// What came of something that was under way.
enum Happened {
    Network(RuntimeResult<PodNetwork>),
    Image { reference: String, outcome: Result<ImageHandle, Failure>, took: Duration },
    Started { name: String, attempt: u32, outcome: Result<Timestamp, NotStarted> },
    StartedUp(ContainerId),
    HookFailed { id: ContainerId, message: String },
    Probed { id: ContainerId, kind: Kind, report: Report },
    Ended { id: ContainerId, exit: Exit, message: String },
    PreStopFailed { id: ContainerId, message: String },
    Finished(Result<(), String>),
}

pub(super) struct Worker {
    context: Arc<Context>,
    object: Arc<Value>,
    pod: Pod,
    shape: Shape,
    state: State,
    directories: Directories,
    happened: mpsc::UnboundedSender<Happened>,
    tasks: JoinSet<()>,
    /// Ends the probes of a container, by its name.
    lives: HashMap<String, CancellationToken>,
    /// When the containers of a deleted pod are killed.
    deadline: watch::Sender<Option<Instant>>,
    /// Its object is gone.
    gone: bool,
    /// What was written last, and since when something else is true.
    written: PodStatus,
    stale_since: Option<Instant>,
    retry_at: Option<Instant>,
    finish_at: Option<Instant>,
}

impl Worker {
    /// Works on a pod until it is gone from this machine, or until the future is dropped, which leaves its containers alone.
    pub async fn run(
        context: Arc<Context>,
        object: Arc<Value>,
        survived: Option<SurvivingPod>,
        mut seen: watch::Receiver<Seen>,
        refresh: Arc<Notify>,
    ) {
        let Some(pod) = typed::read::<Pod>(&object) else { return };
        let shape = status::shape(&pod);
        let now = context.objects.now();
        let (state, surplus) = adopt::adopt(&pod, &shape, survived.as_ref(), now, Instant::now());
        let (happened, mut happenings) = mpsc::unbounded_channel();
        let mut worker = Self {
            directories: Directories::of(&context.root, &pod),
            written: pod.status.clone().unwrap_or_default(),
            context,
            object,
            pod,
            shape,
            state,
            happened,
            tasks: JoinSet::new(),
            lives: HashMap::new(),
            deadline: watch::Sender::new(None),
            gone: false,
            stale_since: None,
            retry_at: None,
            finish_at: None,
        };
        worker.state.started.get_or_insert(now);
        for id in surplus {
            let runtime = worker.context.runtime.clone();
            worker.tasks.spawn(async move { drop(runtime.remove_container(&id).await) });
        }
        worker.take_up_running();
        let first = seen.borrow_and_update().clone();
        worker.see(first);
        loop {
            let wake = worker.step();
            worker.publish().await;
            let next = [wake, worker.write_due(), worker.deadline_due(), worker.finish_at].into_iter().flatten().min();
            tokio::select! {
                Some(happened) = happenings.recv() => {
                    if worker.take_in(happened) {
                        return;
                    }
                    // What came in at the same time is written at the same time.
                    while let Ok(happened) = happenings.try_recv() {
                        if worker.take_in(happened) {
                            return;
                        }
                    }
                }
                changed = seen.changed() => {
                    let now = seen.borrow_and_update().clone();
                    worker.see(if changed.is_ok() { now } else { Seen::Gone });
                    if changed.is_err() {
                        // The kubelet is stopping: what runs goes on.
                        return;
                    }
                }
                () = refresh.notified() => worker.refresh(),
                Some(_) = worker.tasks.join_next(), if !worker.tasks.is_empty() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
    }

    fn place(&self) -> Place {
        Place {
            node: self.context.node.clone(),
            host_ip: self.context.host_ip.clone(),
            pod_ip: self.state.ip().map(|ip| ip.to_string()).unwrap_or_default(),
        }
    }

    fn say(&self, kind: &str, reason: &str, message: String, container: &str) {
        let field = match container {
            "" => String::new(),
            name if self.pod.spec.as_ref().is_some_and(|spec| spec.containers.iter().any(|c| c.name == name)) => {
                format!("spec.containers{{{name}}}")
            }
            name => format!("spec.initContainers{{{name}}}"),
        };
        self.context.objects.notice(&self.object, Notice { kind, reason, message, component: "kubelet", field });
    }

    fn spawn(&mut self, work: impl Future<Output = Happened> + Send + 'static) {
        let happened = self.happened.clone();
        self.tasks.spawn(async move {
            let what = work.await;
            // Nobody listens when the worker is gone.
            let _ = happened.send(what);
        });
    }

    /// Watches the containers that were running before this worker was there.
    fn take_up_running(&mut self) {
        let running: Vec<Running> = self.state.containers.values().filter_map(|slot| slot.running().cloned()).collect();
        for running in running {
            self.watch(&running.id);
            self.live(&running.id, running.started, false);
        }
        self.show();
    }

    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Live(object) => {
                if meta::is_deleting(&object) {
                    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(30);
                    let until = Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
                    self.end_by(until);
                }
                if let Some(pod) = typed::read::<Pod>(&object) {
                    self.pod = pod;
                    self.object = object;
                }
            }
            Seen::Gone => {
                self.gone = true;
                self.end_by(Instant::now());
            }
        }
    }

    fn end_by(&mut self, until: Instant) {
        self.state.ending = Some(Ending::Deleted);
        self.deadline.send_if_modified(|deadline| {
            let nearer = deadline.is_none_or(|before| until < before);
            if nearer {
                *deadline = Some(until);
            }
            nearer
        });
    }

    /// ConfigMaps or Secrets changed: files are written anew, and what waited for them is tried at once.
    fn refresh(&mut self) {
        for slot in self.state.containers.values_mut() {
            if let Phase::Idle { failed: failed @ Some(_) } = &mut slot.phase {
                *failed = None;
            }
        }
        if self.state.ending.is_some() || self.state.finishing || self.state.network.here().is_none() {
            return;
        }
        let (pod, directories, place) = (self.pod.clone(), self.directories.clone(), self.place());
        let namespace = typed::namespace(&pod.metadata).to_owned();
        let sources = effects::Namespace { objects: self.context.objects.clone(), name: namespace };
        self.tasks.spawn_blocking(move || {
            if let Err(failure) = start::write_volumes(&pod, &directories, &sources, &place) {
                tracing::debug!(message = failure.message, "volumes stay as they were");
            }
        });
    }

    /// Does what the plan says; returns when to look again.
    fn step(&mut self) -> Option<Instant> {
        if self.state.ending.is_none()
            && let Some(at) = self.deadline_due()
            && at <= Instant::now()
        {
            self.state.ending = Some(Ending::Deadline);
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.say("Warning", "DeadlineExceeded", message, "");
        }
        if self.finish_at.is_some_and(|at| at <= Instant::now()) {
            self.finish_at = None;
            self.state.finishing = false;
        }
        let plan = plan::plan(&self.shape, &self.state, Instant::now());
        for action in plan.actions {
            match action {
                Action::Network => self.make_network(),
                Action::Image { reference } => self.fetch(reference),
                Action::Start { name } => self.start(&name),
                Action::Stop { name } => self.stop(&name, None),
                Action::Finish => self.finish(),
            }
        }
        plan.wake
    }

    /// When the pod's own deadline ends it.
    fn deadline_due(&self) -> Option<Instant> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        if self.state.ending.is_some() || plan::over(&self.shape, &self.state) {
            return None;
        }
        let until = self.state.started? + jiff::SignedDuration::from_secs(seconds);
        let left = until.duration_since(self.context.objects.now());
        Some(Instant::now() + if left.is_positive() { left.unsigned_abs() } else { Duration::ZERO })
    }

    fn make_network(&mut self) {
        begin(&mut self.state.network);
        let sandbox = start::sandbox(&self.pod, &self.context.cluster_domain);
        let runtime = self.context.runtime.clone();
        self.spawn(async move { Happened::Network(runtime.create_pod(&sandbox).await) });
    }

    fn fetch(&mut self, reference: String) {
        if let Some(image) = self.state.images.get_mut(&reference) {
            begin(image);
        }
        let (context, namespace) = (self.context.clone(), typed::namespace(&self.pod.metadata).to_owned());
        self.spawn(async move {
            let began = Instant::now();
            let outcome = effects::image(&context, &reference, &namespace).await;
            Happened::Image { reference, outcome, took: began.elapsed() }
        });
    }

    fn start(&mut self, name: &str) {
        let Some(container) = self.container(name).cloned() else { return };
        let reference = container.image.clone().unwrap_or_default();
        let Some(image) = self.state.images.get(&reference).and_then(Once::here).cloned() else { return };
        let Some(slot) = self.state.containers.get_mut(name) else { return };
        match std::mem::replace(&mut slot.phase, Phase::Starting) {
            Phase::Ended(ended) => {
                slot.backoff = slot.backoff.again(super::backoff::KUBERNETES, ended.seen, Instant::now());
                slot.attempt = ended.id.attempt + 1;
                slot.last = Some(ended);
            }
            Phase::Idle { .. } => {}
            busy => {
                slot.phase = busy;
                return;
            }
        }
        let attempt = slot.attempt;
        let start = effects::Start {
            pod: self.pod.clone(),
            container,
            attempt,
            image,
            place: self.place(),
            directories: self.directories.clone(),
        };
        let (context, name) = (self.context.clone(), name.to_owned());
        self.show();
        self.spawn(async move {
            let outcome = effects::start(context, start).await;
            Happened::Started { name, attempt, outcome }
        });
    }

    /// Asks a running container to end. `grace` is another than the pod's.
    fn stop(&mut self, name: &str, grace: Option<Duration>) {
        let container = self.container(name).cloned();
        let Some(slot) = self.state.containers.get_mut(name) else { return };
        let Phase::Running(running) = &slot.phase else { return };
        let running = running.clone();
        slot.phase = Phase::Stopping(running.clone());
        if let Some(life) = self.lives.remove(name) {
            life.cancel();
        }
        let leaving = self.state.ending.is_some();
        if leaving {
            self.say("Normal", "Killing", format!("Stopping container {name}"), name);
        }
        let of_pod = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let grace = grace.unwrap_or_else(|| match self.deadline.borrow().filter(|_| leaving) {
            Some(until) => until.saturating_duration_since(Instant::now()),
            None => Duration::from_secs(u64::try_from(of_pod).unwrap_or(0)),
        });
        let lifecycle = container.as_ref().and_then(|container| container.lifecycle.as_ref());
        let pre_stop = container.as_ref().zip(lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()));
        let image = running.image.as_ref();
        let signal = lifecycle
            .and_then(|lifecycle| lifecycle.stop_signal.as_deref())
            .or_else(|| image.map(|image| image.config.stop_signal.as_str()))
            .and_then(signal_number)
            .unwrap_or(15);
        let stop = effects::Stop {
            id: running.id.clone(),
            ip: self.state.ip(),
            pre_stop: pre_stop.and_then(|(container, handler)| hooks::of_lifecycle(container, handler).ok()),
            signal,
            grace,
            leaving,
            deadline: self.deadline.subscribe(),
        };
        let (context, happened, id) = (self.context.clone(), self.happened.clone(), running.id);
        self.tasks.spawn(async move {
            if let Some(message) = effects::stop(&context, stop).await {
                let _ = happened.send(Happened::PreStopFailed { id, message });
            }
        });
    }

    fn finish(&mut self) {
        self.state.finishing = true;
        let delete = self.state.ending == Some(Ending::Deleted);
        let (context, object, directories) = (self.context.clone(), self.object.clone(), self.directories.clone());
        let (gone, ip) = (self.gone, self.state.ip());
        self.spawn(async move {
            if let Some(ip) = ip {
                context.traffic.forget(ip);
            }
            let outcome = effects::finish(&context, &object, directories.clone(), delete && !gone).await;
            if gone {
                let _ = tokio::fs::remove_dir_all(&directories.logs).await;
            }
            Happened::Finished(outcome)
        });
    }

    /// Watches for the end of a container.
    fn watch(&mut self, id: &ContainerId) {
        let policy = self.container(&id.name).and_then(|container| container.termination_message_policy.clone());
        let fall_back = policy.as_deref() == Some("FallbackToLogsOnError");
        let (context, id, directories) = (self.context.clone(), id.clone(), self.directories.clone());
        self.spawn(async move {
            let (exit, message) = effects::watch_end(&context, &id, &directories, fall_back).await;
            Happened::Ended { id, exit, message }
        });
    }

    /// Runs the postStart hook and the probes of a container for as long as it lives.
    fn live(&mut self, id: &ContainerId, started: bool, fresh: bool) {
        let Some(container) = self.container(&id.name).cloned() else { return };
        let life = CancellationToken::new();
        self.lives.insert(id.name.clone(), life.clone());
        let (context, happened, id, ip) = (self.context.clone(), self.happened.clone(), id.clone(), self.state.ip());
        self.tasks.spawn(async move {
            let living = lead(&context, &happened, &id, ip, &container, started, fresh);
            life.run_until_cancelled(living).await;
        });
    }

    /// Takes in what happened; true when the pod is gone for good.
    fn take_in(&mut self, happened: Happened) -> bool {
        match happened {
            Happened::Network(outcome) => self.network_made(outcome),
            Happened::Image { reference, outcome, took } => self.image_fetched(&reference, outcome, took),
            Happened::Started { name, attempt, outcome } => self.started(&name, attempt, outcome),
            Happened::StartedUp(id) => {
                let ready = self.container(&id.name).is_some_and(|container| container.readiness_probe.is_none());
                if let Some(running) = self.running(&id) {
                    running.started = true;
                    running.ready |= ready;
                }
            }
            Happened::HookFailed { id, message } => {
                self.say("Warning", "FailedPostStartHook", message, &id.name);
                if self.running(&id).is_some() {
                    self.say("Normal", "Killing", format!("FailedPostStartHook: container {}", id.name), &id.name);
                    self.stop(&id.name, None);
                }
            }
            Happened::Probed { id, kind, report } => self.probed(&id, kind, report),
            Happened::PreStopFailed { id, message } => self.say("Warning", "FailedPreStopHook", message, &id.name),
            Happened::Ended { id, exit, message } => self.ended(&id, exit, message),
            Happened::Finished(Ok(())) => {
                if self.state.ending == Some(Ending::Deleted) {
                    self.context.board.forget(typed::uid(&self.pod.metadata));
                    return true;
                }
                self.state.network = Once::default();
                self.state.finishing = false;
            }
            Happened::Finished(Err(error)) => {
                let pod = typed::name(&self.pod.metadata);
                tracing::warn!(pod, error, "a pod could not be removed; trying again");
                self.finish_at = Some(Instant::now() + AGAIN);
            }
        }
        self.show();
        false
    }

    fn network_made(&mut self, outcome: RuntimeResult<PodNetwork>) {
        match outcome {
            Ok(network) => self.state.network = Once::Here(network),
            Err(error) => {
                let message = format!("Failed to create the pod's network: {error}");
                self.say("Warning", "FailedCreatePodSandBox", message.clone(), "");
                fail(&mut self.state.network, Failure { reason: "ContainerCreating", message });
            }
        }
    }

    fn image_fetched(&mut self, reference: &str, outcome: Result<ImageHandle, Failure>, took: Duration) {
        let names: Vec<String> =
            self.shape.members.iter().filter(|member| member.image == reference).map(|m| m.name.clone()).collect();
        let Some(image) = self.state.images.get_mut(reference) else { return };
        match outcome {
            Ok(handle) => {
                *image = Once::Here(handle);
                let message = format!("Successfully pulled image {reference:?} in {}ms", took.as_millis());
                if let Some(name) = names.first() {
                    self.say("Normal", "Pulled", message, name);
                }
            }
            Err(mut failure) => {
                let again = image.failure().is_some();
                let (reason, message) = (failure.reason, failure.message.clone());
                if again && failure.reason == "ErrImagePull" {
                    failure = Failure { reason: "ImagePullBackOff", message: format!("Back-off: {message}") };
                }
                fail(image, failure);
                for name in &names {
                    let event = if reason == plan::EVIDENCE_MISSING { reason } else { "Failed" };
                    self.say("Warning", event, message.clone(), name);
                }
            }
        }
    }

    fn started(&mut self, name: &str, attempt: u32, outcome: Result<Timestamp, NotStarted>) {
        let reference = self.container(name).and_then(|container| container.image.clone()).unwrap_or_default();
        let image = self.state.images.get(&reference).and_then(Once::here).cloned();
        let image_id = image.as_ref().map(|image| format!("{}@{}", image.repository, image.digest)).unwrap_or_default();
        let id = ContainerId { pod: typed::uid(&self.pod.metadata).to_owned(), name: name.to_owned(), attempt };
        let Some(slot) = self.state.containers.get_mut(name) else { return };
        match outcome {
            Ok(started_at) => {
                slot.phase = Phase::Running(Running {
                    id: id.clone(),
                    image,
                    image_id,
                    started_at,
                    started: false,
                    ready: false,
                });
                self.say("Normal", "Started", format!("Started container {name}"), name);
                self.watch(&id);
                self.live(&id, false, true);
            }
            Err(NotStarted::Later(failure)) => {
                let now = Instant::now();
                slot.backoff = slot.backoff.again(plan::steps(&failure), now, now);
                let message = format!("Error: {}", failure.message);
                slot.phase = Phase::Idle { failed: Some((now, failure)) };
                self.say("Warning", "Failed", message, name);
            }
            Err(NotStarted::Ended(exit, message)) => {
                slot.phase = Phase::Ended(Ended {
                    id,
                    image_id,
                    started_at: None,
                    exit,
                    message: message.clone(),
                    reason: Some("StartError"),
                    seen: Instant::now(),
                });
                self.say("Warning", "Failed", format!("Error: {message}"), name);
            }
        }
    }

    fn running(&mut self, id: &ContainerId) -> Option<&mut Running> {
        match &mut self.state.containers.get_mut(&id.name)?.phase {
            Phase::Running(running) if running.id == *id => Some(running),
            _ => None,
        }
    }

    fn probed(&mut self, id: &ContainerId, kind: Kind, report: Report) {
        if let Some(message) = report.message {
            self.say("Warning", "Unhealthy", message, &id.name);
        }
        let grace = self.container(&id.name).and_then(|container| {
            let probe = if kind == Kind::Startup { &container.startup_probe } else { &container.liveness_probe };
            probe.as_ref()?.termination_grace_period_seconds
        });
        let Some(running) = self.running(id) else { return };
        match (kind, report.verdict) {
            (Kind::Readiness, Some(verdict)) => running.ready = verdict == Verdict::Passing,
            (Kind::Startup | Kind::Liveness, Some(Verdict::Failing)) => {
                let what = kind.title().to_lowercase();
                let message = format!("Container {} failed {what} probe, will be restarted", id.name);
                self.say("Normal", "Killing", message, &id.name);
                let grace = grace.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
                self.stop(&id.name, grace);
            }
            _ => {}
        }
    }

    fn ended(&mut self, id: &ContainerId, exit: Exit, message: String) {
        let Some(slot) = self.state.containers.get_mut(&id.name) else { return };
        let Some(running) = slot.running().filter(|running| running.id == *id).cloned() else { return };
        if let Some(life) = self.lives.remove(&id.name) {
            life.cancel();
        }
        let started_at = Some(running.started_at);
        let image_id = running.image_id;
        let seen = Instant::now();
        slot.phase = Phase::Ended(Ended { id: running.id, image_id, started_at, exit, message, reason: None, seen });
        let (slot, shape) = (slot.clone(), &self.shape);
        let member = shape.members.iter().find(|member| member.name == id.name);
        if let Some(member) = member
            && self.state.ending.is_none()
            && plan::restart_in(shape, member, &slot, seen).is_some_and(|wait| !wait.is_zero())
        {
            let pod = format!("{}_{}", typed::name(&self.pod.metadata), typed::namespace(&self.pod.metadata));
            let uid = typed::uid(&self.pod.metadata);
            let message = format!("Back-off restarting failed container {} in pod {pod}({uid})", id.name);
            self.say("Warning", "BackOff", message, &id.name);
        }
    }

    /// Shows logs and exec where the containers are.
    fn show(&self) {
        self.context.board.show(typed::uid(&self.pod.metadata), &self.state);
    }

    fn write_due(&self) -> Option<Instant> {
        self.retry_at.or_else(|| self.stale_since.map(|since| since + GATHER))
    }

    /// Writes the status where it changed: at once when somebody waits for it, else together with what follows shortly.
    async fn publish(&mut self) {
        let now = Instant::now();
        if self.gone || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        // The last step of a pod that is being deleted is its object's end, not one more status.
        if self.state.finishing
            && self.state.ending == Some(Ending::Deleted)
            && meta::finalizers(&self.object).next().is_none()
        {
            return;
        }
        let place = self.place();
        let next = status::status(&self.pod, &self.shape, &self.state, &place, self.context.objects.now(), now);
        if next == self.written {
            self.stale_since = None;
            return;
        }
        let since = *self.stale_since.get_or_insert(now);
        if !status::is_urgent(&self.written, &next) && now < since + GATHER {
            return;
        }
        let Ok(value) = typed::write(&next) else { return };
        let (namespace, name) = (meta::namespace(&self.object).to_owned(), meta::name(&self.object).to_owned());
        let uid = meta::uid(&self.object).to_owned();
        let written = self.context.objects.modify(&resource::PODS, &namespace, &name, |object| {
            if meta::uid(object) == uid {
                status::put(object, &value);
            }
        });
        match written.await {
            Ok(_) => {
                self.pod.status = Some(next.clone());
                self.written = next;
                (self.stale_since, self.retry_at) = (None, None);
            }
            // Its end comes by the watch.
            Err(error) if error.is_not_found() => (self.stale_since, self.retry_at) = (None, Some(now + AGAIN)),
            Err(error) => {
                tracing::warn!(pod = name, %error, "a pod's status could not be written; trying again");
                self.retry_at = Some(now + AGAIN);
            }
        }
    }
}

/// The life of a running container: its postStart hook, its startup probe, then readiness and liveness side by side.
async fn lead(
    context: &Context,
    happened: &mpsc::UnboundedSender<Happened>,
    id: &ContainerId,
    ip: Option<std::net::IpAddr>,
    container: &Container,
    started: bool,
    fresh: bool,
) {
    let send = |what: Happened| drop(happened.send(what));
    let post_start = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    if let Some(handler) = post_start.filter(|_| fresh) {
        let outcome = match hooks::of_lifecycle(container, handler) {
            Ok(hook) => hooks::run(&context.runtime, id, ip, &hook).await,
            Err(wrong) => Err(wrong),
        };
        if let Err(message) = outcome {
            return send(Happened::HookFailed { id: id.clone(), message });
        }
    }
    let ask = |kind: Kind, probe: &Option<k8s_openapi::api::core::v1::Probe>| {
        let probe = probe.clone();
        async move {
            let Some(probe) = probe else { return Verdict::Passing };
            let hook = hooks::of_probe(container, &probe);
            let report = |report| send(Happened::Probed { id: id.clone(), kind, report });
            effects::probe(context, id, ip, Schedule::of(kind, &probe), &hook, report).await
        }
    };
    if !started && ask(Kind::Startup, &container.startup_probe).await == Verdict::Failing {
        return;
    }
    send(Happened::StartedUp(id.clone()));
    tokio::join!(ask(Kind::Readiness, &container.readiness_probe), ask(Kind::Liveness, &container.liveness_probe));
}

fn begin<T>(once: &mut Once<T>) {
    if let Once::Missing { backoff, failed } = once {
        *once = Once::Making { backoff: *backoff, failed: failed.take() };
    }
}

fn fail<T>(once: &mut Once<T>, failure: Failure) {
    let now = Instant::now();
    let backoff = match once {
        Once::Missing { backoff, .. } | Once::Making { backoff, .. } => *backoff,
        Once::Here(_) => Default::default(),
    };
    *once = Once::Missing { backoff: backoff.again(plan::steps(&failure), now, now), failed: Some((now, failure)) };
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
