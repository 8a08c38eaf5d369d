//! Where everything is kept: records in a watched, append-only [`Log`], content in [`Blobs`] by digest.
//!
//! Reads and writes nothing but its own files. Both traits have an embedded backend (SQLite, a directory) and one in
//! memory for tests; every backend passes the same contract suite. What a caller was told is stored survives `kill -9` and loss of power.

pub mod blobs;
pub mod contract;
pub mod directory;
pub mod error;
mod expect;
pub mod leased;
pub mod leases;
mod lock;
pub mod log;
pub mod memory;
pub mod mirror;
pub mod object;
pub mod records;
mod shared_sync;
pub mod sqlite;
mod tail;
mod write_behind;

pub use blobs::{BlobReader, BlobWriter, Blobs, Naming};
pub use directory::DirectoryBlobs;
pub use error::{Error, Kind, Result};
pub use leased::LeasedBlobs;
pub use leases::Leases;
pub use log::{Change, Entry, Expect, Log, Page, Seq};
pub use memory::{MemoryBlobs, MemoryLog};
pub use mirror::Mirror;
pub use object::ObjectBlobs;
pub use records::{Records, Versioned};
pub use sqlite::SqliteLog;
pub use write_behind::WriteBehind;
