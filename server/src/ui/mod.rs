//! The pages, made on the server. They ask no other host for anything.

mod filters;
mod pages;
mod session;

pub use pages::PodRow;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};

use crate::{app::App, fault::Fault};

const CSS: &str = include_str!("../../assets/shipway.css");
const JS: &str = include_str!("../../assets/shipway.js");

/// What a page may load: itself, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(pages::home))
        .route("/projects/{project}", get(pages::project))
        .route("/projects/{project}/runs/{build}", get(pages::run))
        .route("/projects/{project}/runs/{build}/cancel", post(session::cancel))
        .route("/projects/{project}/runs/{build}/artifacts/{digest}/{*path}", get(pages::artifact))
        .route("/projects/{project}/environments/{environment}", get(pages::environment))
        .route("/projects/{project}/environments/{environment}/undo", post(session::undo))
        .route("/images/{*image}", get(pages::image))
        .route("/trace/{*what}", get(pages::trace))
        .route("/login", get(session::form).post(session::login))
        .route("/assets/{name}", get(asset))
}

/// A page, or the error as a page.
pub struct Page(Result<String, Fault>);

impl Page {
    fn render(template: &impl Template) -> Self {
        Self(template.render().map_err(|e| Fault::from_error(crate::fault::Class::Internal, &e)))
    }
}

impl From<Fault> for Page {
    fn from(fault: Fault) -> Self {
        Self(Err(fault))
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let (status, html) = match self.0 {
            Ok(html) => (StatusCode::OK, html),
            Err(fault) => {
                let title = if fault.class == crate::fault::Class::NotFound { "Not here" } else { "That did not work" };
                let message = Message { title, message: &fault.message, hint: fault.hint.as_deref() };
                let html = message.render().unwrap_or_else(|_| fault.message.clone());
                (fault.status(), html)
            }
        };
        (status, [(header::CONTENT_SECURITY_POLICY, POLICY), (header::REFERRER_POLICY, "same-origin")], Html(html))
            .into_response()
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    title: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

/// For a path that nothing answers.
pub fn not_found() -> Page {
    Fault::not_found("There is nothing at this address.").into()
}

async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "shipway.css" => ("text/css; charset=utf-8", CSS),
        "shipway.js" => ("text/javascript; charset=utf-8", JS),
        _ => return not_found().into_response(),
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
}
