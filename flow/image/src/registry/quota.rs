//! How much there may be: bytes and tags of all repositories below a part of the name.
//!
//! Room is reserved before anything is accepted and given back when the records that use it are written, so that pushes at the same time
//! do not come to more than is allowed together.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use records::Digest;
use serde::Serialize;
use store::Seq;

use super::{Registry, entries};
use crate::{Error, Kind, Result};

/// Room that was asked for, in the order in which it was.
#[derive(Default)]
pub(super) struct Asked(Mutex<Reservations>);

#[derive(Default)]
struct Reservations {
    next: u64,
    /// How often room was given back.
    given_back: u64,
    live: BTreeMap<u64, Reservation>,
}

struct Reservation {
    part: String,
    /// What it is for: twice the same takes room once.
    what: String,
    bytes: u64,
    tags: u64,
}

/// Room that nobody else gets until this is dropped.
#[must_use]
pub struct Room {
    /// `None` where everything fits.
    taken: Option<(Registry, u64)>,
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((registry, ticket)) = self.taken.take() {
            let mut asked = registry.asked();
            asked.live.remove(&ticket);
            asked.given_back += 1;
        }
    }
}

impl Registry {
    fn asked(&self) -> MutexGuard<'_, Reservations> {
        // Every change is whole before the lock is given back.
        self.inner.asked.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a blob of a repository; `Denied` when its project would hold more bytes than it may.
    pub(super) async fn room_for_blob(&self, repository: &str, digest: &Digest, size: u64) -> Result<Room> {
        let key = entries::by_digest(repository, digest);
        if self.has_quota(repository).await? && self.log().get(entries::BLOB, &key).await?.is_none() {
            return self.reserve(repository, key, size, 0).await;
        }
        Ok(Room { taken: None })
    }

    /// The same for a tag that is not there yet.
    pub(super) async fn room_for_tag(&self, repository: &str, tag: &str) -> Result<Room> {
        if self.has_quota(repository).await? {
            return self.reserve(repository, entries::by_tag(repository, tag), 0, 1).await;
        }
        Ok(Room { taken: None })
    }

    async fn has_quota(&self, repository: &str) -> Result<bool> {
        let settings = self.settings(repository).await?;
        Ok(settings.quota_bytes.is_some() || settings.quota_tags.is_some())
    }

    async fn reserve(&self, repository: &str, what: String, bytes: u64, tags: u64) -> Result<Room> {
        let (part, settings) = self.all_settings().await?.of(repository);
        let ticket = {
            let mut asked = self.asked();
            asked.next += 1;
            let ticket = asked.next;
            asked.live.insert(ticket, Reservation { part: part.clone(), what: what.clone(), bytes, tags });
            ticket
        };
        // Made before the wait, so that it is undone when the caller goes away.
        let room = Room { taken: Some((self.clone(), ticket)) };
        loop {
            let (given_back, before) = self.asked_before(&part, &what, ticket);
            let used = self.usage(&part).await?;
            let whose = if part.is_empty() { "the registry" } else { part.as_str() };
            let over = |more: u64, used: u64, limit: Option<u64>, what: &str| match limit {
                Some(limit) if more > 0 && used.saturating_add(more) > limit => Err(Error::new(
                    Kind::Denied,
                    format!(
                        "{whose} may hold {limit} {what}, holds {used}, and this would add {more}: remove some first"
                    ),
                )),
                _ => Ok(()),
            };
            let fits = over(bytes, used.bytes.saturating_add(before.bytes), settings.quota_bytes, "bytes")
                .and_then(|()| over(tags, used.tags.saturating_add(before.tags), settings.quota_tags, "tags"));
            match fits {
                Ok(()) => return Ok(room),
                // What was given back meanwhile may have been counted twice.
                Err(_) if self.asked().given_back != given_back => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What was asked for earlier and is not used yet.
    fn asked_before(&self, part: &str, what: &str, ticket: u64) -> (u64, Usage) {
        let asked = self.asked();
        let mut before = Usage::default();
        let others = asked.live.range(..ticket).map(|(_, other)| other);
        for other in others.filter(|other| other.part == part && other.what != what) {
            before.bytes = before.bytes.saturating_add(other.bytes);
            before.tags += other.tags;
        }
        (asked.given_back, before)
    }
}

/// How much there is below a part of the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub bytes: u64,
    pub tags: u64,
}

/// Usage by part of the name, at a version of the log.
#[derive(Default)]
pub(super) struct Usages(Mutex<BTreeMap<String, (Seq, Usage)>>);

impl Registry {
    /// How much all repositories below a part of the name hold. Counted once, and then followed.
    pub async fn usage(&self, part: &str) -> Result<Usage> {
        let below =
            |key: &str| part.is_empty() || key.strip_prefix(part).is_some_and(|rest| rest.starts_with(['/', '@', ':']));
        let known = self.inner.usages.0.lock().unwrap_or_else(PoisonError::into_inner).get(part).copied();
        let (mut at, mut usage) = match known {
            Some(known) => known,
            None => {
                let mut usage = Usage::default();
                let page = self.log().list(entries::BLOB, part, None, 1).await?;
                // What is written while it is counted is counted twice at worst, until the next start; never left out.
                let at = page.at;
                for entry in self.all(entries::BLOB, part).await?.iter().filter(|entry| below(&entry.key)) {
                    usage.bytes += entries::read::<entries::Blob>(entry)?.size;
                }
                usage.tags =
                    self.all(entries::TAG, part).await?.iter().filter(|entry| below(&entry.key)).count() as u64;
                (at, usage)
            }
        };
        let head = *self.log().head().borrow();
        for kind in [entries::BLOB, entries::TAG] {
            let mut from = at;
            loop {
                let changes = self.log().changes(kind, from, 1000).await?;
                for entry in changes.iter().filter(|entry| entry.seq <= head && below(&entry.key)) {
                    // A change of an entry that is there already adds nothing.
                    let new = !entry.deleted && entry.created == entry.seq;
                    match kind {
                        entries::BLOB if new => usage.bytes += entries::read::<entries::Blob>(entry)?.size,
                        entries::BLOB if entry.deleted => {
                            usage.bytes = usage.bytes.saturating_sub(entries::read::<entries::Blob>(entry)?.size);
                        }
                        entries::TAG if new => usage.tags += 1,
                        entries::TAG if entry.deleted => usage.tags = usage.tags.saturating_sub(1),
                        _ => {}
                    }
                }
                match changes.last() {
                    Some(last) if last.seq < head => from = last.seq,
                    _ => break,
                }
            }
        }
        at = at.max(head);
        let mut usages = self.inner.usages.0.lock().unwrap_or_else(PoisonError::into_inner);
        usages.insert(part.to_owned(), (at, usage));
        Ok(usage)
    }
}
