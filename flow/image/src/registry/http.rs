//! The registry's HTTP interface: OCI distribution specification 1.1, as an axum router for `/v2/…`.

mod answer;
mod authorize;
mod blobs;
mod door;
mod guard;
mod listings;
mod manifests;
mod oauth;
mod path;
mod tokens;
mod uploads;
mod wire;

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::Response,
    routing::any,
};
use http::{HeaderMap, Method, Version, header};

pub use authorize::{Action, AllowAll, Authorize, Caller, Decision, Issued, Scope, basic};
pub use door::{Door, IsAdmin};
pub use wire::{Direct, Listener, Patience, serve};

use super::{Registry, events::Events, gate::Gate, running::Running, upstream::Upstreams};
use answer::{failure, plain};
use path::Endpoint;

use crate::{Error, Kind, Result};

#[derive(Clone)]
struct Server {
    registry: Registry,
    authorize: Arc<dyn Authorize>,
    extras: Extras,
}

/// What a registry may have besides.
#[derive(Clone, Default)]
pub struct Extras {
    /// Judges images of repositories in quarantine. Without it such repositories hand out nothing.
    pub gate: Option<Arc<dyn Gate>>,
    /// Fetches what repositories that are copies do not have.
    pub upstreams: Option<Upstreams>,
    /// Writes down who did what.
    pub events: Option<Events>,
    /// Knows what runs and is not deleted.
    pub running: Option<Arc<dyn Running>>,
}

/// Serves `registry` below `/v2`. Every request is put to `authorize` first.
pub fn router(registry: Registry, authorize: Arc<dyn Authorize>) -> Router {
    router_with(registry, authorize, Extras::default())
}

pub fn router_with(registry: Registry, authorize: Arc<dyn Authorize>, extras: Extras) -> Router {
    let server = Server { registry, authorize, extras };
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(server)
}

/// A request without its body.
struct Call {
    method: Method,
    headers: HeaderMap,
    query: Query,
    /// Whether the connection sends files itself.
    direct: bool,
    /// How long its client may send nothing.
    stall: Duration,
}

impl Call {
    fn credentials(&self) -> Option<&str> {
        let header = self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        header.filter(|header| !authorize::is_empty_basic(header))
    }
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let head = parts.method == Method::HEAD;
    let path = parts.uri.path().strip_prefix("/v2").unwrap_or_default().to_owned();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    // Frames of HTTP/2 would be put around what stands for a file.
    let direct = parts.version <= Version::HTTP_11 && parts.extensions.get::<ConnectInfo<Direct>>().is_some();
    let stall = server.registry.limits().stall;
    let call = Call { method: parts.method, headers: parts.headers, query, direct, stall };
    let answered = match path.as_str() {
        "/token" => server.token(&call, body).await,
        _ => server.answer(&path, &call, body).await,
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => {
            if matches!(error.kind, Kind::Store(_) | Kind::Io) {
                tracing::error!(path, %error, "the registry failed");
            }
            failure(&error)
        }
    };
    if head {
        *response.body_mut() = Body::empty();
    }
    response.headers_mut().insert("docker-distribution-api-version", http::HeaderValue::from_static("registry/2.0"));
    response
}

impl Server {
    async fn answer(&self, path: &str, call: &Call, body: Body) -> Result<Response> {
        let endpoint = match path::parse(path) {
            Ok(endpoint) => self.unalias(endpoint, call).await?,
            Err(error) => {
                // Nobody without access learns anything from errors.
                return match self.permit(call, Scope { repository: None, action: Action::Ping }).await {
                    Some(refusal) => Ok(refusal),
                    None => Err(error),
                };
            }
        };
        let action = endpoint.action(&call.method);
        let scope = Scope { repository: endpoint.repository(), action };
        if let Some(refusal) = self.permit(call, scope).await {
            return Ok(refusal);
        }
        let (get, head) = (call.method == Method::GET, call.method == Method::HEAD);
        match &endpoint {
            Endpoint::Base if get || head => Ok(plain(http::StatusCode::OK, "{}")),
            Endpoint::Catalog if get => self.catalog(call).await,
            Endpoint::Tags { repository } if get => self.list_tags(repository, call).await,
            Endpoint::Referrers { repository, digest } if get => self.list_referrers(repository, digest, call).await,
            Endpoint::Manifest { repository, reference } => match call.method {
                Method::GET | Method::HEAD => self.get_manifest(repository, reference, call).await,
                Method::PUT => self.put_manifest(repository, reference, call, body).await,
                Method::DELETE => self.delete_manifest(repository, reference, call).await,
                _ => Err(unsupported(&call.method)),
            },
            Endpoint::Blob { repository, digest } => match call.method {
                Method::GET | Method::HEAD => self.get_blob(repository, digest, call).await,
                Method::DELETE => self.delete_blob(repository, digest, call).await,
                _ => Err(unsupported(&call.method)),
            },
            Endpoint::Uploads { repository } if call.method == Method::POST => {
                self.post_upload(repository, call, body).await
            }
            Endpoint::Upload { repository, id } => match call.method {
                Method::GET | Method::HEAD => self.get_upload(repository, id).await,
                Method::PATCH => self.patch_upload(repository, id, call, body).await,
                Method::PUT => self.put_upload(repository, id, call, body).await,
                Method::DELETE => self.delete_upload(repository, id).await,
                _ => Err(unsupported(&call.method)),
            },
            _ => Err(unsupported(&call.method)),
        }
    }

    /// `None` when allowed, else the refusal to answer with.
    async fn permit(&self, call: &Call, scope: Scope<'_>) -> Option<Response> {
        match self.authorize.authorize(call.credentials(), scope).await {
            Decision::Allow => None,
            Decision::Challenge => {
                Some(answer::challenge(&self.authorize.challenges(&guard::base(&call.headers), scope)))
            }
            Decision::Denied(why) => Some(answer::denied(&why)),
        }
    }
}

fn unsupported(method: &Method) -> Error {
    Error::new(Kind::Unsupported, format!("{method} is not offered here"))
}

/// Query parameters; the first of a name counts, except where all are asked for.
struct Query(HashMap<String, Vec<String>>);

impl Query {
    fn parse(query: &str) -> Self {
        let mut found: HashMap<String, Vec<String>> = HashMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            found
                // A `+` stays one: no parameter has spaces, but media types have a `+`, which some clients do not encode.
                .entry(path::decode(name))
                .or_default()
                .push(path::decode(value));
        }
        Self(found)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}
