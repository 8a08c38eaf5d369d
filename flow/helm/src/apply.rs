//! Making, changing and deleting the objects of a release.

use std::time::Duration;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::Value;

use crate::{
    Cluster, Error, MANAGER,
    build::Object,
    cluster::Patch,
    error::joined,
    managers, ownership,
    patch::{self, Change},
};

/// Requests at a time, for objects of one kind.
const AT_ONCE: usize = 8;
/// How often a write is tried again that came in between others.
const TRIES: usize = 5;

/// How objects are written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// By server-side apply; otherwise by patches made here.
    pub server: bool,
    /// Takes fields over from their owners.
    pub force_conflicts: bool,
    /// Objects that are there are replaced whole.
    pub force_replace: bool,
    /// Kinds that are not built in are patched against what lives, not against the manifest before.
    pub wholly: bool,
    /// What the client wrote before is handed over to server-side apply.
    pub take_over: bool,
}

/// What an update did, up to where it came.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub created: Vec<Object>,
}

/// Does something with each, a few at a time; the results in their order. The futures are boxed because the compiler cannot
/// see otherwise that they may change threads.
pub(crate) async fn each<'a, T, R>(items: impl IntoIterator<Item = T>, work: impl Fn(T) -> BoxFuture<'a, R>) -> Vec<R> {
    let work: Vec<BoxFuture<'a, R>> = items.into_iter().map(work).collect();
    stream::iter(work).buffered(AT_ONCE).collect().await
}

/// Neighbours of one kind, in their order.
fn batches(objects: &[Object]) -> impl Iterator<Item = &[Object]> {
    objects.chunk_by(|a, b| a.kind() == b.kind())
}

/// Makes objects, one kind after the other.
pub(crate) async fn create(cluster: &Cluster, objects: &[Object], how: How) -> Result<(), Error> {
    let mut errors = Vec::new();
    for batch in batches(objects) {
        let results = each(batch, |object| make(cluster, object, how).boxed()).await;
        errors.extend(results.into_iter().filter_map(Result::err));
    }
    joined(errors, "\n").map_or(Ok(()), Err)
}

async fn make(cluster: &Cluster, object: &Object, how: How) -> Result<(), Error> {
    // The cluster makes the name up, which it does only for what is created.
    if how.server && !object.name.is_empty() {
        return apply(cluster, object, how.force_conflicts).await;
    }
    retried(|| async { cluster.create(&object.collection(), &object.value).await.map(drop) }).await
}

async fn apply(cluster: &Cluster, object: &Object, force: bool) -> Result<(), Error> {
    let how = Patch::Apply { force };
    let path = object.path();
    let mut result = cluster.patch(&path, how, &object.value).await.map(drop);
    for _ in 1..TRIES {
        // Another object counted against the same quota at the same time.
        let quota = |error: &Error| error.is_conflict() && error.to_string().contains("on resourcequotas");
        if !result.as_ref().is_err_and(quota) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        result = cluster.patch(&path, how, &object.value).await.map(drop);
    }
    result.map_err(|error| {
        let at = object.coordinates();
        match &error {
            Error::Api { code: 415, .. } => error.context("server-side apply not available on the server"),
            Error::Api { .. } if error.is_conflict() => {
                error.context(format!("conflict occurred while applying object {at}"))
            }
            _ => error.context(format!("server-side apply failed for object {at}")),
        }
    })
}

async fn retried<F: Future<Output = Result<(), Error>>>(work: impl Fn() -> F) -> Result<(), Error> {
    for _ in 1..TRIES {
        match work().await {
            Err(error) if error.is_conflict() => tokio::time::sleep(Duration::from_millis(20)).await,
            done => return done,
        }
    }
    work().await
}

/// Brings what lives from the objects before to the new ones: what is not there is made, what is there is changed, and what
/// only was before is deleted, unless its policy says to keep it. Names what was made also when it fails.
pub(crate) async fn update(
    cluster: &Cluster,
    before: &[Object],
    new: &[Object],
    how: How,
) -> (Done, Result<(), Error>) {
    let mut done = Done::default();
    let mut errors = Vec::new();
    let mut fatal = None;
    for batch in batches(new) {
        let changed = each(batch, |object| change(cluster, before, object, how).boxed()).await;
        for (object, (made, result)) in batch.iter().zip(changed) {
            if made {
                done.created.push(object.clone());
            }
            match result {
                Ok(()) => {}
                Err(error) if made => fatal = fatal.or(Some(error)),
                Err(error) => errors.push(error),
            }
        }
        // Nothing goes on from an object that could not be made.
        if let Some(error) = fatal {
            return (done, Err(error));
        }
    }
    if let Some(error) = joined(std::mem::take(&mut errors), " && ") {
        return (done, Err(error));
    }
    for object in before.iter().filter(|object| !new.iter().any(|other| other.same(object))) {
        match remove(cluster, object).await {
            Ok(()) => {}
            Err(error) => errors.push(error.context(format!(
                "failed to delete resource namespace={}, name={}, kind={}",
                object.namespace.as_deref().unwrap_or_default(),
                object.name,
                object.kind()
            ))),
        }
    }
    (done, joined(errors, " && ").map_or(Ok(()), Err))
}

async fn remove(cluster: &Cluster, object: &Object) -> Result<(), Error> {
    let Ok(Some(live)) = cluster.find(&object.path()).await else { return Ok(()) };
    if ownership::kept(live["metadata"]["annotations"][ownership::POLICY].as_str()) {
        return Ok(());
    }
    match cluster.delete(&object.path(), "Background").await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Whether the object had to be made, and how that or its change went.
async fn change(cluster: &Cluster, before: &[Object], object: &Object, how: How) -> (bool, Result<(), Error>) {
    if object.name.is_empty() {
        return (true, make(cluster, object, how).await.map_err(|error| error.context("failed to create resource")));
    }
    let live = match cluster.find(&object.path()).await {
        Ok(Some(live)) => live,
        Ok(None) => {
            let made = make(cluster, object, how).await;
            return (true, made.map_err(|error| error.context("failed to create resource")));
        }
        Err(error) => return (false, Err(error.context("could not get information about the resource"))),
    };
    let result = match (how.force_replace, how.server) {
        (true, _) => replace(cluster, object, &live).await,
        (false, true) => hand_over(cluster, object, live, how).await,
        (false, false) => {
            let old = before.iter().find(|old| old.same(object)).map(|old| old.value.clone());
            merge(cluster, &old.unwrap_or_else(|| live.clone()), object, live, how).await
        }
    };
    (false, result)
}

async fn replace(cluster: &Cluster, object: &Object, live: &Value) -> Result<(), Error> {
    let mut whole = object.value.clone();
    whole["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    let replaced = cluster.replace(&object.path(), &whole, true).await;
    replaced.map(drop).map_err(|error| error.context("failed to replace object"))
}

async fn hand_over(cluster: &Cluster, object: &Object, mut live: Value, how: How) -> Result<(), Error> {
    for tried in 1.. {
        let Some(patch) = managers::take_over(&live, MANAGER).filter(|_| how.take_over) else { break };
        match cluster.patch(&object.path(), Patch::Json, &patch).await {
            Ok(_) => break,
            Err(error) if error.is_conflict() && tried < TRIES => live = cluster.get(&object.path()).await?,
            Err(error) => {
                let at = object.coordinates();
                return Err(error.context(format!("failed to patch object to upgrade CSA field manager {at}")));
            }
        }
    }
    apply(cluster, object, how.force_conflicts).await
}

async fn merge(cluster: &Cluster, before: &Value, object: &Object, live: Value, how: How) -> Result<(), Error> {
    let change = patch::plan(&object.resource.group, object.kind(), before, &object.value, &live, how.wholly);
    let (kind, patch) = match change {
        None => return Ok(()),
        Some(Change::Strategic(patch)) => (Patch::Strategic, patch),
        Some(Change::Merge(patch)) => (Patch::Merge, patch),
    };
    let patched = retried(|| async { cluster.patch(&object.path(), kind, &patch).await.map(drop) }).await;
    patched.map_err(|error| error.context(format!("cannot patch {:?} with kind {}", object.name, object.kind())))
}

/// Deletes objects, one kind after the other; those that are gone already are none. Gives every error.
pub(crate) async fn delete(cluster: &Cluster, objects: &[Object], propagation: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    for batch in batches(objects) {
        let gone = |object: &Object| {
            let path = object.path();
            async move { cluster.delete(&path, propagation).await }.boxed()
        };
        let results = each(batch, gone).await;
        errors.extend(results.into_iter().filter_map(Result::err).filter(|error| !error.is_not_found()));
    }
    errors
}

/// The objects that are there already and may be taken into the release. Those of somebody else are an error, unless
/// `take_ownership` says that they are taken whosever they are.
pub(crate) async fn adopted(
    cluster: &Cluster,
    objects: &[Object],
    release: &str,
    namespace: &str,
    take_ownership: bool,
) -> Result<Vec<Object>, Error> {
    let named = objects.iter().filter(|object| !object.name.is_empty());
    let found = each(named, |object| adoptable(cluster, object, release, namespace, take_ownership).boxed()).await;
    Ok(found.into_iter().collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect())
}

async fn adoptable(
    cluster: &Cluster,
    object: &Object,
    release: &str,
    namespace: &str,
    take_ownership: bool,
) -> Result<Option<Object>, Error> {
    if object.value["metadata"]["generateName"].as_str().is_some_and(|prefix| !prefix.is_empty()) {
        let text = "metadata.name and metadata.generateName cannot both be set";
        return Err(Error::Manifest(text.to_owned()));
    }
    let unreadable =
        |error: Error| error.context(format!("could not get information about the resource {}", object.words()));
    let Some(live) = cluster.find(&object.path()).await.map_err(unreadable)? else { return Ok(None) };
    if !take_ownership && let Err(wrong) = ownership::check(&live, release, namespace) {
        let what = object.words();
        return Err(Error::Manifest(format!("{what} exists and cannot be imported into the current release: {wrong}")));
    }
    Ok(Some(object.clone()))
}
