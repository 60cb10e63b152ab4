//! `plan` and `graph`: what would run, without running it.

use std::process::ExitCode;

use squall_topology::{Plan, render};

use crate::cli::{EXIT_FAILED, GraphFormat, PlanFormat};
use crate::run::job::{complain, print};
use crate::svg;

/// Prints the plan.
pub(crate) fn plan(plan: &Plan, format: PlanFormat) -> ExitCode {
    show(&match format {
        PlanFormat::Text => render::text(plan),
        PlanFormat::Json => render::json(plan),
    })
}

/// Prints the graph.
pub(crate) fn graph(plan: &Plan, format: GraphFormat) -> ExitCode {
    show(&match format {
        GraphFormat::Dot => render::dot(&plan.spec),
        GraphFormat::Mermaid => render::mermaid(&plan.spec),
        GraphFormat::Svg => svg::draw(&plan.spec),
    })
}

/// Prints a text that is all that was asked for.
pub(crate) fn show(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("standard output cannot be written: {error}"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}
