//! `chaos break`: runs a tracked word count over two worker processes, does one fault after another to it, and proves that nothing was lost.
//!
//! `chaos load`: runs it beside processes that spin on all cores, and fails if a worker was replaced: nothing was done to any.
//!
//! The other subcommands are those of every topology program.
//!
//! One fault at a time: the next one comes at a random moment after the run has recovered from the last. Which fault, which worker and when follow from
//! the seed; what was under way then does not.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use squall_chaos::{Kind, LoadPlan, Plan, disturb, load, run_main, spin, summary};

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

/// Runs a topology beside processes that spin on all cores: no worker may be replaced
#[derive(Parser)]
#[command(name = "chaos load", bin_name = "chaos load")]
struct LoadOptions {
    /// How long
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    secs: u64,
    /// Processes that spin, per core
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    spinners: u8,
    /// Sentences of 8 words a second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Folder for the record, kept [default: a temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// More flags for the run, such as --shm off or --wait spin
    #[arg(last = true)]
    run: Vec<String>,
}

/// Spins on a core until its standard input ends
#[derive(Parser)]
#[command(name = "chaos spin", bin_name = "chaos spin")]
struct SpinOptions {
    /// The core
    core: usize,
}

fn main() -> ExitCode {
    let rest = |name: &str| std::iter::once(name.into()).chain(std::env::args_os().skip(2));
    let done = match std::env::args().nth(1).as_deref() {
        Some("break") => break_it(Options::parse_from(rest("chaos break"))),
        Some("load") => load_it(LoadOptions::parse_from(rest("chaos load"))),
        Some("spin") => spin(SpinOptions::parse_from(rest("chaos spin")).core).map(|()| true),
        _ => return run_main(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load_it(options: LoadOptions) -> std::io::Result<bool> {
    let temporary = tempfile::tempdir()?;
    let LoadOptions { secs, spinners, rate, dir, run } = options;
    let dir = dir.unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    let loaded = load(&LoadPlan { time: Duration::from_secs(secs), spinners: spinners.into(), rate, dir, run })?;
    loaded.wrong.iter().for_each(|what| eprintln!("wrong: {what}"));
    println!("{}", loaded.summary());
    Ok(loaded.wrong.is_empty())
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
