//! What a run reports at its end, as values: [`text`] and [`json`] write it, [`file`] keeps it.
//!
//! An app adds its own parts through [`Sections`]. Invariants: the text and the JSON are made of the same [`Report`], so
//! they never disagree; numbers that are not known are `None` (`–`, `null`), never 0.

pub(crate) mod fields;
pub(crate) mod file;
pub(crate) mod json;
pub(crate) mod text;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use squall_metrics::Percentiles;

use crate::run::course::Course;
use crate::run::engine::Outline;
use crate::run::stats::{ByComponent, ComponentStats, LinkCounters, LinkStats, PeerLinks, Total, Usage};
use crate::run::watch::{Wait, Watch, rate};

/// What the app found out about its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was checked.
    Unverified,
    /// The results are right.
    Verified,
    /// The results are wrong: the reason, shown to the user. The run exits with 1.
    Mismatch(String),
}

/// Parts of the report that the app adds: JSON fields and lines of text.
#[derive(Debug, Clone, Default)]
pub struct Sections {
    fields: Map<String, Value>,
    lines: Vec<String>,
}

impl Sections {
    /// Adds a field to the JSON report, beside the runner's own.
    ///
    /// # Panics
    /// If `name` is a field of the runner (`components`, `latency_ns`, …): the report would be ambiguous.
    pub fn section(&mut self, name: &str, value: impl Into<Value>) {
        assert!(!fields::is_reserved(name), "`{name}` is a field of every report; choose another name");
        self.fields.insert(name.to_owned(), value.into());
    }

    /// Adds a line to the text report, above the runner's own.
    pub fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }
}

/// How the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Interrupted,
    Failed,
}

/// One line of the component table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ComponentRow {
    pub name: String,
    pub tasks: u32,
    pub spout: bool,
    pub emitted: u64,
    pub executed: u64,
    pub acked: u64,
    pub failed: u64,
    pub dropped: BTreeMap<String, u64>,
    pub moved_bytes: u64,
    /// A spout that emits what has failed again.
    pub reliable: bool,
    /// Everything that was counted.
    pub counts: ComponentStats,
}

/// What became of a spout's roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roots<'r> {
    pub begun: u64,
    pub acked: u64,
    /// By reason.
    pub failed: &'r BTreeMap<String, u64>,
    pub pending: u64,
    /// Emitted again.
    pub replayed: u64,
    pub given_up: u64,
    pub late_acks: u64,
}

impl<'r> Roots<'r> {
    /// `None`: it is no spout, or has tracked none.
    pub(crate) fn of(report: &Report, row: &'r ComponentRow) -> Option<Roots<'r>> {
        let counts = &row.counts;
        let failed: u64 = counts.roots_failed.values().sum();
        (counts.roots > 0).then(|| Roots {
            begun: counts.roots,
            acked: row.acked,
            failed: &counts.roots_failed,
            pending: counts.roots.saturating_sub(row.acked + failed),
            replayed: report.counter(&row.name, "replayed"),
            given_up: report.counter(&row.name, "given_up"),
            late_acks: counts.late_acks,
        })
    }
}

/// Everything a report says.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub topology: String,
    pub workers: u32,
    pub end: End,
    /// What is wrong with the run, the first thing only.
    pub problem: Option<String>,
    /// Until the first result row, or the end.
    pub processing_ns: u64,
    /// Until all rows were read and all workers had finished.
    pub elapsed_ns: u64,
    pub components: Vec<ComponentRow>,
    pub latency: Percentiles,
    /// Tuples executed a second, all components together.
    pub rate: f64,
    /// CPU time of all processes over the time of processing.
    pub cores: f64,
    /// Largest resident size by process; `parent` is the one that started the run.
    pub rss_bytes: Vec<(String, Option<u64>)>,
    pub startup_ns: Option<u64>,
    pub io: String,
    pub wait: String,
    pub verified: Option<bool>,
    pub warnings: Vec<String>,
    pub waits: Vec<Wait>,
    pub counters: ByComponent<u64>,
    pub gauges: ByComponent<i64>,
    pub histograms: ByComponent<Percentiles>,
    pub links: LinkCounters,
    /// Links that carried something, by sender and receiver.
    pub by_link: Vec<LinkStats>,
    pub worker_links: PeerLinks,
    /// Tuples emitted to a component and not executed there, after an end that was cut short.
    pub left_over: Vec<(String, u64)>,
    /// Counts that contradict each other, which is a bug.
    pub uneven: Vec<String>,
    pub sections: Sections,
}

impl Report {
    /// The report of a run that is over, or settled.
    pub(crate) fn new(outline: &Outline, course: &Course, watch: &Watch, process_start_ns: u64) -> Report {
        let total = watch.total();
        let processing_ns = watch.processing_ns();
        let end = match course.failure() {
            Some(_) => End::Failed,
            None if course.interrupted() => End::Interrupted,
            None => End::Finished,
        };
        let cut_short = is_cut_short(course, watch);
        let cpu_ns: u64 = watch.usage().iter().flatten().chain([&watch.parent_usage()]).map(|usage| usage.cpu_ns).sum();
        Report {
            topology: outline.name.clone(),
            workers: outline.workers,
            end,
            problem: None,
            processing_ns,
            elapsed_ns: watch.elapsed_ns(),
            components: rows(outline, &total),
            latency: total.stats.latency.percentiles(),
            rate: rate(total.executed(), processing_ns),
            cores: if processing_ns == 0 { 0.0 } else { (cpu_ns as f64) / processing_ns as f64 },
            rss_bytes: rss(watch.usage(), watch.parent_usage()),
            startup_ns: total.stats.first_tuple_ns.map(|first| first.saturating_sub(process_start_ns)),
            io: total.stats.io.clone(),
            wait: total.stats.wait.clone(),
            verified: None,
            warnings: watch.warnings(&total),
            waits: watch.waits(),
            left_over: if cut_short { left_over(outline, &total) } else { Vec::new() },
            uneven: if cut_short { Vec::new() } else { uneven(outline, &total) },
            histograms: percentiles(&total.stats.histograms),
            counters: total.stats.counters,
            gauges: total.stats.gauges,
            links: total.stats.links,
            by_link: total.stats.by_link,
            worker_links: total.stats.peer_links,
            sections: Sections::default(),
        }
    }

    /// Emits of all components: what "per tuple" is per.
    pub(crate) fn emitted(&self) -> u64 {
        self.components.iter().map(|row| row.emitted).sum()
    }

    /// Tuples of a component that failed and that nobody emits again: of a bolt those without a root, of a spout that does not
    /// replay its roots, of one that does those that it gave up.
    pub(crate) fn failed_for_good(&self, row: &ComponentRow) -> u64 {
        match (row.spout, row.reliable) {
            (false, _) => row.counts.lost,
            (true, false) => row.failed,
            (true, true) => self.counter(&row.name, "given_up"),
        }
    }

    /// A component's counter; 0 if it has none of this name.
    pub(crate) fn counter(&self, component: &str, name: &str) -> u64 {
        self.counters.get(component).and_then(|counters| counters.get(name)).copied().unwrap_or(0)
    }
}

/// `n` for each of `tuples`, if there were any.
fn per_tuple(n: u64, tuples: u64) -> Option<f64> {
    (tuples > 0).then(|| n as f64 / tuples as f64)
}

fn percentiles(histograms: &ByComponent<squall_metrics::Histogram>) -> ByComponent<Percentiles> {
    let of = |values: &BTreeMap<String, squall_metrics::Histogram>| {
        values.iter().map(|(name, histogram)| (name.clone(), histogram.percentiles())).collect()
    };
    histograms.iter().map(|(component, values)| (component.clone(), of(values))).collect()
}

/// The components of the plan in its order, with their counts; those that never counted show zeros.
fn rows(outline: &Outline, total: &Total) -> Vec<ComponentRow> {
    let row = |component: &crate::run::engine::ComponentOutline| {
        let counts = total.component(&component.name).cloned().unwrap_or_default();
        ComponentRow {
            name: component.name.clone(),
            tasks: component.tasks,
            spout: component.spout,
            emitted: counts.emitted,
            executed: counts.executed,
            acked: counts.acked,
            failed: counts.failed,
            dropped: counts.dropped.clone(),
            moved_bytes: counts.moved_bytes,
            reliable: component.reliable,
            counts,
        }
    };
    outline.components.iter().map(row).collect()
}

fn rss(workers: &[Option<Usage>], parent: Usage) -> Vec<(String, Option<u64>)> {
    let known = |usage: Usage| (usage.rss_max_bytes > 0).then_some(usage.rss_max_bytes);
    let workers = workers.iter().enumerate().map(|(worker, usage)| (worker.to_string(), usage.and_then(known)));
    workers.chain([("parent".to_owned(), known(parent))]).collect()
}

/// Tuples that were emitted to a component and never executed there, where the groupings tell how many those are.
fn left_over(outline: &Outline, total: &Total) -> Vec<(String, u64)> {
    let emitted = |name: &str| total.component(name).map_or(0, |c| c.emitted);
    let executed = |name: &str| total.component(name).map_or(0, |c| c.executed);
    let left = |component: &crate::run::engine::ComponentOutline| {
        let inputs = component.inputs.as_ref()?;
        let sent: u64 = inputs.iter().map(|input| emitted(&input.from) * input.per_tuple).sum();
        let left = sent.saturating_sub(executed(&component.name));
        (left > 0).then(|| (component.name.clone(), left))
    };
    outline.components.iter().filter_map(left).collect()
}

/// Whether tuples may have been lost: with a worker, or at an end that waited for nobody.
pub(crate) fn is_cut_short(course: &Course, watch: &Watch) -> bool {
    course.drain_cut() || course.failure().is_some() || watch.healed()
}

/// What does not add up at the end of a run that was not cut short (D3, D4): what was emitted to a component was executed there or dropped for a reason;
/// each execution was acknowledged or failed, and so was each root.
pub(crate) fn uneven(outline: &Outline, total: &Total) -> Vec<String> {
    let none = ComponentStats::default();
    let counts = |name: &str| total.component(name).unwrap_or(&none);
    let dropped = |name: &str| counts(name).dropped.values().sum::<u64>();
    // An emit that was refused (too large, too many) was counted, ended its executor, and went nowhere.
    let refused = outline.components.iter().any(|component| counts(&component.name).restarts > 0);
    let mut wrong = Vec::new();
    for component in &outline.components {
        let (name, mine) = (&component.name, counts(&component.name));
        let ended = mine.acked + mine.failed;
        let (what, due) = if component.spout { ("roots", mine.roots) } else { ("tuples executed", mine.executed) };
        if ended != due && (!component.spout || due > 0) {
            wrong.push(format!("of {due} {what} of {name} {ended} were acknowledged or failed"));
        }
        let Some(inputs) = component.inputs.as_ref().filter(|inputs| !inputs.is_empty()) else { continue };
        let sent: u64 = inputs.iter().map(|input| counts(&input.from).emitted * input.per_tuple).sum();
        // A feedback edge without room drops at the sender, and for whom is not counted.
        let may_miss = dropped(name) + inputs.iter().map(|input| dropped(&input.from) * input.per_tuple).sum::<u64>();
        if mine.executed > sent || mine.executed + may_miss < sent && !refused {
            wrong.push(format!("{sent} tuples were sent to {name}, {} executed, {may_miss} dropped", mine.executed));
        }
    }
    wrong
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::run::engine::{ComponentOutline, InputOutline};
    use crate::run::stats::WorkerStats;
    use squall_engine::LinkTraffic;

    fn link(from: u32, to: u32, kind: &str, batches: &[(u64, u64)]) -> LinkStats {
        let mut traffic = LinkTraffic::default();
        for (size, n) in batches {
            (0..*n).for_each(|_| traffic.batch_sizes.record(*size));
        }
        traffic.batches = traffic.batch_sizes.count();
        traffic.tuples = traffic.batch_sizes.sum();
        traffic.bytes = traffic.tuples * 48;
        traffic.serializations = traffic.tuples;
        if kind == "ring" {
            traffic.copies_send = traffic.tuples;
            (traffic.credit_stalls, traffic.stalled_ns, traffic.wakeups_sent) = (7, 1_500_000, 42);
        }
        LinkStats { from, to, kind: kind.into(), traffic }
    }

    /// A report with something in every field.
    pub(crate) fn sample() -> Report {
        let mut latency = squall_metrics::Histogram::new();
        latency.record_n(8_400, 5_000_000);
        latency.record_n(1_250_000, 400);
        let component = |name: &str, tasks, spout, emitted, executed| ComponentRow {
            name: name.into(),
            tasks,
            spout,
            emitted,
            executed,
            ..ComponentRow::default()
        };
        let mut count = component("count", 4, false, 0, 31_234_567);
        count.failed = 2;
        count.counts.lost = 2;
        count.dropped.insert("feedback full".into(), 3);
        let by_link = vec![link(0, 0, "local", &[(1365, 3_753)]), link(0, 1, "ring", &[(1, 100), (1365, 22_880)])];
        let mut links = LinkCounters { bytes_out: 1_000, syscalls: 3_636, sleeps: 12, ..LinkCounters::default() };
        by_link.iter().for_each(|l| links.add_link(&l.traffic));
        let mut sections = Sections::default();
        sections.section("lines", 5_123_456);
        sections.line("verified against a plain loop: 3.1 times its speed");
        Report {
            topology: "word-count".into(),
            workers: 2,
            end: End::Finished,
            problem: None,
            processing_ns: 2_310_000_000,
            elapsed_ns: 3_500_000_000,
            components: vec![
                component("lines", 2, true, 5_123_456, 0),
                component("split", 2, false, 31_234_567, 5_123_456),
                count,
            ],
            latency: latency.percentiles(),
            rate: 15_739_835.0,
            cores: 1.87,
            rss_bytes: vec![("0".into(), Some(47_185_920)), ("1".into(), None), ("parent".into(), Some(12_582_912))],
            startup_ns: Some(84_200_000),
            io: "io_uring".into(),
            wait: "hybrid".into(),
            verified: Some(true),
            warnings: vec!["core 1 could not be pinned: EPERM".into()],
            waits: vec![Wait { waiting: "lines".into(), on: "count".into(), share: 0.452 }],
            counters: [("lines".to_owned(), [("bytes".to_owned(), 200_000_000)].into())].into(),
            gauges: ByComponent::new(),
            histograms: [("split".to_owned(), [("line".to_owned(), latency.percentiles())].into())].into(),
            links,
            by_link,
            worker_links: PeerLinks { shm: 3, sockets: 1, pages: vec!["normal pages".into()] },
            left_over: vec![],
            uneven: vec![],
            sections,
        }
    }

    #[test]
    fn what_is_left_is_what_was_sent_and_never_executed() {
        let input = |from: &str, per_tuple| InputOutline { from: from.into(), per_tuple };
        let component = |name: &str, inputs| ComponentOutline { name: name.into(), inputs, ..Default::default() };
        let outline = Outline {
            components: vec![
                component("lines", Some(vec![])),
                component("split", Some(vec![input("lines", 1)])),
                component("all", Some(vec![input("split", 3)])),
                component("direct", None),
            ],
            ..Outline::default()
        };
        let counts = |name: &str, emitted, executed| ComponentStats {
            name: name.into(),
            emitted,
            executed,
            ..ComponentStats::default()
        };
        let components = vec![counts("lines", 10, 0), counts("split", 40, 10), counts("all", 0, 100)];
        let total = Total::of(&[WorkerStats { components, ..WorkerStats::default() }]);
        assert_eq!(left_over(&outline, &total), [("all".to_owned(), 20)]);
    }

    #[test]
    fn what_does_not_add_up_is_told() {
        let input = |from: &str| InputOutline { from: from.into(), per_tuple: 2 };
        let component = |name: &str, spout, inputs| ComponentOutline {
            name: name.into(),
            spout,
            inputs: Some(inputs),
            ..Default::default()
        };
        let components = vec![component("lines", true, vec![]), component("all", false, vec![input("lines")])];
        let outline = Outline { components, ..Outline::default() };
        let uneven = |change: fn(&mut ComponentStats, &mut ComponentStats)| {
            let counts = |name: &str| ComponentStats { name: name.into(), ..ComponentStats::default() };
            let (mut lines, mut all) = (counts("lines"), counts("all"));
            (lines.emitted, lines.roots, lines.acked, lines.failed) = (10, 10, 9, 1);
            (all.executed, all.acked, all.failed) = (20, 19, 1);
            change(&mut lines, &mut all);
            let stats = WorkerStats { components: vec![lines, all], ..WorkerStats::default() };
            uneven(&outline, &Total::of(&[stats])).join("; ")
        };
        assert_eq!(uneven(|_, _| {}), "");
        assert_eq!(uneven(|lines, _| lines.emitted = 11), "22 tuples were sent to all, 20 executed, 0 dropped");
        assert_eq!(uneven(|lines, _| lines.emitted = 9), "18 tuples were sent to all, 20 executed, 0 dropped");
        assert_eq!(uneven(|_, all| all.acked = 18), "of 20 tuples executed of all 19 were acknowledged or failed");
        assert_eq!(uneven(|lines, _| lines.roots = 11), "of 11 roots of lines 10 were acknowledged or failed");
        // What was dropped is missing for a reason; where nothing is tracked, there are no roots.
        let dropped = |lines: &mut ComponentStats, all: &mut ComponentStats| {
            (lines.emitted, lines.roots, lines.acked, lines.failed) = (12, 0, 0, 0);
            all.dropped.insert("after the end".into(), 4);
        };
        assert_eq!(uneven(dropped), "");
        // So may be what was emitted by an executor that broke.
        let broken = |lines: &mut ComponentStats, _: &mut ComponentStats| {
            (lines.emitted, lines.restarts) = (11, 1);
        };
        assert_eq!(uneven(broken), "");
    }

    #[test]
    #[should_panic(expected = "`rate` is a field of every report")]
    fn an_app_cannot_take_the_name_of_a_field_of_every_report() {
        Sections::default().section("rate", 1);
    }
}
