use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::StreamExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::table::tests::{key, serving};
use super::*;

const HOST: &str = "web.shop.localhost:8080";

/// A server with a name; ended, it breaks every connection off.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(name: &'static str, request: Request<hyper::body::Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Response::new(Body::from(name))
        }
        "/echo" => Response::new(Body::new(request.into_body())),
        "/host" => {
            let host = request.headers()[header::HOST].to_str().unwrap().to_owned();
            Response::new(Body::from(format!("{host} {:?}", request.headers().get("x-secret"))))
        }
        "/upgrade" => {
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.unwrap();
                let mut stream = TokioIo::new(upgraded);
                let mut buffer = [0; 64];
                let n = stream.read(&mut buffer).await.unwrap();
                stream.write_all(&buffer[..n].to_ascii_uppercase()).await.unwrap();
            });
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("shout"));
            response
        }
        _ => Response::new(Body::from(name)),
    })
}

async fn server(name: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let service = service_fn(move |request| answer(name, request));
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    });
    Server { address, task }
}

/// A server that answers each connection with these bytes as they are and closes it.
async fn raw(bytes: &'static [u8]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    Server { address, task }
}

fn router(addresses: &[SocketAddr]) -> (Router, Arc<Table>) {
    let table = Arc::new(Table::default());
    table.set(key(), Some(serving(addresses)));
    let config = RouterConfig { patience: Duration::from_secs(60), ..RouterConfig::default() };
    (Router::new(table.clone(), config), table)
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

async fn text(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn hosts_name_services() {
    for (host, expected) in [
        ("web.shop.localhost", Some(("shop", "web"))),
        ("WEB.Shop.localhost:8080", Some(("shop", "web"))),
        ("web.localhost.", Some(("default", "web"))),
        ("localhost", None),
        ("localhost:8080", None),
        ("a.b.c.localhost", None),
        ("web.shop.example.org", None),
        (".shop.localhost", None),
        ("127.0.0.1:80", None),
    ] {
        let expected = expected.map(|(namespace, name)| ServiceKey::new(namespace, name));
        assert_eq!(Router::service(host), expected, "{host}");
    }
}

#[tokio::test]
async fn requests_are_spread_and_headers_between_neighbours_stay_there() {
    let (one, two) = (server("one").await, server("two").await);
    let (router, _) = router(&[one.address, two.address]);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        seen.insert(text(router.forward(HOST, get("/")).await).await.1);
    }
    assert_eq!(seen.len(), 2);
    let request = Request::get("/host").header("connection", "x-secret").header("x-secret", "1");
    let (_, said) = text(router.forward(HOST, request.body(Body::empty()).unwrap()).await).await;
    assert_eq!(said, format!("{HOST} None"));
}

#[tokio::test]
async fn a_pod_that_is_gone_or_breaks_off_costs_no_request() {
    let good = server("good").await;
    let gone = server("gone").await;
    let gone_at = gone.address;
    drop(gone);
    let silent = raw(b"").await;
    let cut = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await;
    let (router, _) = router(&[gone_at, silent.address, cut.address, good.address]);
    for _ in 0..20 {
        assert_eq!(text(router.forward(HOST, get("/")).await).await, (200, "good".into()));
    }
    let traffic = &router.traffic()[&key()];
    assert_eq!((traffic.requests, traffic.failures), (20, 0));
    assert!(traffic.retries > 0);
}

#[tokio::test]
async fn a_request_that_may_have_been_acted_upon_is_not_sent_twice() {
    let silent = raw(b"").await;
    let good = server("good").await;
    let (router, table) = router(&[silent.address]);
    let post = || Request::post("/echo").body(Body::from("once")).unwrap();
    let (status, page) = text(router.forward(HOST, post()).await).await;
    assert_eq!(status, 502);
    assert!(page.contains("not sent again"), "{page}");
    // A refused connection is another matter: nothing was sent.
    let gone = server("gone").await.address;
    table.set(key(), Some(serving(&[gone, good.address])));
    for _ in 0..6 {
        assert_eq!(text(router.forward(HOST, post()).await).await, (200, "once".into()));
    }
}

#[tokio::test]
async fn requests_wait_for_a_pod_and_are_told_no_when_none_comes() {
    let (router, table) = router(&[]);
    let asking = tokio::spawn(async move { text(router.forward(HOST, get("/")).await).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = server("late").await;
    table.set(key(), Some(serving(&[late.address])));
    assert_eq!(asking.await.unwrap(), (200, "late".into()));
    table.set(key(), Some(serving(&[])));
    let hasty = RouterConfig { patience: Duration::from_millis(100), ..RouterConfig::default() };
    let router = Router::new(table.clone(), hasty);
    let (status, page) = text(router.forward(HOST, get("/")).await).await;
    assert_eq!(status, 503);
    assert!(page.contains("no pod of it is ready") && page.contains("kubectl -n shop get pods"), "{page}");
    table.set(key(), None);
    assert_eq!(text(router.forward(HOST, get("/")).await).await.0, 404);
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let table = Arc::new(Table::default());
    table.set(key(), Some(serving(&[])));
    let router =
        Router::new(table, RouterConfig { queue: 0, patience: Duration::from_secs(3600), ..RouterConfig::default() });
    let answer = tokio::time::timeout(Duration::from_secs(60), router.forward(HOST, get("/"))).await;
    assert_eq!(answer.expect("it does not wait").status(), 503);
}

#[tokio::test]
async fn a_connection_that_is_upgraded_passes_through() {
    let one = server("one").await;
    let (router, _) = router(&[one.address]);
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = front.accept().await.unwrap();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move { Ok::<_, Infallible>(router.forward(HOST, request.map(Body::new)).await) }
        });
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 512];
    let n = client.read(&mut buffer).await.unwrap();
    let head = String::from_utf8_lossy(&buffer[..n]).into_owned();
    assert!(head.starts_with("HTTP/1.1 101") && head.to_lowercase().contains("upgrade: shout"), "{head}");
    client.write_all(b"hello").await.unwrap();
    let n = client.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..n], b"HELLO");
    task.abort();
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let one = server("one").await;
    let (router, _) = router(&[one.address]);
    let (send, receive) = tokio::sync::mpsc::channel::<Result<Bytes, Infallible>>(1);
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receive));
    let asking = tokio::spawn(async move { router.forward(HOST, Request::post("/echo").body(body).unwrap()).await });
    send.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
    let mut answer = asking.await.unwrap().into_body().into_data_stream();
    assert_eq!(answer.next().await.unwrap().unwrap(), "first", "before the request is at its end");
    send.send(Ok(Bytes::from_static(b"second"))).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "second");
    drop(send);
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn retiring_waits_for_what_is_under_way() {
    use crate::kubelet::Traffic;
    let one = server("one").await;
    let (router, table) = router(&[one.address]);
    let (send, receive) = tokio::sync::mpsc::channel::<Result<Bytes, Infallible>>(1);
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receive));
    let asking = tokio::spawn(async move { router.forward(HOST, Request::post("/echo").body(body).unwrap()).await });
    send.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
    let mut answer = asking.await.unwrap().into_body().into_data_stream();
    assert_eq!(answer.next().await.unwrap().unwrap(), "first");
    let mut retiring = std::pin::pin!(table.retire(one.address.ip(), Duration::from_secs(600)));
    let retired = tokio::time::timeout(Duration::from_millis(50), &mut retiring).await;
    assert!(retired.is_err(), "the request under way is answered first");
    drop(send);
    assert!(answer.next().await.is_none());
    drop(answer);
    tokio::time::timeout(Duration::from_secs(60), retiring).await.expect("nothing is under way any more");
    assert!(table.pick(&key(), "", &[]).is_none(), "nothing new goes there");
    table.forget(one.address.ip());
    assert!(table.pick(&key(), "", &[]).is_some());
}

/// Waits until the load has gone on for some requests.
async fn some_more(sent: &AtomicUsize) {
    let before = sent.load(Ordering::Relaxed);
    while sent.load(Ordering::Relaxed) < before + 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Pods are replaced one after the other under load, each vanishing without a word, in the middle of whatever it was doing.
#[tokio::test]
async fn replacing_every_pod_under_load_loses_no_request() {
    let mut servers = vec![server("a").await, server("b").await, server("c").await];
    let addresses = |servers: &[Server]| servers.iter().map(|server| server.address).collect::<Vec<_>>();
    let (router, table) = router(&addresses(&servers));
    let (stop, sent, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let (router, stop, sent, failed) = (router.clone(), stop.clone(), sent.clone(), failed.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let path = if n == 0 { "/slow" } else { "/" };
                    let (status, _) = text(router.forward(HOST, get(path)).await).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(status != 200), Ordering::Relaxed);
                }
            })
        })
        .collect();
    for name in ["d", "e", "f", "g", "h", "i"] {
        some_more(&sent).await;
        servers.push(server(name).await);
        table.set(key(), Some(serving(&addresses(&servers))));
        some_more(&sent).await;
        // It vanishes before the table knows.
        let gone = servers.remove(0);
        drop(gone);
        some_more(&sent).await;
        table.set(key(), Some(serving(&addresses(&servers))));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {}", sent.load(Ordering::Relaxed));
}
