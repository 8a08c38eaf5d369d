//! `helm install`.

use std::time::Duration;

use chart::{
    Capabilities, Rendered,
    manifest::Event,
    release::{Info, Record, Status},
};
use serde_json::json;

use super::{Deploy, DryRun, Helm, Strategy, Uninstall, check_method, check_name, stamp};
use crate::{
    Error, Source,
    apply::{self, How},
    build::{Object, build},
    claim::{self, Foreign, Operation, settled},
    hooks,
    render::{capabilities, render},
    values, wait,
};

/// How long a new kind may take to be served.
const ESTABLISHED: Duration = Duration::from_secs(60);

/// What `install --dry-run=client` shows: no cluster is asked for anything.
pub async fn preview(source: &Source, options: &Deploy, now: jiff::Timestamp) -> Result<Record, Error> {
    options.check()?;
    let refused = |error: Error| error.context(format!("release name check failed: release name {:?}", options.name));
    check_name(&options.name).map_err(refused)?;
    let capabilities = Capabilities::offline(source.flavor);
    let (rendered, _) = render(source, told(options, 1), capabilities, None, options, now).await?;
    let mut record = new(source, options, rendered, 1, now);
    record.set(Status::PendingInstall, "Dry run complete");
    Ok(record)
}

pub(super) fn told(options: &Deploy, revision: u64) -> chart::Release {
    chart::Release {
        name: options.name.clone(),
        namespace: options.namespace.clone(),
        revision,
        is_upgrade: options.is_upgrade,
    }
}

fn new(source: &Source, options: &Deploy, rendered: Rendered, revision: u64, now: jiff::Timestamp) -> Record {
    let mut record = Record {
        name: options.name.clone(),
        namespace: options.namespace.clone(),
        version: revision,
        chart: Some(rendered.chart),
        config: values::stored(&source.values),
        manifest: rendered.manifest,
        hooks: rendered.hooks,
        labels: options.labels.clone(),
        info: Info { first_deployed: Some(now), last_deployed: Some(now), notes: rendered.notes, ..Info::default() },
        ..Record::default()
    };
    record.set_apply_method(options.server_side.unwrap_or(true));
    record
}

impl Helm {
    /// Installs a release. Gives its record; the error of one that was begun is also written into it.
    pub async fn install(&self, source: &Source, options: &Deploy) -> Result<Record, Error> {
        options.check()?;
        let server = options.server_side.unwrap_or(true);
        // Nothing is replaced or contested in a first install; what is adopted may be.
        check_method(server, options.force_replace && !server, options.force_conflicts)?;
        self.cluster.version().await.map_err(|error| error.context("cluster reachability check failed"))?;
        let refused =
            |error: Error| error.context(format!("release name check failed: release name {:?}", options.name));
        check_name(&options.name).map_err(refused)?;
        let trial = options.dry_run != DryRun::No;
        let (revision, superseded) = if trial {
            (1, None)
        } else {
            let history = settled(self, &options.name, Foreign::Stops).await.map_err(|error| match error {
                Error::Busy => error,
                other => other.context("release name check failed"),
            })?;
            let plan = history
                .install(options.replace)
                .map_err(|error| Error::from(error).context("release name check failed"))?;
            (plan.revision, plan.supersedes.and_then(|revision| history.get(revision).cloned()))
        };
        if !trial && !options.skip_crds {
            self.stoppable(self.definitions(source, options)).await?;
        }
        let capabilities = capabilities(&self.cluster, source.flavor).await?;
        let asked = (options.dry_run != DryRun::Client).then(|| self.cluster.clone());
        let now = self.now();
        // Templates are told 1 also when a name is used again, as with Helm.
        let (rendered, warnings) = render(source, told(options, 1), capabilities, asked, options, now).await?;
        warnings.into_iter().for_each(|warning| self.warn(warning));
        if trial && !rendered.crds.is_empty() && !options.skip_crds {
            self.warn("This chart or one of its subcharts contains CRDs. Rendering may fail or contain inaccuracies.");
        }
        let mut record = new(source, options, rendered, revision, now);
        record.set(Status::PendingInstall, "Initial install underway");
        let built = build(&self.cluster, &record.manifest, &options.namespace).await;
        let mut objects =
            built.map_err(|error| error.context("unable to build kubernetes objects from release manifest"))?;
        stamp(&mut objects, &record);
        let found =
            apply::adopted(&self.cluster, &objects, &record.name, &record.namespace, options.take_ownership).await;
        let adopted = found.map_err(|error| error.context("unable to continue with install"))?;
        if trial {
            record.info.description = "Dry run complete".to_owned();
            return Ok(record);
        }
        if options.create_namespace {
            self.namespace(&options.namespace).await?;
        }
        if let Some(mut last) = superseded {
            last.set(Status::Superseded, "superseded by new release");
            self.releases.update(&last, None, self.now()).await?;
        }
        let mut operation = Operation::begin(self, record).await?;
        match self.make(&mut operation, options, &objects, &adopted).await {
            Ok(()) => {
                let description = options.description("Install complete");
                operation.end(Status::Deployed, description).await?;
                Ok(operation.record.clone())
            }
            Err(error) => Err(self.install_failed(operation, options, error).await),
        }
    }

    async fn make(
        &self,
        operation: &mut Operation<'_>,
        options: &Deploy,
        objects: &[Object],
        adopted: &[Object],
    ) -> Result<(), Error> {
        let server = options.server_side.unwrap_or(true);
        let hook = |event| hooks::Run { event, timeout: options.timeout, server, leave: false };
        if !options.no_hooks {
            let run = hooks::run(self, operation, hook(Event::PreInstall)).await;
            run.map_err(|error| error.context("failed pre-install"))?;
        }
        let how = How {
            server,
            force_conflicts: options.force_conflicts,
            force_replace: options.force_replace && !server,
            wholly: options.take_ownership && !server,
            take_over: true,
        };
        if adopted.is_empty() {
            let how = How { force_conflicts: false, ..how };
            operation.guard(apply::create(&self.cluster, objects, how)).await?;
        } else {
            let update = async { apply::update(&self.cluster, adopted, objects, how).await.1 };
            operation.guard(update).await?;
        }
        let ready = wait::ready(&self.cluster, objects, options.strategy(), options.wait_for_jobs, options.timeout);
        operation.guard(ready).await?;
        if !options.no_hooks {
            let run = hooks::run(self, operation, hook(Event::PostInstall)).await;
            run.map_err(|error| error.context("failed post-install"))?;
        }
        Ok(())
    }

    async fn install_failed(&self, mut operation: Operation<'_>, options: &Deploy, error: Error) -> Error {
        if matches!(error.root(), Error::TakenOver(_)) {
            return error;
        }
        let name = &options.name;
        if let Err(unwritten) = operation.end(Status::Failed, format!("Release {name:?} failed: {error}")).await
            && let Some(lost) = claim::unwritten(self, &error, unwritten)
        {
            return lost;
        }
        drop(operation);
        if !options.rollback_on_failure {
            return error;
        }
        let uninstall = Uninstall {
            name: name.clone(),
            no_hooks: options.no_hooks,
            timeout: options.timeout,
            wait: options.strategy(),
            ..Uninstall::default()
        };
        match self.unstoppable().uninstall(&uninstall).await {
            Ok(_) => error.context(format!(
                "release {name} failed, and has been uninstalled due to rollback-on-failure being set"
            )),
            Err(other) => Error::Several(format!(
                "an error occurred while uninstalling the release. original install error: {error}: {other}"
            )),
        }
    }

    /// Makes the kinds that a chart defines, unless they are there.
    async fn definitions(&self, source: &Source, options: &Deploy) -> Result<(), Error> {
        let mut made = Vec::new();
        let definitions = {
            let render = chart::Render::offline(source.flavor, &options.name, &options.namespace);
            render.definitions(&source.chart, &source.values, &chart::Warnings::default())?
        };
        for (path, text) in definitions {
            let failed = |error: Error| error.context(format!("failed to install CRD {path}"));
            let objects = build(&self.cluster, &text, &options.namespace).await.map_err(failed)?;
            let how = How {
                server: options.server_side.unwrap_or(true),
                force_conflicts: options.force_conflicts,
                ..How::default()
            };
            for object in objects {
                if self.cluster.find(&object.path()).await?.is_some() {
                    tracing::debug!(name = object.name, "a kind is there already");
                    continue;
                }
                match apply::create(&self.cluster, std::slice::from_ref(&object), how).await {
                    Ok(()) => made.push(object),
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        if !made.is_empty() {
            let strategy = match options.strategy() {
                Strategy::Legacy => Strategy::Legacy,
                _ => Strategy::Watcher,
            };
            wait::ready(&self.cluster, &made, strategy, false, ESTABLISHED).await?;
            self.cluster.forget_kinds().await;
        }
        Ok(())
    }

    async fn namespace(&self, name: &str) -> Result<(), Error> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { "name": name } },
        });
        match self.cluster.create("/api/v1/namespaces", &namespace).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }
}
