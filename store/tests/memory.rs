//! The memory backends pass the contract.

use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn log() {
    store::contract::log(Arc::new(store::MemoryLog::new())).await;
}

#[tokio::test]
async fn blobs() {
    store::contract::blobs(Arc::new(store::MemoryBlobs::new())).await;
}

#[tokio::test]
async fn leased() {
    let clock = std::sync::Arc::new(|| "2026-11-20T12:00:00Z".parse().unwrap());
    let inner = Arc::new(store::MemoryBlobs::new());
    store::contract::blobs(Arc::new(store::LeasedBlobs::new(inner, clock))).await;
}
