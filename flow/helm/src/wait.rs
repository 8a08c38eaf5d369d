//! Waiting until objects are ready, ended, or gone.

use std::time::Duration;

use futures::FutureExt;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    Cluster, Error, Strategy,
    apply::each,
    build::Object,
    cluster::segment,
    status::{self, State, Status},
};

/// The time to wait when none is given.
const DEFAULT: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);
/// A pod that found no node within this time does not find one soon.
const SCHEDULED: Duration = Duration::from_secs(15);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Ready { jobs: bool },
    ReadyLegacy { jobs: bool },
    Hook,
}

/// Waits until objects are ready, if the strategy says so.
pub(crate) async fn ready(
    cluster: &Cluster,
    objects: &[Object],
    strategy: Strategy,
    jobs: bool,
    timeout: Duration,
) -> Result<(), Error> {
    match strategy {
        Strategy::HookOnly => Ok(()),
        Strategy::Watcher => wait(cluster, objects, For::Ready { jobs }, timeout).await,
        Strategy::Legacy => wait(cluster, objects, For::ReadyLegacy { jobs }, timeout).await,
    }
}

/// Waits until a hook's objects have ended.
pub(crate) async fn hook(cluster: &Cluster, objects: &[Object], timeout: Duration) -> Result<(), Error> {
    wait(cluster, objects, For::Hook, timeout).await
}

fn paused(object: &Object) -> bool {
    object.kind() == "Deployment" && object.value.pointer("/spec/paused") == Some(&Value::Bool(true))
}

async fn wait(cluster: &Cluster, objects: &[Object], what: For, timeout: Duration) -> Result<(), Error> {
    let timeout = if timeout.is_zero() { DEFAULT } else { timeout };
    let begun = Instant::now();
    let mut pause = SHORTEST;
    let mut open: Vec<(&Object, Status)> = objects
        .iter()
        .filter(|object| !paused(object) && !object.name.is_empty())
        .map(|object| (object, Status { state: State::InProgress, message: String::new() }))
        .collect();
    loop {
        let old = begun.elapsed() > SCHEDULED;
        let asked = each(&open, |(object, _)| ask(cluster, object, what, old).boxed()).await;
        for ((object, last), answer) in open.iter_mut().zip(asked) {
            match answer {
                Ok(status) => *last = status,
                Err(error) => tracing::debug!(%error, object = object.words(), "cannot ask for its state"),
            }
        }
        open.retain(|(_, status)| !status.is_current());
        if open.is_empty() {
            return Ok(());
        }
        // What failed does not become ready by itself; the others are still given their time.
        if open.iter().all(|(_, status)| status.state == State::Failed) {
            return Err(Error::Several(report(&open)));
        }
        if begun.elapsed() + pause > timeout {
            return Err(Error::TimedOut(format!("{}\n", report(&open))));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(LONGEST);
    }
}

fn report(open: &[(&Object, Status)]) -> String {
    let line = |(object, status): &(&Object, Status)| {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let (kind, name, state) = (object.kind(), &object.name, status.state.as_str());
        format!("resource {kind}/{namespace}/{name} not ready. status: {state}, message: {}", status.message)
    };
    open.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn ask(cluster: &Cluster, object: &Object, what: For, old: bool) -> Result<Status, Error> {
    let Some(live) = cluster.find(&object.path()).await? else {
        return Ok(Status { state: State::NotFound, message: "Resource not found".to_owned() });
    };
    Ok(match what {
        For::Ready { jobs: false } => status::compute(&live, old),
        For::Ready { jobs: true } => status::with_jobs(&live, old),
        For::Hook => status::hook(&live),
        For::ReadyLegacy { jobs } => status::legacy(&live, &related(cluster, object, &live).await?, jobs),
    })
}

/// The ReplicaSets of a Deployment, the Pods of a ReplicaSet or ReplicationController.
async fn related(cluster: &Cluster, object: &Object, live: &Value) -> Result<Vec<Value>, Error> {
    let (root, plural, at) = match object.kind() {
        "Deployment" => ("/apis/apps/v1", "replicasets", "/spec/selector/matchLabels"),
        "ReplicaSet" => ("/api/v1", "pods", "/spec/selector/matchLabels"),
        "ReplicationController" => ("/api/v1", "pods", "/spec/selector"),
        _ => return Ok(Vec::new()),
    };
    let labels = live.pointer(at).and_then(Value::as_object).into_iter().flatten();
    let selector: Vec<String> =
        labels.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?))).collect();
    let namespace = segment(object.namespace.as_deref().unwrap_or_default());
    let path = format!("{root}/namespaces/{namespace}/{plural}?labelSelector={}", segment(&selector.join(",")));
    Ok(cluster.get(&path).await?["items"].as_array().cloned().unwrap_or_default())
}

/// Waits until objects are gone.
pub(crate) async fn gone(cluster: &Cluster, objects: &[Object], timeout: Duration) -> Result<(), Error> {
    let timeout = if timeout.is_zero() { DEFAULT } else { timeout };
    let begun = Instant::now();
    let mut pause = SHORTEST;
    let mut open: Vec<&Object> = objects.iter().collect();
    loop {
        let find = |object: &&Object| {
            let path = object.path();
            async move { matches!(cluster.find(&path).await, Ok(None)) }.boxed()
        };
        let absent = each(&open, find).await;
        let mut absent = absent.into_iter();
        open.retain(|_| !absent.next().unwrap_or(false));
        if open.is_empty() {
            return Ok(());
        }
        if begun.elapsed() + pause > timeout {
            let line = |object: &&Object| {
                let namespace = object.namespace.as_deref().unwrap_or_default();
                format!("resource {}/{namespace}/{} still exists", object.kind(), object.name)
            };
            return Err(Error::TimedOut(format!("{}\n", open.iter().map(line).collect::<Vec<_>>().join("\n"))));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(LONGEST);
    }
}
