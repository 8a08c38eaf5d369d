//! Following the changes of a kind.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::Stream;
use serde_json::Value;
use store::Seq;
use tokio::sync::watch;

use super::cache::{Cache, Past};
use super::{FieldSelector, LabelSelector};
use crate::{Error, Result};

/// What happened to an object, as seen through the selectors of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    Added,
    Modified,
    Deleted,
}

impl Happened {
    /// The `type` of a watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Event {
    pub happened: Happened,
    /// What the object is now; when it was deleted, what it was last.
    pub object: Arc<Value>,
}

/// Which objects of a kind are meant. The default means all.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Scope {
    pub fn all() -> Self {
        Self::default()
    }

    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::default() }
    }

    pub fn labels(mut self, labels: LabelSelector) -> Self {
        self.labels = labels;
        self
    }

    pub fn fields(mut self, fields: FieldSelector) -> Self {
        self.fields = fields;
        self
    }

    /// Whether an object in the right namespace is meant.
    pub(super) fn selects(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    fn holds_key(&self, key: &str) -> bool {
        match &self.namespace {
            Some(namespace) => key.strip_prefix(namespace.as_str()).is_some_and(|rest| rest.starts_with('/')),
            None => true,
        }
    }
}

/// A place in the changes of a kind. Reads memory only; any number may follow at once.
pub struct Watcher {
    cache: Arc<Cache>,
    log_kind: String,
    scope: Scope,
    position: Seq,
    pending: VecDeque<Event>,
    changed: watch::Receiver<Seq>,
}

impl Watcher {
    pub(super) fn new(cache: Arc<Cache>, log_kind: String, scope: Scope, from: Option<Seq>) -> Result<Self> {
        let state = cache.read();
        let Some(kept) = state.kinds.get(&log_kind) else {
            return Err(Error::failed(format!("the node does not store {log_kind}")));
        };
        let changed = kept.changed.subscribe();
        let mut pending = VecDeque::new();
        let position = match from {
            Some(from) if from < kept.floor => return Err(expired(from, kept.floor)),
            // From another life of this data, most likely: what came since then is not known.
            Some(from) if from > state.applied => return Err(expired(from, state.applied)),
            Some(from) => from,
            None => {
                let live = kept.live.iter().filter(|(key, object)| scope.holds_key(key) && scope.selects(object));
                pending.extend(live.map(|(_, o)| Event { happened: Happened::Added, object: o.clone() }));
                state.applied
            }
        };
        drop(state);
        Ok(Self { cache, log_kind, scope, position, pending, changed })
    }

    /// The next change; waits for it. May be dropped and called again at any time. `Expired` when the watcher was too slow:
    /// list again.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            self.changed.borrow_and_update();
            self.collect()?;
            if self.pending.is_empty() && self.changed.changed().await.is_err() {
                return Err(Error::expired("the node is stopping"));
            }
        }
    }

    /// The version up to which everything has been handed out; `None` while something is pending.
    pub fn caught_up(&mut self) -> Result<Option<Seq>> {
        if self.pending.is_empty() {
            self.collect()?;
        }
        Ok(self.pending.is_empty().then_some(self.position))
    }

    /// The changes as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event>> + Send + use<> {
        futures::stream::unfold(Some(self), |watcher| async move {
            let mut watcher = watcher?;
            let event = watcher.next().await;
            let rest = event.is_ok().then_some(watcher);
            Some((event, rest))
        })
    }

    fn collect(&mut self) -> Result<()> {
        let state = self.cache.read();
        let Some(kept) = state.kinds.get(&self.log_kind) else { return Ok(()) };
        if self.position < kept.floor {
            return Err(expired(self.position, kept.floor));
        }
        let start = kept.window.partition_point(|past| past.seq <= self.position);
        for past in kept.window.range(start..) {
            if self.scope.holds_key(&past.key)
                && let Some(event) = seen(&self.scope, past)
            {
                self.pending.push_back(event);
            }
        }
        self.position = self.position.max(state.applied);
        Ok(())
    }
}

/// What a change looks like through selectors: an object that stops matching is gone, one that starts is new.
fn seen(scope: &Scope, past: &Past) -> Option<Event> {
    let was = past.before.as_ref().is_some_and(|before| scope.selects(before));
    let is = !past.deleted && scope.selects(&past.object);
    let happened = match (was, is) {
        (false, true) => Happened::Added,
        (true, true) => Happened::Modified,
        (true, false) => Happened::Deleted,
        (false, false) => return None,
    };
    let object = match &past.before {
        // Whoever follows `was` knows that version; what it became is none of its business.
        Some(before) if !is && !past.deleted => {
            let mut last = Value::clone(before);
            last["metadata"]["resourceVersion"] = past.seq.to_string().into();
            Arc::new(last)
        }
        _ => past.object.clone(),
    };
    Some(Event { happened, object })
}

fn expired(from: Seq, known: Seq) -> Error {
    let age = if from < known { "old" } else { "large" };
    Error::expired(format!("too {age} resource version: {from} ({known})"))
}
