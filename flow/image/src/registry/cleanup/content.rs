//! Content that no record names: found and deleted while others write.

use std::{collections::HashSet, sync::Arc};

use futures::StreamExt;
use records::{Digest, Timestamp};
use store::{Entry, Leases, Seq, leases};

use super::{Cleanup, Plan, Report, before, plan::View};
use crate::{Error, Kind, Result, registry::Registry};

/// How many blobs are deleted between two looks at what was recorded meanwhile.
const BATCH: usize = 256;
/// How many are deleted at the same time: a store behind a network answers each after a while.
const TOGETHER: usize = 16;
const PAGE: usize = 1000;

/// Content that is named. Of each digest the first 128 bits: two that share them are both kept.
#[derive(Default)]
pub(super) struct Named(HashSet<u128>);

impl Named {
    fn insert(&mut self, digest: &Digest) {
        self.0.insert(key(digest.hex()));
    }

    fn has(&self, digest: &Digest) -> bool {
        self.0.contains(&key(digest.hex()))
    }

    /// What is left of a repository.
    pub(super) fn keep(&mut self, view: &View, plan: &Plan) {
        let names = plan.manifests.iter().chain(&plan.links).map(|gone| gone.name.as_str());
        let gone: HashSet<&str> = names.collect();
        let all = view.manifests.keys().chain(view.links.keys());
        all.filter(|digest| !gone.contains(digest.as_str())).for_each(|digest| self.insert(digest));
    }

    /// Everything in an entry that looks like a digest.
    pub(super) fn extend_from(&mut self, entry: &Entry) {
        for text in [entry.key.as_bytes(), &entry.value[..]] {
            digests(text, |hex| {
                self.0.insert(key(hex));
            });
        }
    }
}

fn key(hex: &str) -> u128 {
    u128::from_str_radix(hex.get(..32).unwrap_or_default(), 16).unwrap_or_default()
}

/// Calls `found` with the hex digits of every digest in a text.
fn digests(text: &[u8], mut found: impl FnMut(&str)) {
    let mut rest = text;
    while let Some(at) = rest.windows(3).position(|window| window == b"sha") {
        rest = &rest[at + 3..];
        let length = match rest.get(..4) {
            Some(b"256:") => 64,
            Some(b"512:") => 128,
            _ => continue,
        };
        let hex = rest.get(4..4 + length).and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(hex) = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            found(hex);
        }
    }
}

/// What became of content that nothing names.
enum Gone {
    Went(u64),
    Absent,
    /// It may be in use.
    Waits,
}

/// A round of collection.
pub(super) struct Round<'a> {
    pub leases: &'a Arc<Leases>,
    pub round: leases::Round,
    /// The head of the log when it began.
    pub start: Seq,
}

impl Registry {
    /// Deletes what of the content is not named. It is listed a part at a time, however much there is.
    pub(super) async fn clean_content(
        &self,
        cleanup: &Cleanup<'_>,
        now: Timestamp,
        round: Round<'_>,
        mut named: Named,
        report: &mut Report,
    ) -> Result<()> {
        // Other stages keep content in the same store. What any record of theirs names stays, whatever it is.
        for kind in self.log().kinds("").await? {
            if !kind.starts_with("registry/") && !cleanup.speaking.contains(&kind.as_str()) {
                self.all_of(&kind, &mut named).await?;
            }
        }
        let mut at = round.start;
        at = self.catch_up(at, cleanup, &mut named).await?;
        let limit = before(now, cleanup.lease);
        let mut pages = self.blobs().pages();
        let mut unnamed = Vec::new();
        loop {
            let page = pages.next().await.transpose()?;
            let last = page.is_none();
            for digest in page.into_iter().flatten() {
                report.stored += 1;
                if !named.has(&digest) {
                    unnamed.push(digest);
                }
            }
            while unnamed.len() >= BATCH || (last && !unnamed.is_empty()) {
                let rest = unnamed.split_off(unnamed.len().min(BATCH));
                let batch = std::mem::replace(&mut unnamed, rest);
                if !cleanup.dry_run {
                    at = self.catch_up(at, cleanup, &mut named).await?;
                }
                let batch = batch.into_iter().filter(|digest| !named.has(digest)).collect();
                self.clean_batch(cleanup, &round, limit, batch, report).await;
            }
            if last {
                break;
            }
        }
        round.leases.forget(limit);
        Ok(())
    }

    async fn clean_batch(
        &self,
        cleanup: &Cleanup<'_>,
        round: &Round<'_>,
        limit: Timestamp,
        batch: Vec<Digest>,
        report: &mut Report,
    ) {
        let mut going = futures::stream::iter(batch)
            .map(|digest| async move {
                // From here until the end of the deletion whoever asks for it waits.
                let gone = match round.leases.take(round.round, &digest, limit) {
                    Some(_leaving) => self.delete_content(&digest, cleanup.dry_run).await,
                    None => Ok(Gone::Waits),
                };
                (digest, gone)
            })
            .buffer_unordered(TOGETHER);
        while let Some((digest, gone)) = going.next().await {
            match gone {
                Ok(Gone::Went(size)) => {
                    report.blobs += 1;
                    report.bytes += size;
                }
                Ok(Gone::Absent) => {}
                Ok(Gone::Waits) => report.waiting += 1,
                Err(error) => {
                    tracing::warn!(%digest, %error, "a blob cannot be deleted this time");
                    report.failed += 1;
                }
            }
        }
    }

    async fn delete_content(&self, digest: &Digest, dry_run: bool) -> Result<Gone> {
        let Some(size) = self.blobs().stat(digest).await? else { return Ok(Gone::Absent) };
        if !dry_run {
            self.blobs().delete(digest).await?;
        }
        Ok(Gone::Went(size))
    }

    async fn all_of(&self, kind: &str, named: &mut Named) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = self.log().list(kind, "", after.as_deref(), PAGE).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            page.entries.iter().for_each(|entry| named.extend_from(entry));
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Adds what was recorded after `at`, also where it came and went while the lists were read.
    async fn catch_up(&self, mut at: Seq, cleanup: &Cleanup<'_>, named: &mut Named) -> Result<Seq> {
        loop {
            let changes = self.log().changes("", at, PAGE).await.map_err(|error| match error.kind {
                store::Kind::Compacted => {
                    let message = "the log was compacted while it was read: the clean-up has to begin again";
                    Error::new(Kind::TooMany, message).caused(error)
                }
                _ => error.into(),
            })?;
            let Some(last) = changes.last() else { return Ok(at) };
            at = last.seq;
            let counts = |entry: &&Entry| !entry.deleted && !cleanup.speaking.contains(&entry.kind.as_str());
            changes.iter().filter(counts).for_each(|entry| named.extend_from(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_every_digest_in_a_text() {
        let (a, b) = ("a".repeat(64), "b".repeat(128));
        let text = format!("x/sha256:{a}sha512:{b}\",\"sha256:zz shasha256:{a}/sha256:{}", &a[1..]);
        let mut all = Vec::new();
        digests(text.as_bytes(), |hex| all.push(hex.to_owned()));
        assert_eq!(all, [a.clone(), b, a]);
    }

    proptest! {
        #[test]
        fn wherever_it_stands(before in ".{0,20}", after in "[^0-9a-f].{0,20}", sum in prop::array::uniform32(0u8..)) {
            let digest = Digest::sha256(&sum);
            let mut all = Vec::new();
            digests(format!("{before}{digest}{after}").as_bytes(), |hex| all.push(hex.to_owned()));
            prop_assert!(all.contains(&digest.hex().to_owned()));
        }
    }
}
