//! The registry's records in the log: kinds, keys, values.
//!
//! `:` and `@` cannot occur in repository names, so a key prefix that ends in one of them is exactly one repository.

use bytes::Bytes;
use records::{Digest, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use store::{Change, Entry, Expect};

use crate::{Error, Kind, Result};

/// Key `<repository>`.
pub const REPOSITORY: &str = "registry/repository";
/// Key `<repository>@<digest>`.
pub const MANIFEST: &str = "registry/manifest";
/// Key `<repository>:<tag>`.
pub const TAG: &str = "registry/tag";
/// Key `<repository>@<digest>`: the repository holds the blob.
pub const BLOB: &str = "registry/blob";
/// Key `<digest>/<repository>`: the same, the other way round.
pub const HOLDER: &str = "registry/holder";
/// Key `<repository>@<subject>/<digest of the referrer>`.
pub const REFERRER: &str = "registry/referrer";

#[derive(Debug, Serialize, Deserialize)]
pub struct Repository {
    pub created: Timestamp,
}

/// What is known of a manifest without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestInfo {
    pub media_type: String,
    /// Bytes of the manifest itself.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    pub pushed: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tag {
    pub digest: Digest,
    pub updated: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Blob {
    pub size: u64,
    /// When it was pushed or asked for by somebody who pushes; not written down by older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Holder {}

pub fn by_digest(repository: &str, digest: &Digest) -> String {
    format!("{repository}@{digest}")
}

pub fn by_tag(repository: &str, tag: &str) -> String {
    format!("{repository}:{tag}")
}

pub fn holder(repository: &str, digest: &Digest) -> String {
    format!("{digest}/{repository}")
}

pub fn referrer(repository: &str, subject: &Digest, referrer: &Digest) -> String {
    format!("{repository}@{subject}/{referrer}")
}

pub fn put(kind: &str, key: String, value: &impl Serialize, expect: Expect) -> Result<Change> {
    let value = serde_json::to_vec(value)
        .map_err(|e| Error::new(Kind::Malformed, format!("cannot write {kind} {key}")).caused(e))?;
    Ok(Change { kind: kind.into(), key, expect, value: value.into(), delete: false })
}

pub fn remove(entry: &Entry) -> Change {
    Change {
        kind: entry.kind.clone(),
        key: entry.key.clone(),
        expect: Expect::Version(entry.seq),
        value: Bytes::clone(&entry.value),
        delete: true,
    }
}

pub fn read<T: DeserializeOwned>(entry: &Entry) -> Result<T> {
    serde_json::from_slice(&entry.value).map_err(|e| {
        Error::new(Kind::Store(store::Kind::Corrupt), format!("cannot read {} {}", entry.kind, entry.key)).caused(e)
    })
}
