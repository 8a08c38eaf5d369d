//! What the client tells whom.

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
