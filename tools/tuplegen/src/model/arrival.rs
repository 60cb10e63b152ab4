//! When tuples are due: a schedule as offsets from the start of the load, in nanoseconds, ascending.
//!
//! Written as `constant`, `poisson`, `burst:N[:GAP]`, `ramp:A..B`, `step:A..B:STEP:HOLD`, `sine:MEAN:AMP:PERIOD`, `onoff:ON:OFF`, `gamma:CV`,
//! `trace:FILE`, and `captured` of a storm-loadgen capture. Ramp, step and sine have their own rates; the others have the run's, which is the average also of bursts and of on and
//! off.

use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::capture::Times;
use super::rng::Rng;
use super::units::{parse_count, parse_duration_ns, parse_number};

/// How tuples follow each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrival {
    /// At equal intervals.
    Constant,
    /// Independent of each other: exponential intervals.
    Poisson,
    /// So many at once, or at this gap, and then none until the average is right.
    Burst {
        /// Tuples of a burst.
        count: u64,
        /// From one to the next within it.
        gap_ns: u64,
    },
    /// From one rate to another over the length of the load.
    Ramp {
        /// Tuples a second at the start.
        from: f64,
        /// And at the end.
        to: f64,
    },
    /// Rates in steps; the last one stays.
    Step {
        /// The first rate.
        from: f64,
        /// The last one.
        to: f64,
        /// From one to the next.
        step: f64,
        /// How long each is held.
        hold_ns: u64,
    },
    /// A rate that swings.
    Sine {
        /// Its mean.
        mean: f64,
        /// How far it swings, at most the mean.
        amplitude: f64,
        /// How long a swing takes.
        period_ns: u64,
    },
    /// On and off in turn; while on, the rate is such that the average is the run's.
    OnOff {
        /// Length of on.
        on_ns: u64,
        /// Length of off.
        off_ns: u64,
    },
    /// Gamma-distributed intervals: a coefficient of variation of 1 is Poisson, 0 constant, above 1 bursty.
    Gamma {
        /// Coefficient of variation.
        cv: f64,
    },
    /// As a trace has it.
    Trace(String),
    /// As the spouts of a capture emit.
    Captured,
}

impl Arrival {
    /// Whether it has rates of its own, so that the run can have none.
    pub fn has_rate(&self) -> bool {
        matches!(self, Arrival::Ramp { .. } | Arrival::Step { .. } | Arrival::Sine { .. } | Arrival::Trace(_))
    }
}

impl FromStr for Arrival {
    type Err = String;

    fn from_str(text: &str) -> Result<Arrival, String> {
        let forms = "constant, poisson, burst:N[:GAP], ramp:A..B, step:A..B:STEP:HOLD, sine:MEAN:AMP:PERIOD, onoff:ON:OFF, gamma:CV, trace:FILE";
        let wrong = || format!("`{text}` is no way of arriving: write one of {forms}");
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        if name == "trace" && !rest.is_empty() {
            return Ok(Arrival::Trace(rest.to_owned()));
        }
        let args: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split(':').collect() };
        let range = |text: &str| -> Result<(f64, f64), String> {
            let (a, b) = text.split_once("..").ok_or_else(wrong)?;
            Ok((parse_number(a)?, parse_number(b)?))
        };
        let positive = |n: f64| if n > 0.0 { Ok(n) } else { Err(wrong()) };
        let length = |text: &str| parse_duration_ns(text).and_then(|ns| if ns > 0 { Ok(ns) } else { Err(wrong()) });
        Ok(match (name, &args[..]) {
            ("constant", []) => Arrival::Constant,
            ("poisson", []) => Arrival::Poisson,
            ("captured", []) => Arrival::Captured,
            ("burst", [n]) => Arrival::Burst { count: parse_count(n)?.max(1), gap_ns: 0 },
            ("burst", [n, gap]) => Arrival::Burst { count: parse_count(n)?.max(1), gap_ns: parse_duration_ns(gap)? },
            ("ramp", [ab]) => {
                let (from, to) = range(ab)?;
                positive(from + to)?;
                Arrival::Ramp { from, to }
            }
            ("step", [ab, step, hold]) => {
                let (from, to) = range(ab)?;
                positive(from)?;
                positive(to)?;
                Arrival::Step { from, to, step: positive(parse_number(step)?)?, hold_ns: length(hold)? }
            }
            ("sine", [mean, amp, period]) => {
                let (mean, amplitude) = (positive(parse_number(mean)?)?, parse_number(amp)?);
                if amplitude > mean {
                    return Err(format!("`{text}`: the rate would be below 0; swing by at most the mean"));
                }
                Arrival::Sine { mean, amplitude, period_ns: length(period)? }
            }
            ("onoff", [on, off]) => Arrival::OnOff { on_ns: length(on)?, off_ns: parse_duration_ns(off)? },
            ("gamma", [cv]) => Arrival::Gamma { cv: positive(parse_number(cv)?)? },
            _ => return Err(wrong()),
        })
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arrival::Constant => f.write_str("constant"),
            Arrival::Poisson => f.write_str("poisson"),
            Arrival::Captured => f.write_str("captured"),
            Arrival::Burst { count, gap_ns: 0 } => write!(f, "burst:{count}"),
            Arrival::Burst { count, gap_ns } => write!(f, "burst:{count}:{gap_ns}ns"),
            Arrival::Ramp { from, to } => write!(f, "ramp:{from}..{to}"),
            Arrival::Step { from, to, step, hold_ns } => write!(f, "step:{from}..{to}:{step}:{hold_ns}ns"),
            Arrival::Sine { mean, amplitude, period_ns } => write!(f, "sine:{mean}:{amplitude}:{period_ns}ns"),
            Arrival::OnOff { on_ns, off_ns } => write!(f, "onoff:{on_ns}ns:{off_ns}ns"),
            Arrival::Gamma { cv } => write!(f, "gamma:{cv}"),
            Arrival::Trace(file) => write!(f, "trace:{file}"),
        }
    }
}

/// The times at which tuples are due.
#[derive(Debug, Clone)]
pub struct Schedule {
    kind: Kind,
    rng: Rng,
    n: u64,
    /// Sum of random intervals, in nanoseconds.
    at: f64,
    end_ns: u64,
    count: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Constant { period: f64 },
    Random { period: f64, shape: Option<f64> },
    Burst { period: f64, count: u64, gap_ns: u64 },
    Curve(Curve),
    OnOff { period: f64, on: f64, cycle: f64 },
    Trace(Arc<[u64]>),
    Captured(Box<Times>),
}

/// Tuples due since the start, as a function of time, that is inverted by bisection.
#[derive(Debug, Clone)]
enum Curve {
    Ramp { from: f64, to: f64, length: f64 },
    Step { from: f64, to: f64, step: f64, hold: f64 },
    Sine { mean: f64, amplitude: f64, period: f64 },
}

impl Curve {
    /// Tuples due after so many seconds.
    fn total(&self, t: f64) -> f64 {
        match *self {
            Curve::Ramp { from, to, length } => {
                let within = t.min(length);
                from * within + (to - from) * within * within / (2.0 * length) + to * (t - within)
            }
            Curve::Step { from, to, step, hold } => {
                let last = ((to - from).abs() / step).floor();
                let up = if to < from { -step } else { step };
                let whole = (t / hold).floor().min(last);
                let before = hold * (whole * from + up * whole * (whole - 1.0).max(0.0) / 2.0);
                before + (from + up * whole) * (t - whole * hold)
            }
            Curve::Sine { mean, amplitude, period } => {
                mean * t + amplitude * period / TAU * (1.0 - (TAU * t / period).cos())
            }
        }
    }

    /// When the `n`-th is due, from `t` on, in seconds.
    fn when(&self, n: f64, t: f64) -> f64 {
        let mut high = t + 1e-6;
        let mut grow = 1e-6;
        while self.total(high) < n {
            grow *= 2.0;
            high += grow;
            if grow > 1e9 {
                return f64::INFINITY;
            }
        }
        let mut low = t;
        // Below a nanosecond.
        while high - low > 2e-10 {
            let mid = (low + high) / 2.0;
            if self.total(mid) < n {
                low = mid
            } else {
                high = mid
            }
            if mid == low && mid == high {
                break;
            }
        }
        high
    }
}

/// How long a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// Tuples due before this offset.
    pub end_ns: u64,
    /// And at most so many.
    pub count: u64,
}

impl Schedule {
    /// The schedule of an arrival at `rate` tuples a second; `trace` has the offsets of [`Arrival::Trace`].
    ///
    /// # Errors
    /// When the rate is none, or there is no trace.
    pub fn new(
        arrival: &Arrival,
        rate: f64,
        length: Length,
        seed: u64,
        trace: Option<Arc<[u64]>>,
    ) -> Result<Schedule, String> {
        let possible = rate > 0.0 && rate <= 1e9;
        if !arrival.has_rate() && !possible {
            return Err(format!(
                "a rate of {rate} tuples a second cannot be scheduled: give more than 0 and at most 1G"
            ));
        }
        let period = 1e9 / rate;
        let kind = match *arrival {
            Arrival::Constant => Kind::Constant { period },
            Arrival::Poisson => Kind::Random { period, shape: None },
            Arrival::Gamma { cv } => Kind::Random { period, shape: Some(1.0 / (cv * cv)) },
            Arrival::Burst { count, gap_ns } => {
                if gap_ns as f64 > period {
                    return Err(
                        "the gap within a burst is longer than the average interval: no burst; lower it".to_owned()
                    );
                }
                Kind::Burst { period, count, gap_ns }
            }
            Arrival::OnOff { on_ns, off_ns } => {
                let cycle = (on_ns + off_ns) as f64;
                Kind::OnOff { period: period * on_ns as f64 / cycle, on: on_ns as f64, cycle }
            }
            Arrival::Ramp { from, to } => {
                if length.end_ns == u64::MAX {
                    return Err("a ramp needs the length of the load: give --duration".to_owned());
                }
                Kind::Curve(Curve::Ramp { from, to, length: length.end_ns as f64 / 1e9 })
            }
            Arrival::Step { from, to, step, hold_ns } => {
                Kind::Curve(Curve::Step { from, to, step, hold: hold_ns as f64 / 1e9 })
            }
            Arrival::Sine { mean, amplitude, period_ns } => {
                Kind::Curve(Curve::Sine { mean, amplitude, period: period_ns as f64 / 1e9 })
            }
            Arrival::Captured => return Err("only a capture arrives as captured: give --capture".to_owned()),
            Arrival::Trace(ref file) => Kind::Trace(trace.ok_or_else(|| format!("the trace {file} was not read"))?),
        };
        Ok(Schedule { kind, rng: Rng::new(seed, 1), n: 0, at: 0.0, end_ns: length.end_ns, count: length.count })
    }

    /// As the spouts of a capture emit.
    pub fn captured(times: Times, length: Length) -> Schedule {
        let kind = Kind::Captured(Box::new(times));
        Schedule { kind, rng: Rng::new(0, 1), n: 0, at: 0.0, end_ns: length.end_ns, count: length.count }
    }

    /// Offset of the next tuple; `None`: that was the last one.
    #[inline]
    pub fn next_ns(&mut self) -> Option<u64> {
        if self.n >= self.count {
            return None;
        }
        let due = self.due()?;
        if due >= self.end_ns {
            self.n = self.count;
            return None;
        }
        self.n += 1;
        Some(due)
    }

    #[inline]
    fn due(&mut self) -> Option<u64> {
        let n = self.n;
        Some(match &mut self.kind {
            Kind::Constant { period } => (n as f64 * *period) as u64,
            Kind::Random { period, shape } => {
                let gap = match shape {
                    None => self.rng.exponential(),
                    Some(shape) => self.rng.gamma(*shape),
                };
                self.at += gap * *period;
                self.at as u64
            }
            Kind::Burst { period, count, gap_ns } => {
                (((n / *count) * *count) as f64 * *period) as u64 + (n % *count) * *gap_ns
            }
            Kind::OnOff { period, on, cycle } => {
                let t = n as f64 * *period;
                let cycles = (t / *on).floor();
                (cycles * *cycle + (t - cycles * *on)) as u64
            }
            Kind::Curve(curve) => {
                if n > 0 {
                    self.at = curve.when(n as f64, self.at);
                }
                (self.at * 1e9) as u64
            }
            Kind::Trace(offsets) => *offsets.get(usize::try_from(n).ok()?)?,
            Kind::Captured(times) => times.next()?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn offsets(arrival: &str, rate: f64, secs: u64) -> Vec<u64> {
        let length = Length { end_ns: secs * SECOND, count: u64::MAX };
        let mut s = Schedule::new(&arrival.parse().unwrap(), rate, length, 3, None).unwrap();
        std::iter::from_fn(|| s.next_ns()).collect()
    }

    fn in_window(all: &[u64], from: u64, to: u64) -> usize {
        all.iter().filter(|t| (from..to).contains(*t)).count()
    }

    #[test]
    fn a_constant_load_has_each_tuple_at_its_place_however_long_it_is() {
        let all = offsets("constant", 30_000.0, 10);
        assert_eq!(all.len(), 300_000);
        assert_eq!((all[3], all[299_997]), (100_000, 9_999_900_000));
    }

    #[test]
    fn every_arrival_is_ascending_and_has_its_average_rate() {
        for (arrival, per_second, slack) in [
            ("constant", 5_000.0, 1.0),
            ("poisson", 5_000.0, 300.0),
            ("gamma:0.5", 5_000.0, 300.0),
            ("gamma:3", 5_000.0, 1500.0),
            ("burst:100", 5_000.0, 100.0),
            ("burst:100:10us", 5_000.0, 100.0),
            ("onoff:50ms:150ms", 5_000.0, 20.0),
            ("ramp:0..10k", 5_000.0, 1.0),
            ("step:2k..8k:2k:1s", 5_000.0, 1.0),
            ("sine:5k:4k:1s", 5_000.0, 1.0),
        ] {
            let all = offsets(arrival, 5_000.0, 4);
            assert!(all.is_sorted(), "{arrival}");
            let rate = all.len() as f64 / 4.0;
            assert!((rate - per_second).abs() <= slack, "{arrival}: {rate}");
        }
    }

    #[test]
    fn intervals_of_poisson_are_exponential() {
        let all = offsets("poisson", 100_000.0, 2);
        let mut gaps: Vec<f64> = all.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        gaps.sort_by(f64::total_cmp);
        let n = gaps.len() as f64;
        // Kolmogorov and Smirnov's distance; 1.63 / √n has one chance in a hundred, and the seed is fixed.
        let distance = gaps
            .iter()
            .enumerate()
            .map(|(i, g)| ((1.0 - (-g / 10_000.0).exp()) - i as f64 / n).abs())
            .fold(0.0, f64::max);
        assert!(distance < 1.63 / n.sqrt(), "{distance}");
    }

    #[test]
    fn shapes_are_where_they_should_be() {
        let burst = offsets("burst:100:10us", 1_000.0, 1);
        assert_eq!((burst[0], burst[99], burst[100]), (0, 990_000, 100_000_000));
        let onoff = offsets("onoff:50ms:150ms", 1_000.0, 1);
        assert!(onoff.iter().all(|t| t % 200_000_000 < 50_000_000));
        let step = offsets("step:1k..3k:1k:1s", 0.0, 4);
        let per_second = [0, 1, 2, 3].map(|s| in_window(&step, s * SECOND, (s + 1) * SECOND));
        assert_eq!(per_second, [1000, 2000, 3000, 3000]);
        let down = offsets("step:3k..1k:1k:1s", 0.0, 3);
        assert_eq!([0, 1, 2].map(|s| in_window(&down, s * SECOND, (s + 1) * SECOND)), [3000, 2000, 1000]);
        let ramp = offsets("ramp:0..2k", 0.0, 2);
        assert_eq!(in_window(&ramp, 0, SECOND), 500);
        let sine = offsets("sine:1k:1k:1s", 0.0, 1);
        assert!(in_window(&sine, 0, SECOND / 2) > 2 * in_window(&sine, SECOND / 2, SECOND));
    }

    #[test]
    fn a_count_ends_the_load_and_a_seed_repeats_it() {
        let length = Length { end_ns: u64::MAX, count: 10 };
        let run = |seed| {
            let mut s = Schedule::new(&Arrival::Poisson, 1e6, length, seed, None).unwrap();
            std::iter::from_fn(move || s.next_ns()).collect::<Vec<_>>()
        };
        assert_eq!(run(1).len(), 10);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn arrivals_are_read_as_they_are_written_and_others_are_refused() {
        for text in [
            "constant",
            "poisson",
            "captured",
            "burst:5",
            "burst:5:10ns",
            "ramp:1..2",
            "step:1..2:1:5ns",
            "sine:2:1:5ns",
            "onoff:1ns:2ns",
            "gamma:2",
            "trace:a/b:c",
        ] {
            assert_eq!(text.parse::<Arrival>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "steady",
            "burst",
            "burst:x",
            "ramp:1",
            "sine:1:2:1s",
            "gamma:0",
            "onoff:0s:1s",
            "trace:",
            "step:1..2:0:1s",
        ] {
            assert!(text.parse::<Arrival>().is_err(), "{text}");
        }
        let length = Length { end_ns: u64::MAX, count: 5 };
        assert!(Schedule::new(&"ramp:1..2".parse().unwrap(), 0.0, length, 0, None).is_err());
        assert!(Schedule::new(&Arrival::Constant, 0.0, length, 0, None).is_err());
    }
}
