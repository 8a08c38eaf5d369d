//! Everything that the one port answers.

mod api;
mod events;
mod extract;
mod git;
mod guard;
mod metrics;
mod registry;

pub use guard::COOKIE;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{app::App, fault::Fault, ui};

/// The whole of Shipway's port; `registry` answers below `/v2`.
pub fn router(app: Arc<App>, registry: Router) -> Router {
    let (api, document) = api::router();
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(move || async move { axum::Json(document) }))
        .merge(api)
        .merge(git::router())
        .merge(ui::router())
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_that_way)
        .layer(middleware::from_fn_with_state(app.clone(), guard::writes_need_the_token))
        .with_state(app.clone())
        // The registry has its own way to ask for credentials and its own errors, so it stands outside the guard.
        .merge(registry)
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(app, services))
}

/// For people a page, for programs an error like all others.
async fn nothing_here(request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        return Fault::not_found(format!("there is nothing at {path}")).hint(DESCRIBED).into_response();
    }
    ui::not_found().into_response()
}

async fn not_that_way(request: Request) -> Response {
    let message = format!("{} is not possible at {}", request.method(), request.uri().path());
    let mut response = Fault::usage(message).hint(DESCRIBED).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

const DESCRIBED: &str = "the API is described at /openapi.json";

/// Requests for `<service>.<namespace>.localhost` go to the node's services, whatever their path.
async fn services(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    match name.strip_suffix(".localhost") {
        Some(service) if service.contains('.') => {
            let host = host.to_owned();
            let began = tokio::time::Instant::now();
            let response = app.rooms.forward(&host, request).await.into_response();
            app.rooms.counters.count(&host, began, response)
        }
        _ => next.run(request).await,
    }
}
