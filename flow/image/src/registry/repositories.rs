//! Repositories and tags: which there are, page by page.

use std::{
    collections::HashSet,
    sync::{MutexGuard, PoisonError},
};

use records::Digest;
use store::{Change, Expect, Seq};

use super::{Registry, entries};
use crate::{
    Error, Kind, Result,
    reference::{check_repository, check_tag},
};

/// A part of a listing, in byte order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub names: Vec<String>,
    /// Whether there are names behind the last one.
    pub more: bool,
}

impl Registry {
    /// At most `limit` repositories after the name `after`.
    pub async fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Listing> {
        if limit == 0 {
            return Ok(Listing { names: Vec::new(), more: false });
        }
        let page = self.log().list(entries::REPOSITORY, "", after, limit).await?;
        Ok(Listing { names: page.entries.into_iter().map(|entry| entry.key).collect(), more: page.more })
    }

    /// At most `limit` tags of `repository` after the tag `after`; `NameUnknown` when there is no such repository.
    pub async fn tags(&self, repository: &str, after: Option<&str>, limit: usize) -> Result<Listing> {
        self.require_repository(repository).await?;
        if limit == 0 {
            return Ok(Listing { names: Vec::new(), more: false });
        }
        let prefix = entries::by_tag(repository, "");
        let after = after.map(|tag| format!("{prefix}{tag}"));
        let page = self.log().list(entries::TAG, &prefix, after.as_deref(), limit).await?;
        let names = page.entries.iter().filter_map(|entry| entry.key.strip_prefix(&prefix)).map(str::to_owned);
        Ok(Listing { names: names.collect(), more: page.more })
    }

    /// The digest that a tag stands for.
    pub async fn resolve(&self, repository: &str, tag: &str) -> Result<Digest> {
        check_repository(repository)?;
        check_tag(tag)?;
        match self.log().get(entries::TAG, &entries::by_tag(repository, tag)).await? {
            Some(entry) => Ok(entries::read::<entries::Tag>(&entry)?.digest),
            None => Err(Error::new(Kind::ManifestUnknown, format!("repository {repository} has no tag {tag}"))),
        }
    }

    /// Every manifest of a repository, in the order of their digests.
    pub async fn manifests(&self, repository: &str) -> Result<Vec<Digest>> {
        let prefix = format!("{repository}@");
        let all = self.all(entries::MANIFEST, &prefix).await?;
        Ok(all.iter().filter_map(|entry| entry.key.strip_prefix(&prefix)?.parse().ok()).collect())
    }

    /// At most `limit` manifests of a repository after the digest `after`, in the order of their digests.
    pub async fn some_manifests(&self, repository: &str, after: Option<&Digest>, limit: usize) -> Result<Vec<Digest>> {
        let prefix = format!("{repository}@");
        let after = after.map(|digest| format!("{prefix}{digest}"));
        let page = self.log().list(entries::MANIFEST, &prefix, after.as_deref(), limit).await?;
        Ok(page.entries.iter().filter_map(|entry| entry.key.strip_prefix(&prefix)?.parse().ok()).collect())
    }

    /// Every tag of a repository with what it stands for and since when.
    pub async fn tagged(&self, repository: &str) -> Result<Vec<(String, Digest, records::Timestamp)>> {
        let prefix = entries::by_tag(repository, "");
        let mut tags = Vec::new();
        for entry in self.all(entries::TAG, &prefix).await? {
            let tag: entries::Tag = entries::read(&entry)?;
            tags.push((entry.key.strip_prefix(&prefix).unwrap_or_default().to_owned(), tag.digest, tag.updated));
        }
        Ok(tags)
    }

    /// The tags that stand for a manifest.
    pub async fn tags_of(&self, repository: &str, digest: &Digest) -> Result<Vec<String>> {
        let prefix = entries::by_tag(repository, "");
        let mut tags = Vec::new();
        for entry in self.all(entries::TAG, &prefix).await? {
            if entries::read::<entries::Tag>(&entry)?.digest == *digest {
                tags.push(entry.key.trim_start_matches(&prefix).to_owned());
            }
        }
        Ok(tags)
    }

    /// Removes a tag; the manifest stays.
    pub async fn delete_tag(&self, repository: &str, tag: &str) -> Result<()> {
        check_repository(repository)?;
        check_tag(tag)?;
        let _guard = self.lock(repository).await;
        match self.log().get(entries::TAG, &entries::by_tag(repository, tag)).await? {
            Some(entry) => {
                self.log().append(vec![entries::remove(&entry)]).await?;
                Ok(())
            }
            None => Err(Error::new(Kind::ManifestUnknown, format!("repository {repository} has no tag {tag}"))),
        }
    }

    /// Removes a repository with all that it links to. Content stays until it is collected.
    pub async fn delete_repository(&self, repository: &str) -> Result<()> {
        self.require_repository(repository).await?;
        let _guard = self.lock(repository).await;
        let kinds = [(entries::TAG, ":"), (entries::REFERRER, "@"), (entries::MANIFEST, "@"), (entries::BLOB, "@")];
        for (kind, separator) in kinds {
            let prefix = format!("{repository}{separator}");
            loop {
                let page = self.log().list(kind, &prefix, None, 500).await?;
                let mut changes: Vec<Change> = page.entries.iter().map(entries::remove).collect();
                if kind == entries::BLOB {
                    for entry in &page.entries {
                        let digest = entry.key.strip_prefix(&prefix).unwrap_or_default();
                        let key = format!("{digest}/{repository}");
                        changes.extend(self.log().get(entries::HOLDER, &key).await?.as_ref().map(entries::remove));
                    }
                }
                self.log().append(changes).await?;
                if !page.more {
                    break;
                }
            }
        }
        if let Some(entry) = self.log().get(entries::REPOSITORY, repository).await? {
            self.log().append(vec![entries::remove(&entry)]).await?;
        }
        Ok(())
    }

    pub async fn has_repository(&self, repository: &str) -> Result<bool> {
        check_repository(repository)?;
        Ok(self.log().get(entries::REPOSITORY, repository).await?.is_some())
    }

    async fn require_repository(&self, repository: &str) -> Result<()> {
        if self.has_repository(repository).await? {
            return Ok(());
        }
        Err(Error::new(
            Kind::NameUnknown,
            format!("there is no repository {repository}: it begins with its first push"),
        ))
    }

    /// The change, if any, after which the repository exists.
    pub(super) async fn repository_change(&self, repository: &str, changes: &mut Vec<Change>) -> Result<()> {
        if !self.is_known(repository).await? {
            let value = entries::Repository { created: self.now() };
            changes.push(entries::put(entries::REPOSITORY, repository.to_owned(), &value, Expect::Any)?);
        }
        Ok(())
    }

    /// Whether the repository is there; asked by those who keep it from being removed meanwhile.
    pub(super) async fn is_known(&self, repository: &str) -> Result<bool> {
        let head = *self.log().head().borrow();
        let (at, round) = {
            let known = self.known();
            (known.at, known.round)
        };
        // Nearly always the log has that in memory.
        let same =
            at == head || self.log().changes(entries::REPOSITORY, at, 1).await.is_ok_and(|changes| changes.is_empty());
        let round = {
            let mut known = self.known();
            if !same {
                known.forget();
                known.at = head;
            } else if known.round == round {
                known.at = known.at.max(head);
                if known.names.contains(repository) {
                    return Ok(true);
                }
            }
            known.round
        };
        if self.log().get(entries::REPOSITORY, repository).await?.is_none() {
            return Ok(false);
        }
        let mut known = self.known();
        if known.names.len() >= MOST_KNOWN {
            known.forget();
        } else if known.round == round {
            known.names.insert(repository.to_owned());
        }
        Ok(true)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is whole before the lock is given back.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names of repositories that are remembered at most.
const MOST_KNOWN: usize = 4096;

/// Repositories that were there at a version of the log.
#[derive(Default)]
pub(super) struct Known {
    at: Seq,
    /// How often all were forgotten, so that nobody adds what was found out before.
    round: u64,
    names: HashSet<String>,
}

impl Known {
    fn forget(&mut self) {
        self.names.clear();
        self.round += 1;
    }
}
