//! The search for the highest rate that holds: doubling from the bottom until one fails, then halving the interval in ratios. Pure: it is told
//! how each rate came out.

use serde::{Deserialize, Serialize};

/// What kept a rate from holding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "limiter", content = "what")]
pub enum Limiter {
    /// An SLO did not hold.
    Slo(String),
    /// Tuples were lost, doubled or damaged.
    Loss(String),
    /// More came than left: the target is at its end.
    Backlog(String),
    /// The generator could not send at that rate: the target's end is not known.
    Generator(String),
}

impl Limiter {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Limiter::Slo(_) => "SLO",
            Limiter::Loss(_) => "loss",
            Limiter::Backlog(_) => "backlog",
            Limiter::Generator(_) => "the generator itself",
        }
    }

    /// The details.
    pub fn why(&self) -> &str {
        match self {
            Limiter::Slo(s) | Limiter::Loss(s) | Limiter::Backlog(s) | Limiter::Generator(s) => s,
        }
    }
}

/// What a trial showed, as far as the search asks.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// Exit code of its verdict.
    pub exit_code: u8,
    /// Its first reason.
    pub reason: String,
    /// Share of the tuples due that were sent.
    pub sent_share: f64,
    /// Share of the load's time in which the link had no room.
    pub blocked_share: f64,
    /// Tuples under way at most, as a share of those sent.
    pub backlog_share: f64,
    /// Whether it ended because the drain was over.
    pub deadline: bool,
    /// Lost, duplicates and so on.
    pub faults: u64,
}

impl Trial {
    /// Why it does not hold; `None`: it does.
    pub fn limiter(&self) -> Option<Limiter> {
        let why = self.reason.clone();
        let piled_up = self.blocked_share > 0.05 || (self.deadline && self.backlog_share > 0.05);
        match self.exit_code {
            0 => None,
            4 if piled_up => Some(Limiter::Backlog(why)),
            4 => Some(Limiter::Loss(why)),
            5 if piled_up => Some(Limiter::Backlog(why)),
            5 => Some(Limiter::Generator(why)),
            _ => Some(Limiter::Slo(why)),
        }
    }
}

/// A search under way.
#[derive(Debug, Clone)]
pub struct Search {
    low: f64,
    high: f64,
    tolerance: f64,
    /// Times that a rate must fail before it counts.
    failures: u32,
    passing: Option<f64>,
    failing: Option<(f64, Limiter)>,
    tried: Option<(f64, u32)>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// The highest rate that held; none: not even the lowest did.
    pub rate: Option<f64>,
    /// The lowest that did not, and why; none: the highest one asked for held.
    pub failing: Option<(f64, Limiter)>,
    /// The target may do more: the generator, or the range asked for, was the limit.
    pub at_least: bool,
}

impl Search {
    /// Between two rates, until they are within `tolerance` of each other (0.03: three percent).
    ///
    /// # Errors
    /// If the rates are none, or the wrong way round.
    pub fn new(low: f64, high: f64, tolerance: f64, failures: u32) -> Result<Search, String> {
        if !(low > 0.0 && high >= low && tolerance > 0.0) {
            return Err(format!(
                "cannot search from {low} to {high} within {tolerance}: give --lo below --hi, and a tolerance above 0"
            ));
        }
        Ok(Search { low, high, tolerance, failures: failures.max(1), passing: None, failing: None, tried: None })
    }

    /// The rate to try next; `None`: the search is over.
    pub fn next_rate(&self) -> Option<f64> {
        if let Some((rate, _)) = self.tried {
            return Some(rate);
        }
        match (self.passing, &self.failing) {
            (None, None) => Some(self.low),
            (None, Some(_)) => None,
            (Some(p), None) => (p < self.high).then(|| (p * 2.0).min(self.high)),
            (Some(p), Some((f, _))) => (f / p - 1.0 > self.tolerance).then(|| (f * p).sqrt()),
        }
    }

    /// How that rate came out.
    pub fn came_out(&mut self, limiter: Option<Limiter>) {
        let Some(rate) = self.next_rate() else { return };
        let Some(limiter) = limiter else {
            self.passing = Some(rate);
            self.tried = None;
            return;
        };
        let times = self.tried.map_or(0, |(_, times)| times) + 1;
        if times < self.failures {
            self.tried = Some((rate, times));
        } else {
            self.tried = None;
            self.failing = Some((rate, limiter));
        }
    }

    /// What is known by now.
    pub fn knee(&self) -> Knee {
        let at_least = match &self.failing {
            None => self.passing.is_some(),
            Some((_, limiter)) => matches!(limiter, Limiter::Generator(_)),
        };
        Knee { rate: self.passing, failing: self.failing.clone(), at_least }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim;
    use super::super::slo::Slo;
    use super::super::verdict::sent_share;
    use super::*;

    /// Searches against something that holds up to `capacity`.
    fn search(low: f64, high: f64, capacity: f64, limiter: &Limiter) -> (Knee, u32) {
        let mut s = Search::new(low, high, 0.03, 1).unwrap();
        let mut trials = 0;
        while let Some(rate) = s.next_rate() {
            trials += 1;
            assert!(trials < 60, "the search ends");
            s.came_out((rate > capacity).then(|| limiter.clone()));
        }
        (s.knee(), trials)
    }

    #[test]
    fn the_knee_is_within_the_tolerance_and_has_its_limiter() {
        let slo = Limiter::Slo("p99".into());
        for capacity in [1_000.0, 12_345.0, 777_777.0, 4.9e6] {
            let (knee, trials) = search(1_000.0, 5e6, capacity, &slo);
            let rate = knee.rate.unwrap();
            assert!(rate <= capacity && rate >= capacity / 1.031, "{capacity}: {rate} after {trials}");
            assert!(!knee.at_least && knee.failing.unwrap().1 == slo);
        }
    }

    #[test]
    fn a_limit_that_is_not_the_targets_makes_an_at_least() {
        let (knee, _) = search(1e3, 1e5, f64::INFINITY, &Limiter::Slo(String::new()));
        assert_eq!(knee, Knee { rate: Some(1e5), failing: None, at_least: true });
        assert!(search(1e3, 1e7, 1e6, &Limiter::Generator(String::new())).0.at_least);
        let none = search(1e3, 1e7, 10.0, &Limiter::Loss(String::new())).0;
        assert!(none.rate.is_none() && !none.at_least);
    }

    #[test]
    fn one_disturbed_trial_does_not_count() {
        let mut s = Search::new(1e3, 1e6, 0.03, 2).unwrap();
        let mut hits = 0;
        while let Some(rate) = s.next_rate() {
            hits += 1;
            // Every third trial is disturbed.
            s.came_out((rate > 5e5 || hits % 3 == 0).then(|| Limiter::Slo(String::new())));
        }
        assert!(s.knee().rate.unwrap() > 4.8e5);
    }

    #[test]
    fn a_sink_of_fixed_service_time_has_its_knee_at_its_capacity() {
        for service_ns in [50_000, 333_000] {
            let capacity = 1e9 / service_ns as f64;
            let slo: Slo = "p99<2ms".parse().unwrap();
            let mut s = Search::new(1000.0, 1e6, 0.02, 1).unwrap();
            while let Some(rate) = s.next_rate() {
                let load = sim::Load { rate, secs: 3.0, ..sim::Load::default() };
                let (out, totals) = sim::run(&load, sim::Sink { service_ns, ..sim::Sink::default() });
                let checked = slo.check(&totals, &out.counts, sent_share(out.due, out.counts.sent));
                s.came_out((checked.holds != Some(true)).then_some(Limiter::Slo(checked.slo)));
            }
            let rate = s.knee().rate.unwrap();
            assert!((rate / capacity - 1.0).abs() < 0.05, "service {service_ns} ns: {rate} of {capacity}");
        }
    }

    #[test]
    fn what_limits_is_told_apart() {
        let trial = |exit_code, blocked_share, deadline, backlog_share| {
            let t = Trial { exit_code, blocked_share, deadline, backlog_share, ..Trial::default() };
            t.limiter().map(|l| l.name())
        };
        assert_eq!(trial(0, 0.9, false, 0.0), None);
        assert_eq!(trial(3, 0.0, false, 0.0), Some("SLO"));
        assert_eq!(trial(4, 0.0, true, 0.0), Some("loss"));
        assert_eq!(trial(4, 0.0, true, 0.4), Some("backlog"));
        assert_eq!(trial(5, 0.5, true, 0.0), Some("backlog"));
        assert_eq!(trial(5, 0.0, false, 0.0), Some("the generator itself"));
    }
}
