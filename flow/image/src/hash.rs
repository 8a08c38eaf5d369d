//! Digests of content as it streams by.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use records::Digest;

use crate::{Error, Kind};

/// A digest algorithm of the OCI image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    #[default]
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The algorithm that made `digest`.
    pub fn of(digest: &Digest) -> Self {
        if digest.algorithm() == "sha512" { Self::Sha512 } else { Self::Sha256 }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => {
                let shown: String = text.chars().take(40).collect();
                Err(Error::new(
                    Kind::DigestInvalid,
                    format!("digest algorithm `{shown}` is not supported: use sha256 or sha512"),
                ))
            }
        }
    }
}

/// Hashes content piece by piece.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        let context = match algorithm {
            Algorithm::Sha256 => Context::new(&SHA256),
            Algorithm::Sha512 => Context::new(&SHA512),
        };
        Self { algorithm, context }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    pub fn finish(self) -> Digest {
        let sum = self.context.finish();
        match self.algorithm {
            Algorithm::Sha256 => {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(sum.as_ref());
                Digest::sha256(&bytes)
            }
            Algorithm::Sha512 => {
                let mut bytes = [0; 64];
                bytes.copy_from_slice(sum.as_ref());
                Digest::sha512(&bytes)
            }
        }
    }
}

/// The digest of `bytes`.
pub fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hash_like_the_whole() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"hello ");
            hasher.update(b"world");
            assert_eq!(hasher.finish(), digest(algorithm, b"hello world"));
        }
        let empty = digest(Algorithm::Sha256, b"");
        assert_eq!(empty.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn only_the_two_algorithms_exist() {
        assert_eq!("sha512".parse::<Algorithm>().unwrap(), Algorithm::Sha512);
        assert!("md5".parse::<Algorithm>().is_err());
    }
}
