//! One worker: its reactor threads, the rings between them, and the handle by which the main thread steers them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use squall_io::{Bell, IoChoice, IoError, IoKind, IoOptions};
use squall_metrics::Histogram;
use squall_ring::{
    CommandSender, Consumer, CreditSource, CreditView, Producer, SleepFlag, byte_ring, command_queue, credit_board,
};
use squall_topology::{LinkKind, Plan};
use squall_tuple::BatchBuf;
use squall_tuple::ids::{ComponentIx, ReactorIx, WorkerIx};

use crate::board::{Board, Pulse};
use crate::clock::MonotonicClock;
use crate::env::{Registry, Wake};
use crate::fault::Fault;
use crate::hello::{PeerEnd, shake_hands};
use crate::log::LogFilter;
use crate::logic::{Core, CoreConfig};
use crate::reactor::{Command, Reactor, ReactorSnapshot, Rejoin};
use crate::shared::{WorkerEvent, WorkerReceivers, WorkerShared};
use crate::stats::{CohortStats, ComponentStats, LinkCounters, LinkStats, LinkTraffic};
use crate::wait::{WaitPlan, Waiter, Waits};
use crate::wires::{LARGE_MAX, Large, Peer, RingCredit, RingRx, RingTx, Wires};

/// Commands a reactor may have waiting.
const COMMANDS_MAX: usize = 64;
/// How long the other worker of a link may take to start before the link is given up.
const HELLO_WAIT: Duration = Duration::from_secs(30);
/// How long a snapshot waits for a busy reactor before it takes the last one.
const SNAPSHOT_WAIT: Duration = Duration::from_millis(20);
/// The same at the end, when nothing may be missing.
const LAST_SNAPSHOT_WAIT: Duration = Duration::from_secs(2);

/// Links told one by one: a row takes up to some KiB on its way to the parent. The sums hold all.
const LINK_ROWS_MAX: usize = 4096;

/// What a worker is started with.
pub struct WorkerConfig {
    /// The plan, equal in all workers.
    pub plan: Arc<Plan>,
    /// Which of its workers this process is.
    pub worker: WorkerIx,
    /// I/O driver wanted for sockets.
    pub io: IoChoice,
    /// How it is made; `streams_hint` is set for each reactor.
    pub io_options: IoOptions,
    /// What idle reactors do. Spinning threads of all workers never exceed the cores: where they would, they yield.
    pub wait: WaitPlan,
    /// Pin reactors to the cores of the plan.
    pub pin: bool,
    /// Which log lines of components are wanted.
    pub log: LogFilter,
}

/// What a worker must know of a run whose workers may die and come again.
#[derive(Clone)]
pub struct Membership {
    /// By worker: how often it was started before.
    pub epochs: Vec<u32>,
    /// Where counts and pulses are kept.
    pub board: Board,
    /// Whether somebody replaces workers that die: then the loss of a peer is no fault.
    pub heals: bool,
    /// How long a link that has ended waits for the word of whoever watches the workers. After that its end is the news, and ends the worker.
    /// [`Membership::PATIENCE`] where the watcher ends with its workers; more where it may come back.
    pub patience: Duration,
}

impl Membership {
    /// Usual [`Membership::patience`]: a death is told within milliseconds.
    pub const PATIENCE: Duration = Duration::from_secs(1);

    /// All workers in their first life, and nobody to replace one.
    pub fn first(plan: &Plan) -> Membership {
        Membership {
            epochs: vec![0; plan.workers.len()],
            board: Board::heap(plan),
            heals: false,
            patience: Self::PATIENCE,
        }
    }
}

/// One end of the stream socket between two reactors in different workers. Where it is a Unix socket and the plan's `shm` is not `off`, the two
/// workers share memory instead, and it tells the end of the other one.
pub struct SocketLink {
    /// One reactor.
    pub a: ReactorIx,
    /// The other.
    pub b: ReactorIx,
    /// This worker's end.
    pub fd: OwnedFd,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A component could not be prepared.
    #[error(transparent)]
    Component(#[from] Fault),
    /// No I/O driver.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A socket could not be used.
    #[error(
        "a socket between workers could not be used: {0}; raise the limit of open files (ulimit -n) if it names it"
    )]
    Socket(std::io::Error),
    /// The two workers of a link could not agree on how to use it.
    #[error(
        "the link from reactor {here} to {peer} could not be set up: {source}; the other worker ended, hangs, or runs another build"
    )]
    Hello {
        /// Our reactor.
        here: ReactorIx,
        /// The other one.
        peer: ReactorIx,
        /// What went wrong.
        source: std::io::Error,
    },
    /// No thread.
    #[error("could not start a reactor thread: {0}; raise the limit of processes (ulimit -u)")]
    Thread(std::io::Error),
    /// A reactor's thread ended before it was ready.
    #[error("a reactor ended while starting: {0}")]
    Ended(String),
}

/// What the links between workers use. Each is counted by one of its two workers, that of the lower reactor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLinks {
    /// Links through shared memory.
    pub shm: u32,
    /// Links through sockets.
    pub sockets: u32,
    /// What is behind the shared memory: kinds of pages, without repetition.
    pub pages: Vec<String>,
}

impl PeerLinks {
    /// Sums two workers.
    pub fn add(&mut self, other: &PeerLinks) {
        self.shm += other.shm;
        self.sockets += other.sockets;
        for pages in &other.pages {
            if !self.pages.contains(pages) {
                self.pages.push(pages.clone());
            }
        }
    }

    fn of(ends: &[PeerEnd]) -> PeerLinks {
        let mut links = PeerLinks::default();
        for end in ends.iter().filter(|end| end.mine < end.peer) {
            links.add(&match &end.shm {
                Some((shm, _)) => PeerLinks { shm: 1, sockets: 0, pages: vec![shm.pages().to_string()] },
                None => PeerLinks { sockets: 1, ..PeerLinks::default() },
            });
        }
        links
    }
}

/// What a worker has counted so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// By component of the plan.
    pub components: Vec<ComponentStats>,
    /// End-to-end latencies at the sinks here.
    pub latency: Histogram,
    /// When the first tuple was executed by a sink, on `CLOCK_MONOTONIC`.
    pub first_tuple_ns: Option<u64>,
    /// (waiting component, component it waits for).
    pub back_pressure: Vec<(String, String)>,
    /// User counters by component and name.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// User gauges by component and name.
    pub gauges: BTreeMap<String, BTreeMap<String, i64>>,
    /// User histograms by component and name.
    pub histograms: BTreeMap<String, BTreeMap<String, Histogram>>,
    /// I/O driver in use.
    pub io: String,
    /// Wait strategy in use.
    pub wait: String,
    /// Sums over the worker's links and reactors.
    pub links: LinkCounters,
    /// The links that begin at reactors of this worker, and of those that end here what the receiver counts; those that
    /// carried nothing are left out, and of more than 4096 the quietest.
    pub by_link: Vec<LinkStats>,
    /// What the links to other workers use.
    pub peer_links: PeerLinks,
    /// Log lines and warnings that were dropped because nobody read them in time.
    pub events_dropped: u64,
}

/// The main thread's handle. Dropping it ends the threads.
pub struct Worker {
    plan: Arc<Plan>,
    shared: Arc<WorkerShared>,
    receivers: WorkerReceivers,
    threads: Vec<ReactorHandle>,
    replies: (Sender<ReactorSnapshot>, Receiver<ReactorSnapshot>),
    io: IoKind,
    wait: WaitPlan,
    peer_links: PeerLinks,
}

struct ReactorHandle {
    commands: CommandSender<Command>,
    peer: Peer,
    stats: Vec<(ComponentIx, CohortStats)>,
    last: std::cell::RefCell<Option<ReactorSnapshot>>,
    /// A snapshot was asked for and has not come.
    asked: std::cell::Cell<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What a reactor thread tells before it works: first its doorbell, then that its components are prepared.
enum Hello {
    Bell(Bell, IoKind, Option<String>),
    Ready(Vec<(ComponentIx, CohortStats)>),
    Failed(StartError),
}

/// What a reactor learns once all others have a doorbell.
struct Peers {
    /// Of this worker.
    reactors: Vec<(ReactorIx, Peer)>,
    /// To other workers.
    links: Vec<PeerEnd>,
}

/// Rings of one reactor, made by the main thread.
#[derive(Default)]
struct RingEnds {
    tx: Vec<(ReactorIx, Producer, CreditView, Arc<ArrayQueue<BatchBuf>>)>,
    rx: Vec<(ReactorIx, Consumer, CreditSource, Arc<ArrayQueue<BatchBuf>>)>,
}

struct ThreadSetup {
    config: ReactorConfig,
    waiter: Waiter,
    rings: RingEnds,
    /// Links to other workers that will come.
    links: usize,
    commands: squall_ring::CommandReceiver<Command>,
    sleep: SleepFlag,
    hello: Sender<Hello>,
    peers: Receiver<Peers>,
    unfinished: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct ReactorConfig {
    plan: Arc<Plan>,
    reactor: ReactorIx,
    registry: Arc<Registry>,
    shared: Arc<WorkerShared>,
    io: IoChoice,
    io_options: IoOptions,
    pin: bool,
    membership: Membership,
}

impl Worker {
    /// Starts the threads, agrees with the other workers on the links to them, and prepares the components. Spouts wait for
    /// [`Worker::begin`]. Waits for the other workers to be started too: start workers of one process from several threads.
    ///
    /// # Errors
    /// The first thing that kept a reactor from becoming ready.
    pub fn start(
        config: WorkerConfig,
        registry: Arc<Registry>,
        sockets: Vec<SocketLink>,
    ) -> Result<Worker, StartError> {
        let membership = Membership::first(&config.plan);
        Worker::start_in(config, membership, registry, sockets)
    }

    /// As [`Worker::start`], in a run whose workers may die and come again.
    ///
    /// # Errors
    /// As [`Worker::start`]. Where somebody heals the run, a peer that dies meanwhile is none, and a link without a socket neither: they are left out
    /// until [`Worker::rejoiner`] brings them.
    pub fn start_in(
        config: WorkerConfig,
        membership: Membership,
        registry: Arc<Registry>,
        sockets: Vec<SocketLink>,
    ) -> Result<Worker, StartError> {
        let plan = config.plan.clone();
        let mortal = membership.heals && membership.epochs.iter().any(|epoch| *epoch > 0);
        let (shared, receivers) = WorkerShared::with_log(config.worker, config.log.clone());
        let reactors = plan.workers[config.worker as usize].reactors.clone();
        let unfinished = Arc::new(AtomicUsize::new(reactors.len()));
        // Asked here: the threads to come see only the core that they are pinned to.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let waits = Waits::new(&plan, &config.wait, cores, config.pin);
        if let Some(warning) = &waits.warning {
            shared.event(WorkerEvent::Warning(warning.clone()));
        }
        let mut rings = make_rings(&plan, &reactors);
        // Links whose sockets are not here yet come later, where somebody heals the run.
        let due = if membership.heals { links_out(&plan, &reactors) } else { ends_of(&sockets) };
        for link in &sockets {
            let inside = reactors.contains(&link.a) != reactors.contains(&link.b);
            assert!(inside, "a socket leads from one of this worker's reactors to another worker's");
        }
        let mut worker = Worker {
            plan: plan.clone(),
            shared: shared.clone(),
            receivers,
            threads: Vec::new(),
            replies: bounded(reactors.len()),
            io: IoKind::IoUring,
            wait: waits.in_use(&reactors),
            peer_links: PeerLinks::default(),
        };
        let mut hellos = Vec::new();
        let mut peer_senders = Vec::new();
        for (at, reactor) in reactors.iter().enumerate() {
            let (commands_tx, commands) = command_queue(COMMANDS_MAX);
            let (hello_tx, hello) = bounded(2);
            let (peers_tx, peers) = bounded(1);
            let sleep = SleepFlag::new();
            let setup = ThreadSetup {
                config: ReactorConfig {
                    plan: plan.clone(),
                    reactor: *reactor,
                    registry: registry.clone(),
                    shared: shared.clone(),
                    io: config.io,
                    io_options: config.io_options,
                    pin: config.pin,
                    membership: membership.clone(),
                },
                waiter: waits.waiter(*reactor),
                rings: std::mem::take(&mut rings[at]),
                links: due.iter().filter(|(a, b)| a == reactor || b == reactor).count(),
                commands,
                sleep: sleep.clone(),
                hello: hello_tx,
                peers,
                unfinished: unfinished.clone(),
            };
            let name = if plan.reactors[*reactor as usize].side { "side" } else { "reactor" };
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{reactor}"))
                .spawn(move || thread_main(setup))
                .map_err(StartError::Thread)?;
            hellos.push(hello);
            peer_senders.push(peers_tx);
            worker.await_bell(&hellos[at], commands_tx, sleep, thread)?;
        }
        let peers: Vec<(ReactorIx, Peer)> =
            reactors.iter().zip(&worker.threads).map(|(r, t)| (*r, t.peer.clone())).collect();
        let bells: Vec<_> = peers.iter().map(|(r, peer)| (*r, peer.bell.clone())).collect();
        let mut ends = shake_hands(&plan, sockets, &bells, Instant::now() + HELLO_WAIT, mortal)?;
        let has = |(a, b): (ReactorIx, ReactorIx)| {
            ends.iter().any(|e| (e.mine, e.peer) == (a, b) || (e.mine, e.peer) == (b, a))
        };
        let worker_of = |reactor: ReactorIx| plan.reactors[reactor as usize].worker;
        let missed = due.iter().filter(|pair| !has(**pair)).flat_map(|(a, b)| [worker_of(*a), worker_of(*b)]);
        let missed: BTreeSet<WorkerIx> = missed.filter(|w| *w != config.worker).collect();
        worker.peer_links = PeerLinks::of(&ends);
        for end in ends.iter().filter(|end| end.mine < end.peer) {
            if let Some(cause) = &end.refused {
                let PeerEnd { mine, peer, .. } = end;
                worker.shared.event(WorkerEvent::Warning(format!(
                    "reactors {mine} and {peer} exchange batches through their socket, not through shared memory: {cause}"
                )));
            }
        }
        for (sender, reactor) in peer_senders.into_iter().zip(&reactors) {
            let links = ends.extract_if(.., |end| end.mine == *reactor).collect();
            // A thread that is gone has said why in its hello.
            let _ = sender.send(Peers { reactors: peers.clone(), links });
        }
        for (at, hello) in hellos.iter().enumerate() {
            match hello.recv() {
                Ok(Hello::Ready(stats)) => worker.threads[at].stats = stats,
                Ok(Hello::Failed(e)) => return Err(e),
                Ok(Hello::Bell(..)) | Err(_) => {
                    return Err(StartError::Ended(format!("reactor {} is gone", reactors[at])));
                }
            }
        }
        missed.iter().for_each(|peer| worker.lose_worker(*peer));
        Ok(worker)
    }

    /// Another worker is gone: the roots that may have been there fail, and what is for it waits until it is there again.
    pub fn lose_worker(&self, worker: WorkerIx) {
        self.command(|| Command::Lose(worker));
    }

    /// Another worker, of which all components had finished, is gone: nothing is missing, and it will not come again.
    pub fn leave_worker(&self, worker: WorkerIx) {
        self.command(|| Command::Leave(worker));
    }

    /// Another worker is there again: what links to it anew, on any thread, since that waits for it.
    pub fn rejoiner(&self) -> Rejoiner {
        let reactors = &self.plan.workers[self.shared.worker() as usize].reactors;
        let ends = reactors.iter().zip(&self.threads);
        Rejoiner {
            plan: self.plan.clone(),
            reactors: ends.map(|(r, t)| (*r, t.peer.clone(), t.commands.clone())).collect(),
        }
    }

    fn await_bell(
        &mut self,
        hello: &Receiver<Hello>,
        commands: CommandSender<Command>,
        sleep: SleepFlag,
        thread: JoinHandle<()>,
    ) -> Result<(), StartError> {
        match hello.recv() {
            Ok(Hello::Bell(bell, kind, warning)) => {
                if kind == IoKind::Epoll {
                    self.io = IoKind::Epoll;
                }
                if let Some(w) = warning {
                    self.shared.event(WorkerEvent::Warning(w));
                }
                self.threads.push(ReactorHandle {
                    commands,
                    peer: Peer { sleep, bell },
                    stats: Vec::new(),
                    last: Default::default(),
                    asked: Default::default(),
                    thread: Some(thread),
                });
                Ok(())
            }
            Ok(Hello::Failed(e)) => Err(e),
            Ok(Hello::Ready(_)) | Err(_) => Err(StartError::Ended("a reactor is gone".to_owned())),
        }
    }

    fn command(&self, make: impl Fn() -> Command) {
        self.threads.iter().for_each(|t| push(&t.commands, &t.peer, make()));
    }

    /// Spouts may run.
    pub fn begin(&self) {
        self.command(|| Command::Begin);
    }

    /// Spouts are not called any more until [`Worker::begin`]; everything else goes on.
    pub fn pause_spouts(&self) {
        self.command(|| Command::PauseSpouts);
    }

    /// Ends all spouts; what they have emitted drains as at a normal end.
    pub fn stop_spouts(&self) {
        self.command(|| Command::StopSpouts);
    }

    /// The next log line, warning or end, waiting at most `timeout`.
    pub fn next_event(&self, timeout: Duration) -> Option<WorkerEvent> {
        self.receivers.events.recv_timeout(timeout).ok()
    }

    /// The next result row, waiting at most `timeout`. Components that publish rows wait while nobody takes them.
    pub fn next_result(&self, timeout: Duration) -> Option<WorkerEvent> {
        self.receivers.results.recv_timeout(timeout).ok()
    }

    /// The channels behind [`Worker::next_event`] and [`Worker::next_result`], to wait on both.
    pub fn receivers(&self) -> &WorkerReceivers {
        &self.receivers
    }

    /// Counts so far. A reactor that is busy in one long call shows its last histogram; its counts are always fresh.
    pub fn snapshot(&self) -> WorkerStats {
        self.ask(SNAPSHOT_WAIT);
        self.sum()
    }

    /// Asks every reactor for a snapshot and waits for those that answer in time. A reactor that has not answered the last
    /// question is not asked again: its answer will come, and its command queue stays free.
    fn ask(&self, wait: Duration) {
        for t in &self.threads {
            let asked = t.asked.get() || t.commands.try_push(Command::Snapshot(self.replies.0.clone())).is_ok();
            t.asked.set(asked);
            if t.peer.sleep.claim_wake_after_publish() {
                t.peer.bell.ring();
            }
        }
        let deadline = Instant::now() + wait;
        let reactors = &self.plan.workers[self.shared.worker() as usize].reactors;
        while self.threads.iter().any(|t| t.asked.get())
            && let Ok(s) = self.replies.1.recv_deadline(deadline)
        {
            if let Some(at) = reactors.iter().position(|r| *r == s.reactor) {
                self.threads[at].asked.set(false);
                *self.threads[at].last.borrow_mut() = Some(s);
            }
        }
    }

    fn sum(&self) -> WorkerStats {
        let named = |c: &squall_topology::ComponentSpec| ComponentStats { name: c.name.clone(), ..Default::default() };
        let mut stats = WorkerStats {
            components: self.plan.spec.components.iter().map(named).collect(),
            io: self.io.to_string(),
            wait: self.wait.to_string(),
            events_dropped: self.shared.events_dropped(),
            peer_links: self.peer_links.clone(),
            ..Default::default()
        };
        for t in &self.threads {
            for (component, cohort) in &t.stats {
                cohort.add_to(&mut stats.components[*component as usize]);
            }
            if let Some(s) = &*t.last.borrow() {
                stats.latency.merge(&s.latency);
                stats.links.add(&s.counters);
                s.by_link.iter().for_each(|l| stats.links.add_link(&l.traffic));
                stats.by_link.extend(s.by_link.iter().cloned());
                stats.back_pressure.extend(s.back_pressure.iter().cloned());
                stats.first_tuple_ns = match (stats.first_tuple_ns, s.first_sink_ns) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        stats.by_link = busiest(LinkStats::join(stats.by_link));
        stats.back_pressure.sort();
        stats.back_pressure.dedup();
        stats.counters = nested(self.shared.counters());
        stats.gauges = nested(self.shared.gauges());
        stats.histograms = nested(self.shared.histograms());
        stats
    }

    /// Ends the threads and returns the last counts.
    pub fn join(mut self) -> WorkerStats {
        // Twice: an answer to an earlier question may be on its way, and the last word must be fresh.
        self.ask(LAST_SNAPSHOT_WAIT);
        self.ask(LAST_SNAPSHOT_WAIT);
        let stats = self.sum();
        self.end();
        stats
    }

    fn end(&mut self) {
        self.command(|| Command::Exit);
        for t in &mut self.threads {
            if let Some(thread) = t.thread.take() {
                // Its panics were caught and told.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A reactor that is stuck in a component must not keep the process: ask, do not wait. `join` waits.
        for t in &self.threads {
            let _ = t.commands.try_push(Command::Exit);
            t.peer.bell.ring();
        }
    }
}

/// Links a running worker to one that has begun another life; see [`Worker::rejoiner`].
pub struct Rejoiner {
    plan: Arc<Plan>,
    reactors: Vec<(ReactorIx, Peer, CommandSender<Command>)>,
}

impl Rejoiner {
    /// Agrees with `worker`, in its life `epoch`, on the links over these sockets, and hands them to the reactors. `joins`: how often that was done,
    /// with this time; told again when the link ends ([`WorkerEvent::LinkLost`]). Waits for the other end.
    /// Returns `false` if that has ended meanwhile: it will come again.
    ///
    /// # Errors
    /// The other end runs another build, hangs, or a socket cannot be used.
    pub fn rejoin(
        self,
        worker: WorkerIx,
        epoch: u32,
        joins: u32,
        sockets: Vec<SocketLink>,
    ) -> Result<bool, StartError> {
        let bells: Vec<_> = self.reactors.iter().map(|(r, peer, _)| (*r, peer.bell.clone())).collect();
        let due = sockets.len();
        let mut ends = shake_hands(&self.plan, sockets, &bells, Instant::now() + HELLO_WAIT, true)?;
        if ends.len() < due {
            return Ok(false);
        }
        for (reactor, peer, commands) in &self.reactors {
            let links = ends.extract_if(.., |end| end.mine == *reactor).collect();
            push(commands, peer, Command::Rejoin(Box::new(Rejoin { worker, epoch, joins, links })));
        }
        Ok(true)
    }
}

/// Queues a command and wakes its reactor. A full queue means a reactor that is busy in one call of a component: waits, commands are few.
fn push(commands: &CommandSender<Command>, peer: &Peer, mut command: Command) {
    while let Err(full) = commands.try_push(command) {
        if full.receiver_gone {
            break;
        }
        command = full.command;
        std::thread::sleep(Duration::from_millis(1));
    }
    if peer.sleep.claim_wake_after_publish() {
        peer.bell.ring();
    }
}

/// The rows worth telling, in order.
fn busiest(mut rows: Vec<LinkStats>) -> Vec<LinkStats> {
    rows.retain(|l| l.traffic != LinkTraffic::default());
    if rows.len() > LINK_ROWS_MAX {
        rows.sort_by_key(|l| std::cmp::Reverse(l.traffic.tuples.max(l.traffic.copies_receive)));
        rows.truncate(LINK_ROWS_MAX);
        rows.sort_by_key(|l| (l.from, l.to));
    }
    rows
}

fn nested<V>(flat: BTreeMap<(String, String), V>) -> BTreeMap<String, BTreeMap<String, V>> {
    let mut nested: BTreeMap<String, BTreeMap<String, V>> = BTreeMap::new();
    for ((component, name), value) in flat {
        nested.entry(component).or_default().insert(name, value);
    }
    nested
}

/// By link to another worker: the reactor here and the one there.
fn links_out(plan: &Plan, reactors: &[ReactorIx]) -> Vec<(ReactorIx, ReactorIx)> {
    let out = plan.links.iter().filter(|link| matches!(link.kind, LinkKind::Shm | LinkKind::Socket));
    // Links of sockets and shared memory lead both ways.
    out.filter(|link| reactors.contains(&link.from)).map(|link| (link.from, link.to)).collect()
}

fn ends_of(sockets: &[SocketLink]) -> Vec<(ReactorIx, ReactorIx)> {
    sockets.iter().map(|link| (link.a, link.b)).collect()
}

fn make_rings(plan: &Plan, reactors: &[ReactorIx]) -> Vec<RingEnds> {
    let mut ends: Vec<RingEnds> = reactors.iter().map(|_| RingEnds::default()).collect();
    let place = |r: ReactorIx| reactors.iter().position(|m| *m == r);
    for link in plan.links.iter().filter(|l| l.kind == LinkKind::Ring) {
        let (Some(from), Some(to)) = (place(link.from), place(link.to)) else {
            continue;
        };
        let (producer, consumer) = byte_ring(plan.spec.config.ring_bytes as usize);
        let (source, view) = credit_board(plan.inboxes_of_reactor(link.to).len());
        let large = Arc::new(ArrayQueue::new(LARGE_MAX));
        ends[from].tx.push((link.to, producer, view, large.clone()));
        ends[to].rx.push((link.from, consumer, source, large));
    }
    ends
}

fn thread_main(setup: ThreadSetup) {
    let shared = setup.config.shared.clone();
    let reactor = setup.config.reactor;
    // A panic that gets here is the engine's own: components' panics are caught where they are called.
    let end = catch_unwind(AssertUnwindSafe(|| {
        let hello = setup.hello.clone();
        match build(setup) {
            Ok(reactor) => reactor.run(),
            Err(e) => drop(hello.send(Hello::Failed(e))),
        }
    }));
    if end.is_err() {
        shared.event_certain(WorkerEvent::Failed(format!(
            "reactor {reactor} panicked: this is a bug in Squall's engine; its message and place are on stderr"
        )));
    }
}

fn build(setup: ThreadSetup) -> Result<Reactor, StartError> {
    let ThreadSetup { config, waiter, rings, links, commands, sleep, hello, peers, unfinished } = setup;
    let ReactorConfig { plan, reactor, registry, shared, membership, .. } = config;
    if config.pin
        && let Some(core) = plan.reactors[reactor as usize].core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        shared.event(WorkerEvent::Warning(format!(
            "reactor {reactor} could not be pinned to core {core}: it runs unpinned and latencies will vary; \
             check taskset, cgroup cpusets, or use --no-pin"
        )));
    }
    let options = IoOptions { streams_hint: links, ..config.io_options };
    let (driver, warning) =
        if links == 0 { (squall_io::parker(), None) } else { squall_io::open(config.io, &options)? };
    // A reactor without sockets has no say in which driver the worker is said to use.
    let kind = if links == 0 && config.io != IoChoice::Epoll { IoKind::IoUring } else { driver.kind() };
    let bell = driver.bell();
    shared.set_doorbell(reactor, bell.clone());
    // The receiver waits for exactly these messages; if it is gone, so is the run.
    let _ = hello.send(Hello::Bell(bell.clone(), kind, warning));
    let Ok(Peers { reactors: peers, links }) = peers.recv() else {
        return Err(StartError::Ended("the worker gave up".to_owned()));
    };
    let peer = |r: ReactorIx| {
        let (_, p) = peers.iter().find(|(p, _)| *p == r).expect("rings lead to reactors of this worker");
        p.clone()
    };
    let wake: Wake = {
        let sleep = sleep.clone();
        Arc::new(move || {
            if sleep.claim_wake_after_publish() {
                bell.ring();
            }
        })
    };
    let own = plan.reactors[reactor as usize].worker as usize;
    let core = CoreConfig {
        plan: plan.clone(),
        reactor,
        epoch: membership.epochs[own],
        registry,
        clock: Rc::new(MonotonicClock),
        shared: shared.clone(),
        wake,
    };
    let mut core = Core::on_board(core, &membership.board);
    core.set_epochs(&membership.epochs);
    core.prepare()?;
    let mut wires = Wires::new(plan.clone(), reactor, driver, core.pool().clone());
    for (to, producer, credit, large) in rings.tx {
        let large = Large::Queue(large);
        wires.add_ring_tx(to, RingTx { producer, credit, large, peer: peer(to), dirty: false });
    }
    for (from, consumer, source, large) in rings.rx {
        let credit = RingCredit { source, peer: peer(from), dirty: false };
        wires.add_ring_rx(RingRx { from, consumer, large }, credit);
    }
    for end in links {
        wires.join(end).map_err(StartError::Socket)?;
    }
    for note in wires.tx.driver.notes() {
        shared.event(WorkerEvent::Warning(format!("reactor {reactor}: {note}")));
    }
    let _ = hello.send(Hello::Ready(core.stats().collect()));
    let pulse: Pulse = membership.board.reactor(reactor);
    let (suspects, patience) = (Vec::new(), membership.patience);
    let joins = vec![0; plan.workers.len()];
    Ok(Reactor {
        plan,
        core,
        wires,
        commands,
        sleep,
        waiter,
        shared,
        unfinished,
        sleeps: 0,
        pulse,
        beats: 0,
        suspects,
        patience,
        joins,
    })
}
