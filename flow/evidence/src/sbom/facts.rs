//! What one layer says about packages: small, kept per layer digest, so that a base layer is read once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::licence::Licence;

/// The facts of one layer, without the layers below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// Paths that hide themselves and all below them in lower layers: whiteouts, and files where a directory may have been.
    pub hides: Vec<String>,
    /// Directories that hide all below them in lower layers: opaque whiteouts.
    pub opaque: Vec<String>,
    /// What was read, by path without a leading `/`.
    pub files: BTreeMap<String, Fact>,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "of", rename_all = "kebab-case")]
pub enum Fact {
    OsRelease(OsRelease),
    /// `/var/lib/dpkg/status`, or one file of `/var/lib/dpkg/status.d/`.
    Debian(Vec<DebianPackage>),
    Copyright(Vec<Licence>),
    Npm(NpmManifest),
    NpmLock(NpmLock),
    /// A bill of materials that a buildpack left.
    Listed(Vec<ListedPackage>),
    /// A symbolic link, by the path that it leads to.
    Link(String),
}

/// `os-release(5)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsRelease {
    pub id: String,
    pub version_id: String,
    pub name: String,
}

/// An installed Debian package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebianPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub source: String,
    pub source_version: String,
    pub homepage: Option<String>,
    pub maintainer: Option<String>,
    /// Depends and Pre-Depends: of each inner list one is enough. Names only.
    pub depends: Vec<Vec<String>>,
    pub provides: Vec<String>,
}

/// A `package.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NpmManifest {
    pub name: String,
    pub version: String,
    pub licences: Vec<Licence>,
    pub description: Option<String>,
    pub homepage: Option<String>,
    /// Names of what it needs to run.
    pub depends: Vec<String>,
}

/// A `package-lock.json`: the packages by their folder relative to it, without those that are only for development.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NpmLock {
    pub packages: BTreeMap<String, LockedPackage>,
}

/// An entry of a `package-lock.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackage {
    pub name: String,
    pub version: String,
    /// SHA-512 or SHA-256 in hex, with the name that CycloneDX gives the algorithm.
    pub hash: Option<(String, String)>,
    pub resolved: Option<String>,
    pub licence: Option<Licence>,
    pub depends: Vec<String>,
}

/// A package of a bill of materials in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPackage {
    /// The package URL; `pkg:generic/…` where the list has none.
    pub purl: String,
    pub name: String,
    pub version: String,
    pub licences: Vec<Licence>,
}
