//! HTTP to `<service>.<namespace>.localhost` goes to a pod of that Service.
//!
//! A request that no pod has begun to answer is sent to another one where that is safe: it was not sent yet, or its method says
//! that sending it twice does no harm. While a Service has no ready pod, requests wait a moment in a bounded queue. So pods can
//! be replaced one by one without a request that fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::load::Under;
use super::page::page;
use super::stats::{ServiceTraffic, Stats};
use super::table::{ServiceKey, Table};

mod body;

use body::{Counted, Replayable};

#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// How long a request waits for a pod that takes it.
    pub patience: Duration,
    /// How many requests may wait at the same time.
    pub queue: usize,
    pub connect_timeout: Duration,
    /// How long a pod may take to begin its answer.
    pub answer_timeout: Duration,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            queue: 1024,
            connect_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(60),
        }
    }
}

/// Idle connections are given up before servers do so by themselves (Node.js after 5 s): a request must not meet a closing one.
const IDLE: Duration = Duration::from_secs(4);
/// Answers up to this size are held until they are whole, so that one that breaks off can be asked for again.
const HELD: u64 = 64 << 10;
/// Between rounds through endpoints that all failed.
const PAUSE: Duration = Duration::from_millis(25);

/// Sends requests to pods. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

struct Inner {
    table: Arc<Table>,
    config: RouterConfig,
    /// Keeps connections open for requests that may be repeated.
    pooled: Client<HttpConnector, Replayable>,
    /// A new connection for each request that may not.
    fresh: Client<HttpConnector, Replayable>,
    waiting: Semaphore,
    stats: Arc<Stats>,
}

/// What became of one try.
enum Tried {
    Answer(Response<Body>),
    /// No answer, and the request may be sent again.
    Again(String),
    /// No answer, and it may have been acted upon.
    Lost(String),
}

impl Router {
    pub fn new(table: Arc<Table>, config: RouterConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(config.connect_timeout));
        connector.set_nodelay(true);
        let client = |idle: usize| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                .set_host(false)
                .build(connector.clone())
        };
        let (pooled, fresh) = (client(64), client(0));
        let waiting = Semaphore::new(config.queue);
        Self { inner: Arc::new(Inner { table, config, pooled, fresh, waiting, stats: Arc::default() }) }
    }

    /// The Service that a host name means: `<service>.<namespace>.localhost`, or `<service>.localhost` for the namespace
    /// `default`, with or without a port.
    pub fn service(host: &str) -> Option<ServiceKey> {
        let name =
            host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(n, _)| n);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let name = name.strip_suffix(".localhost")?;
        let (service, namespace) = name.split_once('.').unwrap_or((name, "default"));
        let is_label = |label: &str| !label.is_empty() && label.len() <= 63 && !label.contains('.');
        (is_label(service) && is_label(namespace)).then(|| ServiceKey::new(namespace, service))
    }

    /// Whether there is such a Service, for whoever decides whether a request is the router's.
    pub fn knows(&self, host: &str) -> bool {
        Self::service(host).is_some_and(|key| self.inner.table.get(&key).is_some())
    }

    /// Sends a request on and brings the answer back. Never fails: what cannot be had is a page that says why.
    pub async fn forward(&self, host: &str, request: Request<Body>) -> Response<Body> {
        let Some(key) = Self::service(host) else {
            let what = format!("“{host}” is not the name of a Service here.");
            return page(StatusCode::NOT_FOUND, &what, "http://<service>.<namespace>.localhost");
        };
        let began = Instant::now();
        let response = self.inner.serve(&key, host, request).await;
        self.inner.stats.answered(&key, response.status().as_u16(), began.elapsed());
        response
    }

    /// What was carried since the start, by Service.
    pub fn traffic(&self) -> std::collections::BTreeMap<ServiceKey, ServiceTraffic> {
        let table = self.inner.table.all();
        self.inner
            .stats
            .snapshot(|key, pod| table.get(key).is_some_and(|view| view.targets.iter().any(|target| target.pod == pod)))
    }
}

impl Inner {
    async fn serve(&self, key: &ServiceKey, host: &str, request: Request<Body>) -> Response<Body> {
        let Some(view) = self.table.get(key) else {
            let what = format!("There is no Service “{}” in the namespace “{}”.", key.name, key.namespace);
            return page(StatusCode::NOT_FOUND, &what, &format!("kubectl -n {} get services", key.namespace));
        };
        let Some(port) = view.web_port() else {
            let what = format!("The Service “{}” has no TCP port.", key.name);
            return page(
                StatusCode::BAD_GATEWAY,
                &what,
                &format!("kubectl -n {} get service {}", key.namespace, key.name),
            );
        };
        let port = port.name.clone();
        let mut sent = Sent::new(request, host);
        let deadline = Instant::now() + self.config.patience;
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut why = "no pod of it is ready".to_owned();
        loop {
            let Some((address, under)) = self.pick(key, &port, &mut tried, deadline).await else {
                let what =
                    format!("The Service “{}” in the namespace “{}” does not answer: {why}.", key.name, key.namespace);
                let hint = format!("kubectl -n {} get pods", key.namespace);
                return page(StatusCode::SERVICE_UNAVAILABLE, &what, &hint);
            };
            let pod = self.table.get(key).and_then(|view| view.pod_at(address.ip()).map(|target| target.pod.clone()));
            let began = Instant::now();
            let outcome = self.once(key, address, under, &mut sent).await;
            let status = match &outcome {
                Tried::Answer(response) => Some(response.status().as_u16()),
                _ => None,
            };
            if let Some(pod) = pod {
                self.stats.pod_answered(key, &pod, status, began.elapsed());
            }
            match outcome {
                Tried::Answer(response) => return response,
                Tried::Again(error) => {
                    tracing::debug!(%address, service = key.name, error, "asking another pod");
                    self.table.load.suspect(address);
                    tried.push(address);
                    why = error;
                }
                Tried::Lost(error) => {
                    let what = format!(
                        "A pod of the Service “{}” took the request and broke off: {error}. It was not sent again, because it may have been acted upon.",
                        key.name
                    );
                    return page(StatusCode::BAD_GATEWAY, &what, &format!("kubectl -n {} get pods", key.namespace));
                }
            }
        }
    }

    /// A pod that was not tried in this round; waits for one until the deadline.
    async fn pick(
        &self,
        key: &ServiceKey,
        port: &str,
        tried: &mut Vec<SocketAddr>,
        deadline: Instant,
    ) -> Option<(SocketAddr, Under)> {
        if let Some(picked) = self.table.pick(key, port, tried) {
            return Some(picked);
        }
        // The queue is full: better to say no at once than to let everybody wait for nothing.
        let _place = self.waiting.try_acquire().ok()?;
        let mut changes = self.table.changes();
        loop {
            changes.borrow_and_update();
            if let Some(picked) = self.table.pick(key, port, tried) {
                return Some(picked);
            }
            if Instant::now() >= deadline {
                return None;
            }
            if tried.is_empty() {
                tokio::time::timeout_at(deadline, changes.changed()).await.ok()?.ok()?;
            } else {
                // Every pod failed: after a moment all may be asked again.
                let _ = tokio::time::timeout(PAUSE, changes.changed()).await;
                tried.clear();
            }
        }
    }

    async fn once(&self, key: &ServiceKey, address: SocketAddr, under: Under, sent: &mut Sent) -> Tried {
        let request = match sent.request(address) {
            Ok(request) => request,
            Err(error) => return Tried::Lost(error),
        };
        let client = if sent.repeatable { &self.pooled } else { &self.fresh };
        let answer = tokio::time::timeout(self.config.answer_timeout, client.request(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let text = sentence(&error);
                let safe = error.is_connect() || sent.repeatable;
                return if safe && sent.is_whole() { Tried::Again(text) } else { Tried::Lost(text) };
            }
            Err(_) => return Tried::Lost(format!("no answer within {:?}", self.config.answer_timeout)),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Tried::Answer(switch(response, sent, under));
        }
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers);
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let held = sent.repeatable && sent.is_whole() && length.is_some_and(|length| length <= HELD);
        if held && sent.method != Method::HEAD {
            return match body.collect().await {
                Ok(whole) => Tried::Answer(Response::from_parts(parts, Body::from(whole.to_bytes()))),
                Err(error) => Tried::Again(sentence(&error)),
            };
        }
        let counted = Counted::new(body, under, self.stats.clone(), key.clone());
        Tried::Answer(Response::from_parts(parts, Body::new(counted)))
    }
}

/// A request that may have to be sent more than once.
struct Sent {
    method: Method,
    path: String,
    headers: HeaderMap,
    /// Taken by the first try that reads it.
    body: body::Slot,
    /// Doing it twice does no harm.
    repeatable: bool,
    upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl Sent {
    fn new(mut request: Request<Body>, host: &str) -> Self {
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let upgrade = upgrades.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        let protocol = headers.get(header::UPGRADE).cloned();
        strip(&mut headers);
        if let Some(protocol) = protocol {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
        }
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(header::HOST, host.clone());
            headers.entry("x-forwarded-host").or_insert(host);
        }
        headers.entry("x-forwarded-proto").or_insert(HeaderValue::from_static("http"));
        if let Some(axum::extract::ConnectInfo(peer)) = parts.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>()
            && let Ok(peer) = HeaderValue::from_str(&peer.ip().to_string())
        {
            headers.append("x-forwarded-for", peer);
        }
        let path = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        Self {
            repeatable: parts.method.is_idempotent() && !upgrades,
            method: parts.method,
            path,
            headers,
            body: body::Slot::new(body),
            upgrade,
        }
    }

    /// Whether nothing of the body was read yet.
    fn is_whole(&self) -> bool {
        self.body.is_whole()
    }

    fn request(&self, address: SocketAddr) -> Result<Request<Replayable>, String> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query(self.path.as_str())
            .build()
            .map_err(|e| e.to_string())?;
        let mut request = Request::new(self.body.body());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// Lets the two ends of an upgraded connection talk to each other.
fn switch(mut response: Response<hyper::body::Incoming>, sent: &mut Sent, under: Under) -> Response<Body> {
    let Some(client) = sent.upgrade.take() else {
        return page(StatusCode::BAD_GATEWAY, "The pod switched protocols though nobody had asked for it.", "HTTP 101");
    };
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let _under = under;
        if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
            let (mut client, mut server) = (hyper_util::rt::TokioIo::new(client), hyper_util::rt::TokioIo::new(server));
            // How it ends is the business of the two ends.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    let (mut parts, _) = response.into_parts();
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    strip(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        parts.headers.insert(header::UPGRADE, protocol);
    }
    Response::from_parts(parts, Body::empty())
}

/// Takes out the headers that are between two neighbours only.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let always = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
    for name in always {
        headers.remove(name);
    }
}

/// An error with its causes, as one sentence.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

/// Bodies as they travel here.
type Data = Bytes;

#[cfg(test)]
#[path = "route/tests.rs"]
mod tests;
