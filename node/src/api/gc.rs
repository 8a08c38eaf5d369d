//! Taking away what is owned by what is gone, and events that are old.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::objects::{DeleteOptions, Event, Happened, Objects, Propagation, Resource, Scope, meta, resource};

/// How long events are kept.
const EVENTS: i64 = 3600;
/// How often everything is looked through, whatever was seen.
const SWEEP: Duration = Duration::from_secs(60);
/// How long to wait before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

fn kinds() -> impl Iterator<Item = &'static Resource> {
    resource::ALL.iter().copied().filter(|r| r.stored_as.is_none())
}

/// Collects until `stop`.
pub async fn run(objects: Objects, stop: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = collect(&objects).await {
                tracing::warn!(%error, "collecting what nobody owns failed; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Follows all kinds; returns when it fell behind or something failed, to begin anew.
async fn collect(objects: &Objects) -> Result<()> {
    let mut streams = Vec::new();
    for resource in kinds().filter(|r| *r != &resource::EVENTS) {
        let watcher = objects.watch(resource, Scope::all(), None)?;
        streams.push(watcher.into_stream().map(move |event| (resource, event)).boxed());
    }
    let mut events = futures::stream::select_all(streams);
    let mut sweep = tokio::time::interval(SWEEP);
    let mut graph = Graph::default();
    let mut again = false;
    loop {
        tokio::select! {
            next = events.next() => {
                let Some((resource, event)) = next else { return Ok(()) };
                let event = event?;
                graph.take_in(resource, &event);
                again |= !settle(objects, &mut graph, resource, &event).await;
            }
            () = tokio::time::sleep(AGAIN), if again => again = !sweep_owned(objects, &mut graph).await,
            _ = sweep.tick() => {
                again |= !sweep_owned(objects, &mut graph).await;
                old_events(objects).await?;
            }
        }
    }
}

/// Who owns what.
#[derive(Default)]
struct Graph {
    /// Objects by uid.
    nodes: HashMap<String, Node>,
    /// The uids of what an object owns.
    owned: HashMap<String, HashSet<String>>,
}

#[derive(Clone)]
struct Node {
    resource: &'static Resource,
    namespace: String,
    name: String,
    owners: BTreeMap<String, bool>,
}

impl Graph {
    fn take_in(&mut self, resource: &'static Resource, event: &Event) {
        let object = &event.object;
        let uid = meta::uid(object).to_owned();
        if let Some(before) = self.nodes.remove(&uid) {
            for owner in before.owners.keys() {
                if let Some(owned) = self.owned.get_mut(owner) {
                    owned.remove(&uid);
                    if owned.is_empty() {
                        self.owned.remove(owner);
                    }
                }
            }
        }
        if event.happened == Happened::Deleted {
            return;
        }
        let owners: BTreeMap<String, bool> = meta::owner_references(object)
            .filter_map(|o| Some((o["uid"].as_str()?.to_owned(), o["blockOwnerDeletion"] == true)))
            .collect();
        for owner in owners.keys() {
            self.owned.entry(owner.clone()).or_default().insert(uid.clone());
        }
        let node = Node {
            resource,
            namespace: meta::namespace(object).to_owned(),
            name: meta::name(object).to_owned(),
            owners,
        };
        self.nodes.insert(uid, node);
    }

    fn owned_by(&self, uid: &str) -> Vec<(String, Node)> {
        let owned = self.owned.get(uid).into_iter().flatten();
        owned.filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone()))).collect()
    }
}

/// Does what follows from one event; false when something has to be tried again.
async fn settle(objects: &Objects, graph: &mut Graph, resource: &'static Resource, event: &Event) -> bool {
    let object = &event.object;
    let uid = meta::uid(object);
    if event.happened == Happened::Deleted {
        let owned = graph.owned_by(uid);
        let mut settled = true;
        for (owned, node) in &owned {
            settled &= done(release(objects, owned, node).await);
        }
        // Whoever waits for its last owned object may go now.
        for owner in meta::owner_references(object).filter_map(|o| o["uid"].as_str()) {
            if let Some(node) = graph.nodes.get(owner).cloned() {
                settled &= done(foreground(objects, graph, owner, &node).await);
            }
        }
        return settled;
    }
    if meta::is_deleting(object) {
        let Some(node) = graph.nodes.get(uid).cloned() else { return true };
        if meta::finalizers(object).any(|f| f == ORPHAN) {
            return done(orphan(objects, graph, uid, &node).await);
        }
        if meta::finalizers(object).any(|f| f == FOREGROUND) {
            return done(foreground(objects, graph, uid, &node).await);
        }
    }
    // Made for an owner that had gone before.
    if meta::owner_references(object).next().is_some()
        && let Some(node) = graph.nodes.get(uid).cloned()
    {
        return done(release(objects, uid, &node).await);
    }
    let _ = resource;
    true
}

fn done(result: Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.is_not_found() => true,
        Err(error) => {
            tracing::debug!(%error, "an owned object could not be settled; trying again");
            false
        }
    }
}

/// Whether an owner is there: its kind is known and an object of its name has its uid.
fn is_there(objects: &Objects, namespace: &str, owner: &Value) -> bool {
    let text = |field: &str| owner[field].as_str().unwrap_or_default();
    // Of kinds that the node does not serve nothing is known; better to keep too much.
    let Some(resource) = resource::by_kind(text("apiVersion"), text("kind")) else { return true };
    objects.find(resource, namespace, text("name")).is_some_and(|found| meta::uid(&found) == text("uid"))
}

/// Deletes an object whose owners are all gone; takes single ones that are gone out of its references.
async fn release(objects: &Objects, uid: &str, node: &Node) -> Result<()> {
    let Some(object) = same(objects, uid, node) else { return Ok(()) };
    let (there, gone): (Vec<&Value>, Vec<&Value>) =
        meta::owner_references(&object).partition(|owner| is_there(objects, &node.namespace, owner));
    if gone.is_empty() {
        return Ok(());
    }
    if there.is_empty() {
        if meta::is_deleting(&object) {
            return Ok(());
        }
        let options = DeleteOptions {
            uid: Some(uid.to_owned()),
            // What asked to be told of its own last keeps that wish.
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        return match objects.delete(node.resource, &node.namespace, &node.name, &options).await {
            Err(error) if error.is_conflict() => Ok(()),
            done => done.map(drop),
        };
    }
    let kept: Vec<Value> = there.into_iter().cloned().collect();
    let change = |object: &mut Value| object["metadata"]["ownerReferences"] = kept.clone().into();
    objects.modify(node.resource, &node.namespace, &node.name, change).await.map(drop)
}

fn same(objects: &Objects, uid: &str, node: &Node) -> Option<Arc<Value>> {
    objects.find(node.resource, &node.namespace, &node.name).filter(|found| meta::uid(found) == uid)
}

async fn without_finalizer(objects: &Objects, node: &Node, finalizer: &str) -> Result<()> {
    let change = |object: &mut Value| {
        let left: Vec<Value> = meta::finalizers(object).filter(|f| *f != finalizer).map(Value::from).collect();
        object["metadata"]["finalizers"] = json!(left);
    };
    objects.modify(node.resource, &node.namespace, &node.name, change).await.map(drop)
}

/// Lets the owned objects of one that is being deleted stay, then lets it go.
async fn orphan(objects: &Objects, graph: &Graph, uid: &str, node: &Node) -> Result<()> {
    if same(objects, uid, node).is_none() {
        return Ok(());
    }
    for (_, owned) in graph.owned_by(uid) {
        let change = |object: &mut Value| {
            let left: Vec<Value> = meta::owner_references(object).filter(|o| o["uid"] != uid).cloned().collect();
            if left.is_empty() {
                meta::map_mut(object, "metadata").shift_remove("ownerReferences");
            } else {
                object["metadata"]["ownerReferences"] = left.into();
            }
        };
        match objects.modify(owned.resource, &owned.namespace, &owned.name, change).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    without_finalizer(objects, node, ORPHAN).await
}

/// Deletes the owned objects of one that waits for them; lets it go when none that blocks is left.
async fn foreground(objects: &Objects, graph: &Graph, uid: &str, node: &Node) -> Result<()> {
    let Some(object) = same(objects, uid, node) else { return Ok(()) };
    if !meta::is_deleting(&object) || !meta::finalizers(&object).any(|f| f == FOREGROUND) {
        return Ok(());
    }
    let mut blocked = false;
    for (owned_uid, owned) in graph.owned_by(uid) {
        let Some(found) = same(objects, &owned_uid, &owned) else { continue };
        blocked |= owned.owners.get(uid).copied().unwrap_or(false);
        if meta::is_deleting(&found) {
            continue;
        }
        let options = DeleteOptions {
            uid: Some(owned_uid),
            propagation: Some(Propagation::Foreground),
            ..DeleteOptions::default()
        };
        match objects.delete(owned.resource, &owned.namespace, &owned.name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
            _ => {}
        }
    }
    if blocked { Ok(()) } else { without_finalizer(objects, node, FOREGROUND).await }
}

/// Looks through everything that has owners or waits; false when something has to be tried again.
async fn sweep_owned(objects: &Objects, graph: &mut Graph) -> bool {
    let mut settled = true;
    for resource in kinds().filter(|r| *r != &resource::EVENTS) {
        for object in objects.list(resource, &Scope::all()).0 {
            if meta::owner_references(&object).next().is_some() || meta::is_deleting(&object) {
                let event = Event { happened: Happened::Modified, object };
                graph.take_in(resource, &event);
                settled &= settle(objects, graph, resource, &event).await;
            }
        }
    }
    settled
}

/// Deletes events that nobody needs any more.
async fn old_events(objects: &Objects) -> Result<()> {
    let now = objects.now();
    for event in objects.list(&resource::EVENTS, &Scope::all()).0 {
        let times =
            [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["metadata"]["creationTimestamp"]];
        let last = times.iter().find_map(|time| time.as_str()).and_then(|text| text.parse::<Timestamp>().ok());
        if last.is_some_and(|last| now.duration_since(last).as_secs() > EVENTS) {
            let (namespace, name) = (meta::namespace(&event), meta::name(&event));
            match objects.delete(&resource::EVENTS, namespace, name, &DeleteOptions::default()).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
