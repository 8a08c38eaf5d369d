//! Git hosting: repositories on this machine, served over smart HTTP by git itself, and the commits that arrive in them.
//!
//! Reads `Project` records, writes `Commit` records. It never runs hooks or anything else that a repository contains, knows nothing
//! of HTTP (a caller streams bytes in and out), and changes no ref by itself.

pub mod act;
mod blobs;
pub mod error;
mod git;
mod objects;
pub mod plan;
pub mod read;
pub mod repositories;
pub mod serve;

pub use act::{Report, Sources};
pub use blobs::ExportFile;
pub use error::{Error, Result};
pub use plan::{Branch, plan};
pub use read::{CommitInfo, EntryKind, TreeEntry};
pub use repositories::{Limits, Repositories};
pub use serve::{Exchange, Service};
