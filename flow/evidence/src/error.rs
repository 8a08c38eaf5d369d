//! The one error of this crate.

use std::fmt;

/// What went wrong, by what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The image, a layer or an attached document is not there.
    NotFound,
    /// A layer or a document is not what its format says.
    Invalid,
    /// A bound was reached.
    TooLarge,
    /// The signing key cannot be used.
    Key,
    /// The vulnerability database or a VEX document cannot be used.
    Database,
    /// The registry or a file failed.
    Io,
}

/// A kind, a sentence that names the thing, and the cause.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub fn caused(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
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

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let kind = if error.kind == store::Kind::NotFound { Kind::NotFound } else { Kind::Io };
        Self::new(kind, error.message.clone()).caused(error)
    }
}

/// Bounds what an error or a sentence repeats of input from outside.
pub(crate) fn clip(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
