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

struct Numbers {
    next: u64,
    pending: usize,
    failures_max: u32,
    replay: Option<Replay<u64>>,
    noted: Arc<Noted>,
}

impl Spout for Numbers {
    type Out = Stream<Number>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let limits =
            ReplayLimits { bytes_max: PAYLOAD_BYTES * FIT, failures_max: self.failures_max, ..ReplayLimits::default() };
        self.replay = Some(Replay::new(ctx, limits));
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Number>) -> Result<Next, SpoutError> {
        let replay = self.replay.as_mut().expect("prepared");
        if let Some((id, n)) = replay.take_due() {
            out.emit_with_id(id, Number { n: *n });
        } else if self.next < NUMBERS && replay.has_room() {
            let id = replay.push(self.next, PAYLOAD_BYTES, ());
            out.emit_with_id(id, Number { n: self.next });
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

fn run(failures_max: u32, failures: fn(u64) -> u32) -> (Arc<Noted>, squall::testing::Outcome) {
    let noted = Arc::new(Noted::default());
    let t = Topology::new("full");
    let its = noted.clone();
    let spout = move || Numbers { next: 0, pending: 0, failures_max, replay: None, noted: its.clone() };
    let numbers = t.spout("numbers", spout).streams();
    let picky = move || Picky { failures, seen: HashMap::new(), kept: Vec::new() };
    t.bolt("picky", picky).tick_every(Duration::from_millis(1)).on(numbers.shuffle());
    let outcome = squall::testing::run(t).expect("it ends");
    (noted, outcome)
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
