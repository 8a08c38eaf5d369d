//! What can go wrong.

use std::path::{Path, PathBuf};

/// One sentence each, with the thing and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A document that a person or a buildpack wrote. Line and column count from 1; 0 where there is none.
    #[error("{file}:{line}:{column}: {message}")]
    Document { file: String, line: usize, column: usize, message: String },
    /// Something of the specification that is not done here.
    #[error("{what}: {way_out}")]
    Unsupported { what: String, way_out: String },
    /// No group took the application.
    #[error("no group of buildpacks takes this application{}", .tried.iter().map(|line| format!("\n  {line}")).collect::<String>())]
    Undetected {
        /// One line a buildpack and group.
        tried: Vec<String>,
        /// A buildpack failed, rather than said no.
        failed: bool,
    },
    /// `bin/build` did not succeed.
    #[error("buildpack {buildpack} failed with exit code {code}; what it printed says why")]
    BuildFailed { buildpack: String, code: i32 },
    /// A buildpack left something that it may not.
    #[error("buildpack {buildpack}: {message}")]
    Output { buildpack: String, message: String },
    /// The image cannot be made or rebased.
    #[error("{0}")]
    Image(String),
    /// This machine.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// What runs programs could not.
    #[error("{0}")]
    Runner(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// An error of a whole document.
    pub fn document(file: &str, message: impl Into<String>) -> Self {
        Self::Document { file: file.to_owned(), line: 0, column: 0, message: message.into() }
    }
}

/// The most bytes of one document.
pub const MOST_TEXT: u64 = 1 << 20;

/// Reads a TOML document; an error names line and column.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    if text.len() as u64 > MOST_TEXT {
        return Err(Error::document(file, format!("it has more than {MOST_TEXT} bytes")));
    }
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..at).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Error::Document { file: file.to_owned(), line, column, message: error.message().to_owned() }
    })
}
