//! Probes: how often they are asked, and when an answer counts.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// The first pause between tries while a program is still starting.
const EAGER: Duration = Duration::from_millis(25);

/// The times and thresholds of a probe, with Kubernetes' defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub kind: Kind,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub successes: u32,
    pub failures: u32,
}

impl Schedule {
    pub fn of(kind: Kind, probe: &Probe) -> Self {
        let seconds = |value: Option<i32>, default: u64, least: u64| {
            Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default).max(least))
        };
        let count =
            |value: Option<i32>, default: u32| value.and_then(|v| u32::try_from(v).ok()).unwrap_or(default).max(1);
        Self {
            kind,
            initial_delay: seconds(probe.initial_delay_seconds, 0, 0),
            period: seconds(probe.period_seconds, 10, 1),
            timeout: seconds(probe.timeout_seconds, 1, 1),
            successes: if kind == Kind::Readiness { count(probe.success_threshold, 1) } else { 1 },
            failures: count(probe.failure_threshold, 3),
        }
    }
}

/// What a probe has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Passing,
    Failing,
}

/// What follows from one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The verdict, when it changed (or a liveness or startup probe gave up).
    pub verdict: Option<Verdict>,
    /// Whether a failure is worth an event: one between the beats while a program starts is not.
    pub tell: bool,
    /// How long until the next try.
    pub next: Duration,
}

/// Counts answers. Until the first success, readiness and startup probes are asked more often than their period says, so
/// that a program is in use as soon as it can be; failures between the beats of the period do not count.
#[derive(Debug, Clone)]
pub struct Counter {
    schedule: Schedule,
    verdict: Option<Verdict>,
    run: u32,
    last: Option<bool>,
    eager: Option<Duration>,
    /// Since the last beat of the period.
    since_beat: Duration,
}

impl Counter {
    pub fn new(schedule: Schedule) -> Self {
        let eager = (schedule.kind != Kind::Liveness).then_some(EAGER.min(schedule.period));
        Self { schedule, verdict: None, run: 0, last: None, eager, since_beat: Duration::ZERO }
    }

    /// How long after the program's start it is asked first.
    pub fn first(&self) -> Duration {
        match self.schedule.kind {
            // A program that has just started is alive; asking at once would only cost.
            Kind::Liveness => self.schedule.initial_delay.max(self.schedule.period),
            _ => self.schedule.initial_delay,
        }
    }

    /// Takes in an answer that took `took` to get.
    pub fn observe(&mut self, success: bool, took: Duration) -> Step {
        self.since_beat += took;
        let beat = self.eager.is_none() || self.since_beat.is_zero() || self.since_beat >= self.schedule.period;
        if success {
            self.eager = None;
        }
        if beat || success {
            self.since_beat = Duration::ZERO;
            self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
            self.last = Some(success);
        }
        let needed = if success { self.schedule.successes } else { self.schedule.failures };
        let mut verdict = None;
        if (beat || success) && self.run >= needed {
            let now = if success { Verdict::Passing } else { Verdict::Failing };
            if self.verdict != Some(now) {
                verdict = Some(now);
                self.verdict = Some(now);
            }
        }
        let next = match &mut self.eager {
            Some(pause) => {
                let next =
                    (*pause).min(self.schedule.period.saturating_sub(self.since_beat)).max(Duration::from_millis(1));
                *pause = (*pause * 2).min(Duration::from_secs(1)).min(self.schedule.period);
                self.since_beat += next;
                next
            }
            None => self.schedule.period.saturating_sub(took),
        };
        Step { verdict, tell: !success && beat, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: Kind, probe: Probe) -> Schedule {
        Schedule::of(kind, &probe)
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        let schedule = schedule(Kind::Readiness, Probe::default());
        let seconds = Duration::from_secs;
        assert_eq!((schedule.period, schedule.timeout, schedule.initial_delay), (seconds(10), seconds(1), seconds(0)));
        assert_eq!((schedule.successes, schedule.failures), (1, 3));
    }

    #[test]
    fn readiness_is_asked_at_once_and_eagerly_until_it_succeeds() {
        let mut counter = Counter::new(schedule(Kind::Readiness, Probe::default()));
        assert_eq!(counter.first(), Duration::ZERO);
        let mut waited = Duration::ZERO;
        let mut tries = 0;
        while waited < Duration::from_millis(300) {
            let step = counter.observe(false, Duration::ZERO);
            assert_eq!(step.verdict, None);
            waited += step.next;
            tries += 1;
        }
        assert!(tries >= 4, "{tries} tries in {waited:?}");
        let step = counter.observe(true, Duration::ZERO);
        assert_eq!((step.verdict, step.next), (Some(Verdict::Passing), Duration::from_secs(10)));
    }

    #[test]
    fn only_failures_on_the_beat_count() {
        let probe = Probe { period_seconds: Some(1), failure_threshold: Some(3), ..Default::default() };
        let mut counter = Counter::new(schedule(Kind::Startup, probe));
        let mut waited = Duration::ZERO;
        let failed_after = loop {
            let step = counter.observe(false, Duration::ZERO);
            if step.verdict == Some(Verdict::Failing) {
                break waited;
            }
            waited += step.next;
            assert!(waited < Duration::from_secs(60), "it never gave up");
        };
        assert_eq!(failed_after, Duration::from_secs(2), "beats at 0, 1 and 2 seconds");
    }

    #[test]
    fn thresholds_need_answers_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(2), ..Default::default() };
        let mut counter = Counter::new(schedule(Kind::Readiness, probe));
        let mut verdicts = Vec::new();
        for answer in [true, false, true, true, false, true, false, false] {
            verdicts.push(counter.observe(answer, Duration::ZERO).verdict);
        }
        use Verdict::{Failing, Passing};
        assert_eq!(verdicts, [None, None, None, Some(Passing), None, None, None, Some(Failing)]);
    }

    #[test]
    fn liveness_waits_for_its_first_beat_and_takes_one_success() {
        let probe = Probe { success_threshold: Some(9), initial_delay_seconds: Some(3), ..Default::default() };
        let mut counter = Counter::new(schedule(Kind::Liveness, probe));
        assert_eq!(counter.first(), Duration::from_secs(10));
        assert_eq!(counter.observe(true, Duration::ZERO).verdict, Some(Verdict::Passing));
    }
}
