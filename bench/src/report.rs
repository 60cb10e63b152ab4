//! A row's result: a few lines for people on stderr, JSON lines on stdout.
//!
//! Every line of JSON has the same keys; what does not apply to a row is null. What a reader may want beyond them (spread,
//! load, commit …) is in `machine`.

use serde_json::{Map, Value, json};
use squall_metrics::format;

use crate::machine::Machine;
use crate::measure::{RowResult, Side, Sides, Spread};
use crate::scenario::Unit;

type Figure = (&'static str, fn(&Side) -> Option<f64>);

const FIGURES: [Figure; 7] = [
    ("p50", |s| s.p50),
    ("p90", |s| s.p90),
    ("p99", |s| s.p99),
    ("p999", |s| s.p999),
    ("p9999", |s| s.p9999),
    ("max", |s| s.max),
    ("rate", |s| s.rate),
];
const RATIOS: [Figure; 3] = [("p50", |s| s.p50), ("p99", |s| s.p99), ("rate", |s| s.rate)];
/// Added to a scenario's name where latency is counted from the time at which tuples were due.
const DUE: &str = "-due";

/// The row's line, and one more for latencies from the due time where those are others.
pub(crate) fn json_lines(r: &RowResult, machine: &Machine) -> Vec<Value> {
    let name = r.row.scenario.name();
    let mut lines = vec![json_line(name, r, &r.sides, machine)];
    lines.extend(r.due.as_ref().map(|due| json_line(&format!("{name}{DUE}"), r, due, machine)));
    lines
}

fn json_line(scenario: &str, r: &RowResult, sides: &Sides, machine: &Machine) -> Value {
    let ratio = RATIOS.map(|(name, of)| (name.to_owned(), json!(sides.ratio(of).map(|x| rounded(x, 4)))));
    json!({
        "scenario": scenario,
        "link": r.row.link,
        "size": r.row.size,
        "tuple": r.row.tuple,
        "acked": r.row.scenario.acked(),
        "wait": r.wait.to_string(),
        "rounds": r.rounds,
        "probe_ns": r.probe_ns,
        "unit": r.unit().name(),
        "squall": side(&sides.squall),
        "floor": side(&sides.floor),
        "ratio": Map::from_iter(ratio),
        "counters": r.counters,
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores.len(),
            "kernel": machine.kernel,
            "commit": machine.commit,
            "command": machine.command,
            "load": r.load,
            "far": r.far(),
            "void": r.void(),
            "spread": { "squall": spread(&sides.squall.spread), "floor": spread(&sides.floor.spread) },
        },
    })
}

fn side(s: &Side) -> Map<String, Value> {
    FIGURES.iter().map(|(name, of)| ((*name).to_owned(), json!(of(s).map(|x| x.round() as u64)))).collect()
}

/// Lowest and highest of a round.
fn spread(s: &Spread) -> Value {
    let span = |of: Option<(f64, f64)>| of.map(|(low, high)| [low.round() as u64, high.round() as u64]);
    json!({ "p50": span(s.p50), "p99": span(s.p99), "rate": span(s.rate) })
}

fn rounded(x: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (x * unit).round() / unit
}

/// The row for people, on stderr.
pub(crate) fn for_people(r: &RowResult) {
    let probe = match r.probe_ns {
        Some([before, after]) => format!("probe {before} → {after} ns{}", if r.far() { " FAR" } else { "" }),
        None => "one core, no probe".to_owned(),
    };
    let length = match r.unit() {
        Unit::WordsPerSecond => "one pass".to_owned(),
        _ => format!("{:.2} s", r.slice.as_secs_f64()),
    };
    eprintln!(
        "{} {}: wait {}, {} rounds of {length} a side, {:.1} s in all, {probe}, load {:.1} → {:.1}",
        r.row.scenario.name(),
        r.row.what(),
        r.wait,
        r.rounds,
        r.took.as_secs_f64(),
        r.load[0],
        r.load[1],
    );
    sides_for_people(r, &r.sides);
    if let Some(due) = &r.due {
        eprintln!("  from the time at which tuples were due:");
        sides_for_people(r, due);
    }
    let c = &r.counters;
    let shown = |name: &str, n: Option<f64>| n.map_or_else(String::new, |n| format!("{n:.2} {name}, "));
    eprintln!(
        "  counted {}{}{}{:.4} syscalls a tuple, {} wake-ups, {} stalls, {} of {} zero-copy sends copied, {} B moved, {:.3} cores",
        shown("tuples a batch", c.tuples_per_batch),
        shown("copies", c.copies_per_tuple),
        shown("serializations a tuple", c.serializations_per_tuple),
        c.syscalls_per_tuple,
        c.wakeups,
        c.credit_stalls,
        c.zc_copied,
        c.zc_sent,
        c.moved_bytes,
        c.cpu_cores_per_worker
    );
    if let Some(why) = r.void() {
        eprintln!("  VOID    {why}");
    }
}

fn sides_for_people(r: &RowResult, sides: &Sides) {
    for (name, s) in [("squall", &sides.squall), ("floor", &sides.floor)] {
        eprintln!("  {name:<7} {}", figures(r, s));
    }
    let ratios = RATIOS.iter().filter_map(|(name, of)| sides.ratio(*of).map(|x| format!("{name} {x:.2}")));
    eprintln!("  ratio   {}", ratios.collect::<Vec<_>>().join("  "));
}

fn figures(r: &RowResult, s: &Side) -> String {
    let mut parts = Vec::new();
    if let Some(rate) = s.rate {
        let bytes = rate * r.row.size as f64;
        parts.push(format!("{:.2} M {}", rate / 1e6, r.unit().name()));
        parts.push(format!("{:.2} ns each", 1e9 / rate));
        if bytes > 0.0 {
            parts.push(format!("{:.2} GB/s", bytes / 1e9));
        }
    }
    if let Some((low, high)) = s.spread.rate {
        parts.push(format!("({:.2}–{:.2} M)", low / 1e6, high / 1e6));
    }
    for (name, of) in FIGURES.iter().filter(|(n, _)| *n != "rate") {
        if let Some(ns) = of(s) {
            parts.push(format!("{name} {}", format::duration_ns(ns as u64)));
        }
    }
    for (name, span) in [("p50", s.spread.p50), ("p99", s.spread.p99)] {
        if let Some((low, high)) = span {
            parts.push(format!("({name} {}–{})", format::duration_ns(low as u64), format::duration_ns(high as u64)));
        }
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use squall_engine::WaitStrategy;

    use super::*;
    use crate::measure::Counters;
    use crate::scenario::Scenario;

    fn result(scenario: &str) -> RowResult {
        let side = |p50: f64| Side { p50: Some(p50), p99: Some(2.0 * p50), ..Side::default() };
        let sides = Sides { squall: side(300.0), floor: side(150.0) };
        let scenario = Scenario::named(scenario)[0];
        RowResult {
            row: scenario.rows()[0].clone(),
            rounds: 5,
            slice: Duration::from_millis(600),
            took: Duration::from_secs(8),
            wait: WaitStrategy::Spin,
            probe_ns: Some([60, 240]),
            load: [0.5, 1.5],
            sides,
            due: (scenario == Scenario::LowRate).then(|| Sides { squall: side(900.0), ..sides }),
            counters: Counters::default(),
        }
    }

    #[test]
    fn what_does_not_apply_is_null() {
        let [line] = &json_lines(&result("rtt-ring"), &crate::machine::look())[..] else { panic!("one line") };
        assert_eq!(line["scenario"], "rtt-ring");
        assert_eq!((&line["link"], &line["size"], &line["tuple"]), (&json!("ring"), &json!(64), &json!("typed")));
        assert_eq!(line["ratio"], json!({ "p50": 2.0, "p99": 2.0, "rate": null }));
        assert_eq!((&line["squall"]["p99"], &line["squall"]["rate"]), (&json!(600), &Value::Null));
        assert_eq!((&line["probe_ns"], &line["machine"]["far"]), (&json!([60, 240]), &json!(true)));
        assert_eq!(line["machine"]["void"], Value::Null, "far placement explains a slow floor");
        assert_eq!(line["unit"], "ns");
    }

    #[test]
    fn latencies_from_the_due_time_are_a_line_of_their_own() {
        let lines = json_lines(&result("lowrate"), &crate::machine::look());
        let figures: Vec<_> = lines.iter().map(|l| (&l["scenario"], &l["squall"]["p50"])).collect();
        assert_eq!(figures, [(&json!("lowrate"), &json!(300)), (&json!("lowrate-due"), &json!(900))]);
    }

    #[test]
    fn a_slow_floor_in_near_placement_voids_its_row() {
        let near = RowResult { probe_ns: Some([60, 70]), ..result("rtt-shm") };
        let line = &json_lines(&near, &crate::machine::look())[0];
        assert!(line["machine"]["void"].as_str().unwrap().contains("150 ns"), "{line}");
    }
}
