//! The report as text, for people.
//!
//! The app's own lines first, then what happened in every run: components, latency, and a list of facts. Columns are
//! as wide as their content; a percentile that too few samples support is `–`.

use crate::run::stats::PeerLinks;
use std::fmt::Write as _;

use squall_metrics::{Percentiles, SizeHistogram, format};

use super::{ComponentRow, End, Report, Roots};
use crate::run::stats::{ComponentStats, LinkStats};

/// The whole report, each line ended.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.sections.lines {
        text.push_str(line);
        text.push('\n');
    }
    if !report.sections.lines.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "{}", headline(report));
    text.push('\n');
    table(&mut text, &component_rows(&report.components));
    text.push('\n');
    table(&mut text, &latency_rows(report));
    text.push('\n');
    if !report.by_link.is_empty() {
        table(&mut text, &link_rows(&report.by_link));
        text.push('\n');
    }
    for (name, value) in facts(report) {
        let _ = writeln!(text, "{name:<14}{value}");
    }
    text
}

fn headline(report: &Report) -> String {
    let Report { topology, workers, .. } = report;
    let time = format::duration_ns(report.processing_ns);
    let plural = if *workers == 1 { "" } else { "s" };
    let end = match report.end {
        End::Finished => "finished in",
        End::Interrupted => "interrupted after",
        End::Failed => "failed after",
    };
    format!("{topology} on {workers} worker{plural}: {end} {time}")
}

/// Right-aligned columns, the first one left-aligned, two spaces between them.
fn table(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if column == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn component_rows(components: &[ComponentRow]) -> Vec<Vec<String>> {
    let any_acked = components.iter().any(|row| row.acked > 0);
    let any_dropped = components.iter().any(|row| !row.dropped.is_empty());
    let mut head = vec!["component", "tasks", "emitted", "executed"];
    head.extend(any_acked.then_some("acked"));
    head.push("failed");
    head.extend(any_dropped.then_some("dropped"));
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for row in components {
        let executed = if row.spout { format::NONE.to_owned() } else { format::count(row.executed) };
        let mut cells = vec![row.name.clone(), row.tasks.to_string(), format::count(row.emitted), executed];
        cells.extend(any_acked.then(|| format::count(row.acked)));
        cells.push(format::count(row.failed));
        cells.extend(any_dropped.then(|| format::count(row.dropped.values().sum())));
        rows.push(cells);
    }
    rows
}

fn latency_rows(report: &Report) -> Vec<Vec<String>> {
    let mut head = vec!["latency".to_owned()];
    head.extend(report.latency.rows().map(|(name, _)| name.to_owned()));
    head.push("samples".into());
    let mut rows = vec![head, percentile_row("end to end", &report.latency)];
    for (component, histograms) in &report.histograms {
        rows.extend(histograms.iter().map(|(name, value)| percentile_row(&format!("{component}.{name}"), value)));
    }
    rows
}

fn percentile_row(name: &str, percentiles: &Percentiles) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend(percentiles.rows().map(|(_, value)| format::duration_ns_or_none(value)));
    row.push(format::count(percentiles.count));
    row
}

/// Links in the table, at most: those with the most tuples.
const LINKS_SHOWN: usize = 12;

fn link_rows(links: &[LinkStats]) -> Vec<Vec<String>> {
    let head = ["link", "kind", "batches", "tuples", "a batch", "p50", "p99", "max", "bytes", "stalls", "wake-ups"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut shown: Vec<&LinkStats> = links.iter().collect();
    shown.sort_by_key(|l| std::cmp::Reverse(l.traffic.tuples));
    shown.truncate(LINKS_SHOWN);
    shown.sort_by_key(|l| (l.from, l.to));
    for LinkStats { from, to, kind, traffic } in &shown {
        let sizes = traffic.batch_sizes.percentiles();
        let size = |n: Option<u64>| n.map_or_else(|| format::NONE.to_owned(), format::count);
        let stalls = match traffic.credit_stalls {
            0 => "0".to_owned(),
            n => format!("{} ({})", format::count(n), format::duration_ns(traffic.stalled_ns)),
        };
        rows.push(vec![
            if from == to { format!("{from}") } else { format!("{from} → {to}") },
            kind.clone(),
            format::count(traffic.batches),
            format::count(traffic.tuples),
            format!("{:.1}", traffic.batch_sizes.mean()),
            size(sizes.p50),
            size(sizes.p99),
            size(sizes.max),
            format::bytes(traffic.bytes),
            stalls,
            format::count(traffic.wakeups_sent),
        ]);
    }
    if links.len() > shown.len() {
        rows.push(vec![format!("… and {} more", links.len() - shown.len())]);
    }
    rows
}

/// How the batches of all links divide by size, as shares.
fn batch_sizes(sizes: &SizeHistogram) -> String {
    const EDGES: [(u64, u64, &str); 5] =
        [(0, 2, "1"), (2, 16, "2–15"), (16, 128, "16–127"), (128, 1024, "128–1023"), (1024, u64::MAX, "1024 or more")];
    let share = |(from, below, name): (u64, u64, &str)| {
        let n = sizes.count_between(from, below);
        (n > 0).then(|| format!("{name}: {} %", percent(n, sizes.count())))
    };
    format!("tuples {}", EDGES.into_iter().filter_map(share).collect::<Vec<_>>().join(", "))
}

/// A share that is there is never shown as 0.
fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 * 100.0 / whole as f64;
    if share < 0.1 { "<0.1".to_owned() } else { format!("{share:.1}") }
}

fn per_tuple_fact(report: &Report) -> String {
    let links = &report.links;
    let per = |n: u64| super::per_tuple(n, report.emitted()).map_or_else(|| format::NONE.into(), |v| format!("{v:.2}"));
    let calls = super::per_tuple(links.syscalls, report.emitted());
    format!(
        "{} serializations, {} copies on send, {} on receive, {} system calls",
        per(links.serializations),
        per(links.copies_send),
        per(links.copies_receive),
        calls.map_or_else(|| format::NONE.into(), |v| format!("{v:.5}")),
    )
}

fn kernel_fact(report: &Report) -> String {
    let links = &report.links;
    let count = format::count;
    let mut text = format!(
        "{} sleeps, {} wake-ups sent, {} system calls",
        count(links.sleeps),
        count(links.wakeups_sent),
        count(links.syscalls)
    );
    if links.zc_sent > 0 {
        let _ =
            write!(text, ", {} zero-copy sends ({} copied after all)", count(links.zc_sent), count(links.zc_copied));
    }
    text
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("rate", format!("{} executed tuples", format::rate(report.rate))),
        ("cores used", format!("{:.2} (all processes)", report.cores)),
        ("start-up", start_up(report)),
        ("memory", memory(report)),
        ("i/o", format!("{}, waiting: {}", or_none(&report.io), or_none(&report.wait))),
    ];
    if report.links.batches > 0 {
        facts.push(("per tuple", per_tuple_fact(report)));
        facts.push(("batch sizes", batch_sizes(&report.links.batch_sizes)));
        facts.push(("kernel", kernel_fact(report)));
    }
    let PeerLinks { shm, sockets, pages } = &report.worker_links;
    if shm + sockets > 0 {
        let shared = if pages.is_empty() { String::new() } else { format!(" ({})", pages.join(", ")) };
        facts.push(("worker links", format!("{shm} through shared memory{shared}, {sockets} through sockets")));
    }
    if let Some(verified) = report.verified {
        facts.push(("verified", if verified { "yes" } else { "no" }.to_owned()));
    }
    for wait in &report.waits {
        let share = format!("{} waited for {} {:.0} % of the time", wait.waiting, wait.on, wait.share * 100.0);
        facts.push(("back-pressure", share));
    }
    for row in &report.components {
        facts.extend(roots_fact(report, row).map(|fact| ("roots", fact)));
        let ComponentStats { restarts, down_ns_max, dead_letters, long_calls, long_call_ns_max, .. } = row.counts;
        if restarts > 0 {
            let times = if restarts == 1 { "once".to_owned() } else { format!("{} times", format::count(restarts)) };
            let longest = format::duration_ns(down_ns_max);
            facts.push((
                "restarted",
                format!("{} {times}, its state lost each time; up to {longest} until it went on", row.name),
            ));
        }
        if dead_letters > 0 {
            facts.push(("dead letters", format!("{} of {}", format::count(dead_letters), row.name)));
        }
        if long_calls > 0 {
            let longest = format::duration_ns(long_call_ns_max);
            facts.push((
                "hog",
                format!("{} held its reactor for up to {longest} in one call: run it on a side thread", row.name),
            ));
        }
        for (reason, count) in &row.dropped {
            facts.push(("dropped", format!("{} in {}: {reason}", format::count(*count), row.name)));
        }
        if row.moved_bytes > 0 {
            let moved = format::bytes(row.moved_bytes);
            facts.push(("set aside", format!("{moved} for {} while it was paused", row.name)));
        }
    }
    for (component, counters) in &report.counters {
        let fact = |(name, value): (&String, &u64)| format!("{component}.{name} {}", format::count(*value));
        facts.extend(counters.iter().map(|counter| ("counter", fact(counter))));
    }
    for (component, gauges) in &report.gauges {
        facts.extend(gauges.iter().map(|(name, value)| ("gauge", format!("{component}.{name} {value}"))));
    }
    for (component, count) in &report.left_over {
        facts.push(("left over", format!("{} tuples sent to {component} were not executed", format::count(*count))));
    }
    for warning in &report.warnings {
        facts.push(("warning", warning.clone()));
    }
    facts
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { format::NONE } else { text }
}

/// `1,000 of lines: 990 acked, 10 failed (7 timed out, 3 failed), 0 pending; 10 emitted again`.
fn roots_fact(report: &Report, row: &ComponentRow) -> Option<String> {
    let Roots { begun, acked, failed, pending, replayed, given_up, .. } = Roots::of(report, row)?;
    let count = format::count;
    let mut text = format!("{} of {}: {} acked", count(begun), row.name, count(acked));
    if !failed.is_empty() {
        let each: Vec<_> = failed.iter().map(|(reason, n)| format!("{} {reason}", count(*n))).collect();
        let _ = write!(text, ", {} failed ({})", count(failed.values().sum()), each.join(", "));
    }
    let _ = write!(text, ", {} pending", count(pending));
    if replayed > 0 {
        let _ = write!(text, "; {} emitted again", count(replayed));
    }
    if given_up > 0 {
        let _ = write!(text, "; {} given up", count(given_up));
    }
    Some(text)
}

fn start_up(report: &Report) -> String {
    match report.startup_ns {
        Some(ns) => format!("{} (process start to the first tuple at an end of the topology)", format::duration_ns(ns)),
        None => format!("{} (no tuple is known to have reached an end of the topology)", format::NONE),
    }
}

fn memory(report: &Report) -> String {
    let one = |(process, bytes): &(String, Option<u64>)| {
        let bytes = bytes.map_or_else(|| format::NONE.into(), format::bytes);
        if process == "parent" { format!("parent {bytes}") } else { format!("worker {process} {bytes}") }
    };
    let all: Vec<_> = report.rss_bytes.iter().map(one).collect();
    format!("{} (largest resident size)", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_text_of_a_report_is_aligned_and_complete() {
        let want = "\
verified against a plain loop: 3.1 times its speed

word-count on 2 workers: finished in 2.3 s

component  tasks     emitted    executed  failed  dropped
lines          2   5,123,456           –       0        0
split          2  31,234,567   5,123,456       0        0
count          4           0  31,234,567       2        3

latency        p50     p90     p99   p99.9  p99.99     max    samples
end to end  8.4 µs  8.4 µs  8.4 µs  8.4 µs  8.4 µs  1.3 ms  5,000,400
split.line  8.4 µs  8.4 µs  8.4 µs  8.4 µs  8.4 µs  1.3 ms  5,000,400

link    kind  batches      tuples  a batch    p50    p99    max    bytes      stalls  wake-ups
0      local    3,753   5,122,845   1365.0  1,365  1,365  1,365  235 MiB           0         0
0 → 1   ring   22,980  31,231,300   1359.1  1,365  1,365  1,365  1.4 GiB  7 (1.5 ms)        42

rate          15.7 M/s executed tuples
cores used    1.87 (all processes)
start-up      84.2 ms (process start to the first tuple at an end of the topology)
memory        worker 0 45.0 MiB, worker 1 –, parent 12.0 MiB (largest resident size)
i/o           io_uring, waiting: hybrid
per tuple     1.00 serializations, 0.86 copies on send, 0.00 on receive, 0.00010 system calls
batch sizes   tuples 1: 0.4 %, 1024 or more: 99.6 %
kernel        12 sleeps, 42 wake-ups sent, 3,636 system calls
worker links  3 through shared memory (normal pages), 1 through sockets
verified      yes
back-pressure lines waited for count 45 % of the time
dropped       3 in count: feedback full
counter       lines.bytes 200,000,000
warning       core 1 could not be pinned: EPERM
";
        assert_eq!(render(&sample()), want);
    }

    #[test]
    fn roots_restarts_and_hogs_are_told() {
        let mut report = sample();
        let lines = &mut report.components[0];
        (lines.acked, lines.counts.roots) = (990, 1000);
        lines.counts.roots_failed = [("failed".to_owned(), 3), ("timed out".to_owned(), 5)].into();
        report.counters.entry("lines".into()).or_default().extend([("replayed".to_owned(), 8)]);
        let count = &mut report.components[2].counts;
        (count.restarts, count.down_ns_max, count.dead_letters) = (3, 1_250_000, 1);
        (count.long_calls, count.long_call_ns_max) = (5, 120_000_000);
        let text = render(&report);
        for line in [
            "roots         1,000 of lines: 990 acked, 8 failed (3 failed, 5 timed out), 2 pending; 8 emitted again\n",
            "restarted     count 3 times, its state lost each time; up to 1.2 ms until it went on\n",
            "dead letters  1 of count\n",
            "hog           count held its reactor for up to 120 ms in one call: run it on a side thread\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn many_links_are_cut_to_the_busiest_and_zero_copy_sends_are_told() {
        let mut report = sample();
        let one = report.by_link[1].clone();
        report.by_link = (0..20).map(|to| LinkStats { to, ..one.clone() }).collect();
        report.by_link[19].traffic.tuples += 1;
        (report.links.zc_sent, report.links.zc_copied) = (50, 49);
        let text = render(&report);
        assert!(text.contains("\n0 → 19 ") && text.contains("\n… and 8 more\n"), "{text}");
        assert!(text.contains("50 zero-copy sends (49 copied after all)\n"), "{text}");
    }

    #[test]
    fn unknown_numbers_are_dashes_and_a_cut_run_says_what_was_left() {
        let mut report = sample();
        report.sections = Default::default();
        report.latency = Percentiles { max: Some(900), count: 3, ..Percentiles::default() };
        report.histograms.clear();
        report.startup_ns = None;
        report.io.clear();
        report.end = End::Interrupted;
        report.workers = 1;
        report.left_over = vec![("count".into(), 1_234)];
        let text = render(&report);
        assert!(text.starts_with("word-count on 1 worker: interrupted after 2.3 s\n"), "{text}");
        assert!(text.contains("\nend to end    –    –    –      –       –  900 ns        3\n"), "{text}");
        assert!(
            text.contains("start-up      – (no tuple is known to have reached an end of the topology)\n"),
            "{text}"
        );
        assert!(text.contains("i/o           –, waiting: hybrid\n"), "{text}");
        assert!(text.contains("left over     1,234 tuples sent to count were not executed\n"), "{text}");
    }
}
