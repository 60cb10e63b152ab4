//! The command line of a topology program: subcommands, flags, exit codes.
//!
//! Flags and the environment are read here only; everything below takes values. The author's own options are part of
//! every subcommand that builds the topology, since the topology may depend on them.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use squall_engine::{IoChoice, IoOptions, LogFilter, WaitPlan, WaitStrategy, ZeroCopy};
use squall_topology::ShmUse;

use crate::run::sockets::Family;

/// Something failed: the run, a tuple, the verification, or a write.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The command line was not understood.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Ended by Ctrl-C or SIGTERM.
const EXIT_INTERRUPTED: u8 = crate::run::parent::EXIT_INTERRUPTED as u8;

/// Each exit code and when a program ends with it.
pub(crate) const EXIT_CODES: [(u8, &str); 4] = [
    (0, "done; of a run: all input was processed, no tuple failed, the results are right"),
    (
        EXIT_FAILED,
        "a topology is wrong, or its run, a tuple, the verification or a write failed; standard error says which and what to do",
    ),
    (EXIT_USAGE, "the command line was not understood"),
    (EXIT_INTERRUPTED, "ended by Ctrl-C or SIGTERM; the report covers what was read until then"),
];

/// The exit codes as a part of a help text.
pub(crate) fn exit_codes() -> String {
    let lines = EXIT_CODES.iter().map(|(code, when)| format!("\n  {code:<3}  {when}"));
    std::iter::once("Exit codes:".to_owned()).chain(lines).collect()
}

/// Who the program is, for help and version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub name: &'static str,
    pub version: &'static str,
    pub about: &'static str,
}

#[derive(Debug, Parser)]
pub(crate) struct Cli<A: Args> {
    #[command(subcommand)]
    pub command: Command<A>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command<A: Args> {
    /// Run the topology on this machine, in worker processes
    Run(RunCommand<A>),
    /// Show the plan: components, tasks, executors, workers, cores, groupings, buffer memory
    Plan(PlanCommand<A>),
    /// Draw the topology as a graph
    Graph(GraphCommand<A>),
    /// A worker process of a run; started by `run` only
    #[command(hide = true)]
    Worker(RunCommand<A>),
    /// A worker process of a cluster; started by supervisors only
    #[command(hide = true)]
    Seat(RunCommand<A>),
    /// What a cluster has to know of the topology, as JSON; asked by `submit`
    #[command(hide = true)]
    Shape(RunCommand<A>),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunCommand<A: Args> {
    #[command(flatten)]
    pub place: PlaceFlags,
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten, next_help_heading = "Options of this topology")]
    pub author: A,
}

#[derive(Debug, Args)]
pub(crate) struct PlanCommand<A: Args> {
    #[command(flatten)]
    pub place: PlaceFlags,
    /// Format of the plan
    #[arg(short, long, value_enum, default_value_t = PlanFormat::Text)]
    pub output: PlanFormat,
    #[command(flatten, next_help_heading = "Options of this topology")]
    pub author: A,
}

#[derive(Debug, Args)]
pub(crate) struct GraphCommand<A: Args> {
    #[command(flatten)]
    pub place: PlaceFlags,
    /// Format of the graph
    #[arg(short, long, value_enum, default_value_t = GraphFormat::Dot)]
    pub output: GraphFormat,
    #[command(flatten, next_help_heading = "Options of this topology")]
    pub author: A,
}

/// What decides the plan beside the topology itself.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PlaceFlags {
    /// Number of worker processes [default: the topology's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,
    /// Number of reactor threads in each worker [default: usable cores / workers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub reactors: Option<u32>,
    /// Shared memory between worker processes: auto, off (sockets) or copy (each batch is copied before it is validated) [default: the topology's]
    #[arg(long, value_name = "USE")]
    pub shm: Option<ShmUse>,
    /// Folder in which sources note how far they are, so that a later run of the topology goes on there [default: none]
    #[arg(long, value_name = "DIR")]
    pub state: Option<String>,
    /// Name of the topology [default: the program's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunFlags {
    /// I/O driver of links between workers: auto, io_uring or epoll [default: auto] [env: SQUALL_IO]
    #[arg(long, value_name = "DRIVER")]
    pub io: Option<IoChoice>,
    /// Send large batches over TCP without a copy into the kernel where that pays: auto or off
    #[arg(long, value_name = "WHEN", default_value_t = ZeroCopy::Auto)]
    pub io_zero_copy: ZeroCopy,
    /// Let sleeping reactors poll the network card for N microseconds first; for links between hosts with real cards
    #[arg(long, value_name = "N")]
    pub io_busy_poll_us: Option<u32>,
    /// Let a thread of the kernel submit I/O; only where it has a core of its own beside each reactor's
    #[arg(long)]
    pub io_sqpoll: bool,
    /// What an idle reactor does: spin (lowest latency), hybrid (learns from arrivals) or park (least CPU); for single
    /// reactors, numbered as `plan` prints them: hybrid,0=spin,3=park
    #[arg(long, value_name = "STRATEGY[,REACTOR=STRATEGY]…", default_value_t = WaitStrategy::Hybrid.into())]
    pub wait: WaitPlan,
    /// Do not pin reactors to cores
    #[arg(long)]
    pub no_pin: bool,
    /// Replace each worker process that dies up to N times within a minute, then fail; 0: its death ends the run
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub restarts: u32,
    /// Keep a process ready, with the program loaded, that takes the place of a worker that dies
    #[arg(long)]
    pub standby: bool,
    /// Sockets between workers: unix, or tcp over the loopback, which excludes shared memory
    #[arg(long, value_name = "FAMILY", value_enum, default_value_t = Family::Unix)]
    pub sockets: Family,
    /// Write what happens to the workers and the last counts to FILE, one JSON object a line, as it happens
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write the report as JSON to FILE; checked before the run, replaced when it is complete
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Which log lines of components to show: off, error, warn, info or debug, for all or by component: warn,split=debug
    /// [default: info] [env: SQUALL_LOG]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<LogFilter>,
    /// Show a sample of the tuples that pass this component: per reactor and direction the first 10 of each second. Its tuples
    /// take a slower way meanwhile
    #[arg(long, value_name = "COMPONENT")]
    pub sample: Option<String>,
    /// Show no progress, only errors, warnings, log lines and the report
    #[arg(short, long)]
    pub quiet: bool,
    /// Show progress as plain lines even on a terminal
    #[arg(long)]
    pub plain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// Tables
    Text,
    /// JSON
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
    /// A picture for a browser
    Svg,
}

/// Parses a command line, its program name included. An error prints itself and knows its exit code.
pub(crate) fn parse<A: Args>(identity: Identity, args: &[OsString]) -> Result<Cli<A>, clap::Error> {
    let Identity { name, version, about } = identity;
    let examples = format!(
        "Examples:\n  {name} plan --workers 2            what would run where\n  {name} run --workers 2             run it\n  \
         {name} graph -o mermaid            draw it\n\n{}",
        exit_codes()
    );
    let command = Cli::<A>::command()
        .name(name)
        .version(version)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(examples)
        .mut_subcommand("run", |run| run.after_help(exit_codes()));
    let mut matches = command.try_get_matches_from(args)?;
    Cli::from_arg_matches_mut(&mut matches)
}

impl RunFlags {
    /// How the driver is made.
    pub(crate) fn io_options(&self) -> IoOptions {
        IoOptions {
            zero_copy: self.io_zero_copy,
            napi_busy_poll_us: self.io_busy_poll_us,
            sqpoll: self.io_sqpoll,
            ..IoOptions::default()
        }
    }

    /// The driver asked for: the flag, or else the environment, or else the best there is. The error says which.
    pub(crate) fn io_choice(&self, env: Option<&OsStr>) -> Result<IoChoice, String> {
        match (self.io, env) {
            (Some(io), _) => Ok(io),
            (None, None) => Ok(IoChoice::default()),
            (None, Some(text)) => {
                text.to_string_lossy().parse().map_err(|error| format!("SQUALL_IO in the environment: {error}"))
            }
        }
    }

    /// The filter of log lines: the flag, or else the environment, or else `info`. The error says which.
    pub(crate) fn log_filter(&self, env: Option<&OsStr>) -> Result<LogFilter, String> {
        match (&self.log, env) {
            (Some(filter), _) => Ok(filter.clone()),
            (None, None) => Ok(LogFilter::default()),
            (None, Some(text)) => {
                text.to_string_lossy().parse().map_err(|error| format!("SQUALL_LOG in the environment: {error}"))
            }
        }
    }
}

/// The arguments of a worker process: those of the run, under the other subcommand.
pub(crate) fn worker_args(args: &[OsString]) -> Vec<OsString> {
    let rest = args.iter().skip(1).position(|arg| arg == "run").map_or(args.len(), |at| at + 2);
    [OsString::from("worker")].into_iter().chain(args.iter().skip(rest).cloned()).collect()
}

/// How a run ended, as far as the exit code tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The run itself failed.
    pub failed: bool,
    /// A signal ended it.
    pub interrupted: bool,
    /// Something is wrong with what it did: failed tuples, a mismatch, a failed hook.
    pub wrong: bool,
    /// A report could not be written.
    pub unwritten: bool,
}

impl Ending {
    /// A failure that nobody asked for comes first, then the signal, which explains anything else.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Ending { failed: true, .. } | Ending { unwritten: true, .. } => EXIT_FAILED,
            Ending { interrupted: true, .. } => EXIT_INTERRUPTED,
            Ending { wrong: true, .. } => EXIT_FAILED,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoArgs;

    #[derive(Debug, Clone, Args)]
    struct Input {
        /// File or folder to read
        #[arg(long)]
        input: Option<String>,
    }

    const IDENTITY: Identity = Identity { name: "word-count", version: "1.2.3", about: "Counts words" };

    fn args(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn run(line: &str) -> RunCommand<Input> {
        match parse::<Input>(IDENTITY, &args(line)).expect("it parses").command {
            Command::Run(run) | Command::Worker(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::<Input>::command().debug_assert();
        Cli::<NoArgs>::command().debug_assert();
    }

    #[test]
    fn the_authors_options_and_ours_are_read_together() {
        let run = run("wc run --workers 3 --input a/b --io epoll --wait park --no-pin --report r.json -q");
        assert_eq!((run.place.workers, run.place.reactors), (Some(3), None));
        assert_eq!(run.author.input.as_deref(), Some("a/b"));
        assert_eq!((run.run.io, run.run.wait), (Some(IoChoice::Epoll), WaitStrategy::Park.into()));
        assert!(run.run.no_pin && run.run.quiet && !run.run.plain);
        assert_eq!(run.run.report, Some(PathBuf::from("r.json")));
    }

    #[test]
    fn the_worker_gets_the_arguments_of_the_run() {
        let line = args("./wc run --workers 3 --input run");
        assert_eq!(worker_args(&line), args("worker --workers 3 --input run"));
        let mut worker = worker_args(&line);
        worker.insert(0, "./wc".into());
        let parsed = parse::<Input>(IDENTITY, &worker).expect("it parses");
        assert!(matches!(parsed.command, Command::Worker(run) if run.author.input.as_deref() == Some("run")));
    }

    fn refused(line: &str) -> (i32, String) {
        let error = parse::<Input>(IDENTITY, &args(line)).expect_err("it is refused");
        (error.exit_code(), error.to_string())
    }

    #[test]
    fn a_command_line_that_is_not_understood_exits_with_two() {
        for line in [
            "wc",
            "wc rnu",
            "wc run --workers 0",
            "wc run --wait never",
            "wc run --io tcp",
            "wc run --shm on",
            "wc run --bogus",
        ] {
            assert_eq!(refused(line).0, i32::from(EXIT_USAGE), "{line}");
        }
        assert!(refused("wc run --wait never").1.contains("use spin, hybrid or park"));
        assert!(refused("wc run --wait hybrid,park").1.contains("names no reactor"));
        assert_eq!(run("wc run --wait hybrid,1=spin").run.wait.to_string(), "hybrid,1=spin");
        assert!(refused("wc run --shm on").1.contains("write auto, off or copy"));
        assert!(refused("wc run --io tcp").1.contains("write auto, io_uring or epoll"));
    }

    #[test]
    fn help_and_version_exit_with_zero_and_name_the_exit_codes() {
        let (code, help) = refused("wc --help");
        assert_eq!(code, 0);
        assert!(help.contains("Counts words") && help.contains("130  ended by Ctrl-C"), "{help}");
        assert!(!help.contains("worker process of a run"), "hidden: {help}");
        let (code, help) = refused("wc run --help");
        assert_eq!(code, 0);
        assert!(help.contains("Options of this topology:\n      --input"), "{help}");
        assert!(help.contains("Exit codes:"), "{help}");
        assert_eq!(refused("wc --version"), (0, "word-count 1.2.3\n".to_owned()));
    }

    #[test]
    fn the_driver_is_the_flags_or_the_environments_or_automatic() {
        let flags = |line: &str| run(line).run;
        assert_eq!(flags("wc run").io_choice(None), Ok(IoChoice::Auto));
        assert_eq!(flags("wc run").io_choice(Some(OsStr::new("epoll"))), Ok(IoChoice::Epoll));
        assert_eq!(flags("wc run --io io_uring").io_choice(Some(OsStr::new("epoll"))), Ok(IoChoice::IoUring));
        let error = flags("wc run").io_choice(Some(OsStr::new("tcp"))).expect_err("no such driver");
        assert!(error.starts_with("SQUALL_IO in the environment: `tcp`"), "{error}");
    }

    #[test]
    fn the_log_filter_is_the_flags_or_the_environments_or_info() {
        let filter = |line: &str, env: Option<&str>| run(line).run.log_filter(env.map(OsStr::new));
        let text = |line: &str, env: Option<&str>| filter(line, env).expect("it is right").to_string();
        assert_eq!(text("wc run", None), "info");
        assert_eq!(text("wc run", Some("debug")), "debug");
        assert_eq!(text("wc run --log warn,count=off", Some("debug")), "warn,count=off");
        assert!(
            filter("wc run", Some("loud")).expect_err("no level").starts_with("SQUALL_LOG in the environment: `loud`")
        );
        assert_eq!(refused("wc run --log loud").0, i32::from(EXIT_USAGE));
        assert!(refused("wc run --log count=loud").1.contains("`loud` is no level for `count`; write a level"));
    }

    #[test]
    fn options_of_the_driver_are_off_unless_given() {
        assert_eq!(run("wc run").run.io_options(), IoOptions::default());
        let options = run("wc run --io-zero-copy off --io-busy-poll-us 50 --io-sqpoll").run.io_options();
        assert_eq!((options.zero_copy, options.napi_busy_poll_us, options.sqpoll), (ZeroCopy::Off, Some(50), true));
        assert!(refused("wc run --io-zero-copy on").1.contains("write auto or off"));
    }

    #[test]
    fn exit_codes_follow_the_table() {
        let code = |failed, interrupted, wrong, unwritten| Ending { failed, interrupted, wrong, unwritten }.exit_code();
        assert_eq!(code(false, false, false, false), 0);
        assert_eq!(code(true, false, true, false), 1);
        assert_eq!(code(false, false, true, false), 1);
        assert_eq!(code(false, false, false, true), 1);
        assert_eq!(code(false, true, false, false), 130);
        assert_eq!(code(false, true, true, false), 130, "an interrupted run may well have failed tuples");
        assert_eq!(code(true, true, false, false), 1, "a failure during the drain is a failure");
        assert_eq!(code(false, true, false, true), 1);
    }
}
