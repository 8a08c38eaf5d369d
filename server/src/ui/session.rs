//! Signing in, and what a person may do from a page.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use records::{Name, Run, RunId};

use super::Page;
use crate::{app::App, fault::Fault, http::COOKIE};

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    wrong: bool,
    /// Something was to be done that needs the token.
    needed: bool,
    /// The page that is shown afterwards.
    back: String,
}

#[derive(serde::Deserialize)]
pub struct Asked {
    #[serde(default)]
    back: String,
}

pub async fn form(Query(asked): Query<Asked>) -> Page {
    Page::render(&Login { wrong: false, needed: false, back: own(&asked.back) })
}

/// The form, for a person who wanted to do something that needs the token.
pub fn ask(back: &str) -> (StatusCode, Page) {
    (StatusCode::UNAUTHORIZED, Page::render(&Login { wrong: false, needed: true, back: own(back) }))
}

/// Only paths of this server are gone back to.
fn own(path: &str) -> String {
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if plain && path.starts_with('/') && !path.starts_with("//") { path.to_owned() } else { "/".into() }
}

#[derive(serde::Deserialize)]
pub struct Given {
    token: String,
    #[serde(default)]
    back: String,
}

/// Keeps the token in a cookie that scripts cannot read and other sites cannot send.
pub async fn login(State(app): State<Arc<App>>, Form(given): Form<Given>) -> Response {
    let back = own(&given.back);
    if !app.token.is(given.token.trim()) {
        let page = Page::render(&Login { wrong: true, needed: false, back });
        return (StatusCode::UNAUTHORIZED, page).into_response();
    }
    (kept(app.token.reveal(), 604_800), Redirect::to(&back)).into_response()
}

pub async fn logout() -> Response {
    (kept("", 0), Redirect::to("/")).into_response()
}

fn kept(token: &str, seconds: u32) -> [(header::HeaderName, String); 1] {
    [(header::SET_COOKIE, format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}"))]
}

pub async fn cancel(State(app): State<Arc<App>>, Path((project, build)): Path<(Name, u64)>) -> Result<Redirect, Page> {
    let id = RunId { project, build };
    let now = app.now();
    app.records.update::<Run, Fault>(&id.key(), |run| Ok(run.cancel(now, "admin")?)).await?;
    app.rooms.cancel_run(&id);
    Ok(Redirect::to(&format!("/projects/{}/runs/{}", id.project, id.build)))
}

#[derive(serde::Deserialize)]
pub struct Undo {
    to: Option<u64>,
}

pub async fn undo(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(Name, Name)>,
    Form(undo): Form<Undo>,
) -> Result<Redirect, Page> {
    crate::wiring::undo(&app, &project, &environment, undo.to).await?;
    Ok(Redirect::to(&format!("/projects/{project}/environments/{environment}")))
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn only_paths_of_this_server_are_gone_back_to() {
        assert_eq!(own("/projects/journal"), "/projects/journal");
        for elsewhere in ["", "//example.com", "https://example.com", "/\\example.com", "/a\r\nSet-Cookie: x"] {
            assert_eq!(own(elsewhere), "/", "{elsewhere}");
        }
    }
}
