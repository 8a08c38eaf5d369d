//! `InRelease`: the signed list of an archive's indices.

use std::collections::BTreeMap;

use records::{Digest, Timestamp};

use super::keyring::Keyring;
use crate::{Error, Result};

/// Bytes that the document may have.
pub const MAX_SIZE: u64 = 8 << 20;

/// A verified release of one suite.
#[derive(Debug, Clone)]
pub struct Release {
    pub suite: String,
    pub codename: String,
    pub date: Timestamp,
    pub valid_until: Option<Timestamp>,
    pub architectures: Vec<String>,
    pub components: Vec<String>,
    pub by_hash: bool,
    /// Whether packages for all architectures have an index of their own; else each architecture's lists them.
    pub separate_all: bool,
    /// The fingerprint of the primary key that signed.
    pub signer: String,
    /// Of the document as fetched.
    pub digest: Digest,
    /// SHA-256 and size by path below the suite.
    files: BTreeMap<String, (String, u64)>,
}

/// A file that a release vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    pub path: String,
    pub sha256: String,
    pub size: u64,
}

impl Release {
    /// Verifies and reads a document. With `now`, it must not be past its `Valid-Until`, nor from the future.
    pub fn verify(document: &[u8], keyring: &Keyring, url: &str, suite: &str, now: Option<Timestamp>) -> Result<Self> {
        let signed = keyring.verify(document, url, now)?;
        let release = Self::read(&signed.text, url, signed.signer, super::sha256(document))?;
        let untrusted = |reason: String| Error::Untrusted { url: url.to_owned(), reason };
        // Else a mirror could pass off one signed suite as another.
        if release.suite != suite && release.codename != suite {
            let reason = format!("it is signed for {} ({}), not for {suite}", release.codename, release.suite);
            return Err(untrusted(reason));
        }
        if let Some(now) = now {
            if let Some(until) = release.valid_until.filter(|until| *until < now) {
                let reason =
                    format!("it was valid until {until}: the mirror is out of date, or this machine's clock is wrong");
                return Err(untrusted(reason));
            }
            if release.date.as_second() > now.as_second() + 24 * 3600 {
                return Err(untrusted(format!(
                    "it is dated {}, in the future: check this machine's clock",
                    release.date
                )));
            }
        }
        Ok(release)
    }

    fn read(text: &str, url: &str, signer: String, digest: Digest) -> Result<Self> {
        let malformed = |reason: &str| Error::malformed(url, reason);
        let paragraphs = deb822_fast::borrowed::BorrowedParser::new(text).parse_all();
        let paragraphs = paragraphs.map_err(|e| malformed(&e.to_string()))?;
        let [fields] = paragraphs.as_slice() else { return Err(malformed("is not one paragraph")) };
        let field = |name: &str| fields.get_single(name).map(|value| value.trim().to_owned());
        let words = |name: &str| -> Vec<String> {
            field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let mut files = BTreeMap::new();
        for line in fields.get("SHA256").ok_or_else(|| malformed("names no SHA256 sums"))? {
            let mut parts = line.split_whitespace();
            let (Some(sum), Some(size), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let size = size.parse().map_err(|_| malformed("has a size that is no number"))?;
            if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(malformed("has a SHA256 sum that is none"));
            }
            files.insert(path.to_owned(), (sum.to_ascii_lowercase(), size));
        }
        let date = field("Date").as_deref().and_then(date).ok_or_else(|| malformed("has no Date"))?;
        let valid_until = match field("Valid-Until") {
            Some(text) => Some(self::date(&text).ok_or_else(|| malformed("has a Valid-Until that is no date"))?),
            None => None,
        };
        Ok(Self {
            suite: field("Suite").unwrap_or_default(),
            codename: field("Codename").unwrap_or_default(),
            date,
            valid_until,
            separate_all: words("Architectures").iter().any(|architecture| architecture == "all")
                && !words("No-Support-for-Architecture-all").iter().any(|kind| kind == "Packages"),
            architectures: words("Architectures"),
            components: words("Components"),
            by_hash: field("Acquire-By-Hash").is_some_and(|value| value == "yes"),
            signer,
            digest,
            files,
        })
    }

    /// The smallest form of the index of packages of a component: xz, gzip, zstd or plain.
    pub fn packages(&self, component: &str, architecture: &str) -> Option<Vouched> {
        [".xz", ".gz", ".zst", ""].iter().find_map(|end| {
            let path = format!("{component}/binary-{architecture}/Packages{end}");
            let (sha256, size) = self.files.get(&path)?;
            Some(Vouched { path, sha256: sha256.clone(), size: *size })
        })
    }
}

/// RFC 2822, with the name of the zone that the archive writes.
fn date(text: &str) -> Option<Timestamp> {
    let text = text.trim().replace("UTC", "+0000").replace("GMT", "+0000");
    jiff::fmt::rfc2822::parse(&text).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_archives_dates() {
        assert_eq!(super::date("Sat, 12 Sep 2026 07:55:41 UTC").unwrap().as_second(), 1_789_199_741);
        assert_eq!(super::date("soon"), None);
    }
}
