//! The spout that reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use squall::{
    AlignedVec, Clock, Context, Counter, Failure, MessageId, Next, Placement, Row, RowStreams, Spout, SpoutError,
    TupleRef, ValueRef,
};

use super::format::{LogError, SegmentReader, segment_path, segments};
use crate::expression::Evaluated;
use crate::giving_up::{GiveUp, emit_letter, giving_up, giving_up_options};
use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Place};
use crate::reliable::Reliable;
use crate::rows::{Cells, emit_as, stream};
use crate::state::distinct_names;

/// Where reading begins in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadFrom {
    /// At the first row that is there.
    #[default]
    Start,
    /// At the row with this offset, or the first one behind it that is there.
    Offset(u64),
}

/// Reads a log that [`LogAppend`](super::LogAppend) wrote: the rows of each partition in order, and to its end, or without an end.
/// Partitions are dealt to the tasks. Where acking is on, rows are emitted again until they are acknowledged, and a restart goes on
/// behind those that were.
#[derive(Debug, Clone)]
pub struct LogRead {
    folder: PathBuf,
    fields: Vec<String>,
    from: ReadFrom,
    offsets: bool,
    follow: Option<Duration>,
    give_up: GiveUp,
}

impl LogRead {
    /// This log, whose rows have these fields: they are compared with what the log says.
    pub fn of<S: Into<String>>(folder: impl Into<PathBuf>, fields: impl IntoIterator<Item = S>) -> LogRead {
        let fields = fields.into_iter().map(Into::into).collect();
        LogRead {
            folder: folder.into(),
            fields,
            from: ReadFrom::Start,
            offsets: false,
            follow: None,
            give_up: GiveUp::default(),
        }
    }

    /// Where reading begins. Default: at the start.
    pub fn from(self, from: ReadFrom) -> LogRead {
        LogRead { from, ..self }
    }

    /// Adds the fields `partition` and `offset` to each row.
    pub fn offsets(self) -> LogRead {
        LogRead { offsets: true, ..self }
    }

    /// Waits for more at the end, and looks at this period. Partitions that appear later are not read.
    pub fn follow(self, look_every: Duration) -> LogRead {
        LogRead { follow: Some(look_every), ..self }
    }

    /// What becomes of rows that fail again and again: as dead letters they have their fields and `error`. Default: they are given
    /// up after ten failures.
    pub fn give_up(self, give_up: GiveUp) -> LogRead {
        LogRead { give_up, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When two fields would have one name.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let more = if self.offsets { &["partition", "offset"][..] } else { &[] };
        let fields: Vec<String> = self.fields.iter().cloned().chain(more.iter().map(|f| (*f).to_owned())).collect();
        let give_up = self.give_up;
        let streams = give_up.streams(vec![stream(fields.clone())], &fields);
        // An `error` of the row's own would stand beside that of a letter.
        distinct_names(&streams.last().expect("the usual one").fields, place.span())?;
        let settings = Arc::new(self);
        let make =
            move || Reading { settings: settings.clone(), partitions: Vec::new(), turn: 0, kit: None, reliable: None };
        Ok(give_up.read(place.spout_with(streams, make, |decl| decl.reliable(true))))
    }
}

struct Reading {
    settings: Arc<LogRead>,
    partitions: Vec<Partition>,
    /// The partition that is read next.
    turn: usize,
    kit: Option<(Clock, Counter)>,
    /// Where acking is on.
    reliable: Option<Reliable<Kept>>,
}

/// A row that is pending: its archive, its partition and its offset.
struct Kept {
    row: AlignedVec<8>,
    partition: i64,
    offset: u64,
}

struct Partition {
    /// Names it in the store of places.
    key: Arc<str>,
    number: i64,
    path: PathBuf,
    /// The open segment, and the offset of its next row.
    open: Option<(SegmentReader, u64)>,
    /// First offset of the segment that is to be opened.
    base: u64,
    /// Rows before this one are passed over.
    start: u64,
}

impl Partition {
    /// Reads a row; `emit` gets its archive and its offset. `false`: there is none now.
    fn read(&mut self, fields: &[String], mut emit: impl FnMut(TupleRef<'_, Row>, i64, u64)) -> Result<bool, LogError> {
        loop {
            let Some((reader, next)) = &mut self.open else {
                let path = segment_path(&self.path, self.base);
                // A segment appears before its header is written.
                let reader = if path.exists() { SegmentReader::open(&path)? } else { None };
                let Some(reader) = reader else { return Ok(false) };
                if reader.fields != fields {
                    return Err(LogError::Fields { path, found: reader.fields, wanted: fields.to_vec() });
                }
                self.open = Some((reader, self.base));
                continue;
            };
            let (at, offset) = (reader.at, *next);
            let row = reader.next()?.map(|bytes| match TupleRef::<Row>::from_bytes(bytes) {
                Ok(row) if offset >= self.start => {
                    emit(row, self.number, offset);
                    Ok(true)
                }
                Ok(_) => Ok(false),
                Err(cause) => Err(cause.to_string()),
            });
            match row {
                Some(Ok(emitted)) => {
                    *next += 1;
                    if emitted {
                        return Ok(true);
                    }
                }
                Some(Err(cause)) => return Err(reader.damaged(at, cause)),
                // The next segment is named by the offset behind this one's last row; an empty one has that name itself.
                None if offset > self.base && segment_path(&self.path, offset).exists() => {
                    self.base = offset;
                    self.open = None;
                }
                None => return Ok(false),
            }
        }
    }
}

/// The partitions of a log, by number.
fn partitions(folder: &Path) -> Result<Vec<(u32, PathBuf)>, LogError> {
    let list = || -> std::io::Result<Vec<(u32, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let number = path.file_name().and_then(|n| n.to_str()?.parse().ok());
            all.extend(number.map(|number| (number, path)));
        }
        all.sort();
        Ok(all)
    };
    list().map_err(LogError::io("list", folder))
}

impl Spout for Reading {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let ReadFrom::Offset(start) = self.settings.from else { return self.open(ctx, 0) };
        self.open(ctx, start)
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let LogRead { fields, offsets, follow, .. } = &*self.settings;
        let (clock, rows) = self.kit.as_ref().expect("prepared");
        if let Some(reliable) = &mut self.reliable {
            if let Some((id, Kept { row, partition, offset })) = reliable.replay.take_due() {
                let row = TupleRef::<Row>::from_bytes(row).map_err(|e| SpoutError::new(e.to_string()))?;
                emit_row(row, *partition, *offset, *offsets, Some(id), out);
                return Ok(Next::Emitted);
            }
            if let Some((id, Kept { row, partition, offset }, error)) = reliable.replay.take_letter() {
                let row = TupleRef::<Row>::from_bytes(row).map_err(|e| SpoutError::new(e.to_string()))?;
                let more = offset_cells(*partition, *offset).into_iter().filter(|_| *offsets);
                emit_letter(out, id, row.get().iter().map(Evaluated::Field).chain(more), error);
                return Ok(Next::Emitted);
            }
            if !reliable.replay.has_room() {
                return reliable.rest(false);
            }
        }
        let reliable = &mut self.reliable;
        let count = self.partitions.len();
        for i in 0..count {
            let at = (self.turn + i) % count;
            let key = self.partitions[at].key.clone();
            let emitted = self.partitions[at].read(fields, |row, partition, offset| {
                let id = reliable.as_mut().map(|reliable| {
                    let mut copy = AlignedVec::with_capacity(row.bytes().len());
                    copy.extend_from_slice(row.bytes());
                    let bytes = copy.len();
                    reliable.replay.push(Kept { row: copy, partition, offset }, bytes, Some((key.clone(), offset + 1)))
                });
                emit_row(row, partition, offset, *offsets, id, out);
            })?;
            if emitted {
                rows.inc();
                self.turn = at;
                return Ok(Next::Emitted);
            }
        }
        match (follow, reliable) {
            (Some(look_every), reliable) => {
                reliable.as_mut().map_or(Ok(()), Reliable::idle)?;
                Ok(Next::WakeAt(clock.now() + *look_every))
            }
            (None, Some(reliable)) => reliable.rest(true),
            (None, None) => Ok(Next::End),
        }
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.reliable.as_mut().map_or(Ok(()), |r| r.ack(id))
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        self.reliable.as_mut().map_or(Ok(()), |r| r.fail(id, &why))
    }

    fn cleanup(&mut self) {
        self.reliable.as_mut().map(Reliable::close_or_log);
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

fn offset_cells(partition: i64, offset: u64) -> [Evaluated<'static>; 2] {
    [partition, offset as i64].map(|n| Evaluated::Scalar(ValueRef::I64(n)))
}

fn emit_row(
    row: TupleRef<'_, Row>,
    partition: i64,
    offset: u64,
    offsets: bool,
    id: Option<MessageId>,
    out: &mut RowStreams,
) {
    if offsets {
        let cells: Cells<'_> = row.get().iter().map(Evaluated::Field).chain(offset_cells(partition, offset)).collect();
        return emit_as(&mut out[0], id, &cells);
    }
    match id {
        None => out[0].emit(row),
        Some(id) => out[0].emit_with_id(id, row),
    }
}

impl Reading {
    fn open(&mut self, ctx: &Context, start: u64) -> Result<(), SpoutError> {
        self.reliable = Reliable::open(ctx, self.settings.give_up)?;
        let mine = |(i, _): &(usize, (u32, PathBuf))| *i as u32 % ctx.task_count() == ctx.task_index();
        for (_, (number, path)) in partitions(&self.settings.folder)?.into_iter().enumerate().filter(mine) {
            let key: Arc<str> = path.display().to_string().into();
            let start = self.reliable.as_ref().map_or(start, |r| start.max(r.store().get(&key)));
            let bases: Vec<u64> = segments(&path)?.into_iter().map(|(base, _)| base).collect();
            let base = bases.iter().rev().find(|base| **base <= start).or(bases.first()).copied().unwrap_or(0);
            self.partitions.push(Partition { key, number: number.into(), path, open: None, base, start });
        }
        self.kit = Some((ctx.clock(), ctx.counter("rows")));
        Ok(())
    }
}

pub(super) fn described() -> Described {
    Described {
        name: "log-read",
        aliases: &[],
        kind: Kind::Spout,
        summary: "Reads the rows of a log that log-append wrote, from an offset.",
        options: vec![
            OptionSpec::required("folder", OptionType::Path, "The log."),
            OptionSpec::required(
                "fields",
                OptionType::list(OptionType::Text),
                "The fields of its rows, in order; they are compared with what the log says.",
            ),
            OptionSpec::with_default(
                "from",
                OptionType::at_least(0),
                "0",
                "Offset of the first row that is read in each partition: its number there.",
            ),
            OptionSpec::with_default("offsets", OptionType::Bool, "false", "Adds the fields `partition` and `offset`."),
            OptionSpec::with_default("follow", OptionType::Bool, "false", "Waits for more at the end."),
            OptionSpec::with_default(
                "look_every",
                OptionType::duration(),
                "100ms",
                "How often a followed log is looked at.",
            ),
        ]
        .into_iter()
        .chain(giving_up_options())
        .collect(),
        outputs: "`default`: `fields`; with `offsets`, then `partition` and `offset`. `dead_letters`: the same and `error`, with \
                  `on_give_up: dead_letters`.",
        example: "id: replay\nclassName: log-read\nconfig:\n  folder: journal\n  fields: [word, n]\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let fields = options.texts("fields").into_iter().map(|f| f.value);
            let mut read = LogRead::of(options.path("folder").value, fields);
            read = read.from(ReadFrom::Offset(options.integer("from").value as u64));
            if options.flag("offsets").value {
                read = read.offsets();
            }
            if options.flag("follow").value {
                read = read.follow(options.duration("look_every").value);
            }
            read.give_up(giving_up(options)).declare(place)
        }),
    }
}
