//! The field's standard workloads, under the generator of `tools/tuplegen`, which defines them and their rates
//! ([`squall_tuplegen::target::standard`]). A row's line on stdout is a run's report without its plots, as `tuplegen report --format jsonl` prints it.

use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::Value;
use squall_tuplegen::measure::verdict::Word;
use squall_tuplegen::report::table::json_line;
use squall_tuplegen::report::text;
use squall_tuplegen::target::standard::{STANDARD, Standard};
use squall_tuplegen::verbs::args::load_of;
use squall_tuplegen::verbs::once::{Progress, measure, stop_flag};

use crate::error::BenchError;

/// Which rows, and how long.
#[derive(Args)]
pub(crate) struct WorkloadsArgs {
    /// Names of workloads (`genload`, or as `tuplegen list` has them); none: all.
    names: Vec<String>,
    /// Seconds of a row's load, warm-up included; after it at most 3 s of waiting for what is under way.
    #[arg(short = 'd', long, default_value_t = 3.0)]
    secs: f64,
}

pub(crate) fn list() -> String {
    let head = format!("{:<14} the field's workloads, by tuplegen's generator\n", "workloads");
    STANDARD.iter().fold(head, |text, row| text + &format!("  {:<22} tuplegen run {}\n", row.workload(), row.shown()))
}

fn selected(names: &[String]) -> Result<Vec<&'static Standard>, BenchError> {
    if let Some(name) = names.iter().find(|n| STANDARD.iter().all(|r| r.workload() != n.as_str())) {
        return Err(BenchError::UnknownWorkload(name.clone()));
    }
    Ok(STANDARD.iter().filter(|r| names.is_empty() || names.iter().any(|n| n == r.workload())).collect())
}

/// Runs the rows one after another. One that is invalid is told and stays in; one that failed or answered wrongly makes the whole fail.
pub(crate) fn run(args: &WorkloadsArgs) -> Result<(), BenchError> {
    if !(0.1..=3600.0).contains(&args.secs) {
        return Err(BenchError::Secs(args.secs));
    }
    let rows = selected(&args.names)?;
    let stop = stop_flag().map_err(|e| BenchError::Workload(e.to_string()))?;
    let mut failed = 0;
    for (i, row) in rows.iter().enumerate() {
        let length = format!("{}ms", (args.secs * 1000.0).round());
        let words = row.words().into_iter().chain(["-d".to_owned(), length.clone()]);
        let job = load_of(words).and_then(|load| load.job()).map_err(|e| BenchError::Workload(e.to_string()))?;
        eprintln!("{} of {}: {}", i + 1, rows.len(), row.shown());
        let mut report = match measure(&job, &stop, Progress::Quiet) {
            Ok((report, _)) => report,
            Err(e) => {
                failed += 1;
                eprintln!("  {e}");
                continue;
            }
        };
        // Relaxed: a flag that carries nothing.
        if stop.load(Ordering::Relaxed) {
            return Err(BenchError::Interrupted);
        }
        // What repeats this row alone.
        if let Value::Object(machine) = &mut report.machine {
            machine.insert("command".to_owned(), format!("tuplegen run {} -d {length}", row.shown()).into());
        }
        failed += usize::from(matches!(report.verdict.word, Word::Error | Word::Fail));
        eprint!("  {}", text::verdict(&report));
        crate::say(&json_line(&report))?;
    }
    if failed > 0 {
        return Err(BenchError::RowsFailed(failed, rows.len()));
    }
    Ok(())
}
