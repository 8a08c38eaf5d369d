//! One task that writes to the log and takes in what the log has: writes that come together share one append.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use store::{Change, Kind, Log, Seq};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::cache::Cache;

const PREFIX: &str = "k8s/";
/// The most changes that share one append.
const BATCH: usize = 128;
/// How many changes are read from the log at a time.
const READ: usize = 512;
/// How many versions of the past the log keeps of Kubernetes objects, beyond what memory holds.
const KEEP: Seq = 20_000;

/// A change on its way to the log.
pub(super) struct Write {
    pub change: Change,
    pub done: oneshot::Sender<store::Result<Arc<Value>>>,
}

pub(super) struct Writer {
    pub log: Arc<dyn Log>,
    pub cache: Arc<Cache>,
    pub incoming: mpsc::Receiver<Write>,
    pub stop: CancellationToken,
}

impl Writer {
    pub async fn run(mut self) {
        let mut head = self.log.head();
        let mut compacted = self.cache.read().applied;
        let mut waiting: Vec<Write> = Vec::new();
        loop {
            if waiting.is_empty() {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    write = self.incoming.recv() => match write {
                        Some(write) => waiting.push(write),
                        None => return,
                    },
                    changed = head.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        self.take_in().await;
                        continue;
                    }
                }
            }
            while waiting.len() < BATCH
                && let Ok(write) = self.incoming.try_recv()
            {
                waiting.push(write);
            }
            waiting = self.write(waiting).await;
            let applied = self.cache.read().applied;
            if applied > compacted + 2 * KEEP {
                compacted = applied - KEEP;
                if let Err(error) = self.log.compact(PREFIX, compacted).await {
                    tracing::warn!(%error, "the past of Kubernetes objects could not be forgotten");
                }
            }
        }
    }

    /// Appends the first change of every key and gives back the others.
    async fn write(&self, waiting: Vec<Write>) -> Vec<Write> {
        let mut keys = HashSet::new();
        let (batch, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|write| keys.insert((write.change.kind.clone(), write.change.key.clone())));
        match self.log.append(batch.iter().map(|write| write.change.clone()).collect()).await {
            Ok(seq) => self.answer(batch, seq).await,
            Err(error) if error.kind == Kind::Conflict && batch.len() > 1 => {
                for write in batch {
                    match self.log.append(vec![write.change.clone()]).await {
                        Ok(seq) => self.answer(vec![write], seq).await,
                        Err(error) => drop(write.done.send(Err(error))),
                    }
                }
            }
            Err(error) => {
                for write in batch {
                    drop(write.done.send(Err(error.clone())));
                }
            }
        }
        later
    }

    /// Waits until the memory shows `seq`, then hands each writer its object as it was written.
    async fn answer(&self, batch: Vec<Write>, seq: Seq) {
        while self.cache.read().applied < seq && !self.stop.is_cancelled() {
            if !self.take_in().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let state = self.cache.read();
        for Write { change, done } in batch {
            let past = state
                .kinds
                .get(&change.kind)
                .and_then(|kept| kept.window.iter().rev().find(|past| past.seq <= seq && past.key == change.key));
            let answer = past.map(|past| past.object.clone()).ok_or_else(|| {
                store::Error::new(
                    Kind::Corrupt,
                    format!("{} {} was written and is not in the log", change.kind, change.key),
                )
            });
            drop(done.send(answer));
        }
    }

    /// Reads what is new in the log into memory; false when the log failed.
    async fn take_in(&self) -> bool {
        loop {
            let head = *self.log.head().borrow();
            let applied = self.cache.read().applied;
            if head <= applied {
                return true;
            }
            match self.log.changes(PREFIX, applied, READ).await {
                Ok(entries) if entries.len() < READ => {
                    let at = entries.last().map_or(head, |last| last.seq.max(head));
                    self.cache.apply(entries, at);
                }
                Ok(entries) => {
                    let at = entries.last().map_or(applied, |last| last.seq);
                    self.cache.apply(entries, at);
                }
                Err(error) => {
                    tracing::error!(%error, "the log of Kubernetes objects could not be read; trying again");
                    return false;
                }
            }
        }
    }
}
