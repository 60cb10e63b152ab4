//! A histogram of sizes: small enough to keep one per link.
//!
//! Below 32 every size has a bin of its own; above, each octave has 16 bins, so a bin is at most a sixteenth of its size
//! wide. Sum, largest and number are exact. 2.7 KiB in one allocation; [`SizeHistogram::record`] never allocates.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::percentiles::Percentiles;

/// Sizes with a bin each.
const EXACT: u64 = 32;
/// Octaves above them; larger sizes fall into the last bin.
const OCTAVES: usize = 19;
const BINS_PER_OCTAVE: usize = 16;
const BINS: usize = EXACT as usize + OCTAVES * BINS_PER_OCTAVE;

/// A histogram of sizes (tuples per batch), 0 to 16 million, exact up to 31 and to a sixteenth above.
///
/// A plain value with one owner. Serde writes the bins that hold something.
#[derive(Clone, PartialEq, Eq)]
pub struct SizeHistogram {
    bins: Box<[u64; BINS]>,
    count: u64,
    sum: u64,
    max: u64,
}

/// Bin of a size.
#[inline]
fn bin_of(size: u64) -> usize {
    if size < EXACT {
        return size as usize;
    }
    let octave = size.ilog2() as usize - EXACT.ilog2() as usize;
    // The four bits below the leading one.
    let within = (size >> (octave + 1)) as usize & (BINS_PER_OCTAVE - 1);
    (EXACT as usize + octave * BINS_PER_OCTAVE + within).min(BINS - 1)
}

/// Largest size that falls into a bin.
fn upper_end(bin: usize) -> u64 {
    if bin < EXACT as usize {
        return bin as u64;
    }
    let (octave, within) = ((bin - EXACT as usize) / BINS_PER_OCTAVE, (bin - EXACT as usize) % BINS_PER_OCTAVE);
    (((BINS_PER_OCTAVE + within + 1) as u64) << (octave + 1)) - 1
}

impl SizeHistogram {
    /// An empty histogram; allocates its bins once.
    pub fn new() -> Self {
        Self { bins: Box::new([0; BINS]), count: 0, sum: 0, max: 0 }
    }

    /// Records one size. A few nanoseconds.
    #[inline]
    pub fn record(&mut self, size: u64) {
        self.bins[bin_of(size)] += 1;
        self.count += 1;
        self.sum += size;
        self.max = self.max.max(size);
    }

    /// Adds all samples of `other`.
    pub fn merge(&mut self, other: &SizeHistogram) {
        for (ours, theirs) in self.bins.iter_mut().zip(&*other.bins) {
            *ours += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sum of all sizes, exact.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Largest size, exact; 0 without samples.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Mean size, exact; 0 without samples.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// Samples of at least `from` and less than `below`. Exact where both are at most 32 or powers of two.
    pub fn count_between(&self, from: u64, below: u64) -> u64 {
        self.bins().filter(|(size, _)| (from..below).contains(size)).map(|(_, count)| count).sum()
    }

    /// The bins that hold something, ascending: the largest size of the bin and the samples in it.
    pub fn bins(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.bins.iter().enumerate().filter(|(_, n)| **n > 0).map(|(bin, n)| (upper_end(bin), *n))
    }

    /// Percentiles, as sizes; one that too few samples support is `None`.
    pub fn percentiles(&self) -> Percentiles {
        let bins = self.bins().map(|(size, n)| (size.min(self.max), n));
        Percentiles::of_bins(bins, self.count, (self.count > 0).then_some(self.max))
    }
}

impl Default for SizeHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SizeHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SizeHistogram({} samples, mean {}, max {})", self.count, self.mean(), self.max)
    }
}

/// What serde carries: bins by their number.
#[derive(Serialize, Deserialize)]
struct Wire {
    sum: u64,
    max: u64,
    bins: Vec<(u16, u64)>,
}

impl Serialize for SizeHistogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let some = self.bins.iter().enumerate().filter(|(_, n)| **n > 0);
        let bins = some.map(|(bin, n)| (bin as u16, *n)).collect();
        Wire { sum: self.sum, max: self.max, bins }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SizeHistogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let mut histogram = SizeHistogram { sum: wire.sum, max: wire.max, ..SizeHistogram::new() };
        for (bin, n) in wire.bins {
            let no_such = || D::Error::custom("a bin that sizes do not have: are both ends of one build?");
            let ours = histogram.bins.get_mut(usize::from(bin)).ok_or_else(no_such)?;
            let overflows = || D::Error::custom("the bins of a histogram of sizes overflow");
            *ours = ours.checked_add(n).ok_or_else(overflows)?;
            histogram.count = histogram.count.checked_add(n).ok_or_else(overflows)?;
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(sizes: &[u64]) -> SizeHistogram {
        let mut histogram = SizeHistogram::new();
        sizes.iter().for_each(|s| histogram.record(*s));
        histogram
    }

    #[test]
    fn bins_follow_each_other_without_gap_or_overlap() {
        for bin in 0..BINS - 1 {
            let end = upper_end(bin);
            assert_eq!((bin_of(end), bin_of(end + 1)), (bin, bin + 1), "around {end}");
        }
        assert_eq!(upper_end(BINS - 1), (1 << 24) - 1);
        assert_eq!(bin_of(u64::MAX), BINS - 1);
    }

    #[test]
    fn number_sum_mean_and_largest_are_exact() {
        let histogram = of(&[1, 1, 1365, 70_000]);
        assert_eq!((histogram.count(), histogram.sum(), histogram.max()), (4, 71_367, 70_000));
        assert_eq!(histogram.mean(), 71_367.0 / 4.0);
        assert_eq!((histogram.count_between(0, 2), histogram.count_between(1024, 2048)), (2, 1));
        assert_eq!(of(&[]).mean(), 0.0);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn percentiles_are_those_of_small_sizes_and_none_without_samples() {
        let mut sizes = vec![1; 60];
        sizes.extend([20; 40]);
        let shown = of(&sizes).percentiles();
        assert_eq!((shown.p50, shown.p90, shown.p99, shown.max), (Some(1), Some(20), None, Some(20)));
        assert_eq!(of(&[]).percentiles(), Percentiles::default());
    }

    #[test]
    fn json_carries_the_bins_and_refuses_foreign_ones() {
        let histogram = of(&[1, 5, 5, 4096, 1 << 40]);
        let text = serde_json::to_string(&histogram).expect("it serializes");
        assert_eq!(serde_json::from_str::<SizeHistogram>(&text).expect("it comes back"), histogram);
        for bad in
            [r#"{"sum":1,"max":1,"bins":[[999,1]]}"#, r#"{"sum":1,"max":1,"bins":[[1,18446744073709551615],[1,1]]}"#]
        {
            assert!(serde_json::from_str::<SizeHistogram>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_bin_is_at_most_a_sixteenth_wide_and_merging_adds_every_sample(
            left in proptest::collection::vec(0u64..1 << 24, 0..100),
            right in proptest::collection::vec(0u64..1 << 24, 0..100),
        ) {
            for size in left.iter().chain(&right) {
                let end = upper_end(bin_of(*size));
                prop_assert!(end >= *size && end - size <= size / 16, "{} in the bin up to {}", size, end);
            }
            let mut merged = of(&left);
            merged.merge(&of(&right));
            prop_assert_eq!(merged, of(&[left, right].concat()));
        }
    }
}
