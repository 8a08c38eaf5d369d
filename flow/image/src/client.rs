//! A client for other registries: manifests and blobs by reference, whole images pulled into and pushed out of our own.
//!
//! HTTPS, except to loopback and to hosts that are named as plain. Credentials go only to the host they are for, or to the token server
//! that this host names. What comes in is checked against its digest and bounded.

mod artifact;
mod authenticate;
mod pull;
mod push;
mod referrers;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use http::{HeaderValue, StatusCode, header};
use records::Digest;
use reqwest::{RequestBuilder, Response, Url};

use crate::{
    Error, Kind, Reference, Result,
    hash::{self, Algorithm},
    media,
    registry::MAX_MANIFEST,
};

pub use authenticate::Credentials;

/// Longer error bodies are cut off.
const MAX_ERROR: usize = 64 << 10;

/// Gives the credentials for a host, for example `registry.example.org:5000`.
pub type CredentialsFor = Arc<dyn Fn(&str) -> Option<Credentials> + Send + Sync>;

/// How other registries are spoken to.
#[derive(Clone)]
pub struct Options {
    /// Hosts (with port) that are spoken to over plain HTTP, besides loopback.
    pub plain_http: HashSet<String>,
    /// Hosts (with port) that are spoken to over TLS although they are loopback.
    pub tls: HashSet<String>,
    pub credentials: CredentialsFor,
    /// How long a connection may take to be made, and a response to begin or to go on.
    pub timeout: Duration,
}

impl Options {
    /// Whether `address`, by which the registry `named` answers, is spoken to without TLS.
    fn plain(&self, named: &str, address: &str) -> bool {
        self.plain_http.contains(named) || is_loopback(address) && !self.tls.contains(named)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            plain_http: HashSet::new(),
            tls: HashSet::new(),
            credentials: Arc::new(|_| None),
            timeout: Duration::from_secs(30),
        }
    }
}

/// A client. Cheap to clone; connections and tokens are shared.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    options: Arc<Options>,
    /// The `Authorization` header to use, by host and scope.
    known: Arc<Mutex<HashMap<(String, String), String>>>,
}

/// A manifest as it was fetched.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: String,
    pub content: Bytes,
}

/// A blob on its way from another registry.
pub struct RemoteBlob {
    /// Bytes of the whole, if the registry says.
    pub size: Option<u64>,
    pub chunks: BoxStream<'static, Result<Bytes>>,
}

/// What is to be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Pull,
    Push,
}

impl Client {
    pub fn new(options: Options) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("shipway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.timeout)
            .read_timeout(options.timeout)
            .redirect(reqwest::redirect::Policy::limited(5))
            .build()
            .map_err(|e| Error::new(Kind::Remote, "cannot set up a client for registries").caused(e))?;
        Ok(Self { http, options: Arc::new(options), known: Arc::default() })
    }

    /// The manifest that a reference stands for. With a digest in the reference, `DigestInvalid` unless it is that one.
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest> {
        let target = self.target(reference)?;
        let url = target.url(&format!("manifests/{}", reference.manifest()))?;
        let response = self
            .send(&target, Access::Pull, || self.http.get(url.clone()).header(header::ACCEPT, media::ACCEPT_MANIFESTS))
            .await?;
        let response =
            expect(response, &[StatusCode::OK], &format!("manifest {reference}"), Kind::ManifestUnknown).await?;
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media::essence(content_type.unwrap_or_default()).to_owned();
        let content = collect(response, MAX_MANIFEST as usize, &format!("manifest {reference}")).await?;
        let algorithm = reference.digest.as_ref().map_or(Algorithm::Sha256, Algorithm::of);
        let digest = hash::digest(algorithm, &content);
        if let Some(expected) = reference.digest.as_ref().filter(|expected| **expected != digest) {
            return Err(Error::new(
                Kind::DigestInvalid,
                format!("{reference} came with digest {digest}, not {expected}"),
            ));
        }
        let (_, media_type) = crate::registry::Document::parse(&media_type, &content)?;
        Ok(Manifest { digest, media_type, content })
    }

    /// The digest that a reference stands for, if the registry says it without sending the manifest.
    pub async fn digest(&self, reference: &Reference) -> Result<Option<Digest>> {
        let target = self.target(reference)?;
        let url = target.url(&format!("manifests/{}", reference.manifest()))?;
        let response = self
            .send(&target, Access::Pull, || self.http.head(url.clone()).header(header::ACCEPT, media::ACCEPT_MANIFESTS))
            .await?;
        let response =
            expect(response, &[StatusCode::OK], &format!("manifest {reference}"), Kind::ManifestUnknown).await?;
        let named = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(named.and_then(|named| named.parse().ok()))
    }

    /// A blob as a stream. The digest is not checked here: the store does that.
    pub async fn blob(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        Ok(self.blob_from(reference, digest, 0).await?.chunks)
    }

    /// The same from a byte on, where another connection broke off.
    pub async fn blob_from(&self, reference: &Reference, digest: &Digest, first: u64) -> Result<RemoteBlob> {
        let target = self.target(reference)?;
        let url = target.url(&format!("blobs/{digest}"))?;
        let request = || match first {
            0 => self.http.get(url.clone()),
            _ => self.http.get(url.clone()).header(header::RANGE, format!("bytes={first}-")),
        };
        let response = self.send(&target, Access::Pull, request).await?;
        let what = format!("blob {digest} of {reference}");
        let status = if first == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
        let response = expect(response, &[status], &what, Kind::BlobUnknown).await?;
        let size = response.content_length().and_then(|length| length.checked_add(first));
        Ok(RemoteBlob { size, chunks: response.bytes_stream().map_err(move |e| unreachable(&what, e)).boxed() })
    }

    fn target(&self, reference: &Reference) -> Result<Target> {
        let Some(named) = reference.host.as_deref() else {
            return Err(Error::new(
                Kind::NameInvalid,
                format!(
                    "`{reference}` names no registry: write its host in front, for example docker.io/library/{reference}"
                ),
            ));
        };
        // Docker Hub goes by one name and answers by another; its own images are in `library/`.
        let (host, repository) = match named {
            "docker.io" | "index.docker.io" if !reference.repository.contains('/') => {
                ("registry-1.docker.io", format!("library/{}", reference.repository))
            }
            "docker.io" | "index.docker.io" => ("registry-1.docker.io", reference.repository.clone()),
            other => (other, reference.repository.clone()),
        };
        let plain = self.options.plain(named, host);
        let base = format!("{}://{host}", if plain { "http" } else { "https" });
        Ok(Target { named: named.to_owned(), base, repository })
    }

    /// Sends a request, with credentials if the registry asks for them. They go to the registry's own address only: where it sends
    /// an upload to another one, that one is asked without.
    async fn send(&self, target: &Target, access: Access, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let what = format!("{} at {}", target.repository, target.base);
        let key = (target.named.clone(), target.scope(access));
        let known = self.known().get(&key).cloned();
        let own = parse_url(&target.base)?;
        let response = self.once(request(), &own, known.as_ref()).await.map_err(|e| unreachable(&what, e))?;
        if response.status() != StatusCode::UNAUTHORIZED || response.url().origin() != own.origin() {
            return Ok(response);
        }
        let challenges: Vec<String> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        let Some(authorization) = self.authenticate(target, access, &challenges).await? else {
            return Err(Error::new(
                Kind::Unauthorized,
                format!("{} wants credentials for {}: log in first", target.base, target.repository),
            ));
        };
        let response = self.once(request(), &own, Some(&authorization)).await.map_err(|e| unreachable(&what, e))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(Error::new(
                Kind::Unauthorized,
                format!("{} refuses the credentials for {}", target.base, target.repository),
            ));
        }
        self.known().insert(key, authorization);
        Ok(response)
    }

    /// Sends a request; the value of `Authorization` goes along when it goes to `own`.
    async fn once(&self, request: RequestBuilder, own: &Url, value: Option<&String>) -> reqwest::Result<Response> {
        let mut request = request.build()?;
        if let Some(Ok(mut value)) = value.map(|value| HeaderValue::from_str(value))
            && request.url().origin() == own.origin()
        {
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        self.http.execute(request).await
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), String>> {
        // Entries are whole, so a panic elsewhere while the map was held does no harm.
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A repository at a registry.
struct Target {
    /// The host as the reference has it: what credentials are looked up by.
    named: String,
    base: String,
    repository: String,
}

impl Target {
    fn url(&self, rest: &str) -> Result<Url> {
        parse_url(&format!("{}/v2/{}/{rest}", self.base, self.repository))
    }

    fn scope(&self, access: Access) -> String {
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        format!("repository:{}:{actions}", self.repository)
    }
}

fn parse_url(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|e| Error::new(Kind::Remote, format!("`{text}` is no address")).caused(e))
}

fn is_loopback(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}")) else { return false };
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn unreachable(what: &str, error: reqwest::Error) -> Error {
    let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { root_cause(&error) };
    Error::new(Kind::Remote, format!("cannot reach {what}: {why}")).caused(error)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The response if it has one of the statuses; else what the registry said.
async fn expect(response: Response, statuses: &[StatusCode], what: &str, absent: Kind) -> Result<Response> {
    let status = response.status();
    if statuses.contains(&status) {
        return Ok(response);
    }
    let kind = match status {
        StatusCode::NOT_FOUND => absent,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Unauthorized,
        StatusCode::TOO_MANY_REQUESTS => Kind::TooMany,
        _ => Kind::Remote,
    };
    let host = response.url().host_str().unwrap_or_default().to_owned();
    let retry_after_s = retry_after(response.headers());
    // Some say with it that they have had enough of us, others that they are away.
    let kind = if status == StatusCode::SERVICE_UNAVAILABLE && retry_after_s.is_some() { Kind::TooMany } else { kind };
    let body = collect(response, MAX_ERROR, what).await.unwrap_or_default();
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|body| {
        let first = &body["errors"][0];
        let text = format!("{} {}", first["code"].as_str()?, first["message"].as_str().unwrap_or_default());
        Some(text.chars().take(300).collect::<String>())
    });
    let said = said.unwrap_or_else(|| status.to_string());
    let error = Error::new(kind, format!("{host} answered for {what}: {}", said.trim_end()));
    Err(Error { retry_after_s, ..error })
}

/// Seconds that a registry wants to be left alone: `Retry-After`.
fn retry_after(headers: &http::HeaderMap) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text(header::RETRY_AFTER.as_str())?;
    if let Ok(seconds) = after.parse() {
        return Some(seconds);
    }
    // A date, told against the other's own clock.
    let read = |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let (after, now) = (read(after)?, read(text(header::DATE.as_str())?)?);
    u64::try_from(after.duration_since(now).as_secs()).ok()
}

async fn collect(response: Response, limit: usize, what: &str) -> Result<Bytes> {
    let mut content = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| unreachable(what, e))?;
        if content.len() + chunk.len() > limit {
            return Err(Error::new(Kind::TooLarge, format!("{what} has more than {limit} bytes")));
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(reference: &str) -> String {
        let client = Client::new(Options::default()).unwrap();
        let target = client.target(&reference.parse().unwrap()).unwrap();
        format!("{}/{}", target.base, target.repository)
    }

    #[test]
    fn only_loopback_is_plain() {
        assert_eq!(base("localhost:5000/a"), "http://localhost:5000/a");
        assert_eq!(base("127.0.0.1:5000/a"), "http://127.0.0.1:5000/a");
        assert_eq!(base("[::1]:5000/a"), "http://[::1]:5000/a");
        assert_eq!(base("r.example.org/a/b"), "https://r.example.org/a/b");
        assert_eq!(base("127.0.0.1.example.org/a"), "https://127.0.0.1.example.org/a");
        let tls = Options { tls: ["localhost:5000".to_owned()].into(), ..Options::default() };
        assert!(!tls.plain("localhost:5000", "localhost:5000") && tls.plain("localhost:5001", "localhost:5001"));
    }

    #[test]
    fn registries_say_how_long_they_want_to_be_left_alone() {
        let of = |pairs: &[(&str, &str)]| {
            let mut headers = http::HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            retry_after(&headers)
        };
        let date = ("date", "Sat, 21 Nov 2026 08:00:00 GMT");
        assert_eq!(of(&[("retry-after", " 17 ")]), Some(17));
        assert_eq!(of(&[("retry-after", "Sat, 21 Nov 2026 08:02:00 GMT"), date]), Some(120));
        assert_eq!(of(&[("retry-after", "Sat, 21 Nov 2026 07:02:00 GMT"), date]), None);
        assert_eq!(of(&[("retry-after", "soon"), date]), None);
        assert_eq!(of(&[date]), None);
    }

    #[test]
    fn docker_hub_has_other_names() {
        assert_eq!(base("docker.io/node"), "https://registry-1.docker.io/library/node");
        assert_eq!(base("docker.io/a/b"), "https://registry-1.docker.io/a/b");
    }

    #[test]
    fn a_reference_without_a_host_is_nowhere() {
        let client = Client::new(Options::default()).unwrap();
        let error = client.target(&"node".parse().unwrap()).err().unwrap();
        assert!(error.message.contains("docker.io/library/node"), "{error}");
    }
}
