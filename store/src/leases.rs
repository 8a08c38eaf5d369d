//! Which content is in use though no record names it yet, so that content can be collected while others write.
//!
//! Whoever is about to write a record that names content [pins](Leases::pin) it first: it is not deleted until the pin is dropped, and
//! not in a round of collection that began before that. Content that was only looked at or written is left alone for a while. A round
//! takes content out in three steps: it is marked as leaving, deleted, and unmarked; who asks for it meanwhile waits, and then finds that
//! it is gone.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use records::{Digest, Timestamp};
use tokio::sync::Notify;

/// The first 128 bits of a digest: two that share them are only kept for longer.
type Key = u128;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Content that is in use. Shared by everything that speaks to one store.
pub struct Leases {
    state: Mutex<State>,
    left: Notify,
    clock: Clock,
    /// Nothing is known of what was in use before.
    opened: Timestamp,
}

#[derive(Default)]
struct State {
    round: u64,
    seen: HashMap<Key, Seen>,
    pins: HashMap<Key, usize>,
    leaving: HashSet<Key>,
}

#[derive(Clone, Copy)]
struct Seen {
    round: u64,
    at: Timestamp,
}

/// A round of collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(u64);

/// Keeps content from being collected until it is dropped.
#[must_use]
pub struct Pin {
    leases: Arc<Leases>,
    keys: Vec<Key>,
}

/// Content that is being deleted. Whoever asks for it waits until this is dropped.
#[must_use]
pub struct Leaving<'a> {
    leases: &'a Leases,
    key: Key,
}

impl Leases {
    pub fn new(clock: Clock) -> Arc<Self> {
        let opened = clock();
        Arc::new(Self { state: Mutex::default(), left: Notify::new(), clock, opened })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps content from being collected. Returns when none of it is just being deleted: what is there now stays there.
    pub async fn pin(self: &Arc<Self>, digests: impl IntoIterator<Item = &Digest>) -> Pin {
        let keys: Vec<Key> = digests.into_iter().map(key).collect();
        {
            let mut state = self.state();
            for key in &keys {
                *state.pins.entry(*key).or_default() += 1;
            }
        }
        // Made before the wait, so that it is undone when the caller goes away.
        let pin = Pin { leases: self.clone(), keys };
        for key in &pin.keys {
            self.gone(*key, |_| {}).await;
        }
        pin
    }

    /// Notes that somebody looks at the content or writes it; waits while it is being deleted.
    pub async fn see(&self, digest: &Digest) {
        let (key, at) = (key(digest), (self.clock)());
        self.gone(key, |state| {
            let round = state.round;
            state.seen.insert(key, Seen { round, at });
        })
        .await;
    }

    /// Waits until the content is not being deleted, and then changes the state in the same instant.
    async fn gone(&self, key: Key, mut change: impl FnMut(&mut State)) {
        loop {
            let left = self.left.notified();
            {
                let mut state = self.state();
                if !state.leaving.contains(&key) {
                    return change(&mut state);
                }
            }
            left.await;
        }
    }

    /// Begins a round. What is in use from now on is not deleted in it.
    pub fn begin(&self) -> Round {
        let mut state = self.state();
        state.round += 1;
        Round(state.round)
    }

    /// Lets the content go, unless it is pinned, was in use since the round began, or was looked at or written at `before` or later.
    pub fn take(&self, round: Round, digest: &Digest, before: Timestamp) -> Option<Leaving<'_>> {
        let key = key(digest);
        let mut state = self.state();
        if state.pins.contains_key(&key) {
            return None;
        }
        let (seen_round, at) = state.seen.get(&key).map_or((0, self.opened), |seen| (seen.round, seen.at));
        // With `before` in the future of everything there is no waiting at all, only pins and rounds.
        if seen_round >= round.0 || at >= before || !state.leaving.insert(key) {
            return None;
        }
        Some(Leaving { leases: self, key })
    }

    /// Forgets what nobody has looked at since `before`.
    pub fn forget(&self, before: Timestamp) {
        let mut state = self.state();
        let round = state.round;
        state.seen.retain(|_, seen| seen.round >= round || seen.at >= before);
        state.seen.shrink_to_fit();
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let at = (self.leases.clock)();
        let mut state = self.leases.state();
        let round = state.round;
        for key in &self.keys {
            if let Some(count) = state.pins.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(key);
                }
            }
            // A record that names it may have been written after the round looked at the records.
            state.seen.insert(*key, Seen { round, at });
        }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.leases.state().leaving.remove(&self.key);
        self.leases.left.notify_waiters();
    }
}

/// The first 128 bits of the sum.
fn key(digest: &Digest) -> Key {
    u128::from_str_radix(digest.hex().get(..32).unwrap_or_default(), 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use futures::FutureExt;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn leases() -> (Arc<Leases>, Arc<AtomicI64>, Digest) {
        let now = Arc::new(AtomicI64::new(100));
        let clock = now.clone();
        let leases = Leases::new(Arc::new(move || at(clock.load(Ordering::Relaxed))));
        (leases, now, Digest::sha256(&[7; 32]))
    }

    #[tokio::test]
    async fn what_was_in_use_before_the_start_is_left_alone_for_as_long() {
        let (leases, _, digest) = leases();
        let round = leases.begin();
        assert!(leases.take(round, &digest, at(100)).is_none());
        assert!(leases.take(round, &digest, at(101)).is_some());
    }

    #[tokio::test]
    async fn a_pin_holds_and_is_felt_in_the_round_in_which_it_is_dropped() {
        let (leases, _, digest) = leases();
        let far = at(1_000_000);
        let pin = leases.pin([&digest]).await;
        let round = leases.begin();
        assert!(leases.take(round, &digest, far).is_none());
        drop(pin);
        assert!(leases.take(round, &digest, far).is_none(), "a record may have been written since the round looked");
        let next = leases.begin();
        assert!(leases.take(next, &digest, far).is_some());
    }

    #[tokio::test]
    async fn what_was_seen_is_left_alone_for_a_while() {
        let (leases, now, digest) = leases();
        now.store(500, Ordering::Relaxed);
        leases.see(&digest).await;
        let round = leases.begin();
        assert!(leases.take(round, &digest, at(500)).is_none());
        leases.forget(at(500));
        assert!(leases.take(round, &digest, at(500)).is_none(), "what is young is not forgotten");
        assert!(leases.take(round, &digest, at(501)).is_some());
    }

    #[tokio::test]
    async fn who_asks_for_what_is_leaving_waits() {
        let (leases, _, digest) = leases();
        let round = leases.begin();
        let leaving = leases.take(round, &digest, at(1000)).unwrap();
        assert!(leases.take(round, &digest, at(1000)).is_none(), "only one takes it");
        let mut pinned = Box::pin(leases.pin([&digest]));
        assert!((&mut pinned).now_or_never().is_none());
        let mut seen = Box::pin(leases.see(&digest));
        assert!((&mut seen).now_or_never().is_none());
        drop(leaving);
        drop(pinned.await);
        seen.await;
    }

    #[tokio::test]
    async fn a_pin_that_nobody_waited_for_is_undone() {
        let (leases, _, digest) = leases();
        let leaving = leases.take(leases.begin(), &digest, at(1000)).unwrap();
        assert!(leases.pin([&digest]).now_or_never().is_none());
        drop(leaving);
        assert!(leases.state().pins.is_empty());
    }
}
