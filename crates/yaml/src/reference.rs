//! The keys of a topology file as a page of the reference, from the tables that check them.

use std::fmt::Write as _;

use crate::keys::{self, Keys};

/// The page, in Markdown.
pub fn reference() -> String {
    let mut text = String::new();
    for (title, keys) in [
        ("The topology", &keys::TOPOLOGY),
        ("An entry of `spouts` or `bolts`", &keys::BOLT),
        ("An entry of `components`", &keys::COMPONENT),
        ("An entry of `streams`", &keys::STREAM),
        ("A `grouping`", &keys::GROUPING),
        ("An entry of `includes`", &keys::INCLUDE),
    ] {
        section(&mut text, title, keys);
    }
    let types = keys::GROUPING_TYPES.map(|name| format!("`{name}`")).join(", ");
    let _ = writeln!(text, "Types of groupings: {types}. DIRECT and CUSTOM are for components written in Rust.\n");
    text.push_str("## The topology's `config`\n\n| Key | Storm's name | |\n|---|---|---|\n");
    for key in &keys::CONFIG {
        let storm = key.storm.map_or_else(String::new, |name| format!("`{name}`"));
        let _ = writeln!(text, "| `{}` | {storm} | {} |", key.name, cell(key.doc));
    }
    text.push_str("\n## Storm's keys that have no place here\n\n");
    text.push_str(
        "Those marked *error* stop the topology; the others are a warning.\n\n| Key | | What to do |\n|---|---|---|\n",
    );
    for key in &keys::STORM_CONFIG {
        let grade = if key.fatal { "*error*" } else { "warning" };
        let _ = writeln!(text, "| `{}` | {grade} | {} |", key.name, cell(key.help));
    }
    text
}

fn section(text: &mut String, title: &str, keys: &Keys) {
    let _ = writeln!(text, "## {title}\n\n| Key | |\n|---|---|");
    for key in keys.known {
        let _ = writeln!(text, "| `{}` | {} |", key.name, cell(key.doc));
    }
    if !keys.refused.is_empty() {
        text.push_str("\nKeys of Flux that are refused:\n\n| Key | What to do |\n|---|---|\n");
        for key in keys.refused {
            let _ = writeln!(text, "| `{}` | {} |", key.name, cell(key.help));
        }
    }
    text.push('\n');
}

/// Text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
