//! Signatures: ECDSA over P-256 with SHA-256, in the formats of cosign and Sigstore.

pub mod bundle;
pub mod dsse;
pub mod key;
pub mod simple;

pub use key::{PublicKey, SigningKey};
