//! Aggregates by key over a whole run.

use std::time::Duration;

use squall::{Bolt, BoltError, Context, Finish, Input, Row, RowStreams, Value};

use super::aggregate::{Accumulator, Aggregate, Measure};
use super::key::{KeyBytes, KeyMap, key_values};
use crate::expression::Evaluated;
use crate::registry::{ConfigError, Declared, Given, Place};
use crate::rows::{BadInput, Cells, OnError, at, emit, stream};

/// Rows emitted in one call at the end of a run, or in one tick.
pub(crate) const ROWS_PER_CALL: usize = 256;
/// Rows emitted by one tick, at most: what is left follows with the next one.
pub(crate) const ROWS_PER_TICK: usize = 4096;

/// When an aggregate is emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emitted {
    /// After each row, the new value of its key.
    #[default]
    Each,
    /// Each key that has changed, at this period, and at the end of the run.
    Every(Duration),
    /// Each key once, at the end of the run.
    End,
}

/// An aggregate by key over a whole run: emits the key's fields and the aggregate's.
///
/// Subscribe it by a fields grouping on the same fields, so that each key has one task. State lives in memory and is bounded by
/// [`Keyed::keys_max`]; a row that is aggregated is acknowledged.
#[derive(Debug, Clone)]
pub struct Keyed {
    aggregate: Aggregate,
    by: Vec<Given<String>>,
    emitted: Emitted,
    keys_max: usize,
    rename: Option<Given<String>>,
    on_error: OnError,
}

impl Keyed {
    /// Over all rows of a task, emitted after each row.
    pub fn new(aggregate: Aggregate) -> Keyed {
        Keyed {
            aggregate,
            by: Vec::new(),
            emitted: Emitted::Each,
            keys_max: 10_000_000,
            rename: None,
            on_error: OnError::Fail,
        }
    }

    /// Counts rows.
    pub fn count() -> Keyed {
        Keyed::new(Aggregate::Count)
    }

    /// By the values of these fields.
    pub fn by<S: Into<Given<String>>>(self, fields: impl IntoIterator<Item = S>) -> Keyed {
        Keyed { by: fields.into_iter().map(Into::into).collect(), ..self }
    }

    /// When it is emitted. Default: after each row.
    pub fn emitted(self, emitted: Emitted) -> Keyed {
        Keyed { emitted, ..self }
    }

    /// Keys in one task, at most; one more ends the run. Default 10 million.
    pub fn keys_max(self, keys_max: usize) -> Keyed {
        Keyed { keys_max, ..self }
    }

    /// Name of the aggregate's field. Default: the aggregate's name.
    pub fn rename(self, name: impl Into<Given<String>>) -> Keyed {
        Keyed { rename: Some(name.into()), ..self }
    }

    /// What becomes of rows whose field is of a wrong kind. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> Keyed {
        Keyed { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// Fields that the input has not, and names that occur twice in the output.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let key = key_fields(&place, &self.by, &mut errors);
        let at = self.rename.as_ref().map_or(place.span(), |name| name.at);
        let measure = self.aggregate.resolve(&place, self.rename).map_err(|e| errors.push(e)).ok();
        let Some(measure) = measure.filter(|_| errors.is_empty()) else { return Err(errors) };
        let fields: Vec<String> =
            self.by.iter().map(|f| f.value.clone()).chain(measure.results.iter().cloned()).collect();
        distinct_names(&fields, at)?;
        let streams = self.on_error.streams(vec![stream(fields)], place.fields());
        let tick = match self.emitted {
            Emitted::Every(period) => Some(period),
            _ => None,
        };
        let (emitted, keys_max, on_error) = (self.emitted, self.keys_max, self.on_error);
        let make = move || KeyedBolt {
            keys: KeyMap::new(&key),
            key: key.clone(),
            measure: measure.clone(),
            emitted,
            keys_max,
            bad: BadInput::new(on_error),
            ending: None,
        };
        Ok(place.bolt(streams, tick, make))
    }
}

/// Positions of key fields; what is wrong with them goes to `errors`.
pub(crate) fn key_fields(place: &Place<'_>, by: &[Given<String>], errors: &mut Vec<ConfigError>) -> Vec<u16> {
    by.iter().filter_map(|name| place.field(name).map_err(|e| errors.push(e)).ok()).collect()
}

/// Refuses an output with two fields of one name.
pub(crate) fn distinct_names(fields: &[String], at: crate::registry::Span) -> Result<(), Vec<ConfigError>> {
    for (i, name) in fields.iter().enumerate() {
        if fields[..i].contains(name) {
            let what = format!("the output would have two fields named `{name}`");
            return Err(vec![ConfigError::new(at, what, "rename the result with `as`, or list each field once")]);
        }
    }
    Ok(())
}

struct State {
    accumulator: Accumulator,
    changed: bool,
}

struct KeyedBolt {
    key: Vec<u16>,
    keys: KeyMap<State>,
    measure: Measure,
    emitted: Emitted,
    keys_max: usize,
    bad: BadInput,
    ending: Option<std::vec::IntoIter<(KeyBytes, State)>>,
}

fn emit_keyed(measure: &Measure, key: &[u8], of: &Accumulator, out: &mut RowStreams) {
    let mut cells: Cells<'_> = key_values(key).into_iter().map(Evaluated::Owned).collect();
    measure.results(of, &mut cells);
    emit(&mut out[0], &cells);
}

/// What to do when a task has as many keys as it may.
pub(crate) fn too_many_keys(keys_max: usize) -> BoltError {
    BoltError::fatal(format!(
        "the task has {keys_max} keys, as many as it may; raise `keys_max`, give the component more tasks, or key by \
         something with fewer values"
    ))
}

impl Bolt for KeyedBolt {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        Ok(())
    }

    #[inline]
    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        let measure = &self.measure;
        let start = || State { accumulator: measure.start(), changed: false };
        let Some(state) = self.keys.of(row, self.keys_max, start) else {
            return Err(too_many_keys(self.keys_max));
        };
        if let Err(cause) = measure.add(&mut state.accumulator, row) {
            return self.bad.refuse(&input, out, &cause);
        }
        state.changed = true;
        if self.emitted == Emitted::Each {
            let mut cells: Cells<'_> = self.key.iter().map(|f| Evaluated::Field(at(row, *f))).collect();
            measure.results(&state.accumulator, &mut cells);
            emit(&mut out[0], &cells);
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        let measure = &self.measure;
        let changed = self.keys.iter_mut().filter(|(_, state)| state.changed).take(ROWS_PER_TICK);
        for (key, state) in changed {
            state.changed = false;
            emit_keyed(measure, key, &state.accumulator, out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut RowStreams) -> Result<Finish, BoltError> {
        if self.emitted == Emitted::Each {
            return Ok(Finish::Done);
        }
        let ending = self.ending.get_or_insert_with(|| self.keys.drain().into_iter());
        let all = self.emitted == Emitted::End;
        for (key, state) in ending.by_ref().filter(|(_, state)| all || state.changed).take(ROWS_PER_CALL) {
            emit_keyed(&self.measure, &key, &state.accumulator, out);
        }
        Ok(if ending.len() == 0 { Finish::Done } else { Finish::More })
    }
}

/// The most frequent values of a field, as rows `rank` (from 1), the field, `count` and `error`, by key if there is one.
///
/// Counts are exact while a task sees no more values than [`TopK::capacity`]; then each is too high by at most `error`. A task
/// knows its own values only: for one ranking of all, use one task (global grouping).
#[derive(Debug, Clone)]
pub struct TopK {
    field: Given<String>,
    by: Vec<Given<String>>,
    k: usize,
    capacity: usize,
    every: Option<Duration>,
    keys_max: usize,
}

impl TopK {
    /// The `k` most frequent values of a field, at the end of the run.
    pub fn of(field: impl Into<Given<String>>, k: usize) -> TopK {
        TopK { field: field.into(), by: Vec::new(), k, capacity: 10_000, every: None, keys_max: 1000 }
    }

    /// For each value of these fields.
    pub fn by<S: Into<Given<String>>>(self, fields: impl IntoIterator<Item = S>) -> TopK {
        TopK { by: fields.into_iter().map(Into::into).collect(), ..self }
    }

    /// Values counted at a time, at least `k`. Default 10,000.
    pub fn capacity(self, capacity: usize) -> TopK {
        TopK { capacity, ..self }
    }

    /// Also at this period, as far as something has changed.
    pub fn every(self, period: Duration) -> TopK {
        TopK { every: Some(period), ..self }
    }

    /// Keys in one task, at most; one more ends the run. Default 1000.
    pub fn keys_max(self, keys_max: usize) -> TopK {
        TopK { keys_max, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// Fields that the input has not, and names that occur twice in the output.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let key = key_fields(&place, &self.by, &mut errors);
        let (k, capacity) = (self.k, self.capacity.max(self.k));
        let name = self.field.value.clone();
        let aggregate = Aggregate::Top { field: self.field, k, capacity };
        let measure = aggregate.resolve(&place, None).map_err(|e| errors.push(e)).ok();
        let Some(measure) = measure.filter(|_| errors.is_empty()) else { return Err(errors) };
        let by = self.by.iter().map(|f| f.value.clone());
        let fields: Vec<String> = by.chain(["rank".into(), name, "count".into(), "error".into()]).collect();
        distinct_names(&fields, place.span())?;
        let keys_max = self.keys_max;
        let make = move || TopBolt { keys: KeyMap::new(&key), measure: measure.clone(), k, keys_max, ending: None };
        Ok(place.bolt(vec![stream(fields)], self.every, make))
    }
}

struct TopBolt {
    keys: KeyMap<State>,
    measure: Measure,
    k: usize,
    keys_max: usize,
    ending: Option<std::vec::IntoIter<(KeyBytes, State)>>,
}

impl TopBolt {
    fn emit(k: usize, key: &[u8], of: &Accumulator, out: &mut RowStreams) {
        let Accumulator::Top(top) = of else { unreachable!("declared so") };
        for (i, (item, count, error)) in top.top(k).into_iter().enumerate() {
            let numbers = [i as i64 + 1, count as i64, error as i64].map(Value::I64);
            let [rank, count, error] = numbers;
            let values = key_values(key).into_iter().chain([rank, item, count, error]);
            emit(&mut out[0], &values.map(Evaluated::Owned).collect::<Cells<'_>>());
        }
    }
}

impl Bolt for TopBolt {
    type In = Row;
    type Out = RowStreams;

    fn execute(&mut self, input: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        let start = || State { accumulator: self.measure.start(), changed: false };
        let Some(state) = self.keys.of(row, self.keys_max, start) else {
            return Err(too_many_keys(self.keys_max));
        };
        state.changed = true;
        self.measure.add(&mut state.accumulator, row).map_err(BoltError::fail)
    }

    fn tick(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        let k = self.k;
        for (key, state) in self.keys.iter_mut().filter(|(_, state)| state.changed).take(ROWS_PER_TICK / k.max(1) + 1) {
            state.changed = false;
            TopBolt::emit(k, key, &state.accumulator, out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut RowStreams) -> Result<Finish, BoltError> {
        let ending = self.ending.get_or_insert_with(|| self.keys.drain().into_iter());
        let Some((key, state)) = ending.next() else { return Ok(Finish::Done) };
        if state.changed {
            TopBolt::emit(self.k, &key, &state.accumulator, out);
        }
        Ok(Finish::More)
    }
}
