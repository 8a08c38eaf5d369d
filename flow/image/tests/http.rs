//! The registry over HTTP: statuses, headers and error codes, on every pair of stores.

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use image::{
    hash::{self, Algorithm},
    media,
    registry::{
        Limits,
        http::{Action, AllowAll, Authorize, Decision, Scope, basic},
    },
};
use reqwest::{Client, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use support::{ALL, Served, Stores, serve, serve_with};

fn sha256(content: &[u8]) -> String {
    hash::digest(Algorithm::Sha256, content).to_string()
}

struct Api {
    served: Served,
    http: Client,
}

impl Api {
    async fn new(stores: Stores) -> Self {
        Self { served: serve(stores).await, http: Client::new() }
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", self.served.host) }
    }

    async fn send(&self, method: Method, path: &str) -> Response {
        self.http.request(method, self.url(path)).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path).await
    }

    async fn start(&self, repository: &str) -> String {
        let response = self.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/")).await;
        assert_eq!(response.status(), 202);
        text(&response, "location")
    }

    async fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let place = self.start(repository).await;
        let digest = sha256(content);
        let url = self.url(&format!("{place}?digest={digest}"));
        let response = self.http.put(url).body(content.to_vec()).send().await.unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(text(&response, "location"), format!("/v2/{repository}/blobs/{digest}"));
        assert_eq!(text(&response, "docker-content-digest"), digest);
        digest
    }

    async fn put_manifest(&self, repository: &str, name: &str, media_type: &str, body: &str) -> Response {
        let url = self.url(&format!("/v2/{repository}/manifests/{name}"));
        let request = self.http.put(url).header(header::CONTENT_TYPE, media_type).body(body.to_owned());
        request.send().await.unwrap()
    }

    async fn push_image(&self, repository: &str, tag: &str, layer: &[u8]) -> (String, String) {
        let config = self.push_blob(repository, b"{}").await;
        let layer_digest = self.push_blob(repository, layer).await;
        let manifest = image_manifest(&config, &layer_digest, layer.len(), json!({}));
        let response = self.put_manifest(repository, tag, media::OCI_MANIFEST, &manifest).await;
        assert_eq!(response.status(), 201);
        (sha256(manifest.as_bytes()), manifest)
    }
}

fn image_manifest(config: &str, layer: &str, size: usize, extra: Value) -> String {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": { "mediaType": media::OCI_CONFIG, "digest": config, "size": 2 },
        "layers": [{ "mediaType": media::OCI_LAYER, "digest": layer, "size": size }],
    });
    for (key, value) in extra.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    manifest.to_string()
}

fn text(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn fails(response: Response, status: u16, code: &str) {
    let found = response.status();
    assert_eq!(text(&response, "content-type"), "application/json");
    let body: Value = response.json().await.unwrap();
    assert_eq!((found.as_u16(), body["errors"][0]["code"].as_str().unwrap()), (status, code), "{body}");
    assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn the_base_answers() {
    for stores in ALL {
        let api = Api::new(stores).await;
        for path in ["/v2", "/v2/"] {
            let response = api.get(path).await;
            assert_eq!(response.status(), 200);
            assert_eq!(text(&response, "docker-distribution-api-version"), "registry/2.0");
        }
        fails(api.get("/v2/nothing").await, 404, "NAME_UNKNOWN").await;
        fails(api.send(Method::POST, "/v2/").await, 405, "UNSUPPORTED").await;
        fails(api.send(Method::PATCH, "/v2/a/manifests/x").await, 405, "UNSUPPORTED").await;
        fails(api.get("/v2/Upper/tags/list").await, 400, "NAME_INVALID").await;
        fails(api.get("/v2/%2e%2e%2fa/tags/list").await, 400, "NAME_INVALID").await;
    }
}

#[tokio::test]
async fn blobs_are_pushed_read_and_deleted() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let digest = api.push_blob("a/b", &content).await;
        let path = format!("/v2/a/b/blobs/{digest}");

        let response = api.send(Method::HEAD, &path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(text(&response, "content-length"), content.len().to_string());
        assert_eq!(text(&response, "docker-content-digest"), digest);
        let response = api.get(&path).await;
        assert_eq!(text(&response, "content-length"), content.len().to_string());
        assert!(response.bytes().await.unwrap() == content);

        for (range, status, part, shown) in [
            ("bytes=0-9", 206, &content[..10], "bytes 0-9/400000"),
            ("bytes=399999-", 206, &content[399_999..], "bytes 399999-399999/400000"),
            ("bytes=-4", 206, &content[399_996..], "bytes 399996-399999/400000"),
            ("bytes=10-99999999", 206, &content[10..], "bytes 10-399999/400000"),
            ("lines=5-7", 200, &content[..], ""),
        ] {
            let response = api.http.get(api.url(&path)).header("range", range).send().await.unwrap();
            assert_eq!((response.status().as_u16(), text(&response, "content-range")), (status, shown.to_owned()));
            assert!(response.bytes().await.unwrap() == part, "{range}");
        }
        for range in ["bytes=400000-", "bytes=5-2"] {
            let response = api.http.get(api.url(&path)).header("range", range).send().await.unwrap();
            assert_eq!(text(&response, "content-range"), "bytes */400000");
            fails(response, 416, "RANGE_INVALID").await;
        }
        let response =
            api.http.get(api.url(&path)).header("if-none-match", format!("\"{digest}\"")).send().await.unwrap();
        assert_eq!(response.status(), 304);

        let absent = sha256(b"absent");
        fails(api.get(&format!("/v2/a/b/blobs/{absent}")).await, 404, "BLOB_UNKNOWN").await;
        assert_eq!(api.send(Method::HEAD, &format!("/v2/a/b/blobs/{absent}")).await.status(), 404);
        // Another repository does not hold it.
        fails(api.get(&format!("/v2/other/blobs/{digest}")).await, 404, "BLOB_UNKNOWN").await;
        fails(api.get("/v2/a/b/blobs/sha256:zz").await, 400, "DIGEST_INVALID").await;

        assert_eq!(api.send(Method::DELETE, &path).await.status(), 202);
        fails(api.get(&path).await, 404, "BLOB_UNKNOWN").await;
        fails(api.send(Method::DELETE, &path).await, 404, "BLOB_UNKNOWN").await;
    }
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let digest = api.push_blob("a", b"").await;
        let response = api.get(&format!("/v2/a/blobs/{digest}")).await;
        assert_eq!((response.status(), text(&response, "content-length")), (StatusCode::OK, "0".into()));
        assert_eq!(response.bytes().await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn blobs_are_pushed_with_one_request() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let digest = sha256(b"once");
        let url = api.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        let response = api.http.post(&url).body("once").send().await.unwrap();
        assert_eq!((response.status().as_u16(), text(&response, "location")), (201, format!("/v2/a/blobs/{digest}")));
        assert_eq!(api.get(&format!("/v2/a/blobs/{digest}")).await.text().await.unwrap(), "once");
        fails(api.http.post(&url).body("twice").send().await.unwrap(), 400, "DIGEST_INVALID").await;
        let bad = api.url("/v2/a/blobs/uploads/?digest=md5:00");
        fails(api.http.post(bad).body("x").send().await.unwrap(), 400, "DIGEST_INVALID").await;
        let sum = hash::digest(Algorithm::Sha512, b"wide").to_string();
        let url = api.url(&format!("/v2/a/blobs/uploads/?digest={sum}"));
        assert_eq!(api.http.post(url).body("wide").send().await.unwrap().status(), 201);
        assert_eq!(api.get(&format!("/v2/a/blobs/{sum}")).await.text().await.unwrap(), "wide");
    }
}

#[tokio::test]
async fn blobs_are_pushed_in_parts() {
    for stores in ALL {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let api = Api::new(stores).await;
            let digest = hash::digest(algorithm, b"0123456789");
            // The hint about the algorithm is optional.
            for hint in [String::new(), format!("?digest-algorithm={algorithm}")] {
                let response = api.send(Method::POST, &format!("/v2/a/blobs/uploads/{hint}")).await;
                assert_eq!((response.status().as_u16(), text(&response, "range")), (202, "0-0".into()));
                let place = text(&response, "location");
                let part = |range: &str, body: &str| {
                    let request = api.http.patch(api.url(&place)).header("content-range", range.to_owned());
                    request.body(body.to_owned()).send()
                };
                let response = part("0-3", "0123").await.unwrap();
                assert_eq!((response.status().as_u16(), text(&response, "range")), (202, "0-3".into()));
                assert_eq!(text(&response, "location"), place);
                // Again, too far, and backwards.
                for range in ["0-3", "6-9", "3-6"] {
                    let response = part(range, "xxxx").await.unwrap();
                    assert_eq!((text(&response, "range"), text(&response, "location")), ("0-3".into(), place.clone()));
                    fails(response, 416, "RANGE_INVALID").await;
                }
                fails(part("4-9", "4").await.unwrap(), 400, "SIZE_INVALID").await;
                fails(part("nonsense", "4").await.unwrap(), 400, "BLOB_UPLOAD_INVALID").await;
                let response = api.get(&place).await;
                assert_eq!((response.status().as_u16(), text(&response, "range")), (204, "0-3".into()));
                // Without a range a part is simply the next.
                let response = api.http.patch(api.url(&place)).body("45").send().await.unwrap();
                assert_eq!(text(&response, "range"), "0-5");
                fails(api.send(Method::PUT, &place).await, 400, "DIGEST_INVALID").await;
                let last = api.http.put(api.url(&format!("{place}?digest={digest}")));
                let response = last.header("content-range", "6-9").body("6789").send().await.unwrap();
                assert_eq!(response.status(), 201);
                assert_eq!(api.get(&text(&response, "location")).await.text().await.unwrap(), "0123456789");
                fails(api.get(&place).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_digest_keeps_nothing() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let wrong = sha256(b"something else");
        for parts in [false, true] {
            let place = api.start("a").await;
            if parts {
                assert_eq!(api.http.patch(api.url(&place)).body("abc").send().await.unwrap().status(), 202);
            }
            let closing = api.http.put(api.url(&format!("{place}?digest={wrong}"))).body("def");
            fails(closing.send().await.unwrap(), 400, "DIGEST_INVALID").await;
            fails(api.get(&format!("/v2/a/blobs/{wrong}")).await, 404, "BLOB_UNKNOWN").await;
            fails(api.get(&place).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
        }
        let uploads = api.served.directory.path().join("uploads");
        assert_eq!(std::fs::read_dir(uploads).unwrap().count(), 0, "files of uploads stay behind");
    }
}

#[tokio::test]
async fn uploads_are_cancelled_and_belong_to_one_repository() {
    let api = Api::new(Stores::Memory).await;
    let place = api.start("a").await;
    let id = place.rsplit('/').next().unwrap();
    fails(api.get(&format!("/v2/b/blobs/uploads/{id}")).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    assert_eq!(api.send(Method::DELETE, &place).await.status(), 204);
    fails(api.send(Method::PATCH, &place).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    fails(api.get("/v2/a/blobs/uploads/..%2f..%2fx").await, 404, "NAME_UNKNOWN").await;
    fails(api.get("/v2/a/blobs/uploads/x").await, 404, "BLOB_UPLOAD_UNKNOWN").await;
}

#[tokio::test]
async fn uploads_are_bounded() {
    let limits = Limits { blob: 1000, uploads: 2, ..Limits::default() };
    let api = Api { served: serve_with(Stores::Disk, limits, Arc::new(AllowAll)).await, http: Client::new() };
    let place = api.start("a").await;
    let url = api.url(&place);
    assert_eq!(api.http.patch(&url).body(vec![1; 900]).send().await.unwrap().status(), 202);
    fails(api.http.patch(&url).body(vec![1; 101]).send().await.unwrap(), 400, "SIZE_INVALID").await;
    assert_eq!(text(&api.get(&place).await, "range"), "0-899");
    let big = vec![1; 1001];
    let post = api.url(&format!("/v2/a/blobs/uploads/?digest={}", sha256(&big)));
    fails(api.http.post(post).body(big).send().await.unwrap(), 400, "SIZE_INVALID").await;
    api.start("a").await;
    fails(api.send(Method::POST, "/v2/a/blobs/uploads/").await, 429, "TOOMANYREQUESTS").await;
    assert_eq!(api.send(Method::DELETE, &place).await.status(), 204);
    api.start("a").await;
}

#[tokio::test]
async fn blobs_are_mounted() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let digest = api.push_blob("from", b"shared").await;
        let mount = |query: &str| format!("/v2/to/blobs/uploads/?mount={digest}{query}");
        let response = api.send(Method::POST, &mount("&from=nowhere")).await;
        assert_eq!(response.status(), 202);
        assert!(text(&response, "location").contains("/uploads/"));
        for query in ["&from=from", ""] {
            let response = api.send(Method::POST, &mount(query)).await;
            assert_eq!(
                (response.status().as_u16(), text(&response, "location")),
                (201, format!("/v2/to/blobs/{digest}"))
            );
            assert_eq!(api.get(&format!("/v2/to/blobs/{digest}")).await.text().await.unwrap(), "shared");
            assert_eq!(api.send(Method::DELETE, &format!("/v2/to/blobs/{digest}")).await.status(), 202);
        }
        assert_eq!(api.send(Method::DELETE, &format!("/v2/from/blobs/{digest}")).await.status(), 202);
        assert_eq!(api.send(Method::POST, &mount("")).await.status(), 202, "nobody holds it any more");
        fails(api.send(Method::POST, &mount("&from=Bad")).await, 400, "NAME_INVALID").await;
    }
}

#[tokio::test]
async fn manifests_are_pushed_and_read_as_they_were() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let (digest, manifest) = api.push_image("a/b", "v1", b"layer").await;
        for name in ["v1", &digest] {
            for method in [Method::GET, Method::HEAD] {
                let response = api.send(method.clone(), &format!("/v2/a/b/manifests/{name}")).await;
                assert_eq!(response.status(), 200);
                assert_eq!(text(&response, "content-type"), media::OCI_MANIFEST);
                assert_eq!(text(&response, "docker-content-digest"), digest);
                assert_eq!(text(&response, "content-length"), manifest.len().to_string());
                if method == Method::GET {
                    assert_eq!(response.text().await.unwrap(), manifest);
                }
            }
        }
        fails(api.get("/v2/a/b/manifests/v2").await, 404, "MANIFEST_UNKNOWN").await;
        fails(api.get("/v2/none/manifests/v1").await, 404, "MANIFEST_UNKNOWN").await;
        fails(api.get(&format!("/v2/other/manifests/{digest}")).await, 404, "MANIFEST_UNKNOWN").await;
        fails(api.get("/v2/a/b/manifests/.bad").await, 400, "TAG_INVALID").await;

        // A tag moves; the old manifest stays.
        let (second, _) = api.push_image("a/b", "v1", b"other").await;
        assert_eq!(text(&api.get("/v2/a/b/manifests/v1").await, "docker-content-digest"), second);
        assert_eq!(api.get(&format!("/v2/a/b/manifests/{digest}")).await.status(), 200);

        assert_eq!(api.send(Method::DELETE, "/v2/a/b/manifests/v1").await.status(), 202);
        fails(api.get("/v2/a/b/manifests/v1").await, 404, "MANIFEST_UNKNOWN").await;
        assert_eq!(api.get(&format!("/v2/a/b/manifests/{second}")).await.status(), 200);
        fails(api.send(Method::DELETE, "/v2/a/b/manifests/v1").await, 404, "MANIFEST_UNKNOWN").await;

        // With a manifest go all tags that stand for it.
        for tag in ["x", "y"] {
            assert_eq!(api.put_manifest("a/b", tag, media::OCI_MANIFEST, &manifest).await.status(), 201);
        }
        assert_eq!(api.send(Method::DELETE, &format!("/v2/a/b/manifests/{digest}")).await.status(), 202);
        for name in ["x", "y", &digest] {
            fails(api.get(&format!("/v2/a/b/manifests/{name}")).await, 404, "MANIFEST_UNKNOWN").await;
        }
        fails(api.send(Method::DELETE, &format!("/v2/a/b/manifests/{digest}")).await, 404, "MANIFEST_UNKNOWN").await;
    }
}

#[tokio::test]
async fn manifests_are_checked() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let (digest, manifest) = api.push_image("a", "v1", b"layer").await;
        let put = async |name: &str, media_type: &str, body: &str| api.put_manifest("a", name, media_type, body).await;
        fails(put(&sha256(b"x"), media::OCI_MANIFEST, &manifest).await, 400, "DIGEST_INVALID").await;
        fails(put("v2", media::OCI_INDEX, &manifest).await, 400, "MANIFEST_INVALID").await;
        fails(put("v2", "text/plain", "{}").await, 400, "MANIFEST_INVALID").await;
        fails(put("v2", media::OCI_MANIFEST, "not json").await, 400, "MANIFEST_INVALID").await;
        fails(put("sha256:12", media::OCI_MANIFEST, &manifest).await, 400, "DIGEST_INVALID").await;
        fails(put("-x", media::OCI_MANIFEST, &manifest).await, 400, "TAG_INVALID").await;
        let config = sha256(b"{}");
        let absent = image_manifest(&config, &sha256(b"absent"), 6, json!({}));
        fails(put("v2", media::OCI_MANIFEST, &absent).await, 400, "MANIFEST_BLOB_UNKNOWN").await;
        let lying = image_manifest(&config, &sha256(b"layer"), 4, json!({}));
        fails(put("v2", media::OCI_MANIFEST, &lying).await, 400, "MANIFEST_INVALID").await;
        let foreign = absent.replace(media::OCI_LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
        assert_eq!(put("v2", media::OCI_MANIFEST, &foreign).await.status(), 201);
        let elsewhere = api.put_manifest("b", "v1", media::OCI_MANIFEST, &manifest).await;
        fails(elsewhere, 400, "MANIFEST_BLOB_UNKNOWN").await;

        let index = |child: &str, size: usize| {
            json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
                { "mediaType": media::OCI_MANIFEST, "digest": child, "size": size }] })
            .to_string()
        };
        fails(put("i", media::OCI_INDEX, &index(&sha256(b"no"), 2)).await, 400, "MANIFEST_BLOB_UNKNOWN").await;
        fails(put("i", media::OCI_INDEX, &index(&digest, 2)).await, 400, "MANIFEST_INVALID").await;
        assert_eq!(put("i", media::OCI_INDEX, &index(&digest, manifest.len())).await.status(), 201);

        let pad = |length: usize| {
            let manifest = image_manifest(&config, &sha256(b"layer"), 5, json!({ "annotations": { "pad": "" } }));
            let fill = length - manifest.len();
            manifest.replace("\"pad\":\"\"", &format!("\"pad\":\"{}\"", "x".repeat(fill)))
        };
        assert_eq!(put("big", media::OCI_MANIFEST, &pad(4 << 20)).await.status(), 201);
        assert_eq!(api.get("/v2/a/manifests/big").await.bytes().await.unwrap().len(), 4 << 20);
        fails(put("big", media::OCI_MANIFEST, &pad((4 << 20) + 1)).await, 413, "SIZE_INVALID").await;
    }
}

#[tokio::test]
async fn docker_manifests_and_lists_are_taken() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let config = api.push_blob("d", b"{}").await;
        let layer = api.push_blob("d", b"layer").await;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::DOCKER_MANIFEST,
            "config": { "mediaType": media::DOCKER_CONFIG, "digest": config, "size": 2 },
            "layers": [{ "mediaType": media::DOCKER_LAYER_GZIP, "digest": layer, "size": 5 }],
        })
        .to_string();
        assert_eq!(api.put_manifest("d", "one", media::DOCKER_MANIFEST, &manifest).await.status(), 201);
        let list = json!({
            "schemaVersion": 2, "mediaType": media::DOCKER_MANIFEST_LIST,
            "manifests": [{ "mediaType": media::DOCKER_MANIFEST, "digest": sha256(manifest.as_bytes()), "size": manifest.len(),
                "platform": { "os": "linux", "architecture": "amd64" } }],
        })
        .to_string();
        assert_eq!(api.put_manifest("d", "list", media::DOCKER_MANIFEST_LIST, &list).await.status(), 201);
        assert_eq!(text(&api.get("/v2/d/manifests/list").await, "content-type"), media::DOCKER_MANIFEST_LIST);
    }
}

#[tokio::test]
async fn a_push_by_digest_sets_many_tags() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let (_, manifest) = api.push_image("a", "v1", b"layer").await;
        let digest = hash::digest(Algorithm::Sha512, manifest.as_bytes()).to_string();
        let response =
            api.put_manifest("a", &format!("{digest}?tag=x&tag=y&tag=x"), media::OCI_MANIFEST, &manifest).await;
        assert_eq!(response.status(), 201);
        assert_eq!(text(&response, "docker-content-digest"), digest);
        assert!(text(&response, "oci-tag").starts_with("x, y"));
        assert_eq!(text(&api.get("/v2/a/manifests/y").await, "docker-content-digest"), digest);
        let response = api.put_manifest("a", &format!("{digest}?tag=-"), media::OCI_MANIFEST, &manifest).await;
        fails(response, 400, "TAG_INVALID").await;
    }
}

#[tokio::test]
async fn tags_are_listed_in_pages() {
    for stores in ALL {
        let api = Api::new(stores).await;
        fails(api.get("/v2/a/tags/list").await, 404, "NAME_UNKNOWN").await;
        let (_, manifest) = api.push_image("a", "b", b"layer").await;
        for tag in ["C", "a", "_", "10", "2"] {
            api.put_manifest("a", tag, media::OCI_MANIFEST, &manifest).await;
        }
        // A neighbour with a longer name does not get in between.
        api.push_image("a-b", "zzz", b"layer").await;
        let all = ["10", "2", "C", "_", "a", "b"];
        let list = async |path: &str| {
            let response = api.get(path).await;
            assert_eq!(response.status(), 200);
            let link = text(&response, "link");
            let body: Value = response.json().await.unwrap();
            let tags: Vec<String> =
                body["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().into()).collect();
            assert_eq!(body["name"], "a");
            (tags, link)
        };
        assert_eq!(list("/v2/a/tags/list").await, (all.map(String::from).to_vec(), String::new()));
        assert_eq!(list("/v2/a/tags/list?n=0").await, (vec![], String::new()));
        assert_eq!(list("/v2/a/tags/list?last=_").await.0, ["a", "b"]);
        assert_eq!(list("/v2/a/tags/list?n=2&last=0").await.0, ["10", "2"]);
        assert_eq!(list("/v2/a/tags/list?n=6").await.1, "");
        let (mut path, mut seen) = ("/v2/a/tags/list?n=4".to_owned(), Vec::new());
        loop {
            let (tags, link) = list(&path).await;
            seen.extend(tags);
            match link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")) {
                Some(next) => path = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, all);
        fails(api.get("/v2/a/tags/list?n=-1").await, 400, "PAGINATION_NUMBER_INVALID").await;
        fails(api.get("/v2/a/tags/list?n=x").await, 400, "PAGINATION_NUMBER_INVALID").await;

        let catalog = async |path: &str| {
            let response = api.get(path).await;
            (text(&response, "link"), response.json::<Value>().await.unwrap()["repositories"].clone())
        };
        assert_eq!(catalog("/v2/_catalog").await, (String::new(), json!(["a", "a-b"])));
        let (link, first) = catalog("/v2/_catalog?n=1").await;
        assert_eq!((link.as_str(), first), ("</v2/_catalog?n=1&last=a>; rel=\"next\"", json!(["a"])));
        assert_eq!(catalog("/v2/_catalog?n=1&last=a").await, (String::new(), json!(["a-b"])));
    }
}

#[tokio::test]
async fn referrers_are_listed() {
    for stores in ALL {
        let api = Api::new(stores).await;
        let config = api.push_blob("a", b"{}").await;
        let layer = api.push_blob("a", b"layer").await;
        let subject = image_manifest(&config, &layer, 5, json!({}));
        let subject_digest = sha256(subject.as_bytes());
        let about = json!({ "mediaType": media::OCI_MANIFEST, "digest": subject_digest, "size": subject.len() });
        let path = format!("/v2/a/referrers/{subject_digest}");

        let list = async |query: &str| {
            let response = api.get(&format!("{path}{query}")).await;
            assert_eq!((response.status().as_u16(), text(&response, "content-type").as_str()), (200, media::OCI_INDEX));
            let filters = text(&response, "oci-filters-applied");
            let body: Value = response.json().await.unwrap();
            assert_eq!((&body["schemaVersion"], &body["mediaType"]), (&json!(2), &json!(media::OCI_INDEX)));
            (body["manifests"].as_array().unwrap().clone(), filters)
        };
        assert_eq!(list("").await, (vec![], String::new()));

        // The referrers come before what they refer to.
        let sbom = image_manifest(
            &config,
            &layer,
            5,
            json!({ "subject": about, "artifactType": "application/x.sbom", "annotations": { "k": "v" } }),
        );
        let plain = image_manifest(&config, &layer, 5, json!({ "subject": about }));
        let index =
            json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [], "subject": about }).to_string();
        for (body, media_type) in
            [(&sbom, media::OCI_MANIFEST), (&plain, media::OCI_MANIFEST), (&index, media::OCI_INDEX)]
        {
            for _ in 0..2 {
                let response = api.put_manifest("a", &sha256(body.as_bytes()), media_type, body).await;
                assert_eq!((response.status().as_u16(), text(&response, "oci-subject")), (201, subject_digest.clone()));
            }
        }
        let response = api.put_manifest("a", "v1", media::OCI_MANIFEST, &subject).await;
        assert_eq!(text(&response, "oci-subject"), "");

        let (all, filters) = list("").await;
        assert_eq!((all.len(), filters), (3, String::new()));
        let of = |body: &str| all.iter().find(|found| found["digest"] == sha256(body.as_bytes())).unwrap();
        assert_eq!(
            *of(&sbom),
            json!({ "mediaType": media::OCI_MANIFEST, "digest": sha256(sbom.as_bytes()), "size": sbom.len(),
                "artifactType": "application/x.sbom", "annotations": { "k": "v" } })
        );
        assert_eq!(of(&plain)["artifactType"], media::OCI_CONFIG);
        assert_eq!(of(&index).get("artifactType"), None);
        let (some, filters) = list("?artifactType=application%2Fx.sbom").await;
        assert_eq!((some.len(), filters.as_str()), (1, "artifactType"));
        assert_eq!(list("?artifactType=application/none").await.0.len(), 0);
        fails(api.get("/v2/a/referrers/sha256:0").await, 400, "DIGEST_INVALID").await;
        fails(api.get("/v2/a/referrers/latest").await, 400, "DIGEST_INVALID").await;

        assert_eq!(
            api.send(Method::DELETE, &format!("/v2/a/manifests/{}", sha256(sbom.as_bytes()))).await.status(),
            202
        );
        assert_eq!(list("").await.0.len(), 2);
        assert_eq!(api.send(Method::DELETE, &format!("/v2/a/manifests/{subject_digest}")).await.status(), 202);
        assert_eq!(list("").await.0.len(), 2, "referrers outlive their subject");
    }
}

#[tokio::test]
async fn long_lists_of_referrers_come_in_pages() {
    let api = Api::new(Stores::Memory).await;
    let config = api.push_blob("a", b"{}").await;
    let layer = api.push_blob("a", b"layer").await;
    let subject = sha256(b"subject");
    for n in 0..5 {
        let note = "x".repeat(1 << 20);
        let body = image_manifest(
            &config,
            &layer,
            5,
            json!({ "subject": { "mediaType": media::OCI_MANIFEST, "digest": subject, "size": 7 }, "annotations": { "n": format!("{n}{note}") } }),
        );
        assert_eq!(api.put_manifest("a", &sha256(body.as_bytes()), media::OCI_MANIFEST, &body).await.status(), 201);
    }
    let (mut path, mut pages, mut seen) =
        (format!("/v2/a/referrers/{subject}?artifactType={}", media::OCI_CONFIG), 0, Vec::new());
    loop {
        let response = api.get(&path).await;
        let link = text(&response, "link");
        assert_eq!(text(&response, "oci-filters-applied"), "artifactType");
        let body = response.text().await.unwrap();
        assert!(body.len() < 5 << 20);
        let body: Value = serde_json::from_str(&body).unwrap();
        seen.extend(body["manifests"].as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap().to_owned()));
        pages += 1;
        match link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")) {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    seen.dedup();
    assert_eq!((pages, seen.len()), (2, 5));
}

/// Reads are free, writes need the password, and the repository `secret` is for nobody; remembers what it was asked.
#[derive(Default)]
struct Door {
    asked: Mutex<Vec<(Option<String>, Action)>>,
}

#[async_trait]
impl Authorize for Door {
    async fn authorize(&self, authorization: Option<&str>, scope: Scope<'_>) -> Decision {
        self.asked.lock().unwrap().push((scope.repository.map(str::to_owned), scope.action));
        let known = authorization.and_then(basic) == Some(("admin".into(), "pass".into()));
        match (scope.repository, scope.action) {
            (Some("secret"), _) => Decision::Denied("`secret` is for nobody".into()),
            (_, Action::Pull) => Decision::Allow,
            _ if known => Decision::Allow,
            _ => Decision::Challenge,
        }
    }
}

#[tokio::test]
async fn every_request_is_put_to_the_door() {
    let door = Arc::new(Door::default());
    let api = Api { served: serve_with(Stores::Memory, Limits::default(), door.clone()).await, http: Client::new() };
    let digest = sha256(b"x");
    for (method, path) in [
        (Method::GET, "/v2/".to_owned()),
        (Method::GET, "/v2/_catalog".to_owned()),
        (Method::POST, "/v2/a/blobs/uploads/".to_owned()),
        (Method::PATCH, "/v2/a/blobs/uploads/x".to_owned()),
        (Method::PUT, "/v2/a/blobs/uploads/x?digest=y".to_owned()),
        (Method::GET, "/v2/a/blobs/uploads/x".to_owned()),
        (Method::PUT, "/v2/a/manifests/v1".to_owned()),
        (Method::DELETE, "/v2/a/manifests/v1".to_owned()),
        (Method::DELETE, format!("/v2/a/blobs/{digest}")),
        (Method::GET, "/v2/BAD/manifests/v1".to_owned()),
    ] {
        // Empty credentials, as some clients send them, are none.
        let response = api.http.request(method.clone(), api.url(&path)).basic_auth("", Some("")).send().await.unwrap();
        assert!(text(&response, "www-authenticate").starts_with("Basic realm="), "{method} {path}");
        fails(response, 401, "UNAUTHORIZED").await;
        let response = api.http.request(method, api.url(&path)).basic_auth("admin", Some("pass")).send().await.unwrap();
        assert_ne!(response.status(), 401, "{path}");
    }
    fails(api.get("/v2/secret/tags/list").await, 403, "DENIED").await;
    let asked = door.asked.lock().unwrap().clone();
    for expected in [
        (None, Action::Ping),
        (None, Action::Catalog),
        (Some("a".to_owned()), Action::Push),
        (Some("a".to_owned()), Action::Delete),
        (Some("secret".to_owned()), Action::Pull),
    ] {
        assert!(asked.contains(&expected), "{expected:?}");
    }
}

#[tokio::test]
async fn a_mount_needs_access_to_the_source() {
    let api = Api {
        served: serve_with(Stores::Memory, Limits::default(), Arc::new(Door::default())).await,
        http: Client::new(),
    };
    api.served.registry.put_blob("secret", "mine").await.unwrap();
    let digest = sha256(b"mine");
    for query in ["", "&from=secret"] {
        let url = api.url(&format!("/v2/to/blobs/uploads/?mount={digest}{query}"));
        let response = api.http.post(url).basic_auth("admin", Some("pass")).send().await.unwrap();
        assert_eq!(response.status(), 202, "must not learn that somebody has the blob");
    }
}
