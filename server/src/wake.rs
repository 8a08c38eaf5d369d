//! Wakes stages when records of the kinds that they read have changed.

use std::{collections::HashMap, sync::Arc};

use store::{Kind, Log, Seq};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One channel a kind, fed by one reader of the log.
#[derive(Clone)]
pub struct Wake {
    kinds: Arc<HashMap<&'static str, watch::Sender<Seq>>>,
}

impl Wake {
    pub fn new(kinds: &[&'static str]) -> Self {
        Self { kinds: Arc::new(kinds.iter().map(|kind| (*kind, watch::Sender::new(0))).collect()) }
    }

    /// Is changed whenever a record of the kind was written.
    ///
    /// # Panics
    /// When the kind was not named at construction: a defect of the wiring.
    pub fn on(&self, kind: &'static str) -> watch::Receiver<Seq> {
        self.kinds[kind].subscribe()
    }

    /// Wakes who waits for the kind, if it is one that somebody may wait for.
    pub fn changed(&self, kind: &str, seq: Seq) {
        if let Some(sender) = self.kinds.get(kind) {
            sender.send_replace(seq);
        }
    }

    /// Reads the log from its present head on, until cancelled.
    pub async fn run(self, log: Arc<dyn Log>, cancel: CancellationToken) {
        let mut head = log.head();
        let mut at = *head.borrow_and_update();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = head.changed() => if changed.is_err() { return },
            }
            head.borrow_and_update();
            loop {
                match log.changes("", at, 500).await {
                    Ok(entries) => {
                        let Some(last) = entries.last() else { break };
                        at = last.seq;
                        for entry in &entries {
                            self.changed(&entry.kind, entry.seq);
                        }
                    }
                    Err(error) if error.kind == Kind::Compacted => {
                        // What was missed is unknown, so everybody looks.
                        at = *head.borrow();
                        self.kinds.values().for_each(|sender| {
                            sender.send_replace(at);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the log");
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                        break;
                    }
                }
            }
        }
    }
}
