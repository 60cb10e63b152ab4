//! Acking between real workers in one process: every id is acknowledged or failed once, over rings, shared memory and
//! sockets, and acks cost fewer records than tuples.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

#[path = "support/feed.rs"]
mod feed;
#[path = "support/storm.rs"]
mod storm;
mod support;

use std::time::{Duration, Instant};

use feed::{Feeder, PLACEMENTS, place};
use squall::prelude::*;
use squall_engine::{IoChoice, WaitStrategy, Worker, WorkerEvent};
use squall_topology::ShmUse;
use support::{RunStats, run_to_end, run_workers, start_workers};

#[derive(Tuple, Debug, Clone, PartialEq)]
struct Word {
    id: u64,
    key: u64,
}

const ROOTS: u64 = 20_000;
const WORDS: u64 = 8;

/// Emits its share of ids, waits for what becomes of each, and emits those that failed again.
struct Sentences {
    share: std::ops::Range<u64>,
    again: Vec<u64>,
    done: Vec<bool>,
    open: u64,
}

impl Sentences {
    fn new() -> Self {
        Sentences { share: 0..0, again: Vec::new(), done: vec![false; ROOTS as usize], open: 0 }
    }
}

impl Spout for Sentences {
    type Out = Stream<Word>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let (at, of) = (u64::from(ctx.task_index()), u64::from(ctx.task_count()));
        self.share = ROOTS * at / of..ROOTS * (at + 1) / of;
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Word>) -> Result<Next, SpoutError> {
        let Some(id) = self.again.pop().or_else(|| self.share.next()) else {
            return Ok(if self.open == 0 { Next::End } else { Next::Parked });
        };
        self.open += 1;
        out.emit_with_id(id, Word { id, key: id });
        Ok(Next::Emitted)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.open -= 1;
        let done = &mut self.done[id.as_u64() as usize];
        assert!(!std::mem::replace(done, true), "{id:?} was acknowledged twice");
        Ok(())
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        assert_eq!(why.to_string(), "failed by count");
        assert!(!self.done[id.as_u64() as usize]);
        self.open -= 1;
        self.again.push(id.as_u64());
        Ok(())
    }
}

struct Split;

impl Bolt for Split {
    type In = Word;
    type Out = Stream<Word>;

    fn execute(&mut self, w: Input<'_, Word>, out: &mut Stream<Word>) -> Result<(), BoltError> {
        let id = w.id.to_native();
        (0..WORDS).for_each(|n| out.emit(Word { id, key: id.wrapping_mul(31) + n }));
        Ok(())
    }
}

/// Fails the first word of every hundredth id, the first time.
#[derive(Default)]
struct Count {
    failed: std::collections::HashSet<u64>,
}

impl Bolt for Count {
    type In = Word;
    type Out = ();

    fn execute(&mut self, w: Input<'_, Word>, _: &mut ()) -> Result<(), BoltError> {
        let (id, key) = (w.id.to_native(), w.key.to_native());
        if id.is_multiple_of(100) && key == id.wrapping_mul(31) && self.failed.insert(id) {
            return Err(BoltError::fail("the first time"));
        }
        Ok(())
    }
}

fn sentences(workers: u32, reactors: u32, shm: ShmUse, pending: Option<u32>) -> Topology {
    let t = Topology::new("sentences");
    t.configure(|c| {
        (c.workers, c.reactors, c.shm) = (workers, Some(reactors), shm);
        c.max_spout_pending = pending;
    });
    let spout = t.spout("sentences", Sentences::new).tasks(2);
    let split = t.bolt("split", || Split).tasks(2).on(spout.shuffle());
    t.bolt("count", Count::default).tasks(3).on(split.fields([Word::KEY]));
    t
}

fn check(stats: &RunStats) {
    let again = ROOTS / 100;
    assert_eq!(stats.emitted("sentences"), ROOTS + again);
    assert_eq!(stats.executed("count"), (ROOTS + again) * WORDS);
    let spout = &stats.components["sentences"];
    assert_eq!((spout.acked, spout.failed), (ROOTS, again));
    assert_eq!(stats.components["count"].failed, again);
}

#[test]
fn every_id_is_acked_once_over_rings() {
    let stats = run_workers(sentences(1, 2, ShmUse::Auto, None), 2, IoChoice::Auto, WaitStrategy::Hybrid);
    check(&stats);
    assert!(stats.links.acks > 0 && stats.links.ack_batches <= stats.links.acks, "{:?}", stats.links);
}

#[test]
fn every_id_is_acked_once_over_shared_memory() {
    check(&run_workers(sentences(2, 1, ShmUse::Auto, Some(100)), 2, IoChoice::Auto, WaitStrategy::Hybrid));
}

#[test]
fn every_id_is_acked_once_over_sockets() {
    check(&run_workers(sentences(2, 2, ShmUse::Off, None), 2, IoChoice::Auto, WaitStrategy::Park));
}

#[test]
fn every_id_is_acked_once_without_io_uring() {
    check(&run_workers(sentences(3, 1, ShmUse::Off, Some(1000)), 2, IoChoice::Epoll, WaitStrategy::Hybrid));
}

/// Real workers whose spouts are fed by hand.
struct Live(Vec<Worker>);

impl Live {
    fn start(t: Topology) -> Live {
        let workers = start_workers(t, 2, IoChoice::Auto, WaitStrategy::Hybrid);
        workers.iter().for_each(Worker::begin);
        Live(workers)
    }

    /// Waits until it is so.
    fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is() {
            for worker in &self.0 {
                if let Some(WorkerEvent::Failed(cause)) = worker.next_event(Duration::from_millis(1)) {
                    panic!("{cause}");
                }
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{what} has not come within a minute");
        }
    }

    fn end(self, feeders: &[Feeder]) -> RunStats {
        feeders.iter().for_each(Feeder::end);
        run_to_end(self.0)
    }
}

#[test]
fn storms_acking_scenario_has_its_counts_between_real_workers() {
    for placement in PLACEMENTS {
        let t = Topology::new("acking");
        place(&t, placement);
        let feeders = storm::acking(&t);
        let live = Live::start(t);
        for (spout, acked) in storm::ACKING_STEPS {
            feeders[spout].feed(7, 1);
            let mut got = [0; 3];
            live.until("the acks of a step", || {
                got = std::array::from_fn(|i| got[i] + feeders[i].acks().len());
                got.iter().zip(acked).all(|(got, wanted)| *got >= wanted)
            });
            assert_eq!(got, acked, "in placement {placement:?}");
        }
        let stats = live.end(&feeders);
        assert!(feeders.iter().all(|f| f.fails().is_empty() && f.acks().is_empty()));
        assert_eq!(["1", "2", "3"].map(|s| stats.components[s].acked), [3, 2, 1]);
    }
}

#[test]
fn storms_diamond_and_self_anchor_have_their_counts_between_real_workers() {
    for placement in PLACEMENTS {
        for (build, ids) in [(storm::diamond as fn(&Topology) -> Feeder, 2), (storm::self_anchor, 4)] {
            let t = Topology::new("scenario");
            place(&t, placement);
            let feeder = build(&t);
            let live = Live::start(t);
            (1..=ids).for_each(|id| feeder.feed(id, 1));
            let mut acks = Vec::new();
            live.until("all acks", || {
                acks.extend(feeder.acks());
                acks.len() as u64 == ids
            });
            live.end(std::slice::from_ref(&feeder));
            acks.sort_unstable();
            assert_eq!((acks, feeder.fails()), ((1..=ids).collect(), vec![]), "in placement {placement:?}");
        }
    }
}

#[test]
fn storms_hooks_see_the_same_between_real_workers() {
    for placement in PLACEMENTS {
        let t = Topology::new("hooks");
        place(&t, placement);
        let run = storm::hooks(&t);
        let live = Live::start(t);
        let mut told = (Vec::new(), Vec::new());
        for id in 1..=4 {
            run.feeder.feed(id, 1);
            live.until("the end of a root", || {
                told.0.extend(run.feeder.acks());
                told.1.extend(run.feeder.fails());
                told.0.len() + told.1.len() == id as usize
            });
        }
        live.end(std::slice::from_ref(&run.feeder));
        storm::check_hooks(&run);
        assert_eq!(told.0, [1, 3]);
        assert_eq!(told.1, [(2, "failed by 2".to_owned()), (4, "failed by 2".to_owned())]);
    }
}

#[test]
fn a_tuple_that_nobody_ends_times_out_between_real_workers() {
    for placement in PLACEMENTS {
        let t = Topology::new("timeout");
        place(&t, placement);
        t.configure(|c| c.message_timeout_ms = 100);
        let feeder = Feeder::default();
        let f = feeder.clone();
        let spout = t.spout("1", move || f.spout());
        t.bolt("2", storm::AckEveryOther::default).on(spout.global());
        let live = Live::start(t);
        (1..=3).for_each(|id| feeder.feed(id, id));
        let (mut acks, mut fails) = (Vec::new(), Vec::new());
        live.until("the timeout", || {
            acks.extend(feeder.acks());
            fails.extend(feeder.fails());
            acks.len() + fails.len() == 3
        });
        assert_eq!((acks, fails), (vec![1, 3], vec![(2, "timed out".to_owned())]), "in placement {placement:?}");
        live.end(&[feeder]);
    }
}

/// Keeps two tuples, and lets the clock of the first begin anew at each tick, until a third comes.
#[derive(Default)]
struct Patient(Vec<Anchor>);

impl Bolt for Patient {
    type In = feed::Num;
    type Out = ();

    fn execute(&mut self, input: Input<'_, feed::Num>, _: &mut ()) -> Result<(), BoltError> {
        if self.0.len() < 2 {
            self.0.push(input.keep().1);
        } else {
            self.0.drain(..).next().expect("kept").ack();
        }
        Ok(())
    }

    fn tick(&mut self, _: &mut ()) -> Result<(), BoltError> {
        self.0.first().iter().for_each(|anchor| anchor.reset_timeout());
        Ok(())
    }
}

#[test]
fn a_reset_timeout_keeps_a_tuple_pending_between_real_workers() {
    let t = Topology::new("reset");
    place(&t, (2, 1));
    t.configure(|c| c.message_timeout_ms = 1500);
    let feeder = Feeder::default();
    let f = feeder.clone();
    let spout = t.spout("1", move || f.spout());
    t.bolt("2", Patient::default).tick_every(Duration::from_millis(20)).on(spout.global());
    let live = Live::start(t);
    feeder.feed(1, 1);
    feeder.feed(2, 2);
    let mut fails = Vec::new();
    live.until("the timeout of the second", || {
        fails.extend(feeder.fails());
        !fails.is_empty()
    });
    feeder.feed(3, 3);
    let mut acks = Vec::new();
    live.until("two acks", || {
        acks.extend(feeder.acks());
        acks.len() == 2
    });
    acks.sort_unstable();
    fails.extend(feeder.fails());
    assert_eq!((acks, fails), (vec![1, 3], vec![(2, "timed out".to_owned())]));
    live.end(&[feeder]);
}
