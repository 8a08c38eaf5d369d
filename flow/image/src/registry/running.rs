//! What runs is not deleted, whoever asks.

use std::collections::BTreeMap;

use async_trait::async_trait;
use records::Digest;

use super::Registry;
use crate::{Error, Kind, Result};

/// Knows which manifests run, or may be brought back, and where. An error keeps everything.
#[async_trait]
pub trait Running: Send + Sync + 'static {
    /// Where each runs, as the end of a sentence: `environment journal/prod`.
    async fn running(&self) -> std::result::Result<BTreeMap<Digest, String>, String>;
}

impl Registry {
    /// `Denied` when a manifest runs, or names what runs.
    pub(super) async fn check_manifest_rests(
        &self,
        running: &dyn Running,
        repository: &str,
        digest: &Digest,
    ) -> Result<()> {
        let running = all(running, repository, digest).await?;
        if running.is_empty() || self.manifest_info(repository, digest).await?.is_none() {
            return Ok(());
        }
        let named = self.known_names(digest).await?;
        let found = std::iter::once(digest).chain(named.iter()).find_map(|digest| running.get(digest));
        found.map_or(Ok(()), |place| Err(runs(repository, digest, place)))
    }

    /// `Denied` when a manifest that runs names a blob.
    pub(super) async fn check_blob_rests(
        &self,
        running: &dyn Running,
        repository: &str,
        digest: &Digest,
    ) -> Result<()> {
        for (manifest, place) in all(running, repository, digest).await? {
            if manifest == *digest {
                return Err(runs(repository, digest, &place));
            }
            // What runs may come from elsewhere.
            if self.manifest_info(repository, &manifest).await?.is_some()
                && self.known_names(&manifest).await?.contains(digest)
            {
                return Err(runs(repository, digest, &place));
            }
        }
        Ok(())
    }
}

async fn all(running: &dyn Running, repository: &str, digest: &Digest) -> Result<BTreeMap<Digest, String>> {
    running.running().await.map_err(|why| {
        let message =
            format!("{repository}@{digest} stays: it cannot be told whether it runs ({why}); try again later");
        Error::new(Kind::Denied, message)
    })
}

fn runs(repository: &str, digest: &Digest, place: &str) -> Error {
    let message =
        format!("{repository}@{digest} is used by {place} and is not deleted: roll out another release there first");
    Error::new(Kind::Denied, message)
}
