//! The question that is asked before a container starts: may this image run here?

use async_trait::async_trait;
use records::Digest;

/// The answer, for one image in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// It must not start; each reason is one sentence that names what is missing.
    Deny {
        reasons: Vec<String>,
    },
}

/// Decides which images may run. Asked by digest, never by tag.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// `repository` is the name under which the pod asked for the image, without tag and digest. An implementation that
    /// cannot tell answers `Deny`: missing data fails closed.
    async fn admit(&self, repository: &str, digest: &Digest, namespace: &str) -> Verdict;
}

/// Allows every image: for nodes that nobody gave a policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

#[async_trait]
impl Admission for AllowAll {
    async fn admit(&self, _: &str, _: &Digest, _: &str) -> Verdict {
        Verdict::Allow
    }
}
