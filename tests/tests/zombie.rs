//! A worker process that was given up while it was stopped, and goes on when another one has long taken its place: what it
//! still says on the present link is refused and counted, and disturbs nobody (D6).
//!
//! In a run that cannot be: the parent kills what it gives up, and each life has sockets of its own. Here it can: the workers of
//! both lives are processes (this program again), and all that they send passes through the test, which puts the whole batches
//! of the one that was given up among those of its successor.
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use squall::prelude::*;
use squall_engine::{
    Board, IoChoice, IoOptions, LogFilter, Membership, Registry, SocketLink, WaitStrategy, Worker, WorkerConfig,
    WorkerEvent,
};
use squall_topology::{Machine, Plan, ShmUse};
use squall_tuple::batch::stream_bytes;
use squall_tuple::{BatchHeader, BatchKind};

/// The epoch of the worker that this process is to be.
const LIFE: &str = "SQUALL_TEST_LIFE";
/// Nothing here takes longer, unless it hangs.
const HANG: Duration = Duration::from_secs(60);

#[derive(Tuple)]
struct Number {
    life: u64,
    n: u64,
}

struct Numbers {
    life: u64,
    n: u64,
}

impl Spout for Numbers {
    type Out = Stream<Number>;

    fn next(&mut self, out: &mut Stream<Number>) -> Result<Next, SpoutError> {
        out.emit(Number { life: self.life, n: self.n });
        self.n += 1;
        Ok(Next::Emitted)
    }
}

/// What the sink has seen. It runs in the test's own process.
static SEEN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static DISORDER: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Sink {
    last: Option<(u64, u64)>,
}

impl Bolt for Sink {
    type In = Number;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Number>, (): &mut ()) -> Result<(), BoltError> {
        let (life, n) = (input.life.to_native(), input.n.to_native());
        let follows = match self.last {
            Some((last, before)) if last == life => n == before + 1,
            Some((last, _)) => last < life && n == 0,
            None => n == 0,
        };
        DISORDER.fetch_add(u64::from(!follows), Ordering::Relaxed);
        self.last = Some((life, n));
        SEEN[life as usize].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn topology(life: u64) -> (Arc<Plan>, Arc<Registry>) {
    let t = Topology::new("zombie");
    t.configure(|c| (c.workers, c.shm) = (2, ShmUse::Off));
    let numbers = t.spout("numbers", move || Numbers { life, n: 0 }).streams();
    t.bolt("sink", Sink::default).on(numbers.shuffle());
    let built = t.build().expect("it is sound");
    let plan = built.plan(&Machine { cores: vec![0, 1] }).expect("it has a place for everything");
    assert_eq!((plan.reactors.len(), plan.reactors[0].worker), (2, 0), "one reactor each");
    (Arc::new(plan), built.registry)
}

fn start(worker: u32, life: u32, socket: impl Into<OwnedFd>) -> Worker {
    let (plan, registry) = topology(life.into());
    let config = WorkerConfig {
        plan: plan.clone(),
        worker,
        io: IoChoice::Auto,
        io_options: IoOptions::default(),
        wait: WaitStrategy::Park.into(),
        pin: false,
        log: LogFilter::default(),
    };
    let epochs = if worker == 0 { vec![life, 0] } else { vec![0, 0] };
    let membership = Membership { epochs, board: Board::heap(&plan), heals: true, patience: Membership::PATIENCE };
    Worker::start_in(config, membership, registry, vec![link(socket)]).expect("it starts")
}

fn link(socket: impl Into<OwnedFd>) -> SocketLink {
    SocketLink { a: 0, b: 1, fd: socket.into() }
}

/// Not a test of its own: what the other processes do. Its socket is its standard input.
#[test]
fn the_other_process() {
    let Ok(life) = std::env::var(LIFE) else { return };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("it dies with the test");
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("a descriptor more");
    let worker = start(0, life.parse().expect("a number"), socket);
    worker.begin();
    while !matches!(worker.next_event(HANG), Some(WorkerEvent::Failed(_))) {}
}

/// A process of this test, killed with it.
struct Life {
    child: Child,
    socket: UnixStream,
}

impl Life {
    fn begin(life: u32) -> Life {
        let (socket, its) = UnixStream::pair().expect("a socket pair");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["the_other_process", "--exact", "--nocapture"]).env(LIFE, life.to_string());
        command.stdin(OwnedFd::from(its)).stdout(Stdio::null());
        Life { child: command.spawn().expect("it starts"), socket }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("not zero");
        rustix::process::kill_process(pid, signal).expect("it is our child");
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The receiver's end of its present link; whole batches are written, under its lock.
type Present = Arc<Mutex<UnixStream>>;

/// Carries the batches of a life to whatever link is the present one, and counts them.
fn carry(life: &Life, present: &Present) -> Arc<AtomicU64> {
    let (mut from, to, carried) = (life.socket.try_clone().expect("a clone"), present.clone(), Arc::default());
    let count: Arc<AtomicU64> = Arc::clone(&carried);
    std::thread::spawn(move || {
        let mut head = [0; 64];
        // Its end is the end of the test.
        while from.read_exact(&mut head).is_ok() {
            let header = BatchHeader::parse(&head).expect("a batch begins with its header");
            assert_ne!(header.kind, BatchKind::Control, "nothing is sent there that credit could come back for");
            let mut batch = head.to_vec();
            batch.resize(stream_bytes(header.byte_len as usize), 0);
            if from.read_exact(&mut batch[head.len()..]).is_err() || to.lock().unwrap().write_all(&batch).is_err() {
                return;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    carried
}

/// Carries credit back to a life.
fn carry_back(present: &Present, life: &Life) {
    let mut from = present.lock().unwrap().try_clone().expect("a clone");
    let mut to = life.socket.try_clone().expect("a clone");
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + HANG;
    while !done() {
        assert!(Instant::now() < until, "{what}: not within {HANG:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn seen(life: usize) -> u64 {
    SEEN[life].load(Ordering::Relaxed)
}

#[test]
fn a_process_that_was_replaced_while_it_was_stopped_is_not_listened_to_when_it_goes_on() {
    let (mine, its) = UnixStream::pair().expect("a socket pair");
    let worker = start(1, 0, its);
    let present: Present = Arc::new(Mutex::new(mine));
    worker.begin();
    let first = Life::begin(0);
    let from_first = carry(&first, &present);
    carry_back(&present, &first);
    until("tuples of the first life", || seen(0) > 1_000);

    first.signal(Signal::STOP);
    // What it had sent is executed before it is given up.
    let (mut before, mut carried) = (0, 0);
    until("the stop", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = (seen(0), from_first.load(Ordering::Relaxed));
        now == (std::mem::replace(&mut before, now.0), std::mem::replace(&mut carried, now.1))
    });
    worker.lose_worker(0);
    let (mine, its) = UnixStream::pair().expect("a socket pair");
    *present.lock().unwrap() = mine;
    let second = Life::begin(1);
    let from_second = carry(&second, &present);
    carry_back(&present, &second);
    assert!(worker.rejoiner().rejoin(0, 1, 1, vec![link(its)]).expect("the link is made anew"));
    until("tuples of the second life", || seen(1) > 1_000);
    assert_eq!(worker.snapshot().links.refused_batches, 0);

    let stopped_at = carried;
    first.signal(Signal::CONT);
    until("batches of the first life", || from_first.load(Ordering::Relaxed) > stopped_at);
    // Until it has no credit left: nobody gives it any.
    until("the first life's last batch", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = from_first.load(Ordering::Relaxed);
        now == std::mem::replace(&mut carried, now)
    });
    let (late_ones, refused) = (carried - stopped_at, || worker.snapshot().links.refused_batches);
    let late = seen(1);
    until("the successor goes on", || seen(1) > late + 10_000);
    until("each of them is refused and counted", || refused() == late_ones);
    assert_eq!(seen(0), before, "tuples of the first life were executed after it was given up");
    assert_eq!(DISORDER.load(Ordering::Relaxed), 0, "tuples out of order, or twice");
    assert!(from_second.load(Ordering::Relaxed) > 0);
    while let Some(event) = worker.next_event(Duration::ZERO) {
        assert!(!matches!(event, WorkerEvent::Failed(_)), "the receiver ended: {event:?}");
    }
    println!("{} batches refused, {} tuples of the successor", refused(), seen(1));
}
