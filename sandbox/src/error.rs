//! What can go wrong, typed by what the caller can do about it.

use std::path::{Path, PathBuf};

use crate::Missing;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is wrong: trying again does not help.
    #[error("{0}")]
    Invalid(String),
    /// The program of a container or exec cannot be started in its root file system. `code` is what a shell would answer: 127 for
    /// not found, 126 for not executable.
    #[error("cannot start `{program}`: {reason}")]
    Program { program: String, reason: String, code: i32 },
    #[error("there is no {what} `{name}`")]
    NotFound { what: &'static str, name: String },
    #[error("{what} `{name}` exists already; remove it first or choose another name")]
    Exists { what: &'static str, name: String },
    #[error("{what} `{name}` is in use by {by}")]
    InUse { what: &'static str, name: String, by: String },
    /// This machine cannot run containers.
    #[error("this machine cannot run containers: {}", sentences(.0))]
    Unavailable(Vec<Missing>),
    /// No block of addresses is free.
    #[error(
        "no free block of addresses in {range}: every one overlaps a route of this host or is taken by another instance"
    )]
    NoSubnet { range: String },
    /// The helper process, or the runtime in it, failed.
    #[error("container `{id}` could not be {what}: {reason}")]
    Runtime { id: String, what: &'static str, reason: String },
    /// The kernel refused a change of the network.
    #[error("cannot {action}: {source}")]
    Network { action: String, source: std::io::Error },
    #[error("cannot {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// A state file of ours cannot be read.
    #[error("{} is damaged: {reason}; remove it to go on without it", .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("the sandbox is shut down")]
    Closed,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    pub(crate) fn net<A: Into<String>>(action: A) -> impl FnOnce(std::io::Error) -> Error + use<A> {
        let action = action.into();
        move |source| Error::Network { action, source }
    }
}

fn sentences(missing: &[Missing]) -> String {
    missing.iter().map(|m| format!("{} ({}; {})", m.what, m.why, m.fix)).collect::<Vec<_>>().join("; ")
}
