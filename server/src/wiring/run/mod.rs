//! The stage that carries a commit through its pipeline: `Commit` → `Run` → `Image` → `Evidence`.
//!
//! The record of a run is written before anything is done for it. A server that dies leaves it running; the next one takes it up
//! again, and what had succeeded is found by its content and not done twice.

pub mod board;
pub mod carry;
mod images;
mod packs;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use graph::Cancel;
use pipeline::plan::{Action, State, plan};
use records::{Commit, Project, Run, RunId};
use store::Expect;
use tokio::sync::Semaphore;

use crate::{
    app::App,
    fault::{Fault, Result},
};

/// The runs that this process works on.
pub struct Working {
    runs: Mutex<BTreeMap<RunId, Cancel>>,
    slots: Arc<Semaphore>,
}

impl Working {
    pub fn new(parallel: usize) -> Self {
        Self { runs: Mutex::default(), slots: Arc::new(Semaphore::new(parallel.clamp(1, 1000))) }
    }

    /// Stops a run that is being worked on; nothing when it is not.
    pub fn cancel(&self, id: &RunId, reason: &str) {
        if let Some(cancel) = self.lock().get(id) {
            cancel.cancel(reason);
        }
    }

    fn ids(&self) -> BTreeSet<RunId> {
        self.lock().keys().cloned().collect()
    }

    /// Claims a run; `None` when it is claimed already.
    fn claim(&self, id: &RunId) -> Option<Cancel> {
        let mut runs = self.lock();
        if runs.contains_key(id) {
            return None;
        }
        let cancel = Cancel::new();
        runs.insert(id.clone(), cancel.clone());
        Some(cancel)
    }

    fn release(&self, id: &RunId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Cancel>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides which runs are to be, and begins to work on them.
pub async fn activate(app: &Arc<App>) -> Result<()> {
    let all = |found: Vec<store::records::Versioned<Run>>| found.into_iter().map(|run| run.record).collect::<Vec<_>>();
    let projects: Vec<Project> = app.records.list::<Project>("").await?.into_iter().map(|found| found.record).collect();
    let commits: Vec<Commit> = app.records.list::<Commit>("").await?.into_iter().map(|found| found.record).collect();
    let runs = all(app.records.list::<Run>("").await?);
    let working = app.rooms.working.ids();
    let state = State { projects: &projects, commits: &commits, runs: &runs, working: &working };
    let decided = plan(state, app.now());
    for action in decided.actions {
        match action {
            Action::Create(run) => match app.records.put(&*run, Expect::Absent).await {
                // Somebody else was faster; the next activation sees it.
                Err(error) if error.kind == store::Kind::Conflict => {}
                other => drop(other?),
            },
            Action::Cancel { run, by } => {
                let now = app.now();
                let cancelled =
                    app.records.update::<Run, Fault>(&run.key(), |run| Ok(run.cancel(now, by.clone())?)).await;
                if let Err(fault) = cancelled
                    && fault.class != crate::fault::Class::Conflict
                {
                    return Err(fault);
                }
            }
            Action::Work(run) => begin(app, run),
        }
    }
    Ok(())
}

/// Works on a run in a task of its own.
fn begin(app: &Arc<App>, id: RunId) {
    let Some(cancel) = app.rooms.working.claim(&id) else { return };
    let task = {
        let app = app.clone();
        async move {
            let slots = app.rooms.working.slots.clone();
            let stop = app.supervisor.token();
            tokio::select! {
                () = stop.cancelled() => {}
                slot = slots.acquire_owned() => {
                    if slot.is_ok() {
                        work::work(&app, &id, cancel).await;
                    }
                    drop(slot);
                }
            }
            app.rooms.working.release(&id);
        }
    };
    app.supervisor.spawn("run", task);
}
