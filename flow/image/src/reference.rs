//! Image references: `[host[:port]/]repository[:tag][@digest]`, with the grammar of the OCI distribution specification.
//!
//! Unlike Docker's, a reference without a host stays without one: what it means is the caller's to say.

use std::{fmt, str::FromStr};

use records::Digest;
use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Result};

/// Longest host, slash and repository together; what common clients take.
const NAME_LENGTH: usize = 255;
const TAG_LENGTH: usize = 128;

/// A parsed reference; every part is valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// For example `registry.example.org:5000` or `[::1]:5000`.
    pub host: Option<String>,
    /// For example `journal/frontend`.
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// The same image, named by digest alone.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { host: self.host.clone(), repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }

    /// What names the manifest within the repository: the digest if there is one, else the tag, else `latest`.
    pub fn manifest(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

/// `Ok` if `text` is a repository name: path components of `a-z`, `0-9`, separated within by `.`, `_`, `__` or dashes.
pub fn check_repository(text: &str) -> Result<()> {
    if text.len() <= NAME_LENGTH && text.split('/').all(is_component) {
        return Ok(());
    }
    Err(Error::new(
        Kind::NameInvalid,
        format!(
            "`{}` is not a repository name: use at most {NAME_LENGTH} of a-z, 0-9, and `.`, `_`, `-` between them, in parts separated by `/`",
            clip(text)
        ),
    ))
}

/// `Ok` if `text` is a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub fn check_tag(text: &str) -> Result<()> {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    let valid = bytes.len() <= TAG_LENGTH
        && bytes.first().is_some_and(|&b| first(b))
        && bytes.iter().all(|&b| first(b) || b == b'.' || b == b'-');
    if valid {
        return Ok(());
    }
    Err(Error::new(
        Kind::TagInvalid,
        format!(
            "`{}` is not a tag: use 1 to {TAG_LENGTH} of letters, digits, `_`, `.` and `-`, not starting with `.` or `-`",
            clip(text)
        ),
    ))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(|&b| alphanumeric(b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

/// A host name or address with an optional port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => match port.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port_valid =
        port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n > 0));
    let host_valid = if text.starts_with('[') {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    };
    port_valid && host_valid
}

/// Whether the first part of a path is a host, by the rule that every client follows.
fn looks_like_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':', '[']) || part.bytes().any(|b| b.is_ascii_uppercase())
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::new(
                Kind::NameInvalid,
                format!(
                    "`{}` is not an image reference: {why}; expected [host[:port]/]repository[:tag][@digest]",
                    clip(text)
                ),
            )
        };
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|e| Error::new(Kind::DigestInvalid, e.to_string()))?;
                (named, Some(digest))
            }
            None => (text, None),
        };
        let (host, path) = match named.split_once('/') {
            Some((first, rest)) if looks_like_host(first) => (Some(first), rest),
            _ => (None, named),
        };
        if host.is_some_and(|host| !is_host(host)) {
            return Err(invalid("its host is malformed"));
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if repository.is_empty() {
            return Err(invalid("it names no repository"));
        }
        check_repository(repository)?;
        if host.map_or(0, |host| host.len() + 1) + repository.len() > NAME_LENGTH {
            return Err(invalid("host and repository together are longer than 255 characters"));
        }
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        Ok(Self { host: host.map(Into::into), repository: repository.into(), tag: tag.map(Into::into), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

/// Bounds what an error repeats of input from outside.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (Option<String>, String, Option<String>, bool) {
        let reference: Reference = text.parse().unwrap();
        (reference.host, reference.repository, reference.tag, reference.digest.is_some())
    }

    #[test]
    fn reads_every_part() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parts("node"), (None, "node".into(), None, false));
        assert_eq!(parts("base/node:22"), (None, "base/node".into(), Some("22".into()), false));
        assert_eq!(parts("localhost/x"), (Some("localhost".into()), "x".into(), None, false));
        assert_eq!(parts("localhost:5000/x:1"), (Some("localhost:5000".into()), "x".into(), Some("1".into()), false));
        assert_eq!(
            parts(&format!("r.example.org/a/b__c/d--e:T@{digest}")),
            (Some("r.example.org".into()), "a/b__c/d--e".into(), Some("T".into()), true)
        );
        assert_eq!(parts("[::1]:5000/x"), (Some("[::1]:5000".into()), "x".into(), None, false));
        // Without a slash there is no host: this is a tag.
        assert_eq!(parts("localhost:5000"), (None, "localhost".into(), Some("5000".into()), false));
    }

    #[test]
    fn refuses_what_is_not_a_reference() {
        let long = "a".repeat(256);
        let tag = format!("a:{}", "t".repeat(129));
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "A",
            "a//b",
            "a/../b",
            "a.",
            "-a",
            "a___b",
            "a:.x",
            "a:",
            "a@",
            "a@sha256:00",
            "http://a/b",
            "host:99999/a",
            "host:/a",
            "[::1/a",
            "a b",
            "ä",
            &long,
            &tag,
            "a:b:c",
            "-x.y/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_the_manifest_by_digest_first() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let reference: Reference = "h.x/a:1".parse().unwrap();
        assert_eq!(reference.manifest(), "1");
        assert_eq!(reference.pinned(digest.clone()).to_string(), format!("h.x/a@{digest}"));
        assert_eq!("a".parse::<Reference>().unwrap().manifest(), "latest");
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,300}") {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn prints_what_it_read(
            host in proptest::option::of("[a-z]{1,5}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?"),
            repository in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}){0,3}",
            tag in proptest::option::of("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}"),
            digest in proptest::option::of("[0-9a-f]{64}"),
        ) {
            // Without a host, a first part that looks like one would be read as one.
            let first = repository.split_once('/').map_or("", |(first, _)| first);
            prop_assume!(host.is_some() || !looks_like_host(first));
            let reference = Reference {
                host,
                repository,
                tag,
                digest: digest.map(|hex| format!("sha256:{hex}").parse().unwrap()),
            };
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }
}
