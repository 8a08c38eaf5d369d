//! `helm rollback`.

use std::time::Duration;

use chart::{
    manifest::Event,
    release::{Info, Record, Status},
};

use super::{DryRun, Helm, Strategy, check_method, check_name, prune, stamp};
use crate::{
    Error,
    apply::{self, Done, How},
    build::{Object, build},
    claim::{self, Foreign, Operation, settled},
    error::joined,
    hooks, wait,
};

const LONGEST_DESCRIPTION: usize = 256;

/// How a release goes back.
#[derive(Clone, Debug, Default)]
pub struct Rollback {
    pub name: String,
    /// The one before the newest if none is given.
    pub revision: Option<u64>,
    pub dry_run: DryRun,
    pub no_hooks: bool,
    pub wait: Strategy,
    pub wait_for_jobs: bool,
    pub timeout: Duration,
    pub description: String,
    pub cleanup_on_fail: bool,
    pub force_replace: bool,
    pub force_conflicts: bool,
    /// Server-side apply; `None` goes on as the revision that is brought back.
    pub server_side: Option<bool>,
    pub history_max: usize,
}

impl Helm {
    /// Brings an earlier revision back, as a new one. Gives its record.
    pub async fn rollback(&self, options: &Rollback) -> Result<Record, Error> {
        let name = &options.name;
        let length = options.description.chars().count();
        if length > LONGEST_DESCRIPTION {
            return Err(Error::Option(format!(
                "description must be {LONGEST_DESCRIPTION} characters or less, got {length}"
            )));
        }
        self.cluster.version().await?;
        check_name(name).map_err(|_| Error::Option(format!("prepareRollback: Release name is invalid: {name}")))?;
        let trial = options.dry_run != DryRun::No;
        let history = match trial {
            true => self.releases.history(name).await?,
            false => settled(self, name, Foreign::Passes).await?,
        };
        if history.last().is_none() {
            return Err(Error::NotFound);
        }
        let plan = history.rollback(options.revision)?;
        let (Some(current), Some(target)) = (history.get(plan.from), history.get(plan.to)) else {
            return Err(Error::NotFound);
        };
        let server = options.server_side.unwrap_or_else(|| target.apply_method() == "ssa");
        check_method(server, options.force_replace, options.force_conflicts)?;
        let record = again(current, target, plan.revision, server, &options.description, self.now());
        if trial {
            return Ok(record);
        }
        prune(self, &history, name, options.history_max).await;
        let mut operation = Operation::begin(self, record).await?;
        let mut done = Done::default();
        let result = self.back(&mut operation, options, &history, current, &mut done).await;
        let Err(error) = result else {
            for revision in history.superseded_by(operation.record.version) {
                self.supersede(&history, revision).await;
            }
            let description = operation.record.info.description.clone();
            operation.end(Status::Deployed, description).await?;
            return Ok(operation.record.clone());
        };
        if matches!(error.root(), Error::TakenOver(_)) {
            return Err(error);
        }
        let said = format!("Rollback {name:?} failed: {error}");
        if let Err(unwritten) = operation.end(Status::Failed, said).await
            && let Some(lost) = claim::unwritten(self, &error, unwritten)
        {
            return Err(lost);
        }
        if options.cleanup_on_fail
            && let Some(unclean) = joined(apply::delete(&self.cluster, &done.created, "Background").await, ", ")
        {
            return Err(unclean.context(
                "an error occurred while cleaning up resources. original rollback error: unable to cleanup resources",
            ));
        }
        Err(error)
    }

    async fn back(
        &self,
        operation: &mut Operation<'_>,
        options: &Rollback,
        history: &chart::release::History,
        current: &Record,
        done: &mut Done,
    ) -> Result<(), Error> {
        let namespace = operation.record.namespace.clone();
        let server = operation.record.apply_method() == "ssa";
        let built = build(&self.cluster, &current.manifest, &current.namespace).await;
        let mut before =
            built.map_err(|error| error.context("unable to build kubernetes objects from current release manifest"))?;
        let built = build(&self.cluster, &operation.record.manifest, &namespace).await;
        let mut new: Vec<Object> =
            built.map_err(|error| error.context("unable to build kubernetes objects from new release manifest"))?;
        let left = self.leftovers(history, &before).await;
        before.extend(left);
        let hook = |event| hooks::Run { event, timeout: options.timeout, server, leave: false };
        if !options.no_hooks {
            hooks::run(self, operation, hook(Event::PreRollback)).await?;
        }
        stamp(&mut new, &operation.record);
        let how = How {
            server,
            force_conflicts: options.force_conflicts,
            force_replace: options.force_replace,
            wholly: false,
            take_over: true,
        };
        let update = async {
            let (did, result) = apply::update(&self.cluster, &before, &new, how).await;
            *done = did;
            result
        };
        operation.guard(update).await?;
        let ready = wait::ready(&self.cluster, &new, options.wait, options.wait_for_jobs, options.timeout);
        operation.guard(ready).await.map_err(|error| error.context(format!("release {} failed", options.name)))?;
        if !options.no_hooks {
            hooks::run(self, operation, hook(Event::PostRollback)).await?;
        }
        Ok(())
    }
}

/// The revision that brings `target` back.
fn again(
    current: &Record,
    target: &Record,
    revision: u64,
    server: bool,
    description: &str,
    now: jiff::Timestamp,
) -> Record {
    let mut record = Record {
        namespace: current.namespace.clone(),
        version: revision,
        info: Info {
            first_deployed: current.info.first_deployed,
            last_deployed: Some(now),
            notes: target.info.notes.clone(),
            ..Info::default()
        },
        claim: None,
        written: None,
        ..target.clone()
    };
    record.info.other.insert("rollback_revision".to_owned(), target.version.into());
    record.set_apply_method(server);
    let description =
        if description.is_empty() { format!("Rollback to {}", target.version) } else { description.to_owned() };
    record.set(Status::PendingRollback, description);
    record
}
