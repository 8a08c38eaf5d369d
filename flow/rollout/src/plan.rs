//! What to do next about a release. Pure.

use std::fmt;

use records::{Cause, Decision, OnFailure, Release, ReleaseId, Rollout, RolloutState, Timestamp};

use crate::{Failure, FailureKind, WorkloadRef, WorkloadStatus};

/// Restarts of a pod of the new version after which it is said to crash, and no longer waited for.
pub const CRASHES: u32 = 3;
/// Seconds without progress that an image which cannot be had is waited for.
pub const IMAGE_PATIENCE_S: i64 = 5;

/// What an environment is to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target<'a> {
    /// The newest release that was admitted.
    pub release: &'a Release,
    /// Its rollout, if it has begun.
    pub rollout: Option<&'a Rollout>,
    /// The release that ran well before it.
    pub last_complete: Option<&'a Release>,
}

/// The target of one environment, and the rollouts there that have not ended and are overtaken by it. `releases` in the order of their
/// numbers; `rollout` finds a release's rollout.
pub fn targets<'a>(
    releases: &[&'a Release],
    rollout: impl Fn(&ReleaseId) -> Option<&'a Rollout>,
) -> (Option<Target<'a>>, Vec<&'a Rollout>) {
    let admitted = |release: &&&Release| matches!(release.decision, Decision::Admitted { .. });
    let mut newest_first = releases.iter().rev().filter(admitted).copied();
    let Some(release) = newest_first.next() else { return (None, Vec::new()) };
    let (mut last_complete, mut overtaken) = (None, Vec::new());
    for older in newest_first {
        match rollout(&older.id) {
            Some(found) if matches!(found.state, RolloutState::Complete { .. }) => {
                last_complete = last_complete.or(Some(older));
            }
            Some(found) if !found.state.ended() => overtaken.push(found),
            _ => {}
        }
    }
    (Some(Target { release, rollout: rollout(&release.id), last_complete }), overtaken)
}

/// What to do about a release that has been applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look again: at the latest at `Waiting::until`.
    Wait(Waiting),
    /// Everything runs the release.
    Complete,
    /// It does not become ready; one sentence, without what is done about it.
    Fail { reason: String },
}

/// What a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Replicas are not ready yet. `until`: when it has failed, unless there is progress.
    Ready { workload: String, ready: u32, wanted: u32, because: Option<String>, until: Timestamp },
    /// The new version is ready, and older replicas are still there (or it has to stay ready a little).
    Settling { workload: String, old: u32 },
    /// The cluster does not answer.
    Cluster { message: String },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { workload, ready, wanted, because, .. } => {
                write!(f, "{workload} is not ready yet ({ready} of {wanted} replicas in all are)")?;
                because.as_ref().map_or(Ok(()), |because| write!(f, ": {because}"))
            }
            Self::Settling { workload, old: 0 } => write!(f, "{workload} is ready and has to stay so for a while"),
            Self::Settling { workload, old } => {
                write!(f, "{workload} is ready; {old} replicas of the version before are still there")
            }
            Self::Cluster { message } => f.write_str(message),
        }
    }
}

/// Looks at the workloads of a release that has been applied and is `Progressing`. Returns the state as it is now and what to do.
/// `ready` in the state never shrinks: a replica that comes and goes is no progress. `expected` are the workloads that the release has;
/// one without a status is taken for not begun.
pub fn assess(
    release: &Release,
    state: &RolloutState,
    expected: &[WorkloadRef],
    statuses: &[WorkloadStatus],
    now: Timestamp,
) -> (RolloutState, Step) {
    let RolloutState::Progressing { since, ready: ready_before, progressed_at, .. } = state else {
        let message = format!("rollout {} is {}", release.id, state.name());
        return (state.clone(), Step::Wait(Waiting::Cluster { message }));
    };
    let find = |workload: &WorkloadRef| statuses.iter().find(|s| s.kind == workload.kind && s.name == workload.name);
    let found: Vec<(&WorkloadRef, Option<&WorkloadStatus>)> = expected.iter().map(|w| (w, find(w))).collect();
    let (mut ready, mut wanted) = (0, 0);
    for (_, status) in &found {
        // One replica of what is not there yet, so that it cannot look complete.
        wanted += status.map_or(1, |status| status.desired);
        ready += status.filter(|status| seen(status)).map_or(0, |status| status.ready.min(status.desired));
    }
    let progressed_at = if ready > *ready_before { now } else { *progressed_at };
    let ready_mark = ready.max(*ready_before).min(wanted);
    let next = RolloutState::Progressing { since: *since, ready: ready_mark, wanted, progressed_at };

    let unready: Vec<_> = found.iter().filter(|(_, status)| !status.is_some_and(is_ready)).collect();
    let idle = now.duration_since(progressed_at).as_secs();
    for (workload, status) in &unready {
        let Some(failure) = status.filter(|status| seen(status)).and_then(|status| status.failure.as_ref()) else {
            continue;
        };
        let hopeless = match failure.kind {
            FailureKind::NotReady => false,
            FailureKind::Crashing { restarts } => restarts >= CRASHES,
            FailureKind::Image => idle >= IMAGE_PATIENCE_S,
            FailureKind::Refused => true,
        };
        if hopeless {
            let reason = format!("{} cannot run: {}", subject(release, workload), failure.message);
            return (next, Step::Fail { reason });
        }
    }
    let deadline = release.environment.progress_deadline_s;
    let until = progressed_at.checked_add(std::time::Duration::from_secs(deadline)).unwrap_or(Timestamp::MAX);
    // What says why it is not ready speaks first.
    let slowest = unready.iter().max_by_key(|(_, status)| failure_of(*status).is_some());
    if let Some((workload, status)) = slowest {
        let because = failure_of(*status).map(|failure| failure.message.clone());
        if now >= until {
            let others = match unready.len() - 1 {
                0 => String::new(),
                1 => ", and another workload neither".into(),
                others => format!(", and {others} other workloads neither"),
            };
            let because = because.map_or(String::new(), |because| format!(": {because}"));
            let reason =
                format!("{} did not become ready within {deadline} s{others}{because}", subject(release, workload));
            return (next, Step::Fail { reason });
        }
        let workload = shown(release, workload);
        return (next, Step::Wait(Waiting::Ready { workload, ready, wanted, because, until }));
    }
    let settling = found.iter().find_map(|(workload, status)| status.filter(|s| !is_settled(s)).map(|s| (workload, s)));
    match settling {
        Some((workload, status)) => {
            let waiting = Waiting::Settling { workload: shown(release, workload), old: status.old_replicas };
            (next, Step::Wait(waiting))
        }
        None => (next, Step::Complete),
    }
}

fn seen(status: &WorkloadStatus) -> bool {
    status.observed >= status.generation
}

fn is_ready(status: &WorkloadStatus) -> bool {
    seen(status) && status.updated >= status.desired && status.ready >= status.desired
}

fn is_settled(status: &WorkloadStatus) -> bool {
    status.available >= status.desired && status.old_replicas == 0
}

fn failure_of(status: Option<&WorkloadStatus>) -> Option<&Failure> {
    status.filter(|status| seen(status))?.failure.as_ref()
}

fn shown(release: &Release, workload: &WorkloadRef) -> String {
    format!("{} {}/{}", workload.kind.to_lowercase(), release.environment.namespace, workload.name)
}

fn subject(release: &Release, workload: &WorkloadRef) -> String {
    format!("version {} of {}", release.commit.short(), shown(release, workload))
}

/// What is done about a release that failed: the release that comes back, if one does, and the whole reason as one sentence.
pub fn way_back<'a>(target: &Target<'a>, reason: &str) -> (Option<&'a Release>, String) {
    let release = target.release;
    if matches!(release.cause, Cause::Rollback { .. }) {
        return (None, format!("{reason}; it was itself a way back, so it was left as it is"));
    }
    match (release.environment.on_failure, target.last_complete) {
        (OnFailure::Pause, _) => (None, format!("{reason}; it was left as it is, as its environment asks for")),
        (OnFailure::Rollback, Some(back)) => (Some(back), format!("{reason}; went back to release {}", back.id)),
        (OnFailure::Rollback, None) => {
            (None, format!("{reason}; there is no earlier release to go back to, so it was left as it is"))
        }
    }
}
