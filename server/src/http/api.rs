//! The REST API: `/api/v1`. Answers are the records themselves.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode};
use records::{Commit, Evidence, Image, Name, Project, Run, RunId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::Expect;
use utoipa::{OpenApi, openapi::OpenApi as Document};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Json, Path, Query};
use crate::{
    app::App,
    fault::{Class, Fault, Result},
    shipment::Shipment,
    trace::Trace,
};

#[derive(OpenApi)]
#[openapi(info(
    title = "Shipway",
    description = "From a commit to running, verified software. Reading needs no token; writing needs the administrator's, as bearer or as the password of the user `admin`."
))]
struct Description;

/// The routes and the OpenAPI document that describes them.
pub fn router() -> (Router<Arc<App>>, Document) {
    let (router, document) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(list_projects, create_project))
        .routes(routes!(show_project))
        .routes(routes!(set_secret))
        .routes(routes!(list_commits))
        .routes(routes!(list_runs))
        .routes(routes!(show_run))
        .routes(routes!(cancel_run))
        .routes(routes!(approve))
        .routes(routes!(list_images))
        .routes(routes!(list_evidence))
        .routes(routes!(list_releases))
        .routes(routes!(undo))
        .routes(routes!(trace))
        .merge(super::events::router())
        .merge(super::registry::router())
        .split_for_parts();
    (router, document)
}

type Shared = State<Arc<App>>;

/// All projects
#[utoipa::path(get, path = "/api/v1/projects", responses((status = 200, description = "project records", body = Vec<Object>)))]
async fn list_projects(State(app): Shared) -> Result<Json<Vec<Project>>> {
    Ok(Json(app.records.list::<Project>("").await?.into_iter().map(|found| found.record).collect()))
}

#[derive(Deserialize, utoipa::ToSchema)]
struct NewProject {
    /// 1 to 63 of a-z, 0-9 and `-`
    #[schema(value_type = String)]
    name: Name,
    /// The branch whose commits are run
    #[serde(default = "main_branch")]
    default_branch: String,
}

fn main_branch() -> String {
    "main".into()
}

/// Make a project; making one that is there is a conflict
#[utoipa::path(post, path = "/api/v1/projects", request_body = NewProject,
    responses((status = 201, description = "the address to push to", body = Object), (status = 409, description = "it is there")))]
async fn create_project(State(app): Shared, Json(new): Json<NewProject>) -> Result<(StatusCode, Json<Value>)> {
    let project = Project { name: new.name, default_branch: new.default_branch, created_at: app.now() };
    app.rooms.create_repository(&project).await?;
    match app.records.put(&project, Expect::Absent).await {
        Err(error) if error.kind == store::Kind::Conflict => {
            return Err(Fault::new(Class::Conflict, format!("project {} is there already", project.name)));
        }
        other => other?,
    };
    let git = format!("http://{}/git/{}.git", app.rooms.address(), project.name);
    Ok((StatusCode::CREATED, Json(json!({ "project": project, "git": git }))))
}

/// One project
#[utoipa::path(get, path = "/api/v1/projects/{project}", params(("project" = String, Path)),
    responses((status = 200, description = "a project record", body = Object)))]
async fn show_project(State(app): Shared, Path(project): Path<Name>) -> Result<Json<Project>> {
    Ok(Json(app.project(&project).await?))
}

#[derive(Deserialize, utoipa::ToSchema)]
struct SecretValue {
    value: String,
}

/// Set a secret, which steps then name
#[utoipa::path(put, path = "/api/v1/projects/{project}/secrets/{name}", request_body = SecretValue,
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 204, description = "it is set")))]
async fn set_secret(
    State(app): Shared,
    Path((project, name)): Path<(Name, String)>,
    Json(secret): Json<SecretValue>,
) -> Result<StatusCode> {
    app.project(&project).await?;
    app.secrets.set(&project, &name, &secret.value)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Commits of a project
#[utoipa::path(get, path = "/api/v1/projects/{project}/commits", params(("project" = String, Path)),
    responses((status = 200, description = "commit records, newest first", body = Vec<Object>)))]
async fn list_commits(State(app): Shared, Path(project): Path<Name>) -> Result<Json<Vec<Commit>>> {
    app.project(&project).await?;
    let mut commits: Vec<Commit> = app.newest_first(&format!("{project}/")).await?;
    commits.sort_by_key(|commit| std::cmp::Reverse(commit.received_at));
    Ok(Json(commits))
}

/// Runs of a project
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs", params(("project" = String, Path)),
    responses((status = 200, description = "run records, newest first", body = Vec<Object>)))]
async fn list_runs(State(app): Shared, Path(project): Path<Name>) -> Result<Json<Vec<Run>>> {
    app.project(&project).await?;
    Ok(Json(app.runs(&project).await?))
}

/// One run
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs/{build}", params(("project" = String, Path), ("build" = u64, Path)),
    responses((status = 200, description = "a run record", body = Object)))]
async fn show_run(State(app): Shared, Path((project, build)): Path<(Name, u64)>) -> Result<Json<Run>> {
    Ok(Json(app.run(&RunId { project, build }).await?))
}

/// Stop a run
#[utoipa::path(post, path = "/api/v1/projects/{project}/runs/{build}/cancel", params(("project" = String, Path), ("build" = u64, Path)),
    responses((status = 200, description = "the run record", body = Object), (status = 409, description = "it has ended")))]
async fn cancel_run(State(app): Shared, Path((project, build)): Path<(Name, u64)>) -> Result<Json<Run>> {
    let id = RunId { project, build };
    app.run(&id).await?;
    let now = app.now();
    let run = app.records.update::<Run, Fault>(&id.key(), |run| Ok(run.cancel(now, "admin")?)).await?;
    app.rooms.cancel_run(&id);
    Ok(Json(run))
}

#[derive(Deserialize, utoipa::ToSchema)]
struct Approve {
    /// Where the run may go
    #[schema(value_type = String)]
    environment: Name,
    /// The group, of those that approve for the environment, in whose name
    group: String,
}

/// Let a run go to an environment that asks for approval
#[utoipa::path(post, path = "/api/v1/projects/{project}/runs/{build}/approve", request_body = Approve,
    params(("project" = String, Path), ("build" = u64, Path)),
    responses((status = 200, description = "what was approved", body = Object),
        (status = 409, description = "the run does not go there, or the group does not approve for it")))]
async fn approve(
    State(app): Shared,
    Path((project, build)): Path<(Name, u64)>,
    Json(Approve { environment, group }): Json<Approve>,
) -> Result<Json<Value>> {
    let run = RunId { project, build };
    crate::wiring::approve(&app, &run, &environment, &group).await?;
    Ok(Json(json!({ "run": run, "environment": environment, "group": group })))
}

/// Images of a project
#[utoipa::path(get, path = "/api/v1/projects/{project}/images", params(("project" = String, Path)),
    responses((status = 200, description = "image records, newest first", body = Vec<Object>)))]
async fn list_images(State(app): Shared, Path(project): Path<Name>) -> Result<Json<Vec<Image>>> {
    app.project(&project).await?;
    Ok(Json(app.images(&project).await?))
}

/// What is known about an image
#[utoipa::path(get, path = "/api/v1/evidence/{digest}", params(("digest" = String, Path)),
    responses((status = 200, description = "evidence records", body = Vec<Object>)))]
async fn list_evidence(State(app): Shared, Path(digest): Path<records::Digest>) -> Result<Json<Vec<Evidence>>> {
    app.newest_first(&format!("{digest}/")).await.map(Json)
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

/// Releases of an environment with their rollouts
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/releases",
    params(("project" = String, Path), ("environment" = String, Path), ("limit" = Option<usize>, Query)),
    responses((status = 200, description = "release and rollout records, newest first", body = Vec<Object>)))]
async fn list_releases(
    State(app): Shared,
    Path((project, environment)): Path<(Name, Name)>,
    Query(Limit { limit }): Query<Limit>,
) -> Result<Json<Vec<Shipment>>> {
    app.project(&project).await?;
    let mut all = app.shipments(&project, &environment).await?;
    all.truncate(limit.unwrap_or(usize::MAX));
    Ok(Json(all))
}

#[derive(Deserialize, utoipa::ToSchema)]
struct Undo {
    /// Number of the release to bring back; without it the last complete one before the present one
    to: Option<u64>,
}

/// Bring an earlier release back
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/undo", request_body = Undo,
    params(("project" = String, Path), ("environment" = String, Path)),
    responses((status = 200, description = "the id of the release that was made", body = Object)))]
async fn undo(
    State(app): Shared,
    Path((project, environment)): Path<(Name, Name)>,
    Json(undo): Json<Undo>,
) -> Result<Json<Value>> {
    let release = crate::wiring::undo(&app, &project, &environment, undo.to).await?;
    Ok(Json(json!({ "release": release })))
}

/// The way back from a pod (`pod/NAMESPACE/NAME`) or an image (`REPOSITORY@DIGEST`) to its commit
#[utoipa::path(get, path = "/api/v1/trace/{*what}", params(("what" = String, Path)),
    responses((status = 200, description = "the chain, every link verified", body = Object)))]
async fn trace(State(app): Shared, Path(what): Path<String>) -> Result<Json<Trace>> {
    crate::trace::trace(&app, &what).await.map(Json)
}
