//! What a task can ask of its place: peers, configuration, shared resources, counters, hooks, direct streams, parking.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall::prelude::*;
use squall::testing;

#[derive(Tuple)]
struct Item {
    n: u64,
}

struct Numbers(u64);

impl Spout for Numbers {
    type Out = Stream<Item>;

    fn next(&mut self, out: &mut Stream<Item>) -> Result<Next, SpoutError> {
        if self.0 == 0 {
            return Ok(Next::End);
        }
        self.0 -= 1;
        out.emit(Item { n: self.0 });
        Ok(Next::Emitted)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    factor: u64,
}

/// Sends each number to the one task of `sink` that it names.
#[derive(Default)]
struct Deal {
    first: u32,
    factor: u64,
    refused: Option<squall::Counter>,
}

impl Bolt for Deal {
    type In = Item;
    type Out = DirectStream<Item>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.first = ctx.peers("sink").ok_or_else(|| BoltError::fatal("no sink"))?.start;
        assert_eq!(ctx.peers("nobody"), None);
        self.factor = ctx.config::<Settings>()?.factor;
        self.refused = Some(ctx.counter("refused"));
        Ok(())
    }

    fn execute(&mut self, i: Input<'_, Item>, out: &mut DirectStream<Item>) -> Result<(), BoltError> {
        let n = i.n.to_native();
        if !out.emit_to(self.first + (n % 4) as u32, Item { n: n * self.factor }) {
            self.refused.as_ref().unwrap().inc();
        }
        Ok(())
    }
}

/// Task index and number, in order of execution.
type Seen = Mutex<Vec<(u32, u64)>>;

struct Sink {
    seen: Option<Arc<Seen>>,
    task: u32,
}

impl Bolt for Sink {
    type In = Item;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        // One for all tasks of the worker.
        self.seen = Some(ctx.resource("seen", Seen::default));
        self.task = ctx.task_index();
        assert_eq!((ctx.component(), ctx.task_count()), ("sink", 3));
        Ok(())
    }

    fn execute(&mut self, i: Input<'_, Item>, (): &mut ()) -> Result<(), BoltError> {
        self.seen.as_ref().unwrap().lock().unwrap().push((self.task, i.n.to_native()));
        Ok(())
    }

    fn cleanup(&mut self) {
        let seen = self.seen.as_ref().unwrap().lock().unwrap();
        assert!(seen.iter().all(|(task, n)| n / 10 % 4 == u64::from(*task)), "{seen:?}");
    }
}

#[test]
fn a_direct_stream_reaches_the_task_it_names_and_refuses_one_that_does_not_subscribe() {
    let t = Topology::new("direct");
    let numbers = t.spout("numbers", || Numbers(40)).streams();
    let dealt = t.bolt("deal", Deal::default).config("factor", 10).on(numbers.shuffle()).streams();
    t.bolt("sink", || Sink { seen: None, task: 0 }).tasks(3).on(dealt.direct());
    let outcome = testing::run(t).unwrap();
    // Numbers that leave 3 name a fourth task, which there is not.
    assert_eq!(outcome.components["sink"].executed, 30);
    assert_eq!(outcome.counters[&("deal".to_owned(), "refused".to_owned())], 10);
    assert_eq!(outcome.components["deal"].emitted, 30);
}

#[test]
fn a_missing_or_unknown_config_key_is_named() {
    for (key, says) in [("faktor", "unknown field `faktor`"), ("", "missing field `factor`")] {
        let t = Topology::new("config");
        let numbers = t.spout("numbers", || Numbers(1)).streams();
        let deal = t.bolt("deal", Deal::default).on(numbers.shuffle());
        let deal = if key.is_empty() { deal } else { deal.config(key, 1) };
        t.bolt("sink", || Sink { seen: None, task: 0 }).on(deal.direct());
        let error = testing::run(t).err().unwrap().to_string();
        assert!(error.contains("deal") && error.contains(says), "{error}");
    }
}

#[derive(Default)]
struct Counts {
    prepared: AtomicU64,
    executed: AtomicU64,
    emitted: AtomicU64,
    acked: AtomicU64,
    failed: AtomicU64,
    ended: AtomicU64,
}

struct Watch(Arc<Counts>);

impl squall::TaskHook for Watch {
    fn prepare(&mut self, component: &str, _: u32) {
        assert_eq!(component, "even");
        self.0.prepared.fetch_add(1, Ordering::Relaxed);
    }

    fn on_emit(&mut self, _: u32, _: u32, targets: &mut dyn Iterator<Item = u32>) {
        self.0.emitted.fetch_add(targets.count() as u64, Ordering::Relaxed);
    }

    fn on_execute(&mut self, _: u32, _: u32, _: u32) {
        self.0.executed.fetch_add(1, Ordering::Relaxed);
    }

    fn on_ack(&mut self, _: u32) {
        self.0.acked.fetch_add(1, Ordering::Relaxed);
    }

    fn on_fail(&mut self, _: u32, cause: &str) {
        assert_eq!(cause, "seven");
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn cleanup(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

struct Even;

impl Bolt for Even {
    type In = Item;
    type Out = Stream<Item>;

    fn execute(&mut self, i: Input<'_, Item>, out: &mut Stream<Item>) -> Result<(), BoltError> {
        if i.n == 7 {
            return Err(BoltError::fail("seven"));
        }
        if i.n.to_native().is_multiple_of(2) {
            out.emit(i.view());
        }
        Ok(())
    }
}

#[test]
fn a_hook_sees_every_prepare_execute_emit_ack_and_fail_of_its_component() {
    let counts = Arc::new(Counts::default());
    let t = Topology::new("hooks");
    let numbers = t.spout("numbers", || Numbers(10)).streams();
    let watch = counts.clone();
    let even = t.bolt("even", || Even).tasks(2).hook(move || Watch(watch.clone())).on(numbers.shuffle()).streams();
    let all = t.map("copy", even.all(), |i| Item { n: i.n.to_native() });
    t.filter("none", all.shuffle(), |_| false);
    testing::run(t).unwrap();
    let seen = [&counts.prepared, &counts.executed, &counts.emitted, &counts.acked, &counts.failed];
    assert_eq!(seen.map(|c| c.load(Ordering::Relaxed)), [2, 10, 5, 9, 1]);
    assert!(counts.ended.load(Ordering::Relaxed) > 0);
}

/// Parks until another thread wakes it, then sleeps a virtual second.
struct Parks {
    waker: Option<squall::Waker>,
    clock: Option<squall::Clock>,
    until: Option<squall::Time>,
    emitted: bool,
}

impl Spout for Parks {
    type Out = Stream<Item>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.waker = Some(ctx.waker());
        self.clock = Some(ctx.clock());
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Item>) -> Result<Next, SpoutError> {
        if let Some(waker) = self.waker.take() {
            // A wake from another thread, before the task is even parked, must not be lost.
            std::thread::spawn(move || waker.wake()).join().unwrap();
            return Ok(Next::Parked);
        }
        let now = self.clock.as_ref().unwrap().now();
        let until = *self.until.get_or_insert(now + Duration::from_secs(1));
        if now < until {
            return Ok(Next::WakeAt(until));
        }
        if self.emitted {
            return Ok(Next::End);
        }
        self.emitted = true;
        out.emit(Item { n: 1 });
        Ok(Next::Emitted)
    }
}

#[test]
fn a_parked_spout_is_woken_and_a_sleeping_one_gets_its_time() {
    let t = Topology::new("parks");
    let items = t.spout("parks", || Parks { waker: None, clock: None, until: None, emitted: false }).streams();
    t.filter("any", items.shuffle(), |_| true);
    let outcome = testing::run(t).unwrap();
    assert_eq!(outcome.components["any"].executed, 1);
    assert!(outcome.took >= Duration::from_secs(1) && outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}
