//! Clients and clean-ups on one registry, each a task; a scheduler drawn from a seed lets one of them go on at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use image::{
    Kind, Registry, hash, media,
    registry::{
        Document, Limits,
        cleanup::{Cleanup, Keep, Retention},
    },
};
use records::{Digest, Timestamp};
use serde_json::json;
use store::{Blobs, Change, Expect, LeasedBlobs, Log, MemoryBlobs, MemoryLog};

use super::stores::{Careless, SlowBlobs, SlowLog};
use crate::Random;

const REPOSITORIES: [&str; 3] = ["a/one", "a/two", "b"];
const HOUR: i64 = 3600;

#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub pushes: u64,
    pub mounts: u64,
    pub deletions: u64,
    pub cleanups: u64,
    pub deleted_blobs: u64,
    pub waited: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.pushes += other.pushes;
        self.mounts += other.mounts;
        self.deletions += other.deletions;
        self.cleanups += other.cleanups;
        self.deleted_blobs += other.deleted_blobs;
        self.waited += other.waited;
    }
}

/// What the tasks share.
struct Shared {
    registry: Registry,
    log: Arc<SlowLog>,
    blobs: MemoryBlobs,
    deleted: Arc<AtomicU64>,
    now: Arc<AtomicI64>,
    counts: Mutex<Counts>,
    /// Sessions under way, and when the oldest of them began: time does not pass faster than the grace allows for one of them.
    sessions: Mutex<BTreeMap<u64, i64>>,
}

pub struct World {
    random: Random,
    shared: Arc<Shared>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

fn layer(n: usize) -> Vec<u8> {
    format!("layer {n}").into_bytes()
}

fn sha256(content: &[u8]) -> Digest {
    hash::digest(hash::Algorithm::Sha256, content)
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |blobs, clock| Arc::new(LeasedBlobs::new(Arc::new(blobs), clock)))
    }

    pub fn careless(seed: u64) -> Self {
        Self::with(seed, |inner, _| Arc::new(Careless { inner }))
    }

    fn with(seed: u64, blobs: impl Fn(SlowBlobs, image::Clock) -> Arc<dyn Blobs>) -> Self {
        let now = Arc::new(AtomicI64::new(1_000_000_000));
        let clock_now = now.clone();
        let clock: image::Clock = Arc::new(move || Timestamp::from_second(clock_now.load(Ordering::Relaxed)).unwrap());
        let inner = MemoryBlobs::new();
        let deleted = Arc::new(AtomicU64::new(0));
        let slow = SlowBlobs { inner: inner.clone(), deleted: deleted.clone() };
        let log = Arc::new(SlowLog(MemoryLog::new()));
        let stores = blobs(slow, clock.clone());
        let registry = Registry::with_limits(stores, log.clone(), "/nonexistent", clock, Limits::default());
        let (counts, sessions) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { registry, log, blobs: inner, deleted, now, counts, sessions });
        Self { random: Random::new(seed), shared }
    }

    pub fn run(mut self) -> Counts {
        let mut waiting: Vec<Task> = Vec::new();
        for n in 0..12 {
            let task: Task = match self.random.below(10) {
                0..=3 => Box::pin(push(self.shared.clone(), n, self.random.below(1 << 30))),
                4 => Box::pin(attach(self.shared.clone(), self.random.below(1 << 30))),
                5 => Box::pin(remember(self.shared.clone(), n, self.random.below(1 << 30))),
                6 | 7 => Box::pin(delete(self.shared.clone(), self.random.below(1 << 30))),
                _ => Box::pin(clean(self.shared.clone(), self.random.below(1 << 30))),
            };
            waiting.push(task);
        }
        let mut tasks: Vec<Task> = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while !waiting.is_empty() || !tasks.is_empty() {
            if tasks.len() < 4 && !waiting.is_empty() && (tasks.is_empty() || self.random.below(12) == 0) {
                tasks.push(waiting.remove(0));
            }
            if self.random.below(25) == 0 {
                self.pass_time();
            }
            let chosen = self.random.below(tasks.len());
            if tasks[chosen].as_mut().poll(&mut context) == Poll::Ready(()) {
                drop(tasks.swap_remove(chosen));
            }
            self.check();
        }
        self.end(&mut context);
        let mut counts = self.shared.counts.lock().unwrap().clone();
        counts.deleted_blobs = self.shared.deleted.load(Ordering::Relaxed);
        counts
    }

    /// Up to a few hours, but no session gets older than the grace that it is promised.
    fn pass_time(&mut self) {
        let now = self.shared.now.load(Ordering::Relaxed);
        let oldest = self.shared.sessions.lock().unwrap().values().copied().min().unwrap_or(now);
        let most = (oldest + 20 * HOUR - now).max(0);
        let idle = self.shared.sessions.lock().unwrap().is_empty();
        let step = self.random.below(if idle { 90 } else { 30 }) as i64 * HOUR;
        let step = if idle { step } else { step.min(most) };
        self.shared.now.store(now + step, Ordering::Relaxed);
    }

    /// Everything that a record promises is there, at this very moment.
    fn check(&self) {
        let stored: BTreeSet<Digest> = now(self.shared.blobs.list()).unwrap().into_iter().collect();
        let all = |kind: &str| now(self.shared.log.0.list(kind, "", None, 10_000)).unwrap().entries;
        let manifests = all("registry/manifest");
        let links: BTreeSet<String> = all("registry/blob").into_iter().map(|entry| entry.key).collect();
        let known: BTreeSet<&str> = manifests.iter().map(|entry| entry.key.as_str()).collect();
        for key in links.iter().map(String::as_str).chain(known.iter().copied()) {
            let digest = key.split_once('@').unwrap().1.parse().unwrap();
            assert!(stored.contains(&digest), "the content of {key} is gone");
        }
        for key in &known {
            let (repository, digest) = key.split_once('@').unwrap();
            let content = now(store::blobs::get(&self.shared.blobs, &digest.parse().unwrap(), 1 << 20)).unwrap();
            let document: Document = serde_json::from_slice(&content).unwrap();
            for named in document.contents() {
                let link = format!("{repository}@{}", named.digest);
                // A client may delete a blob that a manifest names; then the link is gone, and that is its own doing.
                assert!(links.contains(&link) || self.was_deleted(&link), "{key} names {}", named.digest);
            }
            for named in document.children() {
                let child = format!("{repository}@{}", named.digest);
                assert!(known.contains(child.as_str()) || self.was_deleted(&child), "{key} names {child}");
            }
        }
        for tag in all("registry/tag") {
            let repository = tag.key.rsplit_once(':').unwrap().0;
            let value: serde_json::Value = serde_json::from_slice(&tag.value).unwrap();
            let key = format!("{repository}@{}", value["digest"].as_str().unwrap());
            assert!(known.contains(key.as_str()), "tag {} stands for nothing", tag.key);
        }
        for entry in all("other/room") {
            let text = String::from_utf8(entry.value.to_vec()).unwrap();
            let digest = text.split(' ').next_back().unwrap().parse().unwrap();
            assert!(stored.contains(&digest), "what another room keeps is gone: {text}");
        }
    }

    /// Whether a client deleted it by name.
    fn was_deleted(&self, key: &str) -> bool {
        now(self.shared.log.0.get("deleted", key)).unwrap().is_some()
    }

    /// When all is quiet and everything is old, what is left is what is named.
    fn end(&mut self, context: &mut Context<'_>) {
        self.shared.now.fetch_add(100 * HOUR, Ordering::Relaxed);
        for _ in 0..2 {
            let mut last: Task = Box::pin(clean(self.shared.clone(), 0));
            while last.as_mut().poll(context).is_pending() {}
        }
        self.check();
        let stored: BTreeSet<String> = now(self.shared.blobs.list()).unwrap().iter().map(Digest::to_string).collect();
        let mut named: BTreeSet<String> = BTreeSet::new();
        for kind in ["registry/manifest", "registry/blob"] {
            for entry in now(self.shared.log.0.list(kind, "", None, 10_000)).unwrap().entries {
                named.insert(entry.key.split_once('@').unwrap().1.to_owned());
            }
        }
        for entry in now(self.shared.log.0.list("other/room", "", None, 10_000)).unwrap().entries {
            named.insert(String::from_utf8(entry.value.to_vec()).unwrap().split(' ').next_back().unwrap().to_owned());
        }
        assert_eq!(stored, named, "what is left at the end");
    }
}

/// The result of work that needs nobody else.
fn now<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
            return done;
        }
    }
}

/// A client's session; while it lasts the grace holds.
struct Session(Arc<Shared>, u64);

impl Session {
    fn begin(shared: &Arc<Shared>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        shared.sessions.lock().unwrap().insert(id, shared.now.load(Ordering::Relaxed));
        Self(shared.clone(), id)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.sessions.lock().unwrap().remove(&self.1);
    }
}

fn manifest(config: &[u8], layers: &[Vec<u8>], subject: Option<&Digest>) -> String {
    let describe = |content: &[u8]| json!({ "mediaType": "application/octet-stream", "digest": sha256(content), "size": content.len() });
    let layers: Vec<_> = layers.iter().map(|layer| describe(layer)).collect();
    let mut manifest =
        json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": describe(config), "layers": layers });
    if let Some(subject) = subject {
        manifest["subject"] = json!({ "mediaType": media::OCI_MANIFEST, "digest": subject, "size": 1 });
    }
    manifest.to_string()
}

/// Pushes an image as clients do: asks for each blob, mounts or uploads it, then the manifest; sometimes an index over two.
async fn push(shared: Arc<Shared>, n: usize, draw: usize) {
    let _session = Session::begin(&shared);
    let mut random = Random::new(draw as u64);
    let registry = &shared.registry;
    let repository = REPOSITORIES[random.below(3)];
    let mut children = Vec::new();
    for _ in 0..1 + random.below(2) {
        let layers: Vec<Vec<u8>> = (0..1 + random.below(2)).map(|_| layer(random.below(4))).collect();
        let config = format!("{{\"n\":{}}}", random.below(3)).into_bytes();
        let mut again = true;
        // A blob that another client deletes in the middle of this push is that one's doing; then the client begins again.
        while std::mem::take(&mut again) {
            for content in layers.iter().chain([&config]) {
                let digest = sha256(content);
                if registry.blob_size(repository, &digest).await.unwrap().is_some() {
                    registry.renew(repository, &digest).await.unwrap();
                    if registry.blob_size(repository, &digest).await.unwrap().is_some() {
                        continue;
                    }
                }
                let other = REPOSITORIES[random.below(3)];
                if random.below(2) == 0 && registry.blob_size(other, &digest).await.unwrap().is_some() {
                    match registry.link_blob(repository, &digest).await {
                        Ok(()) => {
                            shared.counts.lock().unwrap().mounts += 1;
                            continue;
                        }
                        Err(error) => assert_eq!(error.kind, Kind::BlobUnknown, "{error}"),
                    }
                }
                let chunks = content.chunks(3).map(|chunk| Ok(bytes::Bytes::copy_from_slice(chunk)));
                let chunks: Vec<_> = chunks.collect();
                registry.put_stream(repository, futures::stream::iter(chunks), &digest).await.unwrap();
            }
            let text = manifest(&config, &layers, None);
            let tags: &[&str] = if random.below(3) == 0 { &["v1"] } else { &[] };
            match registry.put_manifest(repository, tags, None, "", text.clone()).await {
                Ok(pushed) => children.push((pushed.digest, text.len())),
                Err(error) => {
                    let deleted = layers.iter().chain([&config]).any(|content| {
                        let key = format!("{repository}@{}", sha256(content));
                        now(shared.log.0.get("deleted", &key)).unwrap().is_some()
                    });
                    assert!(error.kind == Kind::ManifestBlobUnknown && deleted, "push {n}: {error}");
                    again = true;
                }
            }
        }
        shared.counts.lock().unwrap().pushes += 1;
    }
    if children.len() == 2 {
        let described: Vec<_> = children
            .iter()
            .map(|(digest, size)| json!({ "mediaType": media::OCI_MANIFEST, "digest": digest, "size": size }))
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": described });
        if let Err(error) = registry.put_manifest(repository, &["multi"], None, "", index.to_string()).await {
            let deleted = children.iter().any(|(digest, _)| {
                now(shared.log.0.get("deleted", &format!("{repository}@{digest}"))).unwrap().is_some()
            });
            assert!(error.kind == Kind::ManifestBlobUnknown && deleted, "index {n}: {error}");
        }
    }
}

/// From within: content is stored first and named by an image or by a referrer later.
async fn attach(shared: Arc<Shared>, draw: usize) {
    let _session = Session::begin(&shared);
    let mut random = Random::new(draw as u64);
    let repository = REPOSITORIES[random.below(3)];
    let layers = vec![layer(random.below(6))];
    shared.registry.store(layers[0].clone()).await.unwrap();
    shared.registry.store(b"{}".to_vec()).await.unwrap();
    let subject = sha256(b"any");
    let subject = (random.below(2) == 0).then_some(&subject);
    let text = manifest(b"{}", &layers, subject);
    shared.registry.put_image(repository, &["within"], media::OCI_MANIFEST, text).await.unwrap();
}

/// Another room keeps content of its own in the same store, and says so in its own record; later it lets go of it or gives it on.
async fn remember(shared: Arc<Shared>, n: usize, draw: usize) {
    let _session = Session::begin(&shared);
    let mut random = Random::new(draw as u64);
    let digest = store::blobs::put(&**shared.registry.blobs(), layer(random.below(6))).await.unwrap();
    let change = |key: String, delete| Change {
        kind: "other/room".into(),
        key,
        expect: Expect::Any,
        value: format!("keeps {digest}").into(),
        delete,
    };
    shared.log.append(vec![change(format!("m{n}"), false)]).await.unwrap();
    // From a key that a listing reads late to one that it has read already.
    if random.below(2) == 0 {
        shared.log.append(vec![change(format!("a{n}"), false), change(format!("m{n}"), true)]).await.unwrap();
    }
    if random.below(4) == 0 {
        shared.log.append(vec![change(format!("a{n}"), true), change(format!("m{n}"), true)]).await.unwrap();
    }
}

/// A client deletes something.
async fn delete(shared: Arc<Shared>, draw: usize) {
    let mut random = Random::new(draw as u64);
    let repository = REPOSITORIES[random.below(3)];
    let kind = ["registry/manifest", "registry/blob", "registry/tag"][random.below(3)];
    let separator = if kind == "registry/tag" { ":" } else { "@" };
    let prefix = format!("{repository}{separator}");
    let found = shared.log.0.list(kind, &prefix, None, 1000).await.unwrap().entries;
    if found.is_empty() {
        return;
    }
    let key = found[random.below(found.len())].key.clone();
    let name = key.strip_prefix(&prefix).unwrap().to_owned();
    let value = Default::default();
    let note = Change { kind: "deleted".into(), key, expect: Expect::Any, value, delete: false };
    shared.log.0.append(vec![note]).await.unwrap();
    let done = match kind {
        "registry/manifest" => shared.registry.delete_manifest(repository, &name.parse().unwrap()).await,
        "registry/blob" => shared.registry.delete_blob(repository, &name.parse().unwrap()).await,
        _ => shared.registry.delete_tag(repository, &name).await,
    };
    if done.is_ok() {
        shared.counts.lock().unwrap().deletions += 1;
    }
}

/// A clean-up, with or without rules; now and then one is cut short, as by `kill -9`.
async fn clean(shared: Arc<Shared>, draw: usize) {
    let mut random = Random::new(draw as u64);
    let keep = Keep { tags: "*".into(), last: Some(random.below(3)), younger_s: None };
    let rule = Retention { keep: vec![keep], untagged_s: Some(0) };
    let with_rule = draw != 0 && random.below(2) == 0;
    let in_use = BTreeSet::new();
    let cleanup = Cleanup {
        dry_run: draw != 0 && random.below(6) == 0,
        grace: Duration::from_secs(24 * HOUR as u64),
        lease: Duration::from_secs(22 * HOUR as u64),
        retention: &|_| with_rule.then(|| rule.clone()),
        speaking: &["deleted"],
        in_use: &in_use,
    };
    let at = Timestamp::from_second(shared.now.load(Ordering::Relaxed)).unwrap();
    let before = shared.deleted.load(Ordering::Relaxed);
    let mut steps = if draw != 0 && random.below(5) == 0 { random.below(200) } else { usize::MAX };
    let mut work = Box::pin(shared.registry.clean_up(&cleanup, at));
    let done = std::future::poll_fn(|context| {
        steps = steps.saturating_sub(1);
        if steps == 0 { Poll::Ready(None) } else { work.as_mut().poll(context).map(Some) }
    })
    .await;
    drop(work);
    match done {
        Some(Ok(report)) => {
            assert!(!cleanup.dry_run || report.blobs == 0 || shared.deleted.load(Ordering::Relaxed) >= before);
            let mut counts = shared.counts.lock().unwrap();
            counts.cleanups += 1;
            counts.waited += report.waiting;
        }
        Some(Err(error)) => assert_eq!(error.kind, Kind::TooMany, "{error}"),
        None => {}
    }
}
