//! A row's result: a few lines for people on stderr, one line of JSON on stdout.

use serde_json::{Map, Value, json};
use squall_metrics::format;

use crate::machine::Machine;
use crate::measure::{RowResult, Side};
use crate::scenario::Scenario;

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
const RATIOS: [&str; 3] = ["p50", "p99", "rate"];

/// One line of JSON. What does not apply to a row is left out.
pub(crate) fn json_line(r: &RowResult, machine: &Machine) -> Value {
    let ratios = FIGURES.iter().filter(|(name, _)| RATIOS.contains(name));
    let ratio: Map<String, Value> =
        ratios.filter_map(|(name, of)| Some(((*name).to_owned(), json!(rounded(r.ratio(*of)?, 4))))).collect();
    let mut line = json!({
        "scenario": r.row.scenario.name(),
        "link": r.row.link,
        "size": r.row.size,
        "tuple": r.row.tuple,
        "acked": false,
        "wait": r.wait.to_string(),
        "rounds": r.rounds,
        "unit": r.unit(),
        "squall": side(&r.squall),
        "floor": side(&r.floor),
        "ratio": ratio,
        "counters": r.counters,
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores.len(),
            "kernel": machine.kernel,
            "commit": machine.commit,
            "command": machine.command,
            "load": r.load,
        },
    });
    if let Some(probe) = r.probe_ns {
        line["probe_ns"] = json!(probe);
        line["far"] = json!(r.far());
    }
    line
}

fn side(s: &Side) -> Map<String, Value> {
    let figures = FIGURES.iter().filter_map(|(name, of)| Some(((*name).to_owned(), json!(of(s)?.round() as u64))));
    let spread = s.spread.map(|(low, high)| ("spread".to_owned(), json!([low.round() as u64, high.round() as u64])));
    figures.chain(spread).collect()
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
    let length = match r.row.scenario {
        Scenario::WordCount => "one pass".to_owned(),
        _ => format!("{:.2} s", r.slice.as_secs_f64()),
    };
    eprintln!(
        "{} {}: wait {}, {} rounds of {length} a side, {probe}, load {:.1} → {:.1}",
        r.row.scenario.name(),
        r.row.what(),
        r.wait,
        r.rounds,
        r.load[0],
        r.load[1],
    );
    for (name, s) in [("squall", &r.squall), ("floor", &r.floor)] {
        eprintln!("  {name:<7} {}", figures(r, s));
    }
    let shown = |name: &str, of: fn(&Side) -> Option<f64>| r.ratio(of).map(|x| format!("{name} {x:.2}"));
    let ratios = FIGURES.iter().filter(|(n, _)| RATIOS.contains(n)).filter_map(|(n, of)| shown(n, *of));
    eprintln!("  ratio   {}", ratios.collect::<Vec<_>>().join("  "));
    let c = &r.counters;
    let batch = c.tuples_per_batch.map_or_else(String::new, |n| format!("{n:.1} tuples a batch, "));
    eprintln!(
        "  counted {batch}{:.4} syscalls a tuple, {} wake-ups, {} B moved, {:.2} cores",
        c.syscalls_per_tuple, c.wakeups, c.moved_bytes, c.cpu_cores_per_worker
    );
}

fn figures(r: &RowResult, s: &Side) -> String {
    let mut parts = Vec::new();
    if let Some(rate) = s.rate {
        let bytes = rate * r.row.size as f64;
        parts.push(format!("{:.2} M {}", rate / 1e6, r.unit()));
        parts.push(format!("{:.2} ns each", 1e9 / rate));
        if bytes > 0.0 {
            parts.push(format!("{:.2} GB/s", bytes / 1e9));
        }
    }
    for (name, of) in FIGURES.iter().filter(|(n, _)| *n != "rate") {
        if let Some(ns) = of(s) {
            parts.push(format!("{name} {}", format::duration_ns(ns as u64)));
        }
    }
    if let Some((low, high)) = s.spread {
        let text = match s.rate {
            Some(_) => format!("({:.2}–{:.2} M)", low / 1e6, high / 1e6),
            None => format!("(p50 {}–{})", format::duration_ns(low as u64), format::duration_ns(high as u64)),
        };
        parts.push(text);
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use squall_engine::WaitStrategy;

    use super::*;
    use crate::measure::Counters;

    fn result() -> RowResult {
        let side = |p50: f64| Side { p50: Some(p50), p99: Some(2.0 * p50), ..Side::default() };
        RowResult {
            row: Scenario::named("rtt-ring").unwrap().rows()[0].clone(),
            rounds: 5,
            slice: Duration::from_millis(600),
            wait: WaitStrategy::Spin,
            probe_ns: Some([60, 240]),
            load: [0.5, 1.5],
            squall: side(300.0),
            floor: side(150.0),
            counters: Counters::default(),
        }
    }

    #[test]
    fn a_line_has_the_keys_that_apply_and_no_others() {
        let line = json_line(&result(), &Machine::look());
        assert_eq!(line["scenario"], "rtt-ring");
        assert_eq!((&line["link"], &line["size"], &line["tuple"]), (&json!("ring"), &json!(64), &json!("typed")));
        assert_eq!(line["ratio"], json!({ "p50": 2.0, "p99": 2.0 }));
        assert_eq!(line["squall"], json!({ "p50": 300, "p99": 600 }));
        assert_eq!((&line["probe_ns"], &line["far"]), (&json!([60, 240]), &json!(true)));
        assert_eq!(line["unit"], "ns");
    }
}
