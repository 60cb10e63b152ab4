//! The commands of the `squall` binary: YAML topologies run as a Rust topology's own program runs it, and the commands around
//! them.

mod components;
mod config;
mod doctor;
mod file;
mod new;
mod reference;
mod validate;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use squall_yaml::schema;

use crate::app::App;
use crate::cli::{self, EXIT_FAILED, EXIT_USAGE};
use crate::plan_cmd::show;
use crate::run::job::complain;
use components::ComponentsCommand;
use config::ConfigCommand;
use file::TopologyFile;
use new::NewCommand;
pub use reference::reference;
use validate::ValidateCommand;

/// Squall: stream topologies as a microsecond dataplane
#[derive(Debug, Parser)]
#[command(name = "squall", version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Topology(Box<cli::Command<TopologyFile>>),
    /// Check topologies in YAML, and say how their expressions are evaluated
    Validate(ValidateCommand),
    /// List the components, or describe one
    Components(ComponentsCommand),
    /// Print the JSON Schema of topology files, for editors
    Schema(NoOptions),
    /// Make a first topology: a Rust crate, or a YAML file
    New(NewCommand),
    /// Show the configuration of the daemons, and where each value was set
    Config(ConfigCommand),
    /// Show what this machine offers a topology, and how to offer more
    Doctor(NoOptions),
    /// Run a cluster on this machine: nimbus and a supervisor in one process
    #[cfg(feature = "cluster")]
    Dev(crate::cluster::DevCommand),
    /// Run a nimbus, for supervisors in other processes
    #[cfg(feature = "cluster")]
    Nimbus(crate::cluster::NimbusCommand),
    /// Run a supervisor, which runs workers for a nimbus
    #[cfg(feature = "cluster")]
    Supervisor(crate::cluster::SupervisorCommand),
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    Cluster(crate::cluster::ClusterCommand),
    /// Print what a shell needs to complete these commands
    Completions(CompletionsCommand),
}

#[derive(Debug, Args)]
struct CompletionsCommand {
    /// The shell: `source <(squall completions bash)`
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints completions for a shell.
fn completions(command: &CompletionsCommand) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut self::command(), "squall", &mut script);
    show(&String::from_utf8_lossy(&script))
}

#[derive(Debug, Args)]
struct NoOptions {}

const EXAMPLES: &str = "\
Examples:
  squall new first --yaml              a first topology in first/topology.yaml
  squall validate topology.yaml        what is wrong with it, all at once
  squall run topology.yaml             run it
  squall graph topology.yaml -o svg    draw it
  squall components filter             what `filter` can be told";

/// The whole command line.
fn command() -> clap::Command {
    let command = Cli::command().after_help(format!("{EXAMPLES}\n\n{}", cli::exit_codes()));
    #[cfg(feature = "cluster")]
    let command = crate::cluster::VERBS.iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |verb| verb.after_help(crate::cluster::exit_codes()))
    });
    command
}

/// The `squall` binary.
pub fn main() -> ExitCode {
    let app = App::new("squall", file::declare);
    let args: Vec<OsString> = std::env::args_os().collect();
    let matches = command().try_get_matches_from(&args);
    let command = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli.command,
        Err(error) => {
            // A closed output is no reason to fail in another way.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    match command {
        Command::Topology(command) => topology(&app, *command, &args),
        Command::Validate(command) => validate::validate(&app, &command),
        Command::Components(command) => components::components(&command),
        Command::Schema(_) => {
            let registry = file::registry();
            show(&format!("{:#}\n", schema(&registry)))
        }
        Command::New(command) => new::new(&command),
        Command::Config(command) => config::config(&command),
        #[cfg(feature = "cluster")]
        Command::Dev(command) => crate::cluster::dev(&command),
        #[cfg(feature = "cluster")]
        Command::Nimbus(command) => crate::cluster::run_nimbus(&command),
        #[cfg(feature = "cluster")]
        Command::Supervisor(command) => crate::cluster::supervisor(&command),
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => crate::cluster::cluster(&command),
        Command::Completions(command) => completions(&command),
        Command::Doctor(_) => show(&doctor::render(&doctor::Machine::examine())),
    }
}

/// A command that needs the topology: its file is checked first, so that faults are shown as they are.
fn topology(app: &App<TopologyFile>, command: cli::Command<TopologyFile>, args: &[OsString]) -> ExitCode {
    let file = match &command {
        cli::Command::Run(command) => Some(&command.author),
        cli::Command::Plan(command) => Some(&command.author),
        cli::Command::Graph(command) => Some(&command.author),
        cli::Command::Shape(command) => Some(&command.author),
        // It was checked by the run or the submission that starts workers.
        cli::Command::Worker(_) | cli::Command::Seat(_) => None,
    };
    if let Some(file) = file {
        match file.check() {
            Ok(warnings) => eprint_text(&warnings),
            Err(refused) => return refuse(&refused),
        }
    }
    app.perform(command, args)
}

/// Shows what is wrong, as text that needs no word before it.
fn refuse(refused: &file::Refusal) -> ExitCode {
    match refused {
        file::Refusal::Usage(error) => {
            complain(error);
            ExitCode::from(EXIT_USAGE)
        }
        file::Refusal::Unreadable(error) => {
            complain(error);
            ExitCode::from(EXIT_FAILED)
        }
        file::Refusal::Wrong(text) => {
            eprint_text(text);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Writes to standard error; if that is closed, the exit code must do.
fn eprint_text(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
