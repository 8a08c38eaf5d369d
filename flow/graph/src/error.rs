use std::sync::Arc;

use records::Artifact;

/// Why a vertex, or a graph, did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The program ended with a status other than zero. What it collected is kept.
    #[error("exited with status {code}")]
    Exit { code: i32, artifacts: Vec<Artifact> },
    #[error("killed by signal {signal}{}", if *.out_of_memory { " (out of memory)" } else { "" })]
    Signal { signal: i32, out_of_memory: bool },
    #[error("took longer than {0:?}")]
    Timeout(std::time::Duration),
    #[error("cancelled")]
    Cancelled,
    /// The vertex asks for something that is not there, or not possible: trying again does not help.
    #[error("{0}")]
    Invalid(String),
    /// The user that the vertex is done as is not in its root file system.
    #[error("{0}")]
    User(String),
    /// This machine failed: trying again may help.
    #[error("{message}")]
    Infrastructure { message: String, source: Option<Arc<dyn std::error::Error + Send + Sync>> },
}

pub type Result<T> = std::result::Result<T, Error>;
