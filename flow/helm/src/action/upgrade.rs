//! `helm upgrade`.

use std::{borrow::Cow, time::Duration};

use chart::{
    manifest::Event,
    release::{History, Info, Record, Status},
};

use super::{Deploy, DryRun, Helm, Rollback, check_method, check_name, prune, stamp};
use crate::{
    Error, Source,
    apply::{self, Done, How},
    build::{Object, build},
    claim::{self, Foreign, Operation, settled},
    error::joined,
    hooks, ownership,
    render::{capabilities, render},
    values, wait,
};

/// What an upgrade goes by, apart from its options.
struct Objects {
    before: Vec<Object>,
    new: Vec<Object>,
    how: How,
    timeout: Duration,
}

impl Helm {
    /// Whether `upgrade --install` installs.
    pub async fn installs(&self, name: &str) -> Result<bool, Error> {
        self.cluster.version().await?;
        Ok(self.releases.history(name).await?.installs())
    }

    /// Upgrades a release. Gives the record of its new revision.
    pub async fn upgrade(&self, source: &Source, options: &Deploy) -> Result<Record, Error> {
        options.check()?;
        self.cluster.version().await?;
        let name = &options.name;
        check_name(name).map_err(|_| Error::Option(format!("release name is invalid: {name}")))?;
        let trial = options.dry_run != DryRun::No;
        let history = match trial {
            true => self.releases.history(name).await?,
            false => settled(self, name, Foreign::Stops).await?,
        };
        let plan = history.upgrade(name)?;
        let missing = || Error::Option(format!("{name:?} has no deployed releases"));
        let last = history.last().ok_or_else(missing)?;
        let current = history.get(plan.from).ok_or_else(missing)?;
        let server = options.server_side.unwrap_or_else(|| last.apply_method() == "ssa");
        check_method(server, options.force_replace, options.force_conflicts)?;
        let record = self.next(source, options, current, last, plan.revision, server).await?;

        let built = build(&self.cluster, &current.manifest, &current.namespace).await;
        let mut before = built.map_err(|error| {
            if error.to_string().contains("no matches for kind") {
                return error.context("current release manifest contains removed kubernetes api(s) for this kubernetes version and it is therefore unable to build the kubernetes objects for performing the diff. error from kubernetes");
            }
            error.context("unable to build kubernetes objects from current release manifest")
        })?;
        let built = build(&self.cluster, &record.manifest, &record.namespace).await;
        let mut new =
            built.map_err(|error| error.context("unable to build kubernetes objects from new release manifest"))?;
        stamp(&mut new, &record);
        let created: Vec<Object> =
            new.iter().filter(|object| !before.iter().any(|old| old.same(object))).cloned().collect();
        let found = apply::adopted(&self.cluster, &created, name, &record.namespace, options.take_ownership).await;
        before.extend(found.map_err(|error| error.context("unable to continue with update"))?);
        if trial {
            let mut record = record;
            record.info.description = options.description("Dry run complete");
            return Ok(record);
        }
        before.extend(self.leftovers(&history, &before).await);
        prune(self, &history, name, options.history_max).await;

        let how = How {
            server,
            force_conflicts: options.force_conflicts,
            force_replace: options.force_replace,
            wholly: false,
            take_over: current.apply_method() != "ssa" && server,
        };
        let objects = Objects { before, new, how, timeout: options.timeout };
        let mut operation = Operation::begin(self, record).await?;
        let mut done = Done::default();
        match self.bring(&mut operation, options, &objects, &mut done).await {
            Ok(()) => {
                for revision in history.superseded_by(operation.record.version) {
                    self.supersede(&history, revision).await;
                }
                let description = options.description("Upgrade complete");
                operation.end(Status::Deployed, description).await?;
                Ok(operation.record.clone())
            }
            Err(error) => Err(self.upgrade_failed(operation, options, &done.created, error).await),
        }
    }

    /// The revision to come.
    async fn next(
        &self,
        source: &Source,
        options: &Deploy,
        current: &Record,
        last: &Record,
        revision: u64,
        server: bool,
    ) -> Result<Record, Error> {
        let (given, defaults) = values::reused(options.reuse, source.values.clone(), current);
        let mut source = Cow::Borrowed(source);
        if given != source.values || defaults.is_some() {
            let source = source.to_mut();
            source.values = given;
            if let Some(defaults) = defaults {
                source.chart.values = defaults;
            }
        }
        let capabilities = capabilities(&self.cluster, source.flavor).await?;
        let told = chart::Release {
            name: options.name.clone(),
            namespace: current.namespace.clone(),
            revision,
            is_upgrade: true,
        };
        let asked = (options.dry_run != DryRun::Client).then(|| self.cluster.clone());
        let now = self.now();
        let (rendered, warnings) = render(&source, told, capabilities, asked, options, now).await?;
        warnings.into_iter().for_each(|warning| self.warn(warning));
        let mut labels = last.labels.clone();
        labels.extend(options.labels.clone());
        labels.retain(|_, value| value != "null");
        let mut record = Record {
            name: options.name.clone(),
            namespace: current.namespace.clone(),
            version: revision,
            chart: Some(rendered.chart),
            config: values::stored(&source.values),
            manifest: rendered.manifest,
            hooks: rendered.hooks,
            labels,
            info: Info {
                first_deployed: current.info.first_deployed,
                last_deployed: Some(now),
                notes: rendered.notes,
                ..Info::default()
            },
            ..Record::default()
        };
        record.set(Status::PendingUpgrade, "Preparing upgrade");
        record.set_apply_method(server);
        Ok(record)
    }

    /// What interrupted revisions made and nothing else names: it belongs to the release and would stay for ever.
    pub(super) async fn leftovers(&self, history: &History, known: &[Object]) -> Vec<Object> {
        let mut left: Vec<Object> = Vec::new();
        for record in history.leftovers() {
            let Ok(objects) = build(&self.cluster, &record.manifest, &record.namespace).await else { continue };
            for object in objects {
                if object.name.is_empty() || known.iter().chain(&left).any(|other| other.same(&object)) {
                    continue;
                }
                let live = self.cluster.find(&object.path()).await.ok().flatten();
                let owned = |live| ownership::check(live, &record.name, &record.namespace).is_ok();
                if live.as_ref().is_some_and(owned) {
                    left.push(object);
                }
            }
        }
        left
    }

    pub(super) async fn supersede(&self, history: &History, revision: u64) {
        let Some(mut record) = history.get(revision).cloned() else { return };
        record.info.status = Status::Superseded;
        if let Err(error) = self.releases.update(&record, None, self.now()).await {
            self.warn(format!("failed to record the release: {error}"));
        }
    }

    async fn bring(
        &self,
        operation: &mut Operation<'_>,
        options: &Deploy,
        objects: &Objects,
        done: &mut Done,
    ) -> Result<(), Error> {
        let hook = |event| hooks::Run { event, timeout: objects.timeout, server: objects.how.server, leave: false };
        if !options.no_hooks {
            let run = hooks::run(self, operation, hook(Event::PreUpgrade)).await;
            run.map_err(|error| error.context("pre-upgrade hooks failed"))?;
        }
        let update = async {
            let (did, result) = apply::update(&self.cluster, &objects.before, &objects.new, objects.how).await;
            *done = did;
            result
        };
        operation.guard(update).await?;
        let ready =
            wait::ready(&self.cluster, &objects.new, options.strategy(), options.wait_for_jobs, objects.timeout);
        operation.guard(ready).await?;
        if !options.no_hooks {
            let run = hooks::run(self, operation, hook(Event::PostUpgrade)).await;
            run.map_err(|error| error.context("post-upgrade hooks failed"))?;
        }
        Ok(())
    }

    async fn upgrade_failed(
        &self,
        mut operation: Operation<'_>,
        options: &Deploy,
        created: &[Object],
        error: Error,
    ) -> Error {
        if matches!(error.root(), Error::TakenOver(_)) {
            return error;
        }
        let name = &options.name;
        let failed = operation.record.version;
        if let Err(unwritten) = operation.end(Status::Failed, format!("Upgrade {name:?} failed: {error}")).await
            && let Some(lost) = claim::unwritten(self, &error, unwritten)
        {
            return lost;
        }
        drop(operation);
        if options.cleanup_on_fail
            && let Some(unclean) = joined(apply::delete(&self.cluster, created, "Background").await, ", ")
        {
            return Error::Several(format!(
                "an error occurred while cleaning up resources. original upgrade error: {error}: unable to cleanup resources: {unclean}"
            ));
        }
        if !options.rollback_on_failure {
            return error;
        }
        let history = match self.releases.history(name).await {
            Ok(history) => history,
            Err(unread) => {
                return Error::Several(format!(
                    "an error occurred while finding last successful release. original upgrade error: {error}: {unread}"
                ));
            }
        };
        let Some(good) = history.last_good(failed) else {
            return error.context(
                "unable to find a previously successful release when attempting to rollback. original upgrade error",
            );
        };
        let back = Rollback {
            name: name.clone(),
            revision: Some(good),
            wait: options.strategy(),
            wait_for_jobs: options.wait_for_jobs,
            no_hooks: options.no_hooks,
            force_replace: options.force_replace,
            force_conflicts: options.force_conflicts,
            server_side: options.server_side,
            timeout: options.timeout,
            ..Rollback::default()
        };
        match self.unstoppable().rollback(&back).await {
            Ok(_) => error.context(format!(
                "release {name} failed, and has been rolled back due to rollback-on-failure being set"
            )),
            Err(other) => Error::Several(format!(
                "an error occurred while rolling back the release. original upgrade error: {error}: {other}"
            )),
        }
    }
}
