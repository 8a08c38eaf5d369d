//! All projects.

use askama::Template;
use axum::extract::State;
use records::{Name, Project, Release, Rollout, Run};

use super::{Page, Shared, commits::Commits, filters, page};
use crate::{app::App, fault::Result, shipment::Shipment};

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    projects: Vec<ProjectRow>,
    server: String,
}

struct ProjectRow {
    name: Name,
    run: Option<Run>,
    subject: String,
    environments: Vec<(Name, Shipment)>,
}

pub async fn home(State(app): Shared) -> Page {
    page(async {
        let mut projects = Vec::new();
        for found in app.records.list::<Project>("").await? {
            let name = found.record.name;
            let run = app.runs(&name).await?.into_iter().next();
            let subject = match &run {
                Some(run) => Commits::new(&app, &name).subject(&run.commit).await?,
                None => String::new(),
            };
            let environments = newest_shipments(&app, &name).await?;
            projects.push(ProjectRow { name, run, subject, environments });
        }
        Ok(Home { projects, server: format!("http://{}", app.rooms.address()) })
    })
    .await
}

/// The newest release of each environment of a project.
pub async fn newest_shipments(app: &App, project: &Name) -> Result<Vec<(Name, Shipment)>> {
    let mut newest = std::collections::BTreeMap::new();
    for release in app.newest_first::<Release>(&format!("{project}/")).await? {
        newest.entry(release.id.environment.clone()).or_insert(release);
    }
    let mut all = Vec::new();
    for (environment, release) in newest {
        let rollout = app.records.get::<Rollout>(&release.id.key()).await?.map(|found| found.record);
        all.push((environment, Shipment { release, rollout }));
    }
    Ok(all)
}
