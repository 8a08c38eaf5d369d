//! Writes releases.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use records::{
    Cause, Decision, Digest, Environment, Evidence, Image, Name, Release, ReleaseId, ReleasedImage, Rollout,
    RolloutState, Run, RunId, RunState, Timestamp,
};
use store::{Blobs, Expect, Kind, Mirror, Records};
use tokio::sync::Mutex;

use crate::{
    Approval, Candidate, Error, Outcome, Rendered, Result, View, Waiting, decide,
    plan::{next, plan, settle},
    render::render,
};

/// Bytes of a run's manifests.
const MANIFESTS: u64 = 64 << 20;

/// The activation of this stage: run it when runs, evidence, approvals or rollouts change, and on a period. It is idempotent.
pub struct Releases {
    records: Records,
    blobs: Arc<dyn Blobs>,
    registry: String,
    seen: Mutex<Seen>,
}

/// What is remembered between activations; it can be lost at any time.
struct Seen {
    runs: Mirror<Run>,
    releases: Mirror<Release>,
    rollouts: Mirror<Rollout>,
    approvals: Mirror<Approval>,
    /// Of candidates that wait for something.
    contents: HashMap<(RunId, Name), Arc<Contents>>,
}

/// What a candidate would run.
struct Contents {
    /// Or why it cannot be rendered.
    rendered: std::result::Result<Rendered, String>,
    source: Option<Digest>,
}

/// What an activation did, and what it left.
#[derive(Debug, Default)]
pub struct Report {
    pub released: Vec<Release>,
    pub waiting: Vec<Waiting>,
    /// When to look again, though no record changes.
    pub again: Option<Timestamp>,
    /// What could not be done for one candidate; the others were looked at.
    pub failed: Vec<(ReleaseId, Error)>,
}

impl Releases {
    /// `registry` is the host (and port) of Shipway's registry, as the clusters reach it.
    pub fn new(records: Records, blobs: Arc<dyn Blobs>, registry: impl Into<String>) -> Self {
        let seen = Seen {
            runs: Mirror::new(records.clone()),
            releases: Mirror::new(records.clone()),
            rollouts: Mirror::new(records.clone()),
            approvals: Mirror::new(records.clone()),
            contents: HashMap::new(),
        };
        Self { records, blobs, registry: registry.into(), seen: Mutex::new(seen) }
    }

    /// Looks at all projects.
    pub async fn activate(&self, now: Timestamp) -> Result<Report> {
        let mut seen = self.seen.lock().await;
        let seen = &mut *seen;
        seen.sync().await?;
        let mut report = Report::default();
        let mut waiting_for = BTreeSet::new();
        for project in seen.projects() {
            let plan = plan(&seen.view(&project));
            report.waiting.extend(plan.waiting);
            for candidate in plan.candidates {
                let at = (candidate.run.clone(), candidate.environment.name.clone());
                match self.consider(seen, &candidate, now).await {
                    Ok(Considered::Released(release)) => report.released.push(*release),
                    Ok(Considered::Elsewhere) => {}
                    Ok(Considered::Waits(waiting)) => {
                        if let Waiting::Evidence { until, .. } = &waiting {
                            report.again = Some(report.again.map_or(*until, |again| again.min(*until)));
                        }
                        report.waiting.push(waiting);
                        waiting_for.insert(at);
                    }
                    Err(error) => report.failed.push((candidate.id, error)),
                }
            }
        }
        seen.contents.retain(|at, _| waiting_for.contains(at));
        Ok(report)
    }

    async fn consider(&self, seen: &mut Seen, candidate: &Candidate, now: Timestamp) -> Result<Considered> {
        let Some(run) = seen.runs.get(&candidate.run.key()).map(|found| found.record.clone()) else {
            return Ok(Considered::Elsewhere);
        };
        let RunState::Passed { at: passed_at, .. } = run.state else { return Ok(Considered::Elsewhere) };
        let at = (candidate.run.clone(), candidate.environment.name.clone());
        let contents = match seen.contents.get(&at) {
            Some(contents) => contents.clone(),
            None => {
                let contents = Arc::new(self.contents(&run, &candidate.environment).await?);
                seen.contents.insert(at, contents.clone());
                contents
            }
        };
        let (decision, images, manifests) = match &contents.rendered {
            Ok(rendered) => {
                let evidence = self.evidence(&rendered.images).await?;
                let decision = match settle(candidate, passed_at, &rendered.images, &evidence, now) {
                    Outcome::Wait(waiting) => return Ok(Considered::Waits(waiting)),
                    Outcome::Release(decision) => decision,
                };
                (decision, rendered.images.clone(), self.keep(&rendered.objects).await?)
            }
            // It can never run as it is, and people should see why.
            Err(reason) => {
                let manifests = match &contents.source {
                    Some(digest) => digest.clone(),
                    None => self.keep(&[]).await?,
                };
                (Decision::Refused { at: now, reasons: vec![reason.clone()] }, Vec::new(), manifests)
            }
        };
        let release = Release {
            id: candidate.id.clone(),
            run: run.id,
            commit: run.commit,
            environment: candidate.environment.clone(),
            images,
            manifests,
            cause: Cause::Run,
            decision,
            created_at: now,
        };
        Ok(if self.write(&release).await? { Considered::Released(Box::new(release)) } else { Considered::Elsewhere })
    }

    async fn contents(&self, run: &Run, environment: &Environment) -> Result<Contents> {
        let Some(source) = run.manifests_for(&environment.name).cloned() else {
            let reason =
                format!("run {} left no manifests: name their directory under `deploy` in .shipway.yaml", run.id);
            return Ok(Contents { rendered: Err(reason), source: None });
        };
        let text = store::blobs::get(&*self.blobs, &source, MANIFESTS).await?;
        let objects = serde_json::from_slice(&text).map_err(|e| {
            store::Error::new(Kind::Corrupt, format!("the manifests of run {} cannot be read", run.id)).caused(e)
        })?;
        let images = self.records.list::<Image>(&format!("{}/", run.id.key())).await?;
        let images: Vec<Image> = images.into_iter().map(|image| image.record).collect();
        let rendered = render(run, &images, objects, environment, &self.registry).map_err(|error| error.to_string());
        Ok(Contents { rendered, source: Some(source) })
    }

    async fn evidence(&self, images: &[ReleasedImage]) -> Result<Vec<Evidence>> {
        let mut all = Vec::new();
        for image in images {
            let found = self.records.list::<Evidence>(&format!("{}/", image.digest)).await?;
            all.extend(found.into_iter().map(|found| found.record));
        }
        Ok(all)
    }

    async fn keep(&self, objects: &[serde_json::Value]) -> Result<Digest> {
        let text = serde_json::to_vec(objects)
            .map_err(|e| store::Error::new(Kind::Corrupt, "cannot write manifests as JSON").caused(e))?;
        Ok(store::blobs::put(&*self.blobs, text).await?)
    }

    /// Whether it was written; not when another activation was faster with this number.
    async fn write(&self, release: &Release) -> Result<bool> {
        match self.records.put(release, Expect::Absent).await {
            Ok(_) => {
                tracing::info!(release = %release.id, run = %release.run, decision = ?release.decision, "released");
                Ok(true)
            }
            Err(error) if error.kind == Kind::Conflict => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that `by`, a member of `group`, lets a run go to an environment.
    pub async fn approve(&self, run: &RunId, environment: &Name, group: &str, by: &str, now: Timestamp) -> Result<()> {
        let found = self.records.get::<Run>(&run.key()).await?;
        let found = found.ok_or_else(|| Error::Invalid(format!("there is no run {run}")))?;
        let Some(place) = found.record.environments.iter().find(|place| place.name == *environment) else {
            return Err(Error::Invalid(format!("run {run} does not go to an environment `{environment}`")));
        };
        if !place.approve.iter().any(|known| known == group) {
            let groups = if place.approve.is_empty() { "nobody has to".into() } else { place.approve.join(", ") };
            return Err(Error::Invalid(format!("`{group}` does not approve for {environment}: {groups} can")));
        }
        let (group, by) = (group.to_owned(), by.to_owned());
        let approval = Approval { run: run.clone(), environment: environment.clone(), group, by, at: now };
        self.records.put(&approval, Expect::Any).await?;
        Ok(())
    }

    /// Makes a new release that is what an earlier one was: release `to`, or the last complete one before the present one. The policy
    /// decides anew, from what is known now.
    pub async fn undo(
        &self,
        project: &Name,
        environment: &Name,
        to: Option<u64>,
        by: &str,
        now: Timestamp,
    ) -> Result<Release> {
        loop {
            let mut seen = self.seen.lock().await;
            seen.sync().await?;
            let prefix = format!("{project}/{environment}/");
            let releases: Vec<&Release> = seen.releases.starting_with(&prefix).map(|found| &found.record).collect();
            let target = match to {
                Some(number) => releases.iter().find(|release| release.id.number == number).copied(),
                None => {
                    let complete = |release: &&Release| {
                        let rollout = seen.rollouts.get(&release.id.key());
                        rollout.is_some_and(|found| matches!(found.record.state, RolloutState::Complete { .. }))
                    };
                    let newest = releases.last().map(|release| release.id.number);
                    let mut before = releases.iter().copied().filter(complete);
                    before.rfind(|release| Some(release.id.number) != newest)
                }
            };
            let target = target.cloned().ok_or_else(|| {
                Error::Invalid(match to {
                    Some(number) => format!("there is no release {project}/{environment}/{number}"),
                    None => format!("there is no earlier release of {project}/{environment} that was complete"),
                })
            })?;
            let id = next(&releases, project, environment);
            drop(seen);
            if target.images.is_empty() && matches!(target.decision, Decision::Refused { .. }) {
                return Err(Error::Invalid(format!(
                    "release {} was never rendered, so there is nothing to go back to",
                    target.id
                )));
            }
            let evidence = self.evidence(&target.images).await?;
            let decision = decide(&target.environment.policy, &target.images, &evidence, now);
            if let Decision::Refused { reasons, .. } = decision {
                return Err(Error::Refused { release: target.id, reasons });
            }
            let cause = Cause::Undo { by: by.to_owned(), to: target.id.clone() };
            let release = Release { id, cause, decision, created_at: now, ..target };
            if self.write(&release).await? {
                return Ok(release);
            }
        }
    }
}

enum Considered {
    Released(Box<Release>),
    Waits(Waiting),
    /// Somebody else is at it.
    Elsewhere,
}

impl Seen {
    async fn sync(&mut self) -> Result<()> {
        self.runs.sync().await?;
        self.releases.sync().await?;
        self.rollouts.sync().await?;
        self.approvals.sync().await?;
        Ok(())
    }

    fn projects(&self) -> BTreeSet<Name> {
        self.runs.all().map(|found| found.record.id.project.clone()).collect()
    }

    fn view(&self, project: &Name) -> View<'_> {
        let prefix = format!("{project}/");
        View {
            runs: self.runs.starting_with(&prefix).map(|found| &found.record).collect(),
            releases: self.releases.starting_with(&prefix).map(|found| &found.record).collect(),
            rollouts: self.rollouts.starting_with(&prefix).map(|found| &found.record).collect(),
            approvals: self.approvals.starting_with(&prefix).map(|found| &found.record).collect(),
        }
    }
}
