//! What names of images stand for in a build on this machine: base images that Shipway assembles, the local store, registries.

use build::{ResolvedBase, base::NAMES};
use data_encoding::HEXLOWER;
use image::{Reference, oci::Platform};
use records::Digest;
use store::{Change, Expect};

use super::{Home, Work, describe::is_whole, names};
use crate::{
    fault::{Class, Fault, Result},
    wiring::{images::describe, recipes},
};

/// The kind under which assembled bases are remembered.
const BASE: &str = "build/base";
/// The kind under which images for other platforms are remembered.
const FOREIGN: &str = "build/foreign";

/// The platform as the registry has it.
fn oci(platform: &build::Platform) -> Platform {
    let build::Platform { os, architecture, variant } = platform.clone();
    let variant = variant.or_else(|| (architecture == "arm64").then(|| "v8".to_owned()));
    Platform { os, architecture, variant }
}

impl Work<'_> {
    /// `root` is where files of the context lie.
    pub(super) async fn base(
        &self,
        name: &str,
        platform: &build::Platform,
        root: &std::path::Path,
    ) -> Result<ResolvedBase> {
        let short = name.strip_prefix("base/").unwrap_or(name);
        let host = *platform == build::Platform::host();
        let (repository, digest) = match (NAMES.contains(&short), host) {
            _ if recipes::is_file(name) => self.file(name, platform, root).await?,
            (true, true) => self.assembled(short).await?,
            (true, false) => {
                let message =
                    format!("`{name}`, which shipway assembles itself, is there for this machine's platform only");
                return Err(Fault::not_found(message));
            }
            (false, true) => self.by_reference(name).await?,
            (false, false) => self.foreign(name, platform).await?,
        };
        let found = describe(&self.home.registry, &repository, &digest).await.map_err(Fault::usage)?;
        Ok(ResolvedBase { name: name.to_owned(), repository, digest, config: found.config, layers: found.layers })
    }

    /// A base of the person's own. Without a lock it stays what it is until `--pull` asks the archive again, or it is changed.
    async fn file(&self, name: &str, wanted: &build::Platform, root: &std::path::Path) -> Result<(String, Digest)> {
        let loaded = recipes::load(&recipes::Below(root), name, "").await?;
        let platform = loaded.recipe.platform().unwrap_or_else(build::Platform::host);
        if platform != *wanted {
            return Err(Fault::usage(format!("{name} is for {platform}, and this build for {wanted}")));
        }
        let key = serde_json::to_vec(&loaded.definition).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        let key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key);
        let key: String = HEXLOWER.encode(key.as_ref());
        if loaded.lock.is_none()
            && let Some(known) = self.remembered(&key).await?
        {
            return Ok(known);
        }
        let progress = self.progress.clone();
        let base = self.home.bases()?.recipe(&loaded, name, &|text| progress.note(text)).await?;
        let found = (base.repository, base.digest);
        self.remember(&key, &found).await?;
        Ok(found)
    }

    /// What a name came to before.
    async fn remembered(&self, name: &str) -> Result<Option<(String, Digest)>> {
        if self.request.pull {
            return Ok(None);
        }
        let Some(entry) = self.home.records.log().get(BASE, name).await? else { return Ok(None) };
        let Ok((repository, digest)) = serde_json::from_slice::<(String, Digest)>(&entry.value) else {
            return Ok(None);
        };
        let whole = is_whole(&self.home.registry, &repository, &digest).await;
        Ok(whole.then_some((repository, digest)))
    }

    async fn remember(&self, name: &str, found: &(String, Digest)) -> Result<()> {
        let value = serde_json::to_vec(found).map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
        let change = Change { kind: BASE.into(), key: name.into(), expect: Expect::Any, value, delete: false };
        self.home.records.log().append(vec![change]).await?;
        Ok(())
    }

    /// A base of our own. It stays what it is until `--pull` asks the archive again.
    async fn assembled(&self, name: &str) -> Result<(String, Digest)> {
        if let Some(known) = self.remembered(name).await? {
            return Ok(known);
        }
        let progress = self.progress.clone();
        let found = self.home.bases()?.resolve(name, &|text| progress.note(text)).await?;
        self.remember(name, &found).await?;
        Ok(found)
    }

    async fn by_reference(&self, name: &str) -> Result<(String, Digest)> {
        let reference: Reference =
            name.parse().map_err(|e: image::Error| Fault::not_found(format!("`{name}` is no image: {e}")))?;
        let registry = &self.home.registry;
        let outside = names::outside(&reference);
        if !self.request.pull {
            // What was built here goes by the name it was given; what was pulled by the whole one.
            for candidate in [&reference, &outside] {
                let repository = names::repository(candidate);
                let digest = match (&candidate.digest, &candidate.tag) {
                    (Some(digest), _) => Some(digest.clone()),
                    (None, tag) => registry.resolve(&repository, tag.as_deref().unwrap_or("latest")).await.ok(),
                };
                if let Some(digest) = digest
                    && let Some(digest) = self.for_platform(&repository, &digest, &Platform::host()).await
                {
                    return Ok((repository, digest));
                }
            }
        }
        self.progress.note(&format!("pulling {outside}"));
        self.home.fetch(&outside, &Platform::host(), true).await
    }

    /// An image for another platform. It has no name in the local store, so that nobody takes it for this machine's own; which one it was
    /// stays known until `--pull` asks again.
    async fn foreign(&self, name: &str, platform: &build::Platform) -> Result<(String, Digest)> {
        let reference: Reference =
            name.parse().map_err(|e: image::Error| Fault::not_found(format!("`{name}` is no image: {e}")))?;
        let wanted = oci(platform);
        // What was loaded or built here is an index, or names its platform.
        for candidate in [&reference, &names::outside(&reference)] {
            let repository = names::repository(candidate);
            let digest = match (&candidate.digest, &candidate.tag) {
                (Some(digest), _) => Some(digest.clone()),
                (None, tag) => self.home.registry.resolve(&repository, tag.as_deref().unwrap_or("latest")).await.ok(),
            };
            if let Some(digest) = digest
                && let Some(digest) = self.for_platform(&repository, &digest, &wanted).await
                && let Ok(found) = describe(&self.home.registry, &repository, &digest).await
                && found.config.architecture == platform.architecture
            {
                return Ok((repository, digest));
            }
        }
        let outside = names::outside(&reference);
        let (log, key) = (self.home.records.log(), format!("{outside} {platform}"));
        if !self.request.pull
            && let Some(entry) = log.get(FOREIGN, &key).await?
            && let Ok((repository, digest)) = serde_json::from_slice::<(String, Digest)>(&entry.value)
            && is_whole(&self.home.registry, &repository, &digest).await
        {
            return Ok((repository, digest));
        }
        self.progress.note(&format!("pulling {outside} for {platform}"));
        let found = self.home.fetch(&outside, &wanted, false).await?;
        let value = serde_json::to_vec(&found).map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
        let change = Change { kind: FOREIGN.into(), key, expect: Expect::Any, value, delete: false };
        log.append(vec![change]).await?;
        Ok(found)
    }

    /// The image for a platform, if it is there with all its content.
    async fn for_platform(&self, repository: &str, digest: &Digest, platform: &Platform) -> Option<Digest> {
        let reference = image::registry::ManifestRef::Digest(digest.clone());
        let found = self.home.registry.image(repository, &reference, platform).await.ok()?;
        is_whole(&self.home.registry, repository, &found.digest).await.then_some(found.digest)
    }
}

impl Home {
    /// Brings an image from its registry into the local store, under its whole name when that is asked for. Gives its repository and digest.
    async fn fetch(&self, outside: &Reference, platform: &Platform, named: bool) -> Result<(String, Digest)> {
        let repository = names::repository(outside);
        let tags: Vec<&str> = outside.tag.as_deref().into_iter().filter(|_| named).collect();
        let pulled = self.client()?.pull(outside, &self.registry, &repository, &tags, Some(platform)).await;
        match pulled {
            Ok(digest) => Ok((repository, digest)),
            Err(error) => {
                use image::Kind::{ManifestUnknown, NameUnknown, Unauthorized};
                let class = match error.kind {
                    ManifestUnknown | NameUnknown | Unauthorized => Class::NotFound,
                    _ => Class::Unavailable,
                };
                Err(Fault::new(class, format!("there is no image `{outside}` here, and it cannot be pulled: {error}")))
            }
        }
    }

    /// Pulls what a name stands for; gives its whole name and its digest.
    pub async fn pull(&self, name: &str) -> Result<(Reference, Digest)> {
        let reference: Reference =
            name.parse().map_err(|e: image::Error| Fault::usage(format!("`{name}` is no image: {e}")))?;
        let outside = names::outside(&reference);
        let (_, digest) = self.fetch(&outside, &Platform::host(), true).await?;
        Ok((outside, digest))
    }
}
