//! Every call to a store fails once, in the middle of everything that the registry does: it is an error, nothing is half there, and doing it
//! again works.

mod support;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use image::{
    Algorithm, Kind, Registry,
    registry::{
        Document, Limits, ManifestRef,
        cleanup::{Cleanup, Keep, Retention},
        http::AllowAll,
    },
};
use records::Digest;
use store::{
    BlobReader, BlobWriter, Blobs, Change, Entry, Error, LeasedBlobs, Log, MemoryBlobs, MemoryLog, Page, Result, Seq,
};
use support::{clock, push_image, serve_registry};
use tempfile::TempDir;
use tokio::sync::watch;

/// Counts calls; the one that it comes to fails, and after a crash all that follow.
#[derive(Clone)]
struct Fuse(Arc<AtomicUsize>, Arc<AtomicBool>);

/// A fuse that does not burn.
const WHOLE: usize = usize::MAX;

impl Fuse {
    fn call(&self) -> Result<()> {
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match before {
            Err(_) if !self.1.load(Ordering::Relaxed) => Ok(()),
            Ok(2..) => Ok(()),
            _ => Err(Error::new(store::Kind::Io, "the store is away")),
        }
    }

    /// The n-th call from now on fails, and with `crash` everything after it.
    fn light(&self, nth: usize, crash: bool) {
        self.1.store(crash, Ordering::Relaxed);
        self.0.store(nth, Ordering::Relaxed);
    }

    /// Whether it has burnt; from now on it does not.
    fn out(&self) -> bool {
        self.1.store(false, Ordering::Relaxed);
        self.0.swap(WHOLE, Ordering::Relaxed) == 0
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
    log: Arc<MemoryLog>,
    blobs: MemoryBlobs,
    home: TempDir,
}

fn registry(log: Arc<dyn Log>, blobs: Arc<dyn Blobs>, home: &Path) -> Registry {
    let blobs = Arc::new(LeasedBlobs::new(blobs, clock()));
    Registry::with_limits(blobs, log, home.join("uploads"), clock(), Limits::default())
}

async fn world() -> World {
    let (log, blobs) = (Arc::new(MemoryLog::new()), MemoryBlobs::new());
    let (fuse, home) = (Fuse(Arc::new(AtomicUsize::new(WHOLE)), Arc::default()), TempDir::new().unwrap());
    let (faulty_log, faulty_blobs) = (FaultyLog(log.clone(), fuse.clone()), FaultyBlobs(blobs.clone(), fuse.clone()));
    let faulty = registry(Arc::new(faulty_log), Arc::new(faulty_blobs), home.path());
    let sound = registry(log.clone(), Arc::new(blobs.clone()), home.path());
    World { faulty, sound, fuse, log, blobs, home }
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
    // In parts, too.
    let content = "a blob in parts";
    let id = registry.start_upload("a/app", Algorithm::Sha256).await?;
    let part = |from: usize, to: usize| futures::stream::iter([Ok(Bytes::from(&content.as_bytes()[from..to]))]);
    registry.append_upload("a/app", &id, None, part(0, 6)).await?;
    let digest = image::hash::digest(Algorithm::Sha256, content.as_bytes());
    registry.finish_upload("a/app", &id, &digest, None, part(6, content.len())).await?;
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

async fn work(what: &str, registry: &Registry) -> image::Result<()> {
    match what {
        "push" => push(registry).await,
        "delete" => delete(registry).await,
        _ => clean(registry).await,
    }
}

/// Runs `what` with a failure at every call to a store, one after the other.
async fn at_every_call(crash: bool) {
    for what in ["push", "delete", "clean"] {
        let mut nth = 1;
        loop {
            let world = world().await;
            prepare(&world).await;
            world.fuse.light(nth, crash);
            let done = work(what, &world.faulty).await;
            let burnt = world.fuse.out();
            world.check(&format!("{what}, call {nth}")).await;
            if !burnt {
                assert!(done.is_ok(), "{what}: {done:?}");
                break;
            }
            // Who comes after a crash knows what is in the stores and nothing else.
            let after = if crash {
                registry(world.log.clone(), Arc::new(world.blobs.clone()), world.home.path())
            } else {
                world.faulty.clone()
            };
            let again = work(what, &after).await;
            assert!(again.is_ok(), "{what}, after call {nth}: {again:?}");
            world.check(&format!("{what} again, call {nth}")).await;
            nth += 1;
        }
        assert!(nth > 5, "{what} makes calls: {nth}");
        println!("{what}: {nth} calls, each failed once");
    }
}

#[tokio::test]
async fn every_call_fails_once() {
    at_every_call(false).await;
}

#[tokio::test]
async fn a_crash_at_every_call_leaves_nothing_half_there() {
    at_every_call(true).await;
}

/// What clients hear while the store is away, and that all is well when it is back.
#[tokio::test]
async fn a_store_that_is_away_is_said_as_the_specification_says() {
    let world = world().await;
    prepare(&world).await;
    let digest = world.sound.resolve("b/app", "v1").await.unwrap();
    let (_, content) = world.sound.manifest("b/app", &digest).await.unwrap();
    let served = serve_registry(world.faulty.clone(), Arc::new(AllowAll), TempDir::new().unwrap()).await;
    let http = reqwest::Client::new();
    let ask = async |method: &str, path: &str, body: Bytes| {
        let request = http.request(method.parse().unwrap(), format!("http://{}/v2/{path}", served.host));
        let request = request.header("content-type", image::media::OCI_MANIFEST).body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let blob = image::hash::digest(Algorithm::Sha256, b"one");
    let new = image::hash::digest(Algorithm::Sha256, b"new");
    let manifest = format!("b/app/manifests/{digest}");
    let requests: [(&str, String, Bytes, u16); 9] = [
        ("GET", "_catalog".into(), Bytes::new(), 200),
        ("GET", "b/app/tags/list".into(), Bytes::new(), 200),
        ("GET", "b/app/manifests/v1".into(), Bytes::new(), 200),
        ("GET", format!("b/app/blobs/{blob}"), Bytes::new(), 200),
        ("GET", format!("b/app/referrers/{digest}"), Bytes::new(), 200),
        ("POST", format!("b/app/blobs/uploads/?digest={new}"), Bytes::from("new"), 201),
        ("POST", format!("b/other/blobs/uploads/?mount={blob}&from=b/app"), Bytes::new(), 201),
        ("PUT", "b/app/manifests/v3".into(), content, 201),
        ("DELETE", manifest, Bytes::new(), 202),
    ];
    world.fuse.light(1, true);
    for (method, path, body, _) in &requests {
        let (status, text) = ask(method, path, body.clone()).await;
        assert!((500..600).contains(&status), "{method} {path}: {status} {text}");
        let error: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(error["errors"][0]["code"], "UNKNOWN", "{method} {path}: {text}");
        assert!(!text.contains("store is away"), "what fails inside is for the log");
    }
    world.fuse.out();
    world.check("away").await;
    for (method, path, body, expected) in &requests {
        let (status, text) = ask(method, path, body.clone()).await;
        assert_eq!(status, *expected, "{method} {path}: {text}");
    }
}
