//! Fields into texts: JSON objects, CSV records, templates.

use std::sync::Arc;

use squall::{ArchivedRow, Bolt, BoltError, Input, Row, RowStreams, ValueRef};

use super::csv::write_csv_field;
use super::parse::{delimiter, delimiter_option};
use crate::expression::Evaluated;
use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Place, Span};
use crate::rows::{Cells, at, emit, stream, write_object, write_text};

/// How a row is written.
#[derive(Debug, Clone)]
pub enum FormatTo {
    /// A JSON object of all fields.
    Json,
    /// A CSV record of all fields, without a line end. Lists and maps are JSON in one field.
    Csv {
        /// What stands between fields: one ASCII character.
        delimiter: u8,
    },
    /// A text with fields in it: `{name}`; `{{` and `}}` are braces.
    Template(Given<String>),
}

/// Writes each row as a text, and emits it.
#[derive(Debug, Clone)]
pub struct Format {
    to: FormatTo,
    name: Given<String>,
    keep: bool,
}

/// A format with its fields found.
#[derive(Debug, Clone)]
pub(crate) enum Writer {
    Json(Arc<[String]>),
    Csv(u8),
    Template(Arc<[Part]>),
}

#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Field(u16),
}

impl FormatTo {
    /// Finds the fields of a template.
    pub(crate) fn resolve(&self, place: &Place<'_>) -> Result<Writer, Vec<ConfigError>> {
        Ok(match self {
            FormatTo::Json => Writer::Json(place.fields().into()),
            FormatTo::Csv { delimiter } => Writer::Csv(*delimiter),
            FormatTo::Template(text) => Writer::Template(template(text, |name| place.field(name))?.into()),
        })
    }
}

impl Writer {
    /// Appends the names of fields as a record of CSV; nothing in other formats.
    pub(crate) fn write_names(&self, fields: &[String], out: &mut Vec<u8>) {
        let Writer::Csv(delimiter) = self else { return };
        for (i, name) in fields.iter().enumerate() {
            if i > 0 {
                out.push(*delimiter);
            }
            write_csv_field(name.as_bytes(), *delimiter, out);
        }
    }

    /// Appends a row.
    pub(crate) fn write(&self, row: &ArchivedRow, out: &mut Vec<u8>) {
        match self {
            Writer::Json(fields) => write_object(row, fields, out),
            Writer::Csv(delimiter) => {
                let mut field = Vec::new();
                for (i, value) in row.iter().enumerate() {
                    if i > 0 {
                        out.push(*delimiter);
                    }
                    field.clear();
                    write_text(value, &mut field);
                    write_csv_field(&field, *delimiter, out);
                }
            }
            Writer::Template(parts) => {
                for part in parts.iter() {
                    match part {
                        Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Part::Field(field) => write_text(at(row, *field), out),
                    }
                }
            }
        }
    }
}

fn template(
    text: &Given<String>,
    field: impl Fn(&Given<String>) -> Result<u16, ConfigError>,
) -> Result<Vec<Part>, Vec<ConfigError>> {
    let wrong =
        |at: Span, what: &str| vec![ConfigError::new(at, what, "write {name} for a field, {{ and }} for braces")];
    let (mut parts, mut errors, mut plain) = (Vec::new(), Vec::new(), String::new());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            plain.push_str(brace);
            rest = after;
            continue;
        }
        let end = rest.find('}').filter(|_| brace == "{");
        let Some(end) = end else { return Err(wrong(text.at, "the template has a brace without its partner")) };
        match field(&text.with(rest[..end].trim().to_owned())) {
            Ok(found) => {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Field(found));
            }
            Err(e) => errors.push(e),
        }
        rest = &rest[end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    if errors.is_empty() { Ok(parts) } else { Err(errors) }
}

impl Format {
    /// Written so.
    pub fn new(to: FormatTo) -> Format {
        Format { to, name: "text".into(), keep: false }
    }

    /// The text's field. Default `text`.
    pub fn name(self, name: impl Into<Given<String>>) -> Format {
        Format { name: name.into(), ..self }
    }

    /// Keeps the fields of the input before the text. Default: the text alone.
    pub fn keep(self) -> Format {
        Format { keep: true, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When a template is none, or names fields that the input has not.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let writer = self.to.resolve(&place)?;
        let kept = if self.keep { place.fields() } else { &[] };
        let fields: Vec<String> = kept.iter().cloned().chain([self.name.value]).collect();
        crate::state::distinct_names(&fields, self.name.at)?;
        let keep = self.keep;
        let make = move || Formatting { writer: writer.clone(), keep, text: Vec::new() };
        Ok(place.bolt(vec![stream(fields)], None, make))
    }
}

struct Formatting {
    writer: Writer,
    keep: bool,
    text: Vec<u8>,
}

impl Bolt for Formatting {
    type In = Row;
    type Out = RowStreams;

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        self.text.clear();
        self.writer.write(row, &mut self.text);
        // Bytes of a row may be anything; in a text they are read as far as they are UTF-8.
        let text = String::from_utf8_lossy(&self.text);
        let mut cells: Cells<'_> = Cells::new();
        if self.keep {
            cells.extend(row.iter().map(Evaluated::Field));
        }
        cells.push(Evaluated::Scalar(ValueRef::Str(&text)));
        emit(&mut out[0], &cells);
        Ok(())
    }
}

pub(super) fn described() -> Vec<Described> {
    let with = |mine: Vec<OptionSpec>| {
        let common = [
            OptionSpec::with_default("as", OptionType::Text, "text", "The text's field."),
            OptionSpec::with_default("keep", OptionType::Bool, "false", "Keeps the input's fields before the text."),
        ];
        mine.into_iter().chain(common).collect::<Vec<_>>()
    };
    fn declare(
        options: &crate::registry::Options,
        to: FormatTo,
        place: Place<'_>,
    ) -> Result<Declared, Vec<ConfigError>> {
        let format = Format::new(to).name(options.text("as"));
        if options.flag("keep").value { format.keep().declare(place) } else { format.declare(place) }
    }
    const OUTPUTS: &str = "`default`: the text; with `keep`, the input's fields before it.";
    let json = Described {
        name: "format-json",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Writes each row as a JSON object into a text.",
        options: with(Vec::new()),
        outputs: OUTPUTS,
        example: "id: json\nclassName: format-json\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| declare(options, FormatTo::Json, place)),
    };
    let csv = Described {
        name: "format-csv",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Writes each row as a CSV record into a text.",
        options: with(vec![delimiter_option()]),
        outputs: OUTPUTS,
        example: "id: csv\nclassName: format-csv\nconfig:\n  delimiter: \";\"\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let delimiter = delimiter(options).map_err(|e| vec![e])?;
            declare(options, FormatTo::Csv { delimiter }, place)
        }),
    };
    let text = Described {
        name: "format-text",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Writes each row into a text by a template.",
        options: with(vec![OptionSpec::required(
            "template",
            OptionType::Text,
            "The text, with {name} for fields; {{ and }} are braces.",
        )]),
        outputs: OUTPUTS,
        example: "id: line\nclassName: format-text\nconfig:\n  template: \"{word} came {n} times\"\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| declare(options, FormatTo::Template(options.text("template")), place)),
    };
    vec![json, csv, text]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_fields_and_doubled_braces() {
        let find = |name: &Given<String>| match name.as_str() {
            "a" => Ok(0),
            other => Err(ConfigError::new(name.at, format!("no {other}"), "")),
        };
        let parts = template(&"x {{{a}}} { a }!".into(), find).unwrap();
        let text = |s: &str| Part::Text(s.to_owned());
        assert_eq!(parts, [text("x {"), Part::Field(0), text("} "), Part::Field(0), text("!")]);
        assert_eq!(template(&"{b} {a} {c}".into(), find).unwrap_err().len(), 2);
        for wrong in ["{a", "a}", "{"] {
            assert!(template(&wrong.into(), find).unwrap_err()[0].what.contains("without its partner"), "{wrong}");
        }
    }
}
