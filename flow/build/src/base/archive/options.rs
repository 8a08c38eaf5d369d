//! How an archive is used, and what of it is remembered.

use std::{path::PathBuf, time::Duration};

use records::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::Keyring;
use crate::{Error, Result};

/// Where Debian is when nothing else is said.
pub const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
/// Where its security updates are.
pub const DEFAULT_SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";
/// Where the archive is as it was at earlier times.
pub const DEFAULT_SNAPSHOTS: &str = "http://snapshot.debian.org/archive";
/// How long an index is used before the mirror is asked for a newer one.
pub const DEFAULT_FRESH: Duration = Duration::from_secs(6 * 3600);

/// When the mirror is asked for newer indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refresh {
    /// When the cached ones are older. Without a network, older ones that are still valid are used.
    After(Duration),
    /// Now; a mirror that cannot be reached is an error.
    Now,
    /// Never: only what is cached, and still valid, is used.
    Offline,
    /// Never: exactly this snapshot, whatever its age.
    Pinned(Lock),
}

/// One suite of one mirror.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Without a slash at its end.
    pub mirror: String,
    /// For example `trixie`, `trixie-updates`.
    pub suite: String,
    pub components: Vec<String>,
}

impl Source {
    /// Where its signed list of indices is.
    pub fn in_release(&self) -> String {
        format!("{}/dists/{}/InRelease", self.mirror, self.suite)
    }
}

/// How an archive is used.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    pub mirror: String,
    /// `None` when another mirror than Debian's is used that has no security updates beside it.
    pub security_mirror: Option<String>,
    /// Where it is as it was at earlier times: below it lies `debian/20260131T000000Z` and its like.
    pub snapshots: String,
    pub components: Vec<String>,
    /// Debian's name, for example `amd64`.
    pub architecture: String,
    /// The directory of the cache.
    pub cache: PathBuf,
    pub keyring: Keyring,
    pub refresh: Refresh,
}

impl ArchiveOptions {
    /// Debian's own archive, for this machine.
    pub fn debian(cache: impl Into<PathBuf>) -> Result<Self> {
        let platform = crate::Platform::host();
        let architecture = platform.debian().ok_or_else(|| Error::Definition {
            name: platform.to_string(),
            reason: "Debian has no packages for this machine".into(),
        })?;
        Ok(Self {
            mirror: DEFAULT_MIRROR.into(),
            security_mirror: Some(DEFAULT_SECURITY_MIRROR.into()),
            snapshots: DEFAULT_SNAPSHOTS.into(),
            components: vec!["main".into()],
            architecture: architecture.into(),
            cache: cache.into(),
            keyring: Keyring::debian(),
            refresh: Refresh::After(DEFAULT_FRESH),
        })
    }

    /// The same as the archive was at a time. What is signed there does not change any more, so that it is asked for once.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.mirror = snapshot_of(&self.snapshots, &self.mirror, time);
        self.security_mirror = self.security_mirror.map(|mirror| snapshot_of(&self.snapshots, &mirror, time));
        if !matches!(self.refresh, Refresh::Offline) {
            self.refresh = Refresh::After(Duration::from_secs(u32::MAX.into()));
        }
        self
    }

    /// The same with another mirror. Security updates come from Debian only while the mirror is Debian's, unless one is named.
    pub fn with_mirror(mut self, mirror: &str, security_mirror: Option<&str>) -> Self {
        self.mirror = mirror.trim_end_matches('/').to_owned();
        self.security_mirror = match security_mirror {
            Some(security) => Some(security.trim_end_matches('/').to_owned()),
            None => self.security_mirror.filter(|_| self.mirror == DEFAULT_MIRROR),
        };
        self
    }
}

/// The address of a mirror's archive as it was at a time.
pub(super) fn snapshot_of(snapshots: &str, mirror: &str, time: Timestamp) -> String {
    let name = mirror.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    // A mirror at the root of its host is one of Debian.
    let name = if name.is_empty() || name.contains([':', '.']) { "debian" } else { name };
    format!("{}/{name}/{}", snapshots.trim_end_matches('/'), time.strftime("%Y%m%dT%H%M%SZ"))
}

/// A snapshot that can be asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub releases: Vec<LockedRelease>,
}

/// The state of one suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedRelease {
    #[serde(flatten)]
    pub source: Source,
    /// Of `InRelease`.
    pub digest: Digest,
    pub date: Timestamp,
}
