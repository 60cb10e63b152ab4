//! The spout around [`LineReader`].

use std::marker::PhantomData;

use squall::{
    Context, Counter, Failure, Level, Logger, MessageId, Next, Outputs, Placement, Spout, SpoutError, Stream, Tuple,
};

use super::ranges::Share;
use super::reader::{LineReader, LinesOptions, ReadCounts};
use super::walk::LinesInput;
use crate::giving_up::GiveUp;
use crate::reliable::Reliable;

/// What a tuple of a line has in its batch beside the text: tuple header, sections, the archived string
/// and padding, with some to spare.
const TUPLE_OVERHEAD_BYTES: usize = 1024;

/// Lines read between two updates of the counters that others see.
const LINES_PER_PUBLISH: u64 = 64;

/// One line of text, without its newline.
#[derive(Debug, Clone, PartialEq, Eq, Tuple)]
pub struct Line {
    /// The text; may end with `\r`.
    pub text: String,
}

/// A line that was given up, and why it failed the last time.
#[derive(Debug, Clone, PartialEq, Eq, Tuple)]
pub struct DeadLine {
    /// The text.
    pub text: String,
    /// Such as `failed by count, the last of 10 failures`.
    pub error: String,
}

/// What [`Lines`] emits: a stream of lines, or [`LinesAndLetters`].
pub trait LinesOut: Outputs {
    /// The stream of lines.
    fn lines(&mut self) -> &mut Stream<Line>;

    /// That of lines which were given up, if there is one.
    fn letters(&mut self) -> Option<&mut Stream<DeadLine>>;
}

impl LinesOut for Stream<Line> {
    fn lines(&mut self) -> &mut Stream<Line> {
        self
    }

    fn letters(&mut self) -> Option<&mut Stream<DeadLine>> {
        None
    }
}

/// The streams of [`Lines::dead_letters`].
#[derive(Outputs)]
pub struct LinesAndLetters {
    /// The lines.
    pub default: Stream<Line>,
    /// Those that were given up.
    pub dead_letters: Stream<DeadLine>,
}

impl LinesOut for LinesAndLetters {
    fn lines(&mut self) -> &mut Stream<Line> {
        &mut self.default
    }

    fn letters(&mut self) -> Option<&mut Stream<DeadLine>> {
        Some(&mut self.dead_letters)
    }
}

/// Emits the lines of files, folders and lists of them, then ends.
///
/// All tasks read the same inputs and share them: each file belongs to one task, a large one in ranges
/// to all of them, so that every line is emitted exactly once. Lines of one range keep their order.
/// See [`LinesOptions`] for what can be set; a topology whose `max_tuple_bytes` is smaller than
/// `line_bytes_max` has its way.
///
/// Where acking is on it is reliable: each line has an id and is emitted again until it is acknowledged (behind others then), and
/// what is acknowledged is noted, so that after a restart (with the topology's `state`, also of the whole run) only the rest is
/// read. A line that fails ten times is given up: the run fails, unless it goes to [`Lines::dead_letters`]. [`Lines::unacked`]
/// leaves all of that out.
///
/// Reading a file may block, so it runs on a side thread unless told otherwise. It counts `lines`,
/// `bytes`, `files`, `skipped_binary`, `skipped_special` and `invalid_utf8` (see [`ReadCounts`]) and
/// logs the first text of each task that is not UTF-8.
///
/// ```
/// # extern crate squall_api as squall;
/// use squall::prelude::*;
/// use squall_components::Lines;
///
/// let topology = Topology::new("show");
/// let lines = topology.spout("lines", || Lines::over(["Cargo.toml"])).tasks(2).streams();
/// ```
#[derive(Debug)]
pub struct Lines<O = Stream<Line>> {
    options: LinesOptions,
    acked: bool,
    give_up: GiveUp,
    open: Option<Open>,
    out: PhantomData<fn(O)>,
}

struct Open {
    reader: LineReader,
    reliable: Option<Reliable<Box<str>>>,
    exhausted: bool,
    logger: Logger,
    counters: Counters,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reader.fmt(f)
    }
}

/// The reader's counts as counters of the task.
struct Counters {
    published: ReadCounts,
    lines: Counter,
    bytes: Counter,
    files: Counter,
    skipped_binary: Counter,
    skipped_special: Counter,
    invalid_utf8: Counter,
}

impl Lines {
    /// Lines as the options say.
    pub fn new(options: LinesOptions) -> Lines {
        Lines { options, acked: true, give_up: GiveUp::default(), open: None, out: PhantomData }
    }

    /// Without ids, whatever the topology says: each line is emitted once.
    pub fn unacked(self) -> Lines {
        Lines { acked: false, ..self }
    }

    /// A line that has failed so often, lost workers not counted, is given up; 0: never. Default 10.
    pub fn give_up_after(self, failures: u32) -> Lines {
        Lines { give_up: GiveUp::after(failures), ..self }
    }

    /// What is given up goes to a second stream, `dead_letters`, which somebody must read, and is done with when it is acknowledged
    /// there. So no run fails because of it.
    ///
    /// ```
    /// # extern crate squall_api as squall;
    /// use squall::prelude::*;
    /// use squall_components::{DeadLine, Line, Lines, Null};
    ///
    /// let topology = Topology::new("show");
    /// let lines = topology.spout("lines", || Lines::over(["Cargo.toml"]).dead_letters()).streams();
    /// topology.bolt("work", Null::<Line>::default).on(lines.default.shuffle());
    /// topology.bolt("dead", Null::<DeadLine>::default).on(lines.dead_letters.global());
    /// ```
    pub fn dead_letters(self) -> Lines<LinesAndLetters> {
        let Lines { options, acked, give_up, .. } = self;
        Lines { options, acked, give_up: give_up.to_dead_letters(), open: None, out: PhantomData }
    }

    /// Lines of files, folders, or `@FILE` for a file that lists them, with default options.
    pub fn over<I: Into<LinesInput>>(inputs: impl IntoIterator<Item = I>) -> Lines {
        Lines::new(LinesOptions::over(inputs))
    }
}

impl Counters {
    fn new(ctx: &Context) -> Counters {
        Counters {
            published: ReadCounts::default(),
            lines: ctx.counter("lines"),
            bytes: ctx.counter("bytes"),
            files: ctx.counter("files"),
            skipped_binary: ctx.counter("skipped_binary"),
            skipped_special: ctx.counter("skipped_special"),
            invalid_utf8: ctx.counter("invalid_utf8"),
        }
    }

    /// Whether the task's counters should follow the reader's counts now: not for every line, but at once
    /// when something is to be reported.
    fn is_due(&self, counts: ReadCounts) -> bool {
        counts.lines - self.published.lines >= LINES_PER_PUBLISH || counts.invalid_utf8 > self.published.invalid_utf8
    }

    /// Publishes what was read since the last call.
    fn publish(&mut self, counts: ReadCounts) {
        let last = std::mem::replace(&mut self.published, counts);
        self.lines.add(counts.lines - last.lines);
        self.bytes.add(counts.bytes - last.bytes);
        self.files.add(counts.files - last.files);
        self.skipped_binary.add(counts.skipped_binary - last.skipped_binary);
        self.skipped_special.add(counts.skipped_special - last.skipped_special);
        self.invalid_utf8.add(counts.invalid_utf8 - last.invalid_utf8);
    }
}

impl Open {
    fn next_acked(&mut self, out: &mut impl LinesOut) -> Result<Next, SpoutError> {
        let reliable = self.reliable.as_mut().expect("asked before");
        if let Some((id, text)) = reliable.replay.take_due() {
            out.lines().emit_with_id(id, LineRef { text });
            return Ok(Next::Emitted);
        }
        if let Some((id, text, error)) = reliable.replay.take_letter() {
            let letters = out.letters().expect("only with the stream there are letters");
            letters.emit_with_id(id, DeadLineRef { text, error });
            return Ok(Next::Emitted);
        }
        if self.exhausted || !reliable.replay.has_room() {
            return reliable.rest(self.exhausted);
        }
        let Some(line) = self.reader.next_line()? else {
            self.exhausted = true;
            self.publish();
            return self.reliable.as_mut().expect("asked before").rest(true);
        };
        let (text, last) = (Box::<str>::from(line.text), line.last);
        // The pieces of a long line are done with when all of them are.
        let place = if last { self.reader.place() } else { None };
        let bytes = text.len();
        let id = reliable.replay.push(text, bytes, place);
        out.lines().emit_with_id(id, LineRef { text: reliable.replay.payload(id) });
        if self.counters.is_due(self.reader.counts()) {
            self.publish();
        }
        Ok(Next::Emitted)
    }

    fn publish(&mut self) {
        let clean = self.counters.published.invalid_utf8 == 0;
        self.counters.publish(self.reader.counts());
        if clean && self.counters.published.invalid_utf8 > 0 {
            let path = self.reader.path().map(|path| path.display().to_string());
            self.logger.log(
                Level::Warn,
                format_args!(
                    "{} is not UTF-8: what cannot be decoded is read as U+FFFD and counted as \
                     invalid_utf8; further files are not named",
                    path.unwrap_or_default()
                ),
            );
        }
    }
}

impl<O: LinesOut> Spout for Lines<O> {
    type Out = O;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let tuple_bytes_max = ctx.plan().spec.config.max_tuple_bytes as usize;
        let mut options = self.options.clone();
        options.line_bytes_max = options.line_bytes_max.min(tuple_bytes_max.saturating_sub(TUPLE_OVERHEAD_BYTES));
        let share = Share { index: ctx.task_index(), count: ctx.task_count() };
        let mut reader = LineReader::new(&options, share)?;
        let reliable = if self.acked { Reliable::open(ctx, self.give_up)? } else { None };
        if let Some(reliable) = &reliable {
            reader.resume(reliable.store().places().clone());
        }
        self.open =
            Some(Open { reader, reliable, exhausted: false, logger: ctx.logger(), counters: Counters::new(ctx) });
        Ok(())
    }

    fn next(&mut self, out: &mut O) -> Result<Next, SpoutError> {
        let open = self.open.as_mut().expect("`prepare` comes before `next`");
        if open.reliable.is_some() {
            return open.next_acked(out);
        }
        // One tuple a call: the spout's turn reads the clock so often that origin times stay exact.
        match open.reader.next_line()? {
            Some(line) => out.lines().emit(LineRef { text: line.text }),
            None => {
                open.publish();
                return Ok(Next::End);
            }
        }
        if open.counters.is_due(open.reader.counts()) {
            open.publish();
        }
        Ok(Next::Emitted)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        let reliable = self.open.as_mut().and_then(|open| open.reliable.as_mut());
        reliable.map_or(Ok(()), |r| r.ack(id))
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        let reliable = self.open.as_mut().and_then(|open| open.reliable.as_mut());
        reliable.map_or(Ok(()), |r| r.fail(id, &why))
    }

    fn deactivate(&mut self) {
        if let Some(open) = &mut self.open {
            open.publish();
        }
    }

    fn cleanup(&mut self) {
        self.open.as_mut().and_then(|open| open.reliable.as_mut()).map(Reliable::close_or_log);
    }

    fn reliable() -> bool {
        true
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}
