//! How long a connection waits for its client.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// How long clients may take before their connection is closed, so that slow ones cannot take them all.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the whole head of a request, and between two requests. More than the 90 s for which the field's clients keep a connection that
    /// they do not use, so that it is they who close it.
    pub head: Duration,
    /// In which some of an answer must be taken.
    pub write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: Duration::from_secs(120), write: Duration::from_secs(900) }
    }
}

fn too_slow(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// With these bytes a client says that it speaks HTTP/2. The HTTP library waits for the first byte that differs, for ever.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection, until it is clear which HTTP it speaks; from there on the HTTP library has its own limit.
pub(super) struct Greeting {
    limit: Duration,
    read: usize,
    over: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Greeting {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, read: 0, over: false, sleep: None }
    }

    pub(super) fn read(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.over =
            bytes.is_empty() || !PREFACE[self.read..].starts_with(&bytes[..bytes.len().min(PREFACE.len() - self.read)]);
        self.read = (self.read + bytes.len()).min(PREFACE.len());
        self.over |= self.read == PREFACE.len();
        if self.over {
            self.sleep = None;
        }
    }

    /// Asked while nothing can be read; ready when that has lasted too long.
    pub(super) fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.over {
            return Poll::Pending;
        }
        let limit = self.limit;
        ready!(self.sleep.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        Poll::Ready(too_slow("the client did not begin a request in time"))
    }
}

/// Whether an answer is taken. What is found to have stalled has done so for one to two times the limit: progress only leaves a mark, so
/// that it costs nothing.
pub(super) struct Progress {
    limit: Duration,
    made: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Progress {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, made: false, sleep: None }
    }

    pub(super) fn made(&mut self) {
        self.made = true;
    }

    /// Asked while nothing can be written; ready when that has lasted too long.
    pub(super) fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if !std::mem::take(&mut self.made) {
                return Poll::Ready(too_slow("the client does not take the answer"));
            }
            sleep.as_mut().reset(Instant::now() + limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_greeting_is_over_when_it_differs_or_is_whole() {
        let of = |parts: &[&[u8]]| {
            let mut greeting = Greeting::new(Duration::from_secs(1));
            parts.iter().for_each(|part| greeting.read(part));
            greeting.over
        };
        assert!(of(&[b"GET / HTTP/1.1"]) && of(&[b"P", b"O"]) && of(&[PREFACE]) && of(&[&PREFACE[..9], &PREFACE[9..]]));
        assert!(of(&[b""]), "the client has closed");
        assert!(of(&[&PREFACE[..20], b"SM\r\n\r\nand more"]));
        assert!(!of(&[]) && !of(&[b"P"]) && !of(&[b"PRI *", b" HTTP/2.0"]));
        let mut greeting = Greeting::new(Duration::from_secs(1));
        let error = poll_fn(|cx| greeting.poll_given_up(cx)).await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_gives_more_time() {
        let began = Instant::now();
        let mut progress = Progress::new(Duration::from_secs(10));
        let waiting = tokio::time::timeout(Duration::from_secs(6), poll_fn(|cx| progress.poll_given_up(cx))).await;
        assert!(waiting.is_err());
        progress.made();
        poll_fn(|cx| progress.poll_given_up(cx)).await;
        assert_eq!(began.elapsed().as_secs(), 20);
    }
}
