//! The image that buildpacks made: its layers into the store, its configuration, its manifest.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    path::PathBuf,
};

use build::LayerInfo;
use buildpack::{
    export::{self, EPOCH, Planned, Source},
    labels::{self, Lifecycle},
};
use image::{Algorithm, Hasher, layer, media, registry::Document};
use records::Digest;
use serde_json::{Value, json};

use super::{
    super::{Made, describe, output::Packing, recompress},
    Shelf, broken,
};
use crate::fault::{Class, Fault, Result};

/// The largest configuration.
const MOST_CONFIG: u64 = 8 << 20;

/// An image of the store by its documents.
pub struct Documents {
    pub config: Value,
    /// Lowest first.
    pub layers: Vec<LayerInfo>,
    pub media_type: String,
    pub annotations: BTreeMap<String, String>,
}

/// Reads an image's configuration and layers.
pub async fn documents(shelf: Shelf<'_>, repository: &str, digest: &Digest) -> Result<Documents> {
    let wrong = |e: &(dyn std::error::Error + 'static)| Fault::from_error(Class::Unavailable, e);
    let (info, content) = shelf.registry.manifest(repository, digest).await.map_err(|e| wrong(&e))?;
    let (document, media_type) = Document::parse(&info.media_type, &content).map_err(|e| wrong(&e))?;
    let whole = || Fault::usage(format!("{repository}@{digest} is no image of one platform"));
    let config = document.config.ok_or_else(whole)?;
    let config = store::blobs::get(&**shelf.blobs, &config.digest, MOST_CONFIG).await?;
    let config: Value = serde_json::from_slice(&config)
        .map_err(|e| Fault::usage(format!("the configuration of {repository}@{digest} cannot be read: {e}")))?;
    let ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    let descriptors = document.layers.unwrap_or_default();
    if ids.len() != descriptors.len() {
        return Err(Fault::usage(format!(
            "{repository}@{digest} has {} layers and names {}",
            descriptors.len(),
            ids.len()
        )));
    }
    let mut layers = Vec::new();
    for (descriptor, id) in descriptors.into_iter().zip(&ids) {
        let diff_id = id.as_str().and_then(|id| id.parse().ok()).ok_or_else(whole)?;
        let layer =
            LayerInfo { media_type: descriptor.media_type, digest: descriptor.digest, size: descriptor.size, diff_id };
        layers.push(layer);
    }
    let manifest: Value = serde_json::from_slice(&content).unwrap_or_default();
    let annotations = serde_json::from_value(manifest["annotations"].clone()).unwrap_or_default();
    Ok(Documents { config, layers, media_type, annotations })
}

/// The image before.
pub struct Previous {
    pub lifecycle: Lifecycle,
    pub layers: HashMap<String, LayerInfo>,
}

impl Previous {
    /// An image, where buildpacks made it and all of it is there.
    pub async fn of(shelf: Shelf<'_>, repository: &str, digest: &Digest) -> Option<Self> {
        let documents = documents(shelf, repository, digest).await.ok()?;
        let lifecycle = labels::read::<Lifecycle>(&documents.config, labels::LIFECYCLE).ok()??;
        if !describe::is_whole(shelf.registry, repository, digest).await {
            return None;
        }
        let layers = documents.layers.into_iter().map(|layer| (layer.diff_id.to_string(), layer)).collect();
        Some(Self { lifecycle, layers })
    }
}

struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256), size: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Writes layers into the store; the same files are packed once.
pub struct Packer<'a> {
    pub shelf: Shelf<'a>,
    pub packing: &'a Packing,
    pub owner: (u32, u32),
    /// For what is not in the store yet.
    pub scratch: PathBuf,
}

impl Packer<'_> {
    /// The layer of a source that is not reused.
    pub async fn layer(&self, source: &Source) -> Result<LayerInfo> {
        let owner = self.owner;
        let _span = tracing::info_span!("compress");
        let sum = {
            let source = source.clone();
            blocking(move || {
                let mut tar = Hashed::new(std::io::sink());
                export::write_tar(&source, owner, EPOCH, &mut tar).map_err(broken)?;
                Ok(tar.hasher.finish())
            })
            .await?
        };
        let Packing { compression, level, .. } = self.packing.clone();
        if let Some(known) = recompress::known(self.shelf, &sum, compression, level).await? {
            return Ok(known);
        }
        let (source, scratch) = (source.clone(), self.scratch.clone());
        let packed = blocking(move || {
            let failed = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot write a layer: {e}"));
            let file = tempfile::NamedTempFile::new_in(&scratch).map_err(failed)?;
            let out = Hashed::new(std::io::BufWriter::with_capacity(512 << 10, file.reopen().map_err(failed)?));
            let mut tar = Hashed::new(layer::Writer::new(out, compression, level));
            export::write_tar(&source, owner, EPOCH, &mut tar).map_err(broken)?;
            let (diff_id, writer) = (tar.hasher.finish(), tar.inner);
            let mut out = writer.finish().map_err(failed)?;
            out.flush().map_err(failed)?;
            Ok((file, diff_id, out.hasher.finish(), out.size))
        });
        let (file, diff_id, digest, size) = packed.await?;
        if self.shelf.blobs.size(&digest).await?.is_none() && !self.shelf.blobs.adopt(file.path(), &digest).await? {
            let reader = tokio::fs::File::open(file.path()).await.map_err(super::tree::failed("open", file.path()))?;
            let stored = self.shelf.registry.store_reader(reader, Some(&digest)).await;
            stored.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        }
        let made = LayerInfo { media_type: compression.media_type().to_owned(), digest, size, diff_id };
        recompress::keep(self.shelf, &made, compression, level).await?;
        Ok(made)
    }

    /// All layers above the run image.
    pub async fn layers(&self, planned: &[Planned], previous: Option<&Previous>) -> Result<Vec<LayerInfo>> {
        let mut made = Vec::new();
        for one in planned {
            let layer = match &one.source {
                Source::Reuse(sum) => {
                    let known = previous.and_then(|previous| previous.layers.get(sum).cloned());
                    known.ok_or_else(|| {
                        Fault::new(
                            Class::Failed,
                            format!("layer {sum} is to be reused, and the image before does not have it"),
                        )
                    })?
                }
                source => self.layer(source).await?,
            };
            made.push(layer);
        }
        Ok(made)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::from_error(Class::Internal, &e))?
}

/// Docker's name for a type of layers, or OCI's.
fn layer_type(media_type: &str, docker: bool) -> &str {
    const PAIRS: [(&str, &str); 3] = [
        (media::OCI_LAYER, media::DOCKER_LAYER),
        (media::OCI_LAYER_GZIP, media::DOCKER_LAYER_GZIP),
        (media::OCI_LAYER_ZSTD, media::DOCKER_LAYER_ZSTD),
    ];
    let pair = PAIRS.iter().find(|(oci, other)| *oci == media_type || *other == media_type);
    pair.map_or(media_type, |(oci, other)| if docker { other } else { oci })
}

/// Puts an image into a repository, without a tag.
pub async fn put(
    shelf: Shelf<'_>,
    into: &str,
    config: &Value,
    layers: &[LayerInfo],
    annotations: &BTreeMap<String, String>,
    docker: bool,
) -> Result<Made> {
    let unavailable = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    let stored = shelf.registry.store(config.to_string().into_bytes()).await.map_err(unavailable)?;
    let [manifest_type, config_type] = match docker {
        false => [media::OCI_MANIFEST, media::OCI_CONFIG],
        true => [media::DOCKER_MANIFEST, media::DOCKER_CONFIG],
    };
    let layer = |layer: &LayerInfo| json!({ "mediaType": layer_type(&layer.media_type, docker), "digest": layer.digest, "size": layer.size });
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": { "mediaType": config_type, "digest": stored.digest, "size": stored.size },
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    if !docker && !annotations.is_empty() {
        manifest["annotations"] = json!(annotations);
    }
    let pushed = shelf.registry.put_image(into, &[], manifest_type, manifest.to_string().into_bytes()).await;
    Ok((into.to_owned(), pushed.map_err(unavailable)?.digest, stored.digest))
}
