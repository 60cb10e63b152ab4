//! Rows with columns of a file's table.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use squall::{Bolt, BoltError, Context, Counter, Input, Level, Logger, Row, RowStreams, ValueRef};

use super::parse::{Column, kinds, types_option};
use super::table::{Table, TableFormat, TableSpec, version};
use crate::expression::Evaluated;
use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Place};
use crate::rows::{BadInput, Cells, OnError, at, emit, on_error, on_error_option, stream};
use crate::state::{distinct_names, write_key};

/// What becomes of rows whose key the table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// Their columns are null.
    #[default]
    Null,
    /// They are dropped and counted as `missing`.
    Drop,
    /// They are bad input.
    Bad,
}

/// Adds columns of a table to each row, by key. The table is a file that each task keeps in memory, and reads again when it has
/// changed; write a new file and rename it, for a file that is written in place may be read half. A changed file that cannot be
/// read is logged and counted as `reloads_failed`, and the table stays what it was.
#[derive(Debug, Clone)]
pub struct Enrich {
    table: TableSpec,
    field: Given<String>,
    missing: Missing,
    look_every: Duration,
    on_error: OnError,
}

impl Enrich {
    /// Adds these columns of the file's row whose column `key` is the row's `field`.
    pub fn new<S: Into<String>>(
        file: impl Into<PathBuf>,
        format: TableFormat,
        field: impl Into<Given<String>>,
        key: &str,
        columns: impl IntoIterator<Item = S>,
    ) -> Enrich {
        let table = TableSpec {
            path: file.into(),
            format,
            key: key.to_owned(),
            columns: columns.into_iter().map(Into::into).collect(),
            types: Vec::new(),
            rows_max: 10_000_000,
        };
        let look_every = Duration::from_secs(1);
        Enrich { table, field: field.into(), missing: Missing::Null, look_every, on_error: OnError::Fail }
    }

    /// Kinds of CSV columns that are no texts, the key's among them.
    pub fn types(mut self, types: impl IntoIterator<Item = (String, Column)>) -> Enrich {
        self.table.types = types.into_iter().collect();
        self
    }

    /// Rows of the table, at most. Default 10 million.
    pub fn rows_max(mut self, rows: usize) -> Enrich {
        self.table.rows_max = rows;
        self
    }

    /// What becomes of rows whose key the table lacks. Default: their columns are null.
    pub fn missing(self, missing: Missing) -> Enrich {
        Enrich { missing, ..self }
    }

    /// How often it is looked whether the file has changed. Default: every second.
    pub fn look_every(self, period: Duration) -> Enrich {
        Enrich { look_every: period, ..self }
    }

    /// What becomes of bad input. Default: it fails.
    pub fn on_error(self, on_error: OnError) -> Enrich {
        Enrich { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When the input lacks the field, or two fields would have one name.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let field = place.field(&self.field).map_err(|e| vec![e])?;
        let fields: Vec<String> = place.fields().iter().chain(&self.table.columns).cloned().collect();
        distinct_names(&fields, place.span())?;
        let streams = self.on_error.streams(vec![stream(fields)], place.fields());
        let look_every = Some(self.look_every);
        let settings = Arc::new(self);
        let make = move || Enriching {
            bad: BadInput::new(settings.on_error),
            settings: settings.clone(),
            field,
            table: None,
            key: Vec::new(),
            kit: None,
        };
        Ok(place.bolt(streams, look_every, make))
    }
}

struct Enriching {
    settings: Arc<Enrich>,
    field: u16,
    table: Option<Table>,
    key: Vec<u8>,
    bad: BadInput,
    kit: Option<Kit>,
}

struct Kit {
    missing: Counter,
    reloads: Counter,
    reloads_failed: Counter,
    logger: Logger,
}

impl Bolt for Enriching {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.table = Some(Table::read(&self.settings.table).map_err(BoltError::fatal)?);
        self.bad.prepare(ctx);
        self.kit = Some(Kit {
            missing: ctx.counter("missing"),
            reloads: ctx.counter("reloads"),
            reloads_failed: ctx.counter("reloads_failed"),
            logger: ctx.logger(),
        });
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        self.key.clear();
        write_key(at(row, self.field).key(), &mut self.key);
        let mut cells: Cells<'_> = row.iter().map(Evaluated::Field).collect();
        match self.table.as_ref().expect("prepared").get(&self.key) {
            Some(columns) => cells.extend(columns.iter().cloned().map(Evaluated::Owned)),
            None => {
                let kit = self.kit.as_ref().expect("prepared");
                match self.settings.missing {
                    Missing::Null => {
                        cells.extend(self.settings.table.columns.iter().map(|_| Evaluated::Scalar(ValueRef::Null)));
                    }
                    Missing::Drop => {
                        kit.missing.inc();
                        return Ok(());
                    }
                    Missing::Bad => {
                        let cause = format!("the table has no row for this `{}`", self.settings.field.value);
                        return self.bad.refuse(&input, out, &cause);
                    }
                }
                kit.missing.inc();
            }
        }
        emit(&mut out[0], &cells);
        Ok(())
    }

    fn tick(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        let (table, kit) = (self.table.as_mut().expect("prepared"), self.kit.as_ref().expect("prepared"));
        // While it is replaced there may be none for a moment.
        let Ok(now) = version(&self.settings.table.path) else { return Ok(()) };
        if now == table.version {
            return Ok(());
        }
        match Table::read(&self.settings.table) {
            Ok(new) => {
                *table = new;
                kit.reloads.inc();
            }
            Err(cause) => {
                // Not again until it changes again.
                table.version = now;
                kit.reloads_failed.inc();
                kit.logger.log(Level::Warn, format_args!("the table stays as it was: {cause}"));
            }
        }
        Ok(())
    }
}

pub(super) fn described() -> Described {
    Described {
        name: "enrich",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Adds columns of a file's table to each row, by key; reads the file again when it has changed.",
        options: vec![
            OptionSpec::required(
                "file",
                OptionType::Path,
                "The table: CSV with a line of names, or JSON objects, one a line.",
            ),
            OptionSpec::optional(
                "format",
                OptionType::Word(&["csv", "json"]),
                "How it is written. Left out: JSON if its name ends with .json, .jsonl or .ndjson, else CSV.",
            ),
            OptionSpec::required("field", OptionType::Field, "The field of the input that is looked up."),
            OptionSpec::optional(
                "key",
                OptionType::Text,
                "The table's column that is compared with it. Left out: `field`'s name.",
            ),
            OptionSpec::required("columns", OptionType::list(OptionType::Text), "The table's columns that are added."),
            types_option(),
            OptionSpec::with_default(
                "missing",
                OptionType::Word(&["null", "drop", "bad"]),
                "null",
                "What becomes of rows whose key the table lacks: nulls, dropped and counted as `missing`, or bad input.",
            ),
            OptionSpec::with_default(
                "look_every",
                OptionType::duration(),
                "1s",
                "How often the file is looked at for changes.",
            ),
            OptionSpec::with_default(
                "rows_max",
                OptionType::integer(1, 1 << 32),
                "10000000",
                "Rows of the table, at most.",
            ),
            on_error_option(),
        ],
        outputs: "`default`: the input's fields, then `columns`. `dead_letters`: the input's fields and `error`, with `on_error: \
                  dead_letters`.",
        example: "id: named\nclassName: enrich\nconfig:\n  file: words.csv\n  field: word\n  columns: [language]\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let (file, field) = (options.path("file").value, options.text("field"));
            let ends_as_json = file.extension().is_some_and(|e| e == "json" || e == "jsonl" || e == "ndjson");
            let format = match options.maybe_word("format").map(|w| w.value) {
                Some("json") => TableFormat::Json,
                Some(_) => TableFormat::Csv,
                None if ends_as_json => TableFormat::Json,
                None => TableFormat::Csv,
            };
            let key = options.maybe_text("key").map_or_else(|| field.value.clone(), |k| k.value);
            let columns = options.texts("columns").into_iter().map(|c| c.value);
            let missing = match options.word("missing").value {
                "drop" => Missing::Drop,
                "bad" => Missing::Bad,
                _ => Missing::Null,
            };
            Enrich::new(file, format, field, &key, columns)
                .types(kinds(options).into_iter().map(|(name, kind)| (name.value, kind)))
                .rows_max(options.count("rows_max"))
                .missing(missing)
                .look_every(options.duration("look_every").value)
                .on_error(on_error(options))
                .declare(place)
        }),
    }
}
