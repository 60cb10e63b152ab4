//! Real workers in one process: threads, rings, sockets; counts must add up exactly.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

mod support;

use squall::prelude::*;
use squall_engine::{IoChoice, WaitStrategy};
use support::{RunStats, run_workers};

#[derive(Tuple, Debug, Clone, PartialEq)]
struct Item {
    key: u64,
    text: String,
}

struct Numbers {
    next: u64,
    end: u64,
    text: String,
}

impl Spout for Numbers {
    type Out = Stream<Item>;

    fn next(&mut self, out: &mut Stream<Item>) -> Result<Next, SpoutError> {
        if self.next == self.end {
            return Ok(Next::End);
        }
        out.emit(ItemRef { key: self.next, text: &self.text });
        self.next += 1;
        Ok(Next::Emitted)
    }
}

struct Double;

impl Bolt for Double {
    type In = Item;
    type Out = Stream<Item>;

    fn execute(&mut self, i: Input<'_, Item>, out: &mut Stream<Item>) -> Result<(), BoltError> {
        out.emit(i.view());
        out.emit(i.view());
        Ok(())
    }
}

#[derive(Default)]
struct Sum {
    sum: u64,
    bytes: u64,
    results: Option<squall::Results>,
}

impl Bolt for Sum {
    type In = Item;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.results = Some(ctx.results());
        Ok(())
    }

    fn execute(&mut self, i: Input<'_, Item>, _: &mut ()) -> Result<(), BoltError> {
        self.sum += i.key.to_native();
        self.bytes += i.text.len() as u64;
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        let row = [self.sum.to_le_bytes(), self.bytes.to_le_bytes()].concat();
        let pushed = self.results.as_ref().unwrap().try_push("sum", row);
        Ok(if pushed.is_ok() { Finish::Done } else { Finish::More })
    }
}

struct Totals {
    sum: u64,
    bytes: u64,
    stats: RunStats,
}

fn run(t: Topology, cores: usize, io: IoChoice) -> Totals {
    let stats = run_workers(t, cores, io, WaitStrategy::Hybrid);
    let word = |row: &Vec<u8>, at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap());
    Totals {
        sum: stats.results.iter().map(|row| word(row, 0)).sum(),
        bytes: stats.results.iter().map(|row| word(row, 8)).sum(),
        stats,
    }
}

fn topology(workers: u32, reactors: u32, each: u64, text: &str, tasks: u32) -> Topology {
    let t = Topology::new("numbers");
    t.configure(|c| {
        c.workers = workers;
        c.reactors = Some(reactors);
    });
    let text = text.to_owned();
    let numbers = t.spout("numbers", move || Numbers { next: 0, end: each, text: text.clone() }).tasks(tasks).streams();
    let doubled = t.bolt("double", || Double).tasks(tasks).on(numbers.shuffle()).streams();
    t.bolt("sum", Sum::default).tasks(tasks).on(doubled.fields([Item::KEY]));
    t
}

fn check(totals: &Totals, each: u64, tasks: u32, text: usize) {
    let emitted = each * u64::from(tasks);
    let components = &totals.stats.components;
    assert_eq!(components["numbers"].emitted, emitted);
    assert_eq!(components["double"].executed, emitted);
    assert_eq!(components["double"].emitted, emitted * 2);
    assert_eq!(components["sum"].executed, emitted * 2);
    assert_eq!(components["sum"].acked, emitted * 2);
    assert_eq!(totals.sum, each * (each - 1) / 2 * 2 * u64::from(tasks));
    assert_eq!(totals.bytes, emitted * 2 * text as u64);
}

#[test]
fn one_reactor_counts_every_tuple() {
    check(&run(topology(1, 1, 100_000, "x", 2), 1, IoChoice::Auto), 100_000, 2, 1);
}

#[test]
fn rings_between_reactors_lose_and_double_nothing() {
    check(&run(topology(1, 3, 100_000, "a word", 3), 3, IoChoice::Auto), 100_000, 3, 6);
}

#[test]
fn sockets_between_workers_lose_and_double_nothing_on_either_driver() {
    for io in [IoChoice::Auto, IoChoice::Epoll] {
        let totals = run(topology(2, 2, 50_000, "some longer text, out of line", 4), 4, io);
        check(&totals, 50_000, 4, 29);
        if io == IoChoice::Epoll {
            assert_eq!(totals.stats.io, "epoll");
        }
    }
}

#[test]
fn tuples_larger_than_a_batch_and_a_ring_travel_alone() {
    let big = "y".repeat(1_500_000);
    check(&run(topology(1, 2, 20, &big, 2), 2, IoChoice::Auto), 20, 2, big.len());
    check(&run(topology(2, 1, 20, &big, 2), 2, IoChoice::Auto), 20, 2, big.len());
}

#[test]
fn a_component_on_a_side_thread_takes_part_like_any_other() {
    let t = Topology::new("side");
    t.configure(|c| c.workers = 2);
    let text = "s".to_owned();
    let numbers = t
        .spout("numbers", move || Numbers { next: 0, end: 20_000, text: text.clone() })
        .tasks(2)
        .side_thread()
        .streams();
    let doubled = t.bolt("double", || Double).tasks(2).on(numbers.shuffle()).streams();
    t.bolt("sum", Sum::default).tasks(2).side_thread().on(doubled.fields([Item::KEY]));
    check(&run(t, 2, IoChoice::Auto), 20_000, 2, 1);
}
