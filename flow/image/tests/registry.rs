//! The registry from within: images, attachments, uploads that outlive a process, layouts, and other registries.

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use image::{
    Algorithm, Kind, Reference, Registry, Result,
    client::{Client, Credentials, Options},
    hash,
    layer::{ApplyOptions, WriteOptions, apply_blob, write_blob},
    layout::{LoadLimits, load_archive, load_directory, save_archive, save_directory},
    media,
    oci::{self, LayerRef, Platform},
    registry::{
        Attachment, Limits, ManifestRef,
        http::{AllowAll, Authorize, Decision, Scope, basic},
    },
};
use records::{Digest, Timestamp};
use serde_json::json;
use support::{ALL, Stores, clock, open, serve, serve_with};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

fn sha256(content: &[u8]) -> Digest {
    hash::digest(Algorithm::Sha256, content)
}

fn chunks(parts: &[&'static str]) -> impl futures::Stream<Item = Result<Bytes>> + Send + Unpin + use<> {
    stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect::<Vec<_>>())
}

/// Builds an image of one layer with one file and pushes it.
async fn push_image(registry: &Registry, repository: &str, tags: &[&str], content: &str) -> Digest {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, content).unwrap();
    // The same content is the same image, in whichever second it is made.
    for path in [&*file, directory.path()] {
        std::fs::File::open(path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    let layer = write_blob(registry.blobs(), directory.path().into(), WriteOptions::default()).await.unwrap();
    let annotations = BTreeMap::from([("org.opencontainers.image.revision".to_owned(), "abc".to_owned())]);
    let configuration = oci::configuration(&Platform::host());
    let documents = oci::documents(configuration, &[LayerRef::from(&layer)], &annotations).unwrap();
    assert_eq!(registry.store(documents.config.clone()).await.unwrap().digest, documents.config_digest);
    let pushed = registry.put_image(repository, tags, documents.media_type, documents.manifest).await.unwrap();
    assert_eq!(pushed.digest, documents.digest);
    pushed.digest
}

async fn read(registry: &Registry, repository: &str, digest: &Digest) -> Vec<u8> {
    let mut content = Vec::new();
    registry.read_blob(repository, digest, 0, None).await.unwrap().reader.read_to_end(&mut content).await.unwrap();
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_pushed_found_and_unpacked() {
    for stores in ALL {
        let home = TempDir::new().unwrap();
        let registry = open(stores, home.path(), Limits::default(), clock()).await;
        let digest = push_image(&registry, "journal/frontend", &["v1"], "hello").await;
        assert_eq!(registry.resolve("journal/frontend", "v1").await.unwrap(), digest);
        let host = Platform::host();
        let found = registry.image("journal/frontend", &ManifestRef::Tag("v1".into()), &host).await.unwrap();
        assert_eq!((&found.digest, &found.named), (&digest, &digest));
        assert_eq!(found.annotations["org.opencontainers.image.revision"], "abc");
        let layer = &found.layers[0];
        let reader = registry.read_blob("journal/frontend", &layer.descriptor.digest, 0, None).await.unwrap().reader;
        let target = TempDir::new().unwrap();
        let options = ApplyOptions {
            diff_id: Some(layer.diff_id.clone()),
            owners: nix::unistd::geteuid().is_root(),
            ..ApplyOptions::default()
        };
        apply_blob(reader, target.path().into(), options).await.unwrap();
        assert_eq!(std::fs::read_to_string(target.path().join("file")).unwrap(), "hello");

        // An index is looked through.
        let (info, content) = registry.manifest("journal/frontend", &digest).await.unwrap();
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
            { "mediaType": info.media_type, "digest": sha256(b"other"), "size": 1, "platform": { "os": "linux", "architecture": "s390x" } },
            { "mediaType": info.media_type, "digest": digest, "size": content.len(),
              "platform": { "os": host.os, "architecture": host.architecture } } ] });
        let error = registry.put_image("journal/frontend", &["all"], "", index.to_string()).await.unwrap_err();
        assert_eq!(error.kind, Kind::ManifestBlobUnknown);
        let index = index
            .to_string()
            .replace(&sha256(b"other").to_string(), digest.as_str())
            .replace("\"size\":1,", &format!("\"size\":{},", content.len()));
        let named = registry.put_image("journal/frontend", &["all"], "", index).await.unwrap().digest;
        let found = registry.image("journal/frontend", &ManifestRef::Tag("all".into()), &host).await.unwrap();
        assert_eq!((found.digest, found.named), (digest, named));
        let alien = Platform { os: "plan9".into(), architecture: "mips".into(), variant: None };
        let error = registry.image("journal/frontend", &ManifestRef::Tag("all".into()), &alien).await.unwrap_err();
        assert_eq!(error.kind, Kind::ManifestUnknown);
    }
}

#[tokio::test]
async fn a_push_that_changes_nothing_writes_nothing() {
    let home = TempDir::new().unwrap();
    let registry = open(Stores::Memory, home.path(), Limits::default(), clock()).await;
    let digest = push_image(&registry, "a", &["v1"], "x").await;
    let subject = registry.attach("a", &digest, "application/x", Vec::new(), BTreeMap::new()).await.unwrap();
    let before = registry.referrers("a", &digest, None).await.unwrap();
    push_image(&registry, "a", &["v1"], "x").await;
    assert_eq!(registry.attach("a", &digest, "application/x", Vec::new(), BTreeMap::new()).await.unwrap(), subject);
    assert_eq!(registry.referrers("a", &digest, None).await.unwrap(), before);
}

#[tokio::test]
async fn artifacts_are_attached() {
    for stores in ALL {
        let home = TempDir::new().unwrap();
        let registry = open(stores, home.path(), Limits::default(), clock()).await;
        let image = push_image(&registry, "a/b", &["v1"], "x").await;
        let sbom = Attachment {
            media_type: "application/vnd.cyclonedx+json".into(),
            content: Bytes::from_static(b"{\"bomFormat\":\"CycloneDX\"}"),
            annotations: BTreeMap::from([("title".into(), "sbom.json".into())]),
        };
        let annotations = BTreeMap::from([("run".to_owned(), "journal/1".to_owned())]);
        let referrer = registry
            .attach("a/b", &image, "application/vnd.cyclonedx+json", vec![sbom.clone()], annotations.clone())
            .await
            .unwrap();
        let all = registry.referrers("a/b", &image, None).await.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].digest, referrer);
        assert_eq!(all[0].artifact_type.as_deref(), Some("application/vnd.cyclonedx+json"));
        assert_eq!(all[0].annotations.as_ref(), Some(&annotations));
        assert!(registry.referrers("a/b", &image, Some("application/other")).await.unwrap().is_empty());
        let (_, content) = registry.manifest("a/b", &referrer).await.unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&content).unwrap();
        assert_eq!(manifest["config"]["mediaType"], media::OCI_EMPTY);
        assert_eq!(manifest["subject"]["digest"], image.as_str());
        let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(read(&registry, "a/b", &layer).await, sbom.content);

        let absent = registry.attach("a/b", &sha256(b"absent"), "x/y", Vec::new(), BTreeMap::new()).await;
        assert_eq!(absent.unwrap_err().kind, Kind::ManifestUnknown);
    }
}

#[tokio::test]
async fn repositories_are_deleted_whole_and_others_stay() {
    for stores in ALL {
        let home = TempDir::new().unwrap();
        let registry = open(stores, home.path(), Limits::default(), clock()).await;
        let digest = push_image(&registry, "a", &["v1"], "x").await;
        push_image(&registry, "a/b", &["v1"], "x").await;
        registry.delete_repository("a").await.unwrap();
        assert_eq!(registry.repositories(None, 10).await.unwrap().names, ["a/b"]);
        assert_eq!(registry.resolve("a", "v1").await.unwrap_err().kind, Kind::ManifestUnknown);
        assert_eq!(registry.tags("a", None, 10).await.unwrap_err().kind, Kind::NameUnknown);
        assert_eq!(registry.resolve("a/b", "v1").await.unwrap(), digest);
        let found = registry.image("a/b", &ManifestRef::Digest(digest), &Platform::host()).await.unwrap();
        assert_eq!(registry.holders(&found.layers[0].descriptor.digest).await.unwrap(), ["a/b"]);
    }
}

#[tokio::test]
async fn uploads_outlive_a_process() {
    let home = TempDir::new().unwrap();
    let digest = sha256(b"0123456789");
    let id = {
        let registry = open(Stores::Disk, home.path(), Limits::default(), clock()).await;
        let id = registry.start_upload("a", Algorithm::Sha256).await.unwrap();
        assert_eq!(registry.append_upload("a", &id, None, chunks(&["0123", "45"])).await.unwrap(), 6);
        id
    };
    let registry = open(Stores::Disk, home.path(), Limits::default(), clock()).await;
    assert_eq!(registry.upload_size("a", &id).await.unwrap(), 6);
    assert_eq!(registry.upload_size("b", &id).await.unwrap_err().kind, Kind::UploadUnknown);
    let error = registry.append_upload("a", &id, Some((4, 2)), chunks(&["45"])).await.unwrap_err();
    assert_eq!(error.kind, Kind::RangeInvalid);
    let stored = registry.finish_upload("a", &id, &digest, Some((6, 4)), chunks(&["6789"])).await.unwrap();
    assert_eq!((stored.digest, stored.size), (digest.clone(), 10));
    drop(registry);
    let registry = open(Stores::Disk, home.path(), Limits::default(), clock()).await;
    assert_eq!(read(&registry, "a", &digest).await, b"0123456789");
    assert_eq!(std::fs::read_dir(home.path().join("uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_arrived_of_a_broken_part_is_kept() {
    let home = TempDir::new().unwrap();
    let registry = open(Stores::Disk, home.path(), Limits::default(), clock()).await;
    let id = registry.start_upload("a", Algorithm::Sha512).await.unwrap();
    let broken = stream::iter(vec![
        Ok(Bytes::from_static(b"abc")),
        Err(image::Error::new(Kind::UploadInvalid, "the connection broke")),
    ]);
    assert_eq!(registry.append_upload("a", &id, None, broken).await.unwrap_err().kind, Kind::UploadInvalid);
    assert_eq!(registry.upload_size("a", &id).await.unwrap(), 3);
    // A part of the wrong length is not kept.
    let error = registry.append_upload("a", &id, Some((3, 2)), chunks(&["def"])).await.unwrap_err();
    assert_eq!(error.kind, Kind::SizeInvalid);
    assert_eq!(registry.upload_size("a", &id).await.unwrap(), 3);
    // A request that goes away in the middle leaves a count that is true.
    for _ in 0..20 {
        let endless = futures::StreamExt::chain(chunks(&["x", "y"]), stream::pending());
        let going = registry.append_upload("a", &id, None, endless);
        let _ = tokio::time::timeout(Duration::from_millis(3), going).await;
    }
    let size = registry.upload_size("a", &id).await.unwrap();
    let file = std::fs::read(home.path().join(format!("uploads/{id}.data"))).unwrap();
    assert_eq!(file.len() as u64, size);
    let digest = hash::digest(Algorithm::Sha512, &[&file[..], b"end"].concat());
    registry.finish_upload("a", &id, &digest, None, chunks(&["end"])).await.unwrap();
    assert_eq!(read(&registry, "a", &digest).await.len() as u64, size + 3);
}

#[tokio::test]
async fn abandoned_uploads_expire() {
    let home = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(1_800_000_000));
    let clock = || -> image::Clock {
        let now = now.clone();
        Arc::new(move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap())
    };
    let limits = Limits { upload_expiry: Duration::from_secs(100), ..Limits::default() };
    let (old, orphan) = {
        let registry = open(Stores::Memory, home.path(), limits.clone(), clock()).await;
        let orphan = registry.start_upload("a", Algorithm::Sha256).await.unwrap();
        registry.append_upload("a", &orphan, None, chunks(&["x"])).await.unwrap();
        let old = registry.start_upload("a", Algorithm::Sha256).await.unwrap();
        registry.append_upload("a", &old, None, chunks(&["xy"])).await.unwrap();
        (old, orphan)
    };
    let registry = open(Stores::Memory, home.path(), limits, clock()).await;
    now.fetch_add(60, Ordering::Relaxed);
    // Touched by this process, so it is not abandoned.
    assert_eq!(registry.upload_size("a", &old).await.unwrap(), 2);
    now.fetch_add(60, Ordering::Relaxed);
    registry.expire_uploads(clock()()).await.unwrap();
    assert_eq!(registry.upload_size("a", &orphan).await.unwrap_err().kind, Kind::UploadUnknown);
    assert_eq!(registry.upload_size("a", &old).await.unwrap(), 2);
    now.fetch_add(700, Ordering::Relaxed);
    registry.start_upload("a", Algorithm::Sha256).await.unwrap();
    assert_eq!(registry.upload_size("a", &old).await.unwrap_err().kind, Kind::UploadUnknown);
    assert_eq!(
        std::fs::read_dir(home.path().join("uploads")).unwrap().count(),
        0,
        "one that nothing arrived for has no files"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_at_the_same_time_do_not_disturb_each_other() {
    let home = TempDir::new().unwrap();
    let registry = open(Stores::Disk, home.path(), Limits::default(), clock()).await;
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let registry = registry.clone();
            tokio::spawn(async move {
                push_image(&registry, "a", &[&format!("t{n:02}"), "latest"], &format!("{}", n % 4)).await
            })
        })
        .collect();
    let mut digests = Vec::new();
    for task in tasks {
        digests.push(task.await.unwrap());
    }
    assert_eq!(registry.tags("a", None, 100).await.unwrap().names.len(), 17);
    assert!(digests.contains(&registry.resolve("a", "latest").await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_are_saved_and_loaded() {
    for stores in ALL {
        let home = TempDir::new().unwrap();
        let registry = open(stores, home.path(), Limits::default(), clock()).await;
        let one = push_image(&registry, "a", &["one"], "1").await;
        let two = push_image(&registry, "a", &["two"], "2").await;
        let names = [ManifestRef::Tag("one".into()), ManifestRef::Digest(two.clone())];
        let directory = home.path().join("layout");
        save_directory(&registry, "a", &names, &directory).await.unwrap();
        let mut archive = Vec::new();
        save_archive(&registry, "a", &names, &mut archive).await.unwrap();
        let mut again = Vec::new();
        save_archive(&registry, "a", &names, &mut again).await.unwrap();
        assert!(archive == again);

        let other_home = TempDir::new().unwrap();
        let other = open(stores, other_home.path(), Limits::default(), clock()).await;
        let loaded = load_directory(&other, "from/directory", &directory).await.unwrap();
        let found: Vec<_> = loaded.iter().map(|one| (one.digest.clone(), one.tag.as_deref())).collect();
        assert_eq!(found, [(one.clone(), Some("one")), (two.clone(), None)]);
        assert_eq!(other.resolve("from/directory", "one").await.unwrap(), one);
        let reader = std::io::Cursor::new(archive.clone());
        let from_archive = load_archive(&other, "from/archive", reader, LoadLimits::default()).await.unwrap();
        assert_eq!(from_archive, loaded);
        for repository in ["from/directory", "from/archive"] {
            let found = other.image(repository, &ManifestRef::Digest(two.clone()), &Platform::host()).await.unwrap();
            assert!(!read(&other, repository, &found.layers[0].descriptor.digest).await.is_empty());
        }

        let small = LoadLimits { bytes: 100, ..LoadLimits::default() };
        let error = load_archive(&other, "b", std::io::Cursor::new(archive.clone()), small).await.unwrap_err();
        assert_eq!(error.kind, Kind::TooLarge);
        // One byte of a blob is wrong.
        let mut damaged = archive;
        let at = damaged.windows(6).position(|window| window == b"layers").unwrap();
        damaged[at] = b'L';
        let error = load_archive(&other, "b", std::io::Cursor::new(damaged), LoadLimits::default()).await.unwrap_err();
        assert_eq!(error.kind, Kind::DigestInvalid);
        assert!(!other.has_repository("b").await.unwrap());
        std::fs::remove_dir_all(directory.join("blobs")).unwrap();
        assert_eq!(load_directory(&other, "c", &directory).await.unwrap_err().kind, Kind::Io);
        assert_eq!(load_directory(&other, "c", Path::new("/nonexistent")).await.unwrap_err().kind, Kind::Io);
    }
}

/// Wants the password for everything.
struct Locked;

#[async_trait]
impl Authorize for Locked {
    async fn authorize(&self, authorization: Option<&str>, _: Scope<'_>) -> Decision {
        match authorization.and_then(basic) {
            Some((user, password)) if user == "admin" && password == "pass" => Decision::Allow,
            _ => Decision::Challenge,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_go_to_other_registries_and_back() {
    let ours = serve(Stores::Disk).await;
    let theirs = serve_with(Stores::Memory, Limits::default(), Arc::new(Locked)).await;
    let image = push_image(&ours.registry, "a/b", &["v1"], "hello").await;
    let (info, content) = ours.registry.manifest("a/b", &image).await.unwrap();
    let host = Platform::host();
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
        { "mediaType": info.media_type, "digest": image, "size": content.len(),
          "platform": { "os": host.os, "architecture": host.architecture } } ] });
    let index = ours.registry.put_image("a/b", &["all"], "", index.to_string()).await.unwrap().digest;
    let to: Reference = format!("{}/x/y:latest", theirs.host).parse().unwrap();
    let all = ManifestRef::Tag("all".into());

    let stranger = Client::new(Options::default()).unwrap();
    let error = stranger.push(&ours.registry, "a/b", &all, &to).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unauthorized, "{error}");
    let credentials = |password: &'static str| {
        let credentials = Credentials { user: "admin".into(), password: password.into() };
        Client::new(Options { credentials: Arc::new(move |_| Some(credentials.clone())), ..Options::default() })
            .unwrap()
    };
    let error = credentials("wrong").push(&ours.registry, "a/b", &all, &to).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unauthorized, "{error}");
    let client = credentials("pass");
    assert_eq!(client.push(&ours.registry, "a/b", &all, &to).await.unwrap(), index);
    assert_eq!(theirs.registry.resolve("x/y", "latest").await.unwrap(), index);

    // Back again, whole and for one platform.
    assert_eq!(client.pull(&to, &ours.registry, "back", &["v1"], None).await.unwrap(), index);
    let one = client.pull(&to, &ours.registry, "one", &["v1"], Some(&host)).await.unwrap();
    assert_eq!(one, image);
    let found = ours.registry.image("one", &ManifestRef::Tag("v1".into()), &host).await.unwrap();
    assert!(!read(&ours.registry, "one", &found.layers[0].descriptor.digest).await.is_empty());
    let absent: Reference = format!("{}/x/y:absent", theirs.host).parse().unwrap();
    let error = client.pull(&absent, &ours.registry, "b", &[], None).await.unwrap_err();
    assert_eq!(error.kind, Kind::ManifestUnknown);
    assert!(error.message.contains("MANIFEST_UNKNOWN"), "{error}");
    let gone: Reference = "127.0.0.1:1/x".parse().unwrap();
    assert_eq!(client.manifest(&gone).await.unwrap_err().kind, Kind::Remote);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_is_noticed() {
    // Serves the same wrong content for every manifest and blob.
    let lie = || async { ([("content-type", media::OCI_MANIFEST)], "{\"schemaVersion\":2}") };
    let app = axum::Router::new().fallback(lie);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let client = Client::new(Options::default()).unwrap();
    let pinned: Reference = format!("{host}/x@{}", sha256(b"truth")).parse().unwrap();
    assert_eq!(client.manifest(&pinned).await.unwrap_err().kind, Kind::DigestInvalid);
    let tagged: Reference = format!("{host}/x:v1").parse().unwrap();
    assert_eq!(client.manifest(&tagged).await.unwrap_err().kind, Kind::ManifestInvalid);
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_as_docker_does() {
    use axum::{extract::Query, http::HeaderMap, response::IntoResponse, routing::get};
    let inner = serve(Stores::Memory).await;
    let image = push_image(&inner.registry, "library/x", &["v1"], "hello").await;
    let (_, manifest) = inner.registry.manifest("library/x", &image).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let challenge =
        format!("Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:library/x:pull\"");
    let content = move |headers: HeaderMap| {
        let (challenge, manifest) = (challenge.clone(), manifest.clone());
        async move {
            match headers.get("authorization").and_then(|value| value.to_str().ok()) {
                Some("Bearer good") => ([("content-type", media::OCI_MANIFEST)], manifest).into_response(),
                _ => (axum::http::StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response(),
            }
        }
    };
    let token = |Query(query): Query<BTreeMap<String, String>>| async move {
        assert_eq!(query["scope"], "repository:library/x:pull");
        assert_eq!(query["service"], "test");
        "{\"token\":\"good\"}"
    };
    let app = axum::Router::new().route("/token", get(token)).fallback(content);
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let client = Client::new(Options::default()).unwrap();
    for _ in 0..2 {
        let found = client.manifest(&format!("{host}/library/x:v1").parse().unwrap()).await.unwrap();
        assert_eq!(found.digest, image);
    }
    task.abort();
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    use tokio::io::AsyncWriteExt;
    let limits = Limits { stall: Duration::from_millis(50), ..Limits::default() };
    let served = serve_with(Stores::Memory, limits, Arc::new(AllowAll)).await;
    let id = served.registry.start_upload("a", Algorithm::Sha256).await.unwrap();
    let mut socket = tokio::net::TcpStream::connect(&served.host).await.unwrap();
    let head = format!("PATCH /v2/a/blobs/uploads/{id} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 100];
    let read = socket.read(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 400"));
    assert_eq!(served.registry.upload_size("a", &id).await.unwrap(), 3, "what came is kept");
}

#[tokio::test]
async fn uploads_are_taken_over_without_a_copy() {
    use std::os::unix::fs::MetadataExt;
    let home = TempDir::new().unwrap();
    let registry = open(Stores::Disk, home.path(), Limits::default(), clock()).await;
    let digest = sha256(b"content");
    let id = registry.start_upload("a", Algorithm::Sha256).await.unwrap();
    registry.append_upload("a", &id, None, chunks(&["content"])).await.unwrap();
    let before = std::fs::metadata(home.path().join(format!("uploads/{id}.data"))).unwrap();
    registry.finish_upload("a", &id, &digest, None, chunks(&[])).await.unwrap();
    let after = std::fs::metadata(registry.blobs().path(&digest).unwrap()).unwrap();
    assert_eq!(after.ino(), before.ino());
    // Content that is there already stays as it is, and the upload goes.
    let id = registry.start_upload("b", Algorithm::Sha256).await.unwrap();
    registry.append_upload("b", &id, None, chunks(&["con", "tent"])).await.unwrap();
    registry.finish_upload("b", &id, &digest, None, chunks(&[])).await.unwrap();
    assert_eq!(std::fs::metadata(registry.blobs().path(&digest).unwrap()).unwrap().ino(), before.ino());
    assert_eq!(read(&registry, "b", &digest).await, b"content");
    assert_eq!(std::fs::read_dir(home.path().join("uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn manifests_are_listed_a_part_at_a_time() {
    for stores in ALL {
        let home = TempDir::new().unwrap();
        let registry = open(stores, home.path(), Limits::default(), clock()).await;
        for repository in ["team/app", "team/app-2", "team/ap"] {
            for number in 0..5 {
                let manifest = json!({
                    "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
                    "annotations": { "of": format!("{repository} {number}") },
                });
                registry.put_manifest(repository, &[], None, "", manifest.to_string()).await.unwrap();
            }
        }
        let all = registry.manifests("team/app").await.unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let some = registry.some_manifests("team/app", after.as_ref(), 2).await.unwrap();
            let Some(last) = some.last() else { break };
            after = Some(last.clone());
            assert!(some.len() <= 2);
            found.extend(some);
        }
        assert_eq!(found, all);
        assert_eq!(found.len(), 5);
    }
}

/// After a loss of power there may be a record of a blob whose pusher was told nothing.
#[tokio::test]
async fn a_record_without_its_content_counts_for_nothing() {
    let directory = TempDir::new().unwrap();
    let registry = open(Stores::Disk, directory.path(), Limits::default(), clock()).await;
    registry.put_blob("a/app", "first").await.unwrap();
    let stored = registry.put_blob("a/app", "content").await.unwrap();
    std::fs::remove_file(registry.blobs().path(&stored.digest).unwrap()).unwrap();
    assert_eq!(registry.blob_size("a/app", &stored.digest).await.unwrap(), None);
    let named = json!({ "mediaType": "application/x", "digest": stored.digest, "size": stored.size });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": image::media::OCI_MANIFEST, "config": named, "layers": [],
    });
    let pushed = registry.put_manifest("a/app", &["v1"], None, "", manifest.to_string()).await;
    assert_eq!(pushed.unwrap_err().kind, Kind::ManifestBlobUnknown);
    for parts in [true, false] {
        let id = registry.start_upload("a/app", Algorithm::Sha256).await.unwrap();
        if parts {
            registry.append_upload("a/app", &id, None, chunks(&["content"])).await.unwrap();
            registry.finish_upload("a/app", &id, &stored.digest, None, chunks(&[])).await.unwrap();
        } else {
            registry.finish_upload("a/app", &id, &stored.digest, None, chunks(&["content"])).await.unwrap();
        }
        assert_eq!(read(&registry, "a/app", &stored.digest).await, b"content");
        std::fs::remove_file(registry.blobs().path(&stored.digest).unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_repository_that_was_deleted_begins_anew_with_a_push() {
    let directory = TempDir::new().unwrap();
    let registry = open(Stores::Disk, directory.path(), Limits::default(), clock()).await;
    for round in 0..3 {
        for content in ["one", "two", "three"] {
            registry.put_blob("a/app", format!("{content} {round}")).await.unwrap();
        }
        assert_eq!(registry.repositories(None, 10).await.unwrap().names, ["a/app"], "round {round}");
        registry.delete_repository("a/app").await.unwrap();
        assert!(registry.repositories(None, 10).await.unwrap().names.is_empty());
    }
}
