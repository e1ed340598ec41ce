//! How long things took: counts of microseconds in buckets whose width grows with the value.
//!
//! Each power of two is divided into eight buckets, so a value is known to an eighth of itself, whatever its size. Below eight
//! microseconds each has a bucket of its own. The last bucket has everything from about a minute on.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bits of a value that its bucket keeps, the leading one not counted.
const PRECISION_BITS: u32 = 3;
/// Buckets of each power of two.
const STEPS: u64 = 1 << PRECISION_BITS;
/// Values of this many bits and more are in the last bucket: 67 s.
const VALUE_BITS: u32 = 26;
/// The first value that is not told apart from those above it.
const VALUE_END: u64 = 1 << VALUE_BITS;
/// Number of buckets.
pub const BUCKETS: usize = ((VALUE_BITS - PRECISION_BITS + 1) as usize) << PRECISION_BITS;

// A histogram is read whole once a second by the manager, and has a row of lines in shared memory.
const _: () = assert!(BUCKETS == 192 && VALUE_END > 60_000_000);

/// The bucket of a value.
#[inline]
pub const fn bucket(us: u64) -> usize {
    let us = if us < VALUE_END { us } else { VALUE_END - 1 };
    let shift = (us | STEPS).ilog2() - PRECISION_BITS;
    ((shift as usize) << PRECISION_BITS) + (us >> shift) as usize
}

/// The largest value of a bucket; of the last one, the largest that is told apart.
pub const fn upper_us(bucket: usize) -> u64 {
    let steps = STEPS as usize;
    let shift = (bucket / steps).saturating_sub(1);
    let base = (bucket - shift * steps) as u64;
    ((base + 1) << shift) - 1
}

/// Counts per bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Sum of the values, each exact.
    pub sum_us: u64,
    /// Up to the last bucket that has something.
    counts: Vec<u64>,
}

impl Histogram {
    /// From counts in the order of their buckets. What another process wrote may be any numbers.
    pub fn from_counts(sum_us: u64, counts: impl IntoIterator<Item = u64>) -> Self {
        let mut counts: Vec<u64> = counts.into_iter().take(BUCKETS).collect();
        let used = counts.iter().rposition(|count| *count > 0);
        counts.truncate(used.map_or(0, |last| last + 1));
        counts.shrink_to_fit();
        Self { sum_us, counts }
    }

    /// Adds another, bucket by bucket.
    pub fn add(&mut self, other: &Self) {
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(before);
        Self::from_counts(
            self.sum_us.saturating_sub(earlier.sum_us),
            counts.map(|(count, before)| count.saturating_sub(before)),
        )
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Number of values below `us`, which has to be a power of two of at least eight to be exact.
    pub fn count_below(&self, us: u64) -> u64 {
        let below = bucket(us).min(self.counts.len());
        self.counts[..below]
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The value that `per_mille` of a thousand values do not exceed: the upper end of its bucket. `None`: there are no values.
    pub fn quantile_us(&self, per_mille: u64) -> Option<u64> {
        let count = u128::from(self.count());
        let rank = (count * u128::from(per_mille)).div_ceil(1_000).max(1);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        });
        place.map(upper_us)
    }

    /// The largest value: the upper end of its bucket. `None`: there are no values.
    pub fn max_us(&self) -> Option<u64> {
        self.counts.len().checked_sub(1).map(upper_us)
    }

    /// Buckets that have something: the largest value of each, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter().enumerate();
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (upper_us(bucket), *count))
    }
}

/// As people read it: the sum, and pairs of a bucket's largest value and its count.
#[derive(Serialize, Deserialize)]
struct Written {
    sum_us: u64,
    buckets: Vec<(u64, u64)>,
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            sum_us: self.sum_us,
            buckets: self.buckets().collect(),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let mut counts = [0_u64; BUCKETS];
        for (us, count) in written.buckets {
            let place = &mut counts[bucket(us)];
            *place = place.saturating_add(count);
        }
        Ok(Self::from_counts(written.sum_us, counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut counts = [0; BUCKETS];
        let mut sum = 0;
        for value in values {
            counts[bucket(value)] += 1;
            sum += value;
        }
        Histogram::from_counts(sum, counts)
    }

    #[test]
    fn every_value_is_in_the_bucket_that_ends_at_most_an_eighth_above_it() {
        let mut last = 0;
        for value in (0..100_000).chain((100_000..VALUE_END).step_by(997)) {
            let place = bucket(value);
            assert!(place >= last && place < BUCKETS, "{value}");
            let upper = upper_us(place);
            assert!(
                value <= upper && upper - value <= value / 8,
                "{value} {upper}"
            );
            assert_eq!(bucket(upper), place);
            last = place;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_us(BUCKETS - 1), VALUE_END - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let all = of(1..=1_000);
        for per_mille in [500, 900, 950, 980, 990, 999, 1_000] {
            let told = all.quantile_us(per_mille).unwrap();
            assert!(told >= per_mille && told - per_mille <= per_mille / 8);
        }
        assert_eq!(all.count(), 1_000);
        assert_eq!(all.count_below(512), 511);
        assert_eq!(of([7]).quantile_us(0), Some(7));
        assert_eq!(Histogram::default().quantile_us(500), None);
        assert_eq!(Histogram::default().max_us(), None);
        assert_eq!(of([100, 3]).max_us(), Some(103));
    }

    #[test]
    fn sums_and_differences_agree() {
        let (early, late) = (of(0..50), of(50..5_000));
        let mut all = early.clone();
        all.add(&late);
        assert_eq!(all, of(0..5_000));
        assert_eq!(all.since(&early), late);
        assert_eq!(early.since(&all), Histogram::default());
    }

    #[test]
    fn numbers_of_a_hostile_page_are_no_overflow() {
        let most = Histogram::from_counts(u64::MAX, [u64::MAX; BUCKETS]);
        let mut sum = most.clone();
        sum.add(&most);
        assert_eq!((sum.count(), sum.sum_us), (u64::MAX, u64::MAX));
        assert_eq!(sum.quantile_us(500), Some(0));
    }

    #[test]
    fn json_has_the_buckets_that_are_not_empty() {
        let histogram = of([1, 1, 100, 90_000_000]);
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(
            text,
            r#"{"sum_us":90000102,"buckets":[[1,2],[103,1],[67108863,1]]}"#
        );
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        let hostile = r#"{"sum_us":0,"buckets":[[18446744073709551615,18446744073709551615],[99999999999,1]]}"#;
        assert_eq!(
            serde_json::from_str::<Histogram>(hostile).unwrap().count(),
            u64::MAX
        );
    }
}
