//! What can go wrong with a release. Texts are Helm's where Helm has one, so that they can be searched for.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cluster cannot be reached or does not answer as a cluster does.
    #[error("kubernetes cluster unreachable: {0}")]
    Unreachable(String),
    /// The API refused a request.
    #[error("{message}")]
    Api {
        /// The HTTP status.
        code: u16,
        /// `NotFound`, `AlreadyExists`, `Conflict`, …
        reason: String,
        message: String,
    },
    /// The chart, its values, or a stored record.
    #[error(transparent)]
    Chart(#[from] chart::Error),
    /// There is no such release, or revision of it.
    #[error("release: not found")]
    NotFound,
    /// Another process works on the release.
    #[error("another operation (install/upgrade/rollback) is in progress")]
    Busy,
    /// Another command took this operation for dead and went on from it.
    #[error("release {0} was taken over by another operation, since this one gave no sign of life")]
    TakenOver(String),
    /// The user stopped the operation.
    #[error("context canceled")]
    Cancelled,
    /// It took longer than it was given.
    #[error("{0}context deadline exceeded")]
    TimedOut(String),
    /// A manifest that makes no object this cluster knows.
    #[error("{0}")]
    Manifest(String),
    /// An option that cannot be used, or not together with another.
    #[error("{0}")]
    Option(String),
    /// What Helm says before an error.
    #[error("{0}: {1}")]
    Context(String, #[source] Box<Error>),
    /// Several errors, in one sentence.
    #[error("{0}")]
    Several(String),
}

impl Error {
    /// The error with what was being done in front.
    pub(crate) fn context(self, what: impl Into<String>) -> Self {
        match self {
            // Who took the release over decides what becomes of it; nobody up the chain may hide that.
            Self::TakenOver(_) => self,
            other => Self::Context(what.into(), Box::new(other)),
        }
    }

    /// The error below everything that was put in front of it.
    pub fn root(&self) -> &Self {
        match self {
            Self::Context(_, inner) => inner.root(),
            other => other,
        }
    }

    fn api(&self) -> Option<(u16, &str)> {
        match self.root() {
            Self::Api { code, reason, .. } => Some((*code, reason)),
            _ => None,
        }
    }

    /// The object is not there.
    pub fn is_not_found(&self) -> bool {
        self.api().is_some_and(|(code, _)| code == 404)
    }

    /// The object is there already.
    pub fn is_already_exists(&self) -> bool {
        self.api().is_some_and(|(_, reason)| reason == "AlreadyExists")
    }

    /// The request itself was refused, and would be again; not for want of rights or for too many of them.
    pub(crate) fn is_refused(&self) -> bool {
        self.api().is_some_and(|(code, _)| (400..500).contains(&code) && ![401, 403, 429].contains(&code))
            && !self.is_conflict()
    }

    /// The object was changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.api().is_some_and(|(code, reason)| code == 409 && reason != "AlreadyExists")
    }
}

/// Errors in one sentence, as Helm joins them; `None` when there are none.
pub(crate) fn joined(errors: Vec<Error>, separator: &str) -> Option<Error> {
    let mut errors = errors;
    match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(Error::Several(errors.iter().map(Error::to_string).collect::<Vec<_>>().join(separator))),
    }
}
