//! Counts of the traffic that the router carried, by Service and by pod.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::table::ServiceKey;

/// Upper bounds of the latency buckets, in seconds; one more bucket holds what took longer.
pub const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Times until the head of the response, by bucket (not cumulative).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    pub counts: [u64; BUCKETS.len() + 1],
    /// Seconds.
    pub sum: f64,
}

impl Histogram {
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time in seconds within which this part (0 to 1) of the requests was answered, interpolated in its bucket.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = part.clamp(0.0, 1.0) * total as f64;
        let (mut seen, mut lower) = (0.0, 0.0);
        for (at, count) in self.counts.iter().enumerate() {
            let upper = BUCKETS.get(at).copied().unwrap_or(BUCKETS[BUCKETS.len() - 1]);
            let next = seen + *count as f64;
            if next >= rank && *count > 0 {
                return Some(lower + (upper - lower) * ((rank - seen) / *count as f64).clamp(0.0, 1.0));
            }
            (seen, lower) = (next, upper);
        }
        Some(lower)
    }
}

/// Traffic of one pod behind a Service. Only grows while the pod is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodTraffic {
    pub requests: u64,
    /// Answers with a status of 500 or above, and requests without an answer.
    pub failures: u64,
    pub latency: Histogram,
}

/// Traffic of one Service since the start of the node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceTraffic {
    pub requests: u64,
    /// Answers with a status of 500 or above, whoever gave them.
    pub failures: u64,
    /// Requests that were sent to another pod after the first one did not answer.
    pub retries: u64,
    /// Answers by the first digit of their status: 1xx to 5xx.
    pub classes: [u64; 5],
    pub latency: Histogram,
    /// By name, as long as they are there.
    pub pods: BTreeMap<String, PodTraffic>,
}

#[derive(Default)]
pub(crate) struct Stats(Mutex<HashMap<ServiceKey, ServiceTraffic>>);

impl Stats {
    fn all(&self) -> MutexGuard<'_, HashMap<ServiceKey, ServiceTraffic>> {
        // Counters: half an update is as good as none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer to a client.
    pub fn answered(&self, key: &ServiceKey, status: u16, took: Duration) {
        let mut all = self.all();
        let service = all.entry(key.clone()).or_default();
        service.requests += 1;
        service.failures += u64::from(status >= 500);
        if let Some(class) = service.classes.get_mut(usize::from(status / 100).wrapping_sub(1)) {
            *class += 1;
        }
        service.latency.observe(took);
    }

    /// An answer of a pod, or, without a status, none.
    pub fn pod_answered(&self, key: &ServiceKey, pod: &str, status: Option<u16>, took: Duration) {
        let mut all = self.all();
        let service = all.entry(key.clone()).or_default();
        service.retries += u64::from(status.is_none());
        let pod = service.pods.entry(pod.to_owned()).or_default();
        pod.requests += 1;
        pod.failures += u64::from(status.is_none_or(|status| status >= 500));
        pod.latency.observe(took);
    }

    /// An answer that began well and broke off.
    pub fn broke_off(&self, key: &ServiceKey) {
        self.all().entry(key.clone()).or_default().failures += 1;
    }

    /// Everything, without pods for which `is_there` does not hold, which are forgotten.
    pub fn snapshot(&self, is_there: impl Fn(&ServiceKey, &str) -> bool) -> BTreeMap<ServiceKey, ServiceTraffic> {
        let mut all = self.all();
        for (key, service) in all.iter_mut() {
            service.pods.retain(|pod, _| is_there(key, pod));
        }
        all.iter().map(|(key, service)| (key.clone(), service.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_their_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for _ in 0..99 {
            histogram.observe(Duration::from_millis(2));
        }
        histogram.observe(Duration::from_secs(60));
        let median = histogram.quantile(0.5).unwrap();
        assert!((0.001..=0.0025).contains(&median), "{median}");
        assert_eq!(histogram.quantile(1.0), Some(30.0));
        assert_eq!(histogram.count(), 100);
    }

    #[test]
    fn failures_are_counted_where_they_happen() {
        let (stats, key) = (Stats::default(), ServiceKey::new("shop", "web"));
        stats.pod_answered(&key, "a", None, Duration::ZERO);
        stats.pod_answered(&key, "b", Some(200), Duration::ZERO);
        stats.answered(&key, 200, Duration::ZERO);
        stats.answered(&key, 503, Duration::ZERO);
        let service = &stats.snapshot(|_, pod| pod == "a")[&key];
        assert_eq!((service.requests, service.failures, service.retries), (2, 1, 1));
        assert_eq!(service.classes, [0, 1, 0, 0, 1]);
        assert_eq!(service.pods["a"].failures, 1);
        assert!(!service.pods.contains_key("b"), "it is gone");
    }
}
