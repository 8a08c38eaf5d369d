//! `/metrics` in the text format of OpenMetrics.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use records::{Project, Run};

use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

type Labels = Vec<(&'static str, String)>;

/// Everything is counted from the records when it is asked for, so it is never wrong after a restart.
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response> {
    let mut registry = Registry::with_prefix("shipway");
    let runs = Family::<Labels, Gauge>::default();
    let projects = app.records.list::<Project>("").await?;
    for found in &projects {
        let name = found.record.name.to_string();
        for run in app.records.list::<Run>(&format!("{name}/")).await? {
            let labels = vec![("project", name.clone()), ("state", run.record.state.name().to_owned())];
            runs.get_or_create(&labels).inc();
        }
    }
    registry.register("runs", "Runs by state", runs);
    let count = Gauge::<i64>::default();
    count.set(projects.len() as i64);
    registry.register("projects", "Projects", count);
    let version = Gauge::<i64>::default();
    version.set(*app.records.head().borrow() as i64);
    registry.register("log_version", "Version of the newest change in the log", version);
    app.rooms.measure(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
