//! What is left of a worker that loses another one. The only test of its process: it counts descriptors and mappings.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall::prelude::*;
use squall_engine::{IoChoice, IoOptions, LogFilter, SocketLink, WaitStrategy, Worker, WorkerConfig, WorkerEvent};
use squall_topology::{Machine, ShmUse};

#[derive(Tuple)]
struct Item {
    key: u64,
    text: String,
}

struct Endless(u64);

impl Spout for Endless {
    type Out = Stream<Item>;

    fn next(&mut self, out: &mut Stream<Item>) -> Result<Next, SpoutError> {
        out.emit(ItemRef { key: self.0, text: "some text, out of line" });
        self.0 += 1;
        Ok(Next::Emitted)
    }
}

/// Fails on anything that is not as it was sent.
struct Check;

impl Bolt for Check {
    type In = Item;
    type Out = ();

    fn execute(&mut self, i: Input<'_, Item>, _: &mut ()) -> Result<(), BoltError> {
        if i.text == "some text, out of line" { Ok(()) } else { Err(BoltError::fatal("a torn tuple")) }
    }
}

/// Two workers of one reactor each, spouts and bolts on both, in full traffic.
fn start(shm: ShmUse) -> [Worker; 2] {
    let t = Topology::new("ends");
    t.configure(|c| {
        c.workers = 2;
        c.reactors = Some(1);
        c.shm = shm;
    });
    let items = t.spout("items", || Endless(0)).tasks(2).streams();
    t.bolt("check", || Check).tasks(2).on(items.shuffle());
    let built = t.build().unwrap();
    let plan = Arc::new(built.plan(&Machine { cores: vec![0, 1] }).unwrap());
    let (a, b) = UnixStream::pair().unwrap();
    let workers = std::thread::scope(|scope| {
        let start = |(worker, fd): (u32, UnixStream)| {
            let wait = WaitStrategy::Hybrid;
            let config = WorkerConfig {
                plan: plan.clone(),
                worker,
                io: IoChoice::Auto,
                io_options: IoOptions::default(),
                wait: wait.into(),
                pin: false,
                log: LogFilter::default(),
            };
            let (registry, links) = (built.registry.clone(), vec![SocketLink { a: 0, b: 1, fd: fd.into() }]);
            scope.spawn(move || Worker::start(config, registry, links).unwrap())
        };
        [(0, a), (1, b)].map(start).map(|start| start.join().unwrap())
    });
    workers.iter().for_each(Worker::begin);
    let checked = |w: &Worker| w.snapshot().components.iter().map(|c| c.executed).sum::<u64>();
    while workers.iter().any(|w| checked(w) < 1000) {
        std::thread::yield_now();
    }
    workers
}

/// Open descriptors, and mappings of shared segments, of this process.
fn holdings() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (fds, maps.lines().filter(|line| line.contains("squall-link")).count())
}

#[test]
fn the_end_of_a_worker_in_full_traffic_ends_the_link_by_name_and_gives_its_memory_back() {
    for shm in [ShmUse::Auto, ShmUse::Copy, ShmUse::Off] {
        let at_rest = holdings();
        let [survivor, other] = start(shm);
        assert_eq!(holdings().1 - at_rest.1, if shm == ShmUse::Off { 0 } else { 2 }, "{shm}");
        // Its threads end wherever they are, and its end of the link with them.
        drop(other);
        let began = Instant::now();
        let cause = loop {
            match survivor.next_event(Duration::from_secs(1)) {
                Some(WorkerEvent::Failed(cause)) => break cause,
                _ => assert!(began.elapsed() < Duration::from_secs(60), "nobody noticed"),
            }
        };
        assert!(cause.contains("link to reactor 1 of worker 1 broke"), "{shm}: {cause}");
        survivor.join();
        // The other worker's threads were told to end and not waited for.
        while holdings() != at_rest {
            assert!(began.elapsed() < Duration::from_secs(60), "{shm}: {:?} where {at_rest:?} were", holdings());
            std::thread::yield_now();
        }
    }
}
