//! How idle reactors wait, on real threads.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

mod support;

use std::time::Duration;

use squall::prelude::*;
use squall_engine::{IoChoice, LinkCounters, WaitStrategy, Worker, WorkerEvent};
use support::{RunStats, join_workers, start_workers};

#[derive(Tuple, Debug, Clone, Copy, PartialEq)]
struct Item {
    a: u64,
}

/// Emits one item, and no more until it is told to end.
struct One(bool);

impl Spout for One {
    type Out = Stream<Item>;

    fn next(&mut self, out: &mut Stream<Item>) -> Result<Next, SpoutError> {
        if std::mem::replace(&mut self.0, true) {
            return Ok(Next::Parked);
        }
        out.emit(Item { a: 1 });
        Ok(Next::Emitted)
    }
}

struct Null;

impl Bolt for Null {
    type In = Item;
    type Out = ();

    fn execute(&mut self, _: Input<'_, Item>, _: &mut ()) -> Result<(), BoltError> {
        Ok(())
    }
}

fn one(workers: u32, reactors: u32, wait: WaitStrategy) -> Vec<Worker> {
    let t = Topology::new("one");
    t.configure(|c| {
        c.workers = workers;
        c.reactors = Some(reactors);
    });
    let one = t.spout("one", || One(false)).streams();
    t.bolt("null", || Null).on(one.shuffle());
    start_workers(t, 2, IoChoice::Auto, wait)
}

fn executed(workers: &[Worker]) -> u64 {
    let stats = workers.iter().map(Worker::snapshot);
    stats.map(|s| s.components.iter().map(|c| c.executed).sum::<u64>()).sum()
}

/// Runs until the one tuple has arrived; then what the workers did while nothing happened.
fn idle(workers: Vec<Worker>) -> (LinkCounters, String, Vec<String>) {
    workers.iter().for_each(Worker::begin);
    while executed(&workers) == 0 {
        std::thread::yield_now();
    }
    let counters = || {
        let mut sum = LinkCounters::default();
        workers.iter().for_each(|w| sum.add(&w.snapshot().links));
        sum
    };
    // The last credit and completions may still be on their way, so the first window without a call counts. Who asks the
    // kernel on idle turns has none: a window has some ten thousand turns, and each snapshot is answered between two of them.
    let mut idle = LinkCounters::default();
    for _ in 0..50 {
        let before = counters();
        std::thread::sleep(Duration::from_millis(20));
        let after = counters();
        idle.syscalls = after.syscalls - before.syscalls;
        idle.sleeps = after.sleeps - before.sleeps;
        if (idle.syscalls, idle.sleeps) == (0, 0) {
            break;
        }
    }
    let mut warnings = Vec::new();
    while let Some(event) = workers[0].next_event(Duration::ZERO) {
        if let WorkerEvent::Warning(text) = event {
            warnings.push(text);
        }
    }
    let (io, wait) = (workers[0].snapshot().io, workers[0].snapshot().wait);
    workers.iter().for_each(Worker::stop_spouts);
    let mut stats = RunStats::default();
    join_workers(workers, &mut stats);
    assert_eq!(stats.executed("null"), 1);
    (idle, if io == "io_uring" { wait } else { format!("{wait} on {io}") }, warnings)
}

#[test]
fn a_spinning_reactor_makes_no_system_call_while_nothing_happens() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // One reactor, two joined by a ring, two joined by a socket.
    for (workers, reactors) in [(1, 1), (1, 2), (2, 1)] {
        let (idle, wait, warnings) = idle(one(workers, reactors, WaitStrategy::Spin));
        if workers * reactors > cores as u32 {
            assert_eq!(wait, "hybrid");
            assert!(
                warnings.iter().any(|w| w.contains("spinning threads never exceed the cores given")),
                "{warnings:?}"
            );
        } else if wait == "spin" {
            assert_eq!((idle.syscalls, idle.sleeps), (0, 0), "{workers} workers with {reactors} reactors");
            assert_eq!(warnings, [""; 0]);
        } else {
            // epoll has to ask the kernel; it says so, see above.
            assert!(wait.ends_with("on epoll") && workers == 2, "{wait}");
        }
    }
}

#[test]
fn more_spinning_reactors_than_cores_yield_and_sleep_and_say_so() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    let t = Topology::new("many");
    t.configure(|c| c.reactors = Some(cores + 1));
    let one = t.spout("one", || One(false)).tasks(cores + 1).streams();
    t.bolt("null", || Null).tasks(cores + 1).on(one.shuffle());
    let workers = start_workers(t, cores as usize, IoChoice::Auto, WaitStrategy::Spin);
    let Some(WorkerEvent::Warning(text)) = workers[0].next_event(Duration::from_secs(10)) else {
        panic!("no warning");
    };
    let want = format!("{0} reactors were to spin, but {0} busy threads share {cores} cores", cores + 1);
    assert!(text.starts_with(&want), "{text}");
    assert_eq!(workers[0].snapshot().wait, "hybrid");
    join_workers(workers, &mut RunStats::default());
}
