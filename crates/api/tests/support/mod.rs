//! All workers of a topology in this process, run to the end.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_api::Topology;
use squall_engine::{
    ComponentStats, IoChoice, IoOptions, LinkCounters, LinkStats, LogFilter, PeerLinks, SocketLink, WaitStrategy,
    Worker, WorkerConfig, WorkerEvent,
};
use squall_topology::{LinkKind, Machine, Plan};

/// What the workers counted together.
#[derive(Default)]
pub(crate) struct RunStats {
    pub(crate) components: BTreeMap<String, ComponentStats>,
    pub(crate) links: LinkCounters,
    pub(crate) by_link: Vec<LinkStats>,
    /// Result rows in the order in which they came.
    pub(crate) results: Vec<Vec<u8>>,
    pub(crate) warnings: Vec<String>,
    pub(crate) peer_links: PeerLinks,
    pub(crate) io: String,
}

impl RunStats {
    pub(crate) fn executed(&self, component: &str) -> u64 {
        self.components[component].executed
    }

    pub(crate) fn emitted(&self, component: &str) -> u64 {
        self.components[component].emitted
    }
}

/// The sockets of each worker.
pub(crate) type SocketsOf = BTreeMap<u32, Vec<SocketLink>>;

/// Starts all workers of a plan; spouts wait for `begin`.
pub(crate) fn start_workers(t: Topology, cores: usize, io: IoChoice, wait: WaitStrategy) -> Vec<Worker> {
    start_workers_over(t, cores, io, wait, socket_pairs)
}

/// As `start_workers`, over these sockets between the workers.
pub(crate) fn start_workers_over(
    t: Topology,
    cores: usize,
    io: IoChoice,
    wait: WaitStrategy,
    sockets: impl Fn(&Plan) -> SocketsOf,
) -> Vec<Worker> {
    let built = t.build().unwrap();
    let machine = Machine { cores: (0..cores).collect() };
    let plan = Arc::new(built.plan(&machine).unwrap());
    let mut sockets = sockets(&plan);
    // Each from a thread of its own: a start waits for the other ends of its links.
    std::thread::scope(|scope| {
        let starts: Vec<_> = (0..plan.workers.len() as u32)
            .map(|worker| {
                let config = WorkerConfig {
                    plan: plan.clone(),
                    worker,
                    io,
                    io_options: IoOptions::default(),
                    wait: wait.into(),
                    pin: false,
                    log: LogFilter::default(),
                };
                let mine = sockets.remove(&worker).unwrap_or_default();
                let registry = built.registry.clone();
                scope.spawn(move || Worker::start(config, registry, mine).unwrap())
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    })
}

/// Runs the topology with all its workers in this process, to the end.
pub(crate) fn run_workers(t: Topology, cores: usize, io: IoChoice, wait: WaitStrategy) -> RunStats {
    run_to_end(start_workers(t, cores, io, wait))
}

/// Runs started workers to the end.
pub(crate) fn run_to_end(workers: Vec<Worker>) -> RunStats {
    workers.iter().for_each(Worker::begin);
    let mut stats = RunStats::default();
    let mut finished = vec![false; workers.len()];
    let began = Instant::now();
    while finished.contains(&false) {
        for (at, worker) in workers.iter().enumerate() {
            take_results(worker, &mut stats);
            match worker.next_event(Duration::from_millis(5)) {
                Some(WorkerEvent::Finished) => finished[at] = true,
                Some(WorkerEvent::Failed(cause)) => panic!("{cause}"),
                Some(WorkerEvent::Warning(text)) => stats.warnings.push(text),
                _ => {}
            }
        }
        if began.elapsed() > Duration::from_secs(120) {
            let waits: Vec<_> = workers.iter().map(|w| w.snapshot().back_pressure).collect();
            let counts: Vec<_> = workers.iter().map(|w| w.snapshot().components).collect();
            panic!("not finished after two minutes: waits {waits:?}, counts {counts:#?}");
        }
    }
    join_workers(workers, &mut stats);
    stats
}

/// Ends the workers and adds up what they counted.
pub(crate) fn join_workers(workers: Vec<Worker>, stats: &mut RunStats) {
    let mut rows = Vec::new();
    for worker in workers {
        take_results(&worker, stats);
        let ours = worker.join();
        stats.io = ours.io;
        stats.links.add(&ours.links);
        stats.peer_links.add(&ours.peer_links);
        rows.extend(ours.by_link);
        for c in ours.components {
            let sum = stats.components.entry(c.name.clone()).or_default();
            sum.emitted += c.emitted;
            sum.executed += c.executed;
            sum.acked += c.acked;
            sum.failed += c.failed;
            sum.moved_bytes += c.moved_bytes;
            sum.restarts += c.restarts;
            sum.long_calls += c.long_calls;
            sum.long_call_ns_max = sum.long_call_ns_max.max(c.long_call_ns_max);
        }
    }
    stats.by_link = LinkStats::join(rows);
}

fn take_results(worker: &Worker, stats: &mut RunStats) {
    while let Some(WorkerEvent::Result { bytes, .. }) = worker.next_result(Duration::ZERO) {
        stats.results.push(bytes);
    }
}

pub(crate) fn socket_pairs(plan: &Plan) -> SocketsOf {
    pairs(plan, || {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        (a.into(), b.into())
    })
}

pub(crate) fn tcp_pairs(plan: &Plan) -> SocketsOf {
    pairs(plan, || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let a = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (a.into(), listener.accept().unwrap().0.into())
    })
}

fn pairs(plan: &Plan, pair: impl Fn() -> (OwnedFd, OwnedFd)) -> SocketsOf {
    let mut by_worker = SocketsOf::new();
    let between_workers = |kind| matches!(kind, LinkKind::Shm | LinkKind::Socket);
    for link in plan.links.iter().filter(|l| between_workers(l.kind) && l.from < l.to) {
        let (a, b) = pair();
        let (from, to) = (link.from, link.to);
        let worker = |r: u32| plan.reactors[r as usize].worker;
        by_worker.entry(worker(from)).or_default().push(SocketLink { a: from, b: to, fd: a });
        by_worker.entry(worker(to)).or_default().push(SocketLink { a: from, b: to, fd: b });
    }
    by_worker
}
