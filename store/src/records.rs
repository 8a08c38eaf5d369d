//! The log, typed.

use std::sync::Arc;

use ::records::Record;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{Change, Entry, Error, Expect, Kind, Log, Result, Seq};

/// Reads and writes records in a log. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    log: Arc<dyn Log>,
}

/// A record with the version that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<R> {
    pub seq: Seq,
    pub record: R,
}

impl Records {
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self { log }
    }

    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    pub fn head(&self) -> watch::Receiver<Seq> {
        self.log.head()
    }

    /// The change that writes `record`, for a batch.
    pub fn change<R: Record>(record: &R, expect: Expect) -> Result<Change> {
        let value = serde_json::to_vec(record)
            .map_err(|e| Error::new(Kind::Corrupt, format!("cannot write {} {}", R::KIND, record.key())).caused(e))?;
        Ok(Change { kind: R::KIND.into(), key: record.key(), expect, value: Bytes::from(value), delete: false })
    }

    pub async fn put<R: Record>(&self, record: &R, expect: Expect) -> Result<Seq> {
        self.log.append(vec![Self::change(record, expect)?]).await
    }

    pub async fn get<R: Record>(&self, key: &str) -> Result<Option<Versioned<R>>> {
        self.log.get(R::KIND, key).await?.map(decode).transpose()
    }

    /// All records whose keys start with `prefix`, in the order of their keys.
    pub async fn list<R: Record>(&self, prefix: &str) -> Result<Vec<Versioned<R>>> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.log.list(R::KIND, prefix, after.as_deref(), 1000).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            for entry in page.entries {
                all.push(decode(entry)?);
            }
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// Reads, changes and writes until no other writer came between; `NotFound` when there is no such record.
    pub async fn update<R: Record, E: From<Error>>(
        &self,
        key: &str,
        change: impl Fn(R) -> std::result::Result<R, E>,
    ) -> std::result::Result<R, E> {
        loop {
            let Some(found) = self.get::<R>(key).await? else {
                return Err(Error::new(Kind::NotFound, format!("there is no {} {key}", R::KIND)).into());
            };
            let changed = change(found.record)?;
            match self.put(&changed, Expect::Version(found.seq)).await {
                Ok(_) => return Ok(changed),
                Err(error) if error.kind == Kind::Conflict => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn decode<R: Record>(entry: Entry) -> Result<Versioned<R>> {
    let record = serde_json::from_slice(&entry.value)
        .map_err(|e| Error::new(Kind::Corrupt, format!("cannot read {} {}", R::KIND, entry.key)).caused(e))?;
    Ok(Versioned { seq: entry.seq, record })
}
