//! What happens, as it happens: server-sent events and logs that are followed.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, stream};
use records::{Name, RunId};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Path, Query};
use crate::{app::App, fault::Result, logs::Line};

pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(events)).routes(routes!(logs)).routes(routes!(log))
}

#[derive(serde::Deserialize)]
struct Since {
    /// Only keys that start with this.
    #[serde(default)]
    prefix: String,
}

/// One event for each record that is written: `event: <kind>`, `id: <version>`, `data: {"key": …}`
#[utoipa::path(get, path = "/api/v1/events", params(("prefix" = Option<String>, Query, description = "only keys that start with this")),
    responses((status = 200, description = "events, without an end", body = String, content_type = "text/event-stream")))]
async fn events(
    State(app): State<Arc<App>>,
    Query(since): Query<Since>,
) -> Sse<impl Stream<Item = std::result::Result<Event, Infallible>>> {
    let log = app.records.log().clone();
    let mut head = log.head();
    let at = *head.borrow_and_update();
    let cancel = app.supervisor.token();
    let stream = stream::unfold((log, head, at, Vec::new().into_iter(), cancel), move |state| {
        let prefix = since.prefix.clone();
        async move {
            let (log, mut head, mut at, mut waiting, cancel): (_, _, _, std::vec::IntoIter<store::Entry>, _) = state;
            loop {
                if let Some(entry) = waiting.next() {
                    at = entry.seq;
                    if entry.kind.starts_with("k8s/")
                        || entry.kind.starts_with("registry/")
                        || !entry.key.starts_with(&prefix)
                    {
                        continue;
                    }
                    let data = serde_json::json!({ "key": entry.key }).to_string();
                    let event = Event::default().event(entry.kind).id(entry.seq.to_string()).data(data);
                    return Some((Ok(event), (log, head, at, waiting, cancel)));
                }
                match log.changes("", at, 500).await {
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
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

#[derive(serde::Deserialize)]
struct Follow {
    #[serde(default)]
    follow: bool,
}

/// The log of a step as JSON lines; with `follow` until the step has ended
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs/{build}/logs/{step}",
    params(("project" = String, Path), ("build" = u64, Path), ("step" = String, Path), ("follow" = Option<bool>, Query)),
    responses((status = 200, description = "one JSON object a line", body = String, content_type = "application/x-ndjson")))]
async fn log(
    State(app): State<Arc<App>>,
    Path((project, build, step)): Path<(Name, u64, String)>,
    Query(Follow { follow }): Query<Follow>,
) -> Result<Response> {
    let id = RunId { project, build };
    app.run(&id).await?;
    let written = app.logs.written();
    let stream = stream::unfold((app, id, step, 0u64, written), move |state| async move {
        let (app, id, step, mut offset, mut written) = state;
        loop {
            // Whether it has ended is asked before the log is read, so that nothing written in between is missed.
            let ended = !follow || has_ended(&app, &id, &step).await;
            written.borrow_and_update();
            let (lines, next) = app.logs.read(&id, &step, offset).ok()?;
            if !lines.is_empty() {
                offset = next;
                let text: String = lines.iter().filter_map(|l| Some(serde_json::to_string(l).ok()? + "\n")).collect();
                return Some((Ok::<_, Infallible>(Bytes::from(text)), (app, id, step, offset, written)));
            }
            if ended {
                return None;
            }
            let cancel = app.supervisor.token();
            tokio::select! {
                () = cancel.cancelled() => return None,
                _ = written.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}

/// A line with the step that wrote it.
#[derive(serde::Serialize)]
struct StepLine<'a> {
    step: &'a str,
    #[serde(flatten)]
    line: &'a Line,
}

/// The logs of all steps of a run as JSON lines, each step's in order; with `follow` until the run has ended
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs/{build}/logs",
    params(("project" = String, Path), ("build" = u64, Path), ("follow" = Option<bool>, Query)),
    responses((status = 200, description = "one JSON object a line, with the name of its step", body = String, content_type = "application/x-ndjson")))]
async fn logs(
    State(app): State<Arc<App>>,
    Path((project, build)): Path<(Name, u64)>,
    Query(Follow { follow }): Query<Follow>,
) -> Result<Response> {
    let id = RunId { project, build };
    app.run(&id).await?;
    let written = app.logs.written();
    let stream = stream::unfold((app, id, BTreeMap::<String, u64>::new(), written), move |state| async move {
        let (app, id, mut offsets, mut written) = state;
        loop {
            written.borrow_and_update();
            // The steps of a run are known only once its pipeline was read, and whether it has ended is asked before its logs are read.
            let run = app.run(&id).await.ok()?;
            let mut text = String::new();
            for step in &run.steps {
                let offset = offsets.entry(step.name.clone()).or_default();
                let (lines, next) = app.logs.read(&id, &step.name, *offset).ok()?;
                *offset = next;
                for line in &lines {
                    text += &(serde_json::to_string(&StepLine { step: &step.name, line }).ok()? + "\n");
                }
            }
            if !text.is_empty() {
                return Some((Ok::<_, Infallible>(Bytes::from(text)), (app, id, offsets, written)));
            }
            if !follow || run.state.ended() {
                return None;
            }
            let cancel = app.supervisor.token();
            tokio::select! {
                () = cancel.cancelled() => return None,
                _ = written.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}

async fn has_ended(app: &App, id: &RunId, step: &str) -> bool {
    let Ok(run) = app.run(id).await else { return true };
    let state = run.steps.iter().find(|s| s.name == step).map(|s| &s.state);
    run.state.ended()
        || state.is_some_and(|s| !matches!(s, records::StepState::Waiting | records::StepState::Running { .. }))
}
