//! Every call to a store fails once, in the middle of everything that the registry does: it is an error, nothing is half there, and doing it
//! again works.

mod support;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use image::{
    Kind, Registry,
    registry::{
        Document, Limits, ManifestRef,
        cleanup::{Cleanup, Keep, Retention},
    },
};
use records::Digest;
use store::{
    BlobReader, BlobWriter, Blobs, Change, Entry, Error, LeasedBlobs, Log, MemoryBlobs, MemoryLog, Page, Result, Seq,
};
use support::{clock, push_image};
use tokio::sync::watch;

/// Counts calls; the one that it comes to fails.
#[derive(Clone)]
struct Fuse(Arc<AtomicUsize>);

impl Fuse {
    fn call(&self) -> Result<()> {
        if self.0.fetch_sub(1, Ordering::Relaxed) != 1 {
            return Ok(());
        }
        Err(Error::new(store::Kind::Io, "the store is away"))
    }
}

struct FaultyLog(Arc<MemoryLog>, Fuse);

#[async_trait]
impl Log for FaultyLog {
    async fn append(&self, changes: Vec<Change>) -> Result<Seq> {
        self.1.call()?;
        self.0.append(changes).await
    }

    async fn get(&self, kind: &str, key: &str) -> Result<Option<Entry>> {
        self.1.call()?;
        self.0.get(kind, key).await
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        self.1.call()?;
        self.0.list(kind, prefix, after, limit).await
    }

    async fn changes(&self, kind_prefix: &str, after: Seq, limit: usize) -> Result<Vec<Entry>> {
        self.1.call()?;
        self.0.changes(kind_prefix, after, limit).await
    }

    async fn kinds(&self, prefix: &str) -> Result<Vec<String>> {
        self.1.call()?;
        self.0.kinds(prefix).await
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.0.head()
    }

    async fn compact(&self, kind_prefix: &str, upto: Seq) -> Result<()> {
        self.0.compact(kind_prefix, upto).await
    }
}

struct FaultyBlobs(MemoryBlobs, Fuse);

struct FaultyWriter(Box<dyn BlobWriter>, Fuse);

#[async_trait]
impl BlobWriter for FaultyWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.1.call()?;
        self.0.write(chunk).await
    }

    fn written(&self) -> u64 {
        self.0.written()
    }

    async fn digest(&mut self) -> Result<Digest> {
        self.0.digest().await
    }

    async fn finish(self: Box<Self>, expected: Option<&Digest>) -> Result<Digest> {
        self.1.call()?;
        self.0.finish(expected).await
    }
}

#[async_trait]
impl Blobs for FaultyBlobs {
    async fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        self.1.call()?;
        Ok(Box::new(FaultyWriter(self.0.writer().await?, self.1.clone())))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.1.call()?;
        self.0.size(digest).await
    }

    async fn read(&self, digest: &Digest, offset: u64, length: Option<u64>) -> Result<BlobReader> {
        self.1.call()?;
        self.0.read(digest, offset, length).await
    }

    fn path(&self, _: &Digest) -> Option<std::path::PathBuf> {
        None
    }

    async fn adopt(&self, _: &Path, _: &Digest) -> Result<bool> {
        Ok(false)
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.1.call()?;
        self.0.delete(digest).await
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        self.1.call()?;
        self.0.list().await
    }
}

struct World {
    faulty: Registry,
    sound: Registry,
    fuse: Fuse,
}

async fn world() -> World {
    let (log, blobs) = (Arc::new(MemoryLog::new()), MemoryBlobs::new());
    let fuse = Fuse(Arc::new(AtomicUsize::new(usize::MAX / 2)));
    let registry = |log: Arc<dyn Log>, blobs: Arc<dyn Blobs>| {
        let blobs = Arc::new(LeasedBlobs::new(blobs, clock()));
        Registry::with_limits(blobs, log, "/nonexistent", clock(), Limits::default())
    };
    let faulty =
        registry(Arc::new(FaultyLog(log.clone(), fuse.clone())), Arc::new(FaultyBlobs(blobs.clone(), fuse.clone())));
    World { faulty, sound: registry(log, Arc::new(blobs)), fuse }
}

impl World {
    /// Everything that there is can be pulled.
    async fn check(&self, after: &str) {
        for repository in self.sound.repositories(None, 100).await.unwrap().names {
            for (tag, digest, _) in self.sound.tagged(&repository).await.unwrap() {
                let found = self.sound.find_manifest(&repository, &ManifestRef::Tag(tag.clone())).await;
                assert!(found.is_ok(), "{after}: {repository}:{tag} stands for {digest}");
            }
            for digest in self.sound.manifests(&repository).await.unwrap() {
                let (info, content) = self.sound.manifest(&repository, &digest).await.unwrap();
                let (document, _) = Document::parse(&info.media_type, &content).unwrap();
                for named in document.contents() {
                    let size = self.sound.blob_size(&repository, &named.digest).await.unwrap();
                    assert_eq!(size, Some(named.size), "{after}: {digest} names {}", named.digest);
                }
            }
        }
    }
}

async fn push(registry: &Registry) -> image::Result<()> {
    let config = registry.put_blob("a/app", "{}").await?;
    let layer = registry.put_blob("a/app", "layer").await?;
    let describe = |blob: &image::registry::StoredBlob| serde_json::json!({ "mediaType": "application/x", "digest": blob.digest, "size": blob.size });
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": image::media::OCI_MANIFEST, "config": describe(&config), "layers": [describe(&layer)] });
    let pushed = registry.put_manifest("a/app", &["v1", "v2"], None, "", manifest.to_string()).await?;
    registry.link_blob("a/other", &layer.digest).await?;
    registry.attach("a/app", &pushed.digest, "application/x.note", vec![], Default::default()).await?;
    Ok(())
}

async fn delete(registry: &Registry) -> image::Result<()> {
    let digest = match registry.resolve("b/app", "v1").await {
        Err(error) if error.kind == Kind::ManifestUnknown => return Ok(()),
        other => other?,
    };
    registry.delete_tag("b/app", "v2").await.or_else(|error| match error.kind {
        Kind::ManifestUnknown => Ok(()),
        _ => Err(error),
    })?;
    registry.delete_manifest("b/app", &digest).await?;
    registry.delete_repository("b/gone").await.or_else(|error| match error.kind {
        Kind::NameUnknown => Ok(()),
        _ => Err(error),
    })
}

async fn clean(registry: &Registry) -> image::Result<()> {
    let keep = vec![Keep { tags: "*".into(), last: Some(1), younger_s: None }];
    let rule = Retention { keep, untagged_s: Some(0) };
    let in_use = BTreeSet::new();
    let cleanup = Cleanup {
        dry_run: false,
        grace: Duration::ZERO,
        lease: Duration::ZERO,
        retention: &|_| Some(rule.clone()),
        speaking: &[],
        in_use: &in_use,
    };
    let later = clock()().checked_add(Duration::from_secs(3600)).unwrap();
    let report = registry.clean_up(&cleanup, later).await?;
    match report.failed {
        0 => Ok(()),
        // What could not be cleaned up is counted, and the rest is done.
        _ => Err(image::Error::new(Kind::Io, "some of it failed")),
    }
}

async fn prepare(world: &World) {
    let registry = &world.sound;
    for (repository, tag, layer) in [("b/app", "v1", "one"), ("b/app", "v2", "two"), ("b/gone", "v1", "three")] {
        push_image(registry, repository, &[tag], layer).await;
    }
}

#[tokio::test]
async fn every_call_fails_once() {
    for what in ["push", "delete", "clean"] {
        let mut nth = 1;
        loop {
            let world = world().await;
            prepare(&world).await;
            let work = async |registry: &Registry| match what {
                "push" => push(registry).await,
                "delete" => delete(registry).await,
                _ => clean(registry).await,
            };
            world.fuse.0.store(nth, Ordering::Relaxed);
            let done = work(&world.faulty).await;
            let left = world.fuse.0.swap(usize::MAX / 2, Ordering::Relaxed);
            let burnt = left == 0 || left > usize::MAX / 2;
            world.check(&format!("{what}, call {nth}")).await;
            if !burnt {
                assert!(done.is_ok(), "{what}: {done:?}");
                break;
            }
            let again = work(&world.faulty).await;
            assert!(again.is_ok(), "{what}, after call {nth}: {again:?}");
            world.check(&format!("{what} again, call {nth}")).await;
            nth += 1;
        }
        assert!(nth > 5, "{what} makes calls: {nth}");
        println!("{what}: {nth} calls, each failed once");
    }
}
