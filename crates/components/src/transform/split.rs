//! Texts taken apart.

use squall::{ArchivedValue, Bolt, BoltError, Context, Input, Row, RowRef, RowStreams, ValueRef};

use crate::expression::Evaluated;
use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Place};
use crate::rows::{BadInput, Cells, OnError, at, emit, kind_of_field, on_error, on_error_option, stream};

/// Emits a row for each part of a text: between whitespace, or between separators. Null has no parts.
#[derive(Debug, Clone)]
pub struct Split {
    field: Given<String>,
    separator: Option<String>,
    name: Given<String>,
    keep: bool,
    on_error: OnError,
}

impl Split {
    /// The words of a field: parts between whitespace, none of them empty.
    pub fn words(field: impl Into<Given<String>>) -> Split {
        Split { field: field.into(), separator: None, name: "word".into(), keep: false, on_error: OnError::Fail }
    }

    /// The parts between separators, empty ones too; the separator is not empty.
    pub fn by(field: impl Into<Given<String>>, separator: &str) -> Split {
        assert!(!separator.is_empty(), "a separator has a letter");
        Split { separator: Some(separator.to_owned()), ..Split::words(field) }
    }

    /// The part's field. Default `word`.
    pub fn name(self, name: impl Into<Given<String>>) -> Split {
        Split { name: name.into(), ..self }
    }

    /// Keeps the fields of the input before the part. Default: the part alone.
    pub fn keep(self) -> Split {
        Split { keep: true, ..self }
    }

    /// What becomes of rows whose field is no text. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> Split {
        Split { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When the input lacks the field.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let field = place.field(&self.field).map_err(|e| vec![e])?;
        let mut fields = if self.keep { place.fields().to_vec() } else { Vec::new() };
        let part = fields.iter().position(|f| *f == self.name.value).unwrap_or_else(|| {
            fields.push(self.name.value);
            fields.len() - 1
        });
        let (separator, keep, on_error) = (self.separator, self.keep, self.on_error);
        let streams = on_error.streams(vec![stream(fields)], place.fields());
        let make = move || Splitting { field, separator: separator.clone(), keep, part, bad: BadInput::new(on_error) };
        Ok(place.bolt(streams, None, make))
    }
}

struct Splitting {
    field: u16,
    separator: Option<String>,
    keep: bool,
    part: usize,
    bad: BadInput,
}

impl Splitting {
    fn emit(&self, input: &Input<'_, Row>, part: &str, out: &mut RowStreams) {
        let part = ValueRef::Str(part);
        if !self.keep {
            return out[0].emit(RowRef(&[part]));
        }
        let mut cells: Cells<'_> = input.get().iter().map(Evaluated::Field).collect();
        match cells.get_mut(self.part) {
            Some(cell) => *cell = Evaluated::Scalar(part),
            None => cells.push(Evaluated::Scalar(part)),
        }
        emit(&mut out[0], &cells);
    }
}

impl Bolt for Splitting {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let text = match at(input.get(), self.field) {
            ArchivedValue::Str(text) => text.as_str(),
            ArchivedValue::Null => return Ok(()),
            other => {
                let cause = format!("the field to split is {}, not a text", kind_of_field(other));
                return self.bad.refuse(&input, out, &cause);
            }
        };
        match &self.separator {
            None => text.split_whitespace().for_each(|part| self.emit(&input, part, out)),
            Some(separator) => text.split(&**separator).for_each(|part| self.emit(&input, part, out)),
        }
        Ok(())
    }
}

pub(super) fn described() -> Described {
    Described {
        name: "split",
        aliases: &["org.apache.storm.starter.bolt.SplitSentenceBolt", "org.apache.storm.perf.bolt.SplitSentenceBolt"],
        kind: Kind::Bolt,
        summary: "Emits a row for each word, or each part between separators, of a text.",
        options: vec![
            OptionSpec::required("field", OptionType::Field, "The text; null has no parts."),
            OptionSpec::optional(
                "separator",
                OptionType::Text,
                "What stands between the parts. Left out: whitespace, and no part is empty.",
            ),
            OptionSpec::with_default("as", OptionType::Text, "word", "The part's field."),
            OptionSpec::with_default("keep", OptionType::Bool, "false", "Keeps the input's fields before the part."),
            on_error_option(),
        ],
        outputs: "`default`: the part; with `keep`, the input's fields before it. `dead_letters`: the input's fields and `error`, \
                  with `on_error: dead_letters`.",
        example: "id: words\nclassName: split\nconfig:\n  field: text\n",
        example_fields: &["text"],
        factory: Box::new(|options, place| {
            let field = options.text("field");
            let split = match options.maybe_text("separator") {
                Some(separator) if separator.is_empty() => {
                    let remedy = "write at least one letter, or leave it out for whitespace";
                    return Err(vec![ConfigError::new(separator.at, "`separator` is empty", remedy)]);
                }
                Some(separator) => Split::by(field, &separator),
                None => Split::words(field),
            };
            let split = if options.flag("keep").value { split.keep() } else { split };
            split.name(options.text("as")).on_error(on_error(options)).declare(place)
        }),
    }
}
