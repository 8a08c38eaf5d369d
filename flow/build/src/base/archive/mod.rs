//! A Debian archive: signed indices and packages, fetched from mirrors and kept by digest.
//!
//! Nothing that a mirror sends is used before it is verified: `InRelease` by its signature, indices by the sums in it, packages by
//! the sums in the indices.

mod cache;
mod index;
mod keyring;
mod mirror;
mod options;
mod release;

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, Weak},
    time::Duration,
};

use records::{Digest, Timestamp};

pub use cache::Cache;
pub use index::{Index, Package, Priority};
pub use keyring::{Keyring, SignedText};
pub use options::{
    ArchiveOptions, DEFAULT_FRESH, DEFAULT_MIRROR, DEFAULT_SECURITY_MIRROR, DEFAULT_SNAPSHOTS, Lock, LockedRelease,
    Refresh, Source,
};
pub use release::{Release, Vouched};

use crate::{Error, Result};

/// How long a mirror is waited for while a cached index would do, and after which time it is asked again when it did not answer.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(600);

/// How long after a release a snapshot is sure to have its packages.
const SNAPSHOT_AFTER: Duration = Duration::from_secs(6 * 3600);

/// A Debian archive. Cheap to share; its index is in memory only while somebody holds a [`Snapshot`].
pub struct Archive {
    options: ArchiveOptions,
    mirrors: mirror::Mirrors,
    cache: Cache,
    snapshots: tokio::sync::Mutex<HashMap<String, Weak<Snapshot>>>,
    /// Releases that were verified, by URL, with the time of the check: asking again within the limit costs nothing.
    verified: std::sync::Mutex<HashMap<String, (Release, i64)>>,
}

/// The archive at one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub lock: Lock,
    /// The latest date of its releases.
    pub date: Timestamp,
    pub index: Index,
    sources: Vec<Source>,
}

impl Archive {
    pub fn open(options: ArchiveOptions) -> Result<Self> {
        let cache = Cache::open(&options.cache)?;
        Ok(Self {
            options,
            mirrors: mirror::Mirrors::default(),
            cache,
            snapshots: tokio::sync::Mutex::default(),
            verified: std::sync::Mutex::default(),
        })
    }

    /// The same archive for another architecture, or as it was at a time.
    pub fn variant(&self, architecture: Option<&str>, at: Option<Timestamp>) -> Result<Self> {
        let mut options = self.options.clone();
        if let Some(architecture) = architecture {
            architecture.clone_into(&mut options.architecture);
        }
        if let Some(at) = at {
            options = options.at(at);
        }
        Self::open(options)
    }

    pub fn options(&self) -> &ArchiveOptions {
        &self.options
    }

    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The sources of a suite: itself, its updates, and its security updates.
    fn sources(&self, suite: &str) -> Vec<Source> {
        let source = |mirror: &str, suite: String| Source {
            mirror: mirror.trim_end_matches('/').to_owned(),
            suite,
            components: self.options.components.clone(),
        };
        let mut sources = vec![source(&self.options.mirror, suite.to_owned())];
        if let Some(security) = &self.options.security_mirror {
            sources.push(source(&self.options.mirror, format!("{suite}-updates")));
            sources.push(source(security, format!("{suite}-security")));
        }
        sources
    }

    /// Which snapshot of a suite would be used now, without reading its index. Asks the mirror if that is due.
    pub async fn lock(&self, suite: &str, now: Timestamp) -> Result<Lock> {
        Ok(Lock { releases: self.releases(suite, now).await?.into_iter().map(|(locked, _)| locked).collect() })
    }

    /// The archive as it is now, or as it is pinned.
    pub async fn snapshot(&self, suite: &str, now: Timestamp) -> Result<Arc<Snapshot>> {
        let releases = self.releases(suite, now).await?;
        let lock = Lock { releases: releases.iter().map(|(locked, _)| locked.clone()).collect() };
        let key = serde_json::to_string(&lock).map_err(|e| Error::malformed("the lock", e.to_string()))?;
        let mut snapshots = self.snapshots.lock().await;
        if let Some(snapshot) = snapshots.get(&key).and_then(Weak::upgrade) {
            return Ok(snapshot);
        }
        let snapshot = Arc::new(self.read(lock, releases.into_iter().map(|(_, release)| release).collect()).await?);
        snapshots.retain(|_, snapshot| snapshot.strong_count() > 0);
        snapshots.insert(key, Arc::downgrade(&snapshot));
        Ok(snapshot)
    }

    async fn releases(&self, suite: &str, now: Timestamp) -> Result<Vec<(LockedRelease, Release)>> {
        if let Some(releases) = self.remembered(suite, now) {
            return Ok(releases);
        }
        let _guard = self.guard().await?;
        let mut releases = Vec::new();
        if let Refresh::Pinned(lock) = &self.options.refresh {
            for locked in &lock.releases {
                let document = self.cached(locked.digest.hex()).await?;
                let document = match document {
                    Some(document) => document,
                    // The mirror may still have it.
                    None => self.fetch_release(&locked.source).await?,
                };
                let url = locked.source.in_release();
                let found = sha256(&document);
                if found != locked.digest {
                    return Err(Error::Altered {
                        what: url,
                        expected: locked.digest.to_string(),
                        found: found.to_string(),
                    });
                }
                let release = Release::verify(&document, &self.options.keyring, &url, &locked.source.suite, None)?;
                releases.push((locked.clone(), release));
            }
            return Ok(releases);
        }
        for source in self.sources(suite) {
            let (release, checked) = self.current(&source, now).await?;
            if let Ok(mut verified) = self.verified.lock() {
                verified.insert(source.in_release(), (release.clone(), checked));
            }
            releases.push((LockedRelease { source, digest: release.digest.clone(), date: release.date }, release));
        }
        Ok(releases)
    }

    /// What was verified in this process and is still fresh, if that is everything.
    fn remembered(&self, suite: &str, now: Timestamp) -> Option<Vec<(LockedRelease, Release)>> {
        let Refresh::After(limit) = &self.options.refresh else { return None };
        let verified = self.verified.lock().ok()?;
        let remembered = self.sources(suite).into_iter().map(|source| {
            let (release, checked) = verified.get(&source.in_release())?;
            let age = u64::try_from(now.as_second() - checked).ok()?;
            let valid = age < limit.as_secs() && release.valid_until.is_none_or(|until| until >= now);
            valid.then(|| {
                (LockedRelease { source, digest: release.digest.clone(), date: release.date }, release.clone())
            })
        });
        remembered.collect()
    }

    /// The newest release that is at hand: cached while it is fresh, else fetched; an older one never replaces a newer one.
    /// With it comes the time from which it counts as fresh.
    async fn current(&self, source: &Source, now: Timestamp) -> Result<(Release, i64)> {
        let url = source.in_release();
        let verify = |document: &[u8]| Release::verify(document, &self.options.keyring, &url, &source.suite, Some(now));
        let cached = match self.cache.current(&url) {
            Some(sum) => self.cached(&sum).await?.map(|document| verify(&document)),
            None => None,
        };
        let age = self.cache.noted_at(&url).map(|at| now.as_second().saturating_sub(at));
        let fresh = match (&self.options.refresh, age) {
            (Refresh::Offline, _) => true,
            (Refresh::After(limit), Some(age)) => age >= 0 && (age as u64) < limit.as_secs(),
            _ => false,
        };
        match cached {
            Some(Ok(release)) if fresh => return Ok((release, now.as_second() - age.unwrap_or_default())),
            Some(Err(error)) if self.options.refresh == Refresh::Offline => return Err(error),
            None if self.options.refresh == Refresh::Offline => {
                let reason = "it is not cached, and no network may be used".to_owned();
                return Err(Error::Fetch { url, reason, source: None });
            }
            _ => {}
        }
        let cached = cached.and_then(Result::ok);
        // Who has an index that will do does not wait long for a newer one.
        let must = self.options.refresh == Refresh::Now;
        let patience = if cached.is_some() && !must { PATIENCE } else { Duration::from_secs(600) };
        let fetched = tokio::time::timeout(patience, self.fetch_release(source)).await.unwrap_or_else(|_| {
            let reason = format!("no answer within {} seconds", patience.as_secs());
            Err(Error::Fetch { url: url.clone(), reason, source: None })
        });
        let document = match (fetched, cached.as_ref()) {
            (Ok(document), _) => document,
            (Err(error), Some(release)) if !must => {
                tracing::warn!(%error, date = %release.date, "the mirror cannot be reached; the cached index is used");
                return Ok((release.clone(), now.as_second() - self.fresh_for() + RETRY.as_secs() as i64));
            }
            (Err(error), _) => return Err(error),
        };
        let release = verify(&document)?;
        if let Some(cached) = cached.filter(|cached| cached.date > release.date) {
            tracing::warn!(%url, offered = %release.date, kept = %cached.date, "the mirror offers an older index; it is not used");
            return Ok((cached, now.as_second()));
        }
        self.keep(document, release.digest.hex()).await?;
        self.cache.note(&url, release.digest.hex())?;
        self.cache.note(&format!("{url} at"), &now.as_second().to_string())?;
        Ok((release, now.as_second()))
    }

    fn fresh_for(&self) -> i64 {
        match &self.options.refresh {
            Refresh::After(limit) => i64::try_from(limit.as_secs()).unwrap_or(i64::MAX / 2),
            _ => 0,
        }
    }

    async fn fetch_release(&self, source: &Source) -> Result<Vec<u8>> {
        self.mirrors.get(&source.in_release(), release::MAX_SIZE).await
    }

    async fn guard(&self) -> Result<cache::Guard> {
        let cache = self.cache.clone();
        blocking(move || cache.lock()).await
    }

    async fn cached(&self, sha256: &str) -> Result<Option<Vec<u8>>> {
        let cache = self.cache.clone();
        let sha256 = sha256.to_owned();
        blocking(move || {
            let Some(file) = cache.verified(&sha256, None)? else { return Ok(None) };
            let mut content = Vec::new();
            let read = file.take(release::MAX_SIZE).read_to_end(&mut content);
            read.map_err(Error::io("cannot read a cached index"))?;
            Ok(Some(content))
        })
        .await
    }

    async fn keep(&self, content: Vec<u8>, sha256: &str) -> Result<()> {
        let cache = self.cache.clone();
        let sha256 = sha256.to_owned();
        blocking(move || {
            use std::io::Write;
            let mut file = cache.temporary()?;
            file.write_all(&content).map_err(Error::io("cannot write into the cache"))?;
            cache.keep(file, &sha256).map(|_| ())
        })
        .await
    }

    async fn read(&self, lock: Lock, releases: Vec<Release>) -> Result<Snapshot> {
        let sources: Vec<Source> = lock.releases.iter().map(|locked| locked.source.clone()).collect();
        let mut wanted = Vec::new();
        for (origin, (source, release)) in sources.iter().zip(&releases).enumerate() {
            for component in &source.components {
                let all = release.separate_all.then_some("all");
                for architecture in std::iter::once(self.options.architecture.as_str()).chain(all) {
                    let Some(vouched) = release.packages(component, architecture) else {
                        let reason = format!("has no packages for {architecture} in {component}");
                        return Err(Error::malformed(source.in_release(), reason));
                    };
                    self.fetch_index(source, release, &vouched).await?;
                    wanted.push((origin, vouched));
                }
            }
        }
        let date = releases.iter().map(|release| release.date).max().unwrap_or(Timestamp::UNIX_EPOCH);
        let cache = self.cache.clone();
        let index = blocking(move || {
            let mut index = Index::default();
            for (origin, vouched) in wanted {
                let Some(file) = cache.verified(&vouched.sha256, Some(vouched.size))? else {
                    return Err(Error::malformed(&vouched.path, "vanished from the cache"));
                };
                let content = decompressor(file, &vouched.path)?;
                index.add(content, origin, &vouched.path)?;
            }
            Ok(index)
        })
        .await?;
        tracing::debug!(packages = index.len(), %date, "read the index of packages");
        Ok(Snapshot { lock, date, index, sources })
    }

    async fn fetch_index(&self, source: &Source, release: &Release, vouched: &Vouched) -> Result<()> {
        if self.is_cached(&vouched.sha256, vouched.size).await? {
            return Ok(());
        }
        let base = format!("{}/dists/{}", source.mirror, source.suite);
        let directory = vouched.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let plain = format!("{base}/{}", vouched.path);
        self.online(&plain)?;
        if release.by_hash {
            // The name of the content stays right while the mirror is being updated; some mirrors do not have it.
            let url = format!("{base}/{directory}/by-hash/SHA256/{}", vouched.sha256);
            match self.mirrors.fetch(&self.cache, &url, &vouched.sha256, vouched.size, &|_| {}).await {
                Err(error @ Error::Fetch { .. }) => tracing::debug!(%error, "trying the index by its plain name"),
                done => return done,
            }
        }
        self.mirrors.fetch(&self.cache, &plain, &vouched.sha256, vouched.size, &|_| {}).await
    }

    fn online(&self, url: &str) -> Result<()> {
        match self.options.refresh {
            Refresh::Offline => {
                let reason = "it is not cached, and no network may be used".to_owned();
                Err(Error::Fetch { url: url.to_owned(), reason, source: None })
            }
            _ => Ok(()),
        }
    }

    async fn is_cached(&self, sha256: &str, size: u64) -> Result<bool> {
        let cache = self.cache.clone();
        let sha256 = sha256.to_owned();
        blocking(move || Ok(cache.verified(&sha256, Some(size))?.is_some())).await
    }

    /// Makes sure that a package is in the cache, verified. `progress` is told the bytes that come from the network.
    pub async fn fetch(&self, snapshot: &Snapshot, package: &Package, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let Some(source) = snapshot.sources.get(package.origin) else {
            return Err(Error::malformed(&package.name, "comes from a source that is not there"));
        };
        self.fetch_file(
            std::slice::from_ref(&source.mirror),
            &package.filename,
            &package.sha256,
            package.size,
            progress,
        )
        .await
    }

    /// As [`Archive::fetch`] for a package that a lock names: the mirror of today is asked, then the one that it was locked from, then the
    /// archive of snapshots, for mirrors keep no versions that were replaced. Whoever sends it, its checksum must be the locked one.
    pub async fn fetch_locked(
        &self,
        release: &LockedRelease,
        package: &super::lock::LockedPackage,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let locked = &release.source;
        let today = match (&self.options.security_mirror, locked.suite.ends_with("-security")) {
            (Some(security), true) => security.clone(),
            _ => self.options.mirror.clone(),
        };
        // A package that came with a release stays for some hours at least.
        let then = release.date.checked_add(SNAPSHOT_AFTER).unwrap_or(release.date);
        let old = options::snapshot_of(&self.options.snapshots, &locked.mirror, then);
        let mut mirrors = vec![today.trim_end_matches('/').to_owned(), locked.mirror.clone(), old];
        mirrors.dedup();
        self.fetch_file(&mirrors, &package.filename, &package.sha256, package.size, progress).await
    }

    /// A file from the first of the mirrors that has it. What is cached is not asked for.
    async fn fetch_file(
        &self,
        mirrors: &[String],
        filename: &str,
        sha256: &str,
        size: u64,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        if self.is_cached(sha256, size).await? {
            return Ok(());
        }
        let mut first = None;
        for mirror in mirrors {
            let url = format!("{mirror}/{filename}");
            self.online(&url)?;
            match self.mirrors.fetch(&self.cache, &url, sha256, size, progress).await {
                Ok(()) => return Ok(()),
                Err(error @ (Error::Fetch { .. } | Error::Altered { .. })) => {
                    tracing::debug!(%error, "trying the next mirror");
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or_else(|| Error::malformed(filename, "comes from no mirror")))
    }
}

/// Memory that decompressing may take: what the highest preset of xz needs, and some more.
const XZ_MEMORY: u64 = 256 << 20;

/// Decompresses by the end of the name.
pub(crate) fn decompressor<'a>(file: impl Read + 'a, name: &str) -> Result<Box<dyn Read + 'a>> {
    let failed = |e: std::io::Error| Error::malformed(name, format!("cannot be decompressed: {e}"));
    Ok(match name.rsplit_once('.').map(|(_, end)| end) {
        Some("xz") => {
            // Concatenated streams are one content.
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                .map_err(|e| failed(e.into()))?;
            Box::new(liblzma::read::XzDecoder::new_stream(file, stream))
        }
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::with_capacity(128 << 10, file))),
        Some("zst") => {
            let mut decoder = zstd::Decoder::new(file).map_err(failed)?;
            decoder.window_log_max(27).map_err(failed)?;
            Box::new(decoder)
        }
        _ => Box::new(file),
    })
}

pub(crate) fn sha256(content: &[u8]) -> Digest {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(sum.as_ref());
    Digest::sha256(&bytes)
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::Io { what: "the work was not finished".into(), source: Arc::new(std::io::Error::other(error)) })
        }
    }
}
