//! Base images, assembled from signed Debian packages: no maintainer script is run, no container is needed, and the same packages of
//! the same snapshot give the same digest everywhere.

pub mod archive;
mod assemble;
mod builtin;
mod deb;
mod definition;
pub mod lock;
mod recipe;
pub mod relation;
pub mod resolve;
mod system;
mod tree;

pub use archive::{Archive, ArchiveOptions, Keyring, Lock, LockedRelease, Refresh, Snapshot};
pub use assemble::{
    BaseImage, CERTIFICATES, InstalledPackage, OnProgress, Progress, assemble, assemble_file, assemble_locked, choose,
    lock_packages,
};
pub use builtin::{NAMES, builtin};
pub use definition::{CopiedFile, DEFAULT_SUITE, Definition, ExtraFile, User};
pub use lock::{Asked, BaseLock, Change, ChangeKind, LockedPackage};
pub use recipe::{MAX_FILE, MAX_SOURCE, Recipe, schema};
