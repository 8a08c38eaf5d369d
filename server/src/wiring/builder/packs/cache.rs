//! What one build leaves for the next: cached layers by content, and which image they belong to.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use buildpack::{
    Ground,
    export::{self, Source},
    launch::Metadata,
    restore::{Cache, Found},
};
use image::layer::{ApplyOptions, Whiteouts, apply_blob};
use records::Digest;
use serde::{Deserialize, Serialize};
use store::{Change, Expect};

use super::{super::Home, Shelf, broken, export::Packer, tree};
use crate::fault::{Class, Fault, Result};

/// The kind under which it is kept, by the name of the image, or by the context of one without a name.
const LEFT: &str = "build/packs";

/// Records of one page.
const PAGE: usize = 1000;

/// What a build left.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Left {
    /// The image, without a name.
    pub image: Option<Digest>,
    pub cache: Cache,
    /// The blobs of the cached layers, by the digests of their tars.
    pub blobs: BTreeMap<String, Digest>,
}

impl Left {
    /// What the last build left, as far as it is still there.
    pub async fn load(shelf: Shelf<'_>, key: &str) -> Result<Self> {
        let Some(entry) = shelf.records.log().get(LEFT, key).await? else { return Ok(Self::default()) };
        let mut left: Self = serde_json::from_slice(&entry.value).unwrap_or_default();
        let mut gone = BTreeSet::new();
        for (sum, blob) in &left.blobs {
            if shelf.blobs.size(blob).await?.is_none() {
                gone.insert(sum.clone());
            }
        }
        for one in &mut left.cache.buildpacks {
            one.layers.retain(|_, layer| !gone.contains(&layer.sha) && left.blobs.contains_key(&layer.sha));
        }
        Ok(left)
    }

    /// Unpacks cached layers where buildpacks look for them. Their metadata is written already.
    pub async fn restore(&self, shelf: Shelf<'_>, found: &[Found], ground: &Ground, scratch: &Path) -> Result<()> {
        for one in found {
            let id = buildpack::escaped(&one.id);
            for (name, layer) in &one.layers {
                let Some(sum) = &layer.contents else { continue };
                let Some(blob) = self.blobs.get(sum) else { continue };
                let work = tempfile::tempdir_in(scratch).map_err(tree::failed("make a directory in", scratch))?;
                let options =
                    ApplyOptions { whiteouts: Whiteouts::Plain, diff_id: sum.parse().ok(), ..ApplyOptions::default() };
                let reader = shelf.blobs.read(blob, 0, None).await?;
                let applied = apply_blob(reader, work.path().to_owned(), options).await;
                applied.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
                let from = work.path().join(ground.layers.inside.trim_start_matches('/')).join(&id).join(name);
                let to = ground.layers.host.join(&id).join(name);
                std::fs::rename(&from, &to).map_err(tree::failed("restore", &to))?;
            }
        }
        Ok(())
    }

    /// Keeps what the buildpacks want to find again.
    pub async fn save(
        packer: &Packer<'_>,
        ground: &Ground,
        metadata: &Metadata,
        (key, image): (&str, &Digest),
    ) -> Result<()> {
        let (mut kept, mut blobs) = (Vec::new(), BTreeMap::new());
        for (id, name, file, place) in export::cached(ground, metadata).map_err(broken)? {
            let layer = packer.layer(&Source::Tree(place)).await?;
            blobs.insert(layer.diff_id.to_string(), layer.digest);
            kept.push((id, name, file, layer.diff_id.to_string()));
        }
        let left = Self { image: Some(image.clone()), cache: export::cache_of(&kept), blobs };
        let value = serde_json::to_vec(&left).map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
        let change = Change { kind: LEFT.into(), key: key.to_owned(), expect: Expect::Any, value, delete: false };
        packer.shelf.records.log().append(vec![change]).await?;
        Ok(())
    }
}

/// For `prune`: the blobs of cached layers whose image is among those that stay. The rest is forgotten.
pub async fn kept(home: &Home, images: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>> {
    let log = home.records.log();
    let (mut kept, mut gone, mut after) = (BTreeSet::new(), Vec::new(), None::<String>);
    loop {
        let page = log.list(LEFT, "", after.as_deref(), PAGE).await?;
        after = page.entries.last().map(|entry| entry.key.clone());
        for entry in page.entries {
            let left: Left = serde_json::from_slice(&entry.value).unwrap_or_default();
            match left.image.as_ref().is_some_and(|image| images.contains(image)) {
                true => kept.extend(left.blobs.into_values()),
                false => gone.push(Change {
                    kind: LEFT.into(),
                    key: entry.key,
                    expect: Expect::Any,
                    value: bytes::Bytes::new(),
                    delete: true,
                }),
            }
        }
        if !page.more {
            break;
        }
    }
    if !gone.is_empty() {
        log.append(gone).await?;
    }
    Ok(kept)
}
