//! `/api/v1/registry`: settings, robots, clean-up, and what happened.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::State,
    http::StatusCode,
    response::sse::{Event as Sent, KeepAlive, Sse},
};
use futures::{Stream, stream};
use image::registry::{
    Registry, Settings, Usage,
    cleanup::Report,
    events::{EVENT, Event},
    robots::{Grant, Robot},
};
use records::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Json, Path, Query};
use crate::{
    app::App,
    fault::{Class, Fault, Result},
    wiring::cleaning::{self, Asked},
};

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(clean_up))
        .routes(routes!(settings, set_settings, remove_settings))
        .routes(routes!(robots, create_robot))
        .routes(routes!(remove_robot))
        .routes(routes!(usage))
        .routes(routes!(happened))
        .routes(routes!(happens))
}

type Shared = State<Arc<App>>;

fn fault(error: image::Error) -> Fault {
    use image::Kind;
    let class = match error.kind {
        Kind::NameUnknown | Kind::ManifestUnknown => Class::NotFound,
        Kind::NameInvalid | Kind::Malformed | Kind::TagInvalid | Kind::DigestInvalid => Class::Usage,
        Kind::Store(store::Kind::Conflict) | Kind::TooMany => Class::Conflict,
        _ => Class::Unavailable,
    };
    Fault::from_error(class, &error)
}

/// Clean up: what the rules do not keep, what nothing names; or say what would go
#[utoipa::path(post, path = "/api/v1/registry/cleanup", request_body = Object,
    responses((status = 200, description = "what went, or would go", body = Object), (status = 409, description = "one is under way")))]
async fn clean_up(State(app): Shared, Json(asked): Json<Asked>) -> Result<Json<Report>> {
    cleaning::clean_up(&app, asked).await.map(Json)
}

#[derive(Deserialize)]
struct Part {
    /// The part of the repositories' names that it is for; everything when it is empty.
    #[serde(default)]
    part: String,
}

/// What holds for repositories, by the part of their names
#[utoipa::path(get, path = "/api/v1/registry/settings", responses((status = 200, description = "settings", body = Object)))]
async fn settings(State(app): Shared) -> Result<Json<Value>> {
    let all = app.rooms.registry.all_settings().await.map_err(fault)?;
    let all = all.iter().map(|(part, settings)| (part.to_owned(), json!(settings)));
    Ok(Json(Value::Object(all.collect::<Map<_, _>>())))
}

/// Set what holds for repositories whose names begin so
#[utoipa::path(put, path = "/api/v1/registry/settings", params(("part" = Option<String>, Query)), request_body = Object,
    responses((status = 204, description = "it is set"), (status = 400, description = "it makes no sense")))]
async fn set_settings(
    State(app): Shared,
    Query(Part { part }): Query<Part>,
    Json(settings): Json<Settings>,
) -> Result<StatusCode> {
    app.rooms.registry.set_settings(&part, Some(&settings)).await.map_err(fault)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forget what was set for them
#[utoipa::path(delete, path = "/api/v1/registry/settings", params(("part" = Option<String>, Query)),
    responses((status = 204, description = "there is none")))]
async fn remove_settings(State(app): Shared, Query(Part { part }): Query<Part>) -> Result<StatusCode> {
    app.rooms.registry.set_settings(&part, None).await.map_err(fault)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct OfProject {
    project: Option<String>,
}

/// A robot without what only it knows.
fn shown(robot: &Robot) -> Value {
    json!({
        "user": robot.user(), "project": robot.project, "name": robot.name, "grants": robot.grants,
        "scanner": robot.scanner, "created": robot.created, "expires": robot.expires,
    })
}

/// Tokens of programs
#[utoipa::path(get, path = "/api/v1/registry/robots", params(("project" = Option<String>, Query)),
    responses((status = 200, description = "robots, without their secrets", body = Vec<Object>)))]
async fn robots(State(app): Shared, Query(of): Query<OfProject>) -> Result<Json<Vec<Value>>> {
    let robots = app.rooms.registry.robots(of.project.as_deref()).await.map_err(fault)?;
    Ok(Json(robots.iter().map(shown).collect()))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRobot {
    project: String,
    name: String,
    #[schema(value_type = Vec<Object>)]
    grants: Vec<Grant>,
    /// May pull what is in quarantine
    #[serde(default)]
    scanner: bool,
    #[schema(value_type = Option<String>)]
    expires: Option<Timestamp>,
}

/// Make a token for a program; its secret is shown this once
#[utoipa::path(post, path = "/api/v1/registry/robots", request_body = NewRobot,
    responses((status = 201, description = "the robot and its secret", body = Object), (status = 409, description = "it is there")))]
async fn create_robot(State(app): Shared, Json(new): Json<NewRobot>) -> Result<(StatusCode, Json<Value>)> {
    let NewRobot { project, name, grants, scanner, expires } = new;
    let made = app.rooms.registry.create_robot(&project, &name, grants, scanner, expires).await;
    let (robot, secret) = made.map_err(fault)?;
    let mut answer = shown(&robot);
    answer["secret"] = secret.into();
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Take a program's token away
#[utoipa::path(delete, path = "/api/v1/registry/robots/{project}/{name}", params(("project" = String, Path), ("name" = String, Path)),
    responses((status = 204, description = "it holds no more"), (status = 404, description = "there is none")))]
async fn remove_robot(State(app): Shared, Path((project, name)): Path<(String, String)>) -> Result<StatusCode> {
    app.rooms.registry.remove_robot(&project, &name).await.map_err(fault)?;
    Ok(StatusCode::NO_CONTENT)
}

/// How much the repositories whose names begin so hold
#[utoipa::path(get, path = "/api/v1/registry/usage", params(("part" = Option<String>, Query)),
    responses((status = 200, description = "bytes and tags", body = Object)))]
async fn usage(State(app): Shared, Query(Part { part }): Query<Part>) -> Result<Json<Usage>> {
    app.rooms.registry.usage(&part).await.map(Json).map_err(fault)
}

#[derive(Deserialize)]
struct Window {
    #[serde(default)]
    prefix: String,
    #[serde(default = "day")]
    hours: u64,
    #[serde(default = "hundred")]
    limit: usize,
}

fn day() -> u64 {
    24
}

fn hundred() -> usize {
    100
}

/// Who pushed, pulled and deleted what, newest first
#[utoipa::path(get, path = "/api/v1/registry/events", params(("prefix" = Option<String>, Query), ("hours" = Option<u64>, Query), ("limit" = Option<usize>, Query)),
    responses((status = 200, description = "events", body = Vec<Object>)))]
async fn happened(State(app): Shared, Query(window): Query<Window>) -> Result<Json<Vec<Event>>> {
    let since = cleaning::since(&app, window.hours);
    let events = app.rooms.registry.events(&window.prefix, since, window.limit.min(10_000)).await;
    events.map(Json).map_err(fault)
}

/// The same as it happens: `event: <action>`, `data: <event>`
#[utoipa::path(get, path = "/api/v1/registry/events/stream", params(("prefix" = Option<String>, Query)),
    responses((status = 200, description = "events, without an end", body = String, content_type = "text/event-stream")))]
async fn happens(
    State(app): Shared,
    Query(window): Query<Window>,
) -> Sse<impl Stream<Item = std::result::Result<Sent, Infallible>>> {
    let log = app.records.log().clone();
    let mut head = log.head();
    let at = *head.borrow_and_update();
    let cancel = app.supervisor.token();
    let start = (log, head, at, Vec::new().into_iter(), cancel);
    let stream = stream::unfold(start, move |state| {
        let prefix = window.prefix.clone();
        async move {
            let (log, mut head, mut at, mut waiting, cancel): (_, _, _, std::vec::IntoIter<store::Entry>, _) = state;
            loop {
                if let Some(entry) = waiting.next() {
                    at = entry.seq;
                    let event = Registry::read_event(&entry).ok().filter(|_| !entry.deleted);
                    let Some(event) = event.filter(|event| event.repository.starts_with(&prefix)) else { continue };
                    let data = serde_json::to_string(&event).unwrap_or_default();
                    let sent = Sent::default().event(event.action.name()).id(entry.seq.to_string()).data(data);
                    return Some((Ok(sent), (log, head, at, waiting, cancel)));
                }
                match log.changes(EVENT, at, 500).await {
                    Ok(entries) if entries.is_empty() => tokio::select! {
                        () = cancel.cancelled() => return None,
                        changed = head.changed() => changed.ok()?,
                    },
                    Ok(entries) => waiting = entries.into_iter(),
                    Err(_) => return None,
                }
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}
