//! Rows into Parquet files that appear whole: columns of declared kinds, in groups of rows, compressed by Snappy.
//!
//! A Parquet file is readable once its last bytes, the description of what lies where, are written. So a file under way is
//! `.part`, and what a crash leaves of it is lost.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use squall::{
    ArchivedRow, ArchivedValue, Bolt, BoltError, Clock, Context, Counter, Finish, Input, Placement, Row, RowStreams,
};

use super::file::{common, file_name, next_number, part};
use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Place};
use crate::rows::{BadInput, OnError, at, kind_of_field, on_error, on_error_option};

/// What a column holds; each may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParquetKind {
    /// Integers.
    Int,
    /// Floats; integers are taken as such.
    Float,
    /// `true` and `false`.
    Bool,
    /// Text.
    Text,
    /// Raw bytes.
    Bytes,
}

const KINDS: &[&str] = &["int", "float", "bool", "text", "bytes"];

/// Writes columns of rows into Parquet files of a folder, named and committed as those of [`FileSink`](crate::FileSink).
///
/// Rows are gathered in memory, [`ParquetSink::group_rows`] of them, and then written as a group. A row is acknowledged when it
/// is gathered: a crash loses the rows of files that are not done.
#[derive(Debug, Clone)]
pub struct ParquetSink {
    folder: PathBuf,
    name: String,
    columns: Vec<(Given<String>, ParquetKind)>,
    group_rows: usize,
    rotate_bytes: Option<u64>,
    rotate_every: Option<Duration>,
    on_error: OnError,
}

impl ParquetSink {
    /// These columns, by the fields of the input, into `rows-0-0.parquet` …
    pub fn new<N: Into<Given<String>>>(
        folder: impl Into<PathBuf>,
        columns: impl IntoIterator<Item = (N, ParquetKind)>,
    ) -> ParquetSink {
        ParquetSink {
            folder: folder.into(),
            name: "rows".into(),
            columns: columns.into_iter().map(|(name, kind)| (name.into(), kind)).collect(),
            group_rows: 10_000,
            rotate_bytes: None,
            rotate_every: None,
            on_error: OnError::Fail,
        }
    }

    /// What names begin with. Default `rows`.
    pub fn name(self, name: &str) -> ParquetSink {
        ParquetSink { name: name.into(), ..self }
    }

    /// Rows of a group, which are gathered in memory. Default 10,000.
    pub fn group_rows(self, rows: usize) -> ParquetSink {
        ParquetSink { group_rows: rows.max(1), ..self }
    }

    /// A file is done when a group leaves it with so many bytes or more.
    pub fn rotate_bytes(self, bytes: u64) -> ParquetSink {
        ParquetSink { rotate_bytes: Some(bytes), ..self }
    }

    /// A file is done when its first row came so long ago.
    pub fn rotate_every(self, time: Duration) -> ParquetSink {
        ParquetSink { rotate_every: Some(time), ..self }
    }

    /// What becomes of rows with a value of another kind than its column. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> ParquetSink {
        ParquetSink { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// Columns that the input has not, and none at all.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        if self.columns.is_empty() {
            let remedy = "name the fields to write, each with its kind: `columns: { user: text, ms: int }`";
            return Err(vec![ConfigError::new(place.span(), "`columns` names none", remedy)]);
        }
        let mut errors = Vec::new();
        let find = |(name, kind): &(Given<String>, ParquetKind)| {
            Some((place.field(name).map_err(|e| errors.push(e)).ok()?, *kind))
        };
        let columns: Vec<(u16, ParquetKind)> = self.columns.iter().filter_map(find).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let schema = Arc::new(schema(&self.columns).map_err(|cause| {
            vec![ConfigError::new(place.span(), format!("these columns make no Parquet file: {cause}"), "rename them")]
        })?);
        let streams = self.on_error.streams(Vec::new(), place.fields());
        let tick = self.rotate_every.map(|time| (time / 4).clamp(Duration::from_millis(1), Duration::from_secs(1)));
        let settings = Arc::new(self);
        let make = move || Writing {
            bad: BadInput::new(settings.on_error),
            settings: settings.clone(),
            schema: schema.clone(),
            columns: columns
                .iter()
                .map(|(field, kind)| Column { field: *field, values: Values::new(*kind), present: Vec::new() })
                .collect(),
            rows: 0,
            stem: String::new(),
            number: 0,
            open: None,
            began_ns: None,
            kit: None,
        };
        Ok(place.bolt(streams, tick, make))
    }
}

fn schema(columns: &[(Given<String>, ParquetKind)]) -> Result<Type, ParquetError> {
    let column = |(name, kind): &(Given<String>, ParquetKind)| {
        let (physical, logical) = match kind {
            ParquetKind::Int => (Physical::INT64, None),
            ParquetKind::Float => (Physical::DOUBLE, None),
            ParquetKind::Bool => (Physical::BOOLEAN, None),
            ParquetKind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            ParquetKind::Bytes => (Physical::BYTE_ARRAY, None),
        };
        let column = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        column.with_logical_type(logical).build().map(Arc::new)
    };
    let columns = columns.iter().map(column).collect::<Result<_, _>>()?;
    Type::group_type_builder("rows").with_fields(columns).build()
}

/// The values of a group that are not null, as Parquet takes them.
enum Values {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
    Text(Vec<ByteArray>),
    Bytes(Vec<ByteArray>),
}

impl Values {
    fn new(kind: ParquetKind) -> Values {
        match kind {
            ParquetKind::Int => Values::Int(Vec::new()),
            ParquetKind::Float => Values::Float(Vec::new()),
            ParquetKind::Bool => Values::Bool(Vec::new()),
            ParquetKind::Text => Values::Text(Vec::new()),
            ParquetKind::Bytes => Values::Bytes(Vec::new()),
        }
    }

    fn takes(&self, value: &ArchivedValue) -> bool {
        match self {
            _ if matches!(value, ArchivedValue::Null) => true,
            Values::Int(_) => matches!(value, ArchivedValue::I64(_)),
            Values::Float(_) => value.as_f64().is_some(),
            Values::Bool(_) => matches!(value, ArchivedValue::Bool(_)),
            Values::Text(_) => matches!(value, ArchivedValue::Str(_)),
            Values::Bytes(_) => matches!(value, ArchivedValue::Bytes(_)),
        }
    }

    fn push(&mut self, value: &ArchivedValue) {
        match (self, value) {
            (Values::Int(of), ArchivedValue::I64(n)) => of.push(n.to_native()),
            (Values::Float(of), value) => of.extend(value.as_f64()),
            (Values::Bool(of), ArchivedValue::Bool(b)) => of.push(*b),
            (Values::Text(of), ArchivedValue::Str(s)) => of.push(s.as_bytes().to_vec().into()),
            (Values::Bytes(of), ArchivedValue::Bytes(b)) => of.push(b.to_vec().into()),
            _ => unreachable!("only what the column takes is pushed"),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Values::Int(_) => "integers",
            Values::Float(_) => "numbers",
            Values::Bool(_) => "booleans",
            Values::Text(_) => "text",
            Values::Bytes(_) => "bytes",
        }
    }
}

struct Column {
    field: u16,
    values: Values,
    /// By row: 1, or 0 for null.
    present: Vec<i16>,
}

impl Column {
    fn push(&mut self, value: &ArchivedValue) {
        let null = matches!(value, ArchivedValue::Null);
        self.present.push(i16::from(!null));
        if !null {
            self.values.push(value);
        }
    }

    /// Writes what was gathered, and is empty then.
    fn write(&mut self, to: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let present = Some(&self.present[..]);
        match &mut self.values {
            Values::Int(of) => to.typed::<Int64Type>().write_batch(&std::mem::take(of), present, None)?,
            Values::Float(of) => to.typed::<DoubleType>().write_batch(&std::mem::take(of), present, None)?,
            Values::Bool(of) => to.typed::<BoolType>().write_batch(&std::mem::take(of), present, None)?,
            Values::Text(of) | Values::Bytes(of) => {
                to.typed::<ByteArrayType>().write_batch(&std::mem::take(of), present, None)?
            }
        };
        self.present.clear();
        Ok(())
    }
}

struct Writing {
    settings: Arc<ParquetSink>,
    schema: Arc<Type>,
    columns: Vec<Column>,
    /// Rows gathered.
    rows: usize,
    /// `NAME-TASK`.
    stem: String,
    /// The next file's.
    number: u64,
    open: Option<OpenFile>,
    /// When the first row of the file was gathered.
    began_ns: Option<u64>,
    bad: BadInput,
    kit: Option<(Clock, Counter, Counter)>,
}

struct OpenFile {
    path: PathBuf,
    writer: SerializedFileWriter<File>,
}

fn failed(path: &std::path::Path, cause: &ParquetError) -> BoltError {
    BoltError::fatal(format!(
        "cannot write {}: {cause}; the files before it are whole. Free the disk or choose another folder, and go on behind \
         them",
        part(path).display()
    ))
}

impl Writing {
    fn refused(&self, row: &ArchivedRow) -> Option<String> {
        let column = self.columns.iter().zip(&self.settings.columns);
        let wrong = |(column, (name, _)): (&Column, &(Given<String>, ParquetKind))| {
            let value = at(row, column.field);
            let (found, kind) = (kind_of_field(value), column.values.kind());
            (!column.values.takes(value)).then(|| format!("`{}` is {found}, and its column holds {kind}", name.value))
        };
        column.filter_map(wrong).next()
    }

    fn open(&mut self) -> Result<OpenFile, BoltError> {
        let path = self.settings.folder.join(file_name(&self.stem, self.number, "parquet"));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = File::options().write(true).create_new(true).open(part(&path)).map_err(ParquetError::from);
        let writer = file.and_then(|file| SerializedFileWriter::new(file, self.schema.clone(), Arc::new(properties)));
        let writer = writer.map_err(|cause| failed(&path, &cause))?;
        self.number += 1;
        Ok(OpenFile { path, writer })
    }

    /// Writes the rows that were gathered as a group.
    fn write_group(&mut self) -> Result<(), BoltError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let columns = &mut self.columns;
        let mut write = || {
            let mut group = open.writer.next_row_group()?;
            for column in columns.iter_mut() {
                let mut to = group.next_column()?.expect("a column of the schema for each of ours");
                column.write(&mut to)?;
                to.close()?;
            }
            group.close().map(drop)
        };
        write().map_err(|cause| failed(&open.path, &cause))?;
        self.rows = 0;
        let bytes = open.writer.bytes_written() as u64;
        self.open = Some(open);
        if self.settings.rotate_bytes.is_some_and(|most| bytes >= most) { self.rotate() } else { Ok(()) }
    }

    /// Ends the file and puts it on the disk under its name.
    fn rotate(&mut self) -> Result<(), BoltError> {
        let Some(OpenFile { path, writer }) = self.open.take() else { return Ok(()) };
        self.began_ns = None;
        let file = writer.into_inner().map_err(|cause| failed(&path, &cause))?;
        let done = file.sync_all().and_then(|()| {
            fs::rename(part(&path), &path)?;
            // The name is on the disk when its folder is.
            File::open(path.parent().unwrap_or(std::path::Path::new(".")))?.sync_all()
        });
        done.map_err(|cause| failed(&path, &cause.into()))?;
        self.kit.as_ref().expect("prepared").2.inc();
        Ok(())
    }
}

impl Bolt for Writing {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.kit = Some((ctx.clock(), ctx.counter("rows"), ctx.counter("files")));
        self.bad.prepare(ctx);
        self.stem = format!("{}-{}", self.settings.name, ctx.task_index());
        let folder = &self.settings.folder;
        let found = fs::create_dir_all(folder).and_then(|()| next_number(folder, &self.stem));
        self.number = found.map_err(|cause| {
            let folder = folder.display();
            BoltError::fatal(format!(
                "cannot look for files in {folder}: {cause}; check that the folder may be written"
            ))
        })?;
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        if let Some(cause) = self.refused(row) {
            return self.bad.refuse(&input, out, &cause);
        }
        self.columns.iter_mut().for_each(|column| column.push(at(row, column.field)));
        self.rows += 1;
        let (clock, rows, _) = self.kit.as_ref().expect("prepared");
        rows.inc();
        if self.began_ns.is_none() && self.settings.rotate_every.is_some() {
            self.began_ns = Some(clock.now().as_nanos());
        }
        if self.rows >= self.settings.group_rows { self.write_group() } else { Ok(()) }
    }

    fn tick(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        let now_ns = self.kit.as_ref().expect("prepared").0.now().as_nanos();
        let age = self.began_ns.map(|began_ns| Duration::from_nanos(now_ns.saturating_sub(began_ns)));
        if age.zip(self.settings.rotate_every).is_some_and(|(age, most)| age >= most) {
            self.write_group()?;
            self.rotate()?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut RowStreams) -> Result<Finish, BoltError> {
        self.write_group()?;
        self.rotate()?;
        Ok(Finish::Done)
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

pub(super) fn described() -> Described {
    let mine = [
        OptionSpec::required(
            "columns",
            OptionType::map(OptionType::Word(KINDS)),
            "The fields to write, each with its kind; any may be null.",
        ),
        OptionSpec::with_default(
            "group_rows",
            OptionType::integer(1, 10_000_000),
            "10000",
            "Rows of a group, which are gathered in memory.",
        ),
        on_error_option(),
    ];
    Described {
        name: "parquet-file",
        aliases: &[],
        kind: Kind::Sink,
        summary: "Writes rows into Parquet files that appear when they are done.",
        options: common("rows").into_iter().chain(mine).collect(),
        outputs: "`dead_letters`: the input's fields and `error`, with `on_error: dead_letters`; else none.",
        example: "id: archive\nclassName: parquet-file\nconfig:\n  folder: out\n  columns: { word: text, n: int }\n  rotate_every: 1h\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let kind = |word| match word {
                "int" => ParquetKind::Int,
                "float" => ParquetKind::Float,
                "bool" => ParquetKind::Bool,
                "text" => ParquetKind::Text,
                _ => ParquetKind::Bytes,
            };
            let columns = options.word_map("columns").into_iter().map(|(name, word)| (name, kind(word.value)));
            let sink = ParquetSink::new(options.path("folder").value, columns).group_rows(options.count("group_rows"));
            let name = super::file::checked_name(options)?;
            let mut sink = sink.name(&name).on_error(on_error(options));
            if let Some(bytes) = options.maybe_size("rotate_size") {
                sink = sink.rotate_bytes(bytes.value);
            }
            if let Some(time) = options.maybe_duration("rotate_every") {
                sink = sink.rotate_every(time.value);
            }
            sink.declare(place)
        }),
    }
}
