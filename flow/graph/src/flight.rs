//! Work under way: one flight for each vertex id in this process, whoever wants its result.
//!
//! A flight belongs to the [`Hangar`], not to the run that started it: a run that is cancelled only leaves. The flight is cancelled when the
//! last one has left, and its place is not given again before the executor has cleaned up and returned.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Error, Output, Result, StreamKind, VertexId};

/// What those who wait for a flight are told of it.
#[derive(Clone)]
pub(crate) enum Word {
    /// The executor works on it.
    Started,
    Output(StreamKind, String),
}

pub(crate) type Listener = Arc<dyn Fn(Word) + Send + Sync>;

/// Output that is kept for those who come while the flight is under way, in bytes.
const KEPT: usize = 256 << 10;

/// Tells all listeners, also those who come later, what was said.
#[derive(Default)]
pub(crate) struct Speaker {
    inner: Mutex<Audience>,
}

#[derive(Default)]
struct Audience {
    next: u64,
    listeners: Vec<(u64, Listener)>,
    said: VecDeque<Word>,
    kept: usize,
}

impl Speaker {
    pub fn say(&self, word: Word) {
        let mut inner = lock(&self.inner);
        inner.listeners.iter().for_each(|(_, listener)| listener(word.clone()));
        inner.kept += size(&word);
        inner.said.push_back(word);
        // The first word, `Started`, stays.
        while inner.kept > KEPT && inner.said.len() > 1 {
            inner.kept -= inner.said.remove(1).as_ref().map_or(0, size);
        }
    }

    fn listen(&self, listener: Listener) -> u64 {
        let mut inner = lock(&self.inner);
        inner.said.iter().for_each(|word| listener(word.clone()));
        let key = inner.next;
        inner.next += 1;
        inner.listeners.push((key, listener));
        key
    }

    fn leave(&self, key: u64) {
        lock(&self.inner).listeners.retain(|(k, _)| *k != key);
    }
}

fn size(word: &Word) -> usize {
    match word {
        Word::Started => 0,
        Word::Output(_, text) => text.len(),
    }
}

struct Flight {
    cancel: CancellationToken,
    speaker: Arc<Speaker>,
    result: watch::Receiver<Option<Result<Output>>>,
    /// Changed only under the hangar's lock.
    waiting: Mutex<usize>,
}

/// All flights of a process.
#[derive(Default)]
pub(crate) struct Hangar {
    flights: Mutex<HashMap<VertexId, Arc<Flight>>>,
    tasks: TaskTracker,
    closed: CancellationToken,
}

/// The work of a flight; it is given the token that tells it to stop, and a voice.
pub(crate) type Work = Box<dyn FnOnce(CancellationToken, Arc<Speaker>) -> BoxFuture<'static, Result<Output>> + Send>;

/// A place on a flight. Dropped, it is given back.
pub(crate) struct Seat {
    hangar: Arc<Hangar>,
    id: VertexId,
    flight: Arc<Flight>,
    listener: u64,
    left: bool,
}

impl Hangar {
    /// Takes part in the flight of `id` that is under way, or starts one.
    pub async fn board(self: &Arc<Self>, id: &VertexId, listener: Listener, work: Work) -> Seat {
        let mut work = Some(work);
        loop {
            let mut leaving = match self.try_board(id, &listener, &mut work) {
                Ok(seat) => return seat,
                Err(leaving) => leaving,
            };
            // A cancelled flight cleans up first. An error says that it has gone.
            let _ = leaving.wait_for(Option::is_some).await;
            tokio::task::yield_now().await;
        }
    }

    fn try_board(
        self: &Arc<Self>,
        id: &VertexId,
        listener: &Listener,
        work: &mut Option<Work>,
    ) -> std::result::Result<Seat, watch::Receiver<Option<Result<Output>>>> {
        let mut flights = lock(&self.flights);
        let flight = match flights.get(id) {
            Some(flight) if flight.cancel.is_cancelled() => return Err(flight.result.clone()),
            Some(flight) => flight.clone(),
            None => {
                let (tell, result) = watch::channel(None);
                let flight = Arc::new(Flight {
                    cancel: self.closed.child_token(),
                    speaker: Arc::default(),
                    result,
                    waiting: Mutex::new(0),
                });
                flights.insert(id.clone(), flight.clone());
                // There is work as long as nobody boarded with it, and who boards leaves the loop.
                if let Some(work) = work.take() {
                    let doing = work(flight.cancel.clone(), flight.speaker.clone());
                    self.tasks.spawn(fly(self.clone(), id.clone(), doing, tell));
                }
                flight
            }
        };
        *lock(&flight.waiting) += 1;
        drop(flights);
        let key = flight.speaker.listen(listener.clone());
        Ok(Seat { hangar: self.clone(), id: id.clone(), flight, listener: key, left: false })
    }

    /// Cancels every flight and waits until the last has cleaned up.
    pub async fn close(&self) {
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub fn under_way(&self) -> usize {
        lock(&self.flights).len()
    }
}

async fn fly(
    hangar: Arc<Hangar>,
    id: VertexId,
    doing: BoxFuture<'static, Result<Output>>,
    tell: watch::Sender<Option<Result<Output>>>,
) {
    use futures::FutureExt;
    let result = std::panic::AssertUnwindSafe(doing).catch_unwind().await.unwrap_or_else(|_| {
        Err(Error::Infrastructure {
            message: "the executor panicked: this is a defect, see the server's log".into(),
            source: None,
        })
    });
    // Off the board first: who comes now looks into the cache, where the result is.
    lock(&hangar.flights).remove(&id);
    // Nobody may be waiting any more.
    let _ = tell.send(Some(result));
}

impl Seat {
    /// Waits for the end of the flight.
    pub async fn arrive(&mut self) -> Result<Output> {
        let mut result = self.flight.result.clone();
        let arrived = result.wait_for(Option::is_some).await;
        match arrived.as_deref() {
            Ok(Some(result)) => result.clone(),
            // The task was dropped with its runtime.
            _ => Err(Error::Cancelled),
        }
    }

    /// Gives the seat back. When nobody is left the flight is cancelled, and this waits until it has cleaned up.
    pub async fn leave(mut self) {
        if self.give_back() {
            let _ = self.arrive().await;
        }
    }

    /// Whether this was the last seat.
    fn give_back(&mut self) -> bool {
        if std::mem::replace(&mut self.left, true) {
            return false;
        }
        self.flight.speaker.leave(self.listener);
        // The hangar's lock keeps others from boarding between the count and the cancellation.
        let _flights = lock(&self.hangar.flights);
        let mut waiting = lock(&self.flight.waiting);
        *waiting -= 1;
        if *waiting == 0 {
            self.flight.cancel.cancel();
        }
        *waiting == 0
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seat({})", self.id)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// No panic happens while a lock is held, and the data would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
