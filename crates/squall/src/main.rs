//! The `squall` command: what is not about one topology. Topologies are programs of their own ([`squall::main!`]).
#![forbid(unsafe_code)]

mod doctor;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Squall: stream topologies as a microsecond dataplane
#[derive(Parser)]
#[command(name = "squall", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what this machine offers a topology, and how to offer more
    Doctor,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Doctor => {
            let text = doctor::render(&doctor::Machine::examine());
            match io::stdout().lock().write_all(text.as_bytes()) {
                // A reader that left has seen what it wanted.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    let _ = writeln!(io::stderr().lock(), "error: standard output cannot be written: {error}");
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            }
        }
    }
}
