//! Word count at a fixed rate: sentences of eight words are due at even times, whatever became of those before (open loop),
//! and each is timed from when it was due.

use std::time::Duration;

use ahash::AHashMap;
use squall::{
    Bolt, BoltError, Clock, Context, Finish, Input, MessageId, Next, Spout, SpoutError, Stream, Time, Topology, Tuple,
};
use squall_metrics::Histogram;

use super::{Job, Place, SENTENCE_WORDS, Tallied};
use crate::clock::now_ns;

/// Time from one sentence to the next: 50,000 a second.
const PERIOD_NS: u64 = 20_000;
/// Different sentences, in turn.
const SENTENCES: u64 = 1000;
/// Different words.
const WORDS: u64 = 5000;

#[derive(Tuple)]
struct Sentence {
    due_ns: u64,
    text: String,
}

#[derive(Tuple)]
struct Word {
    due_ns: u64,
    word: String,
}

/// Latencies of what was due after the warm-up.
struct Latency {
    histogram: Histogram,
    warmup_ns: u64,
    measure_from_ns: u64,
}

impl Latency {
    fn new(warmup_ns: u64) -> Self {
        Latency { histogram: Histogram::new(), warmup_ns, measure_from_ns: 0 }
    }

    fn record(&mut self, due_ns: u64) {
        if self.measure_from_ns == 0 {
            self.measure_from_ns = due_ns + self.warmup_ns;
        }
        if due_ns >= self.measure_from_ns {
            self.histogram.record(now_ns().saturating_sub(due_ns));
        }
    }

    fn note(&self, tally: &Tallied) {
        if !self.histogram.is_empty() {
            tally.note(|t| t.latency.get_or_insert_with(Histogram::new).merge(&self.histogram));
        }
    }
}

struct Sentences {
    texts: Vec<String>,
    acked_of: bool,
    clock: Option<Clock>,
    due: Option<Time>,
    emitted: u64,
    acked: u64,
    latency: Latency,
    tally: Tallied,
}

impl Spout for Sentences {
    type Out = Stream<Sentence>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.clock = Some(ctx.clock());
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Sentence>) -> Result<Next, SpoutError> {
        let Some(clock) = &self.clock else { return Ok(Next::End) };
        let now = clock.now();
        let due = self.due.unwrap_or(now);
        if now < due {
            return Ok(Next::WakeAt(due));
        }
        self.due = Some(due + Duration::from_nanos(PERIOD_NS));
        let text = &self.texts[(self.emitted % SENTENCES) as usize];
        self.emitted += 1;
        let sentence = SentenceRef { due_ns: due.as_nanos(), text };
        if self.acked_of {
            out.emit_with_id((self.emitted, due.as_nanos()), sentence);
        } else {
            out.emit(sentence);
        }
        Ok(Next::Emitted)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.acked += 1;
        self.latency.record(id.as_pair().1);
        Ok(())
    }

    fn cleanup(&mut self) {
        self.latency.note(&self.tally);
        self.tally.note(|t| {
            t.emitted += self.emitted;
            t.acked = self.acked_of.then_some(self.acked);
        });
    }
}

struct Split;

impl Bolt for Split {
    type In = Sentence;
    type Out = Stream<Word>;

    fn execute(&mut self, sentence: Input<'_, Sentence>, out: &mut Stream<Word>) -> Result<(), BoltError> {
        let due_ns = sentence.due_ns.to_native();
        for word in sentence.text.split(' ') {
            out.emit(WordRef { due_ns, word });
        }
        Ok(())
    }
}

struct Count {
    counts: AHashMap<String, u64>,
    /// Where the spout is not told.
    latency: Option<Latency>,
    tally: Tallied,
}

impl Bolt for Count {
    type In = Word;
    type Out = ();

    fn execute(&mut self, word: Input<'_, Word>, _: &mut ()) -> Result<(), BoltError> {
        match self.counts.get_mut(word.word.as_str()) {
            Some(n) => *n += 1,
            None => {
                self.counts.insert(word.word.as_str().to_owned(), 1);
            }
        }
        if let Some(latency) = &mut self.latency {
            latency.record(word.due_ns.to_native());
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        if let Some(latency) = &self.latency {
            latency.note(&self.tally);
        }
        self.tally.note(|t| t.executed += self.counts.values().sum::<u64>());
        Ok(Finish::Done)
    }
}

/// Sentence `n`: words of four to six letters, by a fixed mix.
fn text(n: u64) -> String {
    let word = |i: u64| format!("w{:03x}", (n * SENTENCE_WORDS + i).wrapping_mul(0x9E37_79B9_7F4A_7C15) % WORDS);
    (0..SENTENCE_WORDS).map(word).collect::<Vec<_>>().join(" ")
}

pub(super) fn topology(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, counts, warmup_ns, acked_of) = (tally.clone(), tally.clone(), job.warmup_ns, !job.unacked);
    let sentences = move || Sentences {
        texts: (0..SENTENCES).map(text).collect(),
        acked_of,
        clock: None,
        due: None,
        emitted: 0,
        acked: 0,
        latency: Latency::new(warmup_ns),
        tally: spouts.clone(),
    };
    let sentences = t.spout("sentences", sentences);
    let words = t.bolt("split", || Split).tasks(2).on(sentences.shuffle());
    let count = move || Count {
        counts: AHashMap::new(),
        latency: (!acked_of).then(|| Latency::new(warmup_ns)),
        tally: counts.clone(),
    };
    let _ = t.bolt("count", count).tasks(2).on(words.fields([Word::WORD]));
    vec![("sentences", 0)]
}
