//! The proof.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use crate::{Note, Record};

/// What a record shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Inputs that were emitted at least once.
    pub inputs: u64,
    /// Emissions, as the runner counted them.
    pub emitted: u64,
    /// Of those: acked.
    pub acked: u64,
    /// Of those: failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Of those: neither.
    pub pending: u64,
    /// Inputs that the sink did not see whole.
    pub lost: u64,
    /// Executions of inputs beyond the first.
    pub duplicates: u64,
    /// What must not be; empty for a good record.
    pub violations: Vec<String>,
}

/// Looks at the whole record of a run that is over. `spout`: the component whose roots it tells of.
///
/// # Errors
/// The record cannot be read.
pub fn check(record: &Record, spout: &str) -> io::Result<Checked> {
    let mut checked = Checked { inputs: record.note(Note::Emitted), ..Checked::default() };
    let mut sums = crate::Root::default();
    let mut wrong = |what: String| {
        // The first few tell what is wrong; millions would say no more.
        if checked.violations.len() < 20 {
            checked.violations.push(what);
        }
    };
    for input in 0..checked.inputs {
        let (root, seen) = (record.root(input), record.executions(input));
        let least = seen.iter().min().copied().unwrap_or(0);
        checked.lost += u64::from(least == 0);
        checked.duplicates += record.duplicates(input);
        sums.emitted += root.emitted;
        sums.acked += root.acked;
        sums.failed += root.failed;
        if root.acked + root.failed > root.emitted {
            wrong(format!("input {input} ended more often than it was emitted: {root:?}"));
        }
        if root.acked == 0 {
            wrong(format!("input {input} was never acked: {root:?}"));
        }
        if root.acked > 0 && least == 0 {
            wrong(format!("input {input} was acked, but the sink has not seen all of it: {seen:?}"));
        }
    }
    for (note, what) in
        [(Note::Disorder, "tuples came out of order"), (Note::Strange, "acks or fails were for nothing pending")]
    {
        if record.note(note) > 0 {
            wrong(format!("{} {what}", record.note(note)));
        }
    }
    let over = over(record)?;
    for what in over.iter().flat_map(|over| over["uneven"].as_array()).flatten().filter_map(Value::as_str) {
        wrong(format!("the counts of the run do not add up: {what}"));
    }
    match over.as_ref().and_then(|over| over["components"].as_array()?.iter().find(|c| c["name"] == spout).cloned()) {
        None => wrong(format!("the run has not told its last counts of {spout}")),
        Some(counts) => {
            let number = |name: &str| counts[name].as_u64().unwrap_or(0);
            let failed = counts["roots_failed"].as_object().cloned().unwrap_or_default();
            let failed: BTreeMap<String, u64> =
                failed.into_iter().map(|(why, n)| (why, n.as_u64().unwrap_or(0))).collect();
            let all_failed: u64 = failed.values().sum();
            let spout_lost = failed.get("spout lost").copied().unwrap_or(0);
            (checked.emitted, checked.acked) = (number("roots"), number("acked"));
            checked.pending = checked.emitted.saturating_sub(checked.acked + all_failed);
            if checked.acked + all_failed + checked.pending != checked.emitted || all_failed != number("failed") {
                wrong(format!("the counts of {spout} do not add up: {counts}"));
            }
            // A spout that is killed may have noted an emission that the runner had not counted yet, and heard of an end that it had not.
            let uncounted = sums.emitted.saturating_sub(checked.emitted);
            let open = sums.emitted.saturating_sub(sums.acked + sums.failed);
            if sums.emitted < checked.emitted || sums.acked < checked.acked || open > spout_lost + uncounted {
                wrong(format!("the spout noted {sums:?}, the runner counted {counts}"));
            }
            checked.failed = failed;
        }
    }
    if checked.inputs == 0 {
        checked.violations.push("nothing was emitted".to_owned());
    }
    Ok(checked)
}

/// The last line of the runner's part.
fn over(record: &Record) -> io::Result<Option<Value>> {
    let text = std::fs::read_to_string(record.run_log())?;
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.into_iter().find(|line| line["event"] == "over"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three inputs: the first went well, the second after a failure, the third after the death of its spout.
    fn record() -> (tempfile::TempDir, Record) {
        let dir = tempfile::tempdir().expect("a folder");
        let record = Record::open(dir.path(), 100).expect("it can be made");
        for input in 0..3 {
            record.emitted(input);
        }
        record.failed(1);
        for input in 1..3 {
            record.emitted(input);
        }
        for input in 0..3 {
            (0..8).for_each(|word| record.executed(input, word));
            record.acked(input);
        }
        (0..3).for_each(|word| record.executed(1, word));
        record.set(Note::Emitted, 3);
        write_counts(&record, 5, 3, 2, r#"{"failed": 1, "spout lost": 1}"#);
        (dir, record)
    }

    fn write_counts(record: &Record, roots: u64, acked: u64, failed: u64, why: &str) {
        let counts =
            format!(r#"{{"name":"s","roots":{roots},"acked":{acked},"failed":{failed},"roots_failed":{why}}}"#);
        let line = format!("{{\"event\":\"up\"}}\n{{\"event\":\"over\",\"components\":[{counts}]}}\n");
        std::fs::write(record.run_log(), line).expect("it can be written");
    }

    fn violations(record: &Record) -> Vec<String> {
        check(record, "s").expect("it can be read").violations
    }

    #[test]
    fn a_good_record_adds_up() {
        let (_dir, record) = record();
        let checked = check(&record, "s").expect("it can be read");
        assert_eq!(checked.violations, Vec::<String>::new());
        assert_eq!((checked.inputs, checked.emitted, checked.acked, checked.pending), (3, 5, 3, 0));
        assert_eq!((checked.lost, checked.duplicates), (0, 1));
        assert_eq!(checked.failed, [("failed".to_owned(), 1), ("spout lost".to_owned(), 1)].into());
    }

    #[test]
    fn what_is_wrong_is_found() {
        let broken = |breaks: &dyn Fn(&Record)| {
            let (_dir, record) = record();
            breaks(&record);
            violations(&record).join("; ")
        };
        let twice = broken(&|r| r.acked(0));
        assert!(twice.contains("input 0 ended more often"), "{twice}");
        let never = broken(&|r| {
            r.emitted(3);
            r.set(Note::Emitted, 4);
        });
        assert!(never.contains("input 3 was never acked"), "{never}");
        let early = broken(&|r| {
            r.emitted(3);
            r.executed(3, 0);
            r.acked(3);
            r.set(Note::Emitted, 4);
            write_counts(r, 6, 4, 2, r#"{"failed": 1, "spout lost": 1}"#);
        });
        assert!(early.contains("input 3 was acked, but the sink has not seen all of it"), "{early}");
        let disorder = broken(&|r| r.count(Note::Disorder));
        assert!(disorder.contains("1 tuples came out of order"), "{disorder}");
        let uneven = broken(&|r| write_counts(r, 5, 3, 2, r#"{"failed": 1}"#));
        assert!(uneven.contains("do not add up"), "{uneven}");
        let untold = broken(&|r| write_counts(r, 5, 3, 2, r#"{"failed": 2}"#));
        assert!(untold.contains("the spout noted"), "{untold}");
        let uneven = broken(&|r| {
            let line = std::fs::read_to_string(r.run_log()).expect("it can be read");
            let line = line.replace("\"event\":\"over\"", "\"event\":\"over\",\"uneven\":[\"1 of 2\"]");
            std::fs::write(r.run_log(), line).expect("it can be written");
        });
        assert!(uneven.contains("do not add up: 1 of 2"), "{uneven}");
        let missing = broken(&|r| std::fs::write(r.run_log(), "").expect("it can be written"));
        assert!(missing.contains("has not told its last counts"), "{missing}");
    }
}
