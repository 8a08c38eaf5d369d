//! Base images, assembled from signed Debian packages: no maintainer script is run, no container is needed, and the same packages of
//! the same snapshot give the same digest everywhere.

pub mod archive;
mod assemble;
mod builtin;
mod deb;
mod definition;
pub mod relation;
pub mod resolve;
mod system;
mod tree;

pub use archive::{Archive, ArchiveOptions, Keyring, Lock, LockedRelease, Refresh, Snapshot};
pub use assemble::{BaseImage, CERTIFICATES, InstalledPackage, OnProgress, Progress, assemble, choose};
pub use builtin::{NAMES, builtin};
pub use definition::{DEFAULT_SUITE, Definition, ExtraFile, User};
