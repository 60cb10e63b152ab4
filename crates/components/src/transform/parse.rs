//! Texts into fields: JSON objects, CSV records, regular expressions.

use std::sync::Arc;

use squall::{ArchivedValue, Bolt, BoltError, Context, Input, Row, RowStreams, Value};

use super::csv::CsvFields;
use crate::expression::Evaluated;
use crate::lines::RowLines;
use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Options, Place};
use crate::rows::{BadInput, Cells, OnError, at, emit, kind_of_field, on_error, on_error_option, parse_object, stream};
use crate::sources::Form;

/// What a part of a text becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Column {
    /// A text.
    #[default]
    Text,
    /// An integer; an empty part is null.
    Integer,
    /// A float; an empty part is null.
    Float,
    /// `true` or `false`; an empty part is null.
    Bool,
}

const COLUMNS: &[&str] = &["text", "integer", "float", "bool"];

impl Column {
    fn from_word(word: &str) -> Column {
        match word {
            "integer" => Column::Integer,
            "float" => Column::Float,
            "bool" => Column::Bool,
            _ => Column::Text,
        }
    }

    pub(crate) fn read(self, part: &str) -> Result<Value, String> {
        let wrong = |kind| format!("`{part}` is no {kind}");
        let trimmed = part.trim();
        Ok(match self {
            Column::Text => part.into(),
            _ if trimmed.is_empty() => Value::Null,
            Column::Integer => Value::I64(trimmed.parse().map_err(|_| wrong("integer"))?),
            Column::Float => Value::F64(trimmed.parse().map_err(|_| wrong("float"))?),
            Column::Bool => Value::Bool(trimmed.parse().map_err(|_| wrong("boolean (true or false)"))?),
        })
    }
}

/// How a text is read.
#[derive(Debug, Clone)]
pub enum ParseFrom {
    /// A JSON object: these keys become fields, null where it lacks one.
    Json(Vec<String>),
    /// A CSV record with exactly these columns.
    Csv {
        /// Names and kinds of the columns.
        columns: Vec<(String, Column)>,
        /// What stands between fields: one ASCII character.
        delimiter: u8,
    },
    /// The first match of a pattern: its named groups become fields; a group that takes no part is null.
    Regex {
        /// The pattern.
        pattern: Given<String>,
        /// Kinds of the groups that are no texts.
        kinds: Vec<(Given<String>, Column)>,
    },
}

/// Reads the text of a field, and emits what it read; texts that cannot be read are bad input.
#[derive(Debug, Clone)]
pub struct Parse {
    field: Given<String>,
    from: ParseFrom,
    keep: bool,
    on_error: OnError,
}

enum Parser {
    Json(Arc<[String]>),
    Csv { columns: Arc<[(String, Column)]>, record: CsvFields },
    Regex { regex: regex::Regex, groups: Arc<[(usize, Column)]>, captures: regex::CaptureLocations },
}

impl Parser {
    fn parse(&mut self, text: &str, into: &mut Vec<Value>) -> Result<(), String> {
        into.clear();
        match self {
            Parser::Json(fields) => parse_object(text.as_bytes(), fields, into),
            Parser::Csv { columns, record } => record.read_columns(text, columns, into),
            Parser::Regex { regex, groups, captures } => {
                if regex.captures_read(captures, text).is_none() {
                    return Err("the text does not match the pattern".to_owned());
                }
                for (group, kind) in groups.iter() {
                    let part = captures.get(*group).map(|(start, end)| &text[start..end]);
                    into.push(part.map_or(Ok(Value::Null), |part| kind.read(part))?);
                }
                Ok(())
            }
        }
    }
}

impl Parse {
    /// Reads this field.
    pub fn new(field: impl Into<Given<String>>, from: ParseFrom) -> Parse {
        Parse { field: field.into(), from, keep: false, on_error: OnError::Fail }
    }

    /// Keeps the other fields of the input before those that are read. Default: what is read alone.
    pub fn keep(self) -> Parse {
        Parse { keep: true, ..self }
    }

    /// What becomes of texts that cannot be read. Default: their rows fail.
    pub fn on_error(self, on_error: OnError) -> Parse {
        Parse { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When the input lacks the field, the pattern is none or has no named group, or two fields would have one name.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let field = place.field(&self.field).map_err(|e| errors.push(e)).unwrap_or_default();
        let kept: Vec<u16> = (0..place.fields().len() as u16).filter(|f| self.keep && *f != field).collect();
        let mut fields: Vec<String> = kept.iter().map(|f| place.fields()[*f as usize].clone()).collect();
        let parser: Box<dyn Fn() -> Parser + Send + Sync> = match self.from {
            ParseFrom::Json(keys) => {
                fields.extend(keys.iter().cloned());
                let keys: Arc<[String]> = keys.into();
                Box::new(move || Parser::Json(keys.clone()))
            }
            ParseFrom::Csv { columns, delimiter } => {
                fields.extend(columns.iter().map(|(name, _)| name.clone()));
                let columns: Arc<[(String, Column)]> = columns.into();
                Box::new(move || Parser::Csv { columns: columns.clone(), record: CsvFields::new(delimiter) })
            }
            ParseFrom::Regex { pattern, kinds } => match compile(&pattern, &kinds) {
                Ok((regex, groups)) => {
                    let names: Vec<&str> = regex.capture_names().flatten().collect();
                    fields.extend(names.into_iter().map(str::to_owned));
                    let groups: Arc<[(usize, Column)]> = groups.into();
                    Box::new(move || Parser::Regex {
                        captures: regex.capture_locations(),
                        regex: regex.clone(),
                        groups: groups.clone(),
                    })
                }
                Err(e) => {
                    errors.extend(e);
                    return Err(errors);
                }
            },
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        crate::state::distinct_names(&fields, place.span())?;
        let on_error = self.on_error;
        let streams = on_error.streams(vec![stream(fields)], place.fields());
        let make = move || Parsing {
            field,
            kept: kept.clone(),
            parser: parser(),
            values: Vec::new(),
            bad: BadInput::new(on_error),
        };
        Ok(place.bolt(streams, None, make))
    }
}

type Groups = Vec<(usize, Column)>;

fn compile(
    pattern: &Given<String>,
    kinds: &[(Given<String>, Column)],
) -> Result<(regex::Regex, Groups), Vec<ConfigError>> {
    let regex = regex::Regex::new(pattern).map_err(|e| {
        let last = e.to_string();
        let cause = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        vec![ConfigError::new(pattern.at, format!("the pattern is no regular expression: {cause}"), "correct it")]
    })?;
    let named: Vec<(usize, &str)> =
        regex.capture_names().enumerate().filter_map(|(i, name)| name.map(|name| (i, name))).collect();
    if named.is_empty() {
        let remedy = "name what it takes out of the text: (?<name>…)";
        return Err(vec![ConfigError::new(pattern.at, "the pattern has no named group", remedy)]);
    }
    let known: Vec<&str> = named.iter().map(|(_, name)| *name).collect();
    let unknown = kinds.iter().filter(|(name, _)| !known.contains(&name.as_str())).map(|(name, _)| {
        let what = format!("the pattern has no group `{}`", name.value);
        ConfigError::new(name.at, what, crate::registry::meant(name, &known, "groups"))
    });
    let unknown: Vec<ConfigError> = unknown.collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let kind = |name: &str| kinds.iter().find(|(n, _)| n.value == name).map_or(Column::Text, |(_, kind)| *kind);
    let groups = named.iter().map(|(i, name)| (*i, kind(name))).collect();
    Ok((regex, groups))
}

struct Parsing {
    field: u16,
    kept: Vec<u16>,
    parser: Parser,
    values: Vec<Value>,
    bad: BadInput,
}

impl Bolt for Parsing {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        let parsed = match at(row, self.field) {
            ArchivedValue::Str(text) => self.parser.parse(text.as_str(), &mut self.values),
            ArchivedValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => self.parser.parse(text, &mut self.values),
                Err(cause) => Err(format!("the bytes are no UTF-8: {cause}")),
            },
            other => Err(format!("the field to parse is {}, not a text", kind_of_field(other))),
        };
        if let Err(cause) = parsed {
            return self.bad.refuse(&input, out, &cause);
        }
        let mut cells: Cells<'_> = self.kept.iter().map(|f| Evaluated::Field(at(row, *f))).collect();
        cells.extend(self.values.drain(..).map(Evaluated::Owned));
        emit(&mut out[0], &cells);
        Ok(())
    }
}

/// The option of a delimiter, and its reading.
pub(crate) fn delimiter_option() -> OptionSpec {
    OptionSpec::with_default("delimiter", OptionType::Text, ",", "What stands between fields: one ASCII character.")
}

pub(crate) fn delimiter(options: &Options) -> Result<u8, ConfigError> {
    let text = options.text("delimiter");
    match text.as_bytes() {
        [one] if one.is_ascii() && !b"\"\n\r".contains(one) => Ok(*one),
        _ => {
            let what = format!("`delimiter` is `{}`", text.value);
            Err(ConfigError::new(text.at, what, "write one ASCII character that is no quote and no line end"))
        }
    }
}

fn common() -> [OptionSpec; 3] {
    [
        OptionSpec::with_default("field", OptionType::Field, "text", "The text that is read."),
        OptionSpec::with_default(
            "keep",
            OptionType::Bool,
            "false",
            "Keeps the other fields of the input before those that are read.",
        ),
        on_error_option(),
    ]
}

const OUTPUTS: &str = "`default`: what is read; with `keep`, the input's other fields before it. `dead_letters`: the input's \
                       fields and `error`, with `on_error: dead_letters`.";

fn declare(options: &Options, from: ParseFrom, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
    let parse = Parse::new(options.text("field"), from).on_error(on_error(options));
    if options.flag("keep").value { parse.keep().declare(place) } else { parse.declare(place) }
}

pub(super) fn kinds(options: &Options) -> Vec<(Given<String>, Column)> {
    options.word_map("types").into_iter().map(|(name, word)| (name, Column::from_word(word.value))).collect()
}

/// The options of CSV.
fn csv_options() -> [OptionSpec; 3] {
    [
        OptionSpec::required("columns", OptionType::list(OptionType::Text), "The columns, all of them, in order."),
        types_option(),
        delimiter_option(),
    ]
}

pub(super) fn types_option() -> OptionSpec {
    OptionSpec::optional(
        "types",
        OptionType::map(OptionType::Word(COLUMNS)),
        "Fields that are no texts, with what they are; an empty part is null then.",
    )
}

/// Columns with their kinds.
type Columns = Vec<(String, Column)>;

/// Reads the options of CSV.
fn csv_columns(options: &Options) -> Result<(Columns, u8), Vec<ConfigError>> {
    let names = options.texts("columns");
    let known: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    let kinds = kinds(options);
    let mut errors: Vec<ConfigError> = Vec::new();
    for (name, _) in kinds.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        let what = format!("there is no column `{}`", name.value);
        errors.push(ConfigError::new(name.at, what, crate::registry::meant(name, &known, "columns")));
    }
    let delimiter = delimiter(options).map_err(|e| errors.push(e)).unwrap_or(b',');
    if !errors.is_empty() {
        return Err(errors);
    }
    let kind = |name: &str| kinds.iter().find(|(n, _)| n.value == name).map_or(Column::Text, |(_, k)| *k);
    Ok((known.iter().map(|name| ((*name).to_owned(), kind(name))).collect(), delimiter))
}

/// The spout of CSV records a line, given the options and the reading of lines.
pub(crate) fn csv_lines(
    common: Vec<OptionSpec>,
    lines: fn(&Options) -> Result<RowLines, Vec<ConfigError>>,
) -> Described {
    Described {
        name: "csv-lines",
        aliases: &[],
        kind: Kind::Spout,
        summary: "CSV records, one a line, of files and folders.",
        options: common.into_iter().chain(csv_options()).chain([on_error_option()]).collect(),
        outputs: "`default`: the columns. `dead_letters`: `text` and `error`, with `on_error: dead_letters` or \
                  `on_give_up: dead_letters`. A line of names at a file's start is a record as any other: skip it by `on_error: skip` where a type refuses it, or filter it.",
        example: "id: readings\nclassName: csv-lines\nconfig:\n  paths: readings.csv\n  columns: [sensor, celsius]\n  types: \
                  {celsius: float}\n  on_error: skip\n",
        example_fields: &[],
        factory: Box::new(move |options, place| {
            let (columns, delimiter) = csv_columns(options)?;
            lines(options)?.form(Form::Csv { columns, delimiter }).on_error(on_error(options)).declare(place)
        }),
    }
}

pub(super) fn described() -> Vec<Described> {
    let with = |mine: Vec<OptionSpec>| mine.into_iter().chain(common()).collect::<Vec<_>>();
    let json = Described {
        name: "parse-json",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Reads JSON objects from a text: the keys that are named become fields.",
        options: with(vec![OptionSpec::required(
            "fields",
            OptionType::list(OptionType::Text),
            "The keys that become fields, null where an object lacks one.",
        )]),
        outputs: OUTPUTS,
        example: "id: events\nclassName: parse-json\nconfig:\n  fields: [user, page, ms]\n  on_error: skip\n",
        example_fields: &["text"],
        factory: Box::new(|options, place| {
            let keys = options.texts("fields").into_iter().map(|k| k.value).collect();
            declare(options, ParseFrom::Json(keys), place)
        }),
    };
    let csv = Described {
        name: "parse-csv",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Reads CSV records from a text: the columns become fields.",
        options: with(csv_options().into()),
        outputs: OUTPUTS,
        example: "id: readings\nclassName: parse-csv\nconfig:\n  columns: [sensor, celsius]\n  types:\n    celsius: float\n",
        example_fields: &["text"],
        factory: Box::new(|options, place| {
            let (columns, delimiter) = csv_columns(options)?;
            declare(options, ParseFrom::Csv { columns, delimiter }, place)
        }),
    };
    let regex = Described {
        name: "parse-regex",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Takes a text apart by a regular expression: its named groups become fields.",
        options: with(vec![
            OptionSpec::required(
                "pattern",
                OptionType::Text,
                "The regular expression (syntax of the Rust crate regex), with groups named (?<so>…).",
            ),
            types_option(),
        ]),
        outputs: OUTPUTS,
        example: "id: log\nclassName: parse-regex\nconfig:\n  pattern: '^(?<level>[A-Z]+) (?<code>\\d+)'\n  types: {code: integer}\n",
        example_fields: &["text"],
        factory: Box::new(|options, place| {
            let from = ParseFrom::Regex { pattern: options.text("pattern"), kinds: kinds(options) };
            declare(options, from, place)
        }),
    };
    vec![json, csv, regex]
}
