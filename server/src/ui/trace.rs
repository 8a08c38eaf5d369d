//! The walk back from something that runs to its commit.

use askama::Template;
use axum::extract::{Path, State};
use records::{Image, ReleaseId, RunId};

use super::{Page, Shared, page};
use crate::{
    app::App,
    fault::Result,
    trace::{Link, Trace},
};

#[derive(Template)]
#[template(path = "trace.html")]
struct TracePage {
    /// What is traced; of an image the repository.
    of: String,
    digest: String,
    held: bool,
    rows: Vec<Row>,
}

struct Row {
    link: Link,
    href: Option<String>,
}

pub async fn trace(State(app): Shared, Path(what): Path<String>) -> Page {
    page(async {
        let trace = crate::trace::trace(&app, &what).await?;
        let held = trace.held();
        let (of, digest) = trace.of.split_once('@').unwrap_or((&trace.of, ""));
        let (of, digest) = (of.to_owned(), digest.to_owned());
        Ok(TracePage { of, digest, held, rows: rows(&app, trace).await? })
    })
    .await
}

/// The links with the pages that show more of them.
async fn rows(app: &App, trace: Trace) -> Result<Vec<Row>> {
    let images: Vec<Image> = app.newest_first("").await?;
    let mut run = None;
    let mut rows = Vec::new();
    for link in trace.links {
        let href = match link.kind.as_str() {
            "image" => {
                let image = images.iter().find(|image| image.digest.to_string() == link.name);
                image.map(|image| format!("/images/{}@{}", image.repository, image.digest))
            }
            "run" => {
                let id = link.name.parse::<RunId>().ok();
                run = id.map(|id| format!("/projects/{}/runs/{}", id.project, id.build));
                run.clone()
            }
            // A commit is shown by the run that carried it.
            "commit" => run.clone(),
            "release" => {
                let id = link.name.parse::<ReleaseId>().ok();
                id.map(|id| format!("/projects/{}/environments/{}", id.project, id.environment))
            }
            _ => None,
        };
        rows.push(Row { link, href });
    }
    Ok(rows)
}
