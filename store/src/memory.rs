//! Both stores in memory: for tests and for work that keeps nothing. They behave as the durable ones do, except that they end
//! with the process.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use records::Digest;
use tokio::sync::watch;

use crate::{
    BlobReader, BlobWriter, Blobs, Change, Entry, Error, Kind, Log, Page, Result, Seq, expect,
    tail::{Found, Tail},
};

/// A [`Log`] in memory.
pub struct MemoryLog {
    state: Mutex<State>,
    head: watch::Sender<Seq>,
}

#[derive(Default)]
struct State {
    head: Seq,
    live: BTreeMap<(String, String), Entry>,
    log: BTreeMap<Seq, Entry>,
    tail: Tail,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    pub fn new() -> Self {
        Self { state: Mutex::default(), head: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made whole before the lock is given back, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, changes: Vec<Change>) -> Result<Seq> {
        let mut state = self.state();
        let mut overlay: HashMap<(String, String), Option<(Seq, Seq)>> = HashMap::new();
        let (mut next, mut written) = (state.head, Vec::new());
        for change in changes {
            let place = (change.kind.clone(), change.key.clone());
            let found = match overlay.get(&place) {
                Some(found) => *found,
                None => state.live.get(&place).map(|entry| (entry.seq, entry.created)),
            };
            expect::check(&change, found.map(|(seq, _)| seq))?;
            if change.delete && found.is_none() {
                continue;
            }
            next += 1;
            let created = found.map_or(next, |(_, created)| created);
            overlay.insert(place, (!change.delete).then_some((next, created)));
            let Change { kind, key, value, delete: deleted, .. } = change;
            written.push(Entry { seq: next, created, kind, key, value, deleted });
        }
        state.head = next;
        for entry in written {
            let place = (entry.kind.clone(), entry.key.clone());
            if entry.deleted {
                state.live.remove(&place)
            } else {
                state.live.insert(place, entry.clone())
            };
            state.log.insert(entry.seq, entry.clone());
            state.tail.push(entry);
        }
        // While the state is locked, so that receivers never see the head go back.
        self.head.send_if_modified(|head| std::mem::replace(head, next) != next);
        Ok(next)
    }

    async fn get(&self, kind: &str, key: &str) -> Result<Option<Entry>> {
        Ok(self.state().live.get(&(kind.to_owned(), key.to_owned())).cloned())
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let state = self.state();
        let from = (kind.to_owned(), after.unwrap_or_default().max(prefix).to_owned());
        let mut found = state
            .live
            .range(from..)
            .map(|(_, entry)| entry)
            .take_while(|entry| entry.kind == kind && entry.key.starts_with(prefix))
            .filter(|entry| after.is_none_or(|after| entry.key.as_str() > after));
        let entries = found.by_ref().take(limit).cloned().collect();
        Ok(Page { entries, at: state.head, more: found.next().is_some() })
    }

    async fn changes(&self, kind_prefix: &str, after: Seq, limit: usize) -> Result<Vec<Entry>> {
        let state = self.state();
        Ok(match state.tail.changes(kind_prefix, after, limit)? {
            Found::Here(entries) => entries,
            Found::Older(_) => {
                let newer = state.log.range(after + 1..).map(|(_, entry)| entry);
                newer.filter(|entry| entry.kind.starts_with(kind_prefix)).take(limit).cloned().collect()
            }
        })
    }

    async fn kinds(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.state().tail.kinds(prefix))
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    async fn compact(&self, kind_prefix: &str, upto: Seq) -> Result<()> {
        let mut guard = self.state();
        let State { live, log, tail, .. } = &mut *guard;
        log.retain(|seq, entry| {
            let current = || live.get(&(entry.kind.clone(), entry.key.clone())).is_some_and(|live| live.seq == *seq);
            let keep = *seq > upto || !entry.kind.starts_with(kind_prefix) || current();
            if !keep {
                tail.forget(&entry.kind, *seq);
            }
            keep
        });
        Ok(())
    }
}

/// [`Blobs`] in memory.
#[derive(Clone, Default)]
pub struct MemoryBlobs {
    blobs: Arc<Mutex<BTreeMap<Digest, Bytes>>>,
}

impl MemoryBlobs {
    pub fn new() -> Self {
        Self::default()
    }

    fn blobs(&self) -> MutexGuard<'_, BTreeMap<Digest, Bytes>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    blobs: MemoryBlobs,
    content: BytesMut,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.content.extend_from_slice(&chunk);
        Ok(())
    }

    fn written(&self) -> u64 {
        self.content.len() as u64
    }

    async fn digest(&mut self) -> Result<Digest> {
        Ok(crate::blobs::sum(digest::digest(&digest::SHA256, &self.content)))
    }

    async fn finish(self: Box<Self>, expected: Option<&Digest>) -> Result<Digest> {
        let sha512 = expected.is_some_and(|digest| digest.algorithm() == "sha512");
        let algorithm = if sha512 { &digest::SHA512 } else { &digest::SHA256 };
        let found = crate::blobs::sum(digest::digest(algorithm, &self.content));
        crate::blobs::verify(expected, &found)?;
        self.blobs.blobs().insert(found.clone(), self.content.freeze());
        Ok(found)
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer { blobs: self.clone(), content: BytesMut::new() }))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.blobs().get(digest).map(|content| content.len() as u64))
    }

    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> Result<BlobReader> {
        let content = self.blobs().get(digest).cloned();
        let content = content.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no blob {digest}")))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let rest = (content.len() - start) as u64;
        let end = start + length.unwrap_or(rest).min(rest) as usize;
        Ok(Box::pin(std::io::Cursor::new(content.slice(start..end))))
    }

    fn path(&self, _: &Digest) -> Option<std::path::PathBuf> {
        None
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.blobs().remove(digest);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        Ok(self.blobs().keys().cloned().collect())
    }
}
