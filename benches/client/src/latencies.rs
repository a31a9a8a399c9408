//! A histogram of latencies in microseconds: 32 steps for each power of two, so that no figure is off by more than 3 %.

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
}
