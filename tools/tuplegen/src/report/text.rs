//! A run in a terminal, and as CSV.

use std::fmt::Write as _;

use squall_metrics::format::{count, duration_ns, duration_ns_or_none, rate};

use super::run::{Figures, RunReport};
use crate::measure::totals::Point;

/// The header line: what was asked for.
pub fn headline(r: &RunReport) -> String {
    let job = &r.job;
    let pace = match job.loop_kind.as_str() {
        "closed" => format!("CLOSED LOOP of {}", job.closed.unwrap_or(0)),
        "max" => "AS FAST AS IT GOES (not paced: latencies are those of a full link)".to_owned(),
        _ => match job.rate {
            Some(r) => format!("open loop, {} {}", job.arrival, rate(r)),
            None => format!("open loop, {}", job.arrival),
        },
    };
    let length = match (job.duration_s, job.count) {
        (Some(s), _) => format!("{s} s (warm-up {} s)", job.warmup_s),
        (None, Some(n)) => format!("{} tuples", count(n)),
        _ => String::new(),
    };
    let size =
        if job.size.starts_with(|c: char| c.is_ascii_digit()) { format!("{} B", job.size) } else { job.size.clone() };
    let acks = if job.acks { ", acks" } else { "" };
    format!(
        "{}: {pace}, {length}, records of {size}{acks}, seed {}, io {}, wait {}",
        job.target, job.seed, r.io, r.wait
    )
}

/// The verdict: one word, grade, reasons.
pub fn verdict(r: &RunReport) -> String {
    let v = &r.verdict;
    let mut text = v.word.text().to_owned();
    if !r.slos.is_empty() {
        let held = r.slos.iter().filter(|c| c.holds == Some(true)).count();
        let _ = write!(text, "  {held}/{} SLOs", r.slos.len());
    }
    if r.interrupted {
        text += "  interrupted: what follows is the part until then";
    }
    let _ = write!(text, "  grade {}", v.grade);
    if !v.grade_reasons.is_empty() {
        let _ = write!(text, " ({})", v.grade_reasons.join("; "));
    }
    text.push('\n');
    v.reasons.iter().for_each(|reason| _ = writeln!(text, "  {reason}"));
    text
}

/// Columns of a table with what its rows are about.
const WIDE: usize = 126;

/// The whole result, in so many columns: sentences are broken between words, and below 126 columns the table says less. Below 80 it is
/// what the terminal makes of it.
pub fn text(r: &RunReport, columns: usize) -> String {
    let broken = |line: &str| line.lines().map(|l| wrapped(l, columns)).collect::<String>();
    let wide = columns >= WIDE;
    let cell = if wide { 10 } else { 9 };
    let mut text = broken(&format!("{}\n{}\n", headline(r), verdict(r)));
    let _ = write!(text, "{:<10}", "");
    for name in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        let _ = write!(text, "{name:>cell$}");
    }
    let _ = writeln!(text, "{:>14}", "samples");
    let mut row = |name: &str, f: &Figures, about: &str| {
        let _ = write!(text, "{name:<10}");
        f.columns().iter().for_each(|(_, v)| _ = write!(text, "{:>cell$}", duration_ns_or_none(*v)));
        let _ =
            writeln!(text, "{:>14}{}{}", count(f.count), if wide { "  " } else { "" }, if wide { about } else { "" });
    };
    row("intended", &r.intended, "from the time at which tuples were due");
    row("actual", &r.actual, "from the time at which they were sent");
    row("lateness", &r.late, "of the generator");
    r.hiccups.iter().for_each(|h| row(&format!("hiccup {}", h.core), &h.late, "of that core, in the same run"));
    if r.gaps.count > 0 {
        row("gaps", &r.gaps, "of the generating thread, above 2 µs");
    }
    let c = &r.counts;
    let mut rest = String::new();
    let _ = writeln!(
        rest,
        "due {}  sent {}  complete {}  lost {}  dup {}  reordered {}  corrupt {}  unknown {}",
        count(r.due),
        count(c.sent),
        count(c.complete),
        count(c.lost),
        count(c.duplicates),
        count(c.reordered),
        count(c.corrupt),
        count(c.unknown)
    );
    let _ = writeln!(
        rest,
        "sent at {}, complete at {}, {:.1} s in all, link full {:.1} % of the time, {:.2} cores",
        rate(r.sent_rate),
        rate(r.complete_rate),
        r.took_s,
        r.blocked_share * 100.0,
        r.cpu_cores
    );
    if !r.hops.is_empty() {
        let hop = |h: &crate::target::Hop| format!("{} {}", h.name, duration_ns_or_none(h.p50_ns));
        let _ = writeln!(rest, "hops (p50, sampled): {}", r.hops.iter().map(hop).collect::<Vec<_>>().join("  "));
    }
    r.notes.iter().for_each(|note| _ = writeln!(rest, "note: {note}"));
    let _ = writeln!(rest, "machine: {}", machine_line(r));
    text + "\n" + &broken(&rest)
}

/// Machine and generator in one line.
pub fn machine_line(r: &RunReport) -> String {
    let machine = &r.machine;
    let word = |key: &str| machine.get(key).and_then(|v| v.as_str()).unwrap_or("–").to_owned();
    let cores = machine.get("cores").and_then(|v| v.as_array()).map_or(0, Vec::len);
    let pinned = r.generator_core.map_or_else(|| "not pinned".to_owned(), |c| format!("core {c}"));
    let waits = if r.generator_spins { "spins" } else { "sleeps" };
    format!(
        "{}, {cores} cores, Linux {}, clock {}, governor {}, commit {}; generator {pinned}, {waits}",
        word("cpu"),
        word("kernel"),
        word("clock_source"),
        word("governor"),
        word("commit")
    )
}

/// A line broken between words so that none fills so many columns; what follows the first begins two columns in from it.
fn wrapped(line: &str, columns: usize) -> String {
    let indent = line.len() - line.trim_start().len();
    if line.chars().count() < columns {
        return format!("{line}\n");
    }
    let (mut text, mut at) = (" ".repeat(indent), indent);
    for (i, word) in line.trim_start().split(' ').enumerate() {
        let length = word.chars().count();
        if i > 0 && at + 1 + length >= columns {
            at = indent + 2;
            text = text.trim_end().to_owned() + "\n" + &" ".repeat(at);
        } else if i > 0 {
            text.push(' ');
            at += 1;
        }
        text += word;
        at += length;
    }
    text + "\n"
}

const CSV_HEAD: &str = "target,loop,rate,arrival,size,verdict,exit_code,grade,due,sent,complete,lost,dup,reordered,corrupt,sent_rate,complete_rate,\
p50_ns,p90_ns,p99_ns,p999_ns,p9999_ns,max_ns,actual_p50_ns,actual_p99_ns,late_p50_ns,late_p99_ns,cpu_cores";

/// A line of CSV per run, below the names.
pub fn csv(runs: &[&RunReport]) -> String {
    let mut text = format!("{CSV_HEAD}\n");
    let num = |v: Option<u64>| v.map_or_else(String::new, |v| v.to_string());
    for r in runs {
        let (c, i) = (&r.counts, &r.intended);
        let cells = [
            quoted(&r.job.target),
            r.job.loop_kind.clone(),
            r.job.rate.map_or_else(String::new, |r| r.to_string()),
            quoted(&r.job.arrival),
            quoted(&r.job.size),
            r.verdict.word.text().to_owned(),
            r.verdict.exit_code.to_string(),
            r.verdict.grade.to_string(),
            r.due.to_string(),
            c.sent.to_string(),
            c.complete.to_string(),
            c.lost.to_string(),
            c.duplicates.to_string(),
            c.reordered.to_string(),
            c.corrupt.to_string(),
            format!("{:.1}", r.sent_rate),
            format!("{:.1}", r.complete_rate),
            num(i.p50),
            num(i.p90),
            num(i.p99),
            num(i.p999),
            num(i.p9999),
            num(i.max),
            num(r.actual.p50),
            num(r.actual.p99),
            num(r.late.p50),
            num(r.late.p99),
            format!("{:.3}", r.cpu_cores),
        ];
        text += &cells.join(",");
        text.push('\n');
    }
    text
}

/// Runs in the columns of storm-loadgen's ThroughputVsLatency, separated by tabs: times in seconds from the first run's start, latencies in
/// milliseconds (from the intended time, as there), memory in MB; `congested` where the link to the topology was full for a hundredth of the time.
pub fn storm(runs: &[&RunReport]) -> String {
    let mut text =
        "start_time\tend_time\trate\tmean\t99%ile\t99.9%ile\tcores\tmem\tfailed\tids\tcongested\n".to_owned();
    let zero = runs.iter().map(|r| r.started_unix_ms).min().unwrap_or(0);
    let ms = |ns: Option<f64>| ns.map_or_else(String::new, |ns| format!("{:.6}", ns / 1e6));
    for r in runs {
        let start = (r.started_unix_ms - zero) as f64 / 1e3;
        let _ = writeln!(
            text,
            "{start:.1}\t{:.1}\t{:.1}\t{}\t{}\t{}\t{:.3}\t{}\t{}\t{}\t{}",
            start + r.took_s,
            r.complete_rate,
            ms(r.intended.mean),
            ms(r.intended.p99.map(|n| n as f64)),
            ms(r.intended.p999.map(|n| n as f64)),
            r.cpu_cores,
            r.resident_bytes.map_or_else(String::new, |b| format!("{:.1}", b as f64 / 1e6)),
            r.counts.lost,
            r.job.target,
            if r.blocked_share >= 0.01 { "ingest" } else { "" },
        );
    }
    text
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The line of time as CSV.
pub fn timeseries(points: &[Point]) -> String {
    let mut text = "from_s,to_s,sent_rate,complete_rate,p50_ns,p99_ns,max_ns,late_p99_ns\n".to_owned();
    let num = |v: Option<u64>| v.map_or_else(String::new, |v| v.to_string());
    for p in points {
        let _ = writeln!(
            text,
            "{:.3},{:.3},{:.1},{:.1},{},{},{},{}",
            p.from_s,
            p.to_s,
            p.sent_rate,
            p.complete_rate,
            num(p.p50_ns),
            num(p.p99_ns),
            num(p.max_ns),
            num(p.late_p99_ns)
        );
    }
    text
}

/// A line while it runs.
pub fn progress(p: &Point) -> String {
    let ns = |v: Option<u64>| v.map_or_else(|| "–".to_owned(), duration_ns);
    format!(
        "{:>6.1} s  sent {}, complete {}, p50 {}, p99 {}, max {}, lateness p99 {}",
        p.to_s,
        rate(p.sent_rate),
        rate(p.complete_rate),
        ns(p.p50_ns),
        ns(p.p99_ns),
        ns(p.max_ns),
        ns(p.late_p99_ns)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        assert_eq!(wrapped("short", 80), "short\n");
        let long = "  one two three four five";
        assert_eq!(wrapped(long, 14), "  one two\n    three\n    four five\n");
        for columns in [20, 40, 80] {
            let text = wrapped(&"hops (p50, sampled): lateness 38 ns  link in 43.7 µs  ".repeat(5), columns);
            assert!(text.lines().all(|l| l.chars().count() < columns), "{text}");
        }
        // A word that is longer stays whole.
        assert_eq!(wrapped("a /a/very/long/path b", 8), "a\n  /a/very/long/path\n  b\n");
    }
}
