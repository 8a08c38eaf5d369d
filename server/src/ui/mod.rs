//! The pages, made on the server. They ask no other host for anything.

mod commits;
mod environment;
mod filters;
mod graph;
mod home;
mod image;
mod project;
mod repositories;
mod run;
mod seen;
mod session;
mod trace;

pub use environment::PodRow;
pub use seen::{Seen, signed_in};

use std::{future::Future, sync::Arc};

use askama::Template;
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};

use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

const CSS: &str = include_str!("../../assets/shipway.css");
const JS: &str = include_str!("../../assets/shipway.js");
const ICON: &str = include_str!("../../assets/shipway.svg");

/// What a page may load: itself, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(home::home))
        .route("/projects/{project}", get(project::project))
        .route("/projects/{project}/runs/{build}", get(run::run))
        .route("/projects/{project}/runs/{build}/cancel", post(session::cancel))
        .route("/projects/{project}/runs/{build}/artifacts/{digest}/{*path}", get(run::artifact))
        .route("/projects/{project}/environments/{environment}", get(environment::environment))
        .route("/projects/{project}/environments/{environment}/undo", post(session::undo))
        .route("/images/{*image}", get(image::image))
        .route("/repositories", get(repositories::repositories))
        .route("/repositories/{*name}", get(repositories::repository))
        .route("/cleanup", get(repositories::clean_up))
        .route("/trace/{*what}", get(trace::trace))
        .route("/login", get(session::form).post(session::login))
        .route("/logout", post(session::logout))
        .route("/assets/{name}", get(asset))
}

type Shared = State<Arc<App>>;

/// A handler's result as a page.
async fn page<T: Template>(made: impl Future<Output = Result<T>>) -> Page {
    match made.await {
        Ok(template) => Page::render(&template),
        Err(fault) => fault.into(),
    }
}

/// A page, or the error as a page.
pub struct Page(Result<String>);

impl Page {
    fn render(template: &impl Template) -> Self {
        Self(template.render().map_err(|e| Fault::from_error(Class::Internal, &e)))
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
                let title = match fault.class {
                    Class::NotFound => "Not here",
                    Class::Unauthorized => "Sign in first",
                    _ => "That did not work",
                };
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

/// For a person whom a form asks to sign in; afterwards the page with the form is shown again.
pub fn sign_in(back: &str) -> Response {
    session::ask(back).into_response()
}

/// For a path that nothing answers.
pub fn not_found() -> Page {
    Fault::not_found("There is nothing at this address.").into()
}

async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "shipway.css" => ("text/css; charset=utf-8", CSS),
        "shipway.js" => ("text/javascript; charset=utf-8", JS),
        "shipway.svg" => ("image/svg+xml", ICON),
        _ => return not_found().into_response(),
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}
