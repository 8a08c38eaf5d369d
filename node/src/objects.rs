//! The Kubernetes objects of the node, kept in the log and read from memory.
//!
//! An object is JSON. It lies in the log under the kind `k8s/<group or core>/<plural>` and the key `<namespace>/<name>` or `<name>`;
//! its `resourceVersion` is the version of its entry. Reads never wait; writes return when they are durable and visible to
//! every reader. Writes that come at the same time share one append. `Objects` keeps the rules that hold for every writer
//! (identity, generations, optimistic locking, finalizers, graceful deletion, defaults); who may write what the API decides.

mod cache;
pub mod create;
mod delete;
pub mod events;
pub mod meta;
pub mod resource;
mod selector;
pub(crate) mod update;
mod watch;
mod writer;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use store::{Change, Expect, Log, Seq};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Error, Result};

pub use delete::{DeleteOptions, Deleted, Propagation};
pub use resource::{Resource, Subresource};
pub use selector::{FieldSelector, LabelSelector};
pub use update::Part;
pub use watch::{Event, Happened, Scope, Watcher};

/// Where the node reads the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Addresses for Services: a network and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub network: Ipv4Addr,
    pub prefix: u8,
}

impl Default for Cidr {
    /// 10.96.0.0/16
    fn default() -> Self {
        Self { network: Ipv4Addr::new(10, 96, 0, 0), prefix: 16 }
    }
}

/// The store of Kubernetes objects. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub struct Objects {
    shared: Arc<Shared>,
}

struct Shared {
    cache: Arc<cache::Cache>,
    clock: Clock,
    services: Cidr,
    /// Held while addresses for Services are chosen.
    allocation: Mutex<()>,
    writes: mpsc::Sender<writer::Write>,
    _stop: DropGuard,
}

impl Objects {
    /// Reads every live object into memory and starts to follow the log.
    pub async fn open(log: Arc<dyn Log>, clock: Clock) -> Result<Self> {
        Self::with_services(log, clock, Cidr::default()).await
    }

    /// As [`Objects::open`], with the addresses that Services get. The first address of the network is the API's own.
    pub async fn with_services(log: Arc<dyn Log>, clock: Clock, services: Cidr) -> Result<Self> {
        let at = *log.head().borrow();
        let cache = Arc::new(cache::Cache::new(at));
        for resource in resource::ALL.iter().filter(|r| r.stored_as.is_none()) {
            let mut after: Option<String> = None;
            loop {
                let page = log.list(&resource.log_kind(), "", after.as_deref(), 500).await?;
                after = page.entries.last().map(|entry| entry.key.clone());
                for entry in page.entries {
                    cache.fill(entry);
                }
                if !page.more {
                    break;
                }
            }
        }
        let stop = CancellationToken::new();
        let (writes, incoming) = mpsc::channel(1024);
        let writer = writer::Writer { log, cache: cache.clone(), incoming, stop: stop.clone() };
        tokio::spawn(writer.run());
        let shared = Shared { cache, clock, services, allocation: Mutex::new(()), writes, _stop: stop.drop_guard() };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub fn now(&self) -> Timestamp {
        (self.shared.clock)()
    }

    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The addresses that Services get.
    pub fn service_network(&self) -> Cidr {
        self.shared.services
    }

    /// The version of the log that reads show now.
    pub fn version(&self) -> Seq {
        self.shared.cache.read().applied
    }

    /// The object, or `NotFound`. `namespace` is not looked at for kinds without one.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<Value>> {
        self.find(resource, namespace, name).ok_or_else(|| Error::not_found(resource.group, resource.plural, name))
    }

    pub fn find(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let state = self.shared.cache.read();
        state.kinds.get(&resource.log_kind())?.live.get(&resource.key(namespace, name)).cloned()
    }

    /// The objects that `scope` selects, in the order of their keys, with the version to watch on from.
    pub fn list(&self, resource: &Resource, scope: &Scope) -> (Vec<Arc<Value>>, Seq) {
        let mut all = Vec::new();
        let at = self.each(resource, scope, None, |_, object| {
            all.push(object.clone());
            true
        });
        (all, at)
    }

    /// As [`Objects::list`], from behind the key `after`, at most `limit`; with the last key and how many are left when there
    /// are more.
    pub fn page(
        &self,
        resource: &Resource,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<Arc<Value>>, Seq, Option<(String, usize)>) {
        let (mut all, mut last, mut left) = (Vec::new(), String::new(), 0);
        let at = self.each(resource, scope, after, |key, object| {
            if all.len() < limit {
                all.push(object.clone());
                key.clone_into(&mut last);
            } else {
                left += 1;
            }
            true
        });
        (all, at, (left > 0).then_some((last, left)))
    }

    fn each(
        &self,
        resource: &Resource,
        scope: &Scope,
        after: Option<&str>,
        mut take: impl FnMut(&str, &Arc<Value>) -> bool,
    ) -> Seq {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let state = self.shared.cache.read();
        let Some(kept) = state.kinds.get(&resource.log_kind()) else { return state.applied };
        let prefix = scope.namespace.as_ref().map(|namespace| format!("{namespace}/"));
        let start = match (&prefix, after) {
            (_, Some(after)) => Excluded(after),
            (Some(prefix), None) => Included(prefix.as_str()),
            (None, None) => Unbounded,
        };
        for (key, object) in kept.live.range::<str, _>((start, Unbounded)) {
            if prefix.as_ref().is_some_and(|prefix| !key.starts_with(prefix.as_str())) {
                break;
            }
            if scope.selects(object) && !take(key, object) {
                break;
            }
        }
        state.applied
    }

    /// Follows the changes after the version `from`, or, with `None`, first shows what is there as `Added`. `Expired` when
    /// changes after `from` are no longer kept.
    pub fn watch(&self, resource: &Resource, scope: Scope, from: Option<Seq>) -> Result<Watcher> {
        Watcher::new(self.shared.cache.clone(), resource.log_kind(), scope, from)
    }

    /// Waits until reads show at least the version `at`.
    pub async fn wait_for(&self, at: Seq) {
        let mut applied = self.shared.cache.applied.subscribe();
        // The sender lives in the cache, which this call holds.
        let _ = applied.wait_for(|seen| *seen >= at).await;
    }

    /// Writes one version of an object and returns it as it is now stored.
    async fn append(&self, resource: &Resource, object: &Value, expect: Expect, delete: bool) -> Result<Arc<Value>> {
        let (namespace, name) = (meta::namespace(object), meta::name(object));
        let value = serde_json::to_vec(object)
            .map_err(|e| Error::caused(format!("cannot write {} {name:?} as JSON", resource.kind), e))?;
        let change = Change {
            kind: resource.log_kind(),
            key: resource.key(namespace, name),
            expect,
            value: Bytes::from(value),
            delete,
        };
        let (done, answer) = oneshot::channel();
        let stopped = || Error::failed("the store of Kubernetes objects has stopped");
        self.shared.writes.send(writer::Write { change, done }).await.map_err(|_| stopped())?;
        match answer.await.map_err(|_| stopped())? {
            Ok(object) => Ok(object),
            Err(error) if error.kind == store::Kind::Conflict => Err(if expect == Expect::Absent {
                Error::already_exists(resource.group, resource.plural, name)
            } else {
                modified(resource, name)
            }),
            Err(error) => Err(error.into()),
        }
    }
}

fn modified(resource: &Resource, name: &str) -> Error {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Error::conflict(resource.group, resource.plural, name, why)
}
