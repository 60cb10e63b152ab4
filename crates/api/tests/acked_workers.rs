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

use feed::{Feeder, PLACEMENTS};
use squall::prelude::*;
use squall_engine::{IoChoice, WaitStrategy, Worker, WorkerEvent};
use squall_topology::ShmUse;
use storm::{Scenario, Stage};
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

impl Stage for Live {
    // Real time: between a step and what would spoil it lies nearly half of this.
    const TIMEOUT: Duration = Duration::from_secs(3);
    const ALMOST: Duration = Duration::from_millis(1500);

    fn start(t: Topology) -> Live {
        let workers = start_workers(t, 2, IoChoice::Auto, WaitStrategy::Hybrid);
        workers.iter().for_each(Worker::begin);
        Live(workers)
    }

    fn until(&mut self, done: &mut dyn FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            for worker in &self.0 {
                if let Some(WorkerEvent::Failed(cause)) = worker.next_event(Duration::from_millis(1)) {
                    panic!("{cause}");
                }
            }
            assert!(began.elapsed() < Duration::from_secs(60), "what was to be heard has not come within a minute");
        }
    }

    fn pass(&mut self, by: Duration) {
        std::thread::sleep(by);
    }

    fn end(self, feeders: &[Feeder]) {
        feeders.iter().for_each(Feeder::end);
        run_to_end(self.0);
    }
}

/// Plays one of Storm's scenarios on one reactor, on three, and between two workers over shared memory and over sockets.
fn play(name: &str) {
    let scenario = Scenario::named(name);
    PLACEMENTS.iter().for_each(|placement| scenario.play::<Live>(*placement, ShmUse::Auto));
    scenario.play::<Live>((2, 2), ShmUse::Off);
}

#[test]
fn every_scenario_of_the_table_is_played_by_real_workers() {
    let here = include_str!("acked_workers.rs");
    for scenario in &storm::SCENARIOS {
        assert!(here.contains(&format!("play(\"{}\");", scenario.name)), "{} is left out", scenario.name);
    }
}

// A test for each, so that those that wait for a timeout wait beside each other.

#[test]
fn storms_acking_has_its_counts_between_real_workers() {
    play("testAcking");
}

#[test]
fn storms_diamond_has_its_counts_between_real_workers() {
    play("testAckBranching");
}

#[test]
fn storms_self_anchor_has_its_counts_between_real_workers() {
    play("testAckingSelfAnchor");
}

#[test]
fn storms_timeout_has_its_counts_between_real_workers() {
    play("testTimeout");
}

#[test]
fn storms_reset_timeout_has_its_counts_between_real_workers() {
    play("testResetTimeout");
}

#[test]
fn storms_hooks_see_the_same_between_real_workers() {
    play("testHooks");
}
