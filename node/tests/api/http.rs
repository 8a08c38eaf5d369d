//! Bare requests: who is let in, what is bounded, how errors look.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::harness::Node;

/// Sends one request over a connection of its own.
async fn send(node: &Node, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
    send_to(node.server.addr, node.server.credentials().authority.clone(), method, path, headers, body).await
}

async fn send_to(
    addr: std::net::SocketAddr,
    authority: String,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (u16, String) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Full::new(bytes::Bytes::from(body))).unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

fn status(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_shows_a_credential_is_let_in() {
    let node = Node::start().await;
    assert_eq!(send(&node, "GET", "/healthz", &[], vec![]).await, (200, "ok".into()));
    let (code, text) = send(&node, "GET", "/api/v1/secrets", &[], vec![]).await;
    assert_eq!((code, &status(&text)["reason"]), (401, &json!("Unauthorized")));
    let (code, _) = send(&node, "GET", "/api/v1/secrets", &[("authorization", "Bearer wrong")], vec![]).await;
    assert_eq!(code, 401);
    let (code, _) = send(&node, "GET", "/no/such/path", &[], vec![]).await;
    assert_eq!(code, 401, "strangers learn nothing about paths");
    let token = format!("Bearer {}", node.server.credentials().token);
    let (code, text) = send(&node, "GET", "/api/v1/secrets", &[("authorization", &token)], vec![]).await;
    assert_eq!((code, &status(&text)["kind"]), (200, &json!("SecretList")));
    node.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_answered_with_a_status() {
    let node = Node::start().await;
    let token = format!("Bearer {}", node.server.credentials().token);
    let json_type = [("authorization", token.as_str()), ("content-type", "application/json")];
    let maps = "/api/v1/namespaces/default/configmaps";
    let good = br#"{"metadata": {"name": "a"}}"#.to_vec();
    let cases: Vec<(&str, &str, Vec<u8>, u16, &str)> = vec![
        ("POST", maps, vec![b' '; (3 << 20) + 1], 413, "RequestEntityTooLarge"),
        ("POST", maps, b"{".to_vec(), 400, "BadRequest"),
        ("POST", maps, b"[]".to_vec(), 400, "BadRequest"),
        (
            "POST",
            maps,
            br#"{"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}"#.to_vec(),
            400,
            "BadRequest",
        ),
        ("POST", maps, br#"{"metadata": {"name": "a", "namespace": "b"}}"#.to_vec(), 400, "BadRequest"),
        ("POST", maps, br#"{"metadata": {}}"#.to_vec(), 422, "Invalid"),
        ("POST", maps, br#"{"metadata": {"name": "../../etc"}}"#.to_vec(), 422, "Invalid"),
        ("POST", "/api/v1/namespaces/nowhere/configmaps", good.clone(), 404, "NotFound"),
        ("PUT", "/api/v1/namespaces/default/configmaps/a", good.clone(), 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/configmaps/a", vec![], 404, "NotFound"),
        ("GET", "/apis/apps/v1/namespaces/default/daemonsets", vec![], 404, "NotFound"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", b"[]".to_vec(), 400, "BadRequest"),
        ("POST", "/healthz", vec![], 405, "MethodNotAllowed"),
        ("POST", "/api/v1/namespaces/default/configmaps/a", vec![], 405, "MethodNotAllowed"),
        ("GET", "/api/v1/pods?labelSelector=a+in+(", vec![], 400, "BadRequest"),
        ("GET", "/api/v1/pods?fieldSelector=spec.colour%3Dred", vec![], 400, "BadRequest"),
        ("GET", "/api/v1/pods?continue=nonsense", vec![], 400, "BadRequest"),
        ("GET", "/api/v1/pods?limit=many", vec![], 400, "BadRequest"),
        ("GET", "/api/v1/namespaces/default/pods/p/exec", vec![], 404, "NotFound"),
        ("DELETE", "/api/v1/namespaces/kube-system", vec![], 403, "Forbidden"),
        ("POST", "/api/v1/namespaces/default/configmaps?dryRun=Some", good.clone(), 400, "BadRequest"),
    ];
    for (method, path, body, code, reason) in cases {
        let (found, text) = send(&node, method, path, &json_type, body).await;
        let status = status(&text);
        assert_eq!((found, &status["reason"]), (code, &json!(reason)), "{method} {path}: {text}");
        assert_eq!((&status["kind"], &status["code"]), (&json!("Status"), &json!(code)), "{text}");
    }
    let other = [("authorization", token.as_str()), ("content-type", "application/cbor")];
    assert_eq!(send(&node, "POST", maps, &other, good.clone()).await.0, 415);
    let path = "/api/v1/namespaces/default/configmaps/a";
    assert_eq!(send(&node, "POST", maps, &json_type, good).await.0, 201);
    assert_eq!(send(&node, "PATCH", path, &json_type, b"{}".to_vec()).await.0, 415);
    let patch = [("authorization", token.as_str()), ("content-type", "application/json-patch+json")];
    let many = format!("[{}]", vec![r#"{"op":"test","path":"","value":1}"#; 10_001].join(","));
    assert_eq!(send(&node, "PATCH", path, &patch, many.into_bytes()).await.0, 413);
    let doubling: Vec<Value> = std::iter::once(json!({"op": "add", "path": "/data", "value": {"a": "x".repeat(1000)}}))
        .chain((0..40).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/c{n}")})))
        .collect();
    let doubling = serde_json::to_vec(&doubling).unwrap();
    assert_eq!(send(&node, "PATCH", path, &patch, doubling).await.0, 413);
    let failing = br#"[{"op":"test","path":"/metadata/name","value":"b"}]"#.to_vec();
    assert_eq!(send(&node, "PATCH", path, &patch, failing).await.0, 422);
    node.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_a_forgotten_version_is_told_in_the_stream() {
    let node = Node::start().await;
    let token = format!("Bearer {}", node.server.credentials().token);
    let write = async |n: usize| {
        let object = json!({"metadata": {"name": format!("c{n}")}});
        node.objects.create(&node::objects::resource::CONFIG_MAPS, object).await.unwrap();
    };
    write(0).await;
    let from = node.objects.version();
    futures::future::join_all((1..2200).map(write)).await;
    let path = format!("/api/v1/configmaps?watch=true&resourceVersion={from}");
    let (code, text) = send(&node, "GET", &path, &[("authorization", &token)], vec![]).await;
    let event = status(&text);
    assert_eq!((code, &event["type"], &event["object"]["code"]), (200, &json!("ERROR"), &json!(410)));
    node.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_asked_and_with_the_server() {
    let node = Node::start().await;
    let token = format!("Bearer {}", node.server.credentials().token);
    let headers = [("authorization", token.as_str())];
    let path = "/api/v1/namespaces?watch=true&timeoutSeconds=1&allowWatchBookmarks=true";
    let (code, text) = send(&node, "GET", path, &headers, vec![]).await;
    let kinds: Vec<String> = text.lines().map(|line| status(line)["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!((code, kinds.join(" ")), (200, "ADDED ADDED ADDED BOOKMARK".into()));
    let (addr, authority) = (node.server.addr, node.server.credentials().authority.clone());
    let header = token.clone();
    let watching = tokio::spawn(async move {
        let headers = [("authorization", header.as_str())];
        send_to(addr, authority, "GET", "/api/v1/namespaces?watch=true", &headers, vec![]).await
    });
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(!watching.is_finished(), "a watch without an end goes on");
    let begun = tokio::time::Instant::now();
    node.server.shutdown().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(30));
    assert_eq!(watching.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_not_answered() {
    let node = Node::start().await;
    let client: Client<HttpConnector, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let uri: http::Uri = format!("http://{}/api", node.server.addr).parse().unwrap();
    assert!(client.get(uri).await.is_err());
    node.server.shutdown().await;
}
