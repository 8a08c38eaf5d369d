//! What can go wrong, in the words that users of kustomize know.

/// The result of a step.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a kustomization cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No kustomization file where one must be.
    #[error("unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{0}'")]
    Missing(String),
    /// Two or more.
    #[error("Found multiple kustomization files under: {0}\n")]
    Multiple(String),
    /// A text is not YAML. `file` is empty for text in a kustomization.
    #[error("MalformedYAMLError: {source} in File: {file}")]
    Malformed { file: String, source: yaml::Error },
    /// A kustomization that does not fit its schema.
    #[error("{file}: invalid Kustomization: {message}")]
    Invalid { file: String, message: String },
    /// A file that may not or cannot be read.
    #[error(transparent)]
    File(#[from] crate::FileError),
    /// A base that leads back to itself.
    #[error("cycle detected: candidate root '{candidate}' contains visited root '{visited}'")]
    Cycle { candidate: String, visited: String },
    /// Something outside that the options do not allow.
    #[error("{0}")]
    Refused(String),
    /// A name that is asked for and is not there.
    #[error("{0}")]
    Absent(String),
    /// Anything else, said in one sentence.
    #[error("{0}")]
    Wrong(String),
    /// Another error with what was being done.
    #[error("{doing}: {error}")]
    While { doing: String, error: Box<Error> },
}

impl Error {
    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        Self::Wrong(message.into())
    }

    pub(crate) fn during(self, doing: impl Into<String>) -> Self {
        Self::While { doing: doing.into(), error: Box::new(self) }
    }

    /// What is at the bottom of it.
    pub fn root(&self) -> &Error {
        match self {
            Self::While { error, .. } => error.root(),
            other => other,
        }
    }
}
