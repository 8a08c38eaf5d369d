//! What happened in a span of time.

use std::time::Duration;

use records::{Observation, ReleaseId, Timestamp};

use crate::Histogram;

/// Requests from `from` on.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    from: Timestamp,
    durations: Histogram,
    failed: u64,
}

impl Window {
    pub fn new(from: Timestamp) -> Self {
        Self { from, durations: Histogram::default(), failed: 0 }
    }

    /// Counts a request. It has failed when it was answered with 5xx, or not at all.
    pub fn record(&mut self, took: Duration, failed: bool) {
        self.durations.record(took);
        self.failed += u64::from(failed);
    }

    pub fn requests(&self) -> u64 {
        self.durations.count()
    }

    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Adds what another window saw; it then begins with the earlier of the two.
    pub fn merge(&mut self, other: &Self) {
        self.from = self.from.min(other.from);
        self.durations.merge(&other.durations);
        self.failed += other.failed;
    }

    /// What the record says. The quantiles are 0 when there was no request.
    pub fn observation(&self, release: ReleaseId, to: Timestamp) -> Observation {
        let milliseconds = |q| self.durations.quantile(q).map_or(0.0, |d: Duration| d.as_secs_f64() * 1000.0);
        Observation {
            release,
            from: self.from,
            to,
            requests: self.requests(),
            failed: self.failed,
            p50_ms: milliseconds(0.5),
            p99_ms: milliseconds(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_becomes_an_observation() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut window = Window::new(at(10));
        for i in 0..98 {
            window.record(Duration::from_millis(10), i == 0);
        }
        let mut other = Window::new(at(5));
        other.record(Duration::from_millis(500), true);
        other.record(Duration::from_millis(500), false);
        window.merge(&other);
        let seen = window.observation("journal/prod/1".parse().unwrap(), at(20));
        assert_eq!((seen.from, seen.to, seen.requests, seen.failed), (at(5), at(20), 100, 2));
        assert!((10.0..10.4).contains(&seen.p50_ms), "{}", seen.p50_ms);
        assert!((500.0..516.0).contains(&seen.p99_ms), "{}", seen.p99_ms);
        let idle = Window::new(at(1)).observation("journal/prod/1".parse().unwrap(), at(2));
        assert_eq!((idle.requests, idle.p50_ms, idle.p99_ms), (0, 0.0, 0.0));
    }
}
