//! Which pods a Job makes and deletes, and when it is over.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::controllers::{pods, typed};
use crate::objects::meta;

pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The most pods made in one step.
const BURST: i32 = 500;

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// One a pod; with its completion index where the Job is indexed.
    pub create: Vec<Option<i32>>,
    /// Name and uid.
    pub delete: Vec<(String, String)>,
    pub status: JobStatus,
    /// The Job ended in this step: type, reason and message of the event.
    pub verdict: Option<(&'static str, &'static str, String)>,
    /// Its time to live after its end is over.
    pub expired: bool,
    pub again: Option<Duration>,
}

pub fn finished(status: &JobStatus) -> Option<&JobCondition> {
    let ends = |c: &&JobCondition| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True";
    status.conditions.iter().flatten().find(ends)
}

/// `owned` are the pods that the Job controls.
pub fn plan(job: &Job, owned: &[Pod], now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let mut status = job.status.clone().unwrap_or_default();
    let active: Vec<&Pod> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    let end = |pods: &[&Pod]| {
        pods.iter().map(|pod| (typed::name(&pod.metadata).to_owned(), typed::uid(&pod.metadata).to_owned())).collect()
    };
    if let Some(over) = finished(&status).cloned() {
        let mut plan = Plan { delete: end(&active), ..Plan::default() };
        let at = over.last_transition_time.as_ref().map_or(now, |time| time.0);
        if let Some(ttl) = spec.ttl_seconds_after_finished {
            let left = (at + SignedDuration::from_secs(ttl.into())).duration_since(now);
            plan.expired = !left.is_positive();
            plan.again = (!plan.expired).then(|| left.unsigned_abs());
        }
        status.active = Some(i32::try_from(active.len()).unwrap_or(i32::MAX)).filter(|n| *n > 0);
        plan.status = status;
        return plan;
    }
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let tally = Tally::of(&status, owned, &active, indexed);
    status.active = Some(tally.active).filter(|n| *n > 0);
    status.succeeded = Some(tally.succeeded).filter(|n| *n > 0);
    status.failed = Some(tally.failed).filter(|n| *n > 0);
    status.ready = Some(tally.ready);
    status.terminating = Some(tally.terminating);
    if indexed {
        status.completed_indexes = Some(ranges(&tally.indexes)).filter(|text| !text.is_empty());
    }
    let mut plan = Plan::default();
    if job.metadata.deletion_timestamp.is_some() {
        plan.status = status;
        return plan;
    }
    if spec.suspend == Some(true) {
        plan.delete = end(&active);
        status.start_time = None;
        set(&mut status, "Suspended", "True", "JobSuspended", "Job suspended", now);
        plan.status = status;
        return plan;
    }
    if status.conditions.iter().flatten().any(|c| c.type_ == "Suspended" && c.status == "True") {
        set(&mut status, "Suspended", "False", "JobResumed", "Job resumed", now);
    }
    let start = status.start_time.get_or_insert_with(|| typed::seconds(now)).0;
    let deadline = spec.active_deadline_seconds.map(|s| (start + SignedDuration::from_secs(s)).duration_since(now));
    let failed = if tally.failed > spec.backoff_limit.unwrap_or(6) {
        Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
    } else if deadline.is_some_and(|left| !left.is_positive()) {
        Some(("DeadlineExceeded", "Job was active longer than specified deadline"))
    } else {
        None
    };
    if let Some((reason, message)) = failed {
        set(&mut status, "FailureTarget", "True", reason, message, now);
        set(&mut status, "Failed", "True", reason, message, now);
        plan.delete = end(&active);
        plan.verdict = Some(("Warning", reason, message.into()));
        plan.status = status;
        return plan;
    }
    let complete = match spec.completions {
        Some(completions) => tally.succeeded >= completions,
        // A work queue: one success and nobody left working.
        None => tally.succeeded > 0 && tally.active == 0,
    };
    if complete {
        let reached = "Reached expected number of succeeded pods";
        set(&mut status, "SuccessCriteriaMet", "True", "CompletionsReached", reached, now);
        set(&mut status, "Complete", "True", "CompletionsReached", reached, now);
        status.completion_time = Some(typed::seconds(now));
        plan.delete = end(&active);
        plan.verdict = Some(("Normal", "Completed", "Job completed".into()));
        plan.status = status;
        return plan;
    }
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - tally.succeeded),
        None if tally.succeeded > 0 => tally.active,
        None => parallelism,
    };
    let missing = (wanted - tally.active).min(BURST);
    plan.again = deadline.map(SignedDuration::unsigned_abs);
    if missing < 0 {
        let mut surplus = active.clone();
        surplus.sort_by_key(|pod| {
            (pods::is_ready(pod), pod.metadata.creation_timestamp.as_ref().map(|t| std::cmp::Reverse(t.0)))
        });
        surplus.truncate(usize::try_from(-missing).unwrap_or(0));
        plan.delete = end(&surplus);
    } else if missing > 0 {
        match wait_after_failure(owned, tally.failed, now) {
            Some(wait) => plan.again = plan.again.into_iter().chain(Some(wait)).min(),
            None if indexed => {
                let busy: BTreeSet<i32> = active.iter().filter_map(|pod| index(pod)).collect();
                let free =
                    (0..spec.completions.unwrap_or(0)).filter(|i| !busy.contains(i) && !tally.indexes.contains(i));
                plan.create = free.take(usize::try_from(missing).unwrap_or(0)).map(Some).collect();
            }
            None => plan.create = vec![None; usize::try_from(missing).unwrap_or(0)],
        }
    }
    plan.status = status;
    plan
}

struct Tally {
    active: i32,
    ready: i32,
    terminating: i32,
    succeeded: i32,
    failed: i32,
    indexes: BTreeSet<i32>,
}

impl Tally {
    /// Counts never go back: pods that ended and were deleted by hand stay counted.
    fn of(before: &JobStatus, owned: &[Pod], active: &[&Pod], indexed: bool) -> Self {
        let count =
            |wanted: &dyn Fn(&&Pod) -> bool| i32::try_from(owned.iter().filter(wanted).count()).unwrap_or(i32::MAX);
        let succeeded = owned.iter().filter(|pod| pods::phase(pod) == "Succeeded");
        let mut indexes: BTreeSet<i32> = before.completed_indexes.as_deref().map(read_ranges).unwrap_or_default();
        let n = if indexed {
            indexes.extend(succeeded.filter_map(index));
            i32::try_from(indexes.len()).unwrap_or(i32::MAX)
        } else {
            i32::try_from(succeeded.count()).unwrap_or(i32::MAX)
        };
        Self {
            active: i32::try_from(active.len()).unwrap_or(i32::MAX),
            ready: count(&|pod| pods::is_active(pod) && pods::is_ready(pod)),
            terminating: count(&|pod| pods::is_terminating(pod) && !pods::has_ended(pod)),
            succeeded: n.max(before.succeeded.unwrap_or(0)),
            failed: count(&|pod| pods::phase(pod) == "Failed").max(before.failed.unwrap_or(0)),
            indexes,
        }
    }
}

/// After the nth failure 10 s · 2ⁿ⁻¹, at most ten minutes, counted from the end of the last failed pod.
fn wait_after_failure(owned: &[Pod], failures: i32, now: Timestamp) -> Option<Duration> {
    let ends = owned.iter().filter(|pod| pods::phase(pod) == "Failed").filter_map(ended_at);
    let last = ends.max()?;
    let doubled = 10_i64.saturating_mul(1 << (failures - 1).clamp(0, 10)).min(600);
    let left = (last + SignedDuration::from_secs(doubled)).duration_since(now);
    left.is_positive().then(|| left.unsigned_abs())
}

fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.iter().flatten();
    let ends = statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    ends.map(|time| time.0).max()
}

fn index(pod: &Pod) -> Option<i32> {
    typed::annotation(&pod.metadata, INDEX)?.parse().ok()
}

/// Writes a completion index where programs look for it.
pub fn give_index(pod: &mut Value, job: &str, index: i32) {
    let text = index.to_string();
    for field in ["annotations", "labels"] {
        meta::map_mut(&mut pod["metadata"], field).insert(INDEX.into(), text.as_str().into());
    }
    pod["metadata"]["generateName"] = format!("{job}-{index}-").into();
    if pod["spec"]["hostname"].as_str().is_none_or(str::is_empty) {
        pod["spec"]["hostname"] = format!("{job}-{index}").into();
    }
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let variable = json!({"name": "JOB_COMPLETION_INDEX", "value": text});
            match container.get_mut("env").and_then(Value::as_array_mut) {
                Some(env) => env.push(variable),
                None => container["env"] = json!([variable]),
            }
        }
    }
}

/// `0-2,5` for 0, 1, 2 and 5.
fn ranges(indexes: &BTreeSet<i32>) -> String {
    let mut parts: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == *index => *end = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let texts = parts.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    texts.collect::<Vec<_>>().join(",")
}

fn read_ranges(text: &str) -> BTreeSet<i32> {
    let part = |part: &str| -> Option<std::ops::RangeInclusive<i32>> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse::<i32>().ok()?.min(100_000))
    };
    text.split(',').filter_map(part).flatten().collect()
}

fn set(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_with(Vec::new);
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(typed::seconds(now)),
        last_transition_time: Some(typed::seconds(now)),
    });
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::JobSpec;

    use super::*;
    use crate::controllers::pods::tests::{at, pod};

    fn job(spec: JobSpec) -> Job {
        Job { spec: Some(spec), ..Default::default() }
    }

    fn three() -> JobSpec {
        JobSpec { completions: Some(3), parallelism: Some(2), backoff_limit: Some(1), ..Default::default() }
    }

    fn ended(plan: &Plan) -> Option<&str> {
        finished(&plan.status).map(|condition| condition.type_.as_str())
    }

    #[test]
    fn works_in_parallel_until_enough_have_succeeded() {
        let mut job = job(three());
        let first = plan(&job, &[], at(0));
        assert_eq!(first.create.len(), 2);
        job.status = Some(first.status);
        let pods = [pod("a", "Succeeded", None), pod("b", "Succeeded", None)];
        assert_eq!(plan(&job, &pods, at(5)).create.len(), 1, "only one is missing");
        let pods = [pod("a", "Succeeded", None), pod("b", "Succeeded", None), pod("c", "Succeeded", None)];
        let last = plan(&job, &pods, at(9));
        assert_eq!(ended(&last), Some("Complete"));
        assert_eq!(last.status.succeeded, Some(3));
        assert!(last.status.completion_time.is_some());
    }

    #[test]
    fn too_many_failures_end_it_and_its_other_pods() {
        let job = job(three());
        let pods = [pod("a", "Failed", None), pod("b", "Failed", None), pod("c", "Running", None)];
        let over = plan(&job, &pods, at(5));
        assert_eq!(ended(&over), Some("Failed"));
        assert_eq!(over.delete.len(), 1);
        assert_eq!(over.verdict.unwrap().1, "BackoffLimitExceeded");
    }

    #[test]
    fn the_deadline_ends_it_and_the_time_to_live_removes_it() {
        let mut spec = three();
        spec.active_deadline_seconds = Some(10);
        spec.ttl_seconds_after_finished = Some(30);
        let mut job = job(spec);
        let first = plan(&job, &[], at(0));
        assert_eq!(first.again, Some(Duration::from_secs(10)));
        job.status = Some(first.status);
        let late = plan(&job, &[pod("a", "Running", None)], at(10));
        assert_eq!((ended(&late), late.delete.len()), (Some("Failed"), 1));
        job.status = Some(late.status);
        assert_eq!(plan(&job, &[], at(20)).again, Some(Duration::from_secs(20)));
        assert!(plan(&job, &[], at(40)).expired);
    }

    #[test]
    fn counts_never_go_back() {
        let mut job = job(three());
        job.status = Some(plan(&job, &[pod("a", "Succeeded", None), pod("b", "Succeeded", None)], at(1)).status);
        let after = plan(&job, &[], at(2));
        assert_eq!((after.status.succeeded, after.create.len()), (Some(2), 1));
    }

    #[test]
    fn indexed_jobs_run_each_index_once() {
        let mut spec = three();
        spec.completion_mode = Some("Indexed".into());
        let job = job(spec);
        let mut done = pod("a", "Succeeded", None);
        done.metadata.annotations = Some([(INDEX.to_owned(), "1".to_owned())].into());
        let plan = plan(&job, &[done], at(1));
        assert_eq!(plan.create, [Some(0), Some(2)]);
        assert_eq!(plan.status.completed_indexes.as_deref(), Some("1"));
        assert_eq!(ranges(&read_ranges("0-2,5")), "0-2,5");
    }

    #[test]
    fn a_suspended_job_has_no_pods() {
        let mut spec = three();
        spec.suspend = Some(true);
        let plan = plan(&job(spec), &[pod("a", "Running", None)], at(1));
        assert_eq!((plan.create.len(), plan.delete.len()), (0, 1));
    }
}
