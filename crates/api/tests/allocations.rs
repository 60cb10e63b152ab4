//! After warm-up the hot path allocates nothing (design §2): a million tuples, typed and dynamic, over each kind of link,
//! and not one call of the allocator on a reactor's thread.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use squall::prelude::*;
use squall::{Row, RowRef, ValueRef};
use squall_engine::{IoChoice, WaitStrategy, Worker, WorkerEvent};
use squall_topology::ShmUse;
use support::{RunStats, join_workers, start_workers};

thread_local! {
    /// This thread runs components.
    static REACTOR: Cell<bool> = const { Cell::new(false) };
    /// The allocator is telling where it was called.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Calls are counted now.
static COUNTING: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
/// Tuples executed by sinks.
static EXECUTED: AtomicU64 = AtomicU64::new(0);

/// Counts the calls that reactors' threads make.
struct Counting;

fn count() {
    if !COUNTING.load(SeqCst) || !REACTOR.get() || TELLING.get() {
        return;
    }
    if CALLS.fetch_add(1, SeqCst) < 8 && std::env::var_os("SQUALL_TELL_ALLOCATIONS").is_some() {
        TELLING.set(true);
        eprintln!("an allocation at\n{}", std::backtrace::Backtrace::force_capture());
        TELLING.set(false);
    }
}

// SAFETY: passes everything on to `System`; counting touches thread-locals without destructors and atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Tuple, Debug, Clone, PartialEq)]
struct Item {
    n: u64,
    text: String,
}

/// What a spout emits and how a bolt reads and passes it on.
trait Kind: Tuple {
    fn emit(n: u64, out: &mut Stream<Self>);
    fn relay(input: &Input<'_, Self>, out: &mut Stream<Self>);
    fn read(input: &Input<'_, Self>);
}

impl Kind for Item {
    fn emit(n: u64, out: &mut Stream<Self>) {
        out.emit(ItemRef { n, text: "some text that is not inline" });
    }
    fn relay(input: &Input<'_, Self>, out: &mut Stream<Self>) {
        out.emit(input.view());
    }
    fn read(input: &Input<'_, Self>) {
        black_box((input.n.to_native(), input.text.len()));
    }
}

/// As an item, tracked.
#[derive(Tuple, Debug, Clone, PartialEq)]
struct Tracked {
    n: u64,
    text: String,
}

impl Kind for Tracked {
    fn emit(n: u64, out: &mut Stream<Self>) {
        out.emit_with_id(n, TrackedRef { n, text: "some text that is not inline" });
    }
    fn relay(input: &Input<'_, Self>, out: &mut Stream<Self>) {
        assert_eq!(input.root_count(), 1);
        out.emit(input.view());
    }
    fn read(input: &Input<'_, Self>) {
        black_box((input.n.to_native(), input.text.len()));
    }
}

fn row<R>(n: u64, f: impl FnOnce(RowRef<'_>) -> R) -> R {
    let text = ValueRef::Str("some text that is not inline");
    f(RowRef(&[ValueRef::I64(n as i64), ValueRef::F64(0.5), ValueRef::Bool(true), text]))
}

impl Kind for Row {
    fn emit(n: u64, out: &mut Stream<Self>) {
        row(n, |r| out.emit(r));
    }
    fn relay(input: &Input<'_, Self>, out: &mut Stream<Self>) {
        let n = input.get().values()[0].as_i64().unwrap_or(0);
        row(n as u64, |r| out.emit(r));
    }
    fn read(input: &Input<'_, Self>) {
        for value in input.get().values() {
            black_box((value.as_i64(), value.as_f64(), value.as_str()));
        }
    }
}

/// Emits for ever.
struct Source<K>(u64, PhantomData<K>);

impl<K: Kind> Spout for Source<K> {
    type Out = Stream<K>;

    fn prepare(&mut self, _: &Context) -> Result<(), SpoutError> {
        REACTOR.set(true);
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<K>) -> Result<Next, SpoutError> {
        self.0 += 1;
        K::emit(self.0, out);
        Ok(Next::Emitted)
    }
}

struct Relay<K>(PhantomData<K>);

impl<K: Kind> Bolt for Relay<K>
where
    K: squall::Inputs,
{
    type In = K;
    type Out = Stream<K>;

    fn prepare(&mut self, _: &Context) -> Result<(), BoltError> {
        REACTOR.set(true);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, K>, out: &mut Stream<K>) -> Result<(), BoltError> {
        K::relay(&input, out);
        Ok(())
    }
}

struct Sink<K>(u64, PhantomData<K>);

impl<K: Kind> Bolt for Sink<K>
where
    K: squall::Inputs,
{
    type In = K;
    type Out = ();

    fn prepare(&mut self, _: &Context) -> Result<(), BoltError> {
        REACTOR.set(true);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, K>, _: &mut ()) -> Result<(), BoltError> {
        K::read(&input);
        self.0 += 1;
        Ok(())
    }

    fn batch_end(&mut self, _: &mut ()) -> Result<(), BoltError> {
        EXECUTED.fetch_add(std::mem::take(&mut self.0), SeqCst);
        Ok(())
    }
}

/// spout → relay → sink by key, and relay → copies by all-grouping, with two tasks of each. `workers` and `reactors` decide which links
/// that makes.
fn topology<K: Kind + squall::Inputs>(workers: u32, reactors: u32) -> Topology {
    let t = Topology::new("steady");
    t.configure(|c| {
        c.workers = workers;
        c.reactors = Some(reactors);
    });
    let source = t.spout("source", || Source::<K>(0, PhantomData)).tasks(2).executors(2).streams();
    let relayed = t.bolt("relay", || Relay::<K>(PhantomData)).tasks(2).executors(2).on(source.shuffle()).streams();
    let _ = t.bolt("sink", || Sink::<K>(0, PhantomData)).tasks(2).executors(2).on(relayed.local_or_shuffle());
    let _ = t.bolt("copies", || Sink::<K>(0, PhantomData)).tasks(2).executors(2).on(relayed.all());
    t
}

const MILLION: u64 = 1_000_000;
/// Millions of tuples in which the reactors have to become warm.
const WINDOWS_MAX: usize = 40;

/// Waits until sinks have executed so many tuples more.
fn run_for(tuples: u64, workers: &[Worker]) {
    let goal = EXECUTED.load(SeqCst) + tuples;
    let began = Instant::now();
    while EXECUTED.load(SeqCst) < goal {
        for worker in workers {
            if let Some(WorkerEvent::Failed(cause)) = worker.next_event(Duration::from_millis(1)) {
                panic!("{cause}");
            }
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{} of {goal} tuples", EXECUTED.load(SeqCst));
    }
}

/// Allocator calls of the reactors while sinks execute a million tuples.
fn calls_per_million(workers: &[Worker]) -> u64 {
    CALLS.store(0, SeqCst);
    COUNTING.store(true, SeqCst);
    run_for(MILLION, workers);
    COUNTING.store(false, SeqCst);
    CALLS.load(SeqCst)
}

/// One topology at a time: the counts are the process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn steady<K: Kind + squall::Inputs>(workers: u32, reactors: u32, io: IoChoice, kinds: &[&str]) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let t = topology::<K>(workers, reactors);
    let shm = if kinds.contains(&"shm") { ShmUse::Auto } else { ShmUse::Off };
    t.configure(|c| c.shm = shm);
    let workers = start_workers(t, 2, io, WaitStrategy::Hybrid);
    workers.iter().for_each(Worker::begin);
    // Warm is who has as many buffers as were ever in use at once, which depends on when threads ran; that number is bounded
    // (D2), so it is reached, and then nothing is allocated for ever. Who allocates per tuple, batch or stall never gets there.
    let mut calls = Vec::new();
    while !calls.ends_with(&[0; 3]) && calls.len() < WINDOWS_MAX {
        calls.push(calls_per_million(&workers));
    }
    workers.iter().for_each(Worker::stop_spouts);
    let mut stats = RunStats::default();
    join_workers(workers, &mut stats);
    for kind in kinds {
        let carried = |l: &squall_engine::LinkStats| l.kind == *kind && l.traffic.tuples > MILLION / 20;
        assert!(stats.by_link.iter().any(carried), "nothing went over a {kind}: {:?}", stats.by_link);
    }
    eprintln!("allocator calls per million tuples: {calls:?}");
    assert!(
        calls.ends_with(&[0; 3]),
        "never three millions in a row without: {calls:?}; SQUALL_TELL_ALLOCATIONS=1 shows where"
    );
}

#[test]
fn the_counter_counts_what_a_reactor_allocates() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    REACTOR.set(true);
    CALLS.store(0, SeqCst);
    COUNTING.store(true, SeqCst);
    drop(black_box(vec![1u8; 100]));
    COUNTING.store(false, SeqCst);
    REACTOR.set(false);
    assert_eq!(CALLS.load(SeqCst), 2, "one allocation, one release");
}

#[test]
fn within_a_reactor_typed_and_dynamic() {
    steady::<Item>(1, 1, IoChoice::Auto, &["local"]);
    steady::<Row>(1, 1, IoChoice::Auto, &["local"]);
}

#[test]
fn over_rings_typed_and_dynamic() {
    steady::<Item>(1, 2, IoChoice::Auto, &["local", "ring"]);
    steady::<Row>(1, 2, IoChoice::Auto, &["local", "ring"]);
}

#[test]
fn over_shared_memory_typed_and_dynamic() {
    steady::<Item>(2, 1, IoChoice::Auto, &["local", "shm"]);
    steady::<Row>(2, 1, IoChoice::Auto, &["local", "shm"]);
}

#[test]
fn over_sockets_typed_and_dynamic() {
    steady::<Item>(2, 1, IoChoice::Auto, &["local", "socket"]);
    steady::<Row>(2, 1, IoChoice::Auto, &["local", "socket"]);
}

/// Roots, their acks and their ledgers come from memory that is there, too.
#[test]
fn tracked_over_rings_and_shared_memory() {
    steady::<Tracked>(1, 2, IoChoice::Auto, &["local", "ring"]);
    steady::<Tracked>(2, 1, IoChoice::Auto, &["local", "shm"]);
}

#[test]
fn over_sockets_with_epoll() {
    steady::<Item>(2, 1, IoChoice::Epoll, &["local", "socket"]);
}
