//! What the integration tests share.
#![allow(dead_code)]

pub mod archive;

use std::sync::Arc;

use image::Registry;
use records::Timestamp;
use store::Blobs;

/// A registry in memory.
pub struct Store {
    pub dir: tempfile::TempDir,
    pub registry: Registry,
    pub blobs: Arc<dyn Blobs>,
}

impl Store {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs: Arc<dyn Blobs> = Arc::new(store::memory::MemoryBlobs::new());
        let log = Arc::new(store::memory::MemoryLog::new());
        let registry = Registry::new(blobs.clone(), log, dir.path().join("uploads"), Arc::new(now));
        Self { dir, registry, blobs }
    }
}

/// The wall clock, which tests against the real archive need.
pub fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods)]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_second(now.as_secs() as i64).unwrap()
}
