//! The log of records: every version of every entry, in one order, to be read, listed and watched.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::Result;

/// The position of a change in the log; also the version of the entry that the change made. Starts at 1.
pub type Seq = u64;

/// What a change expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// No live entry.
    Absent,
    /// A live entry, whichever its version.
    Present,
    /// The live entry with this version.
    Version(Seq),
}

/// A change to one entry.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: String,
    pub key: String,
    pub expect: Expect,
    /// The value that the entry is to have; with `delete`, what watchers are shown of it last.
    pub value: Bytes,
    pub delete: bool,
}

/// One version of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub seq: Seq,
    /// The version with which the entry last came into being.
    pub created: Seq,
    pub kind: String,
    pub key: String,
    pub value: Bytes,
    pub deleted: bool,
}

/// A part of a listing.
#[derive(Debug, Clone)]
pub struct Page {
    /// Live entries in the order of their keys.
    pub entries: Vec<Entry>,
    /// The head of the log at which the listing is true; watch on from here.
    pub at: Seq,
    /// Whether there are entries behind the last one.
    pub more: bool,
}

/// A watched, append-only log.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Writes all changes or none, each with a version of its own, in order; durable when it returns. Returns the version of the
    /// last. `Conflict` when an expectation does not hold; each sees what the changes before it in the batch did. Deleting what is not
    /// there, where that is allowed, changes nothing. A batch that changes nothing returns the head.
    async fn append(&self, changes: Vec<Change>) -> Result<Seq>;

    /// The live entry, or `None`.
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Entry>>;

    /// Live entries of a kind whose keys start with `prefix` and come after the key `after`, at most `limit`.
    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page>;

    /// Every version after `after`, of the kinds that start with `kind_prefix`, oldest first, at most `limit`; deletions too.
    /// `Compacted` when some of them are no longer kept.
    async fn changes(&self, kind_prefix: &str, after: Seq, limit: usize) -> Result<Vec<Entry>>;

    /// Every kind that starts with `prefix` and ever had a change, in order; there may be no live entry of it.
    async fn kinds(&self, prefix: &str) -> Result<Vec<String>> {
        let (mut found, mut after) = (std::collections::BTreeSet::new(), 0);
        loop {
            let changes = self.changes(prefix, after, 1000).await?;
            let Some(last) = changes.last() else { return Ok(found.into_iter().collect()) };
            after = last.seq;
            found.extend(changes.into_iter().map(|entry| entry.kind));
        }
    }

    /// The version of the newest change; receivers are woken after each append.
    fn head(&self) -> watch::Receiver<Seq>;

    /// Forgets superseded versions and deletions of the kinds that start with `kind_prefix` up to and with `upto`. Live entries stay.
    async fn compact(&self, kind_prefix: &str, upto: Seq) -> Result<()>;
}
