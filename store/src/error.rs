use std::{fmt, sync::Arc};

/// What went wrong, by what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The entry or blob is not there.
    NotFound,
    /// The entry was not as the change expected it; read again and decide again.
    Conflict,
    /// The content does not have the digest that was named.
    WrongDigest,
    /// The changes asked for are no longer kept; list again.
    Compacted,
    /// No space is left.
    Full,
    /// The data was written by a newer version of Shipway.
    Newer,
    /// Another process has the data open.
    Locked,
    /// What is stored cannot be read.
    Corrupt,
    /// The file system or the database failed.
    Io,
}

/// An error of a store: a kind, a sentence that names the thing, and the cause.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub fn caused(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
