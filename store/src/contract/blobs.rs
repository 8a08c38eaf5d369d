use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use records::Digest;
use tokio::io::AsyncReadExt;

use crate::{Blobs, Kind, blobs};

/// SHA-256 of nothing, from FIPS 180-4's examples.
const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// SHA-256 and SHA-512 of `abc`, from FIPS 180-4's examples.
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABC_512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

/// The whole suite, on an empty store.
pub async fn blobs(blobs: Arc<dyn Blobs>) {
    let blobs = &*blobs;
    assert!(blobs.list().await.unwrap().is_empty());
    known(blobs).await;
    wrong(blobs).await;
    large(blobs).await;
    ranges(blobs).await;
    concurrent(blobs).await;
    placing(blobs).await;
    deletion(blobs).await;
    pages(blobs).await;
}

/// The pages are the list, and nobody needs to go through all of them.
async fn pages(blobs: &dyn Blobs) {
    let mut all = blobs.list().await.unwrap();
    let pages: Vec<Vec<Digest>> = blobs.pages().try_collect().await.unwrap();
    let mut found = pages.concat();
    all.sort();
    found.sort();
    assert!(found == all && !found.is_empty(), "{} of {}", found.len(), all.len());
    let first = blobs.pages().next().await.unwrap().unwrap();
    assert!(!first.is_empty());
}

async fn write(blobs: &dyn Blobs, chunks: &[&[u8]], expected: Option<&Digest>) -> crate::Result<Digest> {
    let mut writer = blobs.writer().await?;
    for chunk in chunks {
        writer.write(Bytes::copy_from_slice(chunk)).await?;
    }
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &chunks.concat());
    assert_eq!(writer.digest().await?, blobs::sum(sum), "the digest so far");
    assert_eq!(writer.written(), chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>());
    writer.finish(expected).await
}

async fn known(blobs: &dyn Blobs) {
    assert_eq!(write(blobs, &[], None).await.unwrap().as_str(), EMPTY);
    assert_eq!(write(blobs, &[b"a", b"", b"bc"], None).await.unwrap().as_str(), ABC);
    let sha512: Digest = ABC_512.parse().unwrap();
    assert_eq!(write(blobs, &[b"abc"], Some(&sha512)).await.unwrap(), sha512);
    for (digest, content) in [(EMPTY, ""), (ABC, "abc"), (ABC_512, "abc")] {
        let digest = digest.parse().unwrap();
        assert_eq!(blobs.size(&digest).await.unwrap(), Some(content.len() as u64));
        assert_eq!(blobs::get(blobs, &digest, 3).await.unwrap(), content);
        if let Some(path) = blobs.path(&digest) {
            assert_eq!(std::fs::read(path).unwrap(), content.as_bytes());
        }
    }
    let abc = ABC.parse().unwrap();
    assert_eq!(blobs::get(blobs, &abc, 2).await.unwrap_err().kind, Kind::Corrupt, "more than was allowed");
    assert_eq!(blobs::put(blobs, "abc").await.unwrap(), abc, "again is no error");
    assert_eq!(blobs.list().await.unwrap().len(), 3);
}

async fn wrong(blobs: &dyn Blobs) {
    let before = blobs.list().await.unwrap().len();
    for (content, expected) in [("abd", ABC), ("abd", ABC_512), ("x", EMPTY)] {
        let expected = expected.parse().unwrap();
        let error = write(blobs, &[content.as_bytes()], Some(&expected)).await.unwrap_err();
        assert_eq!(error.kind, Kind::WrongDigest, "{error}");
    }
    let mut writer = blobs.writer().await.unwrap();
    writer.write(Bytes::from(vec![1; 1 << 20])).await.unwrap();
    drop(writer);
    assert_eq!(blobs.list().await.unwrap().len(), before, "nothing is kept of what failed or was given up");
    let absent = "sha256:".to_owned() + &"0".repeat(64);
    let absent: Digest = absent.parse().unwrap();
    assert_eq!(blobs.size(&absent).await.unwrap(), None);
    let Err(error) = blobs.read(&absent, 0, None).await else { panic!("it is not there") };
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.message.contains(absent.as_str()));
}

async fn large(blobs: &dyn Blobs) {
    // Neither a multiple of any buffer nor compressible to a pattern that hides an exchange of blocks.
    let content: Vec<u8> = (0..3_000_001_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let chunks: Vec<&[u8]> = content.chunks(77_777).collect();
    let sha256 = write(blobs, &chunks, None).await.unwrap();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &content);
    let sha512 = blobs::sum(sum);
    write(blobs, &chunks, Some(&sha512)).await.unwrap();
    for digest in [&sha256, &sha512] {
        assert!(blobs::get(blobs, digest, 1 << 30).await.unwrap() == content);
    }
    let tiny: Vec<&[u8]> = content[..5000].chunks(1).collect();
    let digest = write(blobs, &tiny, None).await.unwrap();
    assert!(blobs::get(blobs, &digest, 5000).await.unwrap() == content[..5000]);
}

async fn ranges(blobs: &dyn Blobs) {
    let digest = blobs::put(blobs, "0123456789").await.unwrap();
    let cases = [
        (0, None, "0123456789"),
        (3, None, "3456789"),
        (3, Some(4), "3456"),
        (8, Some(9), "89"),
        (10, None, ""),
        (99, Some(1), ""),
        (0, Some(0), ""),
    ];
    for (offset, length, expected) in cases {
        let mut read = String::new();
        blobs.read(&digest, offset, length).await.unwrap().read_to_string(&mut read).await.unwrap();
        assert_eq!(read, expected, "{offset} {length:?}");
    }
}

async fn concurrent(blobs: &dyn Blobs) {
    let content = vec![7; 600_000];
    let chunks = [&content[..]];
    let writes = (0..8).map(|_| write(blobs, &chunks, None));
    let digests = futures::future::join_all(writes).await;
    let first = digests[0].clone().unwrap();
    assert!(digests.into_iter().all(|digest| digest.unwrap() == first));
    assert_eq!(blobs.size(&first).await.unwrap(), Some(600_000));
}

/// Everybody who was told that it is stored finds it, however many bring the same.
async fn placing(blobs: &dyn Blobs) {
    for round in 0..20 {
        let content = format!("placed {round}");
        let place = async || {
            let mut writer = blobs.writer().await.unwrap();
            writer.write(content.clone().into()).await.unwrap();
            let (digest, naming) = writer.place(None).await.unwrap();
            naming.settle().await.unwrap();
            assert_eq!(blobs.size(&digest).await.unwrap(), Some(content.len() as u64));
            digest
        };
        let digests = futures::future::join_all((0..4).map(|_| place())).await;
        assert_eq!(blobs::get(blobs, &digests[0], 100).await.unwrap(), content);
    }
    let wrong = ABC.parse().unwrap();
    let mut writer = blobs.writer().await.unwrap();
    writer.write(Bytes::from_static(b"abd")).await.unwrap();
    let Err(error) = writer.place(Some(&wrong)).await else { panic!("it is another one") };
    assert_eq!(error.kind, Kind::WrongDigest, "{error}");
}

async fn deletion(blobs: &dyn Blobs) {
    let digest = blobs::put(blobs, "to be deleted").await.unwrap();
    let mut reader = blobs.read(&digest, 0, None).await.unwrap();
    blobs.delete(&digest).await.unwrap();
    blobs.delete(&digest).await.unwrap();
    assert_eq!(blobs.size(&digest).await.unwrap(), None);
    assert!(!blobs.list().await.unwrap().contains(&digest));
    let mut read = String::new();
    reader.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "to be deleted", "a reader that has begun reads to the end");
}
