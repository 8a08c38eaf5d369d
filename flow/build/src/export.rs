//! Images into the registry: layers, configuration, manifest, tags.

use std::{collections::BTreeMap, io::Write, sync::Arc};

use bytes::Bytes;
use image::{
    Registry,
    layer::{Compression, Written},
    media,
};
use records::{Digest, ImageLayer};
use tokio::sync::mpsc;

use crate::{
    Error, Result,
    config::{History, ImageConfig},
    lower::{Lowered, ResolvedBase},
};

/// A layer that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    pub media_type: String,
    pub digest: Digest,
    /// Bytes as stored.
    pub size: u64,
    /// Of the tar in it.
    pub diff_id: Digest,
}

impl From<&Written> for LayerInfo {
    fn from(written: &Written) -> Self {
        Self {
            media_type: written.media_type.to_owned(),
            digest: written.digest.clone(),
            size: written.size,
            diff_id: written.diff_id.clone(),
        }
    }
}

/// `Ok` if an image may be pushed under this tag.
pub fn check_tag(tag: &str) -> Result<()> {
    let refused = |reason: String| Err(Error::Reference { reference: tag.chars().take(160).collect(), reason });
    if tag == "latest" {
        return refused("what `latest` is changes behind your back: use for example {commit}-{build}".into());
    }
    image::reference::check_tag(tag).or_else(|error| refused(error.to_string()))
}

/// What an export is told beside the plan.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Seconds since 1970: the time of everything in the image, normally that of the commit.
    pub epoch: i64,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Whether a tag may be `latest`.
    pub latest: bool,
    /// Docker's media types in place of OCI's. Its manifests have no annotations, so there must be none.
    pub docker: bool,
}

/// An image that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub repository: String,
    pub tags: Vec<String>,
    /// Of the manifest.
    pub digest: Digest,
    /// Bytes of all layers as stored.
    pub size: u64,
    /// Lowest first, those of the base included.
    pub layers: Vec<ImageLayer>,
}

/// Pushes what a plan described. `layers` has one entry for each of `lowered.layer_vertices`, in their order; `None` for one that changed
/// no file. The blobs of the base and of the layers must be in the store; the same input gives the same digest.
pub async fn export(
    registry: &Registry,
    repository: &str,
    tags: &[&str],
    lowered: &Lowered,
    layers: &[Option<LayerInfo>],
    options: &ExportOptions,
) -> Result<Exported> {
    tags.iter().filter(|tag| !(options.latest && **tag == "latest")).try_for_each(|tag| check_tag(tag))?;
    let (config, stack) = describe(lowered, layers, options)?;
    let infos: Vec<LayerInfo> = stack.iter().map(|(info, _)| info.clone()).collect();
    if options.docker && !options.annotations.is_empty() {
        return Err(Error::malformed("the manifest", "has annotations, which Docker's media types have no place for"));
    }
    let mut annotations = options.annotations.clone();
    if let Some(base) = &lowered.base {
        annotations.entry("org.opencontainers.image.base.name".into()).or_insert_with(|| base.repository.clone());
        annotations.entry("org.opencontainers.image.base.digest".into()).or_insert_with(|| base.digest.to_string());
    }
    let digest = match options.docker {
        false => push(registry, repository, tags, &config, &infos, &annotations).await?,
        true => push_docker(registry, repository, tags, &config, &infos).await?,
    };
    Ok(Exported {
        repository: repository.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        digest,
        size: infos.iter().map(|layer| layer.size).sum(),
        layers: stack
            .into_iter()
            .map(|(info, created_by)| ImageLayer { digest: info.digest, size: info.size, created_by })
            .collect(),
    })
}

/// The configuration and the layers of an image, each with the instruction that made it.
fn describe(
    lowered: &Lowered,
    layers: &[Option<LayerInfo>],
    options: &ExportOptions,
) -> Result<(ImageConfig, Vec<(LayerInfo, String)>)> {
    let mut config = lowered.config.clone();
    let created = records::Timestamp::from_second(options.epoch)
        .map_err(|e| Error::malformed("the time of the image", e.to_string()))?
        .to_string();
    let mut stack = match &lowered.base {
        Some(base) => base_layers(base)?,
        None => Vec::new(),
    };
    let mut made = layers.iter();
    for step in &lowered.steps {
        let layer = match step.layer {
            Some(_) => {
                made.next().ok_or_else(|| Error::malformed("the layers", "are fewer than the plan has"))?.clone()
            }
            None => None,
        };
        config.history.push(History {
            created: Some(created.clone()),
            created_by: Some(step.created_by.clone()),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        if let Some(layer) = layer {
            config.rootfs.diff_ids.push(layer.diff_id.to_string());
            stack.push((layer, step.created_by.clone()));
        }
    }
    if made.next().is_some() {
        return Err(Error::malformed("the layers", "are more than the plan has"));
    }
    config.created = Some(created);
    Ok((config, stack))
}

fn base_layers(base: &ResolvedBase) -> Result<Vec<(LayerInfo, String)>> {
    let made: Vec<String> = base
        .config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .map(|entry| entry.created_by.clone().unwrap_or_default())
        .collect();
    let mut layers = Vec::new();
    for (index, (layer, diff_id)) in base.layers.iter().zip(&base.config.rootfs.diff_ids).enumerate() {
        let diff_id = diff_id.parse().map_err(|_| Error::malformed(&base.name, "has a diff id that is no digest"))?;
        let info =
            LayerInfo { media_type: layer.media_type.clone(), digest: layer.digest.clone(), size: layer.size, diff_id };
        let created_by = made.get(index).cloned().unwrap_or_else(|| format!("FROM {}", base.name));
        layers.push((info, created_by));
    }
    Ok(layers)
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOut<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: DescriptorOut<'a>,
    layers: Vec<DescriptorOut<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorOut<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
}

/// Pushes configuration and manifest; returns the manifest's digest.
pub(crate) async fn push(
    registry: &Registry,
    repository: &str,
    tags: &[&str],
    config: &ImageConfig,
    layers: &[LayerInfo],
    annotations: &BTreeMap<String, String>,
) -> Result<Digest> {
    push_as(registry, repository, tags, config, layers, annotations, [media::OCI_MANIFEST, media::OCI_CONFIG]).await
}

/// As [`push`], with the media types of Docker's image manifest, version 2.
async fn push_docker(
    registry: &Registry,
    repository: &str,
    tags: &[&str],
    config: &ImageConfig,
    layers: &[LayerInfo],
) -> Result<Digest> {
    let layers: Vec<LayerInfo> = layers
        .iter()
        .map(|layer| LayerInfo { media_type: docker_layer(&layer.media_type).to_owned(), ..layer.clone() })
        .collect();
    let types = [media::DOCKER_MANIFEST, media::DOCKER_CONFIG];
    push_as(registry, repository, tags, config, &layers, &BTreeMap::new(), types).await
}

/// Docker's name for a type of layers.
fn docker_layer(media_type: &str) -> &str {
    match media_type {
        media::OCI_LAYER => media::DOCKER_LAYER,
        media::OCI_LAYER_GZIP => media::DOCKER_LAYER_GZIP,
        media::OCI_LAYER_ZSTD => media::DOCKER_LAYER_ZSTD,
        other => other,
    }
}

async fn push_as(
    registry: &Registry,
    repository: &str,
    tags: &[&str],
    config: &ImageConfig,
    layers: &[LayerInfo],
    annotations: &BTreeMap<String, String>,
    [manifest_type, config_type]: [&str; 2],
) -> Result<Digest> {
    let failed = |e: image::Error| Error::Registry { what: format!("cannot push {repository}"), source: Arc::new(e) };
    let config = registry.store(config.to_json()?).await.map_err(failed)?;
    let manifest = ManifestOut {
        schema_version: 2,
        media_type: manifest_type,
        config: DescriptorOut { media_type: config_type, digest: &config.digest, size: config.size },
        layers: layers
            .iter()
            .map(|layer| DescriptorOut { media_type: &layer.media_type, digest: &layer.digest, size: layer.size })
            .collect(),
        annotations,
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|e| Error::malformed("the manifest", e.to_string()))?;
    let pushed = registry.put_image(repository, tags, manifest_type, manifest).await.map_err(failed)?;
    Ok(pushed.digest)
}

/// Writes a layer straight into the store.
pub(crate) struct LayerStream;

impl LayerStream {
    /// `write` is given where to write a tar to, on a thread of its own.
    pub async fn write(
        registry: &Registry,
        write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
    ) -> Result<LayerInfo> {
        let (sender, receiver) = mpsc::channel::<image::Result<Bytes>>(8);
        let task = tokio::task::spawn_blocking(move || -> Result<Digest> {
            let packing = || Error::io("cannot pack the layer");
            let mut encoder = zstd::Encoder::new(Sink { sender, buffer: Vec::new() }, 3).map_err(packing())?;
            let mut tar = Hashed { inner: &mut encoder, hasher: image::Hasher::new(image::Algorithm::Sha256) };
            let result = write(&mut tar);
            let diff_id = tar.hasher.finish();
            let mut sink = encoder.finish().map_err(packing())?;
            match result {
                Ok(()) => sink.flush().map_err(packing())?,
                Err(error) => {
                    // The reader must not take what came so far for the whole.
                    let aborted = image::Error::new(image::Kind::Malformed, "the layer was not written to its end");
                    let _ = sink.sender.blocking_send(Err(aborted));
                    return Err(error);
                }
            }
            Ok(diff_id)
        });
        let chunks = futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
        let stored = registry.store_stream(Box::pin(chunks), None).await;
        let written = task.await.map_err(|e| Error::Io {
            what: "the layer was not packed".into(),
            source: Arc::new(std::io::Error::other(e)),
        })?;
        let diff_id = written?;
        let stored =
            stored.map_err(|e| Error::Registry { what: "cannot store the layer".into(), source: Arc::new(e) })?;
        Ok(LayerInfo {
            media_type: Compression::Zstd.media_type().to_owned(),
            digest: stored.digest,
            size: stored.size,
            diff_id,
        })
    }
}

struct Hashed<W> {
    inner: W,
    hasher: image::Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Hands chunks to the store.
struct Sink {
    sender: mpsc::Sender<image::Result<Bytes>>,
    buffer: Vec<u8>,
}

const CHUNK: usize = 256 << 10;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.sender.blocking_send(Ok(chunk.into()));
        sent.map_err(|_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the store takes no more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_refused() {
        assert!(check_tag("latest").is_err() && check_tag("a b").is_err());
        assert!(check_tag("1.2").is_ok());
    }
}
