//! Everything that the one port answers.

mod api;
mod events;
mod git;
mod guard;
mod metrics;

pub use guard::COOKIE;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{app::App, ui};

/// The whole of Shipway's port.
pub fn router(app: Arc<App>) -> Router {
    let (api, document) = api::router();
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(move || async move { axum::Json(document) }))
        .merge(api)
        .merge(events::router())
        .merge(git::router())
        .merge(ui::router())
        .fallback(|| async { ui::not_found() })
        .layer(middleware::from_fn_with_state(app.clone(), guard::writes_need_the_token))
        .with_state(app.clone())
        // The registry has its own way to ask for credentials and its own errors, so it stands outside the guard.
        .merge(app.rooms.registry_router(app.token.clone()))
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(app, services))
}

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
