//! Layers compressed another way than they came, for readers that do not know how they were: the same tars, so the same diff ids.
//!
//! Each is made once for a tar, a compression and a level, and remembered; the same tar gives the same bytes on every machine.

use build::{LayerInfo, Lowered};
use image::{
    layer::{Compression, recompress_blob},
    media,
    registry::Document,
};
use records::Digest;
use serde_json::Value;
use store::{Change, Expect};

use super::{
    Home,
    output::{Below, Packing},
    packs::Shelf,
};
use crate::fault::{Class, Fault, Result};

/// The kind under which packed layers are remembered: `<digest of the tar>/<compression>[-<level>]`.
const PACKED: &str = "build/packed";

/// Where images lie that were compressed anew, until they are where they are to go.
pub const PASSING: &str = "recompressed";

/// The largest configuration.
const MOST_CONFIG: u64 = 8 << 20;
/// How deep indexes lie in indexes.
const DEEPEST: usize = 4;

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    media_type: String,
    digest: Digest,
    size: u64,
}

fn key(diff_id: &Digest, compression: Compression, level: Option<i32>) -> String {
    format!("{diff_id}/{compression:?}{}", level.map(|level| format!("-{level}")).unwrap_or_default())
}

/// The layer with a tar, where it was packed so before and is still there.
pub async fn known(
    shelf: Shelf<'_>,
    diff_id: &Digest,
    compression: Compression,
    level: Option<i32>,
) -> Result<Option<LayerInfo>> {
    let Some(entry) = shelf.records.log().get(PACKED, &key(diff_id, compression, level)).await? else {
        return Ok(None);
    };
    let Ok(Kept { media_type, digest, size }) = serde_json::from_slice(&entry.value) else { return Ok(None) };
    let there = shelf.blobs.size(&digest).await? == Some(size);
    Ok(there.then(|| LayerInfo { media_type, digest, size, diff_id: diff_id.clone() }))
}

/// Remembers a layer for [`known`].
pub async fn keep(shelf: Shelf<'_>, layer: &LayerInfo, compression: Compression, level: Option<i32>) -> Result<()> {
    let kept = Kept { media_type: layer.media_type.clone(), digest: layer.digest.clone(), size: layer.size };
    let value = serde_json::to_vec(&kept).map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
    let key = key(&layer.diff_id, compression, level);
    shelf
        .records
        .log()
        .append(vec![Change { kind: PACKED.into(), key, expect: Expect::Any, value, delete: false }])
        .await?;
    Ok(())
}

/// Whether a layer of this media type is to be compressed anew.
fn wanted(media_type: &str, packing: &Packing) -> bool {
    match (packing.below, Compression::of(media_type)) {
        (Below::Kept, _) | (_, None) => false,
        (Below::NoZstd, Some(is)) => is == Compression::Zstd && packing.compression != Compression::Zstd,
        (Below::All, Some(is)) => is != packing.compression,
    }
}

async fn layer(shelf: Shelf<'_>, layer: LayerInfo, packing: &Packing) -> Result<LayerInfo> {
    let Packing { compression, level, .. } = *packing;
    if !wanted(&layer.media_type, packing) {
        return Ok(layer);
    }
    if let Some(known) = known(shelf, &layer.diff_id, compression, level).await? {
        return Ok(known);
    }
    let _span = tracing::info_span!("recompress", layer = %layer.digest, bytes = layer.size);
    let from = shelf.blobs.read(&layer.digest, 0, None).await?;
    let made = recompress_blob(shelf.blobs, from, &layer.diff_id, compression, level).await;
    let (digest, size) =
        made.map_err(|e| Fault::new(Class::Unavailable, format!("cannot compress layer {} anew: {e}", layer.digest)))?;
    let media_type = compression.media_type().to_owned();
    let made = LayerInfo { media_type, digest, size, diff_id: layer.diff_id };
    keep(shelf, &made, compression, level).await?;
    Ok(made)
}

/// Layers of an image, those of its base among them, as they are to be written.
pub async fn layers(shelf: Shelf<'_>, layers: Vec<LayerInfo>, packing: &Packing) -> Result<Vec<LayerInfo>> {
    let mut made = Vec::with_capacity(layers.len());
    for one in layers {
        // Each is compressed on all processors.
        made.push(layer(shelf, one, packing).await?);
    }
    Ok(made)
}

/// The same plan on a base whose layers are as they are to be written; `None` where they are already.
pub async fn base(shelf: Shelf<'_>, lowered: &Lowered, packing: &Packing) -> Result<Option<Lowered>> {
    let Some(base) = lowered.base.as_ref() else { return Ok(None) };
    if !base.layers.iter().any(|layer| wanted(&layer.media_type, packing)) {
        return Ok(None);
    }
    let mut base = base.clone();
    for (descriptor, diff_id) in base.layers.iter_mut().zip(&base.config.rootfs.diff_ids) {
        let diff_id =
            diff_id.parse().map_err(|_| Fault::usage(format!("{}: `{diff_id}` is no digest of a layer", base.name)))?;
        repacked(shelf, descriptor, diff_id, packing).await?;
    }
    Ok(Some(Lowered { base: Some(base), ..lowered.clone() }))
}

async fn repacked(
    shelf: Shelf<'_>,
    descriptor: &mut image::registry::Descriptor,
    diff_id: Digest,
    packing: &Packing,
) -> Result<()> {
    let (media_type, digest) = (descriptor.media_type.clone(), descriptor.digest.clone());
    let made = layer(shelf, LayerInfo { media_type, digest, size: descriptor.size, diff_id }, packing).await?;
    if made.digest != descriptor.digest {
        // What else was said of it was said of other bytes.
        (descriptor.annotations, descriptor.urls, descriptor.data) = (None, None, None);
    }
    (descriptor.media_type, descriptor.digest, descriptor.size) = (made.media_type, made.digest, made.size);
    Ok(())
}

/// An image of the store, or an index of several, compressed anew into [`PASSING`]: all else stays as it is. Gives its digest, which is
/// another one as soon as a layer is.
pub async fn image(home: &Home, repository: &str, digest: &Digest, packing: &Packing) -> Result<Digest> {
    document(home, repository, digest, packing, 0).await
}

async fn document(home: &Home, repository: &str, digest: &Digest, packing: &Packing, depth: usize) -> Result<Digest> {
    let unavailable = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    let broken = |e: serde_json::Error| Fault::from_error(Class::Unavailable, &e);
    if depth > DEEPEST {
        return Err(Fault::usage(format!("{repository}@{digest} nests indexes too deep")));
    }
    let (info, content) = home.registry.manifest(repository, digest).await.map_err(unavailable)?;
    let (parsed, media_type) = Document::parse(&info.media_type, &content).map_err(unavailable)?;
    let mut text: Value = serde_json::from_slice(&content).map_err(broken)?;
    let mut changed = false;
    for (at, child) in parsed.manifests.iter().flatten().enumerate() {
        let made = Box::pin(document(home, repository, &child.digest, packing, depth + 1)).await?;
        if made != child.digest {
            let size = home.blobs.size(&made).await?.unwrap_or(0);
            (text["manifests"][at]["digest"], text["manifests"][at]["size"]) = (made.as_str().into(), size.into());
            changed = true;
        }
    }
    let layers = parsed.layers.as_deref().unwrap_or_default();
    if let Some(config) = parsed.config.as_ref().filter(|_| layers.iter().any(|one| wanted(&one.media_type, packing))) {
        let config = store::blobs::get(&*home.blobs, &config.digest, MOST_CONFIG).await?;
        let config: Value = serde_json::from_slice(&config).map_err(broken)?;
        for (at, descriptor) in layers.iter().enumerate() {
            let diff_id = config["rootfs"]["diff_ids"][at].as_str().and_then(|id| id.parse().ok());
            let diff_id =
                diff_id.ok_or_else(|| Fault::usage(format!("{repository}@{digest} has more layers than it names")))?;
            let mut made = descriptor.clone();
            repacked(home.shelf(), &mut made, diff_id, packing).await?;
            if made == *descriptor {
                continue;
            }
            if media_type == media::DOCKER_MANIFEST {
                made.media_type = docker(packing.compression)?.to_owned();
            }
            text["layers"][at] = serde_json::to_value(&made).map_err(broken)?;
            changed = true;
        }
    }
    let content = if changed { text.to_string().into() } else { content };
    let put = home.registry.put_image(PASSING, &[], &media_type, content).await;
    Ok(put.map_err(unavailable)?.digest)
}

fn docker(compression: Compression) -> Result<&'static str> {
    match compression {
        Compression::None => Ok(media::DOCKER_LAYER),
        Compression::Gzip => Ok(media::DOCKER_LAYER_GZIP),
        Compression::Zstd => Err(Fault::usage("the image has Docker's media types, which have no zstd")
            .hint("use gzip, or build it without oci-mediatypes=false")),
    }
}

/// Takes away what [`image`] left; its layers stay for the next time, until `prune`.
pub async fn forget(home: &Home) -> Result<()> {
    for digest in home.manifests(PASSING).await? {
        let removed = home.registry.delete_manifest(PASSING, &digest).await;
        removed.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_anew() {
        let packing = |compression, below| Packing { compression, below, ..Packing::default() };
        for (media_type, compression, below, anew) in [
            (media::OCI_LAYER_ZSTD, Compression::Gzip, Below::Kept, false),
            (media::OCI_LAYER_ZSTD, Compression::Gzip, Below::NoZstd, true),
            (media::DOCKER_LAYER_ZSTD, Compression::None, Below::NoZstd, true),
            (media::OCI_LAYER_GZIP, Compression::None, Below::NoZstd, false),
            (media::OCI_LAYER_GZIP, Compression::Zstd, Below::All, true),
            (media::DOCKER_LAYER_GZIP, Compression::Gzip, Below::All, false),
            (media::OCI_LAYER, Compression::Gzip, Below::All, true),
            ("application/vnd.in-toto+json", Compression::Gzip, Below::All, false),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::Gzip, Below::All, false),
        ] {
            assert_eq!(wanted(media_type, &packing(compression, below)), anew, "{media_type} {below:?}");
        }
    }
}
