//! Hooks: one after another, each waited for, their objects deleted as their policies say.

use std::time::Duration;

use chart::manifest::{DeletePolicy, Event, Hook, Phase};
use serde_json::Value;

use crate::{
    Error, Helm, Say,
    apply::{self, How},
    build::build,
    claim::Operation,
    cluster::segment,
    error::joined,
    wait,
};

/// The longest log of a container that is shown.
const LOG: u64 = 8 << 20;

/// How hooks are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub event: Event,
    pub timeout: Duration,
    pub server: bool,
    /// Objects whose policy says so are deleted by [`clean`], not at once.
    pub leave: bool,
}

/// The positions of the record's hooks of an event, in the order in which they run.
fn order(record: &chart::release::Record, event: Event) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..record.hooks.len()).filter(|at| record.hooks[*at].events.contains(&event)).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&record.hooks[*a], &record.hooks[*b]);
        a.weight.cmp(&b.weight).then_with(|| a.name.cmp(&b.name))
    });
    order
}

/// Runs the hooks of an event. When each ran and how it ended is noted in the record.
pub(crate) async fn run(helm: &Helm, operation: &mut Operation<'_>, run: Run) -> Result<(), Error> {
    let order = order(&operation.record, run.event);
    for (nth, at) in order.iter().enumerate() {
        let hook = operation.record.hooks[*at].clone();
        if let Err(error) = one(helm, operation, *at, &hook, run).await {
            if matches!(error.root(), Error::TakenOver(_)) {
                return Err(error);
            }
            let succeeded: Vec<Hook> = order[..nth].iter().map(|at| operation.record.hooks[*at].clone()).collect();
            if !run.leave {
                delete(helm, operation, &hook, DeletePolicy::HookFailed, run.timeout).await.unwrap_or_else(|error| {
                    helm.warn(format!("error deleting the hook resource on hook failure: {error}"));
                });
                for hook in &succeeded {
                    delete(helm, operation, hook, DeletePolicy::HookSucceeded, run.timeout).await?;
                }
            }
            return Err(error);
        }
    }
    if !run.leave {
        clean(helm, operation, run, true).await?;
    }
    Ok(())
}

async fn one(helm: &Helm, operation: &mut Operation<'_>, at: usize, hook: &Hook, run: Run) -> Result<(), Error> {
    let namespace = operation.record.namespace.clone();
    delete(helm, operation, hook, DeletePolicy::BeforeHookCreation, run.timeout).await?;
    let event = run.event.as_str();
    let objects = build(&helm.cluster, &hook.manifest, &namespace)
        .await
        .map_err(|error| error.context(format!("unable to build kubernetes object for {event} hook {}", hook.path)))?;
    let last = &mut operation.record.hooks[at].last_run;
    last.started_at = Some(helm.now());
    last.completed_at = None;
    last.phase = Phase::Running;
    operation.save().await?;
    let how = How { server: run.server, ..How::default() };
    let made = operation.guard(apply::create(&helm.cluster, &objects, how)).await;
    if let Err(error) = made {
        ended(helm, operation, at, Phase::Failed);
        return Err(error.context(format!("warning: Hook {event} {} failed", hook.path)));
    }
    let waited = operation.guard(wait::hook(&helm.cluster, &objects, run.timeout)).await;
    let phase = if waited.is_ok() { Phase::Succeeded } else { Phase::Failed };
    ended(helm, operation, at, phase);
    if waited.is_err() && hook.shows_log(false) {
        logs(helm, hook, &namespace).await;
    }
    waited
}

fn ended(helm: &Helm, operation: &mut Operation<'_>, at: usize, phase: Phase) {
    let last = &mut operation.record.hooks[at].last_run;
    last.completed_at = Some(helm.now());
    last.phase = phase;
}

/// After hooks: shows their logs if all went well, and deletes the objects of those that did or did not, as each says.
pub(crate) async fn clean(helm: &Helm, operation: &Operation<'_>, run: Run, all: bool) -> Result<(), Error> {
    for at in order(&operation.record, run.event).into_iter().rev() {
        let hook = &operation.record.hooks[at];
        if all && hook.shows_log(true) {
            logs(helm, hook, &operation.record.namespace).await;
        }
        let policy = match hook.last_run.phase {
            Phase::Succeeded => DeletePolicy::HookSucceeded,
            Phase::Failed => DeletePolicy::HookFailed,
            _ => continue,
        };
        delete(helm, operation, hook, policy, run.timeout).await?;
    }
    Ok(())
}

async fn delete(
    helm: &Helm,
    operation: &Operation<'_>,
    hook: &Hook,
    policy: DeletePolicy,
    timeout: Duration,
) -> Result<(), Error> {
    if !hook.deletes(policy) {
        return Ok(());
    }
    let work = async {
        let objects = build(&helm.cluster, &hook.manifest, &operation.record.namespace).await.map_err(|error| {
            error.context(format!("unable to build kubernetes object for deleting hook {}", hook.path))
        })?;
        let objects: Vec<_> = objects.into_iter().filter(|object| !object.name.is_empty()).collect();
        if let Some(error) = joined(apply::delete(&helm.cluster, &objects, "Background").await, "; ") {
            return Err(error);
        }
        // Whoever makes it again must find the name free.
        wait::gone(&helm.cluster, &objects, timeout).await
    };
    // What a stopped operation leaves behind is still cleaned up; only a lost one keeps its hands off.
    match policy {
        DeletePolicy::BeforeHookCreation => operation.guard(work).await,
        DeletePolicy::HookSucceeded | DeletePolicy::HookFailed => work.await,
    }
}

/// Shows the logs of a hook's containers; that there are none fails nothing.
async fn logs(helm: &Helm, hook: &Hook, namespace: &str) {
    let own = yaml::from_str(&hook.manifest).ok().and_then(|value| serde_json::to_value(&value).ok());
    let own = own.and_then(|value| value["metadata"]["namespace"].as_str().map(str::to_owned));
    let namespace = own.filter(|own| !own.is_empty()).unwrap_or_else(|| namespace.to_owned());
    let selector = match hook.kind.as_str() {
        "Job" => format!("labelSelector={}", segment(&format!("job-name={}", hook.name))),
        "Pod" => format!("fieldSelector={}", segment(&format!("metadata.name={}", hook.name))),
        _ => return,
    };
    let path = format!("/api/v1/namespaces/{}/pods?{selector}", segment(&namespace));
    let pods = match helm.cluster.get(&path).await {
        Ok(pods) => pods,
        Err(error) => return helm.warn(format!("error outputting logs for hook {}: {error}", hook.name)),
    };
    for pod in pods["items"].as_array().into_iter().flatten() {
        for (_, log) in container_logs(helm, pod, false).await {
            match log {
                Ok(log) => helm.say(Say::Log(log)),
                Err(error) => helm.warn(format!("error outputting logs for hook {}: {error}", hook.name)),
            }
        }
    }
}

/// The logs of a pod's containers, those that prepare it first if asked for.
pub(crate) async fn container_logs(helm: &Helm, pod: &Value, prepare: bool) -> Vec<(String, Result<Vec<u8>, Error>)> {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let containers = |field: &str| pod["spec"][field].as_array().cloned().unwrap_or_default();
    let mut all = if prepare { containers("initContainers") } else { Vec::new() };
    all.extend(containers("containers"));
    let mut logs = Vec::new();
    for container in all {
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        let (namespace, pod) = (segment(&text("/metadata/namespace")), segment(&text("/metadata/name")));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?container={}", segment(&name));
        logs.push((name, helm.cluster.text(&path, LOG).await));
    }
    logs
}
