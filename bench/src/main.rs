//! `squall-bench`: what Squall costs, each scenario beside the plainest program for the same job, in the same run.
//!
//! A row is one scenario over one link with one tuple. Floor and Squall run alternately (A-B-A-B, at least five rounds
//! each): a machine's mood changes within seconds, so only neighbours in time compare. Beside each row stand the
//! round trip of a cache line between the two cores, before and after, and the machine's load: figures hold in near
//! placement (`probe_ns` ≤ 100) on a quiet machine, ratios hold wider.
//!
//! Squall's side are ordinary topologies against the public traits, laid out by the ordinary plan and run by
//! [`squall_engine::Worker`]: in this process for the local and ring links, in two processes for the others.
//!
//! Where to find what: [`scenario`] is the table of scenarios and says how to add one; [`measure`] runs rounds and makes
//! figures of them; [`workloads`] runs the field's workloads, which `tools/tuplegen` defines; [`floor`] and [`squall_side`] are the two sides; [`facts`] knows what floors should reach.
//!
//! Limits: Linux, two cores or more (one for `local`). Deliberately absent: gates. Whether a figure is good is for
//! who reads the lines to say.
#![deny(unsafe_code)] // three exceptions, explained where they are: `floor::uring`, `floor::shm`, `shared`

// The derives write `::squall::…`.
extern crate squall_api as squall;

mod clock;
mod error;
mod facts;
mod floor;
mod inject;
mod machine;
mod measure;
mod payload;
mod peer;
mod report;
mod scenario;
mod shared;
mod squall_side;
mod table;
mod workloads;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use squall_engine::WaitStrategy;

use crate::error::BenchError;
use crate::measure::Settings;
use crate::scenario::{Link, Row, Scenario, TupleKind};

/// Benchmarks of Squall, each beside its floor.
#[derive(Parser)]
#[command(name = "squall-bench", version)]
struct Cli {
    /// Without a command: `run` of everything.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the scenarios with their rows.
    List,
    /// Run scenarios, or all of them.
    Run(RunArgs),
    /// Run the field's standard workloads with tuplegen's generator: no floors, but latencies from the intended time and a verdict
    Workloads(workloads::WorkloadsArgs),
    /// Make a markdown table of JSON lines on stdin.
    Table {
        /// Put it into this page, between its marks, instead of printing it.
        #[arg(long)]
        into: Option<PathBuf>,
    },
    /// The other worker of a row of two.
    #[command(hide = true)]
    Worker {
        /// What to run, as the parent wrote it.
        job: String,
    },
    /// The other process of a floor.
    #[command(hide = true)]
    FloorPeer {
        /// What to run, as the parent wrote it.
        job: String,
    },
    /// The process that is killed in a floor.
    #[command(hide = true)]
    Doze,
    /// The process that breaks the silence of idle.
    #[command(hide = true)]
    Injector {
        /// What to do, as the parent wrote it.
        job: String,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Names from `list`; none: all.
    scenarios: Vec<String>,
    /// Measured seconds of a row, over all rounds and both sides; warm-up and start-up add half of it and 2 s at most.
    #[arg(long, default_value_t = 6.0)]
    secs: f64,
    /// Rounds per side, at least 5.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only rows over this link: local, ring, shm, uds or tcp.
    #[arg(long)]
    link: Option<Link>,
    /// Only rows with a payload of this many bytes.
    #[arg(long)]
    size: Option<usize>,
    /// Only rows with this kind of tuple: typed or dynamic.
    #[arg(long)]
    tuple: Option<TupleKind>,
    /// Wait strategy of the reactors: spin, hybrid or park; else each scenario's own.
    #[arg(long)]
    wait: Option<WaitStrategy>,
    /// Run a row again, up to this many times, when the cores turn out to be far apart.
    #[arg(long, value_name = "K", default_value_t = 0)]
    repeat_far: u32,
    /// Bytes of the text that wordcount counts.
    #[arg(long, default_value_t = measure::TEXT_BYTES)]
    text: u64,
    /// JSON lines on stdout.
    #[arg(long)]
    json: bool,
}

impl Default for RunArgs {
    fn default() -> Self {
        RunArgs {
            scenarios: Vec::new(),
            secs: 6.0,
            rounds: 5,
            link: None,
            size: None,
            tuple: None,
            wait: None,
            repeat_far: 0,
            text: measure::TEXT_BYTES,
            json: false,
        }
    }
}

fn main() -> ExitCode {
    // A run that faults are done to, and its workers.
    if std::env::var_os(squall_chaos::AS_CHAOS).is_some() {
        return squall_chaos::run_main();
    }
    let done = match Cli::parse().command {
        None => run(&RunArgs::default()),
        Some(Command::Run(args)) => run(&args),
        Some(Command::List) => list(),
        Some(Command::Workloads(args)) => workloads::run(&args),
        Some(Command::Worker { job }) => squall_side::worker_main(&job),
        Some(Command::Table { into }) => table(into.as_deref()),
        Some(Command::FloorPeer { job }) => floor::peer_main(&job),
        Some(Command::Doze) => floor::doze_main(),
        Some(Command::Injector { job }) => inject::injector_main(&job),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read had enough, as `head` has.
        Err(BenchError::ReaderGone) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("squall-bench: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Writes results to stdout, where they are read while the rest is still measured.
fn say(text: &str) -> Result<(), BenchError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        std::io::ErrorKind::BrokenPipe => BenchError::ReaderGone,
        _ => BenchError::Io("writing to stdout", e),
    })
}

fn list() -> Result<(), BenchError> {
    let mut text = String::new();
    for scenario in Scenario::all() {
        text += &format!("{:<14} {}\n", scenario.name(), scenario.about());
        scenario.rows().iter().for_each(|row| text += &format!("  {}\n", row.what()));
    }
    say(&(text + &workloads::list()))
}

/// JSON lines on stdin as a table.
fn table(into: Option<&Path>) -> Result<(), BenchError> {
    let lines = std::io::read_to_string(std::io::stdin()).map_err(BenchError::io("reading stdin"))?;
    let table = table::markdown(&lines)?;
    match into {
        Some(page) => table::into_page(&table, page)?,
        None => say(&table)?,
    }
    Ok(())
}

fn selected(args: &RunArgs) -> Result<Vec<Row>, BenchError> {
    let scenarios = if args.scenarios.is_empty() {
        Scenario::all().collect()
    } else {
        let found = args.scenarios.iter().map(|name| match Scenario::named(name) {
            none if none.is_empty() => Err(BenchError::UnknownScenario(name.clone())),
            found => Ok(found),
        });
        found.collect::<Result<Vec<_>, _>>()?.concat()
    };
    let wanted = |row: &Row| {
        args.link.is_none_or(|l| l == row.link)
            && args.size.is_none_or(|s| s == row.size)
            && args.tuple.is_none_or(|t| t == row.tuple)
    };
    let rows: Vec<Row> = scenarios.iter().flat_map(|s| s.rows()).filter(wanted).collect();
    if rows.is_empty() {
        return Err(BenchError::NoRows);
    }
    Ok(rows)
}

/// Runs every row that was asked for; one that fails is told and the others go on.
fn run(args: &RunArgs) -> Result<(), BenchError> {
    let rows = selected(args)?;
    let settings = Settings { text_bytes: args.text, ..Settings::new(args.secs, args.rounds, args.wait)? };
    let machine = machine::look();
    eprintln!("{}", machine.describe());
    let mut failed = 0;
    for row in &rows {
        let mut repeats = args.repeat_far;
        loop {
            match measure::row(row, &settings, &machine) {
                Ok(result) => {
                    if result.far() && repeats > 0 {
                        repeats -= 1;
                        eprintln!("{}: far placement, once more", row.what());
                        continue;
                    }
                    report::for_people(&result);
                    if args.json {
                        report::json_lines(&result, &machine).iter().try_for_each(|line| say(&format!("{line}\n")))?;
                    }
                }
                Err(e) => {
                    failed += 1;
                    eprintln!("{} {}: {e}", row.scenario.name(), row.what());
                }
            }
            break;
        }
    }
    if failed > 0 {
        return Err(BenchError::RowsFailed(failed, rows.len()));
    }
    Ok(())
}
