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
