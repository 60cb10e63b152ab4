//! What the parent sees of a run: the workers' counts, who waited for whom, warnings, and the moments that a report
//! needs. It shows them as they come ([`Screen`]) and keeps them for the end.

use std::collections::BTreeMap;

use squall_metrics::Percentiles;

use super::course::Course;
use super::live::{Metric, Screen, View};
use super::stats::{ByComponent, ComponentStats, PeerLinks, Total, Usage, WorkerStats};
use super::system;

/// Different warnings kept for the report; more are counted.
const WARNINGS_MAX: usize = 50;

/// Which user counter tells how far the input is read, and how much there is.
#[derive(Default)]
pub(crate) struct Progress {
    /// Component and name of the counter.
    pub counter: Option<(String, String)>,
    /// Asked for at the first live line: it may walk a large folder, which must not delay the start.
    pub total_bytes: Option<Box<dyn FnOnce() -> Option<u64>>>,
}

/// See the module.
pub(crate) struct Watch {
    pub screen: Screen,
    progress: Progress,
    total_bytes: Option<u64>,
    counts: Vec<WorkerStats>,
    /// What workers that died had told of themselves; the counts of their components go on in their next lives.
    gone: Vec<WorkerStats>,
    /// A link was made anew.
    relinked: bool,
    usage: Vec<Option<Usage>>,
    /// Looks at a worker while the run went on, and in how many of them who waited for whom.
    looks: u64,
    waits: BTreeMap<(String, String), u64>,
    warnings: Vec<String>,
    warnings_left_out: u64,
    begun_ns: Option<u64>,
    first_row_ns: Option<u64>,
    settled_ns: Option<u64>,
    cpu_from_ns: u64,
    /// CPU time of this process while input was processed.
    cpu_ns: u64,
    last_shown: (u64, u64),
    /// The components' own counters as they were shown last.
    counters_shown: ByComponent<u64>,
}

/// Shares of the looks in which a component waited for another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wait {
    pub waiting: String,
    pub on: String,
    pub share: f64,
}

impl Watch {
    /// Nothing seen yet.
    pub(crate) fn new(workers: u32, progress: Progress, screen: Screen) -> Self {
        Watch {
            screen,
            progress,
            total_bytes: None,
            counts: vec![WorkerStats::default(); workers as usize],
            relinked: false,
            gone: Vec::new(),
            usage: vec![None; workers as usize],
            looks: 0,
            waits: BTreeMap::new(),
            warnings: Vec::new(),
            warnings_left_out: 0,
            begun_ns: None,
            first_row_ns: None,
            settled_ns: None,
            cpu_from_ns: 0,
            cpu_ns: 0,
            last_shown: (0, 0),
            counters_shown: BTreeMap::new(),
        }
    }

    /// Notes the moment the spouts were allowed to run, once it has come.
    pub(crate) fn on_begin(&mut self, course: &Course, now_ns: u64) {
        if self.begun_ns.is_none() && course.begun_ns().is_some() {
            self.begun_ns = course.begun_ns();
            self.cpu_from_ns = system::cpu_ns();
            self.last_shown = (now_ns, 0);
        }
    }

    /// Counts of a running worker.
    pub(crate) fn on_stats(&mut self, worker: u32, counts: WorkerStats) {
        if self.begun_ns.is_some() {
            self.looks += 1;
            for pair in &counts.back_pressure {
                *self.waits.entry(pair.clone()).or_default() += 1;
            }
        }
        self.counts[worker as usize] = counts;
    }

    /// A worker is dead; `counts` are those of its components in all its lives.
    pub(crate) fn on_lost(&mut self, worker: u32, counts: Vec<ComponentStats>) {
        let next = WorkerStats { components: counts, ..WorkerStats::default() };
        let mut last = std::mem::replace(&mut self.counts[worker as usize], next);
        last.components.clear();
        // What several lives of a worker use is what one of them uses.
        last.peer_links = PeerLinks::default();
        self.gone.push(last);
    }

    /// Whether a worker was replaced, or a link made anew: what was under way there is lost.
    pub(crate) fn healed(&self) -> bool {
        self.relinked || !self.gone.is_empty()
    }

    /// A link between two workers was made anew.
    pub(crate) fn on_relinked(&mut self) {
        self.relinked = true;
    }

    /// Counts of a worker whose components have finished.
    pub(crate) fn on_finished(&mut self, worker: u32, counts: WorkerStats) {
        self.counts[worker as usize] = counts;
    }

    /// Last counts of a worker.
    pub(crate) fn on_report(&mut self, worker: u32, counts: WorkerStats, usage: Usage) {
        self.counts[worker as usize] = counts;
        self.usage[worker as usize] = Some(usage);
    }

    /// The first result row marks the end of processing: components push rows when all their input is done.
    pub(crate) fn on_row(&mut self, now_ns: u64) {
        if self.first_row_ns.is_none() {
            self.first_row_ns = Some(now_ns);
            self.cpu_ns = system::cpu_ns() - self.cpu_from_ns;
        }
    }

    /// A component's log line.
    pub(crate) fn on_log(&mut self, level: &str, component: &str, task: u32, text: &str, now_ns: u64) {
        let since = now_ns.saturating_sub(self.begun_ns.unwrap_or(now_ns)) as f64 / 1e9;
        self.screen.say(&format!("{since:>5.1} s {level:<5} {component}[{task}] {text}"));
    }

    /// A warning: shown once, kept for the report.
    pub(crate) fn on_warning(&mut self, text: String) {
        if self.warnings.contains(&text) {
            return;
        }
        if self.warnings.len() == WARNINGS_MAX {
            self.warnings_left_out += 1;
            return;
        }
        self.screen.say(&format!("warning: {text}"));
        self.warnings.push(text);
    }

    /// Notes the moment the workers settled, once it has come.
    pub(crate) fn settle(&mut self, course: &Course, now_ns: u64) {
        if course.is_settled() && self.settled_ns.is_none() {
            self.settled_ns = Some(now_ns);
            if self.first_row_ns.is_none() {
                self.cpu_ns = system::cpu_ns() - self.cpu_from_ns;
            }
        }
    }

    /// Shows the live line.
    pub(crate) fn show(&mut self, draining: bool, now_ns: u64) {
        if let Some(ask) = self.progress.total_bytes.take() {
            self.total_bytes = ask();
        }
        let total = self.total();
        let (then_ns, then_executed) = self.last_shown;
        let executed = total.executed();
        let percentiles = total.stats.latency.percentiles();
        let view = View {
            elapsed_ns: now_ns.saturating_sub(self.begun_ns.unwrap_or(now_ns)),
            rate: rate(executed.saturating_sub(then_executed), now_ns.saturating_sub(then_ns)),
            p50_ns: percentiles.p50,
            p99_ns: percentiles.p99,
            input: self.input_bytes(&total).map(|read| (read, self.total_bytes)),
            back_pressure: total.stats.back_pressure.clone(),
            draining,
            metrics: self.metrics(&total.stats, now_ns.saturating_sub(then_ns)),
        };
        self.counters_shown = total.stats.counters;
        self.last_shown = (now_ns, executed);
        self.screen.update(&view, now_ns);
    }

    /// The components' own metrics, without the counter that is in the line already.
    fn metrics(&self, stats: &WorkerStats, since_ns: u64) -> Vec<(String, Metric)> {
        let counters = each(&stats.counters).filter(|(component, name, _)| {
            self.progress.counter.as_ref().is_none_or(|(c, n)| (c, n) != (*component, *name))
        });
        let counters = counters.map(|(component, name, &count)| {
            let before = self.counters_shown.get(component).and_then(|c| c.get(name)).copied().unwrap_or(0);
            let rate = rate(count.saturating_sub(before), since_ns);
            (format!("{component}.{name}"), Metric::Counter { count, rate })
        });
        let gauges = each(&stats.gauges).map(|(c, name, &value)| (format!("{c}.{name}"), Metric::Gauge(value)));
        let histograms = each(&stats.histograms).map(|(component, name, histogram)| {
            let Percentiles { p50, p99, count, .. } = histogram.percentiles();
            (format!("{component}.{name}"), Metric::Histogram { p50_ns: p50, p99_ns: p99, count })
        });
        counters.chain(gauges).chain(histograms).collect()
    }

    fn input_bytes(&self, total: &Total) -> Option<u64> {
        let (component, name) = self.progress.counter.as_ref()?;
        Some(total.counter(component, name).unwrap_or(0))
    }

    /// Counts of all workers together.
    pub(crate) fn total(&self) -> Total {
        Total::of(self.counts.iter().chain(&self.gone))
    }

    /// What each worker used, if it lived to tell.
    pub(crate) fn usage(&self) -> &[Option<Usage>] {
        &self.usage
    }

    /// What the parent used: the app's work on the results counts as memory, not as processing.
    pub(crate) fn parent_usage(&self) -> Usage {
        Usage { cpu_ns: self.cpu_ns, rss_max_bytes: system::rss_max_bytes() }
    }

    /// From the begin to the first result row, or to the end where there are no rows.
    pub(crate) fn processing_ns(&self) -> u64 {
        self.span_ns(self.first_row_ns.or(self.settled_ns))
    }

    /// From the begin until all workers had done their part.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.span_ns(self.settled_ns)
    }

    fn span_ns(&self, end_ns: Option<u64>) -> u64 {
        let Some(begun_ns) = self.begun_ns else { return 0 };
        end_ns.unwrap_or_else(system::now_ns).saturating_sub(begun_ns)
    }

    #[cfg(test)]
    pub(crate) fn looks(&self) -> u64 {
        self.looks
    }

    /// Who waited for whom and how often, most often first.
    pub(crate) fn waits(&self) -> Vec<Wait> {
        let mut waits: Vec<_> = self
            .waits
            .iter()
            .map(|((waiting, on), count)| Wait {
                waiting: waiting.clone(),
                on: on.clone(),
                share: *count as f64 / self.looks as f64,
            })
            .collect();
        waits.sort_by(|a, b| b.share.total_cmp(&a.share));
        waits
    }

    /// All warnings, those of the workers' counts included.
    pub(crate) fn warnings(&self, total: &Total) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        for text in &total.warnings {
            if !warnings.contains(text) {
                warnings.push(text.clone());
            }
        }
        if self.warnings_left_out > 0 {
            warnings.push(format!("{} more warnings were left out", self.warnings_left_out));
        }
        warnings
    }
}

/// Component, name and value of all.
fn each<T>(of: &ByComponent<T>) -> impl Iterator<Item = (&String, &String, &T)> {
    of.iter().flat_map(|(component, values)| values.iter().map(move |(name, value)| (component, name, value)))
}

/// A count over a time, a second; 0 for no time.
pub(crate) fn rate(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 * 1e9 / ns as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::live::Show;
    use super::*;

    fn watch() -> Watch {
        let mut watch = Watch::new(2, Progress::default(), Screen::new(Show::Quiet, 0));
        let mut course = Course::new([1]);
        course.on_prepared(0, 1_000);
        watch.on_begin(&course, 1_000);
        watch
    }

    #[test]
    fn the_share_of_waiting_counts_only_looks_after_the_begin() {
        let waiting = WorkerStats { back_pressure: vec![("lines".into(), "count".into())], ..WorkerStats::default() };
        let mut early = Watch::new(1, Progress::default(), Screen::new(Show::Quiet, 0));
        early.on_stats(0, waiting.clone());
        assert_eq!(early.waits(), []);
        let mut watch = watch();
        watch.on_stats(0, waiting.clone());
        watch.on_stats(1, WorkerStats::default());
        watch.on_stats(0, waiting);
        watch.on_stats(1, WorkerStats::default());
        assert_eq!(watch.waits(), [Wait { waiting: "lines".into(), on: "count".into(), share: 0.5 }]);
    }

    #[test]
    fn the_live_view_has_every_counter_gauge_and_histogram_but_the_one_in_its_line() {
        let mut watch = watch();
        watch.progress.counter = Some(("lines".into(), "bytes".into()));
        let mut stats = WorkerStats::default();
        let counters = [("bytes".to_owned(), 5_000), ("skipped".to_owned(), 300)];
        stats.counters.insert("lines".into(), counters.into());
        stats.gauges.insert("count".into(), [("keys".to_owned(), 7)].into());
        let mut histogram = squall_metrics::Histogram::new();
        histogram.record(900);
        stats.histograms.insert("split".into(), [("line".to_owned(), histogram)].into());
        watch.counters_shown.insert("lines".into(), [("skipped".to_owned(), 100)].into());
        let metrics = watch.metrics(&stats, 2_000_000_000);
        let names: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["lines.skipped", "count.keys", "split.line"]);
        assert_eq!(metrics[0].1, Metric::Counter { count: 300, rate: 100.0 });
        assert_eq!(metrics[1].1, Metric::Gauge(7));
        assert!(matches!(metrics[2].1, Metric::Histogram { count: 1, .. }));
    }

    #[test]
    fn processing_ends_with_the_first_row_and_the_run_with_the_last_report() {
        let mut watch = watch();
        watch.on_row(5_000);
        watch.on_row(6_000);
        let mut course = Course::new([1]);
        course.on_prepared(0, 1_000);
        watch.settle(&course, 7_000);
        course.on_finished(0, 9_000);
        watch.settle(&course, 9_000);
        watch.settle(&course, 11_000);
        assert_eq!((watch.processing_ns(), watch.elapsed_ns()), (4_000, 8_000));
    }

    #[test]
    fn a_repeated_warning_is_kept_once_and_a_flood_is_counted() {
        let mut watch = watch();
        (0..WARNINGS_MAX + 7).for_each(|i| watch.on_warning(format!("w{i}")));
        watch.on_warning("w0".into());
        let warnings = watch.warnings(&Total::default());
        assert_eq!(warnings.len(), WARNINGS_MAX + 1);
        assert_eq!(warnings.last().map(String::as_str), Some("7 more warnings were left out"));
    }
}
