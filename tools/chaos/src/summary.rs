//! What faults came to, in figures.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{Disturbed, Done, Kind};

/// Of some durations, in milliseconds; `None` of none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of them took no longer.
    pub p50: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

impl Percentiles {
    /// Of durations in nanoseconds.
    pub fn of_ns(took_ns: impl Iterator<Item = u64>) -> Percentiles {
        let mut took: Vec<u64> = took_ns.collect();
        took.sort_unstable();
        let at =
            |share: f64| took.get(((took.len() as f64 * share).ceil() as usize).saturating_sub(1)).map(|ns| ms(*ns));
        Percentiles { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

fn ms(ns: u64) -> f64 {
    (ns as f64 / 1e4).round() / 1e2
}

impl Done {
    /// How long it took until what was under way went on: from the fault, for a stopped worker from its detection.
    pub fn recovery_ns(&self) -> u64 {
        let from_ns = self.detected_ns.filter(|_| self.kind == Kind::Stop).unwrap_or(self.fault_ns);
        self.recovered_ns.saturating_sub(from_ns)
    }

    /// From the fault until the runner knew.
    pub fn detection_ns(&self) -> Option<u64> {
        Some(self.detected_ns?.saturating_sub(self.fault_ns))
    }
}

/// How long faults took, in parts: `detect` (fault, runner knows), `start` (a process), `prepare` (until it begins), `replay` (until the first root emitted
/// again is acked), `executor` (panic, next tuple executed by its executor).
fn parts(done: &[&Done]) -> Value {
    let of = |part: &dyn Fn(&Done) -> Option<u64>| Percentiles::of_ns(done.iter().filter_map(|d| part(d)));
    json!({
        "detect": of(&|d| d.detection_ns()),
        "start": of(&|d| Some(d.restarted_ns?.0.saturating_sub(d.detected_ns?))),
        "prepare": of(&|d| d.restarted_ns.map(|(started, up)| up.saturating_sub(started))),
        "replay": of(&|d| d.restarted_ns.map(|(_, up)| d.recovered_ns.saturating_sub(up))),
        "executor": of(&|d| d.executor_ns.map(|(broke, back)| back.saturating_sub(broke))),
    })
}

/// The line that `chaos break` ends with.
pub fn summary(disturbed: &Disturbed) -> Value {
    let Disturbed { done, checked, .. } = disturbed;
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    let mut victims: BTreeMap<String, usize> = BTreeMap::new();
    let mut detect_ms: BTreeMap<&str, f64> = BTreeMap::new();
    let mut by_kind: BTreeMap<&str, Vec<&Done>> = BTreeMap::new();
    for fault in done {
        let kind = fault.kind.word();
        *faults.entry(kind).or_default() += 1;
        *victims.entry(fault.worker.to_string()).or_default() += 1;
        by_kind.entry(kind).or_default().push(fault);
        if let Some(took_ns) = fault.detection_ns() {
            let most = detect_ms.entry(kind).or_default();
            *most = most.max(ms(took_ns));
        }
    }
    let recovery = |done: &[&Done]| Percentiles::of_ns(done.iter().map(|d| d.recovery_ns()));
    let kinds: BTreeMap<&str, Percentiles> = by_kind.iter().map(|(kind, done)| (*kind, recovery(done))).collect();
    let parts: BTreeMap<&str, Value> = by_kind.iter().map(|(kind, done)| (*kind, parts(done))).collect();
    let most = |of: fn(&Done) -> u64| done.iter().map(of).max();
    json!({
        "faults": faults, "victims": victims, "emitted": checked.emitted, "acked": checked.acked, "failed": checked.failed,
        "pending": checked.pending, "lost": checked.lost, "duplicates": checked.duplicates,
        "duplicates_max": most(|d| d.duplicates), "in_flight_max": most(|d| d.in_flight),
        "recovery_ms": recovery(&done.iter().collect::<Vec<_>>()), "detect_ms": detect_ms,
        "recovery_ms_by_kind": kinds, "parts_ms_by_kind": parts,
        // None of N: with 95 % certainty less than 3 / N are.
        "lost_at_most_95": if done.is_empty() { 1.0 } else { 3.0 / done.len() as f64 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank_above() {
        assert_eq!(Percentiles::of_ns(std::iter::empty()), Percentiles::default());
        let hundred = Percentiles::of_ns((1..=100).rev().map(|n| n * 1_000_000));
        assert_eq!(hundred, Percentiles { p50: Some(50.0), p99: Some(99.0), max: Some(100.0) });
        assert_eq!(Percentiles::of_ns([7_123_456].into_iter()).p99, Some(7.12));
    }
}
