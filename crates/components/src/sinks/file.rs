//! Rows into files that appear whole: written under a name of their own, and renamed when they are done.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use squall::{ArchivedRow, Bolt, BoltError, Clock, Context, Counter, Finish, Input, Placement, Row, RowStreams};

use super::Torn;
use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Options, Place};
use crate::transform::{FormatTo, Writer, delimiter, delimiter_option};

/// Ending of the name of a file that is being written.
const PART: &str = ".part";

/// Writes rows into files of a folder, a line each.
///
/// Files are named `NAME-TASK-NUMBER.EXTENSION`, with the task's place among those of its component and a number that goes on
/// from the files that are there. A file has `.part` behind its name until it is done: when it is as large or as old as it may
/// be, and at the end of the run; then its bytes are on the disk (`fsync`) before it is renamed. A `.part` that a run left behind
/// is kept, with what was written to it. A row is acknowledged when it is handed to the system, which is when its batch ends; where
/// that fails, all rows of the batch do.
///
/// What cannot be written (a full disk) ends the run with an error that names the file and how many bytes of it are whole lines.
#[derive(Debug, Clone)]
pub struct FileSink {
    folder: PathBuf,
    name: String,
    extension: String,
    format: FormatTo,
    header: bool,
    rotate_bytes: Option<u64>,
    rotate_every: Option<Duration>,
}

impl FileSink {
    /// JSON objects, into `rows-0-0.jsonl` …
    pub fn json(folder: impl Into<PathBuf>) -> FileSink {
        FileSink::new(folder, FormatTo::Json, "jsonl")
    }

    /// CSV records, with a line of names first, into `rows-0-0.csv` …
    pub fn csv(folder: impl Into<PathBuf>, delimiter: u8) -> FileSink {
        FileSink { header: true, ..FileSink::new(folder, FormatTo::Csv { delimiter }, "csv") }
    }

    /// Texts by a template (see [`FormatTo::Template`]), into `rows-0-0.txt` …
    pub fn text(folder: impl Into<PathBuf>, template: impl Into<Given<String>>) -> FileSink {
        FileSink::new(folder, FormatTo::Template(template.into()), "txt")
    }

    fn new(folder: impl Into<PathBuf>, format: FormatTo, extension: &str) -> FileSink {
        FileSink {
            folder: folder.into(),
            name: "rows".into(),
            extension: extension.into(),
            format,
            header: false,
            rotate_bytes: None,
            rotate_every: None,
        }
    }

    /// What names begin with. Default `rows`.
    pub fn name(self, name: &str) -> FileSink {
        FileSink { name: name.into(), ..self }
    }

    /// Whether CSV files begin with a line of names. Default: yes.
    pub fn header(self, header: bool) -> FileSink {
        FileSink { header, ..self }
    }

    /// A file is done when it has so many bytes or more.
    pub fn rotate_bytes(self, bytes: u64) -> FileSink {
        FileSink { rotate_bytes: Some(bytes), ..self }
    }

    /// A file is done when its first row was written so long ago.
    pub fn rotate_every(self, time: Duration) -> FileSink {
        FileSink { rotate_every: Some(time), ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When a template is none, or names fields that the input has not.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let writer = self.format.resolve(&place)?;
        let header = (self.header && matches!(self.format, FormatTo::Csv { .. })).then(|| place.fields().to_vec());
        let tick = self.rotate_every.map(|time| (time / 4).clamp(Duration::from_millis(1), Duration::from_secs(1)));
        let settings = Arc::new(self);
        let make = move || Writing {
            settings: settings.clone(),
            writer: writer.clone(),
            header: header.clone(),
            stem: String::new(),
            number: 0,
            open: None,
            line: Vec::new(),
            kit: None,
            torn: Torn::default(),
            rows: 0,
        };
        Ok(place.bolt(Vec::new(), tick, make))
    }
}

/// The name of a file before it is done.
pub(super) fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PART);
    name.into()
}

/// The name of a file when it is done.
pub(super) fn file_name(stem: &str, number: u64, extension: &str) -> String {
    format!("{stem}-{number}.{extension}")
}

struct Writing {
    settings: Arc<FileSink>,
    writer: Writer,
    header: Option<Vec<String>>,
    /// `NAME-TASK`.
    stem: String,
    /// The next file's.
    number: u64,
    open: Option<OpenFile>,
    line: Vec<u8>,
    kit: Option<(Clock, Counter, Counter)>,
    torn: Torn,
    /// Of this batch.
    rows: u64,
}

struct OpenFile {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    /// Bytes that the system has taken, to the end of a line.
    whole: u64,
    began_ns: u64,
}

impl OpenFile {
    fn failed(&self, cause: &io::Error) -> BoltError {
        BoltError::fatal(format!(
            "cannot write {}: {cause}; its first {} bytes are whole lines. Free the disk or choose another folder, and go on \
             behind them",
            part(&self.path).display(),
            self.whole
        ))
    }

    fn flush(&mut self) -> Result<(), BoltError> {
        if let Err(cause) = self.file.flush() {
            return Err(self.failed(&cause));
        }
        self.whole = self.bytes;
        Ok(())
    }

    /// Puts the file on the disk under its name.
    fn commit(mut self) -> Result<(), BoltError> {
        self.flush()?;
        let done = self.file.get_ref().sync_all().and_then(|()| {
            fs::rename(part(&self.path), &self.path)?;
            // The name is on the disk when its folder is.
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        });
        done.map_err(|cause| self.failed(&cause))
    }
}

impl Writing {
    fn cannot(&self, what: &str, cause: &io::Error) -> BoltError {
        let folder = self.settings.folder.display();
        BoltError::fatal(format!("cannot {what} in {folder}: {cause}; check that the folder exists and may be written"))
    }

    /// The file being written; a new one if there is none.
    fn open(&mut self) -> Result<&mut OpenFile, BoltError> {
        if self.open.is_none() {
            let path = self.settings.folder.join(file_name(&self.stem, self.number, &self.settings.extension));
            let file = File::options().write(true).create_new(true).open(part(&path));
            let file = file.map_err(|cause| self.cannot("make a file", &cause))?;
            self.number += 1;
            let began_ns = self.kit.as_ref().expect("prepared").0.now().as_nanos();
            let mut open = OpenFile { path, file: BufWriter::new(file), bytes: 0, whole: 0, began_ns };
            if let Some(fields) = &self.header {
                self.line.clear();
                self.writer.write_names(fields, &mut self.line);
                self.line.push(b'\n');
                open.bytes += self.line.len() as u64;
                open.file.write_all(&self.line).map_err(|cause| open.failed(&cause))?;
            }
            self.open = Some(open);
        }
        Ok(self.open.as_mut().expect("made if it was not there"))
    }

    fn write(&mut self, row: &ArchivedRow) -> Result<(), BoltError> {
        self.open()?;
        self.line.clear();
        self.writer.write(row, &mut self.line);
        self.line.push(b'\n');
        let open = self.open.as_mut().expect("opened");
        open.file.write_all(&self.line).map_err(|cause| open.failed(&cause))?;
        open.bytes += self.line.len() as u64;
        self.rows += 1;
        if self.settings.rotate_bytes.is_some_and(|most| open.bytes >= most) { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> Result<(), BoltError> {
        if let Some(open) = self.open.take() {
            open.commit()?;
            self.kit.as_ref().expect("prepared").2.inc();
        }
        Ok(())
    }
}

/// The number behind the highest one among a folder's files `STEM-NUMBER.…`, done or not.
pub(super) fn next_number(folder: &Path, stem: &str) -> io::Result<u64> {
    let mut next = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|n| n.strip_prefix(stem)?.strip_prefix('-')?.split('.').next()?.parse().ok());
        next = next.max(number.map_or(0, |n: u64| n + 1));
    }
    Ok(next)
}

impl Bolt for Writing {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.kit = Some((ctx.clock(), ctx.counter("rows"), ctx.counter("files")));
        self.stem = format!("{}-{}", self.settings.name, ctx.task_index());
        let folder = &self.settings.folder;
        let found = fs::create_dir_all(folder).and_then(|()| next_number(folder, &self.stem));
        self.number = found.map_err(|cause| self.cannot("look for files", &cause))?;
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        let mut torn = std::mem::take(&mut self.torn);
        torn.write(|| self.write(input.get()));
        self.torn = torn;
        Ok(())
    }

    fn batch_end(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        self.torn.end()?;
        self.open.as_mut().map_or(Ok(()), OpenFile::flush)?;
        self.kit.as_ref().expect("prepared").1.add(std::mem::take(&mut self.rows));
        Ok(())
    }

    fn tick(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        let now_ns = self.kit.as_ref().expect("prepared").0.now().as_nanos();
        let age = self.open.as_ref().map(|open| Duration::from_nanos(now_ns.saturating_sub(open.began_ns)));
        if age.zip(self.settings.rotate_every).is_some_and(|(age, most)| age >= most) {
            self.rotate()?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut RowStreams) -> Result<Finish, BoltError> {
        self.rotate()?;
        Ok(Finish::Done)
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

pub(super) fn common(name: &'static str) -> Vec<OptionSpec> {
    vec![
        OptionSpec::required(
            "folder",
            OptionType::Path,
            "Where files are made; the folder is made if it is not there.",
        ),
        OptionSpec::with_default("name", OptionType::Text, name, "What names begin with: NAME-TASK-NUMBER.EXTENSION."),
        OptionSpec::optional(
            "rotate_size",
            OptionType::size(1, 1 << 50),
            "A file is done when it is so large. Left out: however large.",
        ),
        OptionSpec::optional(
            "rotate_every",
            OptionType::duration(),
            "A file is done when its first row is so old. Left out: however old.",
        ),
    ]
}

/// What names begin with, if it can.
pub(super) fn checked_name(options: &Options) -> Result<Given<String>, Vec<ConfigError>> {
    let name = options.text("name");
    if name.is_empty() || name.contains('/') {
        let what = format!("`name` is `{}`, which cannot begin a file's name", name.value);
        return Err(vec![ConfigError::new(name.at, what, "write a name without a slash; folders go to `folder`")]);
    }
    Ok(name)
}

fn declare(options: &Options, mut sink: FileSink, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
    let name = checked_name(options)?;
    if let Some(bytes) = options.maybe_size("rotate_size") {
        sink = sink.rotate_bytes(bytes.value);
    }
    if let Some(time) = options.maybe_duration("rotate_every") {
        sink = sink.rotate_every(time.value);
    }
    sink.name(&name).declare(place)
}

pub(super) fn described() -> Vec<Described> {
    let with = |mine: Vec<OptionSpec>| common("rows").into_iter().chain(mine).collect::<Vec<_>>();
    let text = Described {
        name: "text-file",
        aliases: &["org.apache.storm.hdfs.bolt.HdfsBolt"],
        kind: Kind::Sink,
        summary: "Writes rows as lines of text into files that appear when they are done.",
        options: with(vec![OptionSpec::required(
            "template",
            OptionType::Text,
            "The line, with {name} for fields; {{ and }} are braces.",
        )]),
        outputs: "None.",
        example: "id: report\nclassName: text-file\nconfig:\n  folder: out\n  template: \"{word} {n}\"\n  rotate_size: 64 MiB\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let folder = options.path("folder").value;
            declare(options, FileSink::text(folder, options.text("template")), place)
        }),
    };
    let json = Described {
        name: "json-file",
        aliases: &[],
        kind: Kind::Sink,
        summary: "Writes rows as JSON objects, one a line, into files that appear when they are done.",
        options: with(Vec::new()),
        outputs: "None.",
        example: "id: archive\nclassName: json-file\nconfig:\n  folder: out\n  rotate_every: 1h\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| declare(options, FileSink::json(options.path("folder").value), place)),
    };
    let csv = Described {
        name: "csv-file",
        aliases: &[],
        kind: Kind::Sink,
        summary: "Writes rows as CSV records into files that appear when they are done.",
        options: with(vec![
            delimiter_option(),
            OptionSpec::with_default("header", OptionType::Bool, "true", "Each file begins with a line of names."),
        ]),
        outputs: "None.",
        example: "id: table\nclassName: csv-file\nconfig:\n  folder: out\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let delimiter = delimiter(options).map_err(|e| vec![e])?;
            let sink = FileSink::csv(options.path("folder").value, delimiter).header(options.flag("header").value);
            declare(options, sink, place)
        }),
    };
    vec![text, json, csv]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_the_file_and_how_far_it_is_whole() {
        let Ok(full) = File::options().write(true).open("/dev/full") else { return };
        let path = PathBuf::from("out/rows-0-0.jsonl");
        let mut open = OpenFile { path, file: BufWriter::new(full), bytes: 7, whole: 7, began_ns: 0 };
        open.file.write_all(b"a line\n").unwrap();
        open.bytes += 7;
        let error = open.flush().unwrap_err().cause().to_string();
        assert!(error.starts_with("cannot write out/rows-0-0.jsonl.part: No space left on device"), "{error}");
        assert!(error.contains("its first 7 bytes are whole lines. Free the disk"), "{error}");
        // Not written once more when it is dropped.
        let _ = open.file.into_parts();
    }
}
