//! The live objects in memory, with a window of their newest changes for watchers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;
use store::{Entry, Seq};
use tokio::sync::watch;

use super::resource;

/// How many changes of each kind are kept for watchers that come late.
const WINDOW: usize = 2048;

/// One change of one object.
pub(super) struct Past {
    pub seq: Seq,
    pub key: String,
    /// What the object is now; with `deleted`, what it was last.
    pub object: Arc<Value>,
    /// What it was before; none when it came into being.
    pub before: Option<Arc<Value>>,
    pub deleted: bool,
}

/// All objects of one kind.
pub(super) struct Kept {
    pub live: BTreeMap<String, Arc<Value>>,
    pub window: VecDeque<Past>,
    /// Changes up to this one are not in the window.
    pub floor: Seq,
    pub changed: watch::Sender<Seq>,
}

pub(super) struct State {
    pub kinds: HashMap<String, Kept>,
    /// The version of the log that the memory shows.
    pub applied: Seq,
}

/// What readers, the writer and watchers share.
pub(super) struct Cache {
    state: RwLock<State>,
    pub applied: watch::Sender<Seq>,
}

impl Cache {
    pub fn new(at: Seq) -> Self {
        let kinds = resource::ALL.iter().filter(|r| r.stored_as.is_none()).map(|r| {
            let kept =
                Kept { live: BTreeMap::new(), window: VecDeque::new(), floor: at, changed: watch::Sender::new(at) };
            (r.log_kind(), kept)
        });
        let state = State { kinds: kinds.collect(), applied: at };
        Self { state: RwLock::new(state), applied: watch::Sender::new(at) }
    }

    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        // A poisoned lock means that a reader panicked; what it guards is only ever changed whole.
        self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes in one live entry while the cache is filled, without telling watchers.
    pub fn fill(&self, entry: Entry) {
        if let Some(object) = decode(&entry)
            && let Some(kept) = self.write().kinds.get_mut(&entry.kind)
        {
            kept.live.insert(entry.key, object);
        }
    }

    /// Takes in changes in the order of the log, then shows the version `at`.
    pub fn apply(&self, entries: Vec<Entry>, at: Seq) {
        // Decoded before the lock is taken: readers do not wait for it.
        let decoded: Vec<_> = entries.into_iter().filter_map(|e| decode(&e).map(|object| (e, object))).collect();
        let mut touched = Vec::new();
        {
            let mut state = self.write();
            for (entry, object) in decoded {
                if entry.seq <= state.applied {
                    continue;
                }
                let Some(kept) = state.kinds.get_mut(&entry.kind) else { continue };
                let before = if entry.deleted {
                    kept.live.remove(&entry.key)
                } else {
                    kept.live.insert(entry.key.clone(), object.clone())
                };
                // Created anew between two reads, under the same key: its deletion was in the log as well.
                kept.window.push_back(Past { seq: entry.seq, key: entry.key, object, before, deleted: entry.deleted });
                if kept.window.len() > WINDOW
                    && let Some(oldest) = kept.window.pop_front()
                {
                    kept.floor = oldest.seq;
                }
                touched.push((kept.changed.clone(), entry.seq));
            }
            state.applied = state.applied.max(at);
        }
        self.applied.send_replace(at);
        for (changed, seq) in touched {
            changed.send_replace(seq);
        }
    }
}

/// The object in an entry, with its version stamped; `None`, said in the log, when it cannot be read.
fn decode(entry: &Entry) -> Option<Arc<Value>> {
    match serde_json::from_slice::<Value>(&entry.value) {
        Ok(mut object) if object["metadata"].is_object() => {
            object["metadata"]["resourceVersion"] = entry.seq.to_string().into();
            Some(Arc::new(object))
        }
        Ok(_) => {
            tracing::error!(kind = entry.kind, key = entry.key, "a stored object has no metadata; it is left out");
            None
        }
        Err(error) => {
            tracing::error!(kind = entry.kind, key = entry.key, %error, "a stored object cannot be read; it is left out");
            None
        }
    }
}
