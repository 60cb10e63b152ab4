//! Real workers in one process: threads, rings, sockets; counts must add up exactly.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

mod support;

use squall::prelude::*;
use squall_engine::{IoChoice, WaitStrategy};
use squall_topology::{Plan, ShmUse};
use support::{RunStats, SocketsOf, run_to_end, socket_pairs, start_workers_over, tcp_pairs};

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
    run_over(t, cores, io, socket_pairs)
}

/// As `run`, over these sockets between the workers.
fn run_over(t: Topology, cores: usize, io: IoChoice, sockets: impl Fn(&Plan) -> SocketsOf) -> Totals {
    let stats = run_to_end(start_workers_over(t, cores, io, WaitStrategy::Hybrid, sockets));
    let word = |row: &Vec<u8>, at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap());
    Totals {
        sum: stats.results.iter().map(|row| word(row, 0)).sum(),
        bytes: stats.results.iter().map(|row| word(row, 8)).sum(),
        stats,
    }
}

/// The topology with this use of shared memory.
fn sharing(shm: ShmUse, t: Topology) -> Topology {
    t.configure(|c| c.shm = shm);
    t
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
        let totals = run(sharing(ShmUse::Off, topology(2, 2, 50_000, "some longer text, out of line", 4)), 4, io);
        check(&totals, 50_000, 4, 29);
        assert_eq!((totals.stats.peer_links.shm, totals.stats.peer_links.sockets), (0, 4));
        let (links, moved) =
            (&totals.stats.links, totals.stats.components.values().map(|c| c.moved_bytes).sum::<u64>());
        // A batch is read where the kernel put it, but for what a paused bolt has moved away.
        assert!(links.bytes_in > 50_000 * 29 && (links.copies_receive == 0 || moved > 0), "{links:?}");
        if io == IoChoice::Epoll {
            assert_eq!(totals.stats.io, "epoll");
        }
    }
}

#[test]
fn shared_memory_between_workers_loses_and_doubles_nothing_read_in_place_or_copied() {
    for (shm, io) in [(ShmUse::Auto, IoChoice::Auto), (ShmUse::Auto, IoChoice::Epoll), (ShmUse::Copy, IoChoice::Auto)] {
        let totals = run(sharing(shm, topology(2, 2, 50_000, "some longer text, out of line", 4)), 4, io);
        check(&totals, 50_000, 4, 29);
        assert_eq!((totals.stats.peer_links.shm, totals.stats.peer_links.sockets), (4, 0));
        assert!(totals.stats.warnings.iter().all(|w| !w.contains("shared memory")), "{:?}", totals.stats.warnings);
    }
}

#[test]
fn shared_memory_with_the_smallest_rings_loses_nothing_and_hangs_nowhere() {
    let t = topology(2, 2, 5_000, "some longer text, out of line", 4);
    t.configure(|c| {
        c.batch_bytes = 256;
        c.socket_batch_bytes = 256;
        c.credit_bytes = 256;
        c.ring_bytes = 1024;
        c.max_tuple_bytes = 4096;
    });
    let totals = run(t, 4, IoChoice::Auto);
    check(&totals, 5_000, 4, 29);
    assert_eq!(totals.stats.peer_links.shm, 4);
}

#[test]
fn a_link_over_tcp_leads_to_another_host_and_shares_no_memory() {
    let totals = run_over(topology(2, 1, 20_000, "text", 2), 2, IoChoice::Auto, tcp_pairs);
    check(&totals, 20_000, 2, 4);
    assert_eq!((totals.stats.peer_links.shm, totals.stats.peer_links.sockets), (0, 1));
}

#[test]
fn tuples_larger_than_a_batch_and_a_ring_travel_alone() {
    let big = "y".repeat(1_500_000);
    check(&run(topology(1, 2, 20, &big, 2), 2, IoChoice::Auto), 20, 2, big.len());
    for shm in [ShmUse::Off, ShmUse::Auto, ShmUse::Copy] {
        let totals = run(sharing(shm, topology(2, 1, 20, &big, 2)), 2, IoChoice::Auto);
        check(&totals, 20, 2, big.len());
        assert!(totals.stats.links.copies_receive > 0, "what a window or a ring does not hold is copied, and counted");
    }
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
