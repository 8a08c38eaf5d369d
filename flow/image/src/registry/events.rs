//! What happened in the registry: a record of every push, pull and deletion, with who did it.
//!
//! A push or deletion is written down before its answer; pulls are written down together, a moment later. Old ones are forgotten.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use records::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Change, Entry, Expect};
use tokio::sync::mpsc;

use super::{Registry, entries};
use crate::{Error, Kind, Result};

/// Key: the time in microseconds, and a number.
pub const EVENT: &str = "registry/event";
/// Pulls that wait to be written down.
const QUEUE: usize = 10_000;
/// How many are written down together, and how long the first of them waits.
const BATCH: usize = 500;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Push,
    Pull,
    Delete,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Delete => "delete",
        }
    }
}

/// What happened to a manifest or a tag, or that a blob was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub at: Timestamp,
    pub action: Action,
    pub repository: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// `admin`, a robot's user name, or nothing.
    pub who: String,
    /// As the client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// Writes events down. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    registry: Registry,
    pulls: mpsc::Sender<Event>,
}

/// The other end, which has to be [run](Writing::run).
pub struct Writing {
    registry: Registry,
    pulls: mpsc::Receiver<Event>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Event {
    /// The change that writes it down.
    pub(super) fn change(&self) -> Result<Change> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % 100_000_000;
        entries::put(EVENT, format!("{:020}-{number:08}", self.at.as_microsecond()), self, Expect::Any)
    }
}

impl Events {
    pub fn new(registry: Registry) -> (Self, Writing) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { registry: registry.clone(), pulls: sender }, Writing { registry, pulls: receiver })
    }

    /// Writes an event down: at once, or for a pull soon.
    pub async fn note(&self, event: Event) -> Result<()> {
        if event.action == Action::Pull {
            let over = |_| Error::new(Kind::Io, "nobody writes events down any more: shipway is stopping");
            return self.pulls.send(event).await.map_err(over);
        }
        self.registry.log().append(vec![event.change()?]).await?;
        Ok(())
    }
}

impl Writing {
    /// Writes pulls down until nobody notes any more.
    pub async fn run(mut self) {
        let mut waiting = Vec::new();
        while self.pulls.recv_many(&mut waiting, BATCH).await > 0 {
            if waiting.len() < BATCH {
                tokio::time::sleep(PAUSE).await;
            }
            while waiting.len() < BATCH {
                match self.pulls.try_recv() {
                    Ok(event) => waiting.push(event),
                    Err(_) => break,
                }
            }
            let changes: Result<Vec<Change>> = waiting.drain(..).map(|event| event.change()).collect();
            let written = match changes {
                Ok(changes) => self.registry.log().append(changes).await.map_err(Error::from),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::error!(%error, "pulls cannot be written down");
            }
        }
    }
}

impl Registry {
    /// The newest events, newest first, at most `limit`, of repositories whose names begin so.
    pub async fn events(&self, prefix: &str, since: Timestamp, limit: usize) -> Result<Vec<Event>> {
        let mut found: Vec<Event> = Vec::new();
        let mut after = Some(format!("{:020}", since.as_microsecond()));
        loop {
            let page = self.log().list(EVENT, "", after.as_deref(), 1000).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            for entry in &page.entries {
                let event: Event = entries::read(entry)?;
                if event.repository.starts_with(prefix) {
                    found.push(event);
                }
            }
            // Only the last ones are wanted.
            let surplus = found.len().saturating_sub(limit);
            found.drain(..surplus);
            if !page.more {
                found.reverse();
                return Ok(found);
            }
        }
    }

    /// Reads an event of the log.
    pub fn read_event(entry: &Entry) -> Result<Event> {
        entries::read(entry)
    }

    /// Forgets events before a time; returns how many.
    pub async fn forget_events(&self, before: Timestamp) -> Result<u64> {
        let limit = format!("{:020}", before.as_microsecond());
        let mut count = 0;
        loop {
            let page = self.log().list(EVENT, "", None, 500).await?;
            let old: Vec<Change> = page.entries.iter().filter(|entry| entry.key < limit).map(entries::remove).collect();
            if old.is_empty() {
                break;
            }
            count += old.len() as u64;
            self.log().append(old).await?;
        }
        if count > 0 {
            let head = *self.log().head().borrow();
            self.log().compact(EVENT, head).await?;
        }
        Ok(count)
    }
}
