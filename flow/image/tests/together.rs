//! Pushes to one repository reach the disk together, and no rule suffers from that.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use image::{
    Kind, Registry, media,
    registry::{
        Settings,
        events::Events,
        http::{AllowAll, Extras},
    },
};
use serde_json::json;
use store::{Change, Entry, Log, MemoryBlobs, MemoryLog, Page, Result, Seq};
use support::{clock, push_image, serve_extras};
use tempfile::TempDir;
use tokio::{
    sync::{Barrier, watch},
    time::timeout,
};

/// A log whose next appends wait for each other.
struct Gated {
    inner: MemoryLog,
    gate: Barrier,
    /// So many appends are still to wait.
    waiting: AtomicUsize,
    appends: AtomicUsize,
}

impl Gated {
    fn new(together: usize) -> Arc<Self> {
        let (waiting, appends) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { inner: MemoryLog::new(), gate: Barrier::new(together), waiting, appends })
    }
}

#[async_trait]
impl Log for Gated {
    async fn append(&self, changes: Vec<Change>) -> Result<Seq> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        let one_less = |left: usize| left.checked_sub(1);
        if self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            self.gate.wait().await;
        }
        self.inner.append(changes).await
    }

    async fn get(&self, kind: &str, key: &str) -> Result<Option<Entry>> {
        self.inner.get(kind, key).await
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        self.inner.list(kind, prefix, after, limit).await
    }

    async fn changes(&self, kind_prefix: &str, after: Seq, limit: usize) -> Result<Vec<Entry>> {
        self.inner.changes(kind_prefix, after, limit).await
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.inner.head()
    }

    async fn compact(&self, kind_prefix: &str, upto: Seq) -> Result<()> {
        self.inner.compact(kind_prefix, upto).await
    }
}

fn registry(log: &Arc<Gated>, home: &TempDir) -> Registry {
    Registry::new(Arc::new(MemoryBlobs::new()), log.clone(), home.path().join("uploads"), clock())
}

/// A manifest that nobody has.
fn manifest(number: usize) -> String {
    json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
        "annotations": { "number": number.to_string() },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_and_manifests_of_one_repository_do_not_wait_for_each_other() {
    let (log, home) = (Gated::new(10), TempDir::new().unwrap());
    let registry = registry(&log, &home);
    // None of them is written down before all of them are about to be.
    log.waiting.store(10, Ordering::SeqCst);
    let pushes = (0..10).map(|number| registry.put_blob("team/app", format!("blob {number}")));
    let pushed = timeout(Duration::from_secs(60), futures::future::join_all(pushes)).await;
    let pushed = pushed.expect("a blob waits for another one to be written down");
    assert!(pushed.iter().all(std::result::Result::is_ok));

    log.waiting.store(10, Ordering::SeqCst);
    let tags: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
    let pushes = tags.iter().enumerate().map(|(number, tag)| {
        let registry = registry.clone();
        async move { registry.put_manifest("team/app", &[tag.as_str()], None, "", manifest(number)).await }
    });
    let pushed = timeout(Duration::from_secs(60), futures::future::join_all(pushes)).await;
    let pushed = pushed.expect("a manifest waits for another one to be written down");
    assert!(pushed.iter().all(std::result::Result::is_ok));
    assert_eq!(registry.tags("team/app", None, 100).await.unwrap().names, tags);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_stands_still_is_set_once_however_many_set_it_together() {
    let (log, home) = (Gated::new(4), TempDir::new().unwrap());
    let registry = registry(&log, &home);
    let settings = Settings { immutable_tags: vec!["v*".into()], ..Settings::default() };
    registry.set_settings("team", Some(&settings)).await.unwrap();
    for (tag, fine) in [("v1", 1), ("latest", 4)] {
        // All of them have seen that there is no such tag.
        log.waiting.store(4, Ordering::SeqCst);
        let pushes = (0..4).map(|number| {
            let registry = registry.clone();
            async move { registry.put_manifest("team/app", &[tag], None, "", manifest(number)).await }
        });
        let pushed = timeout(Duration::from_secs(60), futures::future::join_all(pushes)).await.unwrap();
        let (done, refused): (Vec<_>, Vec<_>) = pushed.into_iter().partition(std::result::Result::is_ok);
        assert_eq!(done.len(), fine, "{tag}: {refused:?}");
        assert!(refused.iter().all(|refused| refused.as_ref().is_err_and(|error| error.kind == Kind::Denied)));
        let now = registry.resolve("team/app", tag).await.unwrap();
        assert!(done.into_iter().any(|done| done.unwrap().digest == now));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_its_tags_and_its_events_are_written_down_at_once() {
    let (log, home) = (Gated::new(1), TempDir::new().unwrap());
    let registry = registry(&log, &home);
    push_image(&registry, "team/app", &[], "layer").await;
    let (events, _writing) = Events::new(registry.clone());
    let extras = Extras { events: Some(events), ..Extras::default() };
    let served = serve_extras(registry.clone(), Arc::new(AllowAll), extras, home).await;
    let before = log.appends.load(Ordering::SeqCst);
    let put = reqwest::Client::new().put(format!("http://{}/v2/team/app/manifests/v1", served.host));
    let put = put.header("content-type", media::OCI_INDEX).body(manifest(1)).send().await.unwrap();
    assert_eq!(put.status(), 201);
    assert_eq!(log.appends.load(Ordering::SeqCst) - before, 1, "each costs a way to the disk");
    let noted = registry.events("team", records::Timestamp::UNIX_EPOCH, 10).await.unwrap();
    let digest = registry.resolve("team/app", "v1").await.unwrap();
    assert_eq!(noted.len(), 1);
    assert_eq!((noted[0].tag.as_deref(), noted[0].digest.as_ref()), (Some("v1"), Some(&digest)));
    assert_eq!(
        (noted[0].media_type.as_deref(), noted[0].size),
        (Some(media::OCI_INDEX), Some(manifest(1).len() as u64))
    );
}
