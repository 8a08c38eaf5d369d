//! Which run goes to which environment. Pure.

use std::{collections::BTreeMap, fmt};

use records::{
    Cause, Decision, Environment, Evidence, Name, Release, ReleaseId, ReleasedImage, Rollout, RolloutState, Run, RunId,
    RunState, Timestamp,
};

use crate::{Approval, decide, missing};

/// How long after the end of its run a release waits for evidence that is missing before it is refused, in seconds.
pub const EVIDENCE_GRACE_S: i64 = 60;

/// The records of one project.
#[derive(Debug, Default)]
pub struct View<'a> {
    pub runs: Vec<&'a Run>,
    pub releases: Vec<&'a Release>,
    pub rollouts: Vec<&'a Rollout>,
    pub approvals: Vec<&'a Approval>,
}

/// A run that may become the next release of an environment, as far as the order of things is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: ReleaseId,
    pub run: RunId,
    pub environment: Environment,
}

/// Why a run that passed is not on its way to an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// It has to be complete in another environment first; `state` says how far it is there.
    After { run: RunId, environment: Name, after: Name, state: &'static str },
    /// Somebody of one of these groups has to approve it.
    Approval { run: RunId, environment: Name, groups: Vec<String> },
    /// Evidence has not been brought yet; after `until` it is refused.
    Evidence { run: RunId, environment: Name, missing: Vec<String>, until: Timestamp },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After { run, environment, after, state } => {
                write!(f, "run {run} waits to go to {environment} until it is complete in {after}, where it is {state}")
            }
            Self::Approval { run, environment, groups } => {
                write!(f, "run {run} waits to go to {environment} until one of {} approves it", groups.join(", "))
            }
            Self::Evidence { run, environment, missing, .. } => {
                write!(f, "run {run} waits to go to {environment} for evidence: {}", missing.join("; "))
            }
        }
    }
}

/// What can be released, and what waits for what.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub candidates: Vec<Candidate>,
    pub waiting: Vec<Waiting>,
}

/// For every environment that the runs name: the newest run that passed, is newer than what was released there, and whose turn it is.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    // Newest run first, so that it is met first in each environment.
    let mut passed: Vec<&Run> =
        view.runs.iter().copied().filter(|run| matches!(run.state, RunState::Passed { .. })).collect();
    passed.sort_by_key(|run| std::cmp::Reverse(run.id.build));
    let mut settled: BTreeMap<&Name, bool> = BTreeMap::new();
    for run in passed {
        for environment in &run.environments {
            let done = settled.entry(&environment.name).or_default();
            if *done {
                continue;
            }
            if run.id.build <= last_build(view, &environment.name) {
                *done = true;
                continue;
            }
            match blocked(view, run, environment) {
                Some(waiting) => plan.waiting.push(waiting),
                None => {
                    *done = true;
                    let id = next(&view.releases, &run.id.project, &environment.name);
                    plan.candidates.push(Candidate { id, run: run.id.clone(), environment: environment.clone() });
                }
            }
        }
    }
    plan
}

/// The id that the next release of an environment has.
pub(crate) fn next(releases: &[&Release], project: &Name, environment: &Name) -> ReleaseId {
    let here = releases.iter().filter(|release| release.id.environment == *environment);
    let number = here.map(|release| release.id.number).max().unwrap_or(0) + 1;
    ReleaseId { project: project.clone(), environment: environment.clone(), number }
}

/// The newest build that was ever to go to the environment. Going back does not bring an older run's turn again.
fn last_build(view: &View<'_>, environment: &Name) -> u64 {
    let here = view.releases.iter().filter(|release| release.id.environment == *environment);
    here.map(|release| release.run.build).max().unwrap_or(0)
}

fn blocked(view: &View<'_>, run: &Run, environment: &Environment) -> Option<Waiting> {
    if let Some(after) = &environment.after {
        let state = state_in(view, run, after);
        if state != "complete" {
            let (run, environment, after) = (run.id.clone(), environment.name.clone(), after.clone());
            return Some(Waiting::After { run, environment, after, state });
        }
    }
    let approved = |approval: &&&Approval| {
        approval.run == run.id
            && approval.environment == environment.name
            && environment.approve.contains(&approval.group)
    };
    if !environment.approve.is_empty() && view.approvals.iter().find(approved).is_none() {
        let groups = environment.approve.clone();
        return Some(Waiting::Approval { run: run.id.clone(), environment: environment.name.clone(), groups });
    }
    None
}

/// How far a run is in an environment: of all its releases there, the one that got furthest.
fn state_in(view: &View<'_>, run: &Run, environment: &Name) -> &'static str {
    let here = |release: &&&Release| release.id.environment == *environment && release.run == run.id;
    let of_run = |release: &&&Release| here(release) && !matches!(release.cause, Cause::Rollback { .. });
    let mut state = "not released yet";
    for release in view.releases.iter().filter(of_run) {
        let rollout = view.rollouts.iter().find(|rollout| rollout.release == release.id);
        state = match (&release.decision, rollout.map(|rollout| &rollout.state)) {
            (_, Some(RolloutState::Complete { .. })) => return "complete",
            (Decision::Refused { .. }, _) => "refused by the policy",
            (_, Some(state)) => state.name(),
            (_, None) => "about to roll out",
        };
    }
    state
}

/// What becomes of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Release(Decision),
    Wait(Waiting),
}

/// Decides on a candidate, once it is known which images it would run. Evidence may come a little later than its image.
pub fn settle(
    candidate: &Candidate,
    passed_at: Timestamp,
    images: &[ReleasedImage],
    evidence: &[Evidence],
    now: Timestamp,
) -> Outcome {
    let policy = &candidate.environment.policy;
    let missing = missing(policy, images, evidence);
    let until = Timestamp::from_second(passed_at.as_second().saturating_add(EVIDENCE_GRACE_S)).unwrap_or(passed_at);
    if !missing.is_empty() && now < until {
        let (run, environment) = (candidate.run.clone(), candidate.environment.name.clone());
        return Outcome::Wait(Waiting::Evidence { run, environment, missing, until });
    }
    Outcome::Release(decide(policy, images, evidence, now))
}
