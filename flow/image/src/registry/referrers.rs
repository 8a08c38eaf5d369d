//! What refers to a manifest: the referrers API of the OCI distribution specification 1.1.

use records::Digest;
use store::{Change, Expect};

use super::{Descriptor, Registry, entries};
use crate::{Result, reference::check_repository};

/// How many bytes of descriptors one page may have.
const PAGE_BYTES: usize = 3 << 20;
const PAGE_ENTRIES: usize = 1000;

/// A page of referrers, in the order of their digests.
#[derive(Debug, Clone, Default)]
pub struct Referrers {
    pub descriptors: Vec<Descriptor>,
    /// The last referrer looked at, when there may be more behind it.
    pub next: Option<Digest>,
}

impl Registry {
    /// All manifests of `repository` whose subject is `subject`, with `artifact_type` only those of that type. A subject that is not
    /// there may have referrers, too.
    pub async fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.referrers_page(repository, subject, artifact_type, after.as_ref()).await?;
            all.extend(page.descriptors);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// One page of them, after the referrer `after`.
    pub async fn referrers_page(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Digest>,
    ) -> Result<Referrers> {
        check_repository(repository)?;
        let prefix = format!("{}/", entries::by_digest(repository, subject));
        let mut after = after.map(|digest| format!("{prefix}{digest}"));
        let mut found = Referrers::default();
        let mut bytes = 0;
        loop {
            let page = self.log().list(entries::REFERRER, &prefix, after.as_deref(), PAGE_ENTRIES).await?;
            let count = page.entries.len();
            for (index, entry) in page.entries.iter().enumerate() {
                let descriptor: Descriptor = entries::read(entry)?;
                let digest = descriptor.digest.clone();
                if artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_deref() == Some(wanted)) {
                    bytes += entry.value.len();
                    found.descriptors.push(descriptor);
                }
                let more = page.more || index + 1 < count;
                if more && (bytes >= PAGE_BYTES || found.descriptors.len() >= PAGE_ENTRIES) {
                    found.next = Some(digest);
                    return Ok(found);
                }
            }
            if !page.more {
                return Ok(found);
            }
            after = page.entries.last().map(|entry| entry.key.clone());
        }
    }

    /// The change, if any, after which `referrer` is listed for `subject`.
    pub(super) async fn referrer_change(
        &self,
        repository: &str,
        subject: &Digest,
        referrer: Descriptor,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let key = entries::referrer(repository, subject, &referrer.digest);
        if self.log().get(entries::REFERRER, &key).await?.is_none() {
            changes.push(entries::put(entries::REFERRER, key, &referrer, Expect::Any)?);
        }
        Ok(())
    }
}
