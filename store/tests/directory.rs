//! The directory backend passes the contract, and keeps its directory clean.

use std::{fs, sync::Arc};

use store::{Blobs, DirectoryBlobs};

#[tokio::test(flavor = "multi_thread")]
async fn contract() {
    let dir = tempfile::tempdir().unwrap();
    store::contract::blobs(Arc::new(DirectoryBlobs::open(dir.path()).await.unwrap())).await;
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "no temporary file is left");
}

#[tokio::test]
async fn strays_are_swept_when_nobody_else_writes() {
    let dir = tempfile::tempdir().unwrap();
    let first = DirectoryBlobs::open(dir.path()).await.unwrap();
    let digest = store::blobs::put(&first, "kept").await.unwrap();
    let stray = dir.path().join("tmp/stray");
    fs::write(&stray, "half").unwrap();
    fs::write(dir.path().join("sha256/README"), "not a blob").unwrap();

    let second = DirectoryBlobs::open(dir.path()).await.unwrap();
    assert!(stray.exists(), "it may be what the first one is writing");
    drop((first, second));

    let third = DirectoryBlobs::open(dir.path()).await.unwrap();
    assert!(!stray.exists());
    assert_eq!(third.list().await.unwrap(), [digest]);
}
