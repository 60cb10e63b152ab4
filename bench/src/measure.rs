//! Rounds: floor, Squall, floor, Squall …, and what is made of them.
//!
//! Of `p50`, `p90` and `rate` the median over rounds is shown, of the percentiles above the minimum over rounds (one
//! disturbed round must not paint the tail), of `max` the maximum. Ratios are Squall ÷ floor of those figures.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_engine::WaitStrategy;
use squall_metrics::{Histogram, Percentiles};

use crate::error::BenchError;
use crate::machine::{Machine, load};
use crate::scenario::{Row, Scenario};
use crate::{floor, probe, squall_side};

/// A round's warm-up is a quarter of its measured time, at most this.
const WARMUP_MAX: Duration = Duration::from_millis(250);

/// Bytes of wordcount's text unless the command line says otherwise.
pub(crate) const TEXT_BYTES: u64 = 200_000_000;

/// How long and how often.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) rounds: u32,
    /// Measured time of one round of one side.
    pub(crate) slice: Duration,
    pub(crate) warmup: Duration,
    pub(crate) wait: WaitStrategy,
    /// Bytes of wordcount's text.
    pub(crate) text_bytes: u64,
}

impl Settings {
    /// `secs` are the measured seconds of a row over all rounds and both sides.
    pub(crate) fn new(secs: f64, rounds: u32, wait: WaitStrategy) -> Result<Settings, BenchError> {
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
    /// Tuples (words) per second, where it measures that.
    pub(crate) rate: Option<f64>,
    /// Tuples emitted by the spout, warm-up included.
    pub(crate) emitted: u64,
    pub(crate) counters: Counters,
}

/// What Squall's side counted in a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// All tuples ÷ batches over links. Absent where nothing leaves the reactor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tuples_per_batch: Option<f64>,
    /// System calls of the I/O drivers.
    pub(crate) syscalls_per_tuple: f64,
    /// Wake-ups sent to sleeping reactors.
    pub(crate) wakeups: u64,
    /// Bytes moved out of links because a component was paused.
    pub(crate) moved_bytes: u64,
    /// CPU time ÷ time, of the busiest worker process, start and end of the run included.
    pub(crate) cpu_cores_per_worker: f64,
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
    /// Lowest and highest `p50`, or `rate`, of a round.
    pub(crate) spread: Option<(f64, f64)>,
}

impl Side {
    fn of(rounds: &[Outcome]) -> Side {
        let latencies: Vec<Percentiles> =
            rounds.iter().filter_map(|r| r.latency.as_ref().map(Histogram::percentiles)).collect();
        let each = |f: fn(&Percentiles) -> Option<u64>| -> Vec<f64> {
            latencies.iter().filter_map(|p| f(p).map(|v| v as f64)).collect()
        };
        let rates: Vec<f64> = rounds.iter().filter_map(|r| r.rate).collect();
        let p50 = each(|p| p.p50);
        Side {
            p50: median(&p50),
            p90: median(&each(|p| p.p90)),
            p99: lowest(&each(|p| p.p99)),
            p999: lowest(&each(|p| p.p999)),
            p9999: lowest(&each(|p| p.p9999)),
            max: highest(&each(|p| p.max)),
            rate: median(&rates),
            spread: span(if rates.is_empty() { &p50 } else { &rates }),
        }
    }
}

/// A row's figures.
#[derive(Debug, Clone)]
pub(crate) struct RowResult {
    pub(crate) row: Row,
    pub(crate) rounds: u32,
    pub(crate) slice: Duration,
    pub(crate) wait: WaitStrategy,
    /// Before and after; absent on a machine with one core.
    pub(crate) probe_ns: Option<[u64; 2]>,
    pub(crate) load: [f64; 2],
    pub(crate) squall: Side,
    pub(crate) floor: Side,
    pub(crate) counters: Counters,
}

impl RowResult {
    /// The cores were far apart before or after.
    pub(crate) fn far(&self) -> bool {
        self.probe_ns.is_some_and(|p| p.iter().any(|ns| *ns > probe::FAR_NS))
    }

    /// Squall ÷ floor.
    pub(crate) fn ratio(&self, of: fn(&Side) -> Option<f64>) -> Option<f64> {
        Some(of(&self.squall)? / of(&self.floor)?)
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self.row.scenario {
            Scenario::Rtt(_) => "ns",
            Scenario::ConstNull => "tuples/s",
            Scenario::WordCount => "words/s",
        }
    }
}

/// Measures one row.
pub(crate) fn row(row: &Row, settings: &Settings, machine: &Machine) -> Result<RowResult, BenchError> {
    let pair = machine.pair();
    let probe = |pair: &Result<[usize; 2], BenchError>| pair.as_ref().ok().map(|p| probe::round_trip_ns(*p));
    let (load_before, probe_before) = (load(), probe(&pair));
    let mut floors = Vec::new();
    let mut squalls = Vec::new();
    for _ in 0..settings.rounds {
        floors.push(floor::run(row, settings, machine)?);
        squalls.push(squall_side::run(row, settings, machine)?);
    }
    let probe_after = probe(&pair);
    Ok(RowResult {
        row: row.clone(),
        rounds: settings.rounds,
        slice: settings.slice,
        wait: settings.wait,
        probe_ns: probe_before.zip(probe_after).map(|(a, b)| [a, b]),
        load: [load_before, load()],
        squall: Side::of(&squalls),
        floor: Side::of(&floors),
        counters: median_round(&squalls),
    })
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
        let side = Side::of(&[latency(100), disturbed, latency(200)]);
        assert_eq!(side.p50, Some(200.0));
        assert_eq!(side.p99, Some(100.0));
        let max = side.max.unwrap();
        assert!((90_000.0..90_100.0).contains(&max), "{max}");
        assert_eq!(side.spread, Some((100.0, 300.0)));
        assert_eq!(side.rate, None);
    }

    #[test]
    fn of_an_even_number_of_rounds_the_median_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 8.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn measured_time_is_shared_by_both_sides_and_all_rounds() {
        let s = Settings::new(6.0, 5, WaitStrategy::Spin).unwrap();
        assert_eq!(s.slice, Duration::from_millis(600));
        assert!(s.warmup * 2 * s.rounds <= Duration::from_secs(3));
        assert!(Settings::new(6.0, 4, WaitStrategy::Spin).is_err());
        assert!(Settings::new(f64::NAN, 5, WaitStrategy::Spin).is_err());
    }
}
