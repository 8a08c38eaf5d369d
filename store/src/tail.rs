//! The newest changes in memory, so that watchers who are up to date never touch the disk; and which kinds there are.

use std::collections::{BTreeMap, VecDeque};

use crate::{Entry, Error, Kind, Result, Seq};

/// How many changes, and how many bytes of them, are kept at hand.
const ENTRIES: usize = 4096;
const BYTES: usize = 4 << 20;

/// The tail of a log. Changes after `after` are all in `entries`, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    after: Seq,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Every kind that ever had a change, with the newest change of it that has been forgotten.
    kinds: BTreeMap<String, Seq>,
}

/// Where the changes that were asked for are.
pub(crate) enum Found {
    Here(Vec<Entry>),
    /// Older than the tail; look for these kinds.
    Older(Vec<String>),
}

impl Tail {
    pub(crate) fn new(head: Seq, kinds: BTreeMap<String, Seq>) -> Self {
        Self { after: head, kinds, ..Self::default() }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        if !self.kinds.contains_key(&entry.kind) {
            self.kinds.insert(entry.kind.clone(), 0);
        }
        self.bytes += size(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > ENTRIES || self.bytes > BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.after = oldest.seq;
        }
    }

    pub(crate) fn kinds(&self, prefix: &str) -> Vec<String> {
        self.matching(prefix).map(|(kind, _)| kind.clone()).collect()
    }

    fn matching<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Seq)> {
        self.kinds.range(prefix.to_owned()..).take_while(move |(kind, _)| kind.starts_with(prefix))
    }

    /// `Compacted` when changes of these kinds after `after` have been forgotten.
    pub(crate) fn check(&self, prefix: &str, after: Seq) -> Result<()> {
        match self.matching(prefix).find(|(_, forgotten)| **forgotten > after) {
            None => Ok(()),
            Some((kind, forgotten)) => Err(Error::new(
                Kind::Compacted,
                format!(
                    "changes of {kind} up to {forgotten} are no longer kept, and those after {after} were asked for: list again"
                ),
            )),
        }
    }

    pub(crate) fn changes(&self, prefix: &str, after: Seq, limit: usize) -> Result<Found> {
        self.check(prefix, after)?;
        if after < self.after {
            return Ok(Found::Older(self.kinds(prefix)));
        }
        let start = self.entries.partition_point(|entry| entry.seq <= after);
        let newer = self.entries.range(start..).filter(|entry| entry.kind.starts_with(prefix));
        Ok(Found::Here(newer.take(limit).cloned().collect()))
    }

    /// Notes that changes of `kind` up to `upto` are being forgotten.
    pub(crate) fn forget(&mut self, kind: &str, upto: Seq) {
        let forgotten = self.kinds.entry(kind.to_owned()).or_default();
        *forgotten = upto.max(*forgotten);
    }
}

fn size(entry: &Entry) -> usize {
    entry.value.len() + entry.key.len() + entry.kind.len() + size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: Seq, bytes: usize) -> Entry {
        let value = vec![0; bytes].into();
        Entry { seq, created: seq, kind: "run".into(), key: seq.to_string(), value, deleted: false }
    }

    #[test]
    fn memory_is_bounded_and_what_left_is_known_to_be_older() {
        let mut tail = Tail::default();
        for seq in 1..=10 {
            tail.push(entry(seq, 1 << 20));
        }
        assert!(tail.bytes <= BYTES);
        assert!(matches!(tail.changes("run", 2, 10).unwrap(), Found::Older(kinds) if kinds == ["run"]));
        let Found::Here(newest) = tail.changes("run", 8, 10).unwrap() else { panic!("8 is in the tail") };
        assert_eq!(newest.iter().map(|e| e.seq).collect::<Vec<_>>(), [9, 10]);
        assert!(matches!(tail.changes("run", 99, 10).unwrap(), Found::Here(none) if none.is_empty()));
    }
}
