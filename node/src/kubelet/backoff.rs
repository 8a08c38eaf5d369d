//! How long a container or an image waits before it is tried again: at once the first time, then doubling.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait and the longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    pub first: Duration,
    pub longest: Duration,
}

/// For containers that end, and for images that cannot be had: 10 s doubling to 5 min, as Kubernetes does.
pub const KUBERNETES: Steps = Steps { first: Duration::from_secs(10), longest: Duration::from_secs(300) };
/// For evidence that is not there yet: asking is cheap, and people wait for the answer.
pub const EVIDENCE: Steps = Steps { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// For what this machine failed at.
pub const MACHINE: Steps = Steps { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// The back-off of one thing. It is forgotten when nothing failed for twice its longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    last: Option<(Duration, Instant)>,
}

impl Backoff {
    /// When the thing may be tried again after it failed at `failed`.
    pub fn until(&self, steps: Steps, failed: Instant) -> Option<Instant> {
        let (wait, updated) = self.last?;
        let forgotten = failed.saturating_duration_since(updated) > steps.longest * 2;
        (!forgotten).then(|| failed + wait)
    }

    /// It is being tried again after it failed at `failed`: the next wait is longer.
    pub fn again(self, steps: Steps, failed: Instant, now: Instant) -> Self {
        let wait = match self.last {
            Some((wait, updated)) if failed.saturating_duration_since(updated) <= steps.longest * 2 => {
                (wait * 2).min(steps.longest)
            }
            _ => steps.first,
        };
        Self { last: Some((wait, now)) }
    }

    /// The wait that counts now.
    pub fn wait(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |(wait, _)| wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_to_five_minutes_and_are_forgotten_after_ten() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        let mut now = Instant::now();
        for _ in 0..8 {
            let until = backoff.until(KUBERNETES, now).unwrap_or(now);
            waits.push((until - now).as_secs());
            backoff = backoff.again(KUBERNETES, now, until);
            now = until + Duration::from_secs(1);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        let later = now + Duration::from_secs(601);
        assert_eq!(backoff.until(KUBERNETES, later), None);
        assert_eq!(backoff.again(KUBERNETES, later, later).wait(), Duration::from_secs(10));
    }
}
