//! What the local store holds, by the names that people know.

use std::collections::BTreeSet;

use build::ImageConfig;
use image::{
    Reference,
    registry::{Descriptor, Document, ManifestRef},
};
use records::{Digest, Timestamp};
use sandbox::Snapshots;
use serde::Serialize;

use super::{Home, describe, names};
use crate::fault::{Class, Fault, Result};

/// Names of one listing.
const PAGE: usize = 1000;

/// One name of an image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// As people type it, without the tag; `<none>` for one without a name.
    pub name: String,
    pub tag: Option<String>,
    pub digest: Digest,
    /// When it came into the store.
    pub stored: Timestamp,
    /// What the image says of itself.
    pub created: Option<String>,
    /// Bytes of configuration and layers as stored.
    pub size: u64,
}

/// An image with all that is known of it.
pub struct Found {
    pub digest: Digest,
    pub media_type: String,
    pub document: Document,
    pub config: Option<ImageConfig>,
}

impl Found {
    /// Lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        self.document.layers.as_deref().unwrap_or_default()
    }
}

fn unavailable(error: &image::Error) -> Fault {
    Fault::from_error(Class::Unavailable, error)
}

impl Home {
    /// Every name in the store, and every image without one.
    pub async fn rows(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for repository in self.repositories().await? {
            if repository == names::UNTAGGED {
                continue;
            }
            for tag in self.tags(&repository).await? {
                let digest = self.registry.resolve(&repository, &tag).await.map_err(|e| unavailable(&e))?;
                rows.extend(self.row(&repository, Some(tag), digest).await);
            }
        }
        for digest in self.manifests(names::UNTAGGED).await? {
            // What is said of an image (its packages, how it was built) is no image, and has no name because it needs none.
            if !rows.iter().any(|row| row.digest == digest) && !self.is_attached(names::UNTAGGED, &digest).await {
                rows.extend(self.row(names::UNTAGGED, None, digest).await);
            }
        }
        rows.sort_by(|a, b| b.stored.cmp(&a.stored).then_with(|| (&a.name, &a.tag).cmp(&(&b.name, &b.tag))));
        Ok(rows)
    }

    /// Whether a manifest is attached to another one.
    async fn is_attached(&self, repository: &str, digest: &Digest) -> bool {
        let Ok((info, content)) = self.registry.manifest(repository, digest).await else { return false };
        Document::parse(&info.media_type, &content).is_ok_and(|(document, _)| document.subject.is_some())
    }

    async fn row(&self, repository: &str, tag: Option<String>, digest: Digest) -> Option<Row> {
        let (info, content) = self.registry.manifest(repository, &digest).await.ok()?;
        let (document, _) = Document::parse(&info.media_type, &content).ok()?;
        let config = self.config(&document).await;
        let name = if repository == names::UNTAGGED { "<none>".to_owned() } else { names::shown(repository) };
        let size = document.contents().map(|blob| blob.size).sum();
        let created = config.and_then(|config| config.created);
        Some(Row { name, tag, digest, stored: info.pushed, created, size })
    }

    pub async fn repositories(&self) -> Result<Vec<String>> {
        let (mut all, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let page = self.registry.repositories(after.as_deref(), PAGE).await.map_err(|e| unavailable(&e))?;
            after = page.names.last().cloned();
            all.extend(page.names);
            if !page.more {
                return Ok(all);
            }
        }
    }

    async fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let (mut all, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let page = self.registry.tags(repository, after.as_deref(), PAGE).await.map_err(|e| unavailable(&e))?;
            after = page.names.last().cloned();
            all.extend(page.names);
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// The digests of all manifests of a repository.
    pub async fn manifests(&self, repository: &str) -> Result<Vec<Digest>> {
        let (mut all, mut after): (Vec<Digest>, Option<String>) = (Vec::new(), None);
        let prefix = format!("{repository}@");
        loop {
            let page = self.records.log().list("registry/manifest", &prefix, after.as_deref(), PAGE).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            all.extend(page.entries.iter().filter_map(|entry| entry.key.strip_prefix(&prefix)?.parse().ok()));
            if !page.more {
                return Ok(all);
            }
        }
    }

    async fn config(&self, document: &Document) -> Option<ImageConfig> {
        let config = document.config.as_ref()?;
        let content = store::blobs::get(&*self.blobs, &config.digest, 8 << 20).await.ok()?;
        ImageConfig::from_json(&content).ok()
    }

    /// The image that a name, a digest or the beginning of a digest stands for.
    pub async fn find(&self, text: &str) -> Result<Found> {
        let (repository, digest) = self.place_of(text).await?;
        let (info, content) = self.registry.manifest(&repository, &digest).await.map_err(|e| unavailable(&e))?;
        let (document, media_type) = Document::parse(&info.media_type, &content).map_err(|e| unavailable(&e))?;
        let config = self.config(&document).await;
        Ok(Found { digest, media_type, document, config })
    }

    /// Where an image lies: its repository and digest.
    pub async fn place_of(&self, text: &str) -> Result<(String, Digest)> {
        let missing = || {
            Fault::not_found(format!("there is no image `{text}` in the local store"))
                .hint("`shipway image ls` lists them")
        };
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() >= 6 && hex.len() <= 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut found: Vec<(String, Digest)> = Vec::new();
            for repository in self.repositories().await? {
                for digest in self.manifests(&repository).await? {
                    if digest.hex().starts_with(hex) && !found.iter().any(|(_, known)| *known == digest) {
                        found.push((repository.clone(), digest));
                    }
                }
            }
            match found.len() {
                0 => {}
                1 => return found.pop().ok_or_else(missing),
                several => return Err(Fault::usage(format!("{several} images begin with `{text}`: write more of it"))),
            }
        }
        let reference: Reference = text.parse().map_err(|_| missing())?;
        for candidate in [reference.clone(), names::outside(&reference)] {
            let repository = names::repository(&candidate);
            let wanted = match (&candidate.digest, &candidate.tag) {
                (Some(digest), _) => ManifestRef::Digest(digest.clone()),
                (None, tag) => ManifestRef::Tag(tag.clone().unwrap_or_else(|| "latest".into())),
            };
            if let Ok((digest, _, _)) = self.registry.find_manifest(&repository, &wanted).await {
                return Ok((repository, digest));
            }
        }
        Err(missing())
    }

    /// Gives an image one more name.
    pub async fn give(&self, repository: &str, digest: &Digest, name: &Reference) -> Result<()> {
        let tag = name.tag.as_deref().unwrap_or("latest");
        describe::tag(&self.registry, repository, digest, &names::repository(name), tag).await
    }

    /// Removes results of builds that were not part of making any image of the store, and what was checked out for `ADD`. Gives how many
    /// results went.
    pub async fn prune_results(&self, snapshots: &Snapshots) -> Result<usize> {
        let mut kept: BTreeSet<String> = BTreeSet::new();
        for repository in self.repositories().await? {
            for digest in self.manifests(&repository).await? {
                if let Some(entry) = self.records.log().get(super::USES, digest.as_str()).await? {
                    kept.extend(serde_json::from_slice::<Vec<String>>(&entry.value).unwrap_or_default());
                }
            }
        }
        let all = snapshots.list();
        for key in all.iter().map(|one| &one.key).filter(|key| kept.contains(*key)).cloned().collect::<Vec<_>>() {
            kept.extend(snapshots.chain(&key).map_err(|e| Fault::from_error(Class::Internal, &e))?);
        }
        let mut rest: Vec<String> = all.into_iter().map(|one| one.key).filter(|key| !kept.contains(key)).collect();
        let before = rest.len();
        loop {
            // What something lies on goes after it; what is in use stays.
            let count = rest.len();
            rest.retain(|key| snapshots.remove(key).is_err());
            if rest.len() == count {
                break;
            }
        }
        match std::fs::remove_dir_all(self.data.join("checkouts")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Fault::from_error(Class::Unavailable, &e)),
            _ => Ok(before - rest.len()),
        }
    }

    /// Whether there are results of builds at all.
    pub fn has_results(&self) -> bool {
        crate::wiring::sandbox_root(&self.data).join("snapshots").is_dir()
    }

    /// Removes images that nothing names, and content that no image has. Gives how many images and bytes went.
    pub async fn prune(&self) -> Result<(usize, u64)> {
        let named: Vec<Digest> =
            self.rows().await?.into_iter().filter(|row| row.tag.is_some()).map(|row| row.digest).collect();
        let mut images = 0;
        for digest in self.manifests(names::UNTAGGED).await? {
            images += usize::from(!named.contains(&digest));
            self.registry.delete_manifest(names::UNTAGGED, &digest).await.map_err(|e| unavailable(&e))?;
        }
        let mut kept = BTreeSet::new();
        for repository in self.repositories().await? {
            for digest in self.manifests(&repository).await? {
                let (info, content) =
                    self.registry.manifest(&repository, &digest).await.map_err(|e| unavailable(&e))?;
                let (document, _) = Document::parse(&info.media_type, &content).map_err(|e| unavailable(&e))?;
                kept.extend(document.contents().map(|blob| blob.digest.clone()));
                kept.insert(digest);
            }
        }
        // What steps of local runs left behind.
        let mut after: Option<String> = None;
        loop {
            let page = self.records.log().list("vertex", "", after.as_deref(), PAGE).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            for entry in &page.entries {
                let left: Vec<records::Artifact> = serde_json::from_slice(&entry.value).unwrap_or_default();
                kept.extend(left.into_iter().map(|artifact| artifact.digest));
            }
            if !page.more {
                break;
            }
        }
        // What buildpacks want to find again, of images that stay.
        kept.extend(super::packs::kept(self, &kept).await?);
        let mut bytes = 0;
        for digest in self.blobs.list().await? {
            if !kept.contains(&digest) {
                bytes += self.blobs.size(&digest).await?.unwrap_or(0);
                self.blobs.delete(&digest).await?;
            }
        }
        Ok((images, bytes))
    }
}
