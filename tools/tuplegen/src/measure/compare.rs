//! Whether B differs from A: trials in pairs, the mean of the logarithms of their ratios, Student's interval around it.
//!
//! Trials are taken in turn, A B A B, so a drift of the machine touches both of a pair. Where several figures are compared, each gets its part
//! of the five percent, so that of twenty comparisons of A with itself one may show a difference. What differs by less than the
//! histograms tell apart is no difference.

use serde::{Deserialize, Serialize};

/// Chance of a difference where there is none, over all figures together.
const ALPHA: f64 = 0.05;
/// Differences below this are those of the histograms' buckets.
const RESOLUTION: f64 = 0.002;
/// Fewest pairs that say anything.
pub const PAIRS_MIN: usize = 3;

/// What a comparison of a figure came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// B has less of it.
    Lower,
    /// B has more of it.
    Higher,
    /// No detectable difference.
    None,
    /// Fewer than three pairs.
    TooFew,
}

impl Finding {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Finding::Lower => "lower",
            Finding::Higher => "higher",
            Finding::None => "no detectable difference",
            Finding::TooFew => "too few trials to say",
        }
    }
}

/// A figure compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Its name.
    pub figure: String,
    /// Median of A's trials.
    pub a: f64,
    /// Median of B's.
    pub b: f64,
    /// Mean change from A to B, as a share.
    pub change: f64,
    /// The interval around it.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// What that means.
    pub finding: Finding,
}

/// Compares figures, each with its pairs (A, B) of trials.
pub fn compare(figures: &[(String, Vec<(f64, f64)>)]) -> Vec<Compared> {
    let alpha = ALPHA / figures.len().max(1) as f64;
    figures.iter().map(|(name, pairs)| one(name, pairs, alpha)).collect()
}

fn one(name: &str, pairs: &[(f64, f64)], alpha: f64) -> Compared {
    let (a, b) = (median(pairs.iter().map(|p| p.0)), median(pairs.iter().map(|p| p.1)));
    let logs: Vec<f64> = pairs.iter().filter(|(a, b)| *a > 0.0 && *b > 0.0).map(|(a, b)| (b / a).ln()).collect();
    let n = logs.len() as f64;
    let mut c = Compared { figure: name.to_owned(), a, b, change: 0.0, low: 0.0, high: 0.0, finding: Finding::TooFew };
    if logs.is_empty() {
        return c;
    }
    let mean = logs.iter().sum::<f64>() / n;
    c.change = mean.exp_m1();
    (c.low, c.high) = (c.change, c.change);
    if logs.len() < PAIRS_MIN {
        return c;
    }
    let variance = logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = t_quantile(1.0 - alpha / 2.0, n - 1.0) * (variance / n).sqrt();
    (c.low, c.high) = ((mean - half).exp_m1(), (mean + half).exp_m1());
    c.finding = match () {
        () if c.low > 0.0 && c.change > RESOLUTION => Finding::Higher,
        () if c.high < 0.0 && c.change < -RESOLUTION => Finding::Lower,
        () => Finding::None,
    };
    c
}

/// The middle value; 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Student's quantile, by bisection of its distribution function.
pub fn t_quantile(p: f64, dof: f64) -> f64 {
    let (mut low, mut high) = (0.0, 2.0);
    while t_below(high, dof) < p && high < 1e6 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let mid = (low + high) / 2.0;
        if t_below(mid, dof) < p { low = mid } else { high = mid }
    }
    (low + high) / 2.0
}

/// P(T < t) for t of at least 0: with t = √dof · tan θ the density is a power of cos θ, which Simpson's rule integrates well.
fn t_below(t: f64, dof: f64) -> f64 {
    let integral = |to: f64| {
        const STEPS: usize = 400;
        let h = to / STEPS as f64;
        let f = |i: usize| (i as f64 * h).cos().max(0.0).powf(dof - 1.0);
        let inner: f64 = (1..STEPS).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        (f(0) + inner + f(STEPS)) * h / 3.0
    };
    0.5 + 0.5 * integral((t / dof.sqrt()).atan()) / integral(std::f64::consts::FRAC_PI_2)
}

#[cfg(test)]
mod tests {
    use super::super::sim;
    use super::super::totals::quantile;
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (p, dof, due) in
            [(0.975, 2.0, 4.303), (0.975, 4.0, 2.776), (0.975, 9.0, 2.262), (0.995, 4.0, 4.604), (0.95, 30.0, 1.697)]
        {
            let got = t_quantile(p, dof);
            assert!((got - due).abs() < 0.002, "t({p}, {dof}) = {got}");
        }
    }

    fn trial(service_ns: u64, seed: u64) -> (f64, f64) {
        let load = sim::Load { rate: 20_000.0, secs: 0.4, arrival: "poisson", ..sim::Load::default() };
        let sink = sim::Sink { service_ns, jitter_ns: 8_000.0, seed, ..sim::Sink::default() };
        let (_, totals) = sim::run(&load, sink);
        (quantile(&totals.intended, 0.5).unwrap() as f64, quantile(&totals.intended, 0.99).unwrap() as f64)
    }

    fn findings(a_ns: u64, b_ns: u64, seed: u64) -> Vec<Finding> {
        let trials: Vec<_> =
            (0..5).map(|i| (trial(a_ns, seed * 100 + 2 * i), trial(b_ns, seed * 100 + 2 * i + 1))).collect();
        let p50 = trials.iter().map(|(a, b)| (a.0, b.0)).collect();
        let p99 = trials.iter().map(|(a, b)| (a.1, b.1)).collect();
        compare(&[("p50".to_owned(), p50), ("p99".to_owned(), p99)]).into_iter().map(|c| c.finding).collect()
    }

    #[test]
    fn a_against_itself_shows_no_difference_nineteen_times_of_twenty() {
        let none = (1..=20).filter(|seed| findings(10_000, 10_000, *seed).iter().all(|f| *f == Finding::None)).count();
        assert!(none >= 19, "{none} of 20, seeds 1 to 20");
    }

    #[test]
    fn a_slower_b_is_found() {
        for seed in 1..=5 {
            assert_eq!(findings(10_000, 12_000, seed)[0], Finding::Higher, "seed {seed}");
            assert_eq!(findings(12_000, 10_000, seed)[0], Finding::Lower, "seed {seed}");
        }
    }

    #[test]
    fn few_pairs_say_nothing_and_equal_ones_no_difference() {
        let of = |pairs: &[(f64, f64)]| compare(&[("x".to_owned(), pairs.to_vec())])[0].finding;
        assert_eq!(of(&[(1.0, 2.0), (1.0, 2.0)]), Finding::TooFew);
        assert_eq!(of(&[(1.0, 1.0); 5]), Finding::None);
        assert_eq!(of(&[(1000.0, 1001.0); 5]), Finding::None, "a bucket of the histogram");
        assert_eq!(of(&[(1.0, 2.0); 5]), Finding::Higher);
    }
}
