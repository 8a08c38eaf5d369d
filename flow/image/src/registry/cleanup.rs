//! Clean-up while pushes and pulls go on: what nothing names any more goes, and nothing else.
//!
//! First the records, a repository at a time: [`plan`](plan::plan) says which tags, manifests and links go, and they go in the same instant
//! in which nobody else changes the repository. Then the content, of which no record is left: whatever any record of the log names
//! stays, whoever wrote it, and so does what a push has in hand (see [`store::Leases`]). A crash in between leaves content without a
//! record, which the next clean-up finds.

mod content;
pub mod pattern;
pub mod plan;
mod records_of;

use std::{collections::BTreeSet, time::Duration};

use ::records::{Digest, Timestamp};
use serde::Serialize;

use super::Registry;
use crate::{Error, Kind, Result};

pub use plan::{Gone, Keep, Plan, Retention, View};

/// Names that a report holds at most; the counts are always whole.
const SHOWN: usize = 1000;

/// What a clean-up is to do.
pub struct Cleanup<'a> {
    /// Only say what would go.
    pub dry_run: bool,
    /// How long a repository holds a blob that no manifest of it names (the rest of the push may be on its way), and how old a manifest
    /// without a tag is at least before a rule may remove it.
    pub grace: Duration,
    /// How long content stays that no record names, after somebody wrote it or asked for it.
    pub lease: Duration,
    /// The rule of a repository, if it has one.
    pub retention: &'a (dyn Fn(&str) -> Option<Retention> + Sync),
    /// Kinds of records that only speak of content, or remember it as long as it is there: what they name need not stay for them.
    pub speaking: &'a [&'a str],
    /// Manifests that run somewhere: neither they nor what names them is touched.
    pub in_use: &'a BTreeSet<Digest>,
}

/// How long what nobody names may be on its way, if nobody says otherwise.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long content without a record stays, if nobody says otherwise: longer than anybody builds with it.
pub const LEASE: Duration = Duration::from_secs(6 * 3600);

/// What a clean-up did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub dry_run: bool,
    pub repositories: u64,
    pub tags: u64,
    pub manifests: u64,
    /// Blobs that a repository held for no manifest.
    pub links: u64,
    /// Blobs in the store.
    pub stored: u64,
    /// Blobs that went.
    pub blobs: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Blobs that nothing names but that are, or may be, in use.
    pub waiting: u64,
    /// Repositories and blobs that could not be cleaned up this time; the log of the server says why.
    pub failed: u64,
    /// What went from repositories, in their order; the first thousand.
    pub gone: Vec<Removed>,
}

/// Something that went from a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    pub repository: String,
    /// `tag`, `manifest` or `blob`.
    pub what: &'static str,
    pub name: String,
    /// Why, as the end of a sentence.
    pub why: String,
}

impl Report {
    fn add(&mut self, repository: &str, plan: &Plan) {
        self.tags += plan.tags.len() as u64;
        self.manifests += plan.manifests.len() as u64;
        self.links += plan.links.len() as u64;
        let named = [("tag", &plan.tags), ("manifest", &plan.manifests), ("blob", &plan.links)];
        let all = named.into_iter().flat_map(|(what, gone)| gone.iter().map(move |gone| (what, gone)));
        for (what, Gone { name, why }) in all.take(SHOWN.saturating_sub(self.gone.len())) {
            let (repository, name) = (repository.to_owned(), name.clone());
            self.gone.push(Removed { repository, what, name, why: why.clone() });
        }
    }
}

impl Registry {
    /// Cleans up. `Unsupported` when the blob store does not know its users ([`store::LeasedBlobs`] does).
    pub async fn clean_up(&self, cleanup: &Cleanup<'_>, now: Timestamp) -> Result<Report> {
        let unsupported = || Error::new(Kind::Unsupported, "this store of blobs cannot be cleaned up while it is used");
        let leases = self.blobs().leases().ok_or_else(unsupported)?.clone();
        // One at a time: a second one would only do the same.
        let Ok(_one) = self.inner.cleaning.try_lock() else {
            return Err(Error::new(Kind::TooMany, "a clean-up is under way already: wait for its end"));
        };
        let mut report = Report { dry_run: cleanup.dry_run, ..Report::default() };
        // The order matters: who uses content from here on, or writes some, is known to the round, and what was recorded before is found in
        // the log.
        let round = leases.begin();
        let start = *self.log().head().borrow();
        let mut named = content::Named::default();
        self.clean_repositories(cleanup, now, &mut named, &mut report).await?;
        self.clean_content(cleanup, now, content::Round { leases: &leases, round, start }, named, &mut report).await?;
        Ok(report)
    }
}

/// `now` less a duration; as early as can be when that is before all time.
fn before(now: Timestamp, duration: Duration) -> Timestamp {
    let duration = records_duration(duration);
    now.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

fn records_duration(duration: Duration) -> std::time::Duration {
    // Longer than all time is not meant.
    duration.min(Duration::from_secs(300 * 365 * 24 * 3600))
}
