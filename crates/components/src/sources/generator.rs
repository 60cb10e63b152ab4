//! Rows made up: so many, so fast, with keys as they are distributed.

use std::sync::Arc;
use std::time::Duration;

use squall::{Clock, Context, Failure, MessageId, Next, RowRef, RowStreams, Spout, SpoutError, Time, ValueRef};

use super::random::Random;
use crate::expression::Evaluated;
use crate::giving_up::{GiveUp, emit_letter, giving_up, giving_up_options};
use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Place};
use crate::reliable::Reliable;
use crate::rows::stream;

/// How keys are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Keys {
    /// In turn.
    #[default]
    InTurn,
    /// All alike, at random.
    Uniform,
    /// The i-th key in proportion to 1 / i^exponent.
    Zipf(f64),
}

/// Emits rows `n` (0, 1, 2 … over all tasks), `key` (text) and `value` (a float): for trying a topology, and for load.
///
/// With a rate it is an open loop: what is late is caught up with, and says so by its origin times. The same seed gives the same
/// rows, whatever the rate. Where acking is on, rows are emitted again until they are acknowledged, and after a restart those
/// that were are passed over.
#[derive(Debug, Clone)]
pub struct Generator {
    count: Option<u64>,
    rate: Option<f64>,
    words: Vec<String>,
    keys: Keys,
    value: (f64, f64),
    seed: u64,
    give_up: GiveUp,
}

impl Generator {
    /// So many rows over all tasks, as fast as they are taken, with keys `key-0` to `key-99` in turn and values from 0 to 1.
    pub fn new(count: u64) -> Generator {
        let words = (0..100).map(|i| format!("key-{i}")).collect();
        Generator {
            count: Some(count),
            rate: None,
            words,
            keys: Keys::InTurn,
            value: (0.0, 1.0),
            seed: 1,
            give_up: GiveUp::default(),
        }
    }

    /// Rows without an end.
    pub fn endless() -> Generator {
        Generator { count: None, ..Generator::new(0) }
    }

    /// Rows a second over all tasks; above 0.
    pub fn rate(self, rows_per_second: f64) -> Generator {
        assert!(rows_per_second > 0.0, "a rate is above 0");
        Generator { rate: Some(rows_per_second), ..self }
    }

    /// Keys: these words, of which there is at least one.
    pub fn words<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Generator {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        assert!(!words.is_empty(), "a row has a key");
        Generator { words, ..self }
    }

    /// How keys are distributed.
    pub fn keys(self, keys: Keys) -> Generator {
        Generator { keys, ..self }
    }

    /// Values lie from `min`, included, to `max`, excluded, all alike.
    pub fn values(self, min: f64, max: f64) -> Generator {
        Generator { value: (min, max), ..self }
    }

    /// Where chance begins. Default 1.
    pub fn seed(self, seed: u64) -> Generator {
        Generator { seed, ..self }
    }

    /// What becomes of rows that fail again and again: as dead letters they have their fields and `error`. Default: they are given
    /// up after ten failures.
    pub fn give_up(self, give_up: GiveUp) -> Generator {
        Generator { give_up, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// None today.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let weights = self.weights().map(Arc::new);
        let give_up = self.give_up;
        let fields = FIELDS.map(str::to_owned);
        let streams = give_up.streams(vec![stream(&fields)], &fields);
        let generator = Arc::new(self);
        let make = move || Generating {
            generator: generator.clone(),
            weights: weights.clone(),
            random: Random::new(0),
            next: 0,
            step: 1,
            paced: None,
            reliable: None,
            source: "".into(),
            rows: 0,
        };
        Ok(give_up.read(place.spout_with(streams, make, |decl| decl.reliable(true))))
    }

    /// What the rows follow from: all settings but those of how they are emitted. It names their places, so it stays as it is.
    fn identity(&self) -> String {
        let Generator { count, rate, words, keys, value, seed, give_up: _ } = self;
        format!(
            "Generator {{ count: {count:?}, rate: {rate:?}, words: {words:?}, keys: {keys:?}, value: {value:?}, seed: {seed:?} }}"
        )
    }

    /// Sums of the keys' weights, where they differ.
    fn weights(&self) -> Option<Vec<f64>> {
        let Keys::Zipf(exponent) = self.keys else { return None };
        let mut sum = 0.0;
        let next = |i: usize| {
            sum += (i as f64 + 1.0).powf(-exponent);
            sum
        };
        Some((0..self.words.len()).map(next).collect())
    }
}

struct Generating {
    generator: Arc<Generator>,
    weights: Option<Arc<Vec<f64>>>,
    random: Random,
    /// The next row's `n`.
    next: u64,
    step: u64,
    paced: Option<Pace>,
    /// Where acking is on.
    reliable: Option<Reliable<Made>>,
    /// Names the rows of this task, for its place.
    source: Arc<str>,
    /// Rows made by this task, those before its restart included.
    rows: u64,
}

/// The fields of a row.
const FIELDS: [&str; 3] = ["n", "key", "value"];

/// A row: `n`, the key's place, the value.
type Made = (u64, usize, f64);

struct Pace {
    clock: Clock,
    began: Option<Time>,
    ns_per_row: f64,
    /// Rows that are due without a look at the clock.
    due: u64,
}

impl Generating {
    fn make(&mut self) -> Made {
        let key = self.key();
        let (min, max) = self.generator.value;
        let made = (self.next, key, min + self.random.unit() * (max - min));
        self.next += self.step;
        self.rows += 1;
        made
    }

    fn row(&self, (n, key, value): Made) -> [ValueRef<'_>; 3] {
        [ValueRef::I64(n as i64), ValueRef::Str(&self.generator.words[key]), ValueRef::F64(value)]
    }

    fn emit(&self, made: Made, id: Option<MessageId>, out: &mut RowStreams) {
        let row = self.row(made);
        match id {
            None => out[0].emit(RowRef(&row)),
            Some(id) => out[0].emit_with_id(id, RowRef(&row)),
        }
    }

    fn key(&mut self) -> usize {
        let count = self.generator.words.len() as u64;
        match self.generator.keys {
            Keys::InTurn => (self.next % count) as usize,
            Keys::Uniform => self.random.below(count) as usize,
            Keys::Zipf(_) => {
                let weights = self.weights.as_ref().expect("made with the distribution");
                let at = self.random.unit() * weights[weights.len() - 1];
                weights.partition_point(|sum| *sum <= at)
            }
        }
    }

    /// When the next row is due, if that is not now.
    fn wait(&mut self) -> Option<Time> {
        let pace = self.paced.as_mut()?;
        if pace.due > 0 {
            pace.due -= 1;
            return None;
        }
        let now = pace.clock.now();
        let began = *pace.began.get_or_insert(now);
        // Row n of all tasks is due n intervals after the begin, so tasks do not emit in step.
        let due_ns = self.next as f64 * pace.ns_per_row;
        let elapsed_ns = now.since(began).as_nanos() as f64;
        if due_ns > elapsed_ns {
            return Some(began + Duration::from_nanos(due_ns.ceil() as u64));
        }
        pace.due = ((elapsed_ns - due_ns) / (pace.ns_per_row * self.step as f64)) as u64;
        None
    }
}

impl Spout for Generating {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.next = u64::from(ctx.task_index());
        self.step = u64::from(ctx.task_count());
        self.random = Random::new(self.generator.seed ^ (self.next << 40));
        let pace = |rate| Pace { clock: ctx.clock(), began: None, ns_per_row: 1e9 / rate, due: 0 };
        self.paced = self.generator.rate.map(pace);
        self.reliable = Reliable::open(ctx, self.generator.give_up)?;
        if let Some(reliable) = &self.reliable {
            // Other rows than these were never made here.
            let source = format!("{} {}/{}", self.generator.identity(), ctx.task_index(), ctx.task_count());
            self.source = source.into();
            // What was acknowledged is made again, and passed over, so that the rest is the same.
            for _ in 0..reliable.store().get(&self.source) {
                self.make();
            }
        }
        Ok(())
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let exhausted = self.generator.count.is_some_and(|count| self.next >= count);
        if let Some(reliable) = &mut self.reliable {
            if let Some((id, made)) = reliable.replay.take_due() {
                let made = *made;
                self.emit(made, Some(id), out);
                return Ok(Next::Emitted);
            }
            if let Some((id, made, error)) = reliable.replay.take_letter() {
                let (made, error) = (*made, error.to_owned());
                emit_letter(out, id, self.row(made).into_iter().map(Evaluated::Scalar), &error);
                return Ok(Next::Emitted);
            }
            if exhausted || !reliable.replay.has_room() {
                return reliable.rest(exhausted);
            }
        }
        if exhausted {
            return Ok(Next::End);
        }
        if let Some(time) = self.wait() {
            self.reliable.as_mut().map_or(Ok(()), Reliable::idle)?;
            return Ok(Next::WakeAt(time));
        }
        let made = self.make();
        let id = self.reliable.as_mut().map(|r| r.replay.push(made, 0, Some((self.source.clone(), self.rows))));
        self.emit(made, id, out);
        Ok(Next::Emitted)
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
}

pub(super) fn described() -> Described {
    let any = OptionType::Float { min: -f64::MAX, max: f64::MAX };
    Described {
        name: "generator",
        aliases: &["org.apache.storm.testing.TestWordSpout", "org.apache.storm.perf.spout.ConstSpout"],
        kind: Kind::Spout,
        summary: "Makes rows up: so many, at a rate, with keys as they are distributed.",
        options: vec![
            OptionSpec::optional("count", OptionType::at_least(0), "Rows over all tasks. Left out: without an end."),
            OptionSpec::optional(
                "rate",
                OptionType::Float { min: 0.001, max: 1e9 },
                "Rows a second over all tasks; what is late is caught up with. Left out: as fast as they are taken.",
            ),
            OptionSpec::with_default("keys", OptionType::integer(1, 10_000_000), "100", "Keys: key-0, key-1 …."),
            OptionSpec::optional("words", OptionType::list(OptionType::Text), "Keys, instead of `keys`."),
            OptionSpec::with_default(
                "distribution",
                OptionType::Word(&["in_turn", "uniform", "zipf"]),
                "in_turn",
                "How keys follow: in turn, at random all alike, or at random with the first ones more frequent.",
            ),
            OptionSpec::with_default(
                "exponent",
                OptionType::Float { min: 0.0, max: 10.0 },
                "1",
                "Of `zipf`: the i-th key in proportion to 1 / i^exponent.",
            ),
            OptionSpec::with_default("min", any.clone(), "0", "Least of `value`."),
            OptionSpec::with_default("max", any, "1", "Bound of `value`, itself excluded."),
            OptionSpec::with_default("seed", OptionType::at_least(0), "1", "The same seed gives the same rows."),
        ]
        .into_iter()
        .chain(giving_up_options())
        .collect(),
        outputs: "`default`: `n` (integer, from 0), `key` (text), `value` (float). `dead_letters`: the same and `error`, with \
                  `on_give_up: dead_letters`.",
        example: "id: readings\nclassName: generator\nconfig:\n  count: 1000\n  words: [kitchen, cellar]\n  min: -10\n  max: 40\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let mut generator = match options.maybe_integer("count") {
                Some(count) => Generator::new(count.value as u64),
                None => Generator::endless(),
            };
            let words: Vec<String> = options.texts("words").into_iter().map(|w| w.value).collect();
            let words =
                if words.is_empty() { (0..options.count("keys")).map(|i| format!("key-{i}")).collect() } else { words };
            generator = generator.words(words).keys(match options.word("distribution").value {
                "uniform" => Keys::Uniform,
                "zipf" => Keys::Zipf(options.float("exponent").value),
                _ => Keys::InTurn,
            });
            if let Some(rate) = options.maybe_float("rate") {
                generator = generator.rate(rate.value);
            }
            let (min, max) = (options.float("min"), options.float("max"));
            if min.value > max.value {
                let what = format!("`min` is {}, above `max`, which is {}", min.value, max.value);
                return Err(vec![ConfigError::new(min.at, what, "swap them")]);
            }
            generator = generator.values(min.value, max.value).seed(options.count("seed") as u64);
            generator.give_up(giving_up(options)).declare(place)
        }),
    }
}
