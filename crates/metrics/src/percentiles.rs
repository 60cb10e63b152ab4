//! The percentiles of a report, and when a percentile may be shown at all.

use hdrhistogram::Histogram as Hdr;
use serde::{Deserialize, Serialize};

/// A percentile is shown only with at least this many samples beyond it: with fewer it is the name of one outlier.
pub const SAMPLES_BEYOND_MIN: u64 = 10;

/// Percentiles of one histogram, in nanoseconds unless its owner says otherwise.
///
/// A percentile with fewer than [`SAMPLES_BEYOND_MIN`] samples beyond it is `None`, and `null` in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: Option<u64>,
    /// 90 %.
    pub p90: Option<u64>,
    /// 99 %.
    pub p99: Option<u64>,
    /// 99.9 %.
    pub p999: Option<u64>,
    /// 99.99 %.
    pub p9999: Option<u64>,
    /// Largest sample, rounded up to three digits; `None` without samples.
    pub max: Option<u64>,
    /// Number of samples.
    pub count: u64,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Hdr<u64>) -> Self {
        let bins = histogram.iter_recorded();
        let bins = bins.map(|bin| (histogram.highest_equivalent(bin.value_iterated_to()), bin.count_at_value()));
        Self::of_bins(bins, histogram.len(), (!histogram.is_empty()).then(|| histogram.max()))
    }

    /// All percentiles in one pass over (value, samples), ascending. Ranks are whole numbers: `0.999 * n` in floating point
    /// lands one rank off for some n.
    pub(crate) fn of_bins(bins: impl Iterator<Item = (u64, u64)>, count: u64, max: Option<u64>) -> Self {
        const PER_10_000: [u64; 5] = [5_000, 9_000, 9_900, 9_990, 9_999];
        let ranks = PER_10_000.map(|q| (u128::from(count) * u128::from(q)).div_ceil(10_000) as u64);
        let mut values = [None; 5];
        let mut next = 0;
        let mut seen = 0;
        for (value, samples) in bins {
            seen = u64::saturating_add(seen, samples);
            while next < ranks.len() && seen >= ranks[next] {
                if count - ranks[next] >= SAMPLES_BEYOND_MIN {
                    values[next] = Some(value);
                }
                next += 1;
            }
        }
        let [p50, p90, p99, p999, p9999] = values;
        Self { p50, p90, p99, p999, p9999, max, count }
    }

    /// Name and value of each percentile and of the maximum, in ascending order.
    pub fn rows(&self) -> [(&'static str, Option<u64>); 6] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("p99.99", self.p9999),
            ("max", self.max),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Histogram;

    use super::*;

    fn ramp(count: u64) -> Percentiles {
        let mut histogram = Histogram::new();
        (1..=count).for_each(|value| histogram.record(value));
        histogram.percentiles()
    }

    #[test]
    fn nothing_recorded_gives_no_percentile_and_no_maximum() {
        assert_eq!(ramp(0), Percentiles::default());
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        assert_eq!((ramp(19).p50, ramp(20).p50), (None, Some(10)));
        assert_eq!((ramp(99).p90, ramp(100).p90), (None, Some(90)));
        assert_eq!((ramp(999).p99, ramp(1000).p99), (None, Some(990)));
        assert_eq!(ramp(9_999).p999, None);
        assert!(ramp(10_000).p999.is_some());
        assert_eq!(ramp(99_999).p9999, None);
        assert!(ramp(100_000).p9999.is_some());
        assert_eq!(ramp(5).max, Some(5));
    }

    #[test]
    fn json_shows_a_missing_percentile_as_null() {
        let text = serde_json::to_string(&ramp(30)).expect("it serializes");
        assert_eq!(text, r#"{"p50":15,"p90":null,"p99":null,"p999":null,"p9999":null,"max":30,"count":30}"#);
    }

    /// The definition, on the sorted samples: the smallest value that at least q of them do not exceed.
    fn model(sorted: &[u64], per_10_000: usize) -> Option<u64> {
        let rank = (sorted.len() * per_10_000).div_ceil(10_000);
        (sorted.len() - rank >= 10).then(|| sorted[rank - 1])
    }

    proptest! {
        #[test]
        fn percentiles_agree_with_a_sorted_vector(mut values in proptest::collection::vec(1u64..10_000_000_000, 0..3000)) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            let ours = histogram.percentiles();
            let pairs = [(ours.p50, 5_000), (ours.p90, 9_000), (ours.p99, 9_900), (ours.p999, 9_990), (ours.p9999, 9_999)];
            for (our, per_10_000) in pairs {
                match (our, model(&values, per_10_000)) {
                    (None, None) => {}
                    // Three digits: a bin is at most a thousandth of its value wide, and the upper end is shown.
                    (Some(our), Some(exact)) => prop_assert!(our >= exact && our - exact <= exact / 1000, "{} for {}", our, exact),
                    other => prop_assert!(false, "{:?} at {}", other, per_10_000),
                }
            }
            prop_assert_eq!(ours.count, values.len() as u64);
            prop_assert_eq!(ours.max.is_some(), !values.is_empty());
        }
    }
}
