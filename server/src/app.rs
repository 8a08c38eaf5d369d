//! What every part of a running server shares.

use std::sync::Arc;

use records::{Image, Name, Project, Record, Release, Rollout, Run, RunId};
use store::{Blobs, Records};

use crate::{
    clock::Clock,
    config::Config,
    fault::{Class, Fault, Result},
    logs::Logs,
    secrets::Secrets,
    shipment::Shipment,
    supervisor::Supervisor,
    token::Token,
    wake::Wake,
    wiring::Rooms,
};

/// A running server.
pub struct App {
    pub config: Config,
    pub clock: Clock,
    pub token: Token,
    pub records: Records,
    pub blobs: Arc<dyn Blobs>,
    pub logs: Logs,
    pub secrets: Secrets,
    pub supervisor: Supervisor,
    pub wake: Wake,
    pub rooms: Rooms,
}

impl App {
    pub fn now(&self) -> records::Timestamp {
        (self.clock)()
    }

    pub async fn project(&self, name: &Name) -> Result<Project> {
        self.find(name.as_str(), || format!("there is no project {name}"), "make it with `shipway project create`")
            .await
    }

    pub async fn run(&self, id: &RunId) -> Result<Run> {
        self.find(&id.key(), || format!("there is no run {id}"), "`shipway runs list` shows those that are").await
    }

    /// Runs of a project, newest first.
    pub async fn runs(&self, project: &Name) -> Result<Vec<Run>> {
        self.newest_first(&format!("{project}/")).await
    }

    /// Images of a project, newest first.
    pub async fn images(&self, project: &Name) -> Result<Vec<Image>> {
        self.newest_first(&format!("{project}/")).await
    }

    /// Releases of an environment with their rollouts, newest first.
    pub async fn shipments(&self, project: &Name, environment: &Name) -> Result<Vec<Shipment>> {
        let prefix = format!("{project}/{environment}/");
        let releases: Vec<Release> = self.newest_first(&prefix).await?;
        let mut rollouts: Vec<Rollout> = self.newest_first(&prefix).await?;
        let pair = |release: Release| {
            let at = rollouts.iter().position(|rollout| rollout.release == release.id);
            Shipment { rollout: at.map(|at| rollouts.swap_remove(at)), release }
        };
        Ok(releases.into_iter().map(pair).collect())
    }

    pub async fn newest_first<R: Record>(&self, prefix: &str) -> Result<Vec<R>> {
        let mut all: Vec<R> = self.records.list::<R>(prefix).await?.into_iter().map(|found| found.record).collect();
        all.reverse();
        Ok(all)
    }

    async fn find<R: Record>(&self, key: &str, missing: impl Fn() -> String, hint: &str) -> Result<R> {
        match self.records.get::<R>(key).await? {
            Some(found) => Ok(found.record),
            None => Err(Fault::new(Class::NotFound, missing()).hint(hint)),
        }
    }
}
