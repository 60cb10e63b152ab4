//! Rows into a table of an SQLite database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef as SqlRef};
use rusqlite::{Connection, ToSql};
use squall::{Anchor, ArchivedValue, Bolt, BoltError, Context, Counter, Finish, Input, Placement, Row, RowStreams};

use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Place};
use crate::rows::{BadInput, OnError, at, on_error, on_error_option, write_json};

/// Rows in one transaction, at most.
const ROWS_MAX: usize = 10_000;
/// How long the database may be locked by another.
const BUSY_TIME: Duration = Duration::from_secs(30);

/// What becomes of rows whose key is in the table already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflict {
    /// They are bad input.
    #[default]
    Bad,
    /// They are passed over.
    Ignore,
    /// They take the other's place.
    Replace,
}

/// Inserts rows into a table, a column for each field; lists and maps are written as JSON.
///
/// Rows are committed, and then acknowledged, when a batch of the dataplane ends: with many rows a second, thousands at a time. A
/// row that the database refuses (a constraint) is bad input. One task writes at a time: others wait for the lock.
#[derive(Debug, Clone)]
pub struct Sqlite {
    path: PathBuf,
    table: String,
    create: bool,
    conflict: Conflict,
    on_error: OnError,
}

impl Sqlite {
    /// Into this table of the database in this file; both are made if they are not there.
    pub fn new(path: impl Into<PathBuf>, table: &str) -> Sqlite {
        Sqlite {
            path: path.into(),
            table: table.into(),
            create: true,
            conflict: Conflict::Bad,
            on_error: OnError::Fail,
        }
    }

    /// Whether the table is made if it is not there, with columns without types. Default: yes.
    pub fn create(self, create: bool) -> Sqlite {
        Sqlite { create, ..self }
    }

    /// What becomes of rows whose key is in the table already. Default: they are bad input.
    pub fn conflict(self, conflict: Conflict) -> Sqlite {
        Sqlite { conflict, ..self }
    }

    /// What becomes of rows that the database refuses. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> Sqlite {
        Sqlite { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// None today.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let fields = Arc::new(place.fields().to_vec());
        let streams = self.on_error.streams(Vec::new(), place.fields());
        let settings = Arc::new(self);
        let make = move || Inserting {
            bad: BadInput::new(settings.on_error),
            settings: settings.clone(),
            fields: fields.clone(),
            insert: String::new(),
            connection: None,
            anchors: Vec::new(),
            rows: None,
        };
        Ok(place.bolt(streams, None, make))
    }
}

struct Inserting {
    settings: Arc<Sqlite>,
    fields: Arc<Vec<String>>,
    insert: String,
    connection: Option<Connection>,
    /// Of the open transaction.
    anchors: Vec<Anchor>,
    rows: Option<Counter>,
    bad: BadInput,
}

/// A name as SQL quotes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

struct Column<'a>(&'a ArchivedValue);

impl ToSql for Column<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            ArchivedValue::Null => ToSqlOutput::Borrowed(SqlRef::Null),
            ArchivedValue::Bool(b) => ToSqlOutput::Borrowed(SqlRef::Integer(i64::from(*b))),
            ArchivedValue::I64(n) => ToSqlOutput::Borrowed(SqlRef::Integer(n.to_native())),
            ArchivedValue::F64(x) => ToSqlOutput::Borrowed(SqlRef::Real(x.to_native())),
            ArchivedValue::Str(s) => ToSqlOutput::Borrowed(SqlRef::Text(s.as_bytes())),
            ArchivedValue::Bytes(b) => ToSqlOutput::Borrowed(SqlRef::Blob(b)),
            nested => {
                let mut json = Vec::new();
                write_json(nested, &mut json);
                ToSqlOutput::Owned(rusqlite::types::Value::Text(String::from_utf8_lossy(&json).into_owned()))
            }
        })
    }
}

impl Inserting {
    fn cannot(&self, what: &str, cause: &rusqlite::Error) -> BoltError {
        let path = self.settings.path.display();
        BoltError::fatal(format!(
            "cannot {what} {path}: {cause}; check the path, the permissions, the disk and the table"
        ))
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.settings.path)?;
        connection.busy_timeout(BUSY_TIME)?;
        if self.settings.create {
            let columns: Vec<String> = self.fields.iter().map(|f| quoted(f)).collect();
            let table = quoted(&self.settings.table);
            connection.execute(&format!("CREATE TABLE IF NOT EXISTS {table} ({})", columns.join(", ")), [])?;
        }
        // Tells at the start that the table or a column is not there.
        connection.prepare(&self.insert)?;
        Ok(connection)
    }

    fn commit(&mut self) -> Result<(), BoltError> {
        let connection = self.connection.as_ref().expect("prepared");
        // A transaction may be open without a row: its first one was refused.
        if connection.is_autocommit() {
            return Ok(());
        }
        connection.execute_batch("COMMIT").map_err(|cause| self.cannot("commit to", &cause))?;
        self.rows.as_ref().expect("prepared").add(self.anchors.len() as u64);
        self.anchors.drain(..).for_each(Anchor::ack);
        Ok(())
    }
}

impl Bolt for Inserting {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        self.rows = Some(ctx.counter("rows"));
        let columns: Vec<String> = self.fields.iter().map(|f| quoted(f)).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let conflict = match self.settings.conflict {
            Conflict::Bad => "",
            Conflict::Ignore => " OR IGNORE",
            Conflict::Replace => " OR REPLACE",
        };
        let table = quoted(&self.settings.table);
        self.insert = format!("INSERT{conflict} INTO {table} ({}) VALUES ({marks})", columns.join(", "));
        self.connection = Some(self.open().map_err(|cause| self.cannot("open", &cause))?);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        let connection = self.connection.as_ref().expect("prepared");
        if connection.is_autocommit() {
            connection.execute_batch("BEGIN IMMEDIATE").map_err(|cause| self.cannot("write to", &cause))?;
        }
        let columns = (0..self.fields.len()).map(|i| Column(at(row, i as u16)));
        let inserted = connection
            .prepare_cached(&self.insert)
            .and_then(|mut insert| insert.execute(rusqlite::params_from_iter(columns)));
        match inserted {
            Ok(_) => {}
            Err(rusqlite::Error::SqliteFailure(error, text))
                if error.code == rusqlite::ErrorCode::ConstraintViolation =>
            {
                let cause = format!("the database refuses the row: {}", text.unwrap_or_else(|| error.to_string()));
                return self.bad.refuse(&input, out, &cause);
            }
            Err(cause) => return Err(self.cannot("write to", &cause)),
        }
        self.anchors.push(input.keep().1);
        if self.anchors.len() >= ROWS_MAX { self.commit() } else { Ok(()) }
    }

    fn batch_end(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        self.commit()
    }

    fn finish(&mut self, _: &mut RowStreams) -> Result<Finish, BoltError> {
        self.commit()?;
        Ok(Finish::Done)
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

pub(super) fn described() -> Described {
    Described {
        name: "sqlite",
        aliases: &["org.apache.storm.jdbc.bolt.JdbcInsertBolt"],
        kind: Kind::Sink,
        summary: "Inserts rows into a table of an SQLite database.",
        options: vec![
            OptionSpec::required("file", OptionType::Path, "The database; made if it is not there."),
            OptionSpec::required("table", OptionType::Text, "The table, with a column for each field of the input."),
            OptionSpec::with_default(
                "create",
                OptionType::Bool,
                "true",
                "Makes the table if it is not there, with columns without types.",
            ),
            OptionSpec::with_default(
                "conflict",
                OptionType::Word(&["bad", "ignore", "replace"]),
                "bad",
                "What becomes of rows whose key is in the table: bad input, passed over, or put in the other's place.",
            ),
            on_error_option(),
        ],
        outputs: "`dead_letters`: the input's fields and `error`, with `on_error: dead_letters`; else none.",
        example: "id: store\nclassName: sqlite\nconfig:\n  file: words.db\n  table: words\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let conflict = match options.word("conflict").value {
                "ignore" => Conflict::Ignore,
                "replace" => Conflict::Replace,
                _ => Conflict::Bad,
            };
            let sink = Sqlite::new(options.path("file").value, &options.text("table"));
            sink.create(options.flag("create").value).conflict(conflict).on_error(on_error(options)).declare(place)
        }),
    }
}
