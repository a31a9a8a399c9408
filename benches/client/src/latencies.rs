//! A histogram of latencies in microseconds: 32 steps for each power of two, so that no figure is off by more than 3 %. And a pair
//! of them, of all answers and of those that the machine did not disturb.

use std::time::Duration;

const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
/// Up to 2³² µs, which is more than an hour; what is longer counts as that.
const BUCKETS: usize = ((32 - STEP_BITS + 1) * STEPS as u32) as usize;

/// Counts of latencies.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: Vec<u64>,
    count: u64,
    largest: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, largest: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, microseconds: u64) {
        self.counts[bucket(microseconds)] += 1;
        self.count += 1;
        self.largest = self.largest.max(microseconds);
    }

    /// Counts all of another.
    pub fn add_all(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.largest = self.largest.max(other.largest);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, microseconds.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// What this share of them did not exceed, microseconds; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_end(index).min(self.largest);
            }
        }
        0
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        (self.count, self.largest) = (0, 0);
    }
}

/// What was seen in some time.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of all answers.
    pub raw: Latencies,
    /// Of those that were due while the machine ran, with nothing left to work off.
    pub quiet: Latencies,
    /// How often a core stood still, and for how long, the sum over the cores.
    pub stalls: u64,
    pub stalled: Duration,
}

impl Tally {
    /// Counts an answer.
    pub fn add(&mut self, microseconds: u64, is_disturbed: bool) {
        self.raw.add(microseconds);
        if !is_disturbed {
            self.quiet.add(microseconds);
        }
    }

    /// Counts all of another.
    pub fn add_all(&mut self, other: &Self) {
        self.raw.add_all(&other.raw);
        self.quiet.add_all(&other.quiet);
        self.stalls += other.stalls;
        self.stalled += other.stalled;
    }

    /// How many answers the machine disturbed.
    pub fn disturbed(&self) -> u64 {
        self.raw.count() - self.quiet.count()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.quiet.clear();
        (self.stalls, self.stalled) = (0, Duration::ZERO);
    }
}

fn bucket(microseconds: u64) -> usize {
    let value = microseconds.min(u64::from(u32::MAX));
    if value < STEPS {
        return value as usize;
    }
    let power = 63 - value.leading_zeros() - STEP_BITS;
    (u64::from(power + 1) * STEPS + (value >> power) - STEPS) as usize
}

/// The largest value of a bucket.
fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (row, step) = (bucket / STEPS, bucket % STEPS);
    if row == 0 { step } else { ((STEPS + step + 1) << (row - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS - 1 {
            assert_eq!((bucket(upper_end(index)), bucket(upper_end(index) + 1)), (index, index + 1), "{index}");
        }
        assert_eq!((bucket(u64::MAX), upper_end(BUCKETS - 1)), (BUCKETS - 1, u64::from(u32::MAX)));
    }

    #[test]
    fn quantiles() {
        let mut all = Latencies::default();
        assert_eq!(all.quantile(0.99), 0);
        (1..=1000).for_each(|value| all.add(value));
        for (share, exact) in [(0.001, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let seen = all.quantile(share);
            assert!(seen >= exact && seen as f64 <= exact as f64 * 1.04, "{share}: {seen}");
        }
        let mut both = Latencies::default();
        both.add(5_000);
        both.add_all(&all);
        assert_eq!((both.count(), both.largest(), both.quantile(1.0)), (1001, 5_000, 5_000));
        both.clear();
        assert_eq!((both.count(), both.quantile(0.5)), (0, 0));
    }

    #[test]
    fn disturbed_answers_stand_beside() {
        let (mut second, mut all) = (Tally::default(), Tally::default());
        (1..=99).for_each(|_| second.add(10, false));
        second.add(70_000, true);
        second.stalls = 1;
        second.stalled = Duration::from_millis(30);
        all.add_all(&second);
        all.add_all(&second);
        assert_eq!((all.raw.count(), all.disturbed(), all.stalls, all.stalled.as_millis()), (200, 2, 2, 60));
        assert_eq!((all.raw.largest(), all.quiet.largest(), all.quiet.quantile(1.0)), (70_000, 10, 10));
        all.clear();
        assert_eq!((all.raw.count(), all.disturbed(), all.stalls, all.stalled), (0, 0, 0, Duration::ZERO));
    }
}
