//! The directory backend passes the contract, and keeps its directory clean.

use std::{fs, sync::Arc};

use futures::{StreamExt, TryStreamExt};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_large_store_is_listed_a_page_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = DirectoryBlobs::open(dir.path()).await.unwrap();
    let mut expected = Vec::new();
    for (algorithm, length, count) in [("sha256", 64, 2500), ("sha512", 128, 3)] {
        for number in 0..count {
            let hex = format!("{number:0length$x}");
            fs::write(dir.path().join(algorithm).join(&hex), "").unwrap();
            expected.push(format!("{algorithm}:{hex}").parse().unwrap());
        }
    }
    let pages: Vec<Vec<records::Digest>> = blobs.pages().try_collect().await.unwrap();
    assert!(pages.iter().all(|page| page.len() <= 1000), "nobody holds all of it");
    let mut found = pages.concat();
    found.sort();
    expected.sort();
    assert!(found == expected);
    let mut some = blobs.pages();
    assert_eq!(some.next().await.unwrap().unwrap().len(), 1000);
    // Who does not want the rest lets it be.
    drop(some);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_file_is_taken_over_or_left_to_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = DirectoryBlobs::open(dir.path().join("blobs")).await.unwrap();
    let digest = store::blobs::put(&blobs, "the same").await.unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "the same").unwrap();
    assert!(blobs.adopt(&file, &digest).await.unwrap());
    assert!(file.exists(), "the content was there");
    blobs.delete(&digest).await.unwrap();
    blobs.adopt_soon(&file, &digest).await.unwrap().unwrap().settle().await.unwrap();
    assert!(!file.exists());
    assert_eq!(blobs.size(&digest).await.unwrap(), Some(8));
    fs::write(&file, "the same").unwrap();
    assert!(blobs.adopt_soon(&dir.path().join("none"), &digest).await.unwrap().is_some(), "nothing needs to be moved");
    fs::remove_dir_all(dir.path().join("blobs/sha256")).unwrap();
    assert!(blobs.adopt(&file, &digest).await.is_err());
    assert!(file.exists(), "what could not be taken over is its owner's");
}
