//! The loop that every controller runs in: changes become keys, keys are worked on side by side, each by one worker at a time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::objects::{Objects, Resource, Scope};

/// How many keys of one controller are worked on at the same time; their writes share appends.
const SIDE_BY_SIDE: usize = 16;
/// Everything is looked at again after this time, triggered or not.
const AGAIN: Duration = Duration::from_secs(600);
const FIRST_BACK_OFF: Duration = Duration::from_millis(5);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// Keeps objects of one kind as they should be.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// The kinds whose changes concern it.
    fn watches(&self) -> Vec<&'static Resource>;

    /// The keys to look at even if there is no object at all.
    fn initial(&self) -> Vec<String> {
        Vec::new()
    }

    /// The keys of its own objects that a change of `object` concerns.
    fn keys(&self, resource: &'static Resource, object: &Value) -> Vec<String>;

    /// Brings the object at `key` one step nearer to its spec. May be called at any time, again and again. Says when to look
    /// again even if nothing changes.
    async fn reconcile(&self, key: &str) -> Result<Option<Duration>>;
}

/// What waits and what is under way.
#[derive(Default)]
struct Queue {
    ready: VecDeque<String>,
    queued: HashSet<String>,
    running: HashSet<String>,
    /// Came up again while they were worked on.
    dirty: HashSet<String>,
    later: BTreeMap<(Instant, String), ()>,
    due: HashMap<String, Instant>,
    failures: HashMap<String, u32>,
}

impl Queue {
    fn push(&mut self, key: String) {
        if self.running.contains(&key) {
            self.dirty.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// At the earlier of `at` and what was asked for before.
    fn push_at(&mut self, key: String, at: Instant) {
        if let Some(before) = self.due.get(&key).copied() {
            if before <= at {
                return;
            }
            self.later.remove(&(before, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.later.insert((at, key), ());
    }

    fn wake(&mut self, now: Instant) {
        while let Some(((at, _), ())) = self.later.first_key_value()
            && *at <= now
            && let Some(((_, key), ())) = self.later.pop_first()
        {
            self.due.remove(&key);
            self.push(key);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), ())| *at)
    }

    fn take(&mut self) -> Option<String> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: String, outcome: &Result<Option<Duration>>, now: Instant, controller: &str) {
        self.running.remove(&key);
        match outcome {
            Ok(again) => {
                self.failures.remove(&key);
                if let Some(after) = again {
                    self.push_at(key.clone(), now + *after);
                }
            }
            Err(error) => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                let wait = back_off(*failures);
                if !error.is_conflict() && !error.is_not_found() && *failures > 2 {
                    tracing::warn!(controller, key, %error, "not as it should be yet; trying again in {wait:?}");
                }
                self.push_at(key.clone(), now + wait);
            }
        }
        if self.dirty.remove(&key) {
            self.push(key);
        }
    }
}

fn back_off(failures: u32) -> Duration {
    FIRST_BACK_OFF.saturating_mul(1 << failures.min(20)).min(LONGEST_BACK_OFF)
}

/// Runs one controller until `stop`; work under way is finished first.
pub async fn run(controller: Arc<dyn Controller>, objects: Objects, stop: CancellationToken) {
    let name = controller.name();
    let mut queue = Queue::default();
    let mut working: JoinSet<(String, Result<Option<Duration>>)> = JoinSet::new();
    let mut keys_of_tasks: HashMap<tokio::task::Id, String> = HashMap::new();
    let mut resync = tokio::time::interval(AGAIN);
    // The first tick is now, and each watch begins with everything that is there.
    resync.tick().await;
    let mut changes = watch(&*controller, &objects);
    controller.initial().into_iter().for_each(|key| queue.push(key));
    loop {
        queue.wake(Instant::now());
        while working.len() < SIDE_BY_SIDE
            && let Some(key) = queue.take()
        {
            let (controller, own) = (controller.clone(), key.clone());
            let task = working.spawn(async move {
                let outcome = controller.reconcile(&own).await;
                (own, outcome)
            });
            keys_of_tasks.insert(task.id(), key);
        }
        let due = queue.next_due();
        tokio::select! {
            () = stop.cancelled() => break,
            change = changes.next() => match change {
                Some((resource, Ok(event))) => {
                    for key in controller.keys(resource, &event.object) {
                        queue.push(key);
                    }
                }
                // Too slow, or the store is stopping: begin again with everything that is there.
                Some((_, Err(_))) | None => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    changes = watch(&*controller, &objects);
                }
            },
            Some(done) = working.join_next_with_id(), if !working.is_empty() => match done {
                Ok((id, (key, outcome))) => {
                    keys_of_tasks.remove(&id);
                    queue.done(key, &outcome, Instant::now(), name);
                }
                Err(error) => {
                    tracing::error!(controller = name, %error, "a controller's work ended badly");
                    if let Some(key) = keys_of_tasks.remove(&error.id()) {
                        let failed = Err(crate::Error::failed("the work ended badly"));
                        queue.done(key, &failed, Instant::now(), name);
                    }
                }
            },
            () = sleep_until(due) => {}
            _ = resync.tick() => {
                changes = watch(&*controller, &objects);
                controller.initial().into_iter().for_each(|key| queue.push(key));
            }
        }
    }
    while working.join_next().await.is_some() {}
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

type Changes =
    futures::stream::SelectAll<futures::stream::BoxStream<'static, (&'static Resource, Result<crate::objects::Event>)>>;

fn watch(controller: &dyn Controller, objects: &Objects) -> Changes {
    let streams = controller.watches().into_iter().filter_map(|resource| {
        let watcher = objects.watch(resource, Scope::all(), None).ok()?;
        Some(watcher.into_stream().map(move |event| (resource, event)).boxed())
    });
    futures::stream::select_all(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_never_worked_on_twice_at_once_and_never_forgotten() {
        let mut queue = Queue::default();
        queue.push("a".into());
        queue.push("a".into());
        assert_eq!(queue.take().as_deref(), Some("a"));
        assert_eq!(queue.take(), None);
        queue.push("a".into());
        assert_eq!(queue.take(), None, "it is being worked on");
        queue.done("a".into(), &Ok(None), Instant::now(), "test");
        assert_eq!(queue.take().as_deref(), Some("a"), "it came up again meanwhile");
        queue.done("a".into(), &Ok(Some(Duration::from_secs(9))), Instant::now(), "test");
        queue.push_at("a".into(), Instant::now() + Duration::from_secs(3));
        queue.push_at("a".into(), Instant::now() + Duration::from_secs(5));
        assert_eq!(queue.next_due(), Some(Instant::now() + Duration::from_secs(3)));
        queue.wake(Instant::now() + Duration::from_secs(4));
        assert_eq!(queue.take().as_deref(), Some("a"));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_bound() {
        assert_eq!(back_off(1), Duration::from_millis(10));
        assert!(back_off(2) > back_off(1));
        assert_eq!(back_off(40), LONGEST_BACK_OFF);
    }
}
