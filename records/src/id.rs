//! Typed names and ids. A value that exists is valid.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A string that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {expected}")]
pub struct InvalidName {
    pub text: String,
    pub what: &'static str,
    pub expected: &'static str,
}

impl InvalidName {
    fn new(text: &str, what: &'static str, expected: &'static str) -> Self {
        Self { text: text.chars().take(100).collect(), what, expected }
    }
}

/// The name of a project, an environment or a namespace: a DNS label of RFC 1123 (a–z, 0–9, `-`; at most 63 characters).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = text.as_bytes();
        let valid = bytes.len() <= 63
            && edge(bytes.first().copied())
            && edge(bytes.last().copied())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new(text, "name", "use 1 to 63 of a-z, 0-9 and `-`, with a letter or digit at both ends"))
        }
    }
}

/// A git object id of a commit: 40 hex digits (SHA-1) or 64 (SHA-256).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits: what goes into tags and what people read.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for CommitId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new(text, "commit id", "expected 40 or 64 lower-case hex digits"))
        }
    }
}

macro_rules! text_id {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.0
            }
        }
    )*};
}
text_id!(Name, CommitId);

/// One run of a project's pipeline: `<project>/<build>`; builds count from 1 within a project.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId {
    pub project: Name,
    pub build: u64,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.build)
    }
}

impl FromStr for RunId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parsed = text
            .split_once('/')
            .and_then(|(project, build)| Some(Self { project: project.parse().ok()?, build: build.parse().ok()? }));
        parsed.ok_or_else(|| InvalidName::new(text, "run", "expected <project>/<build number>"))
    }
}

/// One release of a project to an environment: `<project>/<environment>/<number>`, counting from 1 within the two.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId {
    pub project: Name,
    pub environment: Name,
    pub number: u64,
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.project, self.environment, self.number)
    }
}

impl FromStr for ReleaseId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.splitn(3, '/');
        let mut parse = || {
            Some(Self {
                project: parts.next()?.parse().ok()?,
                environment: parts.next()?.parse().ok()?,
                number: parts.next()?.parse().ok()?,
            })
        };
        parse().ok_or_else(|| InvalidName::new(text, "release", "expected <project>/<environment>/<number>"))
    }
}

macro_rules! compound_id {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.to_string()
            }
        }
    )*};
}
compound_id!(RunId, ReleaseId);

impl RunId {
    /// The key of the run's record, and the prefix of what belongs to it; sorts by build.
    pub fn key(&self) -> String {
        format!("{}/{}", self.project, sortable(self.build))
    }
}

impl ReleaseId {
    /// The key of the release's records; sorts by number.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.project, self.environment, sortable(self.number))
    }
}

/// A number in a key, padded so that keys sort as numbers do.
fn sortable(number: u64) -> String {
    format!("{number:010}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "journal", "journal-dev", "0", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "../x", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn compound_ids_survive_a_round_trip() {
        let run: RunId = "journal/12".parse().unwrap();
        assert_eq!(run.to_string(), "journal/12");
        let release: ReleaseId = "journal/prod/3".parse().unwrap();
        assert_eq!(release.to_string(), "journal/prod/3");
        assert!("journal/prod".parse::<ReleaseId>().is_err());
        assert!("journal/x".parse::<RunId>().is_err());
    }
}
