//! The sink that appends.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use squall::{Anchor, Bolt, BoltError, Context, Counter, Finish, Input, Placement, Row, RowStreams};

use super::format::{LogError, SegmentReader, segment_path, segments, write_header, write_record};
use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Place};

/// Bytes that wait for the end of a batch, at most.
const PENDING_BYTES_MAX: usize = 1 << 20;

/// Appends rows to a log on disk, which [`LogRead`](super::LogRead) reads. Each task has a partition of its own, named by its place
/// among those of its component; a run goes on where the one before stopped.
///
/// A row is acknowledged when it was handed to the system, at the end of its batch; with [`LogAppend::sync`], when it is on the
/// disk. What cannot be written ends the run with an error that names the offset to go on from.
#[derive(Debug, Clone)]
pub struct LogAppend {
    folder: PathBuf,
    segment_bytes: u64,
    sync: bool,
}

impl LogAppend {
    /// Into this folder, in segments of 256 MiB.
    pub fn to(folder: impl Into<PathBuf>) -> LogAppend {
        LogAppend { folder: folder.into(), segment_bytes: 256 << 20, sync: false }
    }

    /// A segment is done when it has so many bytes or more.
    pub fn segment_bytes(self, bytes: u64) -> LogAppend {
        LogAppend { segment_bytes: bytes, ..self }
    }

    /// Rows are on the disk (`fdatasync`) before they are acknowledged.
    pub fn sync(self) -> LogAppend {
        LogAppend { sync: true, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// None today.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let (settings, fields) = (Arc::new(self), Arc::new(place.fields().to_vec()));
        let make = move || Appending {
            settings: settings.clone(),
            fields: fields.clone(),
            partition: PathBuf::new(),
            open: None,
            pending: Vec::new(),
            anchors: Vec::new(),
            rows: None,
        };
        Ok(place.bolt(Vec::new(), None, make))
    }
}

struct Appending {
    settings: Arc<LogAppend>,
    fields: Arc<Vec<String>>,
    partition: PathBuf,
    open: Option<Segment>,
    pending: Vec<u8>,
    anchors: Vec<Anchor>,
    rows: Option<Counter>,
}

struct Segment {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Offset of the next row.
    next: u64,
}

impl Segment {
    /// Makes a segment whose first row has this offset.
    fn make(partition: &Path, next: u64, fields: &[String]) -> Result<Segment, LogError> {
        let path = segment_path(partition, next);
        let mut header = Vec::new();
        write_header(fields, &mut header);
        let made = File::create(&path).and_then(|mut file| file.write_all(&header).map(|()| file));
        let file = made.map_err(LogError::io("make", &path))?;
        Ok(Segment { path, file, bytes: header.len() as u64, next })
    }

    /// Opens the last segment behind its last whole record.
    fn resume(path: PathBuf, base: u64, fields: &[String]) -> Result<Option<Segment>, LogError> {
        let Some(mut reader) = SegmentReader::open(&path)? else { return Ok(None) };
        if reader.fields != fields {
            let (found, wanted) = (reader.fields, fields.to_vec());
            return Err(LogError::Fields { path, found, wanted });
        }
        let mut next = base;
        while reader.next()?.is_some() {
            next += 1;
        }
        let opened = File::options().append(true).open(&path).and_then(|file| file.set_len(reader.at).map(|()| file));
        let file = opened.map_err(LogError::io("open", &path))?;
        Ok(Some(Segment { path, file, bytes: reader.at, next }))
    }
}

impl Appending {
    fn flush(&mut self) -> Result<(), BoltError> {
        let count = self.anchors.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let open = self.open.as_mut().expect("opened before rows came");
        let mut written = open.file.write_all(&self.pending);
        if self.settings.sync {
            written = written.and_then(|()| open.file.sync_data());
        }
        if let Err(cause) = written {
            let path = open.path.display();
            // What is torn would stay in the middle of the log if a later write succeeded.
            drop(open.file.set_len(open.bytes));
            return Err(BoltError::fatal(format!(
                "cannot append to {path}: {cause}; the log is whole up to offset {}. Free the disk and run again: it goes on there",
                open.next
            )));
        }
        open.bytes += self.pending.len() as u64;
        open.next += count;
        self.pending.clear();
        self.rows.as_ref().expect("prepared").add(count);
        self.anchors.drain(..).for_each(Anchor::ack);
        if open.bytes >= self.settings.segment_bytes {
            let next = open.next;
            open.file.sync_all().map_err(LogError::io("sync", &open.path)).map_err(BoltError::fatal_from)?;
            self.open = Some(Segment::make(&self.partition, next, &self.fields).map_err(BoltError::fatal_from)?);
        }
        Ok(())
    }
}

impl Bolt for Appending {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.rows = Some(ctx.counter("rows"));
        self.partition = self.settings.folder.join(ctx.task_index().to_string());
        let open = || -> Result<Segment, LogError> {
            fs::create_dir_all(&self.partition).map_err(LogError::io("make", &self.partition))?;
            let last = segments(&self.partition)?.pop();
            let resumed = match &last {
                Some((base, path)) => Segment::resume(path.clone(), *base, &self.fields)?,
                None => None,
            };
            // A segment without a whole header has no rows: it is made anew.
            resumed.map_or_else(|| Segment::make(&self.partition, last.map_or(0, |(base, _)| base), &self.fields), Ok)
        };
        self.open = Some(open().map_err(BoltError::fatal_from)?);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        write_record(input.view().bytes(), &mut self.pending);
        self.anchors.push(input.keep().1);
        if self.pending.len() >= PENDING_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    fn batch_end(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        self.flush()
    }

    fn finish(&mut self, _: &mut RowStreams) -> Result<Finish, BoltError> {
        self.flush()?;
        if let Some(open) = &self.open {
            open.file.sync_all().map_err(LogError::io("sync", &open.path)).map_err(BoltError::fatal_from)?;
        }
        Ok(Finish::Done)
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

pub(super) fn described() -> Described {
    Described {
        name: "log-append",
        aliases: &[],
        kind: Kind::Sink,
        summary: "Appends rows to a log on disk, which log-read replays by offset.",
        options: vec![
            OptionSpec::required(
                "folder",
                OptionType::Path,
                "The log; made if it is not there, and gone on with if it is.",
            ),
            OptionSpec::with_default(
                "segment_size",
                OptionType::size(4096, 1 << 40),
                "256 MiB",
                "A file of the log is done when it is so large.",
            ),
            OptionSpec::with_default(
                "sync",
                OptionType::Bool,
                "false",
                "Rows are on the disk before they are acknowledged.",
            ),
        ],
        outputs: "None.",
        example: "id: journal\nclassName: log-append\nconfig:\n  folder: journal\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let append = LogAppend::to(options.path("folder").value).segment_bytes(options.size("segment_size").value);
            if options.flag("sync").value { append.sync().declare(place) } else { append.declare(place) }
        }),
    }
}
