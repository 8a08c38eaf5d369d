//! Signing in, and what a person may do from a page.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
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
}

pub async fn form() -> Page {
    Page::render(&Login { wrong: false })
}

#[derive(serde::Deserialize)]
pub struct Given {
    token: String,
}

/// Keeps the token in a cookie that scripts cannot read and other sites cannot send.
pub async fn login(State(app): State<Arc<App>>, Form(given): Form<Given>) -> Response {
    if !app.token.is(given.token.trim()) {
        return (StatusCode::UNAUTHORIZED, Page::render(&Login { wrong: true })).into_response();
    }
    let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age=604800", app.token.reveal());
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
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
