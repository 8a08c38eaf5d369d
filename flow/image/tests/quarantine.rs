//! Quarantine and copies of other registries: what may be handed out, and what is when the other one is away.

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use image::{
    Registry,
    client::{Client, Options},
    media,
    registry::{
        Limits, Quarantine, Settings, Upstream,
        gate::{Gate, Verdict},
        http::{AllowAll, Door, Extras},
        robots::{Grant, Verb},
        upstream::Upstreams,
    },
};
use records::{Digest, Policy, Timestamp};
use serde_json::{Value, json};
use store::{Change, Expect, Log, MemoryBlobs, MemoryLog};
use support::{Served, Stores, clock, open, push_image, serve, serve_extras};
use tempfile::TempDir;

/// Says what it was told; nothing is known of the rest.
#[derive(Default)]
struct Judge(Mutex<HashMap<Digest, Verdict>>);

#[async_trait]
impl Gate for Judge {
    async fn verdict(&self, _: &Policy, _: &str, digest: &Digest) -> Result<Verdict, String> {
        let known = self.0.lock().unwrap().get(digest).cloned();
        Ok(known.unwrap_or_else(|| Verdict::Missing(vec!["it has no vulnerability scan".into()])))
    }
}

impl Judge {
    fn say(&self, digest: &Digest, verdict: Verdict) {
        self.0.lock().unwrap().insert(digest.clone(), verdict);
    }
}

struct World {
    served: Served,
    judge: Arc<Judge>,
    log: Arc<MemoryLog>,
    http: reqwest::Client,
}

async fn world(wait_s: u64) -> World {
    let log = Arc::new(MemoryLog::new());
    let directory = TempDir::new().unwrap();
    let registry = Registry::new(Arc::new(MemoryBlobs::new()), log.clone(), directory.path().join("uploads"), clock());
    let quarantine = Some(Quarantine { policy: Policy::default(), wait_s });
    registry.set_settings("team", Some(&Settings { quarantine, ..Settings::default() })).await.unwrap();
    let judge = Arc::new(Judge::default());
    let door = Door::new(registry.clone(), Arc::new(|text| text == "root")).unwrap();
    let extras = Extras { gate: Some(judge.clone()), ..Extras::default() };
    let served = serve_extras(registry, Arc::new(door), extras, directory).await;
    World { served, judge, log, http: reqwest::Client::new() }
}

impl World {
    async fn status(&self, path: &str, who: Option<(&str, &str)>) -> (u16, String) {
        let request = self.http.get(format!("http://{}/v2/{path}", self.served.host));
        let request = match who {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn closed(&self, path: &str) -> String {
        let (status, body) = self.status(path, None).await;
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        assert_eq!((status, body["errors"][0]["code"].as_str()), (403, Some("DENIED")), "{path}");
        body["errors"][0]["message"].as_str().unwrap().to_owned()
    }

    async fn open(&self, path: &str) {
        let (status, body) = self.status(path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_out_before_its_verdict_is_good() {
    let world = world(0).await;
    let registry = &world.served.registry;
    let (digest, layer) = push_image(registry, "team/app", &["v1"], "one").await;
    let (other, _) = push_image(registry, "team/app", &["v2"], "two").await;
    let why = world.closed("team/app/manifests/v1").await;
    assert!(
        why.contains("it has no vulnerability scan") && why.contains(&format!("/images/team/app@{digest}")),
        "{why}"
    );
    world.closed(&format!("team/app/manifests/{digest}")).await;
    world.closed(&format!("team/app/blobs/{layer}")).await;
    world.closed(&format!("team/app/blobs/{digest}")).await;
    let (status, _) = world.status("team/app/manifests/v1", Some(("admin", "root"))).await;
    assert_eq!(status, 403, "nobody but the scanner");
    let unknown = registry.put_blob("team/app", "of no image").await.unwrap().digest;
    world.closed(&format!("team/app/blobs/{unknown}")).await;
    // Nor by way of another repository.
    let mount = format!("http://{}/v2/free/blobs/uploads/?mount={layer}&from=team/app", world.served.host);
    let mounted = world.http.post(mount).basic_auth("admin", Some("root")).send().await.unwrap();
    assert_eq!(mounted.status(), 202, "an upload is begun instead");
    assert!(registry.blob_size("free", &layer).await.unwrap().is_none());

    let grants = vec![Grant { repository: "*".into(), actions: vec![Verb::Pull] }];
    let (_, secret) = registry.create_robot("team", "scanner", grants.clone(), true, None).await.unwrap();
    let scanner = Some(("team+scanner", secret.as_str()));
    for path in ["team/app/manifests/v1".to_owned(), format!("team/app/blobs/{layer}")] {
        assert_eq!(world.status(&path, scanner).await.0, 200, "{path}");
    }
    let (_, secret) = registry.create_robot("team", "ci", grants, false, None).await.unwrap();
    assert_eq!(world.status("team/app/manifests/v1", Some(("team+ci", &secret))).await.0, 403);

    world.judge.say(&digest, Verdict::Good);
    world.open("team/app/manifests/v1").await;
    world.open(&format!("team/app/blobs/{layer}")).await;
    world.closed(&format!("team/app/manifests/{other}")).await;
    // A verdict that turns bad closes it again.
    world.judge.say(&digest, Verdict::Bad(vec!["CVE-1 is critical".into()]));
    assert!(world.closed("team/app/manifests/v1").await.contains("CVE-1 is critical"));
    world.closed(&format!("team/app/blobs/{layer}")).await;
    // The layer is in a good image, too.
    let (_, manifest) = registry.manifest("team/app", &digest).await.unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["annotations"] = json!({ "a": "b" });
    let good = registry.put_manifest("team/app", &[], None, "", manifest.to_string()).await.unwrap().digest;
    world.judge.say(&good, Verdict::Good);
    world.open(&format!("team/app/blobs/{layer}")).await;
    // Other repositories know nothing of it.
    push_image(registry, "free/app", &["v1"], "one").await;
    world.open("free/app/manifests/v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_and_referrers_follow_their_images() {
    let world = world(0).await;
    let registry = &world.served.registry;
    let (amd, _) = push_image(registry, "team/app", &[], "amd").await;
    let (arm, _) = push_image(registry, "team/app", &[], "arm").await;
    let entry =
        |digest: &Digest, size: u64| json!({ "mediaType": media::OCI_MANIFEST, "digest": digest, "size": size });
    let size = |info: Option<image::registry::ManifestInfo>| info.unwrap().size;
    let sizes = (
        size(registry.manifest_info("team/app", &amd).await.unwrap()),
        size(registry.manifest_info("team/app", &arm).await.unwrap()),
    );
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry(&amd, sizes.0), entry(&arm, sizes.1)] });
    registry.put_manifest("team/app", &["multi"], None, "", index.to_string()).await.unwrap();
    let signature =
        registry.attach("team/app", &amd, "application/x.signature", vec![], Default::default()).await.unwrap();
    world.closed("team/app/manifests/multi").await;
    world.closed(&format!("team/app/manifests/{signature}")).await;
    world.judge.say(&amd, Verdict::Good);
    world.open("team/app/manifests/multi").await;
    world.open(&format!("team/app/manifests/{amd}")).await;
    world.open(&format!("team/app/manifests/{signature}")).await;
    world.closed(&format!("team/app/manifests/{arm}")).await;
    // An image that says that it refers to a good one is judged for itself.
    let (evil, _) = push_image(registry, "team/app", &[], "evil").await;
    let (_, manifest) = registry.manifest("team/app", &evil).await.unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["subject"] = entry(&amd, sizes.0);
    let evil = registry.put_manifest("team/app", &["evil"], None, "", manifest.to_string()).await.unwrap().digest;
    world.closed("team/app/manifests/evil").await;
    // The same without the type of its configuration: files are files.
    manifest["config"]["mediaType"] = json!("application/x.other");
    registry.put_manifest("team/app", &["evil2"], None, "", manifest.to_string()).await.unwrap();
    world.closed("team/app/manifests/evil2").await;
    world.judge.say(&evil, Verdict::Good);
    world.open("team/app/manifests/evil").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_for_the_verdict() {
    let world = world(120).await;
    let (digest, _) = push_image(&world.served.registry, "team/app", &["v1"], "one").await;
    let (judge, log) = (world.judge.clone(), world.log.clone());
    let begun = std::time::Instant::elapsed;
    let start = tokio::time::Instant::now().into_std();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        judge.say(&digest, Verdict::Good);
        let (kind, key) = ("evidence".into(), "x".into());
        log.append(vec![Change { kind, key, expect: Expect::Any, value: "{}".into(), delete: false }]).await.unwrap();
    });
    world.open("team/app/manifests/v1").await;
    let took = begun(&start);
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_judge_it_stays_closed() {
    let served = serve(Stores::Memory).await;
    let quarantine = Some(Quarantine { policy: Policy::default(), wait_s: 0 });
    served.registry.set_settings("", Some(&Settings { quarantine, ..Settings::default() })).await.unwrap();
    push_image(&served.registry, "a", &["v1"], "x").await;
    let answer = reqwest::get(format!("http://{}/v2/a/manifests/v1", served.host)).await.unwrap();
    assert_eq!(answer.status(), 403);
}

/// A registry that is a copy of another one below `hub`.
async fn copy(of: &Served, gate: Option<Arc<dyn Gate>>, now: Arc<AtomicI64>) -> Served {
    let directory = TempDir::new().unwrap();
    let clock: image::Clock = Arc::new(move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap());
    let registry = open(Stores::Disk, directory.path(), Limits::default(), clock).await;
    let quarantine = gate.as_ref().map(|_| Quarantine { policy: Policy::default(), wait_s: 0 });
    let upstream = Some(Upstream { from: of.host.clone(), fresh_s: 60 });
    registry.set_settings("hub", Some(&Settings { upstream, quarantine, ..Settings::default() })).await.unwrap();
    let alias = Settings { alias: Some("hub/library/node".into()), ..Settings::default() };
    registry.set_settings("node", Some(&alias)).await.unwrap();
    let client = Client::new(Options { timeout: Duration::from_secs(2), ..Options::default() }).unwrap();
    let upstreams = Some(Upstreams::new(registry.clone(), client));
    serve_extras(registry, Arc::new(AllowAll), Extras { gate, upstreams, ..Extras::default() }, directory).await
}

async fn get(served: &Served, path: &str) -> (u16, bool, String) {
    let answer = reqwest::get(format!("http://{}/v2/{path}", served.host)).await.unwrap();
    let (status, stale) = (answer.status().as_u16(), answer.headers().contains_key("warning"));
    (status, stale, answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_when_the_other_registry_is_away() {
    let origin = serve(Stores::Memory).await;
    let (one, layer) = push_image(&origin.registry, "library/node", &["v1"], "one").await;
    let (_, unasked) = push_image(&origin.registry, "library/other", &["v1"], "other").await;
    let now = Arc::new(AtomicI64::new(1_800_000_000));
    let copy = copy(&origin, None, now.clone()).await;
    assert_eq!(get(&copy, "hub/library/none/manifests/v1").await.0, 404);
    let (status, stale, body) = get(&copy, "hub/library/node/manifests/v1").await;
    assert_eq!((status, stale), (200, false), "{body}");
    assert_eq!(image::hash::digest(image::Algorithm::Sha256, body.as_bytes()), one);
    assert_eq!(get(&copy, &format!("hub/library/node/blobs/{layer}")).await, (200, false, "one".into()));
    assert_eq!(get(&copy, &format!("hub/library/node/blobs/{unasked}")).await.0, 404, "no manifest names it");
    assert_eq!(get(&copy, &format!("node/manifests/{one}")).await.0, 200, "another name for it");
    // A tag is looked up again after a while.
    let (two, _) = push_image(&origin.registry, "library/node", &["v1"], "two").await;
    assert!(get(&copy, "node/manifests/v1").await.2.contains(&layer.to_string()));
    now.fetch_add(61, Ordering::Relaxed);
    let body = get(&copy, "hub/library/node/manifests/v1").await.2;
    assert_eq!(image::hash::digest(image::Algorithm::Sha256, body.as_bytes()), two);

    drop(origin);
    now.fetch_add(3600, Ordering::Relaxed);
    let (status, stale, _) = get(&copy, "hub/library/node/manifests/v1").await;
    assert_eq!((status, stale), (200, true), "as it was");
    assert_eq!(get(&copy, &format!("hub/library/node/manifests/{one}")).await.0, 200);
    assert_eq!(get(&copy, &format!("hub/library/node/blobs/{layer}")).await.0, 200);
    let (status, _, body) = get(&copy, "hub/library/node/manifests/v9").await;
    assert!(status == 502 && body.contains("cannot reach"), "{status} {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_pull_through_a_copy_in_quarantine_is_judged_first() {
    let origin = serve(Stores::Memory).await;
    let (digest, layer) = push_image(&origin.registry, "library/node", &["v1"], "one").await;
    let judge = Arc::new(Judge::default());
    let copy = copy(&origin, Some(judge.clone()), Arc::new(AtomicI64::new(1_800_000_000))).await;
    assert_eq!(get(&copy, "hub/library/node/manifests/v1").await.0, 403);
    assert_eq!(get(&copy, &format!("hub/library/node/blobs/{layer}")).await.0, 403);
    assert_eq!(get(&copy, "node/manifests/v1").await.0, 403, "nor by its other name");
    assert_eq!(copy.registry.resolve("hub/library/node", "v1").await.unwrap(), digest, "it is here to be scanned");
    judge.say(&digest, Verdict::Good);
    assert_eq!(get(&copy, "node/manifests/v1").await.0, 200);
    assert_eq!(get(&copy, &format!("hub/library/node/blobs/{layer}")).await.0, 200);
}
