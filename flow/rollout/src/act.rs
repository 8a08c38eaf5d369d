//! Rolls releases out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use records::{
    Cause, Digest, Name, Release, ReleaseId, Rollout, RolloutState, Timestamp,
    labels::{COMMIT, ENVIRONMENT, PROJECT, RELEASE, RUN},
};
use serde_json::{Map, Value};
use store::{Blobs, Change, Expect, Kind, Mirror, Records, Seq, Versioned};
use tokio::sync::Mutex;

use crate::{
    Cluster, ClusterError, Error, ObjectRef, Result, Step, Target, Waiting, WorkloadRef, assess, targets, way_back,
};

/// The name under which objects are applied.
const FIELD_MANAGER: &str = "shipway";
/// Bytes of a release's manifests.
const MANIFESTS: u64 = 64 << 20;
/// When to look again at a cluster that changes without a word.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The activation of this stage: run it when releases or the cluster's workloads change, and when a report asks for it. It is idempotent.
pub struct Rollouts {
    records: Records,
    blobs: Arc<dyn Blobs>,
    cluster: Arc<dyn Cluster>,
    seen: Mutex<Seen>,
}

/// What is remembered between activations; it can be lost at any time.
struct Seen {
    releases: Mirror<Release>,
    rollouts: Mirror<Rollout>,
    /// What this process has applied and not lost sight of since. Others are applied again.
    applied: HashMap<ReleaseId, Arc<Contents>>,
}

/// What a release consists of.
struct Contents {
    objects: Vec<Value>,
    workloads: Vec<WorkloadRef>,
    keep: Vec<ObjectRef>,
}

/// What an activation did, and what it left.
#[derive(Debug, Default)]
pub struct Report {
    /// Rollouts whose state changed, as they are now.
    pub changed: Vec<Rollout>,
    /// Releases that were made to go back.
    pub released: Vec<Release>,
    pub waiting: Vec<(ReleaseId, Waiting)>,
    /// When to look again at the latest; none when nothing is under way.
    pub again: Option<Timestamp>,
    /// What could not be done for one environment; the others were looked at.
    pub failed: Vec<(ReleaseId, Error)>,
}

/// A target that owns what it names, so that the mirrors can move on.
struct Owned {
    release: Release,
    rollout: Versioned<Rollout>,
    last_complete: Option<Release>,
}

impl Rollouts {
    pub fn new(records: Records, blobs: Arc<dyn Blobs>, cluster: Arc<dyn Cluster>) -> Self {
        let seen = Seen {
            releases: Mirror::new(records.clone()),
            rollouts: Mirror::new(records.clone()),
            applied: HashMap::new(),
        };
        Self { records, blobs, cluster, seen: Mutex::new(seen) }
    }

    /// Looks at all environments of all projects.
    pub async fn activate(&self, now: Timestamp) -> Result<Report> {
        let mut seen = self.seen.lock().await;
        let seen = &mut *seen;
        let mut report = Report::default();
        seen.sync().await?;
        for (project, environment) in seen.environments() {
            // A way back is a release too: it begins at once.
            for _ in 0..2 {
                let made = report.released.len();
                if let Err((id, error)) = self.step(seen, &project, &environment, now, &mut report).await {
                    tracing::warn!(release = %id, %error, "cannot go on with the rollout");
                    report.failed.push((id, error));
                    report.look_again(now);
                }
                if report.released.len() == made {
                    break;
                }
                seen.sync().await?;
            }
        }
        Ok(report)
    }

    async fn step(
        &self,
        seen: &mut Seen,
        project: &Name,
        environment: &Name,
        now: Timestamp,
        report: &mut Report,
    ) -> std::result::Result<(), (ReleaseId, Error)> {
        let prefix = format!("{project}/{environment}/");
        let releases: Vec<&Release> = seen.releases.starting_with(&prefix).map(|found| &found.record).collect();
        let found = |id: &ReleaseId| seen.rollouts.get(&id.key());
        let rollout = |id: &ReleaseId| found(id).map(|found| &found.record);
        let (Some(target), overtaken) = targets(&releases, rollout) else { return Ok(()) };
        let id = target.release.id.clone();
        let failed = |error: Error| (id.clone(), error);

        // First the records: those before it end, it begins.
        let (mut changes, mut ends) = (Vec::new(), Vec::new());
        for older in overtaken {
            let state = RolloutState::Superseded { at: now, by: id.clone() };
            if let (Ok(ended), Some(now)) = (older.clone().become_state(state), found(&older.release)) {
                changes.push(replace(&ended, now.seq).map_err(failed)?);
                ends.push(ended);
            }
        }
        let mut begun = match found(&id) {
            Some(found) => found.clone(),
            None => {
                let begun = Rollout::new(id.clone(), now);
                changes.push(Records::change(&begun, Expect::Absent).map_err(|error| failed(error.into()))?);
                ends.push(begun.clone());
                // Its version is known once it is written.
                Versioned { seq: 0, record: begun }
            }
        };
        if !changes.is_empty() {
            let Some(last) = self.append(changes).await.map_err(failed)? else {
                report.look_again(now);
                return Ok(());
            };
            if begun.seq == 0 {
                begun.seq = last;
            }
            report.changed.append(&mut ends);
        }
        let owned =
            Owned { release: target.release.clone(), rollout: begun, last_complete: target.last_complete.cloned() };
        if owned.rollout.record.state.ended() {
            seen.applied.remove(&id);
            return Ok(());
        }
        let done = self.advance(seen, owned, now, report).await;
        match done {
            // What it was doing is not known now: it is applied again once the cluster answers, with a whole deadline.
            Err(Error::Cluster(error @ ClusterError::Unavailable(_))) => {
                seen.applied.remove(&id);
                report.waiting.push((id, Waiting::Cluster { message: error.to_string() }));
                report.look_again(now);
                Ok(())
            }
            done => done.map_err(failed),
        }
    }

    /// Goes on with a release whose rollout is pending or progressing.
    async fn advance(&self, seen: &mut Seen, owned: Owned, now: Timestamp, report: &mut Report) -> Result<()> {
        let Owned { release, last_complete, .. } = &owned;
        let mut rollout = owned.rollout.clone();
        let failing = Target { release, rollout: None, last_complete: last_complete.as_ref() };
        let contents = match seen.applied.get(&release.id) {
            Some(contents) => contents.clone(),
            None => {
                let contents = Arc::new(self.contents(release).await?);
                // Before the effect.
                if matches!(rollout.record.state, RolloutState::Pending) {
                    let state = RolloutState::Progressing { since: now, ready: 0, wanted: 0, progressed_at: now };
                    if !self.become_state(&mut rollout, state, report).await? {
                        report.look_again(now);
                        return Ok(());
                    }
                }
                match self.cluster.apply(&contents.objects, FIELD_MANAGER).await {
                    Ok(()) => {}
                    Err(ClusterError::Rejected { object, message }) => {
                        let reason = format!(
                            "version {} cannot be applied, since the cluster rejects {object}: {}",
                            release.commit.short(),
                            message.trim_end_matches('.')
                        );
                        return self.fail(seen, &failing, rollout, &reason, now, report).await;
                    }
                    Err(error) => return Err(error.into()),
                }
                // While nobody was looking there could be no progress that counts: the deadline begins again.
                if let RolloutState::Progressing { since, ready, wanted, progressed_at } = rollout.record.state
                    && progressed_at != now
                {
                    let state = RolloutState::Progressing { since, ready, wanted, progressed_at: now };
                    if !self.become_state(&mut rollout, state, report).await? {
                        report.look_again(now);
                        return Ok(());
                    }
                }
                seen.applied.insert(release.id.clone(), contents.clone());
                contents
            }
        };
        let statuses = match contents.workloads.is_empty() {
            true => Vec::new(),
            false => self.cluster.workloads(&release.environment.namespace, &contents.workloads).await?,
        };
        let (state, step) = assess(release, &rollout.record.state, &contents.workloads, &statuses, now);
        match step {
            Step::Wait(waiting) => {
                if state != rollout.record.state {
                    self.become_state(&mut rollout, state, report).await?;
                }
                report.waiting.push((release.id.clone(), waiting));
                report.look_again(now);
                Ok(())
            }
            Step::Complete => {
                // Before the record: once it says complete, nobody looks at it again.
                let labels = BTreeMap::from([
                    (PROJECT.to_owned(), release.id.project.to_string()),
                    (ENVIRONMENT.to_owned(), release.id.environment.to_string()),
                ]);
                match self.cluster.prune(&release.environment.namespace, &labels, &contents.keep).await {
                    Err(error @ ClusterError::Rejected { .. }) => {
                        tracing::warn!(release = %release.id, %error, "cannot delete what the release no longer has");
                    }
                    pruned => pruned?,
                }
                let state = RolloutState::Complete { at: now };
                if self.become_state(&mut rollout, state, report).await? {
                    tracing::info!(release = %release.id, "rolled out");
                    seen.applied.remove(&release.id);
                } else {
                    report.look_again(now);
                }
                Ok(())
            }
            Step::Fail { reason } => self.fail(seen, &failing, rollout, &reason, now, report).await,
        }
    }

    /// Ends a rollout and, where there is one, begins the way back: one append, all or nothing.
    async fn fail(
        &self,
        seen: &mut Seen,
        target: &Target<'_>,
        rollout: Versioned<Rollout>,
        reason: &str,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<()> {
        let release = target.release;
        let (back, reason) = way_back(target, reason);
        let back_to = back.map(|back| back.id.clone());
        let state = RolloutState::Failed { at: now, reason: reason.clone(), back_to };
        // It is progressing, from which it may fail.
        let Ok(ended) = rollout.record.become_state(state) else { return Ok(()) };
        let mut changes = vec![replace(&ended, rollout.seq)?];
        let mut made = None;
        if let Some(back) = back {
            let id = ReleaseId { number: seen.last_number(&release.id) + 1, ..release.id.clone() };
            let cause = Cause::Rollback { of: release.id.clone() };
            let release = Release { id: id.clone(), cause, created_at: now, ..back.clone() };
            changes.push(Records::change(&release, Expect::Absent)?);
            changes.push(Records::change(&Rollout::new(id, now), Expect::Absent)?);
            made = Some(release);
        }
        if self.append(changes).await?.is_none() {
            // Something newer came in between: that is looked at first.
            report.look_again(now);
            return Ok(());
        }
        tracing::warn!(release = %release.id, reason, "the rollout failed");
        seen.applied.remove(&release.id);
        report.changed.push(ended);
        report.released.extend(made);
        Ok(())
    }

    /// Writes the next state of a rollout. Not when another writer was faster.
    async fn become_state(
        &self,
        rollout: &mut Versioned<Rollout>,
        state: RolloutState,
        report: &mut Report,
    ) -> Result<bool> {
        let Ok(next) = rollout.record.clone().become_state(state) else { return Ok(false) };
        let Some(seq) = self.append(vec![replace(&next, rollout.seq)?]).await? else { return Ok(false) };
        *rollout = Versioned { seq, record: next.clone() };
        report.changed.push(next);
        Ok(true)
    }

    /// The version of the last change; none when another writer was faster.
    async fn append(&self, changes: Vec<Change>) -> Result<Option<Seq>> {
        match self.records.log().append(changes).await {
            Ok(seq) => Ok(Some(seq)),
            Err(error) if error.kind == Kind::Conflict => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn contents(&self, release: &Release) -> Result<Contents> {
        let text = store::blobs::get(&*self.blobs, &release.manifests, MANIFESTS).await?;
        let mut objects: Vec<Value> = serde_json::from_slice(&text).map_err(|e| corrupt(&release.manifests, e))?;
        let (mut workloads, mut keep) = (Vec::new(), Vec::new());
        for object in &mut objects {
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (kind, name, namespace) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
            if matches!(kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet" | "Job") {
                workloads.push(WorkloadRef { kind: kind.clone(), name: name.clone() });
            }
            let namespace = (!namespace.is_empty()).then_some(namespace);
            keep.push(ObjectRef { api_version: text("/apiVersion"), kind: kind.clone(), namespace, name });
            if kind != "Namespace" {
                annotate(object, release);
            }
        }
        Ok(Contents { objects, workloads, keep })
    }
}

fn corrupt(digest: &Digest, error: serde_json::Error) -> Error {
    store::Error::new(Kind::Corrupt, format!("the manifests {digest} are not a list of objects")).caused(error).into()
}

/// Writes onto an object where it comes from. Not onto its pods, which must not change when nothing else does.
fn annotate(object: &mut Value, release: &Release) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(RELEASE.into(), release.id.to_string().into());
        annotations.insert(COMMIT.into(), release.commit.to_string().into());
        annotations.insert(RUN.into(), release.run.to_string().into());
    }
}

impl Seen {
    async fn sync(&mut self) -> Result<()> {
        self.releases.sync().await?;
        self.rollouts.sync().await?;
        Ok(())
    }

    fn environments(&self) -> BTreeSet<(Name, Name)> {
        self.releases
            .all()
            .map(|found| (found.record.id.project.clone(), found.record.id.environment.clone()))
            .collect()
    }

    fn last_number(&self, id: &ReleaseId) -> u64 {
        let prefix = format!("{}/{}/", id.project, id.environment);
        self.releases.starting_with(&prefix).next_back().map_or(id.number, |found| found.record.id.number)
    }
}

/// The change that puts `rollout` in place of the version that was seen.
fn replace(rollout: &Rollout, seen: Seq) -> Result<Change> {
    Ok(Records::change(rollout, Expect::Version(seen))?)
}

impl Report {
    fn look_again(&mut self, now: Timestamp) {
        let at = now.checked_add(LOOK_AGAIN).unwrap_or(now);
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }
}
