use records::Name;

/// What went wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no project `{0}`: create it first, with `shipway project create {0}`")]
    NoProject(Name),
    #[error("project `{0}` has a repository already")]
    Exists(Name),
    /// A commit or an object that the repository does not have.
    #[error("project `{project}` has no {what}")]
    NotFound { project: Name, what: String },
    /// Something that was asked for cannot be: trying again does not help.
    #[error("{0}")]
    Invalid(String),
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    /// Git itself failed.
    #[error("git {doing} failed: {said}")]
    Git { doing: String, said: String },
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
