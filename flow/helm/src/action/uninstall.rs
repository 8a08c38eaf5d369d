//! `helm uninstall`.

use std::time::Duration;

use chart::{
    Flavor, Warnings,
    manifest::{self, Event, Manifest, Order},
    release::{Record, Status},
};

use super::{Helm, Strategy, check_name};
use crate::{
    Error, apply,
    build::{Object, build},
    claim::{Foreign, Operation, settled},
    hooks, ownership, wait,
};

/// How a release is uninstalled.
#[derive(Clone, Debug, Default)]
pub struct Uninstall {
    pub name: String,
    pub dry_run: bool,
    pub no_hooks: bool,
    /// No release is as good as an uninstalled one.
    pub ignore_not_found: bool,
    /// Its revisions stay, the newest as uninstalled.
    pub keep_history: bool,
    pub wait: Strategy,
    /// `background` (if empty), `foreground` or `orphan`.
    pub cascade: String,
    pub timeout: Duration,
    pub description: String,
}

/// What became of a release.
#[derive(Clone, Debug)]
pub struct Uninstalled {
    pub record: Record,
    /// What was left, and why; may be empty.
    pub info: String,
}

impl Helm {
    /// Uninstalls a release; nothing if there is none and that is all right.
    pub async fn uninstall(&self, options: &Uninstall) -> Result<Option<Uninstalled>, Error> {
        let name = &options.name;
        let propagation = match options.cascade.as_str() {
            "" | "background" => "Background",
            "foreground" => "Foreground",
            "orphan" => "Orphan",
            other => {
                return Err(Error::Option(format!(
                    "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
                )));
            }
        };
        self.cluster.version().await?;
        check_name(name).map_err(|_| Error::Option(format!("uninstall: Release name is invalid: {name}")))?;
        let history = match options.dry_run {
            true => self.releases.history(name).await?,
            false => settled(self, name, Foreign::Passes).await?,
        };
        let Some(last) = history.last().cloned() else {
            if options.ignore_not_found {
                return Ok(None);
            }
            return Err(Error::NotFound.context(format!("uninstall: Release not loaded: {name}")));
        };
        if options.dry_run {
            let (kept, _) = sorted(&last)?;
            return Ok(Some(Uninstalled { record: last, info: policy_words(&kept) }));
        }
        let revisions: Vec<u64> = history.records().iter().map(|record| record.version).collect();
        if last.info.status == Status::Uninstalled {
            if options.keep_history {
                return Err(Error::Option(format!("the release named {name:?} is already deleted")));
            }
            self.purge(name, &revisions).await?;
            return Ok(Some(Uninstalled { record: last, info: String::new() }));
        }
        let mut record = last;
        record.set(Status::Uninstalling, "Deletion in progress (or silently failed)");
        record.info.deleted = Some(self.now());
        let mut operation = Operation::take(self, record).await?;
        let info = match self.dismantle(&mut operation, options, &history, propagation).await {
            Ok(info) => info,
            Err(error) => {
                // It says what it was at; the next try goes on from there.
                if !matches!(error.root(), Error::TakenOver(_)) {
                    let description = operation.record.info.description.clone();
                    operation.end(Status::Uninstalling, description).await?;
                }
                return Err(error);
            }
        };
        if options.keep_history {
            let said = if options.description.is_empty() { "Uninstallation complete" } else { &options.description };
            operation.end(Status::Uninstalled, said).await?;
            for revision in history.superseded_by(operation.record.version) {
                self.supersede(&history, revision).await;
            }
        } else {
            operation.record.set(Status::Uninstalled, "Uninstallation complete");
            let purged = self.purge(name, &revisions).await;
            purged.map_err(|error| error.context("uninstall: Failed to purge the release"))?;
        }
        Ok(Some(Uninstalled { record: operation.record.clone(), info }))
    }

    async fn purge(&self, name: &str, revisions: &[u64]) -> Result<(), Error> {
        for revision in revisions {
            self.releases.delete(name, *revision).await?;
        }
        Ok(())
    }

    /// Deletes what belongs to a release. Gives what was left, and why.
    async fn dismantle(
        &self,
        operation: &mut Operation<'_>,
        options: &Uninstall,
        history: &chart::release::History,
        propagation: &str,
    ) -> Result<String, Error> {
        let hook = |event| hooks::Run { event, timeout: options.timeout, server: true, leave: false };
        if !options.no_hooks {
            hooks::run(self, operation, hook(Event::PreDelete)).await?;
        }
        let (kept, manifest) = sorted(&operation.record)?;
        let mut info = policy_words(&kept);
        let namespace = operation.record.namespace.clone();
        let built = build(&self.cluster, &manifest, &namespace).await;
        let mut objects = built.map_err(|error| {
            error.context(format!(
                "failed to delete release: {}: unable to build kubernetes objects for delete",
                options.name
            ))
        })?;
        let stay = build(&self.cluster, &kept.iter().map(document).collect::<String>(), &namespace).await?;
        let known: Vec<Object> = objects.iter().chain(&stay).cloned().collect();
        objects.extend(self.leftovers(history, &known).await);
        objects.retain(|object| !object.name.is_empty());
        let (owned, others) = self.owned(&objects, &operation.record).await?;
        if !others.is_empty() {
            if !info.is_empty() {
                info.push('\n');
            }
            info.push_str(&format!(
                "{} resource(s) were not deleted because they are not owned by this release:\n",
                others.len()
            ));
            for object in &others {
                info.push_str(&format!("[{}] {}\n", object.kind(), object.name));
            }
        }
        let work = async {
            let errors = apply::delete(&self.cluster, &owned, propagation).await;
            if !errors.is_empty() {
                let all: Vec<String> = errors.iter().map(Error::to_string).collect();
                return Err(Error::Several(format!("failed to delete release: {}: {}", options.name, all.join("; "))));
            }
            match options.wait {
                Strategy::HookOnly => Ok(()),
                _ => wait::gone(&self.cluster, &owned, options.timeout).await,
            }
        };
        let counted = |error: Error| error.context("uninstallation completed with 1 error(s)");
        operation.guard(work).await.map_err(|error| match error {
            error @ Error::TimedOut(_) => counted(error),
            other => other,
        })?;
        if !options.no_hooks {
            hooks::run(self, operation, hook(Event::PostDelete)).await.map_err(counted)?;
        }
        Ok(info)
    }

    /// The objects that are the release's, and those that are somebody else's by now.
    async fn owned(&self, objects: &[Object], record: &Record) -> Result<(Vec<Object>, Vec<Object>), Error> {
        let (mut owned, mut others) = (Vec::new(), Vec::new());
        for object in objects {
            match self.cluster.find(&object.path()).await? {
                None => {}
                Some(live) if ownership::check(&live, &record.name, &record.namespace).is_ok() => {
                    owned.push(object.clone());
                }
                Some(_) => {
                    self.warn(format!(
                        "skipping delete of resource not owned by this release: {} {}",
                        object.kind(),
                        object.name
                    ));
                    others.push(object.clone());
                }
            }
        }
        Ok((owned, others))
    }
}

fn document(manifest: &Manifest) -> String {
    format!("\n---\n{}", manifest.content)
}

/// What a release's policy keeps, and the manifest of the rest in the order of removing.
fn sorted(record: &Record) -> Result<(Vec<Manifest>, String), Error> {
    let files: Vec<(String, &str)> = manifest::split(&record.manifest, Flavor::Helm4)
        .into_iter()
        .enumerate()
        .map(|(at, text)| (format!("manifest-{at:06}"), text))
        .collect();
    let files = files.iter().map(|(path, text)| (path.as_str(), *text));
    let (_, all) = manifest::sort(files, Order::Uninstall, Flavor::Helm4, &Warnings::default())?;
    let (kept, rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|manifest| ownership::kept(manifest.head.annotation(ownership::POLICY)));
    let rest = rest.iter().map(document).collect();
    Ok((kept, rest))
}

fn policy_words(kept: &[Manifest]) -> String {
    if kept.is_empty() {
        return String::new();
    }
    let lines: String =
        kept.iter().map(|manifest| format!("[{}] {}\n", manifest.head.kind, manifest.head.name)).collect();
    format!("These resources were kept due to the resource policy:\n{lines}")
}
