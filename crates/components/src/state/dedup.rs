//! Passes each key once within a bounded memory of keys.

use std::collections::VecDeque;
use std::time::Duration;

use squall::{Bolt, BoltError, Clock, Context, Counter, Input, Row, RowStreams};

use super::key::write_key;
use super::keyed::key_fields;
use crate::registry::{ConfigError, Declared, Given, Place};
use crate::rows::{at, stream};

/// Passes on, unchanged, the first row of each key; others of the key are dropped and counted as `duplicates`.
///
/// It remembers the last so many keys that it passed, and no key longer than a time if one is set: a key that was forgotten
/// passes again. Seeing a duplicate does not renew the memory. Subscribe it by a fields grouping on the same fields.
#[derive(Debug, Clone)]
pub struct Dedup {
    by: Vec<Given<String>>,
    keys: usize,
    within: Option<Duration>,
}

impl Dedup {
    /// By the values of these fields; of all fields, if there are none.
    pub fn by<S: Into<Given<String>>>(fields: impl IntoIterator<Item = S>) -> Dedup {
        Dedup { by: fields.into_iter().map(Into::into).collect(), keys: 1_000_000, within: None }
    }

    /// Keys remembered by a task, at least 1. Default 1 million.
    pub fn keys(self, keys: usize) -> Dedup {
        Dedup { keys: keys.max(1), ..self }
    }

    /// How long a key is remembered. Default: until others take its place.
    pub fn within(self, time: Duration) -> Dedup {
        Dedup { within: Some(time), ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// Fields that the input has not.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut fields = key_fields(&place, &self.by, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        if fields.is_empty() {
            fields = (0..place.fields().len() as u16).collect();
        }
        let (keys, within_ns) = (self.keys, self.within.map(|d| d.as_nanos() as u64));
        let streams = vec![stream(place.fields())];
        let make = move || Deduping { fields: fields.clone(), seen: Seen::new(keys, within_ns), kit: None };
        Ok(place.bolt(streams, None, make))
    }
}

/// The keys seen last.
struct Seen {
    most: usize,
    within_ns: Option<u64>,
    keys: hashbrown::HashSet<Vec<u8>, ahash::RandomState>,
    /// In the order in which they were passed, with the time.
    order: VecDeque<(u64, Vec<u8>)>,
}

impl Seen {
    fn new(most: usize, within_ns: Option<u64>) -> Seen {
        Seen { most, within_ns, keys: Default::default(), order: VecDeque::new() }
    }

    /// Whether the key is new at `now_ns`, and remembers it if so.
    fn is_new(&mut self, key: &[u8], now_ns: u64) -> bool {
        if let Some(within) = self.within_ns {
            while self.order.front().is_some_and(|(at, _)| now_ns.saturating_sub(*at) >= within) {
                self.forget();
            }
        }
        if self.keys.contains(key) {
            return false;
        }
        if self.order.len() == self.most {
            self.forget();
        }
        self.keys.insert(key.to_vec());
        self.order.push_back((now_ns, key.to_vec()));
        true
    }

    fn forget(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.keys.remove(&key);
        }
    }
}

struct Deduping {
    fields: Vec<u16>,
    seen: Seen,
    kit: Option<Kit>,
}

struct Kit {
    clock: Clock,
    duplicates: Counter,
    scratch: Vec<u8>,
}

impl Bolt for Deduping {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.kit = Some(Kit { clock: ctx.clock(), duplicates: ctx.counter("duplicates"), scratch: Vec::new() });
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let kit = self.kit.as_mut().expect("prepared");
        kit.scratch.clear();
        for field in &self.fields {
            write_key(at(input.get(), *field).key(), &mut kit.scratch);
        }
        // Time is looked at only where it counts.
        let now_ns = if self.seen.within_ns.is_some() { kit.clock.now().as_nanos() } else { 0 };
        if self.seen.is_new(&kit.scratch, now_ns) {
            out[0].emit(input.view());
        } else {
            kit.duplicates.inc();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_is_new_exactly_when_it_is_not_among_the_last_ones_passed(
            rows in proptest::collection::vec((0u8..30, 0u64..5), 0..400),
            most in 1usize..20,
            within in proptest::option::of(1u64..40),
        ) {
            let mut seen = Seen::new(most, within);
            let mut model: Vec<(u64, u8)> = Vec::new();
            let mut now = 0;
            for (key, later) in rows {
                now += later;
                model.retain(|(at, _)| within.is_none_or(|within| now - at < within));
                let new = !model.iter().any(|(_, k)| *k == key);
                if new {
                    model.push((now, key));
                    if model.len() > most {
                        model.remove(0);
                    }
                }
                prop_assert_eq!(seen.is_new(&[key], now), new);
                prop_assert_eq!(seen.keys.len(), model.len());
            }
        }
    }
}
