//! The records of a repository: read, planned, and removed in the same instant in which nobody else changes them.

use records::{Digest, Timestamp};
use store::{Change, Entry, Seq};

use super::{
    Cleanup, Plan, Report,
    content::Named,
    plan::{Held, Linked, Tagged, View, plan},
};
use crate::{
    Error, Kind, Result,
    registry::{Document, ManifestInfo, Registry, entries, manifests::MAX_MANIFEST},
};

/// How often a repository that is changed all the time is looked at again before others have to wait.
const ATTEMPTS: usize = 3;
const PAGE: usize = 1000;

/// A repository as it was once.
struct Snapshot {
    view: View,
    /// Everything that was there at this head is in it.
    at: Seq,
}

impl Registry {
    /// Cleans up the records of every repository, and tells what the content has to have that is left.
    pub(super) async fn clean_repositories(
        &self,
        cleanup: &Cleanup<'_>,
        now: Timestamp,
        named: &mut Named,
        report: &mut Report,
    ) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = self.repositories(after.as_deref(), PAGE).await?;
            for repository in &page.names {
                report.repositories += 1;
                match self.clean_repository(repository, cleanup, now, named).await {
                    Ok(plan) => report.add(repository, &plan),
                    Err(error) => {
                        tracing::warn!(repository, %error, "a repository cannot be cleaned up this time");
                        report.failed += 1;
                        self.name_all(repository, named).await?;
                    }
                }
            }
            after = page.names.last().cloned();
            if !page.more {
                return Ok(());
            }
        }
    }

    /// What would go of a repository.
    pub async fn plan_repository(&self, repository: &str, cleanup: &Cleanup<'_>, now: Timestamp) -> Result<Plan> {
        let snapshot = self.snapshot(repository).await?;
        let retention = (cleanup.retention)(repository);
        Ok(plan(&snapshot.view, retention.as_ref(), cleanup.in_use, cleanup.grace, now))
    }

    async fn clean_repository(
        &self,
        repository: &str,
        cleanup: &Cleanup<'_>,
        now: Timestamp,
        named: &mut Named,
    ) -> Result<Plan> {
        let retention = (cleanup.retention)(repository);
        let decide = |view: &View| plan(view, retention.as_ref(), cleanup.in_use, cleanup.grace, now);
        for attempt in 1..=ATTEMPTS {
            // The last time nobody else changes it meanwhile.
            let mut guard = if attempt == ATTEMPTS { Some(self.lock(repository).await) } else { None };
            let snapshot = self.snapshot(repository).await?;
            let plan = decide(&snapshot.view);
            if plan.is_empty() || cleanup.dry_run {
                named.keep(&snapshot.view, &plan);
                return Ok(plan);
            }
            if guard.is_none() {
                guard = Some(self.lock(repository).await);
                if self.changed(repository, snapshot.at).await? {
                    continue;
                }
            }
            self.remove(repository, &plan).await?;
            drop(guard);
            named.keep(&snapshot.view, &plan);
            return Ok(plan);
        }
        // The last attempt returns.
        Err(Error::new(Kind::TooMany, format!("repository {repository} is changed all the time")))
    }

    /// Reads all of a repository. What a manifest names is read from its content.
    async fn snapshot(&self, repository: &str) -> Result<Snapshot> {
        let at = *self.log().head().borrow();
        let mut snapshot = Snapshot { view: View::default(), at };
        let prefix = entries::by_tag(repository, "");
        for entry in self.all(entries::TAG, &prefix).await? {
            let name = entry.key.strip_prefix(&prefix).unwrap_or_default().to_owned();
            let tag: entries::Tag = entries::read(&entry)?;
            snapshot.view.tags.insert(name, Tagged { digest: tag.digest, updated: tag.updated });
        }
        let prefix = format!("{repository}@");
        for entry in self.all(entries::MANIFEST, &prefix).await? {
            let Some(digest) = digest_of(&entry, &prefix) else { continue };
            let info: ManifestInfo = entries::read(&entry)?;
            let names = match self.names(&digest).await {
                Ok(names) => Some(names),
                Err(error) => {
                    tracing::warn!(repository, %digest, %error, "a manifest cannot be read: what it may name stays");
                    None
                }
            };
            snapshot.view.manifests.insert(digest, Held { pushed: info.pushed, subject: info.subject, names });
        }
        for entry in self.all(entries::BLOB, &prefix).await? {
            let Some(digest) = digest_of(&entry, &prefix) else { continue };
            let blob: entries::Blob = entries::read(&entry)?;
            // Older versions did not write down when: then it counts from the start of this one.
            let since = blob.linked.unwrap_or(self.inner.opened);
            snapshot.view.links.insert(digest, Linked { since });
        }
        Ok(snapshot)
    }

    /// The blobs and manifests that a manifest names.
    pub(crate) async fn names(&self, digest: &Digest) -> Result<Vec<Digest>> {
        let content = store::blobs::get(&**self.blobs(), digest, MAX_MANIFEST).await?;
        let document: Document = serde_json::from_slice(&content)
            .map_err(|e| Error::new(Kind::ManifestInvalid, format!("manifest {digest} is malformed: {e}")).caused(e))?;
        Ok(document.contents().chain(document.children()).map(|named| named.digest.clone()).collect())
    }

    pub(crate) async fn all(&self, kind: &str, prefix: &str) -> Result<Vec<Entry>> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.log().list(kind, prefix, after.as_deref(), PAGE).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            all.extend(page.entries);
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// Whether the repository has been changed since `at`. What can no longer be known counts as changed.
    async fn changed(&self, repository: &str, mut at: Seq) -> Result<bool> {
        loop {
            let changes = match self.log().changes("registry/", at, PAGE).await {
                Err(error) if error.kind == store::Kind::Compacted => return Ok(true),
                other => other?,
            };
            let Some(last) = changes.last() else { return Ok(false) };
            at = last.seq;
            let of_it = |entry: &Entry| {
                [entries::TAG, entries::MANIFEST, entries::BLOB].contains(&entry.kind.as_str())
                    && entry.key.strip_prefix(repository).is_some_and(|rest| rest.starts_with(['@', ':']))
            };
            if changes.iter().any(of_it) {
                return Ok(true);
            }
        }
    }

    /// Removes what the plan says. The repository is locked, and is as the snapshot has it.
    async fn remove(&self, repository: &str, plan: &Plan) -> Result<()> {
        let mut changes: Vec<Change> = Vec::new();
        for gone in &plan.tags {
            let key = entries::by_tag(repository, &gone.name);
            changes.extend(self.log().get(entries::TAG, &key).await?.as_ref().map(entries::remove));
        }
        for gone in &plan.manifests {
            let Ok(digest) = gone.name.parse() else { continue };
            let key = entries::by_digest(repository, &digest);
            let Some(entry) = self.log().get(entries::MANIFEST, &key).await? else { continue };
            changes.push(entries::remove(&entry));
            if let Some(subject) = entries::read::<ManifestInfo>(&entry)?.subject {
                let key = entries::referrer(repository, &subject, &digest);
                changes.extend(self.log().get(entries::REFERRER, &key).await?.as_ref().map(entries::remove));
            }
        }
        // Tags before manifests before blobs, so that a crash between two batches leaves nothing that names what is gone.
        for gone in &plan.links {
            let Ok(digest) = gone.name.parse() else { continue };
            let link = (entries::BLOB, entries::by_digest(repository, &digest));
            for (kind, key) in [link, (entries::HOLDER, entries::holder(repository, &digest))] {
                changes.extend(self.log().get(kind, &key).await?.as_ref().map(entries::remove));
            }
        }
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(PAGE));
            self.log().append(std::mem::replace(&mut changes, rest)).await?;
        }
        Ok(())
    }

    /// For a repository that could not be read: all that it holds stays.
    async fn name_all(&self, repository: &str, named: &mut Named) -> Result<()> {
        let prefix = format!("{repository}@");
        for kind in [entries::MANIFEST, entries::BLOB] {
            for entry in self.all(kind, &prefix).await? {
                named.extend_from(&entry);
            }
        }
        Ok(())
    }
}

fn digest_of(entry: &Entry, prefix: &str) -> Option<Digest> {
    entry.key.strip_prefix(prefix)?.parse().ok()
}
