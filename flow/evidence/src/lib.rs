//! What is known about an image, made and checked.
//!
//! Reads images from the registry (their layers) and an OSV database that is given as files; writes [`records::Evidence`] and
//! attaches each piece to the image's digest as an OCI referrer, in the field's own formats: CycloneDX 1.6, in-toto statements
//! with SLSA v1 provenance and cosign's vulnerability predicate, DSSE envelopes in Sigstore bundles, cosign signatures. What is
//! attached is read back from the registry alone and every link of it checked by [`verify`]; [`policy`] decides from it.
//!
//! Never fetches anything from a network, never runs anything of an image, never writes a file of an image.

pub mod artifact;
pub mod attach;
pub mod error;
pub mod facts;
pub mod licence;
pub mod plan;
pub mod policy;
pub mod provenance;
pub mod sbom;
pub mod sign;
pub mod statement;
pub mod verify;
pub mod vulnerability;

pub use attach::Maker;
pub use error::{Error, Kind, Result};
pub use facts::{RunFacts, Source};
pub use policy::decide;
pub use sbom::LayerCache;
pub use sign::{PublicKey, SigningKey};
pub use verify::{Verified, verify};
pub use vulnerability::{Database, DatabaseFiles, Vex};
