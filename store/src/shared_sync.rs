//! fsync(2) of one file for many at once: whoever waits for a sync that began after their change needs none of their own.

use std::{
    fs::File,
    io,
    sync::{Condvar, Mutex, PoisonError},
};

/// A file, most often a directory, that many threads want on the disk.
pub struct SharedSync {
    file: File,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Syncs that have begun; the last of them may be under way.
    begun: u64,
    ended: u64,
    /// The last one that failed.
    failed: u64,
}

impl SharedSync {
    pub fn new(file: File) -> Self {
        Self { file, state: Mutex::default(), ended: Condvar::new() }
    }

    /// Returns when what was changed before the call is durable.
    pub fn sync(&self) -> io::Result<()> {
        self.sync_by(|| self.file.sync_all())
    }

    fn sync_by(&self, work: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is under way may have begun before our change.
        let wanted = state.begun + 1;
        while state.ended < wanted {
            if state.begun > state.ended {
                state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.begun += 1;
            drop(state);
            let done = work();
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.ended = state.begun;
            if done.is_err() {
                state.failed = state.ended;
            }
            self.ended.notify_all();
            return done;
        }
        // Kernels report a failure once; nobody who was part of it may believe that it went well.
        if state.failed >= wanted {
            return Err(io::Error::other("the sync of another thread, which was also this one's, failed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn who_waits_shares_and_nobody_is_served_by_one_that_began_before() {
        let shared = SharedSync::new(tempfile::tempfile().unwrap());
        let (changes, syncs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let durable = AtomicUsize::new(0);
        let start = Barrier::new(16);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..20 {
                        let mine = changes.fetch_add(1, Ordering::SeqCst) + 1;
                        shared
                            .sync_by(|| {
                                let seen = changes.load(Ordering::SeqCst);
                                thread::sleep(Duration::from_micros(300));
                                durable.fetch_max(seen, Ordering::SeqCst);
                                syncs.fetch_add(1, Ordering::SeqCst);
                                Ok(())
                            })
                            .unwrap();
                        assert!(durable.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
        assert!(syncs.into_inner() < 320, "at least some were shared");
    }

    #[test]
    fn a_failure_is_everybodys_who_took_part() {
        let shared = SharedSync::new(tempfile::tempfile().unwrap());
        let (under_way, waiting) = (Barrier::new(2), AtomicUsize::new(0));
        thread::scope(|scope| {
            let leader = scope.spawn(|| {
                shared.sync_by(|| {
                    under_way.wait();
                    while waiting.load(Ordering::SeqCst) < 3 {
                        thread::yield_now();
                    }
                    thread::sleep(Duration::from_millis(30));
                    Ok(())
                })
            });
            under_way.wait();
            let others: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        waiting.fetch_add(1, Ordering::SeqCst);
                        shared.sync_by(|| Err(io::Error::other("no")))
                    })
                })
                .collect();
            assert!(leader.join().unwrap().is_ok());
            for other in others {
                assert!(other.join().unwrap().is_err());
            }
        });
        assert!(shared.sync().is_ok(), "the next one is for itself");
    }
}
