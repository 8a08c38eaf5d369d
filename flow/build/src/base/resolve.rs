//! placeholder while the archive is written
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unresolvable(pub String);
