//! What can go wrong, by what a person can do about it.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;

/// A cause that can be cloned with its error.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why an image could not be described, assembled or exported.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A Dockerfile, or the definition of a base image, is wrong at a place that is shown.
    #[error("{0}")]
    Dockerfile(Box<Diagnostic>),
    /// The build context holds something that cannot be used, or too much.
    #[error("build context: {path}: {reason}")]
    Context { path: String, reason: String },
    /// A definition of a base image is wrong.
    #[error("base image {name}: {reason}")]
    Definition { name: String, reason: String },
    /// A lock file that was made for another definition.
    #[error("base image {name}: its lock file is of another definition: {reason}")]
    Stale { name: String, reason: String },
    /// The archive could not be reached, and what is needed is not cached.
    #[error("cannot fetch {url}: {reason}")]
    Fetch { url: String, reason: String, source: Option<Cause> },
    /// What the archive sent is not signed by a key that is trusted, was altered, or is too old.
    #[error("{url} is not trusted: {reason}")]
    Untrusted { url: String, reason: String },
    /// A file does not have the size or checksum that the signed index names.
    #[error("{what} was altered on its way: expected {expected}, got {found}; nothing of it was used")]
    Altered { what: String, expected: String, found: String },
    /// The packages asked for cannot be installed together.
    #[error("{0}")]
    Unresolvable(Box<crate::base::resolve::Unresolvable>),
    /// A package, or an index of packages, is malformed.
    #[error("{what}: {reason}")]
    Malformed { what: String, reason: String, source: Option<Cause> },
    /// An image name or tag that is not allowed.
    #[error("`{reference}` is no name to push an image under: {reason}")]
    Reference { reference: String, reason: String },
    /// A way to tag images that is none, or lacks something that it needs.
    #[error("tags by `{strategy}`: {reason}")]
    TagStrategy { strategy: String, reason: String },
    /// The registry refused or failed.
    #[error("{what}: {source}")]
    Registry { what: String, source: Cause },
    /// The file system failed.
    #[error("{what}: {source}")]
    Io { what: String, source: Arc<std::io::Error> },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: Arc::new(source) }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), reason: reason.into(), source: None }
    }

    /// Whether trying again later, with nothing changed, may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Fetch { .. } | Self::Io { .. } | Self::Altered { .. })
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Dockerfile(Box::new(diagnostic))
    }
}
