//! What a reliable spout keeps has a bound: where it is reached, the source waits, and nothing is lost. On virtual time.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall::prelude::*;
use squall::{Replay, ReplayLimits};

const NUMBERS: u64 = 100;
/// What each payload is said to take: four fit, whatever their places in the queue take beside it.
const PAYLOAD_BYTES: usize = 10_000;
const FIT: usize = 4;

#[derive(Tuple)]
struct Number {
    n: u64,
}

/// What the spout came to.
#[derive(Default)]
struct Noted {
    pending_max: AtomicUsize,
    waited: AtomicUsize,
    given_up: Mutex<Vec<u64>>,
}

/// A number that was given up, and why.
#[derive(Tuple, Debug, Clone, PartialEq)]
struct Dead {
    n: u64,
    error: String,
}

#[derive(Outputs)]
struct Out {
    numbers: Stream<Number>,
    dead: Stream<Dead>,
}

struct Numbers {
    next: u64,
    pending: usize,
    failures_max: u32,
    letters: bool,
    replay: Option<Replay<u64>>,
    noted: Arc<Noted>,
}

impl Spout for Numbers {
    type Out = Out;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let limits =
            ReplayLimits { bytes_max: PAYLOAD_BYTES * FIT, failures_max: self.failures_max, ..ReplayLimits::default() };
        let replay = Replay::new(ctx, limits);
        self.replay = Some(if self.letters { replay.with_letters(ctx) } else { replay });
        Ok(())
    }

    fn next(&mut self, out: &mut Out) -> Result<Next, SpoutError> {
        let replay = self.replay.as_mut().expect("prepared");
        if let Some((id, n)) = replay.take_due() {
            out.numbers.emit_with_id(id, Number { n: *n });
        } else if let Some((id, n, error)) = replay.take_letter() {
            out.dead.emit_with_id(id, Dead { n: *n, error: error.to_owned() });
        } else if self.next < NUMBERS && replay.has_room() {
            let id = replay.push(self.next, PAYLOAD_BYTES, ());
            out.numbers.emit_with_id(id, Number { n: self.next });
            self.next += 1;
            self.pending += 1;
            self.noted.pending_max.fetch_max(self.pending, Ordering::Relaxed);
        } else {
            self.noted.waited.fetch_add(usize::from(self.next < NUMBERS), Ordering::Relaxed);
            return Ok(replay.rest(self.next == NUMBERS));
        }
        Ok(Next::Emitted)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        let replay = self.replay.as_mut().expect("prepared");
        replay.ack(id);
        self.pending -= 1;
        while replay.next_place().is_some() {}
        Ok(())
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        let replay = self.replay.as_mut().expect("prepared");
        if let Some(n) = replay.fail(id, &why) {
            self.pending -= 1;
            self.noted.given_up.lock().unwrap().push(n);
        }
        while replay.next_place().is_some() {}
        Ok(())
    }

    fn reliable() -> bool {
        true
    }
}

/// Fails each number so often, and keeps the others until its tick: so memory is full most of the time.
struct Picky {
    failures: fn(u64) -> u32,
    seen: HashMap<u64, u32>,
    kept: Vec<Anchor>,
}

impl Bolt for Picky {
    type In = Number;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Number>, (): &mut ()) -> Result<(), BoltError> {
        let n = input.n.to_native();
        let seen = self.seen.entry(n).or_default();
        *seen += 1;
        if *seen <= (self.failures)(n) {
            return Err(BoltError::fail("not yet"));
        }
        self.kept.push(input.keep().1);
        Ok(())
    }

    fn tick(&mut self, (): &mut ()) -> Result<(), BoltError> {
        self.kept.drain(..).for_each(Anchor::ack);
        Ok(())
    }
}

/// Fails each letter so often, and keeps the contents of the others.
struct Morgue {
    failures: fn(u64) -> u32,
    seen: HashMap<u64, u32>,
    dead: Arc<Mutex<Vec<Dead>>>,
}

impl Bolt for Morgue {
    type In = Dead;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Dead>, (): &mut ()) -> Result<(), BoltError> {
        let letter = input.view().to_owned();
        let seen = self.seen.entry(letter.n).or_default();
        *seen += 1;
        if *seen <= (self.failures)(letter.n) {
            return Err(BoltError::fail("no room"));
        }
        self.dead.lock().unwrap().push(letter);
        Ok(())
    }
}

fn run(failures_max: u32, failures: fn(u64) -> u32) -> (Arc<Noted>, squall::testing::Outcome) {
    let (noted, outcome, dead) = run_with(failures_max, failures, None);
    assert_eq!(dead, []);
    (noted, outcome)
}

/// With a bolt that reads dead letters, and fails them as it is said.
fn run_with(
    failures_max: u32,
    failures: fn(u64) -> u32,
    of_letters: Option<fn(u64) -> u32>,
) -> (Arc<Noted>, squall::testing::Outcome, Vec<Dead>) {
    let noted = Arc::new(Noted::default());
    let t = Topology::new("full");
    let its = noted.clone();
    let letters = of_letters.is_some();
    let spout = move || Numbers { next: 0, pending: 0, failures_max, letters, replay: None, noted: its.clone() };
    let OutStreams { numbers, dead } = t.spout("numbers", spout).streams();
    let picky = move || Picky { failures, seen: HashMap::new(), kept: Vec::new() };
    t.bolt("picky", picky).tick_every(Duration::from_millis(1)).on(numbers.shuffle());
    let kept = Arc::new(Mutex::new(Vec::new()));
    if let Some(failures) = of_letters {
        let kept = kept.clone();
        t.bolt("morgue", move || Morgue { failures, seen: HashMap::new(), dead: kept.clone() }).on(dead.global());
    }
    let outcome = squall::testing::run(t).expect("it ends");
    let dead = std::mem::take(&mut *kept.lock().unwrap());
    (noted, outcome, dead)
}

fn counter(outcome: &squall::testing::Outcome, name: &str) -> u64 {
    outcome.counters.get(&("numbers".into(), name.into())).copied().unwrap_or(0)
}

#[test]
fn a_source_whose_memory_is_full_waits_and_loses_nothing() {
    let (noted, outcome) = run(10, |_| 2);
    assert_eq!(noted.pending_max.load(Ordering::Relaxed), FIT, "no more are kept than fit, and as many as do");
    assert!(noted.waited.load(Ordering::Relaxed) > 0, "it never had to wait");
    let spout = &outcome.components["numbers"];
    assert_eq!((spout.acked, spout.failed), (NUMBERS, 2 * NUMBERS));
    assert_eq!(noted.given_up.lock().unwrap().len(), 0);
}

#[test]
fn what_is_given_up_makes_room_and_is_given_back() {
    // Every tenth never works.
    let (noted, outcome) = run(3, |n| if n % 10 == 0 { u32::MAX } else { 0 });
    let mut given_up = noted.given_up.lock().unwrap().clone();
    given_up.sort_unstable();
    assert_eq!(given_up, (0..NUMBERS).step_by(10).collect::<Vec<_>>());
    let spout = &outcome.components["numbers"];
    assert_eq!((spout.acked, spout.failed), (NUMBERS * 9 / 10, 3 * NUMBERS / 10));
    assert_eq!(outcome.counters[&("numbers".into(), "given_up".into())], NUMBERS / 10);
    assert!(noted.pending_max.load(Ordering::Relaxed) <= FIT);
}

/// Every tenth never works.
fn tenths(n: u64) -> u32 {
    if n.is_multiple_of(10) { u32::MAX } else { 0 }
}

#[test]
fn what_would_be_given_up_comes_as_a_letter_with_the_cause_until_the_letter_is_acknowledged() {
    // Each letter fails once itself.
    let (noted, outcome, mut dead) = run_with(3, tenths, Some(|_| 1));
    dead.sort_unstable_by_key(|letter| letter.n);
    let error = "failed by picky, the last of 3 failures".to_owned();
    let wanted: Vec<Dead> = (0..NUMBERS).step_by(10).map(|n| Dead { n, error: error.clone() }).collect();
    assert_eq!(dead, wanted);
    assert_eq!(noted.given_up.lock().unwrap().len(), 0, "nothing is given up");
    assert_eq!(["given_up", "dead_letters", "replayed"].map(|name| counter(&outcome, name)), [0, 10, 20]);
    let spout = &outcome.components["numbers"];
    // Ten fail three times, and their letters once.
    assert_eq!((spout.acked, spout.failed), (NUMBERS, 3 * 10 + 10));
    assert!(noted.pending_max.load(Ordering::Relaxed) <= FIT, "letters take room, too");
}

#[test]
fn a_letter_that_fails_as_often_is_given_up_itself() {
    let of_letters: fn(u64) -> u32 = |n| if n == 50 { u32::MAX } else { 0 };
    let (noted, outcome, dead) = run_with(3, tenths, Some(of_letters));
    assert_eq!(*noted.given_up.lock().unwrap(), [50]);
    assert_eq!((dead.len(), dead.iter().any(|letter| letter.n == 50)), (9, false));
    assert_eq!(["given_up", "dead_letters"].map(|name| counter(&outcome, name)), [1, 9]);
    let spout = &outcome.components["numbers"];
    assert_eq!((spout.acked, spout.failed), (NUMBERS - 1, 3 * 10 + 3));
}
