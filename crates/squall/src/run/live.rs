//! What a run shows while it goes: a line that updates itself on a terminal, with the components' own counters, gauges and histograms
//! below it; plain lines every few seconds otherwise.
//!
//! It goes to standard error: standard output is for results. Errors of writing are ignored, since a run does not
//! depend on being watched.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};

use squall_metrics::format;

const TERMINAL_EVERY_NS: u64 = 250_000_000;
const PLAIN_EVERY_NS: u64 = 5_000_000_000;
/// Chains of waiting components that fit a line.
const CHAINS_MAX: usize = 3;
/// The components' own metrics that are shown live; the report has all.
const METRICS_MAX: usize = 8;

/// How much to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// No progress, only errors, warnings and log lines.
    Quiet,
    /// Whole lines.
    Plain,
    /// A few lines, rewritten in place.
    Terminal,
}

impl Show {
    /// What the flags and standard error ask for.
    pub(crate) fn choose(quiet: bool, plain: bool) -> Show {
        match (quiet, plain || !io::stderr().is_terminal()) {
            (true, _) => Show::Quiet,
            (false, true) => Show::Plain,
            (false, false) => Show::Terminal,
        }
    }
}

/// The numbers of a live line.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct View {
    pub elapsed_ns: u64,
    /// Tuples executed a second since the last line.
    pub rate: f64,
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Input bytes read, and of how many.
    pub input: Option<(u64, Option<u64>)>,
    /// Which component waits, and on which.
    pub back_pressure: Vec<(String, String)>,
    /// The spouts were told to stop.
    pub draining: bool,
    /// The components' own metrics, by name.
    pub metrics: Vec<(String, Metric)>,
}

/// The value of a component's own metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Metric {
    /// The count, and how much it grew in a second since the last line.
    Counter {
        count: u64,
        rate: f64,
    },
    Gauge(i64),
    /// Nanoseconds.
    Histogram {
        p50_ns: Option<u64>,
        p99_ns: Option<u64>,
        count: u64,
    },
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Metric::Counter { count, rate } => {
                write!(f, "{} ({}/s)", format::count(count), format::count_short(rate as u64))
            }
            Metric::Gauge(value) => write!(f, "{value}"),
            Metric::Histogram { p50_ns, p99_ns, count } => {
                let [p50, p99] = [p50_ns, p99_ns].map(format::duration_ns_or_none);
                write!(f, "p50 {p50}  p99 {p99}  of {}", format::count(count))
            }
        }
    }
}

impl View {
    /// The line, without padding or line end. `waits` joins who waits with whom: a terminal's line is short of room.
    pub(crate) fn line(&self, waits: &str) -> String {
        let mut line =
            format!("{:>6}  {:>7} tuples/s", seconds(self.elapsed_ns), format::count_short(self.rate as u64));
        let _ = write!(line, "  p50 {}", format::duration_ns_or_none(self.p50_ns));
        let _ = write!(line, "  p99 {}", format::duration_ns_or_none(self.p99_ns));
        match self.input {
            Some((read, Some(of))) => {
                let _ = write!(line, "  {} of {} MB", megabytes(read), megabytes(of));
            }
            Some((read, None)) => {
                let _ = write!(line, "  {} MB", megabytes(read));
            }
            None => {}
        }
        if self.draining {
            line.push_str("  draining");
        }
        let chains = chains(&self.back_pressure, waits);
        if !chains.is_empty() {
            let _ = write!(line, "  back-pressure: {}", chains.join("; "));
        }
        line
    }

    /// A line for each of the components' own metrics, at most eight and one that counts the others.
    pub(crate) fn metric_lines(&self) -> Vec<String> {
        let shown = &self.metrics[..self.metrics.len().min(METRICS_MAX)];
        let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut lines: Vec<String> = shown.iter().map(|(name, value)| format!("  {name:<width$}  {value}")).collect();
        match self.metrics.len() - shown.len() {
            0 => {}
            more => lines.push(format!("  … and {more} more, which the report will show")),
        }
        lines
    }
}

fn seconds(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / 1e9)
}

fn megabytes(bytes: u64) -> String {
    let mb = bytes as f64 / 1e6;
    if mb < 10.0 { format!("{mb:.1}") } else { format!("{mb:.0}") }
}

/// Who waits for whom, from those nobody waits for down to the one that holds all up, joined by `joint`: `lines ← split ←
/// count`. At most three chains, then `…`.
fn chains(waits: &[(String, String)], joint: &str) -> Vec<String> {
    let waited_for = |name: &str| waits.iter().any(|(_, on)| on == name);
    let mut heads: Vec<&str> = Vec::new();
    for (waiting, _) in waits {
        if !waited_for(waiting) && !heads.contains(&waiting.as_str()) {
            heads.push(waiting);
        }
    }
    // Nothing but a circle (declared feedback): start anywhere.
    if heads.is_empty() {
        heads.extend(waits.first().map(|(waiting, _)| waiting.as_str()));
    }
    let mut found = Vec::new();
    for head in heads {
        follow(waits, vec![head], joint, &mut found);
    }
    if found.len() > CHAINS_MAX {
        found.truncate(CHAINS_MAX);
        found.push("…".into());
    }
    found
}

fn follow<'a>(waits: &'a [(String, String)], path: Vec<&'a str>, joint: &str, found: &mut Vec<String>) {
    if found.len() > CHAINS_MAX {
        return;
    }
    let end = path[path.len() - 1];
    let mut ends_here = true;
    for (_, on) in waits.iter().filter(|(waiting, on)| waiting == end && !path.contains(&on.as_str())) {
        ends_here = false;
        follow(waits, [path.as_slice(), &[on.as_str()]].concat(), joint, found);
    }
    if ends_here {
        found.push(path.join(joint));
    }
}

/// Where the lines go. Holds what it takes to rewrite one.
pub(crate) struct Screen {
    show: Show,
    due_ns: u64,
    /// Lines of the live view that stand on the terminal; the cursor is at the end of the last.
    lines: usize,
}

impl Screen {
    /// Nothing shown yet; the first line is due one interval after `now_ns`.
    pub(crate) fn new(show: Show, now_ns: u64) -> Self {
        let mut screen = Screen { show, due_ns: 0, lines: 0 };
        screen.skip(now_ns);
        screen
    }

    fn every_ns(&self) -> u64 {
        match self.show {
            Show::Quiet => u64::MAX,
            Show::Plain => PLAIN_EVERY_NS,
            Show::Terminal => TERMINAL_EVERY_NS,
        }
    }

    /// When the next live line is due.
    pub(crate) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Sets the next due time without showing anything.
    pub(crate) fn skip(&mut self, now_ns: u64) {
        self.due_ns = now_ns.saturating_add(self.every_ns());
    }

    /// Shows a live line and sets the next due time.
    pub(crate) fn update(&mut self, view: &View, now_ns: u64) {
        self.skip(now_ns);
        let text = match self.show {
            Show::Quiet => return,
            Show::Plain => {
                let line = view.line(" waits for ");
                std::iter::once(line).chain(view.metric_lines()).map(|line| line + "\n").collect()
            }
            Show::Terminal => {
                let (columns, rows) = size();
                let mut lines = vec![view.line(" ← ")];
                lines.extend(view.metric_lines());
                // What scrolls off the top cannot be rewritten.
                lines.truncate(rows.saturating_sub(1).max(1));
                let lines: Vec<String> = lines.iter().map(|line| fit(line, columns)).collect();
                let text = format!("{}{}", back_over(self.lines), lines.join("\r\n"));
                self.lines = lines.len();
                text
            }
        };
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// Prints a line that stays, whatever the mode.
    pub(crate) fn say(&mut self, line: &str) {
        self.clear();
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Prints a line of progress: not with `--quiet`.
    pub(crate) fn note(&mut self, line: &str) {
        if self.show != Show::Quiet {
            self.say(line);
        }
    }

    /// Takes the live view off the terminal.
    pub(crate) fn clear(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines > 0 {
            let mut err = io::stderr().lock();
            let _ = err.write_all(back_over(lines).as_bytes()).and_then(|()| err.flush());
        }
    }
}

/// Moves to the start of the live view of so many lines and clears the terminal from there.
fn back_over(lines: usize) -> String {
    match lines {
        0 | 1 => "\r\x1b[J".to_owned(),
        more => format!("\r\x1b[{}A\x1b[J", more - 1),
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        _ => (80, 24),
    }
}

/// Cuts a line to the terminal: a wrapped line cannot be rewritten. All characters we print are one column wide.
fn fit(line: &str, columns: usize) -> String {
    if line.chars().count() < columns {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(columns.saturating_sub(2)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn a_live_line_shows_rate_latency_input_and_who_waits() {
        let mut view = View {
            elapsed_ns: 3_240_000_000,
            rate: 12_345_678.9,
            p50_ns: Some(8_400),
            p99_ns: Some(1_260_000),
            input: Some((84_200_000, Some(200_000_000))),
            back_pressure: waits(&[("split", "count"), ("lines", "split")]),
            draining: false,
            metrics: Vec::new(),
        };
        assert_eq!(
            view.line(" ← "),
            " 3.2 s   12.3 M tuples/s  p50 8.4 µs  p99 1.3 ms  84 of 200 MB  \
             back-pressure: lines ← split ← count"
        );
        assert!(view.line(" waits for ").ends_with("back-pressure: lines waits for split waits for count"));
        view.back_pressure.clear();
        view.input = Some((1_000_000, None));
        view.p99_ns = None;
        view.draining = true;
        assert_eq!(view.line(" ← "), " 3.2 s   12.3 M tuples/s  p50 8.4 µs  p99 –  1.0 MB  draining");
        assert_eq!(View::default().line(" ← "), " 0.0 s        0 tuples/s  p50 –  p99 –");
    }

    #[test]
    fn the_components_own_metrics_stand_below_the_line_aligned_and_bounded() {
        let metrics = vec![
            ("lines.bytes".into(), Metric::Counter { count: 84_200_000, rate: 12_345_678.0 }),
            ("count.keys".into(), Metric::Gauge(-3)),
            ("split.line".into(), Metric::Histogram { p50_ns: Some(8_400), p99_ns: None, count: 1_000 }),
        ];
        let mut view = View { metrics, ..View::default() };
        let want =
            ["  lines.bytes  84,200,000 (12.3 M/s)", "  count.keys   -3", "  split.line   p50 8.4 µs  p99 –  of 1,000"];
        assert_eq!(view.metric_lines(), want);
        view.metrics = (0..METRICS_MAX + 2).map(|i| (format!("c.g{i}"), Metric::Gauge(0))).collect();
        let lines = view.metric_lines();
        assert_eq!(lines.len(), METRICS_MAX + 1);
        assert_eq!(lines.last().map(String::as_str), Some("  … and 2 more, which the report will show"));
    }

    #[test]
    fn a_view_of_several_lines_is_rewritten_from_its_first() {
        assert_eq!((back_over(0).as_str(), back_over(1).as_str()), ("\r\x1b[J", "\r\x1b[J"));
        assert_eq!(back_over(3), "\r\x1b[2A\x1b[J");
    }

    #[test]
    fn chains_lead_from_the_spout_to_the_component_that_holds_all_up() {
        assert_eq!(chains(&[], " ← "), Vec::<String>::new());
        assert_eq!(chains(&waits(&[("a", "b"), ("c", "b")]), " ← "), ["a ← b", "c ← b"]);
        assert_eq!(chains(&waits(&[("a", "b"), ("a", "c")]), " ← "), ["a ← b", "a ← c"]);
        assert_eq!(chains(&waits(&[("a", "b"), ("b", "a")]), " ← "), ["a ← b"]);
        let many = waits(&[("s", "a"), ("s", "b"), ("s", "c"), ("s", "d"), ("s", "e")]);
        assert_eq!(chains(&many, " ← ").last().map(String::as_str), Some("…"));
        assert_eq!(chains(&many, " ← ").len(), CHAINS_MAX + 1);
    }

    #[test]
    fn a_line_is_cut_before_it_wraps() {
        assert_eq!(fit("p50 8 µs", 80), "p50 8 µs");
        assert_eq!(fit("µµµµµµ", 6), "µµµµ…");
        assert_eq!(fit("µµµµµ", 6), "µµµµµ");
    }
}
