//! The components of the built-in scenarios, their bodies, and what their oracles compare: a plain pass over the same bodies.

use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;
use squall::{Bolt, BoltError, Finish, Input, Outputs, Stream, Tuple};
use squall_load::{FieldType, Load, Schema, Stamp};
use squall_machine::now_ns;

use super::hops::Hops;
use crate::model::body::Body;
use crate::model::rng::Rng;

/// Words of a sentence that count; longer ones are cut.
pub(crate) const WORDS_MAX: usize = 64;
/// Consumers of `rekey`, and of a hundred records how many each wants.
const CONSUMERS: u64 = 20;
const WANTED_PERCENT: u64 = 10;
/// Campaigns of `yahoo`, their ads, the length of a window.
const CAMPAIGNS: u64 = 100;
const ADS: u64 = 1000;
const WINDOW_NS: u64 = 10_000_000_000;

/// What counting components counted, by key; given at their end.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<AHashMap<Vec<u8>, u64>>>);

impl Tally {
    fn add(&self, counts: &AHashMap<Vec<u8>, u64>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().for_each(|(key, n)| *all.entry(key.clone()).or_default() += n);
    }

    /// What differs from the expected counts, if anything does.
    pub(crate) fn differs(&self, expected: &AHashMap<Vec<u8>, u64>) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *all == *expected {
            return None;
        }
        let (got, due) = (all.values().sum::<u64>(), expected.values().sum::<u64>());
        let wrong = expected.iter().find(|(key, n)| all.get(*key) != Some(n));
        let example = wrong.map_or_else(
            || "a key that should not be there".to_owned(),
            |(key, n)| {
                format!("{:?} {} times instead of {n}", String::from_utf8_lossy(key), all.get(key).unwrap_or(&0))
            },
        );
        Some(format!("the counts differ: {got} in all where {due} are due, for example {example}"))
    }
}

/// Counts into a map of its own without an allocation per tuple.
#[derive(Default)]
struct Counting(AHashMap<Vec<u8>, u64>);

impl Counting {
    #[inline]
    fn count(&mut self, key: &[u8]) {
        match self.0.get_mut(key) {
            Some(n) => *n += 1,
            None => drop(self.0.insert(key.to_owned(), 1)),
        }
    }
}

/// Passes loads on.
pub(crate) struct Id(pub(crate) Hops);

impl Bolt for Id {
    type In = Load;
    type Out = Stream<Load>;

    #[inline]
    fn execute(&mut self, load: Input<'_, Load>, out: &mut Stream<Load>) -> Result<(), BoltError> {
        self.0.note(1, load.seq.to_native(), load.ingest_ns.to_native());
        out.emit(load.view());
        Ok(())
    }
}

/// Takes a fixed time for each tuple, and all of a stretch of time for one.
pub(crate) struct Throttle {
    /// Busy so long with each tuple.
    pub(crate) service_ns: u64,
    /// Offset and length of the stall, from the first tuple on.
    pub(crate) stall: Option<(u64, u64)>,
    pub(crate) first_ns: Option<u64>,
    pub(crate) hops: Hops,
}

impl Bolt for Throttle {
    type In = Load;
    type Out = Stream<Load>;

    fn execute(&mut self, load: Input<'_, Load>, out: &mut Stream<Load>) -> Result<(), BoltError> {
        let now = now_ns();
        let first = *self.first_ns.get_or_insert(now);
        let mut until = now + self.service_ns;
        if let Some((from, length)) = self.stall
            && now - first >= from
        {
            self.stall = None;
            until += length;
        }
        while now_ns() < until {
            std::hint::spin_loop();
        }
        self.hops.note(1, load.seq.to_native(), load.ingest_ns.to_native());
        out.emit(load.view());
        Ok(())
    }
}

/// A word of a sentence, with the stamps of its sentence.
#[derive(Tuple)]
pub(crate) struct Word {
    word: String,
    seq: u64,
    due_ns: u64,
    sent_ns: u64,
    ingest_ns: u64,
    part: u16,
    parts: u16,
}

/// The text field at the start of a body.
fn text(body: &[u8]) -> &str {
    let Some((len, rest)) = body.split_first_chunk::<4>() else { return "" };
    let text = rest.get(..u32::from_le_bytes(*len) as usize).unwrap_or_default();
    str::from_utf8(text).unwrap_or_default()
}

/// Splits sentences. A sentence is one word where `whole` says so.
pub(crate) struct Split {
    pub(crate) hops: Hops,
}

impl Bolt for Split {
    type In = Load;
    type Out = Stream<Word>;

    #[inline]
    fn execute(&mut self, load: Input<'_, Load>, out: &mut Stream<Word>) -> Result<(), BoltError> {
        let (seq, ingest_ns) = (load.seq.to_native(), load.ingest_ns.to_native());
        self.hops.note(1, seq, ingest_ns);
        let (due_ns, sent_ns) = (load.due_ns.to_native(), load.sent_ns.to_native());
        let sentence = text(load.body.as_slice());
        let parts = sentence.split_ascii_whitespace().take(WORDS_MAX).count() as u16;
        for (part, word) in sentence.split_ascii_whitespace().take(WORDS_MAX).enumerate() {
            out.emit(WordRef { word, seq, due_ns, sent_ns, ingest_ns, part: part as u16, parts });
        }
        Ok(())
    }
}

/// Counts words.
pub(crate) struct Count {
    counts: Counting,
    tally: Tally,
    hops: Hops,
}

impl Count {
    pub(crate) fn new(tally: &Tally, hops: &Hops) -> Count {
        Count { counts: Counting::default(), tally: tally.clone(), hops: hops.clone() }
    }
}

impl Bolt for Count {
    type In = Word;
    type Out = Stream<Stamp>;

    #[inline]
    fn execute(&mut self, w: Input<'_, Word>, out: &mut Stream<Stamp>) -> Result<(), BoltError> {
        self.counts.count(w.word.as_bytes());
        let (seq, ingest_ns) = (w.seq.to_native(), w.ingest_ns.to_native());
        self.hops.note(2, seq, ingest_ns);
        out.emit(Stamp {
            seq,
            due_ns: w.due_ns.to_native(),
            sent_ns: w.sent_ns.to_native(),
            ingest_ns,
            part: w.part.to_native(),
            parts: w.parts.to_native(),
        });
        Ok(())
    }

    fn finish(&mut self, _: &mut Stream<Stamp>) -> Result<Finish, BoltError> {
        self.tally.add(&self.counts.0);
        Ok(Finish::Done)
    }
}

/// Number of words of a body's sentence, counted plainly.
pub(crate) fn count_words(body: &[u8], expected: &mut AHashMap<Vec<u8>, u64>) {
    for word in text(body).split_ascii_whitespace().take(WORDS_MAX) {
        *expected.entry(word.as_bytes().to_owned()).or_default() += 1;
    }
}

fn stamp(load: &Input<'_, Load>, part: u16, parts: u16) -> Stamp {
    Stamp {
        seq: load.seq.to_native(),
        due_ns: load.due_ns.to_native(),
        sent_ns: load.sent_ns.to_native(),
        ingest_ns: load.ingest_ns.to_native(),
        part,
        parts,
    }
}

fn word_at(body: &[u8], at: usize) -> u64 {
    body.get(at..at + 8).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

/// A record under a new key.
#[derive(Tuple)]
pub(crate) struct Keyed {
    pub(crate) key: u64,
    pub(crate) window: u64,
    pub(crate) seq: u64,
    pub(crate) due_ns: u64,
    pub(crate) sent_ns: u64,
    pub(crate) ingest_ns: u64,
    pub(crate) part: u16,
    pub(crate) parts: u16,
}

fn keyed(key: u64, window: u64, s: Stamp) -> Keyed {
    let Stamp { seq, due_ns, sent_ns, ingest_ns, part, parts } = s;
    Keyed { key, window, seq, due_ns, sent_ns, ingest_ns, part, parts }
}

/// What a step that drops tuples emits: those that go on, and the stamps of those that do not.
#[derive(Outputs)]
pub(crate) struct Dropping {
    pub(crate) on: Stream<Keyed>,
    pub(crate) done: Stream<Stamp>,
}

/// Whether a consumer wants a record of this key.
fn wants(consumer: u64, key: u64) -> bool {
    let mixed = (key ^ consumer.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 33) % 100 < WANTED_PERCENT
}

/// Gives each record to the consumers that want it, under their keys: ShuffleBench's matching.
pub(crate) struct Match(pub(crate) Hops);

impl Bolt for Match {
    type In = Load;
    type Out = Dropping;

    fn execute(&mut self, load: Input<'_, Load>, out: &mut Dropping) -> Result<(), BoltError> {
        self.0.note(1, load.seq.to_native(), load.ingest_ns.to_native());
        let key = word_at(load.body.as_slice(), 0);
        let parts = (0..CONSUMERS).filter(|c| wants(*c, key)).count() as u16;
        if parts == 0 {
            out.done.emit(stamp(&load, 0, 1));
        }
        for (part, consumer) in (0..CONSUMERS).filter(|c| wants(*c, key)).enumerate() {
            out.on.emit(keyed(consumer, 0, stamp(&load, part as u16, parts)));
        }
        Ok(())
    }
}

/// The same plainly.
pub(crate) fn count_matches(body: &[u8], expected: &mut AHashMap<Vec<u8>, u64>) {
    let key = word_at(body, 0);
    for consumer in (0..CONSUMERS).filter(|c| wants(*c, key)) {
        *expected.entry(group(consumer, 0)).or_default() += 1;
    }
}

fn group(key: u64, window: u64) -> Vec<u8> {
    [key.to_le_bytes(), window.to_le_bytes()].concat()
}

/// Counts by key and window.
pub(crate) struct Aggregate {
    counts: Counting,
    tally: Tally,
    hops: Hops,
    at: u8,
}

impl Aggregate {
    pub(crate) fn new(tally: &Tally, hops: &Hops, at: u8) -> Aggregate {
        Aggregate { counts: Counting::default(), tally: tally.clone(), hops: hops.clone(), at }
    }
}

impl Bolt for Aggregate {
    type In = Keyed;
    type Out = Stream<Stamp>;

    fn execute(&mut self, k: Input<'_, Keyed>, out: &mut Stream<Stamp>) -> Result<(), BoltError> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&k.key.to_native().to_le_bytes());
        key[8..].copy_from_slice(&k.window.to_native().to_le_bytes());
        self.counts.count(&key);
        let (seq, ingest_ns) = (k.seq.to_native(), k.ingest_ns.to_native());
        self.hops.note(self.at, seq, ingest_ns);
        let (due_ns, sent_ns) = (k.due_ns.to_native(), k.sent_ns.to_native());
        out.emit(Stamp { seq, due_ns, sent_ns, ingest_ns, part: k.part.to_native(), parts: k.parts.to_native() });
        Ok(())
    }

    fn finish(&mut self, _: &mut Stream<Stamp>) -> Result<Finish, BoltError> {
        self.tally.add(&self.counts.0);
        Ok(Finish::Done)
    }
}

/// Advertising events: an ad, a kind (view, click, purchase), a time.
#[derive(Debug, Clone)]
pub(crate) struct Events(Rng);

impl Events {
    pub(crate) fn new(seed: u64) -> Events {
        Events(Rng::new(seed, 50))
    }
}

impl Body for Events {
    fn write(&mut self, _: u64, offset_ns: u64, to: &mut Vec<u8>) {
        let (ad, kind) = (self.0.below(ADS), self.0.below(3));
        for word in [ad, kind, offset_ns] {
            to.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn schema(&self) -> Schema {
        Schema(["ad", "kind", "time"].map(|n| (n.to_owned(), FieldType::U64)).into())
    }
}

/// Keeps views, and of them ad and time: the Yahoo streaming benchmark's filter and projection.
pub(crate) struct Views(pub(crate) Hops);

impl Bolt for Views {
    type In = Load;
    type Out = Dropping;

    fn execute(&mut self, load: Input<'_, Load>, out: &mut Dropping) -> Result<(), BoltError> {
        self.0.note(1, load.seq.to_native(), load.ingest_ns.to_native());
        let body = load.body.as_slice();
        match word_at(body, 8) {
            0 => out.on.emit(keyed(word_at(body, 0), word_at(body, 16), stamp(&load, 0, 1))),
            _ => out.done.emit(stamp(&load, 0, 1)),
        }
        Ok(())
    }
}

/// Looks up the campaign of an ad in a table, and the window of its time.
pub(crate) struct Campaigns {
    table: AHashMap<u64, u64>,
    hops: Hops,
}

impl Campaigns {
    pub(crate) fn new(hops: &Hops) -> Campaigns {
        Campaigns { table: (0..ADS).map(|ad| (ad, ad % CAMPAIGNS)).collect(), hops: hops.clone() }
    }
}

impl Bolt for Campaigns {
    type In = Keyed;
    type Out = Stream<Keyed>;

    fn execute(&mut self, k: Input<'_, Keyed>, out: &mut Stream<Keyed>) -> Result<(), BoltError> {
        let (seq, ingest_ns) = (k.seq.to_native(), k.ingest_ns.to_native());
        self.hops.note(2, seq, ingest_ns);
        let campaign = *self.table.get(&k.key.to_native()).ok_or_else(|| BoltError::fail("an ad of no campaign"))?;
        let (due_ns, sent_ns) = (k.due_ns.to_native(), k.sent_ns.to_native());
        let s = Stamp { seq, due_ns, sent_ns, ingest_ns, part: k.part.to_native(), parts: k.parts.to_native() };
        out.emit(keyed(campaign, k.window.to_native() / WINDOW_NS, s));
        Ok(())
    }
}

/// The same plainly.
pub(crate) fn count_views(body: &[u8], expected: &mut AHashMap<Vec<u8>, u64>) {
    if word_at(body, 8) == 0 {
        *expected.entry(group(word_at(body, 0) % CAMPAIGNS, word_at(body, 16) / WINDOW_NS)).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_differ_are_told_with_an_example() {
        let tally = Tally::default();
        let of =
            |list: &[(&str, u64)]| list.iter().map(|(k, n)| (k.as_bytes().to_owned(), *n)).collect::<AHashMap<_, _>>();
        tally.add(&of(&[("to", 2), ("be", 1)]));
        tally.add(&of(&[("be", 1)]));
        assert_eq!(tally.differs(&of(&[("to", 2), ("be", 2)])), None);
        let told = tally.differs(&of(&[("to", 3), ("be", 2)])).unwrap();
        assert!(told.contains("\"to\" 2 times instead of 3"), "{told}");
        assert!(tally.differs(&of(&[("to", 2)])).unwrap().contains("should not be there"));
    }

    #[test]
    fn a_tenth_of_the_records_is_wanted_by_each_consumer() {
        let hits = (0..10_000).filter(|key| wants(7, *key)).count();
        assert!((900..1100).contains(&hits), "{hits}");
    }
}
