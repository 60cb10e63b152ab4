//! `squall config show`: every key of the configuration with its value and, asked for, where it was set.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use squall_control::config::{Config, Sources, usual_sources};

use crate::cli::EXIT_FAILED;
use crate::plan_cmd::show;

/// Where the configuration lies unless it is said otherwise.
const FOLDER: &str = "/etc/squall";

/// Options of `config`.
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show every key with its value; secrets are not shown
    Show(ShowCommand),
}

#[derive(Debug, Args)]
struct ShowCommand {
    /// Also show where each value was set
    #[arg(long)]
    origin: bool,
    /// Folder with squall.yaml and conf.d
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    conf_dir: PathBuf,
    /// Set a key, above files and environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Shows the configuration, or all that is wrong with it.
pub(super) fn config(command: &ConfigCommand) -> ExitCode {
    let What::Show(command) = &command.what;
    match render(command, usual_sources(&command.conf_dir)) {
        Ok(text) => show(&text),
        Err(text) => {
            super::eprint_text(&text);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn render(command: &ShowCommand, mut sources: Sources) -> Result<String, String> {
    for set in &command.set {
        let (key, value) = set.split_once('=').ok_or_else(|| format!("--set {set}: write KEY=VALUE\n"))?;
        sources.flags.push((key.trim().into(), value.trim().into(), format!("--set {set}")));
    }
    let config = Config::load(&sources);
    let config = config.map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect::<String>())?;
    Ok(config.show(command.origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(set: &[&str]) -> ShowCommand {
        let set = set.iter().map(|set| (*set).to_owned()).collect();
        ShowCommand { origin: true, conf_dir: FOLDER.into(), set }
    }

    #[test]
    fn a_value_is_shown_with_the_flag_that_set_it_and_a_slip_with_what_was_meant() {
        let text = render(&command(&["supervisor.slots=7"]), Sources::default()).unwrap();
        let line = text.lines().find(|line| line.starts_with("supervisor.slots: 7 ")).expect("it is shown");
        assert!(line.ends_with("# --set supervisor.slots=7"), "{line}");
        let error = render(&command(&["supervisor.slot=7"]), Sources::default()).unwrap_err();
        assert!(error.contains("did you mean supervisor.slots?"), "{error}");
        assert!(render(&command(&["supervisor.slots"]), Sources::default()).unwrap_err().contains("KEY=VALUE"));
    }
}
