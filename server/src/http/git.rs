//! Git over smart HTTP: `/git/<project>.git`.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt, TryStreamExt, stream};
use records::Name;
use source::Service;
use tokio_util::io::{ReaderStream, StreamReader};
use tower_http::decompression::RequestDecompressionLayer;

use crate::{
    app::App,
    fault::{Class, Fault},
};

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/git/{repository}/info/refs", get(advertise))
        .route("/git/{repository}/{service}", post(serve))
        // Git compresses the bodies of its requests. The size of a pack is bounded by git itself.
        .layer(RequestDecompressionLayer::new())
        .layer(DefaultBodyLimit::disable())
}

#[derive(serde::Deserialize)]
struct Asked {
    service: Option<String>,
}

/// An error for somebody who sits before git, which shows what a server answers when it is plain text.
pub struct Told(pub Fault);

impl<E: Into<Fault>> From<E> for Told {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        let Fault { message, hint, .. } = &self.0;
        let hint = hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        let text = format!("{message}\n{hint}");
        let mut response = self.0.into_response();
        let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        *response.body_mut() = Body::from(text);
        response
    }
}

async fn advertise(
    State(app): State<Arc<App>>,
    Path(repository): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Told> {
    let project = project(&app, &repository).await?;
    let Some(service) = asked.service.as_deref().and_then(Service::from_name) else {
        return Err(Fault::usage("the dumb HTTP protocol of git is not spoken here")
            .hint("use git 1.6.6 or newer")
            .into());
    };
    let exchange = app.rooms.repositories.advertise(&project, service, protocol(&headers)).await.map_err(git_fault)?;
    Ok(answer(service.advertisement_type(), Body::from_stream(ReaderStream::new(exchange))))
}

async fn serve(
    State(app): State<Arc<App>>,
    Path((repository, service)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Told> {
    let project = project(&app, &repository).await?;
    let service =
        Service::from_name(&service).ok_or_else(|| Fault::not_found(format!("git has no service {service}")))?;
    let headers = request.headers().clone();
    let body = StreamReader::new(request.into_body().into_data_stream().map_err(std::io::Error::other));
    let exchange =
        app.rooms.repositories.serve(&project, service, body, protocol(&headers)).await.map_err(git_fault)?;
    let output = ReaderStream::new(exchange);
    let kind = service.result_type();
    if service == Service::UploadPack {
        return Ok(answer(kind, Body::from_stream(output)));
    }
    // A push has ended for the client when its commits are written down; what a crash leaves out, the periodic scan finds.
    let record = stream::once(async move {
        let now = app.now();
        if let Err(error) = app.rooms.sources.activate_project(&project, now).await {
            tracing::warn!(%project, %error, "cannot record what was pushed");
        }
        Ok(bytes::Bytes::new())
    });
    Ok(answer(kind, Body::from_stream(output.chain(record))))
}

async fn project(app: &App, repository: &str) -> Result<Name, Fault> {
    let name = repository.strip_suffix(".git").unwrap_or(repository);
    let name: Name = name.parse()?;
    app.project(&name).await?;
    Ok(name)
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get("git-protocol").and_then(|value| value.to_str().ok())
}

fn answer(kind: String, body: Body) -> Response {
    let headers =
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache, max-age=0, must-revalidate".to_owned())];
    (headers, body).into_response()
}

fn git_fault(error: source::Error) -> Fault {
    Fault::from_error(Class::Unavailable, &error)
}
