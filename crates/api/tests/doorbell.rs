//! A parked spout and a ring from outside of its worker: the doorbell as another process would use it.
#![allow(missing_docs)]

extern crate squall_api as squall;

mod support;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use squall::prelude::*;
use squall_engine::{IoChoice, WaitStrategy};
use support::{RunStats, join_workers, start_workers};

#[derive(Tuple, Debug, Clone, Copy, PartialEq)]
struct Item {
    a: u64,
}

/// What another process would have in shared memory, and the way of the doorbell to it.
#[derive(Clone, Default)]
struct Outside {
    published: Arc<AtomicU64>,
    doorbell: Arc<Mutex<Option<OwnedFd>>>,
}

/// Emits what is published and parks.
struct Listening {
    outside: Outside,
    seen: u64,
}

impl Spout for Listening {
    type Out = Stream<Item>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        *self.outside.doorbell.lock().unwrap() = Some(ctx.doorbell()?);
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Item>) -> Result<Next, SpoutError> {
        if self.outside.published.load(Ordering::Acquire) == self.seen {
            return Ok(Next::Parked);
        }
        self.seen += 1;
        out.emit(Item { a: self.seen });
        Ok(Next::Emitted)
    }
}

/// Tells outside how many came. (A snapshot of the worker would wake it.)
struct Tell(Arc<AtomicU64>);

impl Bolt for Tell {
    type In = Item;
    type Out = ();

    fn execute(&mut self, item: Input<'_, Item>, _: &mut ()) -> Result<(), BoltError> {
        self.0.store(item.a.to_native(), Ordering::Release);
        Ok(())
    }
}

#[test]
fn a_ring_after_something_was_published_ends_the_parking_of_a_spout_every_time() {
    for wait in [WaitStrategy::Park, WaitStrategy::Hybrid, WaitStrategy::Spin] {
        let outside = Outside::default();
        let t = Topology::new("listening");
        let spouts = outside.clone();
        let items = t.spout("listening", move || Listening { outside: spouts.clone(), seen: 0 }).streams();
        let arrived = Arc::new(AtomicU64::new(0));
        let tell = arrived.clone();
        t.bolt("tell", move || Tell(tell.clone())).on(items.shuffle());
        let workers = start_workers(t, 1, IoChoice::Auto, wait);
        let mut bell = File::from(outside.doorbell.lock().unwrap().take().expect("prepare gave it away"));
        workers[0].begin();
        let began = Instant::now();
        for n in 1..=50 {
            outside.published.store(n, Ordering::Release);
            bell.write_all(&1_u64.to_ne_bytes()).unwrap();
            while arrived.load(Ordering::Acquire) < n {
                std::thread::yield_now();
                assert!(began.elapsed() < Duration::from_secs(120), "{wait}: tuple {n} did not come");
            }
        }
        workers[0].stop_spouts();
        let mut stats = RunStats::default();
        join_workers(workers, &mut stats);
        assert_eq!((stats.emitted("listening"), stats.executed("tell")), (50, 50), "{wait}");
    }
}

#[test]
fn where_no_thread_sleeps_there_is_no_doorbell_and_the_spout_is_told() {
    let t = Topology::new("listening");
    let items = t.spout("listening", || Listening { outside: Outside::default(), seen: 0 }).streams();
    t.bolt("tell", || Tell(Arc::default())).on(items.shuffle());
    let Err(refused) = squall::testing::run(t) else { panic!("prepare fails") };
    assert!(refused.to_string().contains("there is no doorbell here"), "{refused}");
}
