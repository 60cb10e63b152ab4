//! What the parent does with the counted words: checks them, and puts them into the report.

use std::time::Duration;

use squall::components::{LinesInput, ReadCounts};
use squall::{BoxError, Outcome, Verdict};

use crate::plain::{self, Plain};
use crate::words::{Comparison, Difference, Summary};
use crate::{Options, rows};

/// The hook of the run: see [`squall::App::after_run`].
///
/// The plain loop runs first, while the words still wait in the workers, and is taken apart row by row
/// as they come: so each word is in memory once in the workers and once here, never twice.
pub(crate) fn check(options: &Options, outcome: &mut Outcome<'_>) -> Result<Verdict, BoxError> {
    let inputs: Vec<LinesInput> = options.inputs.iter().cloned().map(Into::into).collect();
    let verify = !options.no_verify && std::env::var_os("VERIFY").is_none_or(|value| value != "0");
    let plain = if verify && !outcome.interrupted() {
        outcome.note("counting the same once more with a plain loop");
        Some(plain::count(&inputs)?)
    } else {
        None
    };
    let run = Run { took: outcome.processing_time(), plain_took: plain.as_ref().map(|p| p.took) };
    let plain_read = plain.as_ref().map(|plain| plain.read);
    let mut comparison = plain.map(|Plain { counts, .. }| Comparison::with(counts));
    let mut summary = Summary::new(options.top);
    for chunk in outcome.results() {
        for row in rows::decode(&chunk.bytes) {
            let (word, count) = row?;
            summary.add(word, count);
            if let Some(comparison) = &mut comparison {
                comparison.row(word, count);
            }
        }
    }
    if let Some(comparison) = &mut comparison {
        comparison.finish();
    }
    if !outcome.completed() && !outcome.interrupted() {
        // The run failed while its words came: half of them would be a wrong answer, and it says why itself.
        return Ok(Verdict::Unverified);
    }
    let read = Read::of(outcome);
    report(outcome, &summary, &read, &run);
    if !outcome.completed() {
        // Stopped on the way: what was read until then was counted, but what that was only the run knows.
        return Ok(Verdict::Unverified);
    }
    let counts =
        Totals { emitted: outcome.emitted("split"), executed: outcome.executed("count"), counted: summary.total };
    let wrong = wrong_totals(&counts)
        .or_else(|| wrong_reading(&read, plain_read?))
        .or_else(|| wrong_word(comparison.as_ref()?));
    Ok(match (wrong, plain_read) {
        (Some(wrong), _) => Verdict::Mismatch(wrong),
        (None, Some(_)) => Verdict::Verified,
        (None, None) => Verdict::Unverified,
    })
}

/// How long the run and the plain loop took.
struct Run {
    took: Duration,
    plain_took: Option<Duration>,
}

/// The spout's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Read {
    lines: u64,
    bytes: u64,
    files: u64,
    skipped_binary: u64,
    invalid_utf8: u64,
}

impl Read {
    fn of(outcome: &Outcome<'_>) -> Read {
        let counter = |name| outcome.counter("lines", name).unwrap_or(0);
        Read {
            lines: counter("lines"),
            bytes: counter("bytes"),
            files: counter("files"),
            skipped_binary: counter("skipped_binary"),
            invalid_utf8: counter("invalid_utf8"),
        }
    }
}

/// Words at three places on their way; equal when none was lost or doubled.
struct Totals {
    emitted: u64,
    executed: u64,
    counted: u64,
}

fn wrong_totals(totals: &Totals) -> Option<String> {
    let Totals { emitted, executed, counted } = *totals;
    (emitted != executed || executed != counted).then(|| {
        format!("{emitted} words were split off, {executed} reached the counting tasks, {counted} were counted")
    })
}

fn wrong_reading(read: &Read, plain: ReadCounts) -> Option<String> {
    let differs = |what: &str, run: u64, plain: u64| {
        (run != plain)
            .then(|| format!("the topology read {run} {what}, the plain loop {plain}; did the input change meanwhile?"))
    };
    differs("files", read.files, plain.files)
        .or_else(|| differs("lines", read.lines, plain.lines))
        .or_else(|| differs("bytes", read.bytes, plain.bytes))
}

fn wrong_word(comparison: &Comparison) -> Option<String> {
    let Difference { word, plain, topology } = comparison.first.as_ref()?;
    let others = match comparison.differing {
        1 => String::new(),
        n => format!(" ({n} words differ)"),
    };
    Some(format!("the topology counted `{word}` {topology} times, the plain loop {plain} times{others}"))
}

fn report(outcome: &mut Outcome<'_>, summary: &Summary, read: &Read, run: &Run) {
    let report = &mut outcome.report;
    let top = summary.top();
    let rows: Vec<_> = top.iter().map(|(word, count)| serde_json::json!({ "word": word, "count": count })).collect();
    report.section("words", serde_json::json!({ "total": summary.total, "distinct": summary.distinct, "top": rows }));
    report.section("lines", read.lines);
    report.section("bytes", read.bytes);

    let width = top.first().map_or(0, |(_, count)| grouped(*count).len());
    for (word, count) in &top {
        report.line(format!("{:>width$}  {word}", grouped(*count)));
    }
    report.line(format!(
        "{} words, {} distinct, in {} lines and {} bytes of {} files",
        grouped(summary.total),
        grouped(summary.distinct),
        grouped(read.lines),
        grouped(read.bytes),
        grouped(read.files)
    ));
    if read.skipped_binary > 0 {
        report.line(format!("{} files skipped: they hold a NUL, so they are no text", grouped(read.skipped_binary)));
    }
    if read.invalid_utf8 > 0 {
        report.line(format!("{} lines are not UTF-8 and were read lossily", grouped(read.invalid_utf8)));
    }
    if let Some(plain_took) = run.plain_took {
        let (took, plain) = (run.took.as_secs_f64(), plain_took.as_secs_f64());
        report.section("plain_loop", serde_json::json!({ "ms": plain * 1e3, "speed_ratio": plain / took }));
        report.line(format!(
            "compared with a plain loop, which took {plain:.2} s to the topology's {took:.2} s: {:.2} times its speed",
            plain / took
        ));
    }
}

/// A number with a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_word_lost_on_the_way_is_told() {
        let totals = |emitted, executed, counted| Totals { emitted, executed, counted };
        assert_eq!(wrong_totals(&totals(3, 3, 3)), None);
        assert!(wrong_totals(&totals(3, 2, 2)).unwrap().contains("2 reached"));
        assert!(wrong_totals(&totals(3, 3, 4)).unwrap().contains("4 were counted"));
    }

    #[test]
    fn a_line_read_twice_or_never_is_told() {
        let read = Read { lines: 5, bytes: 50, files: 1, skipped_binary: 0, invalid_utf8: 0 };
        let plain = ReadCounts { lines: 5, bytes: 50, files: 1, ..ReadCounts::default() };
        assert_eq!(wrong_reading(&read, plain), None);
        let wrong = wrong_reading(&Read { lines: 6, ..read }, plain).unwrap();
        assert!(wrong.contains("read 6 lines, the plain loop 5"), "{wrong}");
    }

    #[test]
    fn the_first_differing_word_is_told_with_both_counts() {
        let counts = |rows: &[(&str, u64)]| rows.iter().map(|(w, n)| ((*w).into(), *n)).collect();
        let mut comparison = Comparison::with(counts(&[("the", 4), ("a", 1)]));
        comparison.row("the", 3);
        comparison.row("a", 1);
        comparison.finish();
        let wrong = wrong_word(&comparison).unwrap();
        assert_eq!(wrong, "the topology counted `the` 3 times, the plain loop 4 times");
        comparison.row("z", 1);
        assert!(wrong_word(&comparison).unwrap().ends_with("(2 words differ)"));
    }
}
