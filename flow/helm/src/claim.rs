//! Whose a revision is while it is worked on, and what becomes of one whose process is gone.
//!
//! An operation writes its owner into the revision it works on and changes a second word every few seconds. Whoever comes
//! next asks first whether that process is one of this machine and gone; if it cannot be known, it watches the word for a
//! while by its own clock. A revision without an owner is another tool's: it counts as left behind once nothing was written
//! for longer than such a tool works by default. An operation that lost its revision stops.

use std::{sync::Arc, time::Duration};

use chart::release::{Claim, History, Record, Status};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::{Error, Helm, Storage, storage::Held};

/// How often an operation says that it lives.
const BEAT: Duration = Duration::from_secs(4);
/// How long one is watched that says nothing, and how long one goes on that could not say so.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who carries out operations.
#[derive(Clone)]
pub struct Owner {
    /// No two processes have the same.
    pub id: String,
    /// Asks about the owner of a revision.
    pub alive: Arc<dyn Fn(&str) -> Life + Send + Sync>,
}

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It was one of this machine, and is no more.
    Gone,
    /// It is one of another machine.
    Unknown,
}

/// How strictly an unfinished operation of another tool is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// It stops this one, as Helm's upgrade does.
    Stops,
    /// It does not, as with Helm's rollback and uninstall.
    Passes,
}

/// The revisions of a release; those that were left behind are written down as interrupted first.
pub(crate) async fn settled(helm: &Helm, name: &str, foreign: Foreign) -> Result<History, Error> {
    let mut history = helm.releases.history(name).await?;
    let last = history.last().map(|record| record.version);
    let unsettled: Vec<Record> = history.unsettled().cloned().collect();
    for record in unsettled {
        if !gone(helm, &record).await? {
            // What is not the newest stops nobody, as with Helm.
            if Some(record.version) == last && (record.claim.is_some() || foreign == Foreign::Stops) {
                return Err(Error::Busy);
            }
            continue;
        }
        // A deletion goes on from where it was; it is not made a failure of.
        if record.info.status == Status::Uninstalling && foreign == Foreign::Passes {
            continue;
        }
        let owner = record.claim.as_ref().map(|claim| claim.owner.clone());
        let interrupted = record.interrupted();
        helm.releases.take(&interrupted, owner.as_deref(), helm.now()).await?;
        helm.warn(format!("revision {} of release {name} was interrupted; going on from there", interrupted.version));
        history = history.with(&[interrupted]);
    }
    Ok(history)
}

async fn gone(helm: &Helm, record: &Record) -> Result<bool, Error> {
    let Some(claim) = &record.claim else {
        let last = [record.written, record.info.last_deployed, record.info.deleted].into_iter().flatten().max();
        let silent = last.map(|last| Duration::try_from(helm.now().duration_since(last)).unwrap_or_default());
        return Ok(silent.is_none_or(|silent| silent > helm.patience));
    };
    match (helm.owner.alive)(&claim.owner) {
        Life::Alive => return Ok(false),
        Life::Gone => return Ok(true),
        Life::Unknown => {}
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        helm.stoppable(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        })
        .await?;
        match helm.releases.get(&record.name, record.version).await? {
            Some(now) if now.claim.as_ref() == Some(claim) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// A revision that this process works on.
pub(crate) struct Operation<'a> {
    helm: &'a Helm,
    pub record: Record,
    beating: JoinHandle<()>,
    lost: watch::Receiver<bool>,
    held: Option<Held>,
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

impl<'a> Operation<'a> {
    /// Writes a new revision down and holds it.
    pub async fn begin(helm: &'a Helm, mut record: Record) -> Result<Self, Error> {
        record.claim = Some(helm.claim());
        helm.releases.create(&record, helm.now()).await?;
        Ok(Self::hold(helm, record))
    }

    /// Takes a revision that is there, in its new state.
    pub async fn take(helm: &'a Helm, mut record: Record) -> Result<Self, Error> {
        let from = record.claim.replace(helm.claim()).map(|claim| claim.owner);
        helm.releases.take(&record, from.as_deref(), helm.now()).await?;
        Ok(Self::hold(helm, record))
    }

    /// Works on a revision without holding it: nothing of the release itself is changed.
    pub fn watch(helm: &'a Helm, record: Record) -> Self {
        let (tell, lost) = watch::channel(false);
        let beating = tokio::spawn(async move {
            // Kept, so that nobody takes it for lost.
            let _tell = tell;
            std::future::pending::<()>().await;
        });
        Self { helm, record, beating, lost, held: None }
    }

    fn hold(helm: &'a Helm, record: Record) -> Self {
        let (tell, lost) = watch::channel(false);
        let held = Held { owner: helm.owner.id.clone(), status: record.info.status };
        let beating = beats(helm.releases.clone(), record.name.clone(), record.version, held.clone(), tell);
        Self { helm, record, beating: tokio::spawn(beating), lost, held: Some(held) }
    }

    /// Does something, unless the revision is lost or the user stops it.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut lost = self.lost.clone();
        tokio::select! {
            biased;
            Ok(_) = lost.wait_for(|lost| *lost) => Err(Error::TakenOver(self.record.name.clone())),
            result = self.helm.stoppable(work) => result,
        }
    }

    /// Writes the revision down as it is now.
    pub async fn save(&self) -> Result<(), Error> {
        match &self.held {
            Some(held) => self.helm.releases.update(&self.record, Some(held), self.helm.now()).await,
            None => Ok(()),
        }
    }

    /// Sets how it ended and writes it down; the revision is nobody's from then on.
    pub async fn end(&mut self, status: Status, description: impl Into<String>) -> Result<(), Error> {
        self.beating.abort();
        self.record.set(status, description);
        self.save().await
    }
}

async fn beats(releases: Storage, name: String, revision: u64, held: Held, tell: watch::Sender<bool>) {
    let mut heard = Instant::now();
    for beat in 1_u64.. {
        tokio::time::sleep(BEAT).await;
        match releases.beat(&name, revision, &held, &beat.to_string()).await {
            Ok(()) => heard = Instant::now(),
            Err(error) if error.is_conflict() => {}
            Err(error) if matches!(error, Error::TakenOver(_)) || error.is_refused() => {
                let _ = tell.send(true);
                return;
            }
            Err(error) => tracing::warn!(%error, "cannot say that the operation lives"),
        }
        if heard.elapsed() > PATIENCE {
            let _ = tell.send(true);
            return;
        }
    }
}

/// What to return instead of `error`, which ended an operation, when writing that down gave `unwritten`: who took the release
/// over decides what becomes of it.
pub(crate) fn unwritten(helm: &Helm, error: &Error, unwritten: Error) -> Option<Error> {
    if matches!(unwritten.root(), Error::TakenOver(_)) {
        helm.warn(format!("the operation failed before: {error}"));
        return Some(unwritten);
    }
    helm.warn(format!("failed to record the release: {unwritten}"));
    None
}

impl Helm {
    fn claim(&self) -> Claim {
        Claim { owner: self.owner.id.clone(), beat: "0".to_owned() }
    }
}
