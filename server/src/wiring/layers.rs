//! Layers of vertices: the files that a vertex changed, as a blob of the store.
//!
//! A layer is a pure function of what its vertex is made of and of the time that everything newer in it is dated with, so the same
//! commit gives the same layer on every machine. It is written once for each such pair and remembered.

use std::sync::Arc;

use build::export::LayerInfo;
use image::layer::{Compression, WriteOptions};
use records::Digest;
use sandbox::Snapshots;
use store::{Blobs, Change, Expect, Log};

use crate::fault::{Class, Fault, Result};

/// The kind under which layers are remembered: `<vertex>/<epoch>/<compression>`.
const LAYER: &str = "layer";

/// Where layers come from and go to.
pub struct Layers<'a> {
    pub snapshots: &'a Snapshots,
    pub blobs: &'a Arc<dyn Blobs>,
    pub log: &'a dyn Log,
    pub compression: Compression,
    /// The compression's own where none is named.
    pub level: Option<i32>,
}

impl Layers<'_> {
    /// The layer of a vertex, in the store; `None` when the vertex changed no file. `epoch` in seconds since 1970.
    pub async fn layer(&self, vertex: &str, epoch: i64) -> Result<Option<LayerInfo>> {
        let level = self.level.map(|level| format!("-{level}")).unwrap_or_default();
        let key = format!("{vertex}/{epoch}/{:?}{level}", self.compression).to_lowercase();
        if let Some(entry) = self.log.get(LAYER, &key).await? {
            let known: Kept =
                serde_json::from_slice(&entry.value).map_err(|e| Fault::from_error(Class::Internal, &e))?;
            match known.0 {
                None => return Ok(None),
                Some(layer) if self.blobs.size(&layer.digest).await?.is_some() => return Ok(Some(layer.into())),
                Some(_) => {}
            }
        }
        let directory = self.snapshots.diff(vertex).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        let options = WriteOptions { compression: self.compression, level: self.level, epoch: Some(epoch) };
        let span = tracing::info_span!("compress", vertex, bytes = tracing::field::Empty);
        let written = image::layer::write_blob(self.blobs, directory, options).await;
        if let Ok(written) = &written {
            span.record("bytes", written.tar_size);
        }
        drop(span);
        let written = written.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        let layer = (written.entries > 0).then(|| LayerInfo::from(&written));
        let kept = serde_json::to_vec(&Kept(layer.as_ref().map(KeptLayer::from)));
        let value = kept.map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
        let change = Change { kind: LAYER.into(), key, expect: Expect::Any, value, delete: false };
        self.log.append(vec![change]).await?;
        Ok(layer)
    }
}

/// Seconds since 1970 that a base image was made at: what layers are dated with that are made of nothing but it.
pub fn base_epoch(config: &build::ImageConfig) -> i64 {
    let created = config.created.as_ref().and_then(|created| created.parse::<records::Timestamp>().ok());
    created.map_or(0, |created| created.as_second().max(0))
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept(Option<KeptLayer>);

#[derive(serde::Serialize, serde::Deserialize)]
struct KeptLayer {
    media_type: String,
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

impl From<&LayerInfo> for KeptLayer {
    fn from(layer: &LayerInfo) -> Self {
        let LayerInfo { media_type, digest, size, diff_id } = layer.clone();
        Self { media_type, digest, size, diff_id }
    }
}

impl From<KeptLayer> for LayerInfo {
    fn from(kept: KeptLayer) -> Self {
        let KeptLayer { media_type, digest, size, diff_id } = kept;
        Self { media_type, digest, size, diff_id }
    }
}
