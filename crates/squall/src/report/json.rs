//! The report as JSON, for programs.
//!
//! One object; fields that are not known are `null`, lists and maps are empty rather than absent. Durations of
//! latencies are whole nanoseconds. The app's sections are further fields of the same object.

use serde_json::{Map, Value, json};
use squall_metrics::{Percentiles, SizeHistogram};

use super::{End, Report};
use crate::run::stats::{LinkCounters, LinkStats};

/// Version of the report's shape: a field that goes or changes its meaning raises it, a new one does not.
const REPORT_VERSION: u32 = 1;

/// The whole report as one object.
pub(crate) fn value(report: &Report) -> Value {
    let end = match report.end {
        End::Finished => "finished",
        End::Interrupted => "interrupted",
        End::Failed => "failed",
    };
    let components: Map<_, _> = report
        .components
        .iter()
        .map(|row| {
            let mut counts = json!({
                "tasks": row.tasks,
                "emitted": row.emitted,
                "executed": row.executed,
                "acked": row.acked,
                "failed": row.failed,
                "dropped": row.dropped,
                "moved_bytes": row.moved_bytes,
                "lost": row.counts.lost,
                "dead_letters": row.counts.dead_letters,
                "restarts": row.counts.restarts,
                "restart_ns_max": row.counts.down_ns_max,
                "long_calls": row.counts.long_calls,
                "long_call_ns_max": row.counts.long_call_ns_max,
            });
            if let Some(roots) = super::Roots::of(report, row) {
                counts["roots"] = json!({
                    "begun": roots.begun,
                    "acked": roots.acked,
                    "failed": roots.failed,
                    "pending": roots.pending,
                    "replayed": roots.replayed,
                    "given_up": roots.given_up,
                    "late_acks": roots.late_acks,
                });
            }
            (row.name.clone(), counts)
        })
        .collect();
    let waits: Vec<_> = report
        .waits
        .iter()
        .map(|wait| json!({ "waiting": wait.waiting, "on": wait.on, "share": thousandths(wait.share) }))
        .collect();
    let mut object = json!({
        "report_version": REPORT_VERSION,
        "topology": report.topology,
        "workers": report.workers,
        "end": end,
        "error": report.problem,
        "processing_ms": thousandths(report.processing_ns as f64 / 1e6),
        "elapsed_ms": thousandths(report.elapsed_ns as f64 / 1e6),
        "components": components,
        "latency_ns": percentiles(&report.latency),
        "rate": report.rate.round(),
        "cores": thousandths(report.cores),
        "rss_bytes": report.rss_bytes.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "startup_ms": report.startup_ns.map(|ns| thousandths(ns as f64 / 1e6)),
        "io": report.io,
        "wait": report.wait,
        "verified": report.verified,
        "warnings": report.warnings,
        "back_pressure": waits,
        "counters": report.counters,
        "gauges": report.gauges,
        "histograms_ns": report.histograms,
        "links": links(&report.links),
        "by_link": report.by_link.iter().map(link).collect::<Vec<_>>(),
        "per_tuple": per_tuple(report),
        "worker_links": report.worker_links,
        "left_over": report.left_over.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    let fields = object.as_object_mut().expect("an object was just made");
    fields.extend(report.sections.fields.clone());
    object
}

/// The object as indented text with a line end.
pub(crate) fn render(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(&value(report)).expect("a value always prints");
    text.push('\n');
    text
}

/// The sums over all links and reactors, one name each.
fn links(links: &LinkCounters) -> Value {
    with_sizes(serde_json::to_value(links), &links.batch_sizes)
}

fn link(link: &LinkStats) -> Value {
    let mut value = with_sizes(serde_json::to_value(&link.traffic), &link.traffic.batch_sizes);
    let row = value.as_object_mut().expect("a struct is an object");
    row.extend([("from".into(), link.from.into()), ("to".into(), link.to.into())]);
    row.insert("kind".into(), link.kind.clone().into());
    value
}

/// Batch sizes for readers: percentiles, mean, and `[largest size, batches]` of each bin that holds something.
fn with_sizes(counts: serde_json::Result<Value>, sizes: &SizeHistogram) -> Value {
    let mut value = counts.expect("numbers always print");
    let mut shown = percentiles(&sizes.percentiles());
    let fields = shown.as_object_mut().expect("a struct is an object");
    fields.insert("mean".into(), thousandths(sizes.mean()).into());
    fields.insert("bins".into(), sizes.bins().map(|(size, n)| json!([size, n])).collect());
    value["batch_sizes"] = shown;
    value
}

/// What one emit of any component cost on average; `null` where nothing was emitted.
fn per_tuple(report: &Report) -> Value {
    let LinkCounters { copies_send, copies_receive, serializations, syscalls, .. } = report.links;
    let per = |n: u64| super::per_tuple(n, report.emitted()).map(|v| (v * 1e6).round() / 1e6);
    json!({
        "serializations": per(serializations),
        "copies_send": per(copies_send),
        "copies_receive": per(copies_receive),
        "syscalls": per(syscalls),
    })
}

fn percentiles(percentiles: &Percentiles) -> Value {
    serde_json::to_value(percentiles).expect("numbers always print")
}

/// Three digits after the point: more would be noise.
fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::fields::{self, Field};
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_json_report_has_the_promised_fields() {
        let value = value(&sample());
        assert_eq!(value["components"]["count"]["executed"], 31_234_567);
        assert_eq!(value["components"]["count"]["failed"], 2);
        assert_eq!(value["components"]["count"]["dropped"]["feedback full"], 3);
        assert_eq!(value["latency_ns"]["count"], 5_000_400);
        assert_eq!(value["latency_ns"]["p50"], 8_407);
        assert_eq!(value["rate"], 15_739_835.0);
        assert_eq!(value["cores"], 1.87);
        assert_eq!(value["rss_bytes"], json!({ "0": 47_185_920, "1": null, "parent": 12_582_912 }));
        assert_eq!(value["startup_ms"], 84.2);
        assert_eq!((&value["io"], &value["wait"]), (&json!("io_uring"), &json!("hybrid")));
        assert_eq!(
            (&value["verified"], &value["end"], &value["error"]),
            (&json!(true), &json!("finished"), &Value::Null)
        );
        assert_eq!(value["warnings"], json!(["core 1 could not be pinned: EPERM"]));
        assert_eq!(value["back_pressure"], json!([{ "waiting": "lines", "on": "count", "share": 0.452 }]));
        assert_eq!(value["worker_links"], json!({ "shm": 3, "sockets": 1, "pages": ["normal pages"] }));
        assert_eq!(value["counters"], json!({ "lines": { "bytes": 200_000_000 } }));
        assert_eq!(value["histograms_ns"]["split"]["line"]["count"], 5_000_400);
        assert_eq!(value["links"]["bytes_out"], 1_000);
        let ring = &value["by_link"][1];
        assert_eq!((&ring["from"], &ring["to"], &ring["kind"]), (&json!(0), &json!(1), &json!("ring")));
        assert_eq!((&ring["batches"], &ring["tuples"]), (&json!(22_980), &json!(31_231_300)));
        assert_eq!((&ring["credit_stalls"], &ring["wakeups_sent"]), (&json!(7), &json!(42)));
        assert_eq!(ring["batch_sizes"]["bins"][0], json!([1, 100]));
        assert_eq!((&ring["batch_sizes"]["p50"], &ring["batch_sizes"]["mean"]), (&json!(1365), &json!(1359.064)));
        assert_eq!(value["links"]["batch_sizes"]["count"], 26_733);
        assert_eq!(value["per_tuple"]["syscalls"], 0.0001);
        assert_eq!(value["lines"], 5_123_456, "the app's section");
    }

    fn names(value: &Value) -> Vec<&str> {
        let mut names: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn told(tables: &[&[Field]]) -> Vec<&'static str> {
        let mut names: Vec<_> = tables.iter().copied().flatten().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_field_is_in_the_reference_and_reserved_and_nothing_else_is() {
        let mut report = sample();
        report.sections = Default::default();
        let value = value(&report);
        assert_eq!(names(&value), told(&[fields::REPORT]));
        assert_eq!(names(&value["components"]["count"]), told(&[fields::COMPONENT]));
        assert_eq!(names(&value["by_link"][0]), told(&[fields::LINK]));
        let ends = |name: &&str| ["from", "to", "kind"].contains(name);
        let sums: Vec<_> = told(&[fields::LINK, fields::LINKS]).into_iter().filter(|name| !ends(name)).collect();
        assert_eq!(names(&value["links"]), sums);
        assert_eq!(names(&value["latency_ns"]), told(&[fields::PERCENTILES]));
    }

    #[test]
    fn a_failed_run_names_its_cause_and_an_unsupported_percentile_is_null() {
        let mut report = sample();
        report.end = End::Failed;
        report.problem = Some("worker 1 died".into());
        report.latency = Percentiles { max: Some(5), count: 1, ..Percentiles::default() };
        report.verified = None;
        let value = value(&report);
        assert_eq!((&value["end"], &value["error"]), (&json!("failed"), &json!("worker 1 died")));
        assert_eq!((&value["latency_ns"]["p50"], &value["verified"]), (&Value::Null, &Value::Null));
        assert!(render(&report).ends_with("}\n"));
    }
}
