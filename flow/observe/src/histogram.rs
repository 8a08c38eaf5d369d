//! Durations, counted in buckets whose width grows with the duration.

use std::time::Duration;

/// Bits of a duration that are kept: a bucket is at most 1/32 as wide as the durations in it.
const BITS: u32 = 5;
const STEPS: usize = 1 << BITS;
/// One row for durations below 2^5 µs, then one for each doubling up to 2^37 µs (38 hours).
const ROWS: usize = 33;

/// A histogram of durations from a microsecond to more than a day, with a relative error of at most 3.2 %. It has a fixed size (8 KiB).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * ROWS].into(), total: 0 }
    }
}

impl Histogram {
    /// Counts one. What is longer than the range counts as its end.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
    }

    pub fn count(&self) -> u64 {
        self.total
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The duration that a share `q` (0 to 1) of all are not longer than, by the nearest-rank method; none when nothing was counted.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * self.total as f64).ceil() as u64).max(1);
        let mut before = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            before += count;
            if before >= rank {
                return Some(Duration::from_micros(upper(bucket)));
            }
        }
        None
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let row = micros.ilog2() - BITS + 1;
    let step = (micros >> (row - 1)) as usize - STEPS;
    (row as usize * STEPS + step).min(STEPS * ROWS - 1)
}

/// The longest duration, in microseconds, that a bucket counts.
fn upper(bucket: usize) -> u64 {
    let (row, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    match row {
        0 => step,
        row => ((STEPS as u64 + step + 1) << (row - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_one_another() {
        for bucket_index in 0..STEPS * ROWS - 1 {
            let end = upper(bucket_index);
            assert_eq!(bucket(end), bucket_index);
            assert_eq!(bucket(end + 1), bucket_index + 1, "{end}");
        }
        assert_eq!(bucket(u64::MAX), STEPS * ROWS - 1);
    }

    proptest! {
        #[test]
        fn quantiles_are_near(mut micros in prop::collection::vec(0..100_000_000_u64, 1..300), q in 0.0..1.0_f64, split in 0..300_usize) {
            let mut whole = Histogram::default();
            micros.iter().for_each(|m| whole.record(Duration::from_micros(*m)));
            let (mut left, mut right) = (Histogram::default(), Histogram::default());
            for (i, m) in micros.iter().enumerate() {
                if i < split { &mut left } else { &mut right }.record(Duration::from_micros(*m));
            }
            left.merge(&right);
            prop_assert_eq!(&left, &whole);

            micros.sort_unstable();
            let rank = ((q * micros.len() as f64).ceil() as usize).max(1);
            let exact = micros[rank - 1];
            let found = whole.quantile(q).unwrap().as_micros() as u64;
            prop_assert!(found >= exact && found - exact <= exact / 31 + 1, "{} for {}", found, exact);
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
