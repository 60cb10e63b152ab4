//! The pages of the reference that follow from the code: `docs/reference`. A test fails if they are out of date.

use std::fmt::Write as _;

use squall_components::COUNTERS;
use squall_components::registry::{Default, Described, Kind, Registry};

use crate::cli::EXIT_CODES;
use crate::report::fields::{self, Field};

const GENERATED: &str =
    "<!-- Made from the code: `SQUALL_GOLDEN=write cargo test -p squall --test docs` writes it anew. -->\n\n";

/// Each page: its name in `docs/reference`, and its text.
pub fn reference() -> Vec<(&'static str, String)> {
    [("components.md", components()), ("topology-file.md", topology_file()), ("cli.md", cli()), ("report.md", report())]
        .map(|(name, text)| (name, format!("{GENERATED}{}\n", text.trim_end())))
        .into()
}

fn components() -> String {
    let registry = Registry::standard();
    let mut text = "# Components\n\nWhat `className` may name in a topology file. `squall components NAME` shows the same; in Rust each has a builder of \
                    its own in `squall::components`.\n\n| Name | |\n|---|---|\n"
        .to_owned();
    for described in registry.iter() {
        let _ = writeln!(text, "| [{0}](#{0}) ({1}) | {2} |", described.name, described.kind, cell(described.summary));
    }
    for kind in [Kind::Spout, Kind::Bolt, Kind::Sink] {
        registry
            .iter()
            .filter(|described| described.kind == kind)
            .for_each(|described| component(described, &mut text));
    }
    text
}

fn component(described: &Described, text: &mut String) {
    let _ = writeln!(text, "\n## {}\n\n*{}.* {}\n", described.name, described.kind, described.summary);
    if !described.options.is_empty() {
        text.push_str("| Option | Takes | Default | |\n|---|---|---|---|\n");
    }
    for option in &described.options {
        let default = match option.default {
            Default::Required => "must be given".to_owned(),
            Default::None => "none".to_owned(),
            Default::Is(default) => format!("`{default}`"),
        };
        let takes = cell(&option.ty.to_string());
        let _ = writeln!(text, "| `{}` | {takes} | {} | {} |", option.name, cell(&default), cell(option.help));
    }
    let _ = writeln!(text, "\nStreams: {}", described.outputs);
    if !described.aliases.is_empty() {
        let names: Vec<String> = described.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let _ = writeln!(text, "\nStorm's names for the like: {}", names.join(", "));
    }
    let _ = writeln!(text, "\n```yaml\n{}\n```", described.example.trim_end());
}

fn topology_file() -> String {
    format!(
        "# Topology files\n\nYAML, shaped like Storm's Flux. `squall validate` shows everything that is wrong with a file at once; `squall schema` \
         prints the same keys as a JSON Schema for editors.\n\n`${{NAME}}` is replaced by what `-D NAME=VALUE`, a property file (`--properties`) or \
         the file's own folder (`${{DIR}}`) say; `${{NAME:-text}}` has a default; `${{ENV-NAME}}` comes from the environment.\n\n{}",
        squall_yaml::reference()
    )
}

fn cli() -> String {
    let mut text = "# Command line\n\nA topology in Rust is a program of its own that has `run`, `plan` and `graph` with the same flags, without the \
                    file, and with the options that its author gave it. Flags may also stand in the environment where the help names a variable.\n"
        .to_owned();
    let mut squall = super::command();
    squall.build();
    let _ = writeln!(text, "\n## squall\n\n```text\n{}\n```", trimmed(&squall.render_help().to_string()));
    for verb in squall.get_subcommands_mut().filter(|verb| shown(verb)) {
        let name = verb.get_name().to_owned();
        let help = verb.render_help().to_string();
        let _ = writeln!(text, "\n## squall {name}\n\n```text\n{}\n```", trimmed(&help));
        for of in verb.get_subcommands_mut().filter(|of| shown(of)) {
            let help = of.render_help().to_string();
            let _ = writeln!(text, "\n### squall {name} {}\n\n```text\n{}\n```", of.get_name(), trimmed(&help));
        }
    }
    text.push_str("\n## Exit codes\n\n| Code | |\n|---|---|\n");
    for (code, when) in EXIT_CODES {
        let _ = writeln!(text, "| {code} | {when} |");
    }
    text
}

fn shown(verb: &clap::Command) -> bool {
    !verb.is_hide_set() && verb.get_name() != "help"
}

/// Without blanks at the ends of lines.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn report() -> String {
    let mut text = "# Metrics and the report\n\nWhile a topology runs, the live line shows elapsed time, tuples executed a second, p50 and p99 of the \
                    end-to-end latency, the input read (where the program knows), and who waits for whom; below it the components' own counters, \
                    gauges and histograms. At the end the report has all of it: as text on standard output, and as JSON with `--report FILE`.\n\nCounts are \
                    exact, never sampled. Latencies are whole nanoseconds in full HDR histograms; their start is in their name. What is not known is \
                    `null`.\n"
        .to_owned();
    table(&mut text, "The JSON report", fields::REPORT);
    table(&mut text, "`components`", fields::COMPONENT);
    table(&mut text, "`roots`", fields::ROOTS);
    table(&mut text, "`by_link`", fields::LINK);
    table(&mut text, "`links`: the sums of the counts above, and", fields::LINKS);
    table(&mut text, "Percentiles", fields::PERCENTILES);
    text.push_str("\n## Counters of stock components\n\nIn `counters`, by the component's id.\n\n| Counter | Of | |\n|---|---|---|\n");
    for (who, name, what) in COUNTERS {
        let _ = writeln!(text, "| `{name}` | {who} | {what} |");
    }
    text.push_str("\nA component in Rust makes its own with `Context::counter`, `gauge` and `histogram`.\n");
    text
}

fn table(text: &mut String, title: &str, fields: &[Field]) {
    let _ = writeln!(text, "\n## {title}\n\n| Field | |\n|---|---|");
    for (name, what) in fields {
        let _ = writeln!(text, "| `{name}` | {} |", cell(what));
    }
}

/// Text as a cell of a table. Outside of code, `<` would begin a tag.
fn cell(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts: Vec<String> =
        parts.map(|(i, part)| if i % 2 == 0 { part.replace('<', "&lt;") } else { part.into() }).collect();
    parts.join("`").replace('|', "\\|").replace('\n', " ")
}
