//! How commands write what nimbus answers: tables for people, JSON and YAML for programs.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::Value;

/// Format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

impl Output {
    /// The answer as it is written; `table` is asked only where it is wanted.
    pub(super) fn of(self, value: &Value, table: impl FnOnce(&Value) -> String) -> String {
        match self {
            Output::Table => table(value),
            Output::Json => format!("{value:#}\n"),
            Output::Yaml => yaml(value),
        }
    }

    /// One of many that follow each other: a line of text, an object on a line, or a document.
    pub(super) fn one_of_many(self, value: &Value, line: impl FnOnce(&Value) -> String) -> String {
        match self {
            Output::Table => line(value),
            Output::Json => format!("{value}\n"),
            Output::Yaml => format!("---\n{}", yaml(value)),
        }
    }
}

/// The rows of an answer.
pub(super) fn rows<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

/// A value as a cell of a table.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// Columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| rows.iter().map(|r| r[at].chars().count()).chain([head[at].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    std::iter::once(line(&head)).chain(rows.iter().map(|row| line(row))).collect()
}

/// Milliseconds since 1970 as people read them, in UTC.
pub(super) fn utc(ms: u64) -> String {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (h, m, s) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{:03}Z", of_day % 1000)
}

/// Year, month and day of a day since 1970: years that begin in March have their leap day last, and 400 of them always 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    // From 1 March of the year 0.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// A document in YAML. Texts stand in double quotes, whose rules are those of JSON, so that none is taken for something else.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

/// A value below a key or a dash, indented where it has lines of its own.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = |out: &mut String| out.push_str(&"  ".repeat(depth));
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (at, (key, value)) in map.iter().enumerate() {
                // The first key follows the dash of its list.
                if at > 0 || !out.ends_with("- ") {
                    indent(out);
                }
                let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    && key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
                    && !matches!(key.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null");
                let _ = if plain { write!(out, "{key}:") } else { write!(out, "{}:", Value::from(key.as_str())) };
                beside(value, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(out);
                out.push_str("- ");
                if nested(item) && item.is_object() {
                    block(item, depth + 1, out);
                } else {
                    // A list within a list, which JSON writes as YAML takes it, or a plain value.
                    let _ = writeln!(out, "{item}");
                }
            }
        }
        plain => {
            indent(out);
            let _ = writeln!(out, "{plain}");
        }
    }
}

fn beside(value: &Value, depth: usize, out: &mut String) {
    if nested(value) {
        out.push('\n');
        // A list may stand as deep as its key, and reads better so.
        block(value, if value.is_array() { depth } else { depth + 1 }, out);
    } else {
        let _ = writeln!(out, " {value}");
    }
}

fn nested(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_days_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59.999Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000Z");
        assert_eq!(utc(1_709_210_096_007), "2024-02-29 12:34:56.007Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00.000Z");
    }

    #[test]
    fn yaml_says_what_json_says() {
        let value = json!({
            "version": 1, "none": null, "yes": "no", "a-b": "x: \"y\"\n", "empty": [], "nothing": {},
            "list": [{ "id": "1", "of": [1, [2, 3]] }, { "id": "2", "in": { "deep": true } }], "plain": [1, "two"],
        });
        let written = yaml(&value);
        let documents = saphyr::LoadableYamlNode::load_from_str(&written).expect("it is YAML");
        let [document]: [saphyr::Yaml<'_>; 1] = Vec::try_into(documents).expect("one document");
        assert_eq!(read_yaml(&document), value, "{written}");
        assert!(written.contains("list:\n- id: \"1\"\n  of:\n  - 1\n  - [2,3]\n- id: \"2\"\n"), "{written}");
    }

    /// By a reader that knows nothing of the writer above.
    fn read_yaml(yaml: &saphyr::Yaml<'_>) -> Value {
        use saphyr::{Scalar, Yaml};
        match yaml {
            Yaml::Value(Scalar::Null) => Value::Null,
            Yaml::Value(Scalar::Boolean(is)) => (*is).into(),
            Yaml::Value(Scalar::Integer(number)) => (*number).into(),
            Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
            Yaml::Sequence(items) => items.iter().map(read_yaml).collect(),
            Yaml::Mapping(map) => {
                let pair = |(key, value): (&Yaml<'_>, &Yaml<'_>)| (text(&read_yaml(key)), read_yaml(value));
                Value::Object(map.iter().map(pair).collect())
            }
            other => panic!("{other:?}"),
        }
    }
}
