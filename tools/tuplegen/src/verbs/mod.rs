//! The command line: what each verb does, and the exit codes.

pub mod args;
mod compare;
mod job;
mod knee;
pub mod once;
mod small;
mod sweep;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Something failed.
pub const EXIT_ERROR: u8 = 1;
/// The command line was not understood.
pub const EXIT_USAGE: u8 = 2;
/// Interrupted; what was measured until then is kept.
pub const EXIT_INTERRUPTED: u8 = 130;

const EXAMPLES: &str = "\
Examples:
  tuplegen run --builtin wordcount -R 50k -d 10s -o out    one run, its report in out/report.html
  tuplegen run --builtin echo -R 100k --slo 'p99<100us'    with a condition, exit 3 if it does not hold
  tuplegen run --local topology.yaml -R 10k                a topology started for the run
  tuplegen run --ingest unix:/run/l.in --egress unix:/run/l.out -R 10k   a running one
  tuplegen run --capture capture.yaml                      a topology that storm-loadgen captured
  tuplegen run --job load.yaml -R 20k                      options from a file, and others
  tuplegen knee --builtin const-id-null --slo 'p99<1ms'    the highest rate that holds
  tuplegen compare out-a out-b                             what differs between two runs, or sweeps
  tuplegen list                                            the built-in scenarios

Exit codes:
  0    done; for a run: every condition holds
  1    an error: the target failed, a file could not be written
  2    the command line was not understood
  3    an SLO does not hold
  4    tuples were lost, doubled, overtaken or changed, or a workload's answer is wrong
  5    the measurement is invalid: it does not measure what was asked for
  130  interrupted; the report covers what was measured until then
Judged in the order 2, 1, 5, 4, 3, 0.";

/// Load one can trust: open-loop load, latencies from the intended time, exact loss accounting, a verdict
#[derive(Debug, Parser)]
#[command(name = "tuplegen", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// One load test: latencies, counts, a verdict
    Run(once::RunCommand),
    /// The highest rate that meets the SLOs, and what limits it
    Knee(knee::KneeCommand),
    /// Runs over the cross product of parameters, in shuffled order
    Sweep(sweep::SweepCommand),
    /// Whether B differs from A: two runs or sweeps, or two sets of arguments run in turn
    Compare(compare::CompareCommand),
    /// The machine's own noise, core by core, without any load
    Jitter(small::JitterCommand),
    /// The generator's own ceiling, into a ring that nobody reads slowly
    Calibrate(small::CalibrateCommand),
    /// What would be sent: arrivals, fields, sizes; sends nothing
    Preview(small::PreviewCommand),
    /// Write the exact stream of a load into a file, for --replay; sends nothing
    Record(small::RecordCommand),
    /// Runs once more, as text, JSON, CSV or HTML
    Report(small::ReportCommand),
    /// Make a markdown table of JSON lines on standard input
    Table(small::TableCommand),
    /// List the built-in scenarios
    List,
    /// Print the JSON Schema of everything that tuplegen writes as JSON
    Schema,
    /// Hold JSON files against that schema
    Validate(small::ValidateCommand),
}

/// Why a verb ends otherwise than by its result.
#[derive(Debug)]
pub enum Failure {
    /// The arguments make no sense together.
    Usage(String),
    /// Something went wrong.
    Error(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => EXIT_USAGE,
            Failure::Error(_) => EXIT_ERROR,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Error(text) => f.write_str(text),
        }
    }
}

/// The program.
pub fn main() -> ExitCode {
    let args = match job::expanded(std::env::args().collect(), &Cli::command()) {
        Ok(args) => args,
        Err(told) => {
            eprintln!("tuplegen: {told}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let parsed = Cli::command().try_get_matches_from(args);
    let parsed = parsed.and_then(|m| Ok((Cli::from_arg_matches(&m)?, m)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(e) => {
            // A closed output is no reason to fail in another way.
            let _ = e.print();
            return ExitCode::from(e.exit_code() as u8);
        }
    };
    let done = match cli.verb {
        Verb::Run(c) => once::run(&c, &job::text(&matches)),
        Verb::Knee(c) => knee::knee(&c),
        Verb::Sweep(c) => sweep::sweep(&c),
        Verb::Compare(c) => compare::compare(&c),
        Verb::Jitter(c) => small::jitter(&c),
        Verb::Calibrate(c) => small::calibrate(&c),
        Verb::Preview(c) => small::preview(&c),
        Verb::Record(c) => small::record(&c),
        Verb::Report(c) => small::report(&c),
        Verb::Table(c) => small::table(&c),
        Verb::List => small::list(),
        Verb::Schema => small::schema(),
        Verb::Validate(c) => small::validate(&c),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("tuplegen: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Columns of standard output; no end of them where it is no terminal.
fn columns() -> usize {
    use std::io::IsTerminal as _;
    let out = std::io::stdout();
    let size = if out.is_terminal() { rustix::termios::tcgetwinsize(&out).ok() } else { None };
    size.map(|s| usize::from(s.ws_col)).filter(|c| *c >= 20).unwrap_or(usize::MAX)
}

/// Writes a result. A reader that went away (`tuplegen … | head`) is no failure.
fn show(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Error(format!("cannot write the result: {e}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent_and_names_the_exit_codes() {
        Cli::command().debug_assert();
        assert!(Cli::command().render_long_help().to_string().contains("5    the measurement is invalid"));
    }
}
