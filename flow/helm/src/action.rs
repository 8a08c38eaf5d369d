//! The operations on releases.

mod install;
mod name;
mod resources;
mod rollback;
mod template;
mod test;
mod uninstall;
mod upgrade;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chart::release::Record;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use install::preview;
pub use name::{check_name, generated_name, templated_name};
pub use rollback::Rollback;
pub use template::{Asked, template};
pub use test::{Testing, logs};
pub use uninstall::{Uninstall, Uninstalled};

use crate::{Cluster, Error, Owner, Reuse, Storage, build::Object, ownership};

/// What an operation says on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// Something the user should know.
    Warning(String),
    /// What a hook's container wrote.
    Log(Vec<u8>),
}

/// What operations are carried out with.
#[derive(Clone)]
pub struct Helm {
    pub cluster: Cluster,
    pub releases: Storage,
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub owner: Owner,
    /// After how long without a word an unfinished operation of a tool that names no owner counts as left behind.
    pub patience: Duration,
    pub tell: Arc<dyn Fn(Say) + Send + Sync>,
    /// The user wants it to stop; what was begun is then written down as failed, or taken back if it was asked for.
    pub stop: CancellationToken,
}

impl Helm {
    /// Helm waits five minutes, at most thrice in one operation, unless told otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(900);

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn say(&self, what: Say) {
        (self.tell)(what);
    }

    pub(crate) fn warn(&self, what: impl Into<String>) {
        self.say(Say::Warning(what.into()));
    }

    /// Does something, unless the user stops it.
    pub(crate) async fn stoppable<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::Cancelled),
            result = work => result,
        }
    }

    /// For what must be done after the user stopped the rest.
    pub(crate) fn unstoppable(&self) -> Self {
        Self { stop: CancellationToken::new(), ..self.clone() }
    }
}

/// What is waited for after objects were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Hooks only.
    #[default]
    HookOnly,
    /// Every object is as its manifest asks, by kstatus.
    Watcher,
    /// By the rules of Helm 3.
    Legacy,
}

/// Whether something is only tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    #[default]
    No,
    /// Without asking the cluster anything about its objects.
    Client,
    /// With `lookup` and what the cluster can do.
    Server,
}

/// How a release is installed or upgraded.
#[derive(Clone, Debug, Default)]
pub struct Deploy {
    pub name: String,
    pub namespace: String,
    pub dry_run: DryRun,
    pub no_hooks: bool,
    pub wait: Strategy,
    pub wait_for_jobs: bool,
    /// For each wait; 0 means 30 s.
    pub timeout: Duration,
    /// Empty for Helm's own words.
    pub description: String,
    /// Goes back (or uninstalls) when it fails.
    pub rollback_on_failure: bool,
    /// Deletes what a failed upgrade made.
    pub cleanup_on_fail: bool,
    pub force_replace: bool,
    pub force_conflicts: bool,
    /// Server-side apply; `None` goes on as the revision before, or with it for a new release.
    pub server_side: Option<bool>,
    pub create_namespace: bool,
    pub skip_crds: bool,
    /// An upgrade takes away those whose value is `null`.
    pub labels: BTreeMap<String, String>,
    pub take_ownership: bool,
    /// The most revisions to keep; 0 keeps all.
    pub history_max: usize,
    /// A name is used again whose release is uninstalled or failed.
    pub replace: bool,
    pub reuse: Reuse,
    pub skip_schema: bool,
    pub sub_notes: bool,
    pub hide_secrets: bool,
    pub dns: bool,
    /// The definitions of custom resources stand in the manifest; for rendering only.
    pub include_crds: bool,
    /// Templates are told of an upgrade; for rendering only.
    pub is_upgrade: bool,
}

impl Deploy {
    fn check(&self) -> Result<(), Error> {
        let wrong = |text: &str| Err(Error::Option(text.to_owned()));
        if self.hide_secrets && self.dry_run == DryRun::No {
            return wrong("hiding Kubernetes secrets requires a dry-run mode");
        }
        if self.force_conflicts && self.force_replace {
            return wrong("invalid operation: cannot use force conflicts and force replace together");
        }
        if chart::release::reserved(&self.labels).is_some() {
            let names = chart::release::SYSTEM_LABELS.join(" ");
            return wrong(&format!(
                "user supplied labels contains system reserved label name. System labels: [{names}]"
            ));
        }
        Ok(())
    }

    /// What is waited for: going back needs to know whether it went well.
    fn strategy(&self) -> Strategy {
        match self.wait {
            Strategy::HookOnly if self.rollback_on_failure => Strategy::Watcher,
            other => other,
        }
    }

    fn description(&self, default: &str) -> String {
        if self.description.is_empty() { default.to_owned() } else { self.description.clone() }
    }
}

/// Checks what cannot be done together with server-side apply.
fn check_method(server: bool, force_replace: bool, force_conflicts: bool) -> Result<(), Error> {
    match (server, force_replace, force_conflicts) {
        (true, true, _) => {
            Err(Error::Option("invalid operation: cannot use server-side apply and force replace together".to_owned()))
        }
        (false, _, true) => Err(Error::Option(
            "invalid client update option(s): forceConflicts enabled when serverSideApply disabled".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn stamp(objects: &mut [Object], record: &Record) {
    for object in objects {
        ownership::stamp(&mut object.value, &record.name, &record.namespace);
    }
}

/// Makes room for one more revision.
async fn prune(helm: &Helm, history: &chart::release::History, name: &str, most: usize) {
    for revision in history.prune(most) {
        if let Err(error) = helm.releases.delete(name, revision).await {
            helm.warn(format!("cannot delete revision {revision} of release {name}: {error}"));
        }
    }
}
