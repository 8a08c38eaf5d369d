//! Clients that take their time, and clients that take everything.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use image::{
    Algorithm, Kind, Registry,
    registry::{
        Limits,
        http::{AllowAll, Extras, Patience},
    },
};
use support::{Served, Stores, clock, open, serve_patiently};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(60);

async fn served(limits: Limits, head: Duration) -> Served {
    let directory = TempDir::new().unwrap();
    let registry = open(Stores::Disk, directory.path(), limits, clock()).await;
    let patience = Patience { head, ..Patience::default() };
    serve_patiently(registry, Arc::new(AllowAll), Extras::default(), directory, patience).await
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_do_not_come_end_the_connection() {
    let served = served(Limits::default(), Duration::from_millis(300)).await;
    for begun in ["", "P", "PRI * HTTP/2.0\r\n", "GET /v2/ HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut socket = TcpStream::connect(&served.host).await.unwrap();
        socket.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended = timeout(LONG, socket.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{begun:?}: the connection stays open");
        assert!(!String::from_utf8_lossy(&answer).contains("200"), "{begun:?}");
    }
    // A head that dribbles is not waited for longer than one that stops.
    let mut socket = TcpStream::connect(&served.host).await.unwrap();
    let dribbling = async {
        socket.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
        while socket.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(LONG, dribbling).await.is_ok(), "a head may dribble for ever");
    // Whoever is quick enough is answered; on a busy machine that may take more than one try.
    let quick = async {
        loop {
            if let Ok(answer) = reqwest::get(format!("http://{}/v2/", served.host)).await {
                return answer.status();
            }
        }
    };
    assert_eq!(timeout(LONG, quick).await.expect("everybody is sent away"), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_dribbles_is_broken_off_and_what_came_is_kept() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let served = served(limits, LONG).await;
    let id = served.registry.start_upload("a", Algorithm::Sha256).await.unwrap();
    let socket = TcpStream::connect(&served.host).await.unwrap();
    let (mut from, mut to) = socket.into_split();
    let head = format!("PATCH /v2/a/blobs/uploads/{id} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n");
    to.write_all(head.as_bytes()).await.unwrap();
    let dribbling = tokio::spawn(async move {
        // Never silent for as long as a client may be.
        while to.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut answer = vec![0; 1000];
    let read = timeout(LONG, from.read(&mut answer)).await.expect("it is broken off").unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("BLOB_UPLOAD_INVALID"), "{answer}");
    dribbling.abort();
    assert!(served.registry.upload_size("a", &id).await.unwrap() > 0, "what came is kept");
}

fn at(seconds: Arc<AtomicI64>) -> image::Clock {
    Arc::new(move || records::Timestamp::from_second(1_800_000_000 + seconds.load(Ordering::Relaxed)).unwrap())
}

fn some(text: &'static str) -> impl futures::Stream<Item = image::Result<bytes::Bytes>> + Send + Unpin {
    futures::stream::iter([Ok(text.into())])
}

#[tokio::test]
async fn uploads_that_nobody_goes_on_with_keep_nobody_out() {
    let (directory, seconds) = (TempDir::new().unwrap(), Arc::new(AtomicI64::new(0)));
    let limits = Limits { uploads: 100, ..Limits::default() };
    let registry = open(Stores::Disk, directory.path(), limits, at(seconds.clone())).await;
    let begin = async |registry: &Registry| registry.start_upload("a", Algorithm::Sha256).await;
    let worked_on = begin(&registry).await.unwrap();
    registry.append_upload("a", &worked_on, None, some("part")).await.unwrap();
    let mut begun = 0;
    for _ in 0..5000 {
        match begin(&registry).await {
            Ok(_) => begun += 1,
            Err(error) => assert_eq!(error.kind, Kind::TooMany),
        }
    }
    assert_eq!(begun, 99);
    // A minute later those that brought nothing make room, one for each that begins, and those with content stay.
    seconds.store(61, Ordering::Relaxed);
    for _ in 0..99 {
        begin(&registry).await.unwrap();
    }
    assert_eq!(begin(&registry).await.unwrap_err().kind, Kind::TooMany);
    assert_eq!(registry.upload_size("a", &worked_on).await.unwrap(), 4);
    // Later even they do, and say so to who goes on with them; nothing is left of them.
    seconds.store(119, Ordering::Relaxed);
    assert_eq!(begin(&registry).await.unwrap_err().kind, Kind::TooMany);
    seconds.store(700, Ordering::Relaxed);
    for _ in 0..100 {
        let id = begin(&registry).await.unwrap();
        registry.append_upload("a", &id, None, some("x")).await.unwrap();
    }
    assert_eq!(registry.upload_size("a", &worked_on).await.unwrap_err().kind, Kind::UploadUnknown);
    assert!(!directory.path().join(format!("uploads/{worked_on}.data")).exists());
}

/// Manifests that all refer to one: what a client gets stays bounded, each is listed once, and they can be taken away again.
#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_referrers_comes_in_bounded_pages() {
    const MANY: usize = 5000;
    let directory = TempDir::new().unwrap();
    let registry = open(Stores::Memory, directory.path(), Limits::default(), clock()).await;
    let config = registry.put_blob("a", "{}").await.unwrap();
    let (subject, _) = support::push_image(&registry, "a", &["v1"], "layer").await;
    for n in 0..MANY {
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": image::media::OCI_MANIFEST, "artifactType": "application/x.bomb",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config.digest, "size": config.size },
            "layers": [],
            "subject": { "mediaType": image::media::OCI_MANIFEST, "digest": subject, "size": 7 },
            "annotations": { "n": n.to_string() },
        });
        registry.put_manifest("a", &[], None, "", manifest.to_string()).await.unwrap();
    }
    let served = support::serve_registry(registry.clone(), Arc::new(AllowAll), directory).await;
    let mut next = Some(format!("/v2/a/referrers/{subject}"));
    let mut seen = std::collections::BTreeSet::new();
    let mut pages = 0;
    while let Some(path) = next {
        let response = reqwest::get(format!("http://{}{path}", served.host)).await.unwrap();
        assert_eq!(response.status(), 200);
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        let body = response.bytes().await.unwrap();
        assert!(body.len() < 4 << 20);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let page = body["manifests"].as_array().unwrap();
        assert!(page.len() <= 1000);
        seen.extend(page.iter().map(|one| one["digest"].as_str().unwrap().to_owned()));
        pages += 1;
    }
    assert_eq!((seen.len(), pages), (MANY, MANY / 1000));
    // The image is pulled and deleted as ever.
    registry.delete_manifest("a", &subject).await.unwrap();
    registry.delete_repository("a").await.unwrap();
    assert!(registry.referrers_page("a", &subject, None, None).await.unwrap().descriptors.is_empty());
}
