//! Word count over text in memory: spout → split → count, two executors of each, one per reactor; each spout reads half
//! of the text, and words meet in their count task by fields grouping.
//!
//! The spout emits pieces of text of some KiB rather than lines, and to the split task of its own reactor: a direct stream,
//! as an author who wants speed would. Words are tuples of their own, each with its string.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use squall::{
    Bolt, BoltError, Context, DirectStream, Finish, Input, MessageId, Next, Spout, SpoutError, Stream, TaskId,
    Topology, Tuple,
};
use squall_textgen::{GeneratorOptions, generate_text};

use super::{Job, Place, Tallied, Tally};
use crate::clock::now_ns;
use crate::error::BenchError;
use crate::measure::{Counters, Outcome};

/// What both sides must agree on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) words: u64,
    pub(crate) distinct: u64,
    /// Sum over words of length × count: notices a word counted as another.
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn of<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Totals {
        counts.fold(Totals::default(), |t, (word, n)| Totals {
            words: t.words + n,
            distinct: t.distinct + 1,
            bytes: t.bytes + word.len() as u64 * n,
        })
    }

    pub(super) fn add(&mut self, other: &Totals) {
        self.words += other.words;
        self.distinct += other.distinct;
        self.bytes += other.bytes;
    }

    /// Refuses totals that differ from the floor's.
    fn check(&self, floor: &Totals) -> Result<(), BenchError> {
        let pairs = [
            ("word", self.words, floor.words),
            ("distinct word", self.distinct, floor.distinct),
            ("byte", self.bytes, floor.bytes),
        ];
        for (what, squall, floor) in pairs {
            if squall != floor {
                return Err(BenchError::Totals { what, squall, floor });
            }
        }
        Ok(())
    }
}

/// The text, made once per length and kept.
pub(crate) fn text(bytes: u64) -> Arc<str> {
    static TEXT: Mutex<Option<Arc<str>>> = Mutex::new(None);
    let mut text = TEXT.lock().unwrap_or_else(PoisonError::into_inner);
    match &*text {
        Some(made) if made.len() as u64 == bytes => made.clone(),
        _ => {
            let options = GeneratorOptions { bytes, ..GeneratorOptions::default() };
            let made: Arc<str> = generate_text(&options).expect("the default options are good").into();
            text.insert(made).clone()
        }
    }
}

/// What the floor has counted, for comparison: rounds begin with the floor.
pub(crate) static FLOOR: OnceLock<Totals> = OnceLock::new();

/// Bytes of a piece of text, about: several to a batch.
const PIECE_BYTES: usize = 4096;

#[derive(Tuple)]
struct Piece {
    text: String,
}

#[derive(Tuple)]
struct Word {
    word: String,
}

struct Pieces {
    text: Arc<str>,
    at: usize,
    end: usize,
    /// The split task beside this one.
    to: TaskId,
    began_ns: u64,
    emitted: u64,
    /// Pieces acknowledged, where they have message ids.
    acked: Option<u64>,
    tally: Tallied,
}

/// The first white space from `at` on, or the end.
fn word_end(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    rest.iter().position(u8::is_ascii_whitespace).map_or(text.len(), |n| at + n)
}

impl Spout for Pieces {
    type Out = DirectStream<Piece>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let (index, count) = (ctx.task_index() as usize, ctx.task_count() as usize);
        // Cut at the end of the word that an even share cuts.
        let cut = |share: usize| word_end(&self.text, self.text.len() * share / count);
        (self.at, self.end) = (if index == 0 { 0 } else { cut(index) }, cut(index + 1));
        let splits = ctx.peers("split").ok_or_else(|| SpoutError::new("there is no split"))?;
        self.to = splits.start + ctx.task_index();
        Ok(())
    }

    #[inline]
    fn next(&mut self, out: &mut DirectStream<Piece>) -> Result<Next, SpoutError> {
        if self.emitted == 0 {
            self.began_ns = now_ns();
        }
        if self.at >= self.end {
            self.tally.note(|t| {
                t.emitted += self.emitted;
                t.note_span(self.began_ns, self.began_ns);
            });
            return Ok(Next::End);
        }
        let end = word_end(&self.text, (self.at + PIECE_BYTES).min(self.end));
        let piece = PieceRef { text: &self.text[self.at..end] };
        let emitted = match self.acked {
            None => out.emit_to(self.to, piece),
            Some(_) => out.emit_to_with_id(self.to, self.at as u64, piece),
        };
        if !emitted {
            return Err(SpoutError::new("split does not read this stream"));
        }
        self.at = end;
        self.emitted += 1;
        Ok(Next::Emitted)
    }

    fn ack(&mut self, _: MessageId) -> Result<(), SpoutError> {
        self.acked = self.acked.map(|n| n + 1);
        Ok(())
    }

    /// The pass has ended when the last piece is acknowledged.
    fn cleanup(&mut self) {
        let now = now_ns();
        self.tally.note(|t| {
            if let Some(acked) = self.acked {
                t.acked = Some(t.acked.unwrap_or(0) + acked);
                t.note_span(now, now);
            }
        });
    }
}

struct Split;

impl Bolt for Split {
    type In = Piece;
    type Out = Stream<Word>;

    #[inline]
    fn execute(&mut self, piece: Input<'_, Piece>, out: &mut Stream<Word>) -> Result<(), BoltError> {
        for word in piece.text.split_ascii_whitespace() {
            out.emit(WordRef { word });
        }
        Ok(())
    }
}

struct Count {
    counts: AHashMap<String, u64>,
    tally: Tallied,
}

impl Bolt for Count {
    type In = Word;
    type Out = ();

    #[inline]
    fn execute(&mut self, word: Input<'_, Word>, _: &mut ()) -> Result<(), BoltError> {
        match self.counts.get_mut(word.word.as_str()) {
            Some(n) => *n += 1,
            None => {
                self.counts.insert(word.word.as_str().to_owned(), 1);
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        let ended = now_ns();
        let totals = Totals::of(self.counts.iter().map(|(w, n)| (w.as_str(), *n)));
        self.tally.note(|t| {
            t.note_span(ended, ended);
            t.words.get_or_insert_default().add(&totals);
        });
        Ok(Finish::Done)
    }
}

pub(super) fn topology(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, counts, text) = (tally.clone(), tally.clone(), text(job.text_bytes));
    let acked = job.row.unacked().map(|_| 0);
    let pieces = move || Pieces {
        text: text.clone(),
        at: 0,
        end: 0,
        to: 0,
        began_ns: 0,
        emitted: 0,
        acked,
        tally: spouts.clone(),
    };
    let pieces = t.spout("pieces", pieces).tasks(2);
    let words = t.bolt("split", || Split).tasks(2).on(pieces.direct());
    let count = move || Count { counts: AHashMap::new(), tally: counts.clone() };
    let _ = t.bolt("count", count).tasks(2).on(words.fields([Word::WORD]));
    Vec::new()
}

/// Words per second over the whole pass, and the comparison of totals.
pub(super) fn outcome(tally: &Tally, counters: &Counters, text_bytes: u64) -> Result<Outcome, BenchError> {
    let totals = tally.words.ok_or(BenchError::TooShort)?;
    let floor = FLOOR.get_or_init(|| crate::floor::count_words(&text(text_bytes)));
    totals.check(floor)?;
    let (began, ended) = tally.span_ns.filter(|(b, e)| e > b).ok_or(BenchError::TooShort)?;
    let rate = totals.words as f64 / ((ended - began) as f64 / 1e9);
    Ok(Outcome { rate: Some(rate), emitted: tally.emitted, counters: *counters, ..Outcome::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_that_differ_are_refused() {
        let floor = Totals::of([("a", 2), ("squall", 3)].into_iter());
        assert_eq!(floor, Totals { words: 5, distinct: 2, bytes: 20 });
        assert!(floor.check(&floor).is_ok());
        let other = Totals::of([("b", 2), ("squalls", 3)].into_iter());
        assert!(matches!(other.check(&floor), Err(BenchError::Totals { what: "byte", squall: 23, floor: 20 })));
    }
}
