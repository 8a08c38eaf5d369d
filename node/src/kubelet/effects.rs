//! What a pod's worker has done for it, each as a task of its own that reports what came of it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Service};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::hooks::{self, Hook};
use super::plan::EVIDENCE_MISSING;
use super::probe::{Counter, Kind, Schedule, Verdict};
use super::sources::{Place, Sources};
use super::start::{self, Directories};
use super::state::Failure;
use super::{Context, logs};
use crate::admission::Verdict as Admitted;
use crate::controllers::typed;
use crate::objects::{DeleteOptions, Objects, resource};
use crate::runtime::{ContainerId, Exit, ImageHandle, RuntimeError};

/// How long a pod's traffic may take to move elsewhere before its containers are told to end.
const DRAIN: Duration = Duration::from_secs(5);
/// What a program gets after a preStop hook that used up the grace period.
const LAST_CHANCE: Duration = Duration::from_secs(2);
const WORDS: usize = 4096;

/// ConfigMaps and Secrets of a namespace, from the store.
pub(super) struct Namespace {
    pub objects: Objects,
    pub name: String,
}

impl Sources for Namespace {
    fn config_map(&self, name: &str) -> Option<std::collections::BTreeMap<String, Vec<u8>>> {
        type Map = k8s_openapi::api::core::v1::ConfigMap;
        let map: Map = typed::find(&self.objects, &resource::CONFIG_MAPS, &self.name, name)?;
        let texts = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
        Some(texts.chain(map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0))).collect())
    }

    fn secret(&self, name: &str) -> Option<std::collections::BTreeMap<String, Vec<u8>>> {
        type Secret = k8s_openapi::api::core::v1::Secret;
        let secret: Secret = typed::find(&self.objects, &resource::SECRETS, &self.name, name)?;
        Some(secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect())
    }
}

/// Brings an image here and asks whether it may run in the namespace.
pub(super) async fn image(context: &Context, reference: &str, namespace: &str) -> Result<ImageHandle, Failure> {
    let cancel = context.stop.child_token();
    let image = context.runtime.pull(reference, &cancel).await.map_err(|error| {
        let reason = if matches!(error, RuntimeError::Invalid(_)) { "InvalidImageName" } else { "ErrImagePull" };
        Failure { reason, message: format!("Failed to pull image {reference:?}: {error}") }
    })?;
    match context.admission.admit(&image.repository, &image.digest, namespace).await {
        Admitted::Allow => Ok(image),
        Admitted::Deny { reasons } => {
            let reasons = if reasons.is_empty() { "no reason was given".to_owned() } else { reasons.join("; ") };
            let message =
                format!("{}@{} may not run in namespace {namespace}: {reasons}", image.repository, image.digest);
            Err(Failure { reason: EVIDENCE_MISSING, message })
        }
    }
}

/// Why a container was not started.
pub(super) enum NotStarted {
    /// It is tried again later.
    Later(Failure),
    /// The program itself cannot be started: that counts as an end.
    Ended(Exit, String),
}

pub(super) struct Start {
    pub pod: Pod,
    pub container: Container,
    pub attempt: u32,
    pub image: ImageHandle,
    pub place: Place,
    pub directories: Directories,
}

/// Starts a container; returns when its program runs.
pub(super) async fn start(context: Arc<Context>, start: Start) -> Result<jiff::Timestamp, NotStarted> {
    let own = context.clone();
    let namespace = typed::namespace(&start.pod.metadata).to_owned();
    let prepared = tokio::task::spawn_blocking(move || {
        let sources = Namespace { objects: own.objects.clone(), name: namespace.clone() };
        let services: Vec<Service> = typed::list(&own.objects, &resource::SERVICES, &namespace, |_| true);
        start::write_volumes(&start.pod, &start.directories, &sources, &start.place)?;
        if let Some(old) = start.attempt.checked_sub(2) {
            let log = start.directories.log(&start.container.name, old);
            let _ = std::fs::remove_file(logs::older(&log));
            let _ = std::fs::remove_file(log);
        }
        start::container(
            start::sandbox(&start.pod, &own.cluster_domain),
            &start.pod,
            &start.container,
            start.attempt,
            &start.image,
            &services,
            &sources,
            &start.place,
            &start.directories,
        )
    });
    let machine = |message: String| NotStarted::Later(Failure { reason: "CreateContainerError", message });
    let prepared = prepared.await.map_err(|error| machine(error.to_string()))?.map_err(NotStarted::Later)?;
    if let Some(before) = prepared.id.attempt.checked_sub(1) {
        let before = ContainerId { attempt: before, ..prepared.id.clone() };
        context.runtime.remove_container(&before).await.map_err(|error| machine(error.to_string()))?;
    }
    context.runtime.start_container(&prepared).await.map_err(|error| match error {
        RuntimeError::Start(message) => {
            let exit = Exit { code: 128, out_of_memory: false, at: context.objects.now() };
            NotStarted::Ended(exit, message)
        }
        error => NotStarted::Later(Failure { reason: "RunContainerError", message: error.to_string() }),
    })
}

/// Waits for the end of a container and reads its last words.
pub(super) async fn watch_end(
    context: &Context,
    id: &ContainerId,
    directories: &Directories,
    fall_back_to_logs: bool,
) -> (Exit, String) {
    let exit = loop {
        match context.runtime.wait(id).await {
            Ok(exit) => break exit,
            Err(RuntimeError::NotFound(_)) => {
                break Exit { code: 137, out_of_memory: false, at: context.objects.now() };
            }
            Err(error) => {
                tracing::warn!(container = %id, %error, "cannot tell whether a container still runs; asking again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    let read = std::fs::read(directories.last_words(&id.name, id.attempt)).unwrap_or_default();
    let mut words = String::from_utf8_lossy(&read[..read.len().min(WORDS)]).into_owned();
    if words.is_empty() && fall_back_to_logs && exit.code != 0 {
        words = logs::last_lines(&directories.log(&id.name, id.attempt), 80, 2048);
    }
    (exit, words)
}

pub(super) struct Stop {
    pub id: ContainerId,
    pub ip: Option<IpAddr>,
    pub pre_stop: Option<Hook>,
    pub signal: i32,
    pub grace: Duration,
    /// The pod as a whole is leaving: its traffic goes elsewhere first.
    pub leaving: bool,
    /// When the pod must be gone; may move nearer while the container ends.
    pub deadline: watch::Receiver<Option<Instant>>,
}

/// Lets a container end: traffic moves away, the preStop hook runs, then the signal, and when the time is up, the kill. Returns
/// what the hook failed with; the end itself is seen by whoever watches the container.
pub(super) async fn stop(context: &Context, mut stop: Stop) -> Option<String> {
    let own = Instant::now() + stop.grace;
    let forced = |deadline: &watch::Receiver<Option<Instant>>| deadline.borrow().unwrap_or(own).min(own);
    let mut failed = None;
    let has_hook = stop.pre_stop.is_some();
    if !stop.grace.is_zero() {
        let drain = async {
            if stop.leaving
                && let Some(ip) = stop.ip
            {
                context.traffic.retire(ip, DRAIN.min(stop.grace / 2)).await;
            }
        };
        let hook = async {
            match &stop.pre_stop {
                Some(hook) => hooks::run(&context.runtime, &stop.id, stop.ip, hook).await.err(),
                None => None,
            }
        };
        let mut watched = stop.deadline.clone();
        tokio::select! {
            ((), error) = async { tokio::join!(drain, hook) } => failed = error,
            () = until(&mut watched, forced) => {
                failed = has_hook.then(|| "it did not end within the grace period".to_owned());
            }
            _ = context.runtime.wait(&stop.id) => return None,
        }
        if let Err(error) = context.runtime.signal(&stop.id, stop.signal).await {
            tracing::warn!(container = %stop.id, %error, "a container could not be told to end; it will be killed");
        }
    }
    let last = Instant::now() + if has_hook && !stop.grace.is_zero() { LAST_CHANCE } else { Duration::ZERO };
    let due = |deadline: &watch::Receiver<Option<Instant>>| {
        // Somebody who shortened the time to nothing means now.
        let deadline_is_past = deadline.borrow().is_some_and(|at| at <= Instant::now());
        if deadline_is_past { forced(deadline) } else { forced(deadline).max(last) }
    };
    tokio::select! {
        _ = context.runtime.wait(&stop.id) => {}
        () = until(&mut stop.deadline, due) => {
            while let Err(error) = context.runtime.kill(&stop.id).await {
                if matches!(error, RuntimeError::NotFound(_)) {
                    break;
                }
                tracing::warn!(container = %stop.id, %error, "a container could not be killed; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
    failed
}

/// Waits until the time that `due` names has come, also when it moves nearer meanwhile.
async fn until(
    deadline: &mut watch::Receiver<Option<Instant>>,
    due: impl Fn(&watch::Receiver<Option<Instant>>) -> Instant,
) {
    loop {
        deadline.borrow_and_update();
        let at = due(deadline);
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            changed = deadline.changed() => if changed.is_err() {
                return tokio::time::sleep_until(at).await;
            },
        }
    }
}

/// What a probe reports to the worker.
pub(super) struct Report {
    pub verdict: Option<Verdict>,
    /// What is to be told to people.
    pub message: Option<String>,
}

/// Asks a probe again and again until it is dropped, or, for those that are over with their first verdict, until then.
pub(super) async fn probe(
    context: &Context,
    id: &ContainerId,
    ip: Option<IpAddr>,
    schedule: Schedule,
    hook: &Result<Hook, String>,
    report: impl Fn(Report),
) -> Verdict {
    const TELL_AGAIN: Duration = Duration::from_secs(30);
    let mut counter = Counter::new(schedule);
    let mut told: Option<Instant> = None;
    tokio::time::sleep(counter.first()).await;
    loop {
        let began = Instant::now();
        let answer = match hook {
            Ok(hook) => {
                match tokio::time::timeout(schedule.timeout, hooks::run(&context.runtime, id, ip, hook)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(format!("no answer within {:?}", schedule.timeout)),
                }
            }
            Err(wrong) => Err(wrong.clone()),
        };
        let step = counter.observe(answer.is_ok(), began.elapsed());
        let tell = step.tell && (step.verdict.is_some() || told.is_none_or(|at| at.elapsed() >= TELL_AGAIN));
        if tell {
            told = Some(Instant::now());
        }
        let message =
            answer.err().filter(|_| tell).map(|error| format!("{} probe failed: {error}", schedule.kind.title()));
        if step.verdict.is_some() || message.is_some() {
            report(Report { verdict: step.verdict, message });
        }
        match step.verdict {
            Some(verdict) if schedule.kind == Kind::Startup => return verdict,
            Some(Verdict::Failing) if schedule.kind == Kind::Liveness => return Verdict::Failing,
            _ => tokio::time::sleep(step.next).await,
        }
    }
}

/// Removes everything that the pod has on this machine, and, where it is being deleted, its object.
pub(super) async fn finish(
    context: &Context,
    object: &Value,
    directories: Directories,
    delete: bool,
) -> Result<(), String> {
    use crate::objects::meta;
    let uid = meta::uid(object);
    context.runtime.remove_pod(uid).await.map_err(|e| e.to_string())?;
    let gone = [Some(directories.pod.clone()), delete.then_some(directories.logs)];
    let removed = tokio::task::spawn_blocking(move || {
        gone.into_iter().flatten().try_for_each(|path: PathBuf| match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", path.display())),
            _ => Ok(()),
        })
    });
    removed.await.map_err(|e| e.to_string())??;
    if !delete {
        return Ok(());
    }
    let options = DeleteOptions { uid: Some(uid.to_owned()), grace: Some(0), ..DeleteOptions::default() };
    match context.objects.delete(&resource::PODS, meta::namespace(object), meta::name(object), &options).await {
        // Gone already, or another pod has the name by now.
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.to_string()),
        _ => Ok(()),
    }
}
