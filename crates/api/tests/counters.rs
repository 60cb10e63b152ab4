//! What the counters of links say, for topologies whose numbers are known.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

mod support;

use std::sync::Arc;

use squall::prelude::*;
use squall_engine::{IoChoice, LinkStats, MemCluster, Step, VirtualClock, WaitStrategy};
use squall_topology::{Machine, ShmUse};
use support::{RunStats, run_workers};

#[derive(Tuple, Debug, Clone, Copy, PartialEq)]
struct Item {
    a: u64,
    b: u64,
}

/// Emits `end` items, `each_call` in a call.
struct Items {
    next: u64,
    end: u64,
    each_call: u64,
}

impl Spout for Items {
    type Out = Stream<Item>;

    fn next(&mut self, out: &mut Stream<Item>) -> Result<Next, SpoutError> {
        if self.next == self.end {
            return Ok(Next::End);
        }
        for _ in 0..self.each_call.min(self.end - self.next) {
            out.emit(Item { a: self.next, b: 7 });
            self.next += 1;
        }
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

const N: u64 = 50_000;

fn items(workers: u32, reactors: u32) -> (Topology, squall::StreamHandle<Item>) {
    let t = Topology::new("counters");
    t.configure(|c| {
        c.workers = workers;
        c.reactors = Some(reactors);
    });
    let items = t.spout("items", || Items { next: 0, end: N, each_call: 1 }).streams();
    (t, items)
}

fn link<'a>(links: &'a [LinkStats], kind: &str) -> &'a LinkStats {
    let with_tuples: Vec<_> = links.iter().filter(|l| l.traffic.tuples > 0).collect();
    assert_eq!(with_tuples.len(), 1, "one link carries tuples: {links:?}");
    assert_eq!(with_tuples[0].kind, kind);
    with_tuples[0]
}

/// A spout and a bolt on two reactors, or on one.
fn one_link(workers: u32, reactors: u32, io: IoChoice) -> RunStats {
    one_link_sharing(ShmUse::Off, workers, reactors, io)
}

fn one_link_sharing(shm: ShmUse, workers: u32, reactors: u32, io: IoChoice) -> RunStats {
    let (t, items) = items(workers, reactors);
    t.configure(|c| c.shm = shm);
    t.bolt("null", || Null).on(items.shuffle());
    let stats = run_workers(t, 2, io, WaitStrategy::Hybrid);
    assert_eq!(stats.executed("null"), N);
    stats
}

#[test]
fn a_ring_copies_each_tuple_once_on_send_and_never_on_receive() {
    let stats = one_link(1, 2, IoChoice::Auto);
    let (ring, sum) = (&link(&stats.by_link, "ring").traffic, &stats.links);
    assert_eq!((ring.tuples, ring.serializations, ring.copies_send), (N, N, N));
    // The one reason to copy: the thread lost its core in mid-batch and the bolt's time for the turn was up.
    assert_eq!(ring.copies_receive == 0, stats.components["null"].moved_bytes == 0);
    assert_eq!((ring.batch_sizes.sum(), ring.batch_sizes.count()), (N, ring.batches));
    // 48 B a tuple of two words behind its header, 64 B a batch.
    assert!(ring.bytes >= N * 32 + ring.batches * 64 && ring.bytes < N * 64 + ring.batches * 64, "{ring:?}");
    assert_eq!(
        (sum.tuples, sum.batches, sum.copies_send, sum.copies_receive),
        (N, ring.batches, N, ring.copies_receive)
    );
    assert_eq!((sum.bytes_in, sum.bytes_out, sum.zc_sent, sum.zc_copied), (0, 0, 0, 0));
}

#[test]
fn the_local_link_serializes_once_and_copies_nothing() {
    let stats = one_link(1, 1, IoChoice::Auto);
    let (local, sum) = (&link(&stats.by_link, "local").traffic, &stats.links);
    assert_eq!((local.tuples, local.serializations, local.copies_send, local.copies_receive), (N, N, 0, 0));
    assert_eq!((local.wakeups_sent, sum.batches), (0, local.batches));
}

#[test]
fn a_socket_sends_the_batch_itself_and_reads_it_where_the_kernel_put_it_on_either_driver() {
    for io in [IoChoice::Auto, IoChoice::Epoll] {
        let stats = one_link(2, 1, io);
        let (socket, sum) = (&link(&stats.by_link, "socket").traffic, &stats.links);
        assert_eq!((socket.tuples, socket.serializations, socket.copies_send), (N, N, 0), "{io}");
        // Some where the thread lost its core in mid-batch, see above.
        assert!(socket.copies_receive == 0 || stats.components["null"].moved_bytes > 0, "{io}: {socket:?}");
        assert!(sum.syscalls > 0 && sum.bytes_out >= socket.bytes && sum.bytes_in == sum.bytes_out, "{io}: {sum:?}");
    }
}

#[test]
fn small_batches_leave_many_in_one_send() {
    for io in [IoChoice::Auto, IoChoice::Epoll] {
        let (t, items) = items(2, 1);
        t.configure(|c| (c.shm, c.socket_batch_bytes) = (ShmUse::Off, 128));
        t.bolt("null", || Null).on(items.shuffle());
        let stats = run_workers(t, 2, io, WaitStrategy::Hybrid);
        assert_eq!(stats.executed("null"), N);
        let (socket, sum) = (&link(&stats.by_link, "socket").traffic, &stats.links);
        assert!(socket.batches * 2 >= N, "two tuples fit a batch");
        // The spout's side sends batches, the other's credit: a window's worth for each quarter of it.
        assert!(sum.sends * 4 < socket.batches, "{io}: {} sends of {} batches", sum.sends, socket.batches);
    }
}

#[test]
fn shared_memory_copies_each_tuple_once_on_send_and_on_receive_only_where_the_peer_is_not_trusted() {
    for (use_, received) in [(ShmUse::Auto, 0), (ShmUse::Copy, N)] {
        let stats = one_link_sharing(use_, 2, 1, IoChoice::Auto);
        let shm = &link(&stats.by_link, "shm").traffic;
        assert_eq!((shm.tuples, shm.serializations, shm.copies_send), (N, N, N), "{use_}");
        // More where the thread lost its core in mid-batch, see above.
        assert!(shm.copies_receive == received || stats.components["null"].moved_bytes > 0, "{use_}: {shm:?}");
    }
}

#[test]
fn all_grouping_to_eight_tasks_of_one_reactor_serializes_each_tuple_once() {
    let (t, items) = items(1, 2);
    t.bolt("pad", || Null).on(items.shuffle());
    // Dealt in turn: the spout to reactor 0, `pad` to 1, then `all` with its one executor to 0 … so it is named by its link.
    t.bolt("all", || Null).tasks(8).executors(1).on(items.all());
    let stats = run_workers(t, 2, IoChoice::Auto, WaitStrategy::Hybrid);
    assert_eq!((stats.executed("all"), stats.executed("pad")), (8 * N, N));
    let carried: Vec<_> = stats.by_link.iter().filter(|l| l.traffic.tuples > 0).collect();
    assert_eq!(carried.len(), 2, "{carried:?}");
    for l in carried {
        assert_eq!((l.traffic.tuples, l.traffic.serializations), (N, N), "{} → {}", l.from, l.to);
    }
    assert_eq!(stats.links.serializations, 2 * N, "once per destination reactor");
}

/// All reactors on this thread: reactor 0 emits, reactor 1 executes.
fn cluster(end: u64, each_call: u64) -> MemCluster {
    let t = Topology::new("arrival");
    t.configure(|c| c.reactors = Some(2));
    let items = t.spout("items", move || Items { next: 0, end, each_call }).streams();
    t.bolt("null", || Null).on(items.shuffle());
    let built = t.build().unwrap();
    let plan = Arc::new(built.plan(&Machine { cores: vec![0, 1] }).unwrap());
    let mut cluster = MemCluster::new(plan, built.registry, VirtualClock::at(1), 8);
    cluster.start().unwrap();
    cluster
}

fn sizes(cluster: &MemCluster) -> squall_metrics::SizeHistogram {
    let links = cluster.cores()[0].link_stats();
    links.iter().find(|l| (l.from, l.to) == (0, 1)).expect("the plan has this link").traffic.batch_sizes.clone()
}

/// One tuple emitted a turn, taken by the link at once.
#[test]
fn on_an_idle_link_the_first_tuple_leaves_at_once_alone() {
    struct Slow(u64);
    impl Spout for Slow {
        type Out = Stream<Item>;
        fn next(&mut self, out: &mut Stream<Item>) -> Result<Next, SpoutError> {
            self.0 += 1;
            if self.0.is_multiple_of(2) {
                return Ok(Next::Idle);
            }
            out.emit(Item { a: self.0, b: 0 });
            Ok(Next::Emitted)
        }
    }
    let t = Topology::new("idle");
    t.configure(|c| c.reactors = Some(2));
    let items = t.spout("items", || Slow(0)).streams();
    t.bolt("null", || Null).on(items.shuffle());
    let built = t.build().unwrap();
    let plan = Arc::new(built.plan(&Machine { cores: vec![0, 1] }).unwrap());
    let mut cluster = MemCluster::new(plan, built.registry, VirtualClock::at(1), 8);
    cluster.start().unwrap();
    for n in 1..=100 {
        // Not `flush_all`: what makes the tuple leave is that its link is idle.
        cluster.step(Step::Turn(0), false).unwrap();
        assert_eq!((sizes(&cluster).count(), sizes(&cluster).max()), (n, 1), "after turn {n}");
        cluster.step(Step::Deliver { from: 0, to: 1 }, false).unwrap();
        cluster.step(Step::Credit { from: 1, to: 0 }, false).unwrap();
    }
}

#[test]
fn under_load_batches_grow_to_the_buffer() {
    let mut cluster = cluster(1_000_000, 16);
    while sizes(&cluster).sum() < 500_000 {
        for step in cluster.steps() {
            cluster.step(step, false).unwrap();
        }
    }
    let copied: u64 = cluster.cores().iter().flat_map(|c| c.link_stats()).map(|l| l.traffic.copies_receive).sum();
    assert_eq!(copied, 0, "the receiver reads where the batch lies");
    let seen = sizes(&cluster);
    let config = &cluster.plan().spec.config;
    // A tuple of two words takes 32 B with its header; the first one of a batch may carry an origin.
    let full = (config.batch_bytes - 64) / 32;
    assert!(seen.max() >= u64::from(full) * 9 / 10, "largest {} of {full}", seen.max());
    assert!(seen.mean() > f64::from(full) * 0.8, "mean {} of {full}", seen.mean());
}

/// The bolt's reactor takes one batch, then none for a while: the link is full and the spout waits for it once.
#[test]
fn a_full_link_is_one_stall_of_the_time_it_took() {
    let mut cluster = cluster(1_000_000, 16);
    let stalls = |c: &MemCluster| {
        let links = c.cores()[0].link_stats();
        let traffic = &links.iter().find(|l| l.to == 1).expect("the plan has this link").traffic;
        (traffic.credit_stalls, traffic.stalled_ns)
    };
    let mut turns = 0;
    while stalls(&cluster).0 == 0 {
        cluster.step(Step::Turn(0), false).unwrap();
        turns += 1;
        assert!(turns < 1000, "the link never fills");
    }
    for _ in 0..5 {
        cluster.clock().advance(1_000);
        cluster.step(Step::Turn(0), false).unwrap();
    }
    assert_eq!(stalls(&cluster), (1, 0), "still the same wait");
    cluster.step(Step::Deliver { from: 0, to: 1 }, false).unwrap();
    while cluster.steps().contains(&Step::Credit { from: 1, to: 0 }) {
        cluster.step(Step::Credit { from: 1, to: 0 }, false).unwrap();
    }
    cluster.step(Step::Turn(0), false).unwrap();
    let (again, ns) = stalls(&cluster);
    assert_eq!(ns, 5_000);
    assert!((1..=2).contains(&again), "it may fill up again at once");
}
