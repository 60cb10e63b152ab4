//! What is disturbed: sentences → split → count, tracked from end to end.
//!
//! The spout reads a file again and again at a fixed rate, an input per line, keeps what is pending and emits again what fails; after its own death it
//! begins at the first input that was not acked with all before it. The sink acks in groups, as one does that writes to a disk: so something is always
//! under way.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use squall::prelude::*;
use squall::{Clock, Time};

use crate::{Note, Record, WORDS_PER_INPUT};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Folder of the record; the file `lines` in it is the input
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Inputs at most
    #[arg(long)]
    pub(crate) inputs: u64,
    /// Inputs a second
    #[arg(long, default_value_t = 25_000)]
    pub(crate) rate: u64,
    /// Milliseconds between two groups of acks of the sink
    #[arg(long, default_value_t = 5)]
    pub(crate) group_ms: u64,
}

/// The program that is disturbed, with the command line of every topology program.
pub fn run_main() -> std::process::ExitCode {
    squall::App::new("chaos", topology).version(env!("CARGO_PKG_VERSION")).main()
}

#[derive(Tuple)]
pub(crate) struct Sentence {
    input: u64,
    /// Which emission of the spout, of which of its lives.
    number: u64,
    life: u64,
    text: String,
}

#[derive(Tuple)]
pub(crate) struct Word {
    word: String,
    input: u64,
    place: u64,
    number: u64,
    life: u64,
    /// The life of the bolt that split it.
    split: u64,
}

struct Pending {
    emitted_ns: u64,
    again: bool,
}

struct Sentences {
    options: Options,
    run: Option<Run>,
}

/// What a spout has once it is prepared.
struct Run {
    record: Record,
    lines: Vec<String>,
    clock: Clock,
    life: u64,
    number: u64,
    next: u64,
    retry: VecDeque<u64>,
    pending: HashMap<u64, Pending>,
    /// From the first input that is not acked: whether each is.
    acked: VecDeque<bool>,
    acked_below: u64,
}

impl Sentences {
    fn new(options: Options) -> Sentences {
        Sentences { options, run: None }
    }
}

fn broken(error: std::io::Error) -> SpoutError {
    SpoutError::from(std::io::Error::other(format!("the record or the input cannot be read: {error}")))
}

impl Run {
    fn emit(&mut self, input: u64, again: bool, now: Time, out: &mut Stream<Sentence>) {
        self.record.emitted(input);
        if input >= self.record.note(Note::Emitted) {
            self.record.set(Note::Emitted, input + 1);
        }
        self.number += 1;
        self.pending.insert(input, Pending { emitted_ns: now.as_nanos(), again });
        let text = &self.lines[(input % self.lines.len() as u64) as usize];
        out.emit_with_id(input, SentenceRef { input, number: self.number, life: self.life, text });
    }

    /// The offset store: what is below was acked as a whole.
    fn advance(&mut self, input: u64) {
        let at = (input - self.acked_below) as usize;
        if self.acked.len() <= at {
            self.acked.resize(at + 1, false);
        }
        self.acked[at] = true;
        while self.acked.front() == Some(&true) {
            self.acked.pop_front();
            self.acked_below += 1;
        }
        self.record.set(Note::AckedBelow, self.acked_below);
    }
}

impl Spout for Sentences {
    type Out = Stream<Sentence>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let record = Record::open(&self.options.dir, self.options.inputs).map_err(broken)?;
        let text = std::fs::read_to_string(self.options.dir.join("lines")).map_err(broken)?;
        let clock = ctx.clock();
        let life = clock.now().as_nanos();
        let acked_below = record.note(Note::AckedBelow);
        self.run = Some(Run {
            lines: text.lines().map(str::to_owned).collect(),
            clock,
            life,
            number: 0,
            next: acked_below,
            retry: VecDeque::new(),
            pending: HashMap::new(),
            acked: VecDeque::new(),
            acked_below,
            record,
        });
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Sentence>) -> Result<Next, SpoutError> {
        let run = self.run.as_mut().expect("it was prepared");
        let now = run.clock.now();
        if run.record.note(Note::BeganNs) == 0 {
            run.record.set(Note::BeganNs, now.as_nanos());
        }
        if let Some(input) = run.retry.pop_front() {
            run.emit(input, true, now, out);
            return Ok(Next::Emitted);
        }
        // What its last life had emitted beyond what was acked.
        if run.next < run.record.note(Note::Emitted) {
            run.next += 1;
            run.emit(run.next - 1, true, now, out);
            return Ok(Next::Emitted);
        }
        if run.next == self.options.inputs || run.record.note(Note::Stop) != 0 {
            return Ok(if run.pending.is_empty() { Next::End } else { Next::Parked });
        }
        let due_ns = run.record.note(Note::BeganNs) + run.next * 1_000_000_000 / self.options.rate;
        if now.as_nanos() < due_ns {
            return Ok(Next::WakeAt(now + Duration::from_nanos((due_ns - now.as_nanos()).max(200_000))));
        }
        run.next += 1;
        run.emit(run.next - 1, false, now, out);
        Ok(Next::Emitted)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        let run = self.run.as_mut().expect("it was prepared");
        let input = id.as_u64();
        let Some(pending) = run.pending.remove(&input) else {
            run.record.count(Note::Strange);
            return Ok(());
        };
        run.record.acked(input);
        run.advance(input);
        let fault_ns = run.record.note(Note::FaultNs);
        if fault_ns != 0 && pending.emitted_ns >= fault_ns {
            let note = if pending.again { Note::ReplayAckedNs } else { Note::FreshAckedNs };
            if run.record.note(note) == 0 {
                run.record.set(note, run.clock.now().as_nanos());
            }
        }
        Ok(())
    }

    fn fail(&mut self, id: MessageId, _: Failure<'_>) -> Result<(), SpoutError> {
        let run = self.run.as_mut().expect("it was prepared");
        let input = id.as_u64();
        if run.pending.remove(&input).is_none() {
            run.record.count(Note::Strange);
            return Ok(());
        }
        run.record.failed(input);
        run.retry.push_back(input);
        Ok(())
    }

    fn reliable() -> bool {
        true
    }
}

struct Split {
    options: Options,
    record: Option<Record>,
    clock: Option<Clock>,
    life: u64,
    worker: u64,
    /// It took the place of one that panicked, and has not executed anything.
    fresh: bool,
}

impl Bolt for Split {
    type In = Sentence;
    type Out = Stream<Word>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        let record = Record::open(&self.options.dir, self.options.inputs);
        self.record = Some(record.map_err(|e| BoltError::fatal(e.to_string()))?);
        self.life = ctx.clock().now().as_nanos();
        self.clock = Some(ctx.clock());
        self.worker = u64::from(ctx.worker());
        self.fresh = ctx.restarts() > 0;
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Sentence>, out: &mut Stream<Word>) -> Result<(), BoltError> {
        let record = self.record.as_ref().expect("it was prepared");
        let now_ns = || self.clock.as_ref().expect("it was prepared").now().as_nanos();
        if record.note(Note::Panic) == self.worker + 1 {
            record.set(Note::Panic, 0);
            record.set(Note::BrokeNs, now_ns());
            panic!("as it was asked to");
        }
        let (number, life) = (input.number.to_native(), input.life.to_native());
        for (place, word) in (0..).zip(input.text.split(' ')) {
            let (input, split) = (input.input.to_native(), self.life);
            out.emit(WordRef { word, input, place, number, life, split });
        }
        if std::mem::take(&mut self.fresh) {
            record.set(Note::BackNs, self.clock.as_ref().expect("it was prepared").now().as_nanos());
        }
        Ok(())
    }
}

struct Count {
    options: Options,
    record: Option<Record>,
    words: HashMap<String, u64>,
    /// By life of the spout and of the bolt before: the last word that came.
    last: HashMap<(u64, u64), u64>,
    group: Vec<Anchor>,
}

impl Bolt for Count {
    type In = Word;
    type Out = ();

    fn prepare(&mut self, _: &Context) -> Result<(), BoltError> {
        let record = Record::open(&self.options.dir, self.options.inputs);
        self.record = Some(record.map_err(|e| BoltError::fatal(e.to_string()))?);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Word>, (): &mut ()) -> Result<(), BoltError> {
        let record = self.record.as_ref().expect("it was prepared");
        let (word, anchor) = input.keep();
        let came = word.number * WORDS_PER_INPUT + word.place;
        // D1: one way from one life of the spout over one life of the splitting bolt to here.
        let last = self.last.entry((word.life, word.split)).or_default();
        if came <= *last {
            record.count(Note::Disorder);
        }
        *last = came;
        record.executed(word.input, word.place);
        *self.words.entry(word.word).or_default() += 1;
        self.group.push(anchor);
        Ok(())
    }

    fn tick(&mut self, (): &mut ()) -> Result<(), BoltError> {
        self.group.drain(..).for_each(Anchor::ack);
        Ok(())
    }

    fn finish(&mut self, (): &mut ()) -> Result<squall::Finish, BoltError> {
        self.group.drain(..).for_each(Anchor::ack);
        Ok(squall::Finish::Done)
    }
}

pub(crate) fn topology(t: &mut Topology, options: &Options) {
    t.configure(|c| {
        c.workers = 2;
        c.message_timeout_ms = 5_000;
    });
    let [a, b, c] = std::array::from_fn(|_| options.clone());
    let sentences = t.spout("sentences", move || Sentences::new(a.clone())).streams();
    let split = move || Split { options: b.clone(), record: None, clock: None, life: 0, worker: 0, fresh: false };
    let words = t.bolt("split", split).tasks(2).on(sentences.shuffle()).streams();
    let count = move || Count {
        options: c.clone(),
        record: None,
        words: HashMap::new(),
        last: HashMap::new(),
        group: Vec::new(),
    };
    t.bolt("count", count).tasks(2).tick_every(Duration::from_millis(options.group_ms)).on(words.fields([Word::WORD]));
}
