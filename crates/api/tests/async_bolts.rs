//! Bolts whose calls run elsewhere: bounded, in order or not, and in nobody's way (D8).
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

#[path = "support/feed.rs"]
mod feed;
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use feed::Num;
use squall::prelude::*;
use squall::{AsyncBolt, AsyncOptions};
use squall_engine::{IoChoice, WaitStrategy};
use support::run_workers;

/// Calls under way, now and at most.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn enter(self: &Arc<Self>) -> Entered {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Entered(self.clone())
    }
}

struct Entered(Arc<Gauge>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Emits `n` for each number but those it fails on, after a while that is the shorter the later they come.
struct Slow(Arc<Gauge>);

impl AsyncBolt for Slow {
    type In = Num;
    type Out = Stream<Num>;
    type Answer = u64;

    fn call(&mut self, input: Num) -> impl Future<Output = Result<u64, BoltError>> + Send + 'static {
        let entered = self.0.enter();
        async move {
            tokio::time::sleep(Duration::from_micros(500 * (8 - input.n % 8))).await;
            drop(entered);
            match input.n % 10 {
                3 => Err(BoltError::fail("a bad answer")),
                7 => std::panic::resume_unwind(Box::new("a call that panics")),
                _ => Ok(input.n),
            }
        }
    }

    fn answered(&mut self, n: u64, out: &mut Stream<Num>) -> Result<(), BoltError> {
        out.emit(Num { n });
        Ok(())
    }
}

struct Numbers(u64);

impl Spout for Numbers {
    type Out = Stream<Num>;

    fn next(&mut self, out: &mut Stream<Num>) -> Result<Next, SpoutError> {
        if self.0 == 100 {
            return Ok(Next::End);
        }
        out.emit_with_id(self.0, Num { n: self.0 });
        self.0 += 1;
        Ok(Next::Emitted)
    }
}

struct Sink(Arc<Mutex<Vec<u64>>>);

impl Bolt for Sink {
    type In = Num;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
        assert_eq!(input.root_count(), 1, "anchored to its input");
        self.0.lock().unwrap().push(input.n.to_native());
        Ok(())
    }
}

#[test]
fn calls_are_bounded_and_their_answers_come_in_order_or_as_they_end_anchored_to_their_inputs() {
    for ordered in [true, false] {
        let (t, gauge, got) = (Topology::new("calls"), Arc::<Gauge>::default(), Arc::<Mutex<Vec<u64>>>::default());
        let numbers = t.spout("numbers", || Numbers(0));
        let counted = gauge.clone();
        let options = AsyncOptions { concurrency: 8, ordered };
        let slow = t.async_bolt("slow", options, move || Slow(counted.clone())).on(numbers.shuffle());
        let sink = got.clone();
        t.bolt("sink", move || Sink(sink.clone())).on(slow.shuffle());
        let stats = run_workers(t, 1, IoChoice::Auto, WaitStrategy::Hybrid).components;
        let mut got = got.lock().unwrap().clone();
        let wanted: Vec<u64> = (0..100).filter(|n| n % 10 != 3 && n % 10 != 7).collect();
        if !ordered {
            got.sort_unstable();
        }
        assert_eq!(got, wanted, "ordered: {ordered}");
        let most = gauge.most.load(Ordering::SeqCst);
        assert!((2..=8).contains(&most), "{most} calls at once");
        assert_eq!((stats["numbers"].acked, stats["numbers"].failed), (80, 20));
        assert_eq!((stats["slow"].acked, stats["slow"].failed, stats["slow"].restarts), (80, 20, 0));
    }
}

/// Its first call blocks its thread until everything else has come through.
struct Blocking(Arc<(Mutex<usize>, Condvar)>);

impl AsyncBolt for Blocking {
    type In = Num;
    type Out = ();
    type Answer = ();

    fn call(&mut self, input: Num) -> impl Future<Output = Result<(), BoltError>> + Send + 'static {
        let seen = self.0.clone();
        async move {
            if input.n == 0 {
                let (seen, changed) = &*seen;
                let all = changed.wait_timeout_while(seen.lock().unwrap(), Duration::from_secs(60), |n| *n < 100);
                if all.unwrap().1.timed_out() {
                    return Err(BoltError::fail("the others wait for this call"));
                }
            }
            Ok(())
        }
    }

    fn answered(&mut self, (): (), _: &mut ()) -> Result<(), BoltError> {
        Ok(())
    }
}

struct Seen(Arc<(Mutex<usize>, Condvar)>);

impl Bolt for Seen {
    type In = Num;
    type Out = ();

    fn execute(&mut self, _: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
        Ok(())
    }
}

#[test]
fn a_call_that_blocks_its_thread_stops_no_reactor_and_no_other_call() {
    let (t, seen) = (Topology::new("blocking"), Arc::<(Mutex<usize>, Condvar)>::default());
    let numbers = t.spout("numbers", || Numbers(0));
    let (calls, others) = (seen.clone(), seen.clone());
    t.async_bolt("calls", AsyncOptions::default(), move || Blocking(calls.clone())).on(numbers.shuffle());
    t.bolt("others", move || Seen(others.clone())).on(numbers.shuffle());
    let stats = run_workers(t, 1, IoChoice::Auto, WaitStrategy::Hybrid).components;
    assert_eq!((stats["numbers"].acked, stats["numbers"].failed), (100, 0));
}

/// Its answer is its end.
struct Fatal;

impl AsyncBolt for Fatal {
    type In = Num;
    type Out = Stream<Num>;
    type Answer = u64;

    fn call(&mut self, input: Num) -> impl Future<Output = Result<u64, BoltError>> + Send + 'static {
        async move { Ok(input.n) }
    }

    fn answered(&mut self, n: u64, out: &mut Stream<Num>) -> Result<(), BoltError> {
        if n == 50 {
            return Err(BoltError::fatal("no more"));
        }
        out.emit(Num { n });
        Ok(())
    }
}

#[test]
fn a_fatal_answer_restarts_the_executor_and_fails_what_was_under_way() {
    let (t, got) = (Topology::new("fatal"), Arc::<Mutex<Vec<u64>>>::default());
    let numbers = t.spout("numbers", || Numbers(0));
    let fatal = t.async_bolt("fatal", AsyncOptions { ordered: true, ..Default::default() }, || Fatal);
    let fatal = fatal.on(numbers.shuffle());
    let sink = got.clone();
    t.bolt("sink", move || Sink(sink.clone())).on(fatal.shuffle());
    let stats = run_workers(t, 1, IoChoice::Auto, WaitStrategy::Hybrid).components;
    assert_eq!(stats["fatal"].restarts, 1);
    assert!(!got.lock().unwrap().contains(&50));
    let (acked, failed) = (stats["numbers"].acked, stats["numbers"].failed);
    assert_eq!((acked + failed, acked), (100, got.lock().unwrap().len() as u64));
    assert!((1..=64).contains(&failed), "50, and what was under way with it: {failed}");
}

/// Takes its time, on a reactor.
struct Hog;

impl Bolt for Hog {
    type In = Num;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
        if input.n < 20 {
            std::thread::sleep(Duration::from_millis(12));
        }
        Ok(())
    }
}

#[test]
fn a_bolt_that_holds_its_reactor_is_named_and_one_on_a_side_thread_is_not() {
    for side in [false, true] {
        let t = Topology::new("hogs");
        t.configure(|c| c.reactors = Some(1));
        let numbers = t.spout("numbers", || Numbers(0));
        let hog = t.bolt("hog", || Hog).on(numbers.shuffle());
        if side {
            hog.side_thread();
        }
        t.bolt("other", || Sink(Arc::default())).on(numbers.shuffle());
        let stats = run_workers(t, 1, IoChoice::Auto, WaitStrategy::Hybrid).components;
        assert_eq!(stats["hog"].long_calls > 0, !side, "{:?}", stats["hog"]);
        assert!(side || stats["hog"].long_call_ns_max >= 12_000_000);
        assert_eq!((stats["other"].long_calls, stats["numbers"].long_calls), (0, 0));
    }
}
