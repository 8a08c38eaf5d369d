use records::ReleaseId;

/// What went wrong with releases.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that was asked for is not there, or cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The policy of the environment stands against what a person asked for.
    #[error("the policy of its environment refuses release {release}: {}", .reasons.join("; "))]
    Refused { release: ReleaseId, reasons: Vec<String> },
    #[error(transparent)]
    Store(#[from] store::Error),
}

pub type Result<T> = std::result::Result<T, Error>;
