//! What the client tells whom.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::Request, http::StatusCode, response::IntoResponse};
use bytes::Bytes;
use image::client::{Client, Credentials, Options};
use tokio::net::TcpListener;

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn credentials_go_to_the_registry_and_not_to_where_it_sends_an_upload() {
    let told = Arc::new(AtomicUsize::new(0));
    let seen = told.clone();
    let elsewhere = serve(Router::new().fallback(move |request: Request| {
        seen.fetch_add(usize::from(request.headers().contains_key("authorization")), Ordering::Relaxed);
        async { StatusCode::CREATED }
    }))
    .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let registry = serve(Router::new().fallback(move |request: Request| {
        let known = request.headers().contains_key("authorization");
        seen.fetch_add(usize::from(known), Ordering::Relaxed);
        let place = format!("http://{elsewhere}/storage?signed=1");
        async move {
            match (known, request.method().as_str()) {
                (false, _) => (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"r\"")]).into_response(),
                (true, "POST") => (StatusCode::ACCEPTED, [("location", place)]).into_response(),
                (true, "PUT") => StatusCode::CREATED.into_response(),
                _ => StatusCode::NOT_FOUND.into_response(),
            }
        }
    }))
    .await;
    let credentials = Credentials { user: "ada".into(), password: "secret".into() };
    let options = Options { credentials: Arc::new(move |_| Some(credentials.clone())), ..Options::default() };
    let client = Client::new(options).unwrap();
    let blob = Bytes::from_static(b"{}");
    let descriptor = serde_json::json!({
        "mediaType": image::media::OCI_CONFIG, "size": 2,
        "digest": image::hash::digest(image::Algorithm::Sha256, &blob),
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": image::media::OCI_MANIFEST, "config": descriptor, "layers": [],
    });
    let to = format!("{registry}/a/b:1").parse().unwrap();
    let manifest = serde_json::to_vec(&manifest).unwrap();
    client.push_artifact(&to, image::media::OCI_MANIFEST, manifest.into(), &[blob]).await.unwrap();
    assert!(asked.load(Ordering::Relaxed) >= 3, "the registry was asked with credentials");
    assert_eq!(told.load(Ordering::Relaxed), 0, "nobody else was told them");
}

/// A registry as they were before the referrers API: manifests by name, and every blob is there.
#[derive(Clone, Default)]
struct Old(Arc<std::sync::Mutex<std::collections::BTreeMap<String, Bytes>>>);

impl Old {
    async fn answer(self, request: Request) -> axum::response::Response {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let manifest = path.strip_prefix("/v2/a/b/manifests/").map(str::to_owned);
        match (parts.method.as_str(), manifest) {
            ("HEAD", None) => StatusCode::OK.into_response(),
            ("PUT", Some(name)) => {
                let content = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let digest = image::hash::digest(image::Algorithm::Sha256, &content).to_string();
                let mut all = self.0.lock().unwrap();
                all.insert(digest, content.clone());
                all.insert(name, content);
                StatusCode::CREATED.into_response()
            }
            ("GET", Some(name)) => match self.0.lock().unwrap().get(&name) {
                Some(content) => content.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

#[tokio::test]
async fn what_is_attached_is_found_at_registries_that_have_no_list_of_it() {
    let old = Old::default();
    let served = old.clone();
    let host = serve(Router::new().fallback(move |request: Request| served.clone().answer(request))).await;
    let client = Client::new(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let limits = image::registry::Limits::default();
    let registry = support::open(support::Stores::Memory, directory.path(), limits, support::clock()).await;
    let put = async |text: serde_json::Value, tag: &[&str]| {
        registry.put_image("a/b", tag, image::media::OCI_MANIFEST, text.to_string()).await.unwrap().digest
    };
    let empty = registry.store(&b"{}"[..]).await.unwrap();
    let config = serde_json::json!({ "mediaType": image::media::OCI_CONFIG, "digest": empty.digest, "size": 2 });
    let plain = serde_json::json!({
        "schemaVersion": 2, "mediaType": image::media::OCI_MANIFEST, "config": config, "layers": [],
    });
    let subject = put(plain.clone(), &["1"]).await;
    let to: image::Reference = format!("{host}/a/b:1").parse().unwrap();
    let push = async |digest: &records::Digest| {
        let to = image::Reference { tag: None, digest: Some(digest.clone()), ..to.clone() };
        let reference = image::registry::ManifestRef::Digest(digest.clone());
        client.push(&registry, "a/b", &reference, &to).await.unwrap();
    };
    push(&subject).await;
    assert_eq!(client.referrers(&to, &subject, "text/x").await.unwrap(), []);
    let mut attached = Vec::new();
    for kind in ["text/x", "text/y", "text/x"] {
        let mut text = plain.clone();
        text["artifactType"] = kind.into();
        text["annotations"] = serde_json::json!({ "number": attached.len().to_string() });
        text["subject"] = serde_json::json!({
            "mediaType": image::media::OCI_MANIFEST, "digest": subject, "size": plain.to_string().len(),
        });
        attached.push(put(text, &[]).await);
    }
    // Twice, which is once.
    for digest in attached.iter().chain(&attached) {
        push(digest).await;
    }
    let found = client.referrers(&to, &subject, "text/x").await.unwrap();
    let found: Vec<_> = found.into_iter().map(|one| one.digest).collect();
    assert_eq!(found, [attached[0].clone(), attached[2].clone()]);
    let kept = old.0.lock().unwrap().keys().filter(|name| name.starts_with("sha256-")).count();
    assert_eq!(kept, 1, "one list for one subject");
}
