//! Images of the registry as root file systems on this machine.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use build::ImageConfig;
use image::{
    Registry,
    layer::{ApplyOptions, apply},
    registry::{Descriptor, Document},
};
use node::runtime::{ImageSource, PreparedImage};
use records::Digest;
use sandbox::Snapshots;
use tokio::sync::Mutex;
use tokio_util::io::SyncIoBridge;

/// An image whose layers are unpacked.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// The snapshot that holds all layers; `None` for an image without any.
    pub top: Option<String>,
    pub config: ImageConfig,
    pub layers: Vec<Descriptor>,
}

/// Unpacks images, each layer once. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    registry: Registry,
    snapshots: Snapshots,
    /// One lock a layer: two images that share it wait for each other there.
    unpacking: Arc<Mutex<HashMap<String, Arc<Mutex<()>>>>>,
}

impl Images {
    pub fn new(registry: Registry, snapshots: Snapshots) -> Self {
        Self { registry, snapshots, unpacking: Arc::default() }
    }

    /// Manifest, configuration and layers of an image. An error is a sentence.
    pub async fn describe(&self, repository: &str, digest: &Digest) -> Result<Unpacked, String> {
        describe(&self.registry, repository, digest).await
    }

    /// Describes an image and unpacks the layers that are not unpacked yet.
    pub async fn unpack(&self, repository: &str, digest: &Digest) -> Result<Unpacked, String> {
        let image = self.describe(repository, digest).await?;
        if image.top.as_ref().is_some_and(|top| self.snapshots.has(top)) {
            return Ok(image);
        }
        let keys = chain(&image.config);
        let mut parent: Option<String> = None;
        for ((layer, diff_id), key) in image.layers.iter().zip(&image.config.rootfs.diff_ids).zip(keys) {
            let lock = self.unpacking.lock().await.entry(key.clone()).or_default().clone();
            let held = lock.lock().await;
            if !self.snapshots.has(&key) {
                self.layer(layer, diff_id, &key, parent.clone()).await?;
            }
            drop(held);
            self.unpacking.lock().await.remove(&key);
            parent = Some(key);
        }
        Ok(image)
    }

    async fn layer(&self, layer: &Descriptor, diff_id: &str, key: &str, parent: Option<String>) -> Result<(), String> {
        let digest = layer.digest.clone();
        let reader = self.registry.blobs().read(&digest, 0, None).await;
        let reader = reader.map_err(|e| format!("cannot read layer {digest}: {e}"))?;
        let bridge = SyncIoBridge::new(reader);
        let (snapshots, key) = (self.snapshots.clone(), key.to_owned());
        let diff_id = diff_id.parse().map_err(|e| format!("layer {digest}: {e}"))?;
        let options = ApplyOptions { diff_id: Some(diff_id), absolute_links: true, ..ApplyOptions::default() };
        let unpacked = tokio::task::spawn_blocking(move || {
            snapshots.import(&key, parent.as_deref(), |directory| {
                let reader = std::io::BufReader::with_capacity(256 << 10, bridge);
                apply(reader, directory, &options).map(drop).map_err(Unpacking::Layer)
            })
        });
        let unpacked = unpacked.await.map_err(|e| format!("unpacking layer {digest} ended: {e}"))?;
        unpacked.map_err(|e| format!("cannot unpack layer {}: {e}", layer.digest))
    }
}

/// Manifest, configuration and layers of an image. An error is a sentence.
pub async fn describe(registry: &Registry, repository: &str, digest: &Digest) -> Result<Unpacked, String> {
    let said = |e: image::Error| format!("cannot read image {repository}@{digest}: {e}");
    let (info, content) = registry.manifest(repository, digest).await.map_err(said)?;
    let (document, _) = Document::parse(&info.media_type, &content).map_err(said)?;
    let config = document.config.as_ref().ok_or_else(|| {
        format!("{repository}@{digest} is an index of several platforms; name the manifest of one of them")
    })?;
    let content = store::blobs::get(&**registry.blobs(), &config.digest, 4 << 20)
        .await
        .map_err(|e| format!("cannot read the configuration of {repository}@{digest}: {e}"))?;
    let config = ImageConfig::from_json(&content)
        .map_err(|e| format!("the configuration of {repository}@{digest} cannot be used: {e}"))?;
    let layers = document.layers.unwrap_or_default();
    if layers.len() != config.rootfs.diff_ids.len() {
        return Err(format!(
            "{repository}@{digest} has {} layers but names {}",
            layers.len(),
            config.rootfs.diff_ids.len()
        ));
    }
    Ok(Unpacked { top: top(&config), config, layers })
}

/// What can fail while a layer is unpacked.
#[derive(Debug, thiserror::Error)]
enum Unpacking {
    #[error(transparent)]
    Layer(image::Error),
    #[error(transparent)]
    Snapshot(#[from] sandbox::Error),
}

/// The snapshot keys of an image's layers: the chain ids of the OCI image specification.
fn chain(config: &ImageConfig) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for diff_id in &config.rootfs.diff_ids {
        let id = match keys.last() {
            None => diff_id.clone(),
            Some(below) => {
                let below = below.trim_start_matches("layer/");
                let text = format!("{below} {diff_id}");
                let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
                let mut bytes = [0; 32];
                bytes.copy_from_slice(sum.as_ref());
                Digest::sha256(&bytes).to_string()
            }
        };
        keys.push(format!("layer/{id}"));
    }
    keys
}

fn top(config: &ImageConfig) -> Option<String> {
    chain(config).pop()
}

/// Images for the node: what a pod asks for by name is resolved like any other name, once.
pub struct PodImages {
    pub images: Images,
    pub bases: Arc<super::bases::Bases>,
}

#[async_trait]
impl ImageSource for PodImages {
    async fn prepare(&self, reference: &str) -> Result<PreparedImage, String> {
        let (repository, digest) = self.bases.hosted(reference).await.map_err(|fault| match fault.hint {
            Some(hint) => format!("{} ({hint})", fault.message),
            None => fault.message,
        })?;
        let image = self.images.unpack(&repository, &digest).await?;
        let snapshot = image.top.ok_or_else(|| format!("{repository}@{digest} has no files"))?;
        let config = image.config.config;
        let split = |entry: &String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = node::runtime::ImageConfig {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.iter().filter_map(split).collect(),
            user: config.user,
            working_dir: config.working_dir,
            stop_signal: config.stop_signal.unwrap_or_default(),
        };
        Ok(PreparedImage { repository, digest, snapshot, config })
    }
}
