//! `chaos break`: runs a tracked word count over two worker processes, does one fault after another to it, and proves that nothing was lost.
//!
//! The other subcommands are those of every topology program.
//!
//! One fault at a time: the next one comes at a random moment after the run has recovered from the last. Which fault, which worker and when follow from
//! the seed; what was under way then does not.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use squall_chaos::{Kind, Plan, disturb, run_main, summary};

/// Disturbs a running topology, and proves that nothing was lost
#[derive(Parser)]
#[command(name = "chaos break", bin_name = "chaos break")]
struct Options {
    /// Number of faults
    #[arg(long, default_value_t = 100)]
    faults: usize,
    /// Decides which faults, when, and on which worker
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sentences of 8 words a second: one tuple each, and one for each word
    #[arg(long, default_value_t = 22_000)]
    rate: u64,
    /// Milliseconds between two groups of acks of the sink
    #[arg(long, default_value_t = 5)]
    group_ms: u64,
    /// Folder for the record, kept [default: a temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only these kinds of faults
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// More flags for the run, such as --shm off or --standby
    #[arg(last = true)]
    run: Vec<String>,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some("break") {
        return run_main();
    }
    let options = Options::parse_from(std::iter::once("chaos break".into()).chain(std::env::args_os().skip(2)));
    match break_it(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn break_it(options: Options) -> std::io::Result<bool> {
    let temporary = tempfile::tempdir()?;
    let Options { faults, seed, rate, group_ms, dir, only, run } = options;
    let dir = dir.unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    let disturbed = disturb(&Plan { faults, seed, rate, group_ms, dir, only, run })?;
    disturbed.wrong.iter().for_each(|what| eprintln!("wrong: {what}"));
    println!("{}", summary(&disturbed));
    Ok(disturbed.wrong.is_empty())
}
