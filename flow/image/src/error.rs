use std::{fmt, sync::Arc};

/// What went wrong, by what a caller can do about it. The registry's HTTP interface maps each to a status and an error code of the
/// OCI distribution specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Not a repository name.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// Not a tag.
    TagInvalid,
    /// Not a digest, or the content does not have it.
    DigestInvalid,
    /// No such manifest or tag in the repository.
    ManifestUnknown,
    /// The manifest is not one, or contradicts itself or its media type.
    ManifestInvalid,
    /// The manifest names content that the repository does not hold.
    ManifestBlobUnknown,
    /// The manifest is larger than the registry takes.
    ManifestTooLarge,
    /// No such blob in the repository.
    BlobUnknown,
    /// No such upload; it ended, was cancelled or expired.
    UploadUnknown,
    /// The upload cannot go on like this.
    UploadInvalid,
    /// A range that does not continue the upload or lies outside the content.
    RangeInvalid,
    /// The length is not the one that was announced, or over a limit.
    SizeInvalid,
    /// The page that was asked for is none.
    PaginationInvalid,
    /// It is known who asks, and they may not.
    Denied,
    /// A limit on things at the same time was reached; try again later.
    TooMany,
    /// The request names a feature that is not offered.
    Unsupported,
    /// An entry of a layer or archive is malformed, forbidden or would leave the root.
    EntryRefused,
    /// An archive has more entries or bytes than allowed.
    TooLarge,
    /// A document (configuration, layout, index) is malformed.
    Malformed,
    /// Another registry answered with an error or could not be reached.
    Remote,
    /// Another registry asked for credentials or refused those that it was given.
    Unauthorized,
    /// The store failed; its own kind says how.
    Store(store::Kind),
    /// The file system failed.
    Io,
}

/// An error of this crate: a kind, a sentence that names the thing and the way out, and the cause.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// After how many seconds it may be tried again, where another registry said so.
    pub retry_after_s: Option<u64>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, retry_after_s: None }
    }

    pub fn caused(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// A failure of the file system; `what` completes "cannot …". A full disk is reported as such.
    pub(crate) fn io(what: impl fmt::Display, source: std::io::Error) -> Self {
        let full = matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let kind = if full { Kind::Store(store::Kind::Full) } else { Kind::Io };
        Self::new(kind, format!("cannot {what}: {source}")).caused(source)
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
        let kind = match error.kind {
            store::Kind::WrongDigest => Kind::DigestInvalid,
            other => Kind::Store(other),
        };
        Self { kind, message: error.message.clone(), source: Some(Arc::new(error)), retry_after_s: None }
    }
}
