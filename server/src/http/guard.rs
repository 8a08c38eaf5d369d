//! Who may write.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::git::Told;
use crate::{
    app::App,
    fault::{Class, Fault},
    ui::{self, Seen},
};

/// The cookie that the UI keeps the token in, after a person has given it.
pub const COOKIE: &str = "shipway-token";

/// Reading is free on the address that the server listens on; everything else needs the token.
pub async fn writes_need_the_token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    // Git asks for what it may push before it pushes, and fetches with POST.
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let git = path.starts_with("/git/");
    let pushes = path.ends_with("/git-receive-pack") || query.contains("service=git-receive-pack");
    let free = if git { !pushes } else { safe || path == "/login" };
    let known = authorized(&app, &request);
    if free || known {
        return Seen { now: app.now(), signed_in: known }.by(next.run(request)).await;
    }
    // A form of a page is answered with a page. Where it was sent from is where the person goes on.
    if let Some(back) = form(&request) {
        return Seen { now: app.now(), signed_in: false }.by(async { ui::sign_in(&back) }).await;
    }
    let fault = Fault::new(Class::Unauthorized, "this needs the administrator's token")
        .hint("user `admin` with the token as password, or `Authorization: Bearer`; it is in admin-token in the data directory");
    if git { Told(fault).into_response() } else { fault.into_response() }
}

/// The page that sent a form, as a path of this server; `None` when a program asks.
fn form(request: &Request) -> Option<String> {
    let header = |name| request.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if !header(header::ACCEPT)?.contains("text/html") {
        return None;
    }
    let referer: http::Uri = header(header::REFERER).unwrap_or("/").parse().ok()?;
    Some(referer.path().to_owned())
}

fn authorized(app: &App, request: &Request) -> bool {
    let header = |name| request.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if app.token.authorizes(header(header::AUTHORIZATION)) {
        return true;
    }
    let cookies = header(header::COOKIE).unwrap_or_default();
    let given = cookies.split(';').filter_map(|cookie| cookie.trim().split_once('='));
    given.into_iter().any(|(name, value)| name == COOKIE && app.token.is(value))
}
