//! Rounds: floor, Squall, floor, Squall …, and what is made of them.
//!
//! Of `p50`, `p90` and `rate` the median over rounds is shown, of the percentiles above the minimum over rounds (one
//! disturbed round must not paint the tail), of `max` the maximum. Ratios are Squall ÷ floor of those figures. A percentile
//! for which a round has too few samples (ten beyond it) is that of all rounds together.
//!
//! A row's measured time is shared by both sides and all rounds. Warm-up is a quarter of it; starting processes and
//! reactors takes some milliseconds a round.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use squall_engine::WaitStrategy;
use squall_metrics::{Histogram, Percentiles};

use crate::error::BenchError;
use crate::machine::{Machine, load};
use crate::scenario::{Row, Unit};
use crate::{facts, floor, squall_side};

/// A round's warm-up is a quarter of its measured time, at most this.
const WARMUP_MAX: Duration = Duration::from_millis(250);

/// Times that a round in which nothing was measured is taken again.
const RETAKES_MAX: u32 = 3;

/// Bytes of wordcount's text unless the command line says otherwise.
pub(crate) const TEXT_BYTES: u64 = 200_000_000;

/// Silence before each tuple of idle.
const SILENCE: Duration = Duration::from_millis(100);

/// How long and how often.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) rounds: u32,
    /// Measured time of one round of one side.
    pub(crate) slice: Duration,
    pub(crate) warmup: Duration,
    /// `None`: each scenario's own.
    pub(crate) wait: Option<WaitStrategy>,
    /// Bytes of wordcount's text.
    pub(crate) text_bytes: u64,
}

impl Settings {
    /// What the reactors of a row do when they have nothing to do.
    pub(crate) fn wait(&self, row: &Row) -> WaitStrategy {
        self.wait.unwrap_or(row.scenario.wait())
    }

    /// 100 ms, or less where a round is so short that it would see less than five.
    pub(crate) fn silence(&self) -> Duration {
        SILENCE.min(self.slice / 5)
    }

    /// `secs` are the measured seconds of a row over all rounds and both sides.
    pub(crate) fn new(secs: f64, rounds: u32, wait: Option<WaitStrategy>) -> Result<Settings, BenchError> {
        if !(0.1..=3600.0).contains(&secs) {
            return Err(BenchError::Secs(secs));
        }
        if !(5..=1000).contains(&rounds) {
            return Err(BenchError::Rounds(rounds));
        }
        let slice = Duration::from_secs_f64(secs / f64::from(2 * rounds));
        Ok(Settings { rounds, slice, warmup: (slice / 4).min(WARMUP_MAX), wait, text_bytes: TEXT_BYTES })
    }
}

/// One round of one side.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Latencies, where the scenario measures them.
    pub(crate) latency: Option<Histogram>,
    /// The same tuples from the time at which they were due, where that is another.
    pub(crate) due: Option<Histogram>,
    /// Tuples (words) per second, where it measures that.
    pub(crate) rate: Option<f64>,
    /// Tuples emitted by the spout, warm-up included.
    pub(crate) emitted: u64,
    pub(crate) counters: Counters,
}

/// What Squall's side counted in a round. A tuple is one emit of any component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Copies of a tuple's bytes on its way from one reactor to another, the serialization into its batch not counted.
    /// `None` where nothing leaves the reactor.
    pub(crate) copies_per_tuple: Option<f64>,
    /// How often a tuple was written into a batch.
    pub(crate) serializations_per_tuple: Option<f64>,
    /// Tuples ÷ batches, over links. `None` where nothing leaves the reactor.
    pub(crate) tuples_per_batch: Option<f64>,
    /// System calls of the I/O drivers ÷ tuples emitted by spouts.
    pub(crate) syscalls_per_tuple: f64,
    /// Wake-ups sent to sleeping reactors.
    pub(crate) wakeups: u64,
    /// Zero-copy sends, and those of them that the kernel copied all the same.
    pub(crate) zc_sent: u64,
    pub(crate) zc_copied: u64,
    /// Times a component was held back because a link had no credit.
    pub(crate) credit_stalls: u64,
    /// CPU time ÷ time while the spouts ran, of the busiest worker.
    pub(crate) cpu_cores_per_worker: f64,
    /// Bytes moved out of links because a component was paused. For people only.
    #[serde(skip)]
    pub(crate) moved_bytes: u64,
}

/// A side's figures over its rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Side {
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p999: Option<f64>,
    pub(crate) p9999: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) rate: Option<f64>,
    /// Lowest and highest of a round.
    pub(crate) spread: Spread,
}

/// How far apart the rounds of a side lie.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Spread {
    pub(crate) p50: Option<(f64, f64)>,
    pub(crate) p99: Option<(f64, f64)>,
    pub(crate) rate: Option<(f64, f64)>,
}

impl Side {
    /// `latency` picks the histogram of a round that counts.
    fn of(rounds: &[Outcome], latency: fn(&Outcome) -> Option<&Histogram>) -> Side {
        let histograms: Vec<&Histogram> = rounds.iter().filter_map(latency).collect();
        let mut all = Histogram::new();
        histograms.iter().for_each(|h| all.merge(h));
        let all = all.percentiles();
        let latencies: Vec<Percentiles> = histograms.iter().map(|h| h.percentiles()).collect();
        let each = |f: fn(&Percentiles) -> Option<u64>| -> Vec<f64> {
            let of_rounds: Option<Vec<f64>> = latencies.iter().map(|p| f(p).map(|v| v as f64)).collect();
            of_rounds.unwrap_or_else(|| f(&all).map(|v| v as f64).into_iter().collect())
        };
        let rates: Vec<f64> = rounds.iter().filter_map(|r| r.rate).collect();
        let (p50, p99) = (each(|p| p.p50), each(|p| p.p99));
        Side {
            p50: median(&p50),
            p90: median(&each(|p| p.p90)),
            p99: lowest(&p99),
            p999: lowest(&each(|p| p.p999)),
            p9999: lowest(&each(|p| p.p9999)),
            max: highest(&each(|p| p.max)),
            rate: median(&rates),
            spread: Spread { p50: span(&p50), p99: span(&p99), rate: span(&rates) },
        }
    }
}

/// Squall's figures and the floor's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sides {
    pub(crate) squall: Side,
    pub(crate) floor: Side,
}

impl Sides {
    /// Squall ÷ floor.
    pub(crate) fn ratio(&self, of: fn(&Side) -> Option<f64>) -> Option<f64> {
        Some(of(&self.squall)? / of(&self.floor)?)
    }
}

/// A row's figures.
#[derive(Debug, Clone)]
pub(crate) struct RowResult {
    pub(crate) row: Row,
    pub(crate) rounds: u32,
    pub(crate) slice: Duration,
    /// What the whole row took, warm-up and start-up included.
    pub(crate) took: Duration,
    pub(crate) wait: WaitStrategy,
    /// Before and after; absent on a machine with one core.
    pub(crate) probe_ns: Option<[u64; 2]>,
    pub(crate) load: [f64; 2],
    pub(crate) sides: Sides,
    /// The same from the time at which tuples were due, where that is another.
    pub(crate) due: Option<Sides>,
    pub(crate) counters: Counters,
}

impl RowResult {
    /// The cores were far apart before or after.
    pub(crate) fn far(&self) -> bool {
        self.probe_ns.is_some_and(|p| p.iter().any(|ns| *ns > squall_machine::FAR_NS))
    }

    /// Why the row says nothing: the floor was too slow, though the cores were near.
    pub(crate) fn void(&self) -> Option<String> {
        if self.far() || self.probe_ns.is_none() {
            return None;
        }
        facts::too_slow(&self.row, &self.sides.floor)
    }

    pub(crate) fn unit(&self) -> Unit {
        self.row.scenario.unit()
    }
}

/// Measures one row.
pub(crate) fn row(row: &Row, settings: &Settings, machine: &Machine) -> Result<RowResult, BenchError> {
    let began = Instant::now();
    let pair = crate::machine::pair(machine);
    let probe = |pair: &Result<[usize; 2], BenchError>| pair.as_ref().ok().map(|p| squall_machine::round_trip_ns(*p));
    let (load_before, probe_before) = (load(), probe(&pair));
    let mut floors = Vec::new();
    let mut squalls = Vec::new();
    for _ in 0..settings.rounds {
        floors.push(round(settings, |s| floor::run(row, s, machine))?);
        squalls.push(round(settings, |s| squall_side::run(row, s, machine))?);
    }
    let probe_after = probe(&pair);
    let sides = |latency: fn(&Outcome) -> Option<&Histogram>| Sides {
        squall: Side::of(&squalls, latency),
        floor: Side::of(&floors, latency),
    };
    let has_due = squalls.iter().any(|o| o.due.is_some());
    Ok(RowResult {
        row: row.clone(),
        rounds: settings.rounds,
        slice: settings.slice,
        took: began.elapsed(),
        wait: settings.wait(row),
        probe_ns: probe_before.zip(probe_after).map(|(a, b)| [a, b]),
        load: [load_before, load()],
        sides: sides(|o| o.latency.as_ref()),
        due: has_due.then(|| sides(|o| o.due.as_ref())),
        counters: median_round(&squalls),
    })
}

/// One round of one side. On a machine so busy that nothing was measured in its time, it is taken again with more.
fn round(settings: &Settings, side: impl Fn(&Settings) -> Result<Outcome, BenchError>) -> Result<Outcome, BenchError> {
    let mut settings = settings.clone();
    for _ in 0..RETAKES_MAX {
        match side(&settings) {
            Err(BenchError::TooShort) => settings.slice *= 4,
            taken => return taken,
        }
    }
    side(&settings)
}

/// Counters of the round with the median rate or p50.
fn median_round(rounds: &[Outcome]) -> Counters {
    let figure = |o: &Outcome| {
        let p50 = || o.latency.as_ref().and_then(|h| h.percentiles().p50).map(|v| v as f64);
        o.rate.or_else(p50).unwrap_or(0.0)
    };
    let mut order: Vec<&Outcome> = rounds.iter().collect();
    order.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
    order.get(order.len() / 2).map(|o| o.counters).unwrap_or_default()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    v
}

fn median(values: &[f64]) -> Option<f64> {
    let v = sorted(values);
    let (low, high) = (v.get(v.len().checked_sub(1)? / 2)?, v.get(v.len() / 2)?);
    Some((low + high) / 2.0)
}

fn lowest(values: &[f64]) -> Option<f64> {
    sorted(values).first().copied()
}

fn highest(values: &[f64]) -> Option<f64> {
    sorted(values).last().copied()
}

fn span(values: &[f64]) -> Option<(f64, f64)> {
    lowest(values).zip(highest(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(ns: u64) -> Outcome {
        let mut h = Histogram::new();
        h.record_n(ns, 10_000);
        Outcome { latency: Some(h), ..Outcome::default() }
    }

    #[test]
    fn the_middle_is_the_median_and_the_tail_the_least_disturbed_round() {
        let mut disturbed = latency(300);
        disturbed.latency.as_mut().unwrap().record_n(90_000, 300);
        let side = Side::of(&[latency(100), disturbed, latency(200)], |o| o.latency.as_ref());
        assert_eq!(side.p50, Some(200.0));
        assert_eq!(side.p99, Some(100.0));
        let max = side.max.unwrap();
        assert!((90_000.0..90_100.0).contains(&max), "{max}");
        assert_eq!(side.spread.p50, Some((100.0, 300.0)));
        assert!(side.spread.p99.unwrap().1 > 80_000.0, "the disturbed round shows in the spread");
        assert_eq!(side.rate, None);
    }

    #[test]
    fn a_round_that_measured_nothing_is_taken_again_with_more_time_and_not_for_ever() {
        let settings = Settings::new(1.0, 5, None).unwrap();
        let slices = std::cell::RefCell::new(Vec::new());
        let busy = |s: &Settings| -> Result<Outcome, BenchError> {
            slices.borrow_mut().push(s.slice / settings.slice.as_millis() as u32);
            if slices.borrow().len() == 3 { Ok(Outcome::default()) } else { Err(BenchError::TooShort) }
        };
        assert!(round(&settings, busy).is_ok());
        assert_eq!(*slices.borrow(), [1, 4, 16].map(Duration::from_millis));
        assert!(matches!(round(&settings, |_| Err(BenchError::TooShort)), Err(BenchError::TooShort)));
    }

    #[test]
    fn rounds_with_too_few_samples_for_a_percentile_have_it_together() {
        let few = |ns: u64| {
            let mut h = Histogram::new();
            h.record_n(ns, 6);
            Outcome { latency: Some(h), ..Outcome::default() }
        };
        let side = Side::of(&[few(100), few(100), few(100), few(200), few(200)], |o| o.latency.as_ref());
        assert_eq!((side.p50, side.p99), (Some(100.0), None));
    }

    #[test]
    fn of_an_even_number_of_rounds_the_median_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 8.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn measured_time_is_shared_by_both_sides_and_all_rounds() {
        let s = Settings::new(6.0, 5, None).unwrap();
        assert_eq!(s.slice, Duration::from_millis(600));
        assert!(s.warmup * 2 * s.rounds <= Duration::from_secs(3));
        assert!(Settings::new(6.0, 4, None).is_err());
        assert!(Settings::new(f64::NAN, 5, None).is_err());
    }
}
