//! All records of a kind in memory, kept up to date from the log: for stages that look at all of them again and again.

use std::{collections::BTreeMap, ops::Bound};

use records::Record;

use crate::{Entry, Error, Kind, Records, Result, Seq, Versioned};

/// The records of one kind, by key. It is as old as the last [`sync`](Self::sync).
pub struct Mirror<R> {
    records: Records,
    found: BTreeMap<String, Versioned<R>>,
    /// Every change up to here has been seen; nothing has when it is not there.
    at: Option<Seq>,
}

/// Changes that are read at a time.
const CHUNK: usize = 1000;

impl<R: Record> Mirror<R> {
    pub fn new(records: Records) -> Self {
        Self { records, found: BTreeMap::new(), at: None }
    }

    /// Catches up with the log, at least to where it was at the time of the call.
    pub async fn sync(&mut self) -> Result<()> {
        let head = *self.records.head().borrow();
        loop {
            let Some(at) = self.at else {
                self.load().await?;
                continue;
            };
            let changes = match self.records.log().changes(R::KIND, at, CHUNK).await {
                Err(error) if error.kind == Kind::Compacted => {
                    self.at = None;
                    continue;
                }
                changes => changes?,
            };
            let all = changes.len() < CHUNK;
            for entry in changes {
                self.at = Some(entry.seq);
                if entry.kind == R::KIND {
                    self.take(entry)?;
                }
            }
            if all {
                self.at = self.at.max(Some(head));
                return Ok(());
            }
        }
    }

    async fn load(&mut self) -> Result<()> {
        self.found.clear();
        let (mut after, mut first) = (None::<String>, None);
        loop {
            let page = self.records.log().list(R::KIND, "", after.as_deref(), CHUNK).await?;
            // What changes while the pages are read is seen again, as a change after the first of them.
            first = first.or(Some(page.at));
            after = page.entries.last().map(|entry| entry.key.clone());
            for entry in page.entries {
                self.take(entry)?;
            }
            if !page.more {
                self.at = first;
                return Ok(());
            }
        }
    }

    fn take(&mut self, entry: Entry) -> Result<()> {
        if entry.deleted {
            self.found.remove(&entry.key);
            return Ok(());
        }
        let record = serde_json::from_slice(&entry.value)
            .map_err(|e| Error::new(Kind::Corrupt, format!("cannot read {} {}", R::KIND, entry.key)).caused(e))?;
        self.found.insert(entry.key, Versioned { seq: entry.seq, record });
        Ok(())
    }

    pub fn get(&self, key: &str) -> Option<&Versioned<R>> {
        self.found.get(key)
    }

    /// In the order of their keys; from the end with `.rev()`.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Versioned<R>> {
        self.found.values()
    }

    /// Those whose keys start with `prefix`, in the order of their keys.
    pub fn starting_with(&self, prefix: &str) -> impl DoubleEndedIterator<Item = &Versioned<R>> {
        let end = crate::expect::after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        self.found.range((Bound::Included(prefix.to_owned()), end)).map(|(_, record)| record)
    }
}
