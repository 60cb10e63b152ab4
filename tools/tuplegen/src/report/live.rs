//! What is seen while a load runs: a few lines that change in place, or one line per interval. It is the main thread's work, off the cores that
//! are measured where there are others.

use std::io::Write as _;

use squall_metrics::format::{duration_ns, rate};

use super::text::progress;
use crate::measure::totals::{Point, Totals};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Lines that change.
    Live,
    /// A line per interval.
    Lines,
    /// None.
    Quiet,
}

/// The view of one run.
pub struct View {
    kind: Progress,
    title: String,
    /// Lines on the screen that the next picture replaces.
    drawn: usize,
}

impl View {
    /// Of a run of this target.
    pub fn new(kind: Progress, target: &str) -> View {
        View { kind, title: target.to_owned(), drawn: 0 }
    }

    /// Shows the last interval.
    pub fn show(&mut self, totals: &Totals) {
        let Some(point) = totals.timeline.last() else { return };
        let text = match self.kind {
            Progress::Quiet => return,
            Progress::Lines => progress(point) + "\n",
            Progress::Live => {
                let lines = picture(&self.title, &totals.timeline, columns());
                let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
                self.drawn = lines.len();
                lines.into_iter().fold(up, |text, line| text + "\r\x1b[K" + &line + "\n")
            }
        };
        // A closed standard error is no reason to stop measuring.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Takes the picture away: the result follows.
    pub fn end(&mut self) {
        if self.drawn > 0 {
            let _ = write!(std::io::stderr().lock(), "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }
}

fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col).max(20))
}

/// The lines of a picture, none wider than `columns`.
fn picture(title: &str, timeline: &[Point], columns: usize) -> Vec<String> {
    let Some(p) = timeline.last() else { return Vec::new() };
    let ns = |v: Option<u64>| v.map_or_else(|| "–".to_owned(), duration_ns);
    let room = columns.saturating_sub(18).clamp(8, 60);
    let line = |of: fn(&Point) -> Option<u64>| bars(timeline, room, of);
    let lines = [
        format!("{title}, {:.1} s   (Ctrl-C ends it and keeps the report)", p.to_s),
        format!("sent      {:>9}   complete {:>9}", rate(p.sent_rate), rate(p.complete_rate)),
        format!("p50       {:>8} {}", ns(p.p50_ns), line(|p| p.p50_ns)),
        format!("p99       {:>8} {}", ns(p.p99_ns), line(|p| p.p99_ns)),
        format!("max       {:>8} {}", ns(p.max_ns), line(|p| p.max_ns)),
        format!("lateness  {:>8} {}", ns(p.late_p99_ns), line(|p| p.late_p99_ns)),
    ];
    lines.into_iter().map(|line| line.chars().take(columns - 1).collect()).collect()
}

/// The last values as bars of eighths, on a logarithmic scale.
fn bars(timeline: &[Point], room: usize, of: impl Fn(&Point) -> Option<u64>) -> String {
    const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let last = &timeline[timeline.len().saturating_sub(room)..];
    let logs: Vec<Option<f64>> = last.iter().map(|p| of(p).map(|v| (v.max(1) as f64).ln())).collect();
    let (low, high) = logs.iter().flatten().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let bar = |v: &Option<f64>| match v {
        // Within a factor of two all bars look alike: that is noise.
        Some(v) => EIGHTHS[((v - low) / (high - low).max(0.7) * 7.0).round() as usize],
        None => ' ',
    };
    logs.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(p50: u64) -> Point {
        let some = Some(p50);
        Point {
            from_s: 0.0,
            to_s: 1.0,
            sent_rate: 5e4,
            complete_rate: 5e4,
            p50_ns: some,
            p99_ns: some,
            max_ns: some,
            late_p99_ns: None,
        }
    }

    #[test]
    fn a_picture_fits_the_terminal_and_shows_how_values_went() {
        let timeline = [1_000, 1_000, 8_000, 64_000].map(point);
        for columns in [20, 40, 80, 200] {
            let lines = picture("wordcount", &timeline, columns);
            assert!(lines.len() == 6 && lines.iter().all(|l| l.chars().count() < columns), "{columns}: {lines:?}");
        }
        assert!(picture("w", &timeline, 80)[2].ends_with("▁▁▅█"), "{:?}", picture("w", &timeline, 80));
        assert!(bars(&[], 8, |p| p.p50_ns).is_empty());
    }
}
