//! The namespaces that are always there, and the end of those that are deleted.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::objects::{DeleteOptions, Objects, Part, Propagation, Scope, meta, resource};
use crate::{Error, Result};

/// Made at the start; may not be deleted.
pub const BUILT_IN: [&str; 3] = ["default", "kube-system", "kube-public"];

/// How long to wait before looking again at a namespace whose contents have not gone.
const AGAIN: Duration = Duration::from_secs(1);

/// Makes the namespaces that are always there, each with its service account.
pub async fn ensure(objects: &Objects) -> Result<()> {
    let made = BUILT_IN.map(|name| objects.create(&resource::NAMESPACES, json!({"metadata": {"name": name}})));
    for made in futures::future::join_all(made).await {
        exists(made.map(drop))?;
    }
    let accounts = BUILT_IN.map(|name| account(objects, name));
    for made in futures::future::join_all(accounts).await {
        exists(made)?;
    }
    Ok(())
}

fn exists(made: Result<()>) -> Result<()> {
    match made {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

async fn account(objects: &Objects, namespace: &str) -> Result<()> {
    if objects.find(&resource::SERVICE_ACCOUNTS, namespace, "default").is_some() {
        return Ok(());
    }
    let account = json!({"metadata": {"name": "default", "namespace": namespace}});
    objects.create(&resource::SERVICE_ACCOUNTS, account).await.map(drop)
}

/// Gives new namespaces a service account and takes deleted ones away with everything in them, until `stop`.
pub async fn run(objects: Objects, stop: CancellationToken) {
    loop {
        let Ok(mut watcher) = objects.watch(&resource::NAMESPACES, Scope::all(), None) else { return };
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = watcher.next() => event,
            };
            let Ok(event) = event else { break };
            let name = meta::name(&event.object).to_owned();
            if event.happened == crate::objects::Happened::Deleted {
                continue;
            }
            if !meta::is_deleting(&event.object) {
                if let Err(error) = exists(account(&objects, &name).await) {
                    tracing::warn!(%error, namespace = name, "the default service account could not be made");
                }
                continue;
            }
            let (objects, stop) = (objects.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = end(&objects, &name) => {}
                }
            });
        }
    }
}

/// Empties a namespace and lets it go. Ends when it is gone.
async fn end(objects: &Objects, name: &str) {
    loop {
        match empty(objects, name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, namespace = name, "a namespace could not be emptied; trying again"),
        }
        tokio::time::sleep(AGAIN / 5).await;
    }
}

/// Deletes what is left in a namespace; true when the namespace itself is gone.
async fn empty(objects: &Objects, name: &str) -> Result<bool> {
    let Some(namespace) = objects.find(&resource::NAMESPACES, "", name) else { return Ok(true) };
    if !meta::is_deleting(&namespace) {
        return Ok(true);
    }
    let options = DeleteOptions::propagation(Propagation::Background);
    let mut left = 0;
    // What makes pods goes before the pods, or it would make more.
    let kinds = resource::ALL.iter().filter(|r| r.namespaced && r.stored_as.is_none());
    let (pods, others): (Vec<_>, Vec<_>) = kinds.partition(|r| **r == &resource::PODS);
    for resource in others.into_iter().chain(pods) {
        let (found, _) = objects.list(resource, &Scope::namespace(name));
        left += found.len();
        let fresh = found.iter().filter(|object| !meta::is_deleting(object));
        let deletions = fresh.map(|object| objects.delete(resource, name, meta::name(object), &options));
        for done in futures::future::join_all(deletions).await {
            match done {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    if left > 0 {
        return Ok(false);
    }
    let mut last = Value::clone(&namespace);
    last["spec"]["finalizers"] = json!([]);
    match objects.replace(&resource::NAMESPACES, last, Part::All, false).await {
        Ok(_) => Ok(objects.find(&resource::NAMESPACES, "", name).is_none()),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err::<bool, Error>(error),
    }
}
