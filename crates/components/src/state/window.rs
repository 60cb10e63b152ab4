//! Windows of rows by key, by count or arrival time, around any aggregate.
//!
//! Time is the topology's clock when the row is executed. Memory is bounded: open windows × keys, each with one accumulator.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use squall::{Bolt, BoltError, Clock, Context, Finish, Input, Row, RowStreams, Value};

use super::aggregate::{Accumulator, Aggregate, Measure};
use super::key::{KeyMap, key_values};
use super::keyed::{ROWS_PER_CALL, ROWS_PER_TICK, distinct_names, key_fields, too_many_keys};
use crate::expression::Evaluated;
use crate::registry::{ConfigError, Declared, Given, Place};
use crate::rows::{BadInput, Cells, OnError, emit, stream};

/// Which rows belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Those of each `size` of time; one begins every `slide`, which divides `size` (for tumbling windows: equals it).
    Time {
        /// Length.
        size: Duration,
        /// Time between the beginnings of two.
        slide: Duration,
    },
    /// Each `size` rows of a key; one begins every `slide` rows, at most `size`. One that is not full at the end of the run is
    /// emitted as it is, but for those that only repeat the end of another.
    Count {
        /// Rows.
        size: u64,
        /// Rows between the beginnings of two.
        slide: u64,
    },
    /// Rows of a key with less than `gap` between two; a window ends at the latest after `longest`.
    Session {
        /// The pause that ends it.
        gap: Duration,
        /// Its length, at most.
        longest: Duration,
    },
}

/// Windows open at a time for one key, at most: `size / slide`.
pub(crate) const OVERLAP_MAX: u64 = 1000;

/// An aggregate by key and window: emits the key's fields, `start` and `end` (milliseconds since 1970; for windows by count, the
/// number of the key's first row in it and of the row behind its last, from 0), and the aggregate's.
///
/// Windows by time have the same bounds for all keys. A row that is aggregated is acknowledged. Subscribe it by a fields grouping
/// on the same fields.
#[derive(Debug, Clone)]
pub struct Window {
    windows: Windows,
    aggregate: Aggregate,
    by: Vec<Given<String>>,
    keys_max: usize,
    rename: Option<Given<String>>,
    on_error: OnError,
}

impl Window {
    /// Of all rows of a task.
    pub fn new(windows: Windows, aggregate: Aggregate) -> Window {
        Window { windows, aggregate, by: Vec::new(), keys_max: 1_000_000, rename: None, on_error: OnError::Fail }
    }

    /// By the values of these fields.
    pub fn by<S: Into<Given<String>>>(self, fields: impl IntoIterator<Item = S>) -> Window {
        Window { by: fields.into_iter().map(Into::into).collect(), ..self }
    }

    /// Keys in one window of a task, at most; one more ends the run. Default 1 million.
    pub fn keys_max(self, keys_max: usize) -> Window {
        Window { keys_max, ..self }
    }

    /// Name of the aggregate's field. Default: the aggregate's name.
    pub fn rename(self, name: impl Into<Given<String>>) -> Window {
        Window { rename: Some(name.into()), ..self }
    }

    /// What becomes of rows whose field is of a wrong kind. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> Window {
        Window { on_error, ..self }
    }

    fn check(&self, place: &Place<'_>) -> Result<(), ConfigError> {
        let wrong = |what: &str, remedy: &str| Err(ConfigError::new(place.span(), what, remedy));
        match self.windows {
            Windows::Time { size, slide } => {
                let (size, slide) = (size.as_nanos(), slide.as_nanos());
                if slide == 0 || size % slide != 0 {
                    return wrong("`slide` does not divide `size`", "choose a size that is a multiple of the slide");
                }
                if size / slide > u128::from(OVERLAP_MAX) {
                    return wrong("more than 1000 windows would be open at a time", "make `slide` longer");
                }
            }
            Windows::Count { size, slide } => {
                if slide == 0 || slide > size {
                    return wrong("`slide` is not between 1 and `size`", "choose a slide of at most the size");
                }
                if size / slide > OVERLAP_MAX {
                    return wrong("more than 1000 windows would be open at a time", "make `slide` larger");
                }
            }
            Windows::Session { gap, longest } => {
                if gap.is_zero() || longest < gap {
                    return wrong("a session's longest time is shorter than its gap", "make `longest` at least `gap`");
                }
            }
        }
        Ok(())
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// Windows that cannot be; fields that the input has not; names that occur twice in the output.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let mut errors: Vec<ConfigError> = self.check(&place).err().into_iter().collect();
        let key = key_fields(&place, &self.by, &mut errors);
        let measure = self.aggregate.resolve(&place, self.rename).map_err(|e| errors.push(e)).ok();
        let Some(measure) = measure.filter(|_| errors.is_empty()) else { return Err(errors) };
        let by = self.by.iter().map(|f| f.value.clone());
        let fields: Vec<String> =
            by.chain(["start".into(), "end".into()]).chain(measure.results.iter().cloned()).collect();
        distinct_names(&fields, place.span())?;
        let streams = self.on_error.streams(vec![stream(fields)], place.fields());
        let tick = match self.windows {
            Windows::Time { slide, .. } => Some(slide),
            Windows::Session { gap, .. } => Some(gap),
            Windows::Count { .. } => None,
        };
        // Windows are seen to be over at most a quarter of their time late.
        let tick = tick.map(|time| (time / 4).clamp(Duration::from_millis(1), Duration::from_millis(250)));
        let (windows, keys_max, on_error) = (self.windows, self.keys_max, self.on_error);
        let make = move || Windowing {
            open: Open::new(windows, &key),
            key: key.clone(),
            measure: measure.clone(),
            keys_max,
            closed: VecDeque::new(),
            bad: BadInput::new(on_error),
            clock: None,
            unix_ns: 0,
        };
        Ok(place.bolt(streams, tick, make))
    }
}

enum Open {
    /// By beginning, the earliest first. Every key of a window is in its map.
    Time {
        size: u64,
        slide: u64,
        windows: VecDeque<(u64, KeyMap<Accumulator>)>,
    },
    /// By key: rows seen, and open windows by their first row.
    Count {
        size: u64,
        slide: u64,
        keys: KeyMap<Counted>,
    },
    Session {
        gap: u64,
        longest: u64,
        keys: KeyMap<Session>,
    },
}

#[derive(Default)]
struct Counted {
    rows: u64,
    windows: VecDeque<(u64, Accumulator)>,
}

struct Session {
    start: u64,
    last: u64,
    of: Accumulator,
}

impl Open {
    fn new(windows: Windows, key: &[u16]) -> Open {
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        match windows {
            Windows::Time { size, slide } => Open::Time { size: ns(size), slide: ns(slide), windows: VecDeque::new() },
            Windows::Count { size, slide } => Open::Count { size, slide, keys: KeyMap::new(key) },
            Windows::Session { gap, longest } => {
                Open::Session { gap: ns(gap), longest: ns(longest), keys: KeyMap::new(key) }
            }
        }
    }
}

/// A window that is over and waits to be emitted.
struct Closed {
    key: Vec<u8>,
    start: u64,
    end: u64,
    of: Accumulator,
}

struct Windowing {
    key: Vec<u16>,
    open: Open,
    measure: Measure,
    keys_max: usize,
    closed: VecDeque<Closed>,
    bad: BadInput,
    clock: Option<Clock>,
    /// Unix time of the clock's zero.
    unix_ns: u64,
}

impl Windowing {
    fn now_ns(&self) -> u64 {
        self.clock.as_ref().expect("prepared").now().as_nanos()
    }

    /// Takes the windows that are over at `now_ns` out of the open ones; at the end of the run, all.
    fn close(&mut self, now_ns: u64, all: bool) {
        let closed = &mut self.closed;
        match &mut self.open {
            Open::Time { size, windows, .. } => {
                while let Some((start, keys)) = windows.front_mut()
                    && (all || now_ns >= *start + *size)
                {
                    let (start, end) = (*start, *start + *size);
                    closed.extend(keys.drain().into_iter().map(|(key, of)| Closed { key, start, end, of }));
                    windows.pop_front();
                }
            }
            Open::Count { size, slide, keys } if all => {
                for (key, mut counted) in keys.drain() {
                    // The first one holds all rows that the later ones hold, perhaps none that the last full one did not.
                    let Some((start, of)) = counted.windows.pop_front() else { continue };
                    if start == 0 || start - *slide + *size < counted.rows {
                        closed.push_back(Closed { key, start, end: counted.rows, of });
                    }
                }
            }
            Open::Count { .. } => {}
            Open::Session { gap, keys, .. } => {
                let over = keys.take(|_, s| all || now_ns.saturating_sub(s.last) >= *gap);
                closed.extend(over.into_iter().map(|(key, s)| Closed { key, start: s.start, end: s.last, of: s.of }));
            }
        }
    }

    /// Emits windows that are over, so many at most.
    fn emit(&mut self, most: usize, out: &mut RowStreams) {
        let is_time = !matches!(self.open, Open::Count { .. });
        let bound = |n: u64| Value::I64(if is_time { ((n + self.unix_ns) / 1_000_000) as i64 } else { n as i64 });
        let count = most.min(self.closed.len());
        for Closed { key, start, end, of } in self.closed.drain(..count) {
            let bounds = [bound(start), bound(end)];
            let mut cells: Cells<'_> = key_values(&key).into_iter().chain(bounds).map(Evaluated::Owned).collect();
            self.measure.results(&of, &mut cells);
            emit(&mut out[0], &cells);
        }
    }

    /// Adds a row to its windows.
    fn add(&mut self, row: &squall::ArchivedRow, now_ns: u64) -> Result<Result<(), String>, BoltError> {
        let (measure, keys_max) = (&self.measure, self.keys_max);
        let too_many = || too_many_keys(keys_max);
        match &mut self.open {
            Open::Time { size, slide, windows } => {
                // The latest window that has begun; earlier ones are open as long as their size.
                let latest = now_ns - now_ns % *slide;
                let mut start = windows.back().map_or_else(
                    || (latest + *slide).saturating_sub(*size),
                    |(last, _)| (last + *slide).max((latest + *slide).saturating_sub(*size)),
                );
                while start <= latest {
                    windows.push_back((start, KeyMap::new(&self.key)));
                    start += *slide;
                }
                for (_, keys) in windows.iter_mut() {
                    let of = keys.of(row, keys_max, || measure.start()).ok_or_else(too_many)?;
                    if let Err(cause) = measure.add(of, row) {
                        return Ok(Err(cause));
                    }
                }
            }
            Open::Count { size, slide, keys } => {
                let counted = keys.of(row, keys_max, Counted::default).ok_or_else(too_many)?;
                let begins = counted.rows.is_multiple_of(*slide);
                if begins {
                    counted.windows.push_back((counted.rows, measure.start()));
                }
                for (_, of) in &mut counted.windows {
                    if let Err(cause) = measure.add(of, row) {
                        // A kind is wrong for each of them, so none has it; the row does not count.
                        if begins {
                            counted.windows.pop_back();
                        }
                        return Ok(Err(cause));
                    }
                }
                counted.rows += 1;
                if counted.windows.front().is_some_and(|(start, _)| start + *size == counted.rows) {
                    let (start, of) = counted.windows.pop_front().expect("looked at");
                    let end = counted.rows;
                    let mut key = Vec::new();
                    for field in &self.key {
                        super::key::write_key(crate::rows::at(row, *field).key(), &mut key);
                    }
                    self.closed.push_back(Closed { key, start, end, of });
                }
            }
            Open::Session { gap, longest, keys } => {
                let session = |_: ()| Session { start: now_ns, last: now_ns, of: measure.start() };
                let open = keys.of(row, keys_max, || session(())).ok_or_else(too_many)?;
                let over = now_ns.saturating_sub(open.last) >= *gap || now_ns - open.start >= *longest;
                if over {
                    let Session { start, last, of } = std::mem::replace(open, session(()));
                    let mut key = Vec::new();
                    for field in &self.key {
                        super::key::write_key(crate::rows::at(row, *field).key(), &mut key);
                    }
                    self.closed.push_back(Closed { key, start, end: last, of });
                }
                if let Err(cause) = measure.add(&mut open.of, row) {
                    return Ok(Err(cause));
                }
                open.last = now_ns;
            }
        }
        Ok(Ok(()))
    }
}

impl Bolt for Windowing {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        let clock = ctx.clock();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        self.unix_ns = unix.saturating_sub(clock.now().as_nanos());
        self.clock = Some(clock);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        let is_time = matches!(self.open, Open::Time { .. });
        let now_ns = if matches!(self.open, Open::Count { .. }) { 0 } else { self.now_ns() };
        if is_time {
            // A window that is over takes no more rows, even where the tick is late.
            self.close(now_ns, false);
        }
        if let Err(cause) = self.add(row, now_ns)? {
            self.bad.refuse(&input, out, &cause)?;
        }
        self.emit(ROWS_PER_CALL, out);
        Ok(())
    }

    fn tick(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        self.close(self.now_ns(), false);
        self.emit(ROWS_PER_TICK, out);
        Ok(())
    }

    fn finish(&mut self, out: &mut RowStreams) -> Result<Finish, BoltError> {
        self.close(0, true);
        self.emit(ROWS_PER_CALL, out);
        Ok(if self.closed.is_empty() { Finish::Done } else { Finish::More })
    }
}
