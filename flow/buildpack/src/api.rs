//! Versions of the APIs: `<major>.<minor>`.

use std::{fmt, str::FromStr};

/// A version; `1` is `1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Api {
    pub major: u32,
    pub minor: u32,
}

/// The Buildpack APIs that are spoken.
pub const OLDEST: Api = Api { major: 0, minor: 7 };
pub const NEWEST: Api = Api { major: 0, minor: 12 };

impl Api {
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// A Buildpack API that is spoken here.
    pub fn is_spoken(self) -> bool {
        (OLDEST..=NEWEST).contains(&self)
    }
}

impl FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let number = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.parse::<u32>().ok(),
            false => None,
        };
        match (number(major), number(minor)) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(format!("`{text}` is no API version: write major.minor, for example {NEWEST}")),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<'de> serde::Deserialize<'de> for Api {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Api {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_not_text() {
        let api = |text: &str| text.parse::<Api>();
        assert!(api("0.10").unwrap() > api("0.9").unwrap());
        assert_eq!(api("1").unwrap(), Api::new(1, 0));
        assert!(api("0.7").unwrap().is_spoken() && api("0.12").unwrap().is_spoken());
        assert!(
            !api("0.6").unwrap().is_spoken() && !api("0.13").unwrap().is_spoken() && !api("1.0").unwrap().is_spoken()
        );
        for wrong in ["", "0.", ".1", "0.1.2", "a.1", "+1.2", "0.99999999999"] {
            assert!(api(wrong).is_err(), "{wrong}");
        }
    }
}
