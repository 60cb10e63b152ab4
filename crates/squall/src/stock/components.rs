//! `squall components`: what YAML topologies are made of.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use squall_components::registry::{Default, Described, OptionSpec, Registry};

use super::file::registry;
use crate::cli::EXIT_FAILED;
use crate::plan_cmd::show;
use crate::run::job::complain;

#[derive(Debug, Args)]
pub(crate) struct ComponentsCommand {
    /// Describe this one: its options, streams and an example
    name: Option<String>,
    /// Format of the list
    #[arg(short, long, value_enum, default_value_t = ListFormat::Text)]
    output: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// A table, or a page for one component
    Text,
    /// A JSON array of components, with one element if one is named
    Json,
}

/// Prints the list, or one component.
pub(crate) fn components(command: &ComponentsCommand) -> ExitCode {
    let registry = registry();
    let chosen: Vec<&Described> = match &command.name {
        None => registry.iter().collect(),
        Some(name) => match registry.get(name) {
            Some(described) => vec![described],
            None => {
                complain(&unknown(name, &registry));
                return ExitCode::from(EXIT_FAILED);
            }
        },
    };
    show(&match command.output {
        ListFormat::Json => format!("{:#}\n", chosen.iter().map(|described| entry(described)).collect::<Value>()),
        ListFormat::Text if command.name.is_some() => page(chosen[0]),
        ListFormat::Text => table(&chosen),
    })
}

fn unknown(name: &str, registry: &Registry) -> String {
    let remedy = match (registry.left_out(name), registry.suggest(name)) {
        (Some(feature), _) => feature,
        (None, Some(close)) => format!("did you mean `{close}`?"),
        (None, None) => "`squall components` lists what there is".into(),
    };
    format!("no component is registered as `{name}`; {remedy}")
}

fn entry(described: &Described) -> Value {
    let option = |option: &OptionSpec| {
        let default = match option.default {
            Default::Is(text) => text.into(),
            Default::Required | Default::None => Value::Null,
        };
        json!({
            "name": option.name,
            "type": option.ty.word(),
            "accepts": option.ty.to_string(),
            "required": option.default == Default::Required,
            "default": default,
            "help": option.help,
        })
    };
    json!({
        "name": described.name,
        "kind": described.kind.word(),
        "summary": described.summary,
        "aliases": described.aliases,
        "options": described.options.iter().map(option).collect::<Vec<_>>(),
        "outputs": described.outputs,
        "example": described.example,
    })
}

fn table(all: &[&Described]) -> String {
    let width = all.iter().map(|described| described.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for described in all {
        let _ = writeln!(text, "{:<width$}  {:<5}  {}", described.name, described.kind, described.summary);
    }
    text.push_str("\n`squall components NAME` describes one.\n");
    text
}

fn page(described: &Described) -> String {
    let mut text = format!("{} ({})\n  {}\n", described.name, described.kind, described.summary);
    if !described.aliases.is_empty() {
        let _ = writeln!(text, "\nStorm's names for the like\n  {}", described.aliases.join("\n  "));
    }
    text.push_str("\nOptions\n");
    if described.options.is_empty() {
        text.push_str("  none\n");
    }
    for option in &described.options {
        let default = match option.default {
            Default::Required => "must be given".to_owned(),
            Default::None => "may be left out".to_owned(),
            Default::Is(default) => format!("default {default}"),
        };
        let _ = writeln!(text, "  {}: {}; {default}\n      {}", option.name, option.ty, option.help);
    }
    let _ = writeln!(text, "\nStreams\n  {}", described.outputs);
    let _ = writeln!(text, "\nExample\n  {}", described.example.trim_end().replace('\n', "\n  "));
    text
}
