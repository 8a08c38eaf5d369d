//! How busy each address is, and which ones are on their way out.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long an address that refused a connection is only used when there is no other.
const SUSPECT: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Busy {
    requests: AtomicUsize,
    idle: Notify,
}

/// A request under way to an address. It counts until it is dropped.
pub struct Under(Arc<Busy>);

impl Under {
    fn new(busy: Arc<Busy>) -> Self {
        busy.requests.fetch_add(1, Ordering::AcqRel);
        Self(busy)
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[derive(Default)]
struct State {
    busy: HashMap<IpAddr, Arc<Busy>>,
    retired: HashSet<IpAddr>,
    suspects: HashMap<SocketAddr, Instant>,
    turn: usize,
}

/// Shared by everything that sends traffic.
#[derive(Default)]
pub struct Load {
    state: Mutex<State>,
}

impl Load {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is a single insert or remove.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The least busy of some addresses, in turn among equals; those that just failed only when there is no other.
    pub fn pick(&self, candidates: &[SocketAddr]) -> Option<(SocketAddr, Under)> {
        let mut state = self.state();
        let now = Instant::now();
        state.suspects.retain(|_, until| *until > now);
        state.turn = state.turn.wrapping_add(1);
        let (turn, count) = (state.turn, candidates.len().max(1));
        let requests = |ip: IpAddr| state.busy.get(&ip).map_or(0, |busy| busy.requests.load(Ordering::Acquire));
        let best = candidates
            .iter()
            .enumerate()
            .filter(|(_, address)| !state.retired.contains(&address.ip()))
            .min_by_key(|(at, address)| {
                (state.suspects.contains_key(address), requests(address.ip()), at.wrapping_add(turn) % count)
            })
            .map(|(_, address)| *address)?;
        let busy = state.busy.entry(best.ip()).or_default().clone();
        Some((best, Under::new(busy)))
    }

    pub fn is_retired(&self, ip: IpAddr) -> bool {
        self.state().retired.contains(&ip)
    }

    /// It refused a connection.
    pub fn suspect(&self, address: SocketAddr) {
        self.state().suspects.insert(address, Instant::now() + SUSPECT);
    }

    pub fn retire(&self, ip: IpAddr) {
        self.state().retired.insert(ip);
    }

    pub fn forget(&self, ip: IpAddr) {
        let mut state = self.state();
        state.retired.remove(&ip);
        state.busy.remove(&ip);
        state.suspects.retain(|address, _| address.ip() != ip);
    }

    /// Waits until nothing is under way to the address.
    pub async fn idle(&self, ip: IpAddr) {
        let Some(busy) = self.state().busy.get(&ip).cloned() else { return };
        loop {
            let idle = busy.idle.notified();
            tokio::pin!(idle);
            // Registered before the count is looked at, so that no wake is missed.
            idle.as_mut().enable();
            if busy.requests.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_spread_and_what_failed_or_leaves_is_spared() {
        let load = Load::default();
        let all = [address(1), address(2)];
        let (first, _one) = load.pick(&all).unwrap();
        let (second, two) = load.pick(&all).unwrap();
        assert_ne!(first, second, "the idle one is taken");
        drop(two);
        load.suspect(second);
        let (third, _three) = load.pick(&all).unwrap();
        assert_eq!(third, first, "better busy than failing");
        assert_eq!(load.pick(&[second]).unwrap().0, second, "when there is no other it is tried");
        load.retire(first.ip());
        assert_eq!(load.pick(&all).unwrap().0, second);
        assert!(load.pick(&[first]).is_none());
        load.forget(first.ip());
        assert!(load.pick(&[first]).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_is_reached_when_the_last_request_is_done() {
        let load = Arc::new(Load::default());
        let (at, under) = load.pick(&[address(1)]).unwrap();
        let (other, own) = (load.clone(), load.clone());
        let waiting = tokio::spawn(async move { other.idle(at.ip()).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        drop(under);
        waiting.await.unwrap();
        own.idle(address(9).ip()).await;
    }
}
