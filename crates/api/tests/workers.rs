//! Real workers in one process: threads, rings, sockets; counts must add up exactly.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall::prelude::*;
use squall_engine::{ComponentStats, IoChoice, IoOptions, SocketLink, WaitStrategy, Worker, WorkerConfig, WorkerEvent};
use squall_topology::{LinkKind, Machine, Plan};

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
    components: BTreeMap<String, ComponentStats>,
    io: String,
    /// Bytes from sockets that were copied before they were read, of all that arrived.
    copied_in: u64,
    bytes_in: u64,
}

/// Runs the topology with all its workers in this process, to the end.
fn run(t: Topology, cores: usize, io: IoChoice) -> Totals {
    let built = t.build().unwrap();
    let machine = Machine { cores: (0..cores).collect() };
    let plan = Arc::new(built.plan(&machine).unwrap());
    let mut sockets = socket_pairs(&plan);
    let workers: Vec<Worker> = (0..plan.workers.len() as u32)
        .map(|worker| {
            let wait = WaitStrategy::Hybrid;
            let config =
                WorkerConfig { plan: plan.clone(), worker, io, io_options: IoOptions::default(), wait, pin: false };
            let mine = sockets.remove(&worker).unwrap_or_default();
            Worker::start(config, built.registry.clone(), mine).unwrap()
        })
        .collect();
    workers.iter().for_each(Worker::begin);
    let mut totals =
        Totals { sum: 0, bytes: 0, components: BTreeMap::new(), io: String::new(), copied_in: 0, bytes_in: 0 };
    let mut finished = vec![false; workers.len()];
    let began = Instant::now();
    while finished.contains(&false) {
        for (at, worker) in workers.iter().enumerate() {
            take_results(worker, &mut totals);
            match worker.next_event(Duration::from_millis(5)) {
                Some(WorkerEvent::Finished) => finished[at] = true,
                Some(WorkerEvent::Failed(cause)) => panic!("{cause}"),
                _ => {}
            }
        }
        if began.elapsed() > Duration::from_secs(60) {
            let waits: Vec<_> = workers.iter().map(|w| w.snapshot().back_pressure).collect();
            let counts: Vec<_> = workers.iter().map(|w| w.snapshot().components).collect();
            panic!("not finished after a minute: waits {waits:?}, counts {counts:#?}");
        }
    }
    for worker in workers {
        take_results(&worker, &mut totals);
        let stats = worker.join();
        totals.io = stats.io;
        totals.copied_in += stats.links.copied_in;
        totals.bytes_in += stats.links.bytes_in;
        for c in stats.components {
            let sum = totals.components.entry(c.name.clone()).or_default();
            sum.emitted += c.emitted;
            sum.executed += c.executed;
            sum.acked += c.acked;
            sum.failed += c.failed;
        }
    }
    totals
}

fn take_results(worker: &Worker, totals: &mut Totals) {
    while let Some(WorkerEvent::Result { bytes, .. }) = worker.next_result(Duration::ZERO) {
        totals.sum += u64::from_le_bytes(bytes[..8].try_into().unwrap());
        totals.bytes += u64::from_le_bytes(bytes[8..].try_into().unwrap());
    }
}

fn socket_pairs(plan: &Plan) -> BTreeMap<u32, Vec<SocketLink>> {
    let mut by_worker: BTreeMap<u32, Vec<SocketLink>> = BTreeMap::new();
    for link in plan.links.iter().filter(|l| l.kind == LinkKind::Socket && l.from < l.to) {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let (from, to) = (link.from, link.to);
        let worker = |r: u32| plan.reactors[r as usize].worker;
        by_worker.entry(worker(from)).or_default().push(SocketLink { a: from, b: to, fd: a.into() });
        by_worker.entry(worker(to)).or_default().push(SocketLink { a: from, b: to, fd: b.into() });
    }
    by_worker
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
    assert_eq!(totals.components["numbers"].emitted, emitted);
    assert_eq!(totals.components["double"].executed, emitted);
    assert_eq!(totals.components["double"].emitted, emitted * 2);
    assert_eq!(totals.components["sum"].executed, emitted * 2);
    assert_eq!(totals.components["sum"].acked, emitted * 2);
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
        assert!(totals.bytes_in > 50_000 * 29 && totals.copied_in == 0, "batches are read where the kernel put them");
        if io == IoChoice::Epoll {
            assert_eq!(totals.io, "epoll");
        }
    }
}

#[test]
fn tuples_larger_than_a_batch_and_a_ring_travel_alone() {
    let big = "y".repeat(1_500_000);
    check(&run(topology(1, 2, 20, &big, 2), 2, IoChoice::Auto), 20, 2, big.len());
    let over_sockets = run(topology(2, 1, 20, &big, 2), 2, IoChoice::Auto);
    check(&over_sockets, 20, 2, big.len());
    let copied = over_sockets.copied_in;
    assert!(copied > 0 && copied <= over_sockets.bytes_in, "what a window does not hold is copied, once: {copied}");
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
