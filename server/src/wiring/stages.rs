//! Starts the stages: each runs when a record that it reads has changed, on a period, and when it asked to be run again.

use std::{future::Future, sync::Arc, time::Duration};

use ::release::Approval;
use records::{Commit, Evidence, Image, Project, Record, Release, Rollout, Run, Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::{
    evidence, housekeeping,
    release::{self, Said},
    rollout, run,
};
use crate::{
    app::App,
    clock::Clock,
    fault::{Class, Fault, Result},
    wake::Wake,
};

/// How often a stage looks though nothing has changed, to finish what a crash cut short.
const PERIOD: Duration = Duration::from_secs(15);
/// When a stage that failed runs again, unless something changes.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How far apart activations are that changes of the cluster cause: a rollout makes many of them.
const PACE: Duration = Duration::from_millis(50);

/// The kinds of entries that wake somebody.
pub const KINDS: [&str; 12] = [
    Project::KIND,
    Commit::KIND,
    Run::KIND,
    Image::KIND,
    Evidence::KIND,
    Release::KIND,
    Rollout::KIND,
    Approval::KIND,
    rollout::CLUSTER_KINDS[0],
    rollout::CLUSTER_KINDS[1],
    rollout::CLUSTER_KINDS[2],
    rollout::CLUSTER_KINDS[3],
];

/// Starts all stages; the app's supervisor owns them.
pub fn start(app: &Arc<App>) {
    let log = app.records.log().clone();
    app.supervisor.spawn("wake", app.wake.clone().run(log, app.supervisor.token()));
    stage(app, "source", Triggers::of(&[Project::KIND]), |app| async move {
        let now = app.now();
        let report = app.rooms.sources.activate(now).await.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        for (project, error) in report.failed {
            tracing::warn!(%project, %error, "cannot look at a repository");
        }
        Ok(None)
    });
    stage(app, "run", Triggers::of(&[Project::KIND, Commit::KIND, Run::KIND]), |app| async move {
        run::activate(&app).await.map(|()| None)
    });
    stage(
        app,
        "evidence",
        Triggers::of(&[Run::KIND]),
        |app| async move { evidence::activate(&app).await.map(|()| None) },
    );
    let read = [Run::KIND, Image::KIND, Evidence::KIND, Release::KIND, Rollout::KIND, Approval::KIND];
    let said = Arc::new(Said::default());
    stage(app, "release", Triggers::of(&read), move |app| {
        let said = said.clone();
        async move { release::activate(&app, &said).await }
    });
    let triggers = Triggers { records: &[Release::KIND, Rollout::KIND], progress: &rollout::CLUSTER_KINDS };
    let said = Arc::new(Said::default());
    stage(app, "rollout", triggers, move |app| {
        let said = said.clone();
        async move { rollout::activate(&app, &said).await }
    });
    stage(app, "observe", Triggers::of(&[Rollout::KIND]), |app| async move {
        app.rooms.observations.activate(app.now()).await.map(|()| None)
    });
    housekeeping::start(app);
}

/// What runs a stage.
struct Triggers<'a> {
    /// Kinds any change of which counts, at once.
    records: &'a [&'static str],
    /// Kinds whose changes count while the stage has something under way (it asked to be run again), not more often than `PACE`.
    progress: &'a [&'static str],
}

impl<'a> Triggers<'a> {
    fn of(records: &'a [&'static str]) -> Self {
        Self { records, progress: &[] }
    }
}

/// Waits for the reasons to run a stage.
struct Alarm {
    records: Vec<watch::Receiver<store::Seq>>,
    progress: Vec<watch::Receiver<store::Seq>>,
    period: tokio::time::Interval,
    clock: Clock,
    /// When the stage last ended.
    ended: Instant,
}

impl Alarm {
    fn new(wake: &Wake, triggers: &Triggers<'_>, clock: Clock) -> Self {
        let on = |kinds: &[&'static str]| kinds.iter().map(|kind| wake.on(kind)).collect();
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { records: on(triggers.records), progress: on(triggers.progress), period, clock, ended: Instant::now() }
    }

    /// Returns when the stage is to run; what changes from then on wakes it again.
    async fn rings(&mut self, again: Option<Timestamp>) {
        let wait = again.map(|at| Duration::try_from(at.duration_since((self.clock)())).unwrap_or_default());
        let paced = self.ended + PACE;
        let progress = async {
            if again.is_none() {
                return std::future::pending().await;
            }
            any(&mut self.progress).await;
            tokio::time::sleep_until(paced).await;
        };
        tokio::select! {
            _ = self.period.tick() => {}
            () = any(&mut self.records) => {}
            () = progress => {}
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
        self.records.iter_mut().chain(&mut self.progress).for_each(|kind| drop(kind.borrow_and_update()));
    }
}

/// Returns when one of them has changed; never when there is none.
async fn any(kinds: &mut [watch::Receiver<store::Seq>]) {
    if kinds.is_empty() {
        return std::future::pending().await;
    }
    let changed = futures::future::select_all(kinds.iter_mut().map(|kind| Box::pin(kind.changed()))).await;
    // Nobody changes what is no longer there: the app, which owns the other ends, outlives its stages.
    drop(changed);
}

/// Runs an activation now and whenever there is a reason to, until the server ends. It says when it wants to be run again though nothing
/// changes.
fn stage<F>(
    app: &Arc<App>,
    name: &'static str,
    triggers: Triggers<'_>,
    activate: impl Fn(Arc<App>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Result<Option<Timestamp>>> + Send,
{
    let mut alarm = Alarm::new(&app.wake, &triggers, app.clock.clone());
    let (owner, app) = (app.clone(), app.clone());
    let cancel = app.supervisor.token();
    owner.supervisor.spawn(name, async move {
        let mut again = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = alarm.rings(again) => {}
            }
            match activate(app.clone()).await {
                Ok(next) => again = next,
                Err(fault) => {
                    tracing::warn!(stage = name, %fault, "a stage could not do its work; it tries again");
                    again = app.now().checked_add(AFTER_FAILURE).ok();
                }
            }
            alarm.ended = Instant::now();
        }
    });
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
