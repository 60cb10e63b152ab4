//! `squall-check DIR`: what the record of a run proves. One JSON line; exit code 0 only if nothing is wrong with it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use squall_chaos::{Record, check};

/// Proves from the record of a run that every emission ended once, that every input reached the sink, and that order was kept
#[derive(Parser)]
struct Options {
    /// Folder of the record
    dir: PathBuf,
    /// The component whose roots it tells of
    #[arg(long, default_value = "sentences")]
    spout: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let checked = match Record::existing(&options.dir).and_then(|record| check(&record, &options.spout)) {
        Ok(checked) => checked,
        Err(error) => {
            eprintln!(
                "error: the record in {} cannot be read: {error}; name the folder that a run wrote",
                options.dir.display()
            );
            return ExitCode::FAILURE;
        }
    };
    checked.violations.iter().for_each(|what| eprintln!("wrong: {what}"));
    println!(
        "{}",
        json!({
            "inputs": checked.inputs, "emitted": checked.emitted, "acked": checked.acked, "failed": checked.failed,
            "pending": checked.pending, "lost": checked.lost, "duplicates": checked.duplicates, "wrong": checked.violations.len(),
        })
    );
    let good = checked.violations.is_empty() && checked.lost == 0 && checked.pending == 0;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
