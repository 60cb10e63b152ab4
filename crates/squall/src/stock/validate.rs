//! `squall validate`: what is wrong with topologies, and how their expressions are evaluated.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use squall_api::Topology;
use squall_topology::{ComponentKind, Plan};
use squall_yaml::Declaration;

use super::file::{TopologyFile, VariableFlags};
use super::{eprint_text, refuse};
use crate::app::App;
use crate::cli::{EXIT_FAILED, PlaceFlags};
use crate::plan_cmd::show;
use crate::run::job::complain;
use crate::run::system;

#[derive(Debug, Args)]
pub(crate) struct ValidateCommand {
    /// Topologies in YAML
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    variables: VariableFlags,
}

/// Checks each file; the exit code is that of the worst.
pub(crate) fn validate(app: &App<TopologyFile>, command: &ValidateCommand) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in &command.files {
        let file = TopologyFile { file: file.clone(), variables: command.variables.clone() };
        if let Err(failed) = one(app, &file) {
            code = failed;
        }
    }
    code
}

fn one(app: &App<TopologyFile>, file: &TopologyFile) -> Result<(), ExitCode> {
    let declaration = file.declare(&Topology::new("")).map_err(|refusal| refuse(&refusal))?;
    eprint_text(&declaration.warnings.render(&declaration.sources, false));
    // Once more, as a run would: what only the plan finds (sizes, counts) is found here too.
    let planned = app.plan(&PlaceFlags::default(), file, &system::usable_cores());
    let (plan, ..) = planned.map_err(|cause| {
        complain(&format!("{}: {cause}", file.file.display()));
        ExitCode::from(EXIT_FAILED)
    })?;
    show(&format!("{}{}", summary(file, &plan), expressions(&declaration)));
    Ok(())
}

fn summary(file: &TopologyFile, plan: &Plan) -> String {
    let counted = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    let of = |kind| plan.spec.components.iter().filter(|component| component.kind == kind).count();
    format!(
        "{}: topology {} is right: {}, {}, {} between them, {}\n",
        file.file.display(),
        plan.spec.name,
        counted(of(ComponentKind::Spout), "spout"),
        counted(of(ComponentKind::Bolt), "bolt"),
        counted(plan.spec.subscriptions.len(), "stream"),
        counted(plan.tasks.len(), "task"),
    )
}

fn expressions(declaration: &Declaration) -> String {
    let mut text = String::new();
    for note in &declaration.expressions {
        let source = declaration.sources.get(note.span.file);
        let (line, column) = source.line_column(note.span.start as usize);
        let _ = writeln!(
            text,
            "  {}:{line}:{column}: {}: `{}` runs {}",
            source.path.display(),
            note.component,
            note.text,
            note.way
        );
    }
    text
}
