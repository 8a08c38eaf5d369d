//! A copy of another registry: streamed while it is fetched, fetched once, never wrong, and gentle with who has had enough.

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures::StreamExt;
use image::{
    client::{Client, Options},
    hash::{self, Algorithm},
    registry::{
        Limits, ManifestRef, Settings, Upstream,
        http::{AllowAll, Extras},
        upstream::Upstreams,
    },
};
use records::{Digest, Timestamp};
use reqwest::StatusCode;
use support::{Served, Stores, open, serve_extras};
use tempfile::TempDir;
use tokio::sync::Semaphore;

const PIECE: usize = 100_000;

/// Another registry with one image, which does as it is told.
struct Other {
    host: String,
    layer: Bytes,
    digest: Digest,
    how: Arc<How>,
}

struct How {
    /// Pieces of the layer that may still be sent.
    pieces: Semaphore,
    /// Requests for the layer; the manifests that were asked for.
    asked: AtomicUsize,
    manifests: AtomicUsize,
    /// Pieces after which a connection breaks off, each once.
    breaks: Mutex<Vec<usize>>,
    /// What is answered instead of anything.
    refuses: Mutex<Option<(u16, Option<String>)>>,
    /// Whether the last byte is another one.
    wrong: bool,
}

async fn other(wrong: bool, breaks: &[usize]) -> Other {
    let layer: Vec<u8> = (0..20 * PIECE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let layer = Bytes::from(layer);
    let digest = hash::digest(Algorithm::Sha256, &layer);
    let config = hash::digest(Algorithm::Sha256, b"{}");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": image::media::OCI_MANIFEST,
        "config": { "mediaType": image::media::OCI_CONFIG, "digest": config, "size": 2 },
        "layers": [{ "mediaType": image::media::OCI_LAYER, "digest": digest, "size": layer.len() }],
    });
    let how = Arc::new(How {
        pieces: Semaphore::new(0),
        asked: AtomicUsize::new(0),
        manifests: AtomicUsize::new(0),
        breaks: Mutex::new(breaks.to_vec()),
        refuses: Mutex::default(),
        wrong,
    });
    let (content, told) = (layer.clone(), how.clone());
    let answer = move |request: Request| {
        let (how, layer, manifest) = (told.clone(), content.clone(), manifest.to_string());
        async move {
            let path = request.uri().path().to_owned();
            if let Some((status, after)) = how.refuses.lock().unwrap().clone() {
                let mut response = Response::builder().status(status);
                if let Some(after) = after {
                    response = response.header("retry-after", after);
                }
                return response.body(Body::empty()).unwrap();
            }
            if path.contains("/manifests/") {
                how.manifests.fetch_add(1, Ordering::SeqCst);
                let digest = hash::digest(Algorithm::Sha256, manifest.as_bytes());
                let response = Response::builder().header("content-type", image::media::OCI_MANIFEST);
                let body = if request.method() == "HEAD" { Body::empty() } else { Body::from(manifest) };
                return response.header("docker-content-digest", digest.to_string()).body(body).unwrap();
            }
            how.asked.fetch_add(1, Ordering::SeqCst);
            let range = request.headers().get("range").map(|range| range.to_str().unwrap().to_owned());
            let first = range.map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
            let most = how.breaks.lock().unwrap().pop().unwrap_or(usize::MAX);
            let length = layer.len() - first;
            let sent = futures::stream::unfold((first, 0), move |(at, count)| {
                let (how, layer) = (how.clone(), layer.clone());
                async move {
                    if at == layer.len() {
                        return None;
                    }
                    if count == most {
                        return Some((Err(std::io::Error::other("broke off")), (layer.len(), count)));
                    }
                    how.pieces.acquire().await.unwrap().forget();
                    let end = (at + PIECE).min(layer.len());
                    let mut piece = layer[at..end].to_vec();
                    if how.wrong && end == layer.len() {
                        *piece.last_mut().unwrap() ^= 1;
                    }
                    Some((Ok(piece), (end, count + 1)))
                }
            });
            let status = if first == 0 { 200 } else { 206 };
            Response::builder().status(status).header("content-length", length).body(Body::from_stream(sent)).unwrap()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Other { host, layer, digest, how }
}

async fn copy(of: &Other) -> (Served, Arc<AtomicI64>) {
    let directory = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(1_800_000_000));
    let clock = now.clone();
    let clock: image::Clock = Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
    let registry = open(Stores::Disk, directory.path(), Limits::default(), clock).await;
    let upstream = Some(Upstream { from: of.host.clone(), fresh_s: 60 });
    registry.set_settings("hub", Some(&Settings { upstream, ..Settings::default() })).await.unwrap();
    let upstreams = Some(Upstreams::new(registry.clone(), Client::new(Options::default()).unwrap()));
    let served = serve_extras(registry, Arc::new(AllowAll), Extras { upstreams, ..Extras::default() }, directory).await;
    (served, now)
}

async fn get(served: &Served, path: &str) -> reqwest::Response {
    reqwest::get(format!("http://{}/v2/{path}", served.host)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_pull_streams_and_all_share_one_fetch() {
    let other = other(false, &[]).await;
    let (served, _) = copy(&other).await;
    assert_eq!(get(&served, "hub/app/manifests/v1").await.status(), 200);
    let blob = format!("hub/app/blobs/{}", other.digest);
    other.how.pieces.add_permits(10);
    let first = get(&served, &blob).await;
    assert_eq!(first.content_length(), Some(other.layer.len() as u64));
    let mut stream = first.bytes_stream();
    let mut read = Vec::new();
    while read.len() < 5 * PIECE {
        read.extend_from_slice(&stream.next().await.unwrap().unwrap());
    }
    assert!(served.registry.blob_size("hub/app", &other.digest).await.unwrap().is_none(), "it is not here yet");
    // Others come in while it arrives, one for a part, and one goes away again.
    let late: Vec<_> =
        (0..5).map(|_| tokio::spawn(reqwest::get(format!("http://{}/v2/{blob}", served.host)))).collect();
    let part =
        reqwest::Client::new().get(format!("http://{}/v2/{blob}", served.host)).header("range", "bytes=1500000-");
    let part = tokio::spawn(part.send());
    drop(get(&served, &blob).await);
    other.how.pieces.add_permits(100);
    while let Some(chunk) = stream.next().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    assert!(read == other.layer);
    for late in late {
        assert!(late.await.unwrap().unwrap().bytes().await.unwrap() == other.layer);
    }
    let part = part.await.unwrap().unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert!(part.bytes().await.unwrap() == other.layer[1_500_000..]);
    assert_eq!(other.how.asked.load(Ordering::SeqCst), 1);
    // From now on the other registry is not needed.
    *other.how.refuses.lock().unwrap() = Some((500, None));
    assert!(get(&served, &blob).await.bytes().await.unwrap() == other.layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_out_wrong_breaks_off_and_leaves_nothing() {
    let other = other(true, &[]).await;
    let (served, now) = copy(&other).await;
    assert_eq!(get(&served, "hub/app/manifests/v1").await.status(), 200);
    other.how.pieces.add_permits(1000);
    for _ in 0..2 {
        // It may break off before the head of the answer has left; then there is no answer at all.
        let blob = reqwest::get(format!("http://{}/v2/hub/app/blobs/{}", served.host, other.digest)).await;
        if let Ok(blob) = blob
            && blob.status() == 200
        {
            assert!(blob.bytes().await.is_err(), "the last byte is never sent");
        }
        assert!(served.registry.blob_size("hub/app", &other.digest).await.unwrap().is_none());
        let left = std::fs::read_dir(served.directory.path().join("uploads")).unwrap().count();
        assert_eq!(left, 0, "nothing is left behind");
        now.fetch_add(3600, Ordering::Relaxed);
    }
    assert_eq!(other.how.asked.load(Ordering::SeqCst), 2, "it is tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_off_is_taken_up_where_it_was() {
    let other = other(false, &[7, 6]).await;
    let (served, _) = copy(&other).await;
    assert_eq!(get(&served, "hub/app/manifests/v1").await.status(), 200);
    other.how.pieces.add_permits(1000);
    let blob = get(&served, &format!("hub/app/blobs/{}", other.digest)).await;
    assert!(blob.bytes().await.unwrap() == other.layer);
    assert_eq!(other.how.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_had_enough_is_left_alone_for_as_long_as_they_say() {
    let other = other(false, &[]).await;
    let (served, now) = copy(&other).await;
    let seen = || other.how.manifests.load(Ordering::SeqCst);
    *other.how.refuses.lock().unwrap() = Some((429, Some("100".into())));
    let refused = get(&served, "hub/app/manifests/v1").await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "100"));
    *other.how.refuses.lock().unwrap() = None;
    now.fetch_add(90, Ordering::Relaxed);
    let refused = get(&served, "hub/app/manifests/v1").await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "10"));
    assert_eq!(seen(), 0, "it was not asked");
    now.fetch_add(11, Ordering::Relaxed);
    assert_eq!(get(&served, "hub/app/manifests/v1").await.status(), 200);
    // Later it has had enough again, and what is here is handed out as it is.
    *other.how.refuses.lock().unwrap() = Some((503, Some("50".into())));
    now.fetch_add(61, Ordering::Relaxed);
    let stale = get(&served, "hub/app/manifests/v1").await;
    assert_eq!(stale.status(), 200);
    assert!(stale.headers()["warning"].to_str().unwrap().contains("Stale"));
    let asked = seen();
    *other.how.refuses.lock().unwrap() = None;
    now.fetch_add(40, Ordering::Relaxed);
    assert_eq!(get(&served, "hub/app/manifests/v1").await.status(), 200);
    assert_eq!(seen(), asked);
    now.fetch_add(11, Ordering::Relaxed);
    assert!(get(&served, "hub/app/manifests/v1").await.headers().get("warning").is_none());
    assert!(seen() > asked);
}

/// Docker's own registry, as Debian has it.
struct DockersRegistry(std::process::Child);

impl Drop for DockersRegistry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_dockers_own_registry_outlives_it() {
    let home = TempDir::new().unwrap();
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let data = home.path().join("data");
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
        data.display()
    );
    std::fs::write(home.path().join("config.yml"), config).unwrap();
    let mut command = std::process::Command::new("docker-registry");
    command.arg("serve").arg(home.path().join("config.yml"));
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    // It takes everything that begins so for its configuration.
    std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("REGISTRY_")).for_each(
        |name| {
            command.env_remove(name);
        },
    );
    let Ok(child) = command.spawn() else { return eprintln!("SKIPPED: docker-registry is not installed") };
    let theirs = DockersRegistry(child);
    while tokio::net::TcpStream::connect(&host).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let ours = support::serve(Stores::Memory).await;
    let layer = "layer ".repeat(500_000);
    let (digest, layer_digest) = support::push_image(&ours.registry, "app", &["v1"], &layer).await;
    let client = Client::new(Options::default()).unwrap();
    let tag = ManifestRef::Tag("v1".into());
    let to = format!("{host}/team/app:v1").parse().unwrap();
    assert_eq!(client.push(&ours.registry, "app", &tag, &to).await.unwrap(), digest);

    let directory = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(1_800_000_000));
    let time = now.clone();
    let clock: image::Clock = Arc::new(move || Timestamp::from_second(time.load(Ordering::Relaxed)).unwrap());
    let registry = open(Stores::Disk, directory.path(), Limits::default(), clock).await;
    let upstream = Some(Upstream { from: host.clone(), fresh_s: 60 });
    registry.set_settings("hub", Some(&Settings { upstream, ..Settings::default() })).await.unwrap();
    let upstreams = Some(Upstreams::new(registry.clone(), client));
    let served = serve_extras(registry, Arc::new(AllowAll), Extras { upstreams, ..Extras::default() }, directory).await;
    let pulled = async || {
        let manifest = get(&served, "hub/team/app/manifests/v1").await;
        let (status, stale) = (manifest.status(), manifest.headers().contains_key("warning"));
        assert_eq!(status, StatusCode::OK, "{}", manifest.text().await.unwrap());
        assert_eq!(manifest.headers()["docker-content-digest"], digest.as_str());
        let content = get(&served, &format!("hub/team/app/blobs/{layer_digest}")).await.bytes().await.unwrap();
        assert!(content == layer.as_bytes());
        stale
    };
    assert!(!pulled().await);
    drop(theirs);
    now.fetch_add(3600, Ordering::Relaxed);
    assert!(pulled().await, "what may be old is said to be");
    assert_eq!(get(&served, "hub/team/other/manifests/v1").await.status(), StatusCode::BAD_GATEWAY);
}
