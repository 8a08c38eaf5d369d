//! A registry on loopback for the tests.

#![allow(dead_code)] // Each test uses its part.

use std::{path::Path, sync::Arc};

use image::{
    Clock, Registry,
    registry::{
        Limits,
        http::{AllowAll, Authorize, Extras, Listener, Patience, router_with, serve as serve_on},
    },
};
use store::{Blobs, DirectoryBlobs, Log, MemoryBlobs, MemoryLog, SqliteLog};
use tempfile::TempDir;

/// A served registry. It ends when dropped.
pub struct Served {
    pub registry: Registry,
    /// For example `127.0.0.1:40123`.
    pub host: String,
    pub directory: TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which stores a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    Memory,
    Disk,
}

pub const ALL: [Stores; 2] = [Stores::Memory, Stores::Disk];

pub fn clock() -> Clock {
    Arc::new(|| "2026-11-20T12:00:00Z".parse().unwrap())
}

pub async fn open(stores: Stores, directory: &Path, limits: Limits, clock: Clock) -> Registry {
    let (blobs, log): (Arc<dyn Blobs>, Arc<dyn Log>) = match stores {
        Stores::Memory => (Arc::new(MemoryBlobs::new()), Arc::new(MemoryLog::new())),
        Stores::Disk => (
            Arc::new(DirectoryBlobs::open(directory.join("blobs")).await.unwrap()),
            Arc::new(SqliteLog::open(directory.join("records.db")).await.unwrap()),
        ),
    };
    Registry::with_limits(blobs, log, directory.join("uploads"), clock, limits)
}

pub async fn serve(stores: Stores) -> Served {
    serve_with(stores, Limits::default(), Arc::new(AllowAll)).await
}

pub async fn serve_with(stores: Stores, limits: Limits, authorize: Arc<dyn Authorize>) -> Served {
    let directory = TempDir::new().unwrap();
    let registry = open(stores, directory.path(), limits, clock()).await;
    serve_registry(registry, authorize, directory).await
}

pub async fn serve_registry(registry: Registry, authorize: Arc<dyn Authorize>, directory: TempDir) -> Served {
    serve_extras(registry, authorize, Extras::default(), directory).await
}

pub async fn serve_extras(
    registry: Registry,
    authorize: Arc<dyn Authorize>,
    extras: Extras,
    directory: TempDir,
) -> Served {
    serve_patiently(registry, authorize, extras, directory, Patience::default()).await
}

pub async fn serve_patiently(
    registry: Registry,
    authorize: Arc<dyn Authorize>,
    extras: Extras,
    directory: TempDir,
    patience: Patience,
) -> Served {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let app = router_with(registry.clone(), authorize, extras);
    let listener = Listener::with_patience(listener, patience);
    let task = tokio::spawn(async move { serve_on(listener, app, std::future::pending()).await });
    Served { registry, host, directory, task }
}

/// An image of one layer in `repository`; gives its digest and that of its layer.
pub async fn push_image(
    registry: &Registry,
    repository: &str,
    tags: &[&str],
    layer: &str,
) -> (records::Digest, records::Digest) {
    let config = registry.put_blob(repository, format!(r#"{{"of":"{layer}"}}"#)).await.unwrap();
    let layer = registry.put_blob(repository, layer.to_owned()).await.unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": image::media::OCI_MANIFEST,
        "config": { "mediaType": image::media::OCI_CONFIG, "digest": config.digest, "size": config.size },
        "layers": [{ "mediaType": image::media::OCI_LAYER, "digest": layer.digest, "size": layer.size }],
    });
    let pushed = registry.put_manifest(repository, tags, None, "", manifest.to_string()).await.unwrap();
    (pushed.digest, layer.digest)
}
