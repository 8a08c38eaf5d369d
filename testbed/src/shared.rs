//! One server for many tests.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{Shipway, say};

/// A server that the first test that wants it starts, and that ends with the test program; what it leaves makes the program fail.
#[derive(Default)]
pub struct Shared(OnceLock<Shipway>);

static STARTED: Mutex<Vec<&'static Shipway>> = Mutex::new(Vec::new());

impl Shared {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub fn get(&'static self, start: impl FnOnce() -> Shipway) -> &'static Shipway {
        let mut first = false;
        let server = self.0.get_or_init(|| {
            first = true;
            start()
        });
        if first {
            let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
            if started.is_empty() {
                // SAFETY: the function is sound to call at any time, and does not unwind.
                unsafe { libc::atexit(end) };
            }
            started.push(server);
        }
        server
    }
}

/// Runs when the test program ends. What this thread has of its own is gone by then, so the work is another's.
extern "C" fn end() {
    let stopped = std::thread::Builder::new().spawn(|| {
        let started = std::mem::take(&mut *STARTED.lock().unwrap_or_else(PoisonError::into_inner));
        started.into_iter().flat_map(Shipway::end).collect::<Vec<_>>()
    });
    let wrong = stopped.map(std::thread::JoinHandle::join);
    match wrong {
        Ok(Ok(wrong)) if wrong.is_empty() => return,
        Ok(Ok(wrong)) => {
            say(&format!("FAILED: a server that tests shared did not end as it should:\n  {}", wrong.join("\n  ")))
        }
        _ => say("FAILED: the servers that tests shared could not be stopped"),
    }
    // SAFETY: ends the process at once; nothing is waiting to be written.
    unsafe { libc::_exit(101) }
}
