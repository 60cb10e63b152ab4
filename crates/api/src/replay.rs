//! What a reliable spout keeps: the tuples that were not acknowledged, to be emitted again, and the places in its source up to
//! which everything was.
//!
//! A tuple gets a number when it is emitted, which is its message id. When it fails it is due again, at once the first time
//! and then after longer and longer waits; after a number of failures of its own it is given up, so that one bad tuple does not
//! hold a source for ever. The loss of a worker is no failure of the tuple's.
//!
//! With [`Replay::with_letters`] what would be given up is to be emitted as a *dead letter* instead, under the id that it has
//! ([`Replay::take_letter`]). It is done with when the letter is acknowledged, so nothing lies behind its place before; a letter that
//! fails is due again as a tuple is, and given up after as many failures.
//!
//! Invariants: payloads take no more than the limit, else there is no room and the source waits. Places come out in the order
//! in which they went in, each once, when everything before it was acknowledged or given up.
//!
//! ```
//! # extern crate squall_api as squall;
//! use squall::prelude::*;
//! use squall::{Replay, ReplayLimits};
//!
//! #[derive(Tuple)]
//! struct Number { n: u64 }
//!
//! /// The numbers below ten, each until it is acknowledged.
//! struct Numbers { next: u64, replay: Option<Replay<u64>> }
//!
//! impl Spout for Numbers {
//!     type Out = Stream<Number>;
//!     fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
//!         self.replay = Some(Replay::new(ctx, ReplayLimits::default()));
//!         Ok(())
//!     }
//!     fn next(&mut self, out: &mut Stream<Number>) -> Result<Next, SpoutError> {
//!         let replay = self.replay.as_mut().expect("prepared");
//!         if let Some((id, n)) = replay.take_due() {
//!             out.emit_with_id(id, Number { n: *n });
//!         } else if self.next < 10 && replay.has_room() {
//!             let id = replay.push(self.next, size_of::<u64>(), ());
//!             out.emit_with_id(id, Number { n: self.next });
//!             self.next += 1;
//!         } else {
//!             return Ok(replay.rest(self.next == 10));
//!         }
//!         Ok(Next::Emitted)
//!     }
//!     fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
//!         self.replay.as_mut().expect("prepared").ack(id);
//!         Ok(())
//!     }
//!     fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
//!         self.replay.as_mut().expect("prepared").fail(id, &why);
//!         Ok(())
//!     }
//!     fn reliable() -> bool { true }
//! }
//! # let topology = Topology::new("numbers");
//! # topology.spout("numbers", || Numbers { next: 0, replay: None });
//! # squall::testing::run(topology).unwrap();
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use squall_metrics::Counter;

use crate::{Clock, Context, FailKind, Failure, Level, Logger, MessageId, Next, Time};

/// Limits of a [`Replay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayLimits {
    /// Bytes of payloads and their places in the queue; above it nothing new is to be emitted. Default 64 MiB.
    pub bytes_max: usize,
    /// The wait before the second time that a tuple is emitted again; the first comes at once, each later one after twice the
    /// wait. Default 10 ms.
    pub first_wait: Duration,
    /// The longest wait. Default 10 s.
    pub longest_wait: Duration,
    /// A tuple that has failed so often, not counting lost workers, is given up, or becomes a dead letter; 0: never. Default 10.
    pub failures_max: u32,
}

impl Default for ReplayLimits {
    fn default() -> Self {
        ReplayLimits {
            bytes_max: 64 << 20,
            first_wait: Duration::from_millis(10),
            longest_wait: Duration::from_secs(10),
            failures_max: 10,
        }
    }
}

/// How often a spout with something due later looks whether anything has ended meanwhile.
const LOOK_NS: u64 = 5_000_000;

/// See the module. `P`: what a tuple is made from again. `A`: its place in the source.
pub struct Replay<P, A = ()> {
    limits: ReplayLimits,
    /// From number `base` on.
    entries: VecDeque<Entry<P, A>>,
    base: u64,
    /// Those that have not ended.
    open: usize,
    bytes: usize,
    due: Due,
    /// `None`: there are none.
    letters: Option<Letters>,
    clock: Clock,
    logger: Logger,
    replayed: Counter,
    given_up: Counter,
}

/// Numbers that are due, by time.
type Due = BinaryHeap<Reverse<(u64, u64)>>;

/// The dead letters among the entries.
struct Letters {
    due: Due,
    /// By number: why it failed the last time.
    causes: HashMap<u64, Box<str>>,
    acked: Counter,
}

struct Entry<P, A> {
    /// `None`: it has ended.
    payload: Option<P>,
    at: A,
    bytes: usize,
    failures: u32,
}

impl<P, A> Replay<P, A> {
    /// An empty one for this task. Counts `replayed` and `given_up`; a run in which tuples were given up fails.
    ///
    /// # Panics
    /// If `bytes_max` is 0.
    pub fn new(ctx: &Context, limits: ReplayLimits) -> Self {
        assert!(limits.bytes_max > 0, "`bytes_max` is 0; the least is 1");
        Replay {
            limits,
            entries: VecDeque::new(),
            base: 0,
            open: 0,
            bytes: 0,
            due: Due::new(),
            letters: None,
            clock: ctx.clock(),
            logger: ctx.logger(),
            replayed: ctx.counter("replayed"),
            given_up: ctx.counter("given_up"),
        }
    }

    /// What would be given up becomes a dead letter: [`Replay::take_letter`] says when one is to be emitted. Counts those that were
    /// acknowledged as `dead_letters`; only what was given up nevertheless makes a run fail. For streams that somebody reads: an
    /// id without a reader is acknowledged at once.
    pub fn with_letters(self, ctx: &Context) -> Self {
        let acked = ctx.counter("dead_letters");
        Replay { letters: Some(Letters { due: Due::new(), causes: HashMap::new(), acked }), ..self }
    }

    /// Whether something new may be emitted.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.bytes < self.limits.bytes_max
    }

    /// Keeps what is emitted now for the first time, and gives its id. `bytes`: what the payload takes on the heap.
    #[inline]
    pub fn push(&mut self, payload: P, bytes: usize, at: A) -> MessageId {
        let bytes = bytes + size_of::<Entry<P, A>>();
        self.bytes += bytes;
        self.open += 1;
        self.entries.push_back(Entry { payload: Some(payload), at, bytes, failures: 0 });
        MessageId::from(self.base + self.entries.len() as u64 - 1)
    }

    /// What was pushed under this id and has not ended.
    ///
    /// # Panics
    /// If it has ended.
    pub fn payload(&self, id: MessageId) -> &P {
        let entry = &self.entries[(id.as_u64() - self.base) as usize];
        entry.payload.as_ref().expect("it has not ended")
    }

    /// The place that was pushed under this id.
    ///
    /// # Panics
    /// If it was taken ([`Replay::next_place`]).
    pub fn place(&self, id: MessageId) -> &A {
        &self.entries[(id.as_u64() - self.base) as usize].at
    }

    /// It was acknowledged: it is not needed any more.
    #[inline]
    pub fn ack(&mut self, id: MessageId) {
        if let Some(letters) = &mut self.letters
            && letters.causes.contains_key(&id.as_u64())
        {
            letters.acked.inc();
        }
        self.end(id);
    }

    /// It failed: it is due again, as a dead letter where it has failed too often and there are any. Gives it back where it is given
    /// up.
    pub fn fail(&mut self, id: MessageId, why: &Failure<'_>) -> Option<P> {
        let now_ns = self.clock.now().as_nanos();
        let ReplayLimits { failures_max, first_wait, longest_wait, .. } = self.limits;
        let entry = self.entry(id).filter(|e| e.payload.is_some())?;
        let own = why.kind() != FailKind::WorkerLost;
        entry.failures += u32::from(own);
        if own && failures_max > 0 && entry.failures >= failures_max {
            return self.give_up(id, why, now_ns);
        }
        let wait_ns = match entry.failures.checked_sub(2) {
            Some(doublings) if own => {
                let wait = first_wait.as_nanos() << doublings.min(32);
                wait.min(longest_wait.as_nanos()) as u64
            }
            _ => 0,
        };
        let number = id.as_u64();
        let due = match &mut self.letters {
            Some(letters) if letters.causes.contains_key(&number) => &mut letters.due,
            _ => &mut self.due,
        };
        due.push(Reverse((now_ns + wait_ns, number)));
        None
    }

    /// It has failed too often: as a tuple, and then, where there are letters, as one of them.
    #[cold]
    fn give_up(&mut self, id: MessageId, why: &Failure<'_>, now_ns: u64) -> Option<P> {
        let (number, most) = (id.as_u64(), self.limits.failures_max);
        let at = (number - self.base) as usize;
        if let Some(letters) = &mut self.letters
            && !letters.causes.contains_key(&number)
        {
            let text = format_args!("a tuple that failed {most} times, the last time: {why}; it becomes a dead letter");
            self.logger.log(Level::Warn, text);
            let cause = format!("{why}, the last of {most} failures").into_boxed_str();
            let entry = &mut self.entries[at];
            entry.failures = 0;
            entry.bytes += cause.len();
            self.bytes += cause.len();
            letters.causes.insert(number, cause);
            letters.due.push(Reverse((now_ns, number)));
            return None;
        }
        self.given_up.inc();
        let what = if self.letters.is_some() { "dead letter" } else { "tuple" };
        let text = format_args!("gave up a {what} that failed {most} times, the last time: {why}");
        self.logger.log(Level::Error, text);
        self.end(id)
    }

    /// What is to be emitted again now, under the id that it has.
    #[inline]
    pub fn take_due(&mut self) -> Option<(MessageId, &P)> {
        let Reverse((due_ns, number)) = *self.due.peek()?;
        if due_ns > self.clock.now().as_nanos() {
            return None;
        }
        self.due.pop();
        self.replayed.inc();
        let id = MessageId::from(number);
        let entry = &self.entries[(number - self.base) as usize];
        Some((id, entry.payload.as_ref().expect("due ones have not ended")))
    }

    /// What is to be emitted now as a dead letter, with why it failed the last time.
    #[inline]
    pub fn take_letter(&mut self) -> Option<(MessageId, &P, &str)> {
        let letters = self.letters.as_mut()?;
        let Reverse((due_ns, number)) = *letters.due.peek()?;
        if due_ns > self.clock.now().as_nanos() {
            return None;
        }
        letters.due.pop();
        let entry = &self.entries[(number - self.base) as usize];
        let payload = entry.payload.as_ref().expect("due ones have not ended");
        Some((MessageId::from(number), payload, &letters.causes[&number]))
    }

    /// What `next` returns where nothing is emitted: `Parked` until something ends, or the time when something is due; with
    /// `exhausted`, `End` once everything has ended.
    pub fn rest(&self, exhausted: bool) -> Next {
        if exhausted && self.is_empty() {
            return Next::End;
        }
        let letters = self.letters.as_ref().and_then(|letters| letters.due.peek());
        let Some(due_ns) = self.due.peek().into_iter().chain(letters).map(|Reverse((ns, _))| *ns).min() else {
            return Next::Parked;
        };
        let now_ns = self.clock.now().as_nanos();
        Next::WakeAt(Time { ns: due_ns.min(now_ns + LOOK_NS) })
    }

    /// The next place up to which everything has ended, if it was not asked for.
    #[inline]
    pub fn next_place(&mut self) -> Option<A> {
        let entry = self.entries.pop_front_if(|e| e.payload.is_none())?;
        self.base += 1;
        self.bytes -= size_of::<Entry<P, A>>();
        Some(entry.at)
    }

    /// Everything has ended.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    fn entry(&mut self, id: MessageId) -> Option<&mut Entry<P, A>> {
        self.entries.get_mut(usize::try_from(id.as_u64().checked_sub(self.base)?).ok()?)
    }

    fn end(&mut self, id: MessageId) -> Option<P> {
        let entry = self.entry(id)?;
        let payload = entry.payload.take()?;
        let bytes = entry.bytes - size_of::<Entry<P, A>>();
        self.bytes -= bytes;
        self.open -= 1;
        if let Some(letters) = &mut self.letters {
            letters.causes.remove(&id.as_u64());
        }
        Some(payload)
    }
}
