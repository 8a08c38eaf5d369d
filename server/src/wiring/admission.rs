//! The node's question before a container starts, answered by the policy of the environment that owns the namespace.

use async_trait::async_trait;
use evidence::decide;
use node::admission::{Admission, Verdict};
use records::{Digest, Evidence, Policy, Release};
use store::Records;

/// Decides from records alone, so that a slow registry never keeps a good pod from starting.
pub struct ByEvidence {
    pub records: Records,
}

impl ByEvidence {
    /// The policy of a namespace: that of the newest release into it, or the default where no environment owns it.
    async fn policy(&self, namespace: &str) -> store::Result<Policy> {
        let releases = self.records.list::<Release>("").await?.into_iter().map(|found| found.record);
        let owning = releases.filter(|release| release.environment.namespace.as_str() == namespace);
        let newest = owning.max_by_key(|release| release.created_at);
        Ok(newest.map(|release| release.environment.policy).unwrap_or_default())
    }

    async fn reasons(&self, repository: &str, digest: &Digest, namespace: &str) -> store::Result<Vec<String>> {
        let policy = self.policy(namespace).await?;
        let evidence = self.records.list::<Evidence>(&format!("{digest}/")).await?;
        let evidence: Vec<Evidence> = evidence.into_iter().map(|found| found.record).collect();
        Ok(decide(&policy, repository, digest, &evidence))
    }
}

#[async_trait]
impl Admission for ByEvidence {
    async fn admit(&self, repository: &str, digest: &Digest, namespace: &str) -> Verdict {
        match self.reasons(repository, digest, namespace).await {
            Ok(reasons) if reasons.is_empty() => Verdict::Allow,
            Ok(reasons) => Verdict::Deny { reasons },
            // What cannot be looked up is missing.
            Err(error) => Verdict::Deny {
                reasons: vec![format!("the evidence of {repository}@{digest} cannot be read: {error}")],
            },
        }
    }
}
