//! Copies of other registries: what is asked for is fetched, checked against its digest, kept, and handed out from here from then on.
//!
//! A tag is looked up again when it was last looked up some time ago; when the other registry is away or has had enough of us, what is here is
//! handed out as it is. What is named by digest and is here never asks anybody.

mod coming;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use records::{Digest, Timestamp};
use tokio::sync::{Mutex as AsyncMutex, watch};

pub use self::coming::Coming;

use self::coming::Progress;
use super::{
    ManifestRef, Registry, Upstream, blobs,
    manifests::{Push, Reach},
};
use crate::{Error, Kind, Reference, Result, client::Client};

/// How long a registry that is away is not asked again, and one that has had enough of us.
const AWAY_S: u64 = 10;
const ENOUGH_S: u64 = 60;
/// The longest that another registry may tell us to leave it alone.
const LONGEST_S: u64 = 6 * 3600;
/// Tags whose last look-up is remembered.
const LOOKED_UP: usize = 50_000;

/// Fetches from other registries. Cheap to clone.
#[derive(Clone)]
pub struct Upstreams {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    client: Client,
    /// When a tag was last looked up, by repository and tag.
    looked_up: Mutex<HashMap<(String, String), Timestamp>>,
    /// Registries that are not asked until then, and why.
    paused: Mutex<HashMap<String, (Timestamp, Error)>>,
    /// One fetch of a thing at a time: whoever asks meanwhile waits for it.
    fetching: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
    /// Blobs on their way, by repository and digest.
    coming: Mutex<HashMap<String, watch::Receiver<Progress>>>,
}

/// How what is here compares with the other registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Fresh,
    /// The other registry could not be asked.
    Stale,
}

impl Upstreams {
    pub fn new(registry: Registry, client: Client) -> Self {
        let (looked_up, paused, fetching, coming) = Default::default();
        Self { inner: Arc::new(Inner { registry, client, looked_up, paused, fetching, coming }) }
    }

    /// Sees to it that the manifest is here, if it can be had.
    pub async fn manifest(
        &self,
        part: &str,
        upstream: &Upstream,
        repository: &str,
        reference: &ManifestRef,
    ) -> Result<Freshness> {
        let inner = &*self.inner;
        let _one = inner.one(format!("{repository} {reference}")).await;
        match reference {
            ManifestRef::Digest(digest) => {
                if inner.registry.manifest_info(repository, digest).await?.is_none() {
                    let remote = remote(part, upstream, repository, &format!("@{digest}"))?;
                    inner.fetch(&remote, repository, None).await?;
                }
                Ok(Freshness::Fresh)
            }
            ManifestRef::Tag(tag) => {
                let here = inner.registry.resolve(repository, tag).await.ok();
                let key = (repository.to_owned(), tag.clone());
                let last = inner.looked_up.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
                let now = inner.registry.now();
                let age = last.map(|last| now.duration_since(last).as_secs());
                if here.is_some()
                    && age.is_some_and(|age| (0..i64::try_from(upstream.fresh_s).unwrap_or(i64::MAX)).contains(&age))
                {
                    return Ok(Freshness::Fresh);
                }
                let remote = remote(part, upstream, repository, &format!(":{tag}"))?;
                match inner.refresh(&remote, repository, tag, here.as_ref()).await {
                    Ok(()) => {
                        let mut looked_up = inner.looked_up.lock().unwrap_or_else(PoisonError::into_inner);
                        if looked_up.len() >= LOOKED_UP {
                            looked_up.clear();
                        }
                        looked_up.insert(key, now);
                        Ok(Freshness::Fresh)
                    }
                    // It was here; better an old one than none. That it is gone there is an answer, too, but no reason to fail here.
                    Err(error) if here.is_some() => {
                        tracing::warn!(repository, tag, %error, "handing out what is here");
                        Ok(Freshness::Stale)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Sees to it that the blob is here as a whole. Only what a manifest of the repository names is fetched.
    pub async fn blob(&self, part: &str, upstream: &Upstream, repository: &str, digest: &Digest) -> Result<()> {
        match self.begin(part, upstream, repository, digest).await? {
            Some(progress) => Coming::whole(progress).await,
            None => Ok(()),
        }
    }

    /// Sees to it that the blob is here or on its way; `None` when it is here. However many ask, it is fetched once, and whoever asks may
    /// go away without an end to that.
    pub async fn coming(
        &self,
        part: &str,
        upstream: &Upstream,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Coming>> {
        match self.begin(part, upstream, repository, digest).await? {
            Some(progress) => Coming::follow(progress).await,
            None => Ok(None),
        }
    }

    async fn begin(
        &self,
        part: &str,
        upstream: &Upstream,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<watch::Receiver<Progress>>> {
        let inner = &*self.inner;
        let key = format!("{repository} {digest}");
        let _one = inner.one(key.clone()).await;
        if let Some(progress) = inner.coming().get(&key) {
            return Ok(Some(progress.clone()));
        }
        if inner.registry.blob_size(repository, digest).await?.is_some() {
            return Ok(None);
        }
        if !inner.registry.is_named(repository, digest).await? {
            return Err(blobs::unknown(repository, digest));
        }
        let remote = remote(part, upstream, repository, &format!("@{digest}"))?;
        let (sender, progress) = watch::channel(Progress::default());
        inner.coming().insert(key.clone(), progress.clone());
        let (upstreams, repository, digest) = (self.clone(), repository.to_owned(), digest.clone());
        tokio::spawn(async move {
            let inner = &*upstreams.inner;
            let fetch = coming::fetch(&inner.registry, &inner.client, &remote, &repository, &digest, &sender);
            let outcome = inner.ask(&remote, fetch).await;
            if let Err(error) = &outcome {
                tracing::warn!(%remote, %digest, %error, "not fetched");
            }
            inner.coming().remove(&key);
            coming::end(&sender, outcome);
        });
        Ok(Some(progress))
    }
}

impl Inner {
    fn coming(&self) -> std::sync::MutexGuard<'_, HashMap<String, watch::Receiver<Progress>>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn one(&self, what: String) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            // Whom nobody waits for is not needed any more.
            fetching.retain(|_, lock| Arc::strong_count(lock) > 1);
            fetching.entry(what).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// Asks another registry, unless it was away or had enough of us a moment ago.
    async fn ask<T>(&self, remote: &Reference, work: impl Future<Output = Result<T>>) -> Result<T> {
        let host = remote.host.clone().unwrap_or_default();
        let now = self.registry.now();
        {
            let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
            paused.retain(|_, (until, _)| *until > now);
            if let Some((until, error)) = paused.get(&host) {
                let left = u64::try_from(until.duration_since(now).as_secs()).unwrap_or(0);
                return Err(Error { retry_after_s: Some(left.max(1)), ..error.clone() });
            }
        }
        let done = work.await;
        if let Err(error) = &done {
            let seconds = match (error.kind, error.retry_after_s) {
                (Kind::TooMany | Kind::Remote, Some(said)) => said.clamp(1, LONGEST_S),
                (Kind::TooMany, None) => ENOUGH_S,
                (Kind::Remote, None) => AWAY_S,
                _ => return done,
            };
            if let Ok(until) = self.registry.now().checked_add(Duration::from_secs(seconds)) {
                self.paused.lock().unwrap_or_else(PoisonError::into_inner).insert(host, (until, error.clone()));
            }
        }
        done
    }

    async fn refresh(&self, remote: &Reference, repository: &str, tag: &str, here: Option<&Digest>) -> Result<()> {
        // Asking for the digest alone does not count against the limits that some registries have.
        if let Some(here) = here
            && self.ask(remote, self.client.digest(remote)).await?.as_ref() == Some(here)
        {
            return Ok(());
        }
        self.fetch(remote, repository, Some(tag)).await
    }

    async fn fetch(&self, remote: &Reference, repository: &str, tag: Option<&str>) -> Result<()> {
        let found = self.ask(remote, self.client.manifest(remote)).await?;
        let tags: Vec<&str> = tag.into_iter().collect();
        let push =
            Push { expected: Some(&found.digest), ..Push::new(repository, &tags, &found.media_type, Reach::Elsewhere) };
        self.registry.push(&push, found.content).await.map(drop)
    }
}

impl Registry {
    /// Whether a manifest of the repository names it.
    async fn is_named(&self, repository: &str, digest: &Digest) -> Result<bool> {
        for entry in self.all(super::entries::MANIFEST, &format!("{repository}@")).await? {
            let manifest = entry.key.rsplit_once('@').and_then(|(_, digest)| digest.parse::<Digest>().ok());
            if let Some(manifest) = manifest
                && self.known_names(&manifest).await?.contains(digest)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a repository of ours is called there.
fn remote(part: &str, upstream: &Upstream, repository: &str, name: &str) -> Result<Reference> {
    let rest = repository.strip_prefix(part).unwrap_or_default().trim_start_matches('/');
    let text = if rest.is_empty() { upstream.from.clone() } else { format!("{}/{rest}", upstream.from) };
    let unknown = || {
        let message = format!("repository {repository} stands for nothing in {}", upstream.from);
        Error::new(Kind::NameUnknown, message)
    };
    let found: Reference = format!("{text}{name}").parse().map_err(|e: Error| unknown().caused(e))?;
    if found.host.is_none() { Err(unknown()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_other_registry() {
        let upstream = |from: &str| Upstream { from: from.into(), fresh_s: 0 };
        let of = |part: &str, from: &str, repository: &str| {
            remote(part, &upstream(from), repository, ":v1").map(|found| found.to_string()).map_err(|error| error.kind)
        };
        assert_eq!(of("hub", "docker.io", "hub/library/node").unwrap(), "docker.io/library/node:v1");
        assert_eq!(of("hub/library", "docker.io/library", "hub/library/node").unwrap(), "docker.io/library/node:v1");
        assert_eq!(of("node", "docker.io/library/node", "node").unwrap(), "docker.io/library/node:v1");
        assert_eq!(of("hub", "docker.io", "hub"), Err(Kind::NameUnknown));
    }
}
