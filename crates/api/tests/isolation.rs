//! A component that panics or gives up takes nobody with it (D7): its executor is restarted, its tuple fails or goes to the
//! dead letters, and everything else goes on. On virtual time, in several placements.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

#[path = "support/feed.rs"]
mod feed;

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use feed::{Fed, Feeder, Num, PLACEMENTS, place};
use squall::prelude::*;
use squall::{DeadLetter, Level, TaskId};
use squall_engine::WorkerEvent;

/// Panics without a word on the tests' output.
fn panic_quietly(text: &str) -> ! {
    resume_unwind(Box::new(text.to_owned()))
}

/// What an instance saw, in order: task, how many tuples its state knows, the tuple.
type Seen = Arc<Mutex<Vec<(TaskId, u64, u64)>>>;

/// How a bolt misbehaves on a tuple.
#[derive(Clone, Copy, PartialEq)]
enum Harm {
    Panic,
    Fatal,
    /// Keeps it, and panics.
    Keep,
    /// Emits twice, and panics.
    Emit,
    /// Emits more than it may.
    Burst,
}

/// Counts, passes on, and fails on one number.
struct Fragile {
    seen: Seen,
    task: TaskId,
    known: u64,
    bad: u64,
    harm: Harm,
    kept: Vec<Anchor>,
    prepared: Arc<AtomicU32>,
}

impl Fragile {
    fn on(bad: u64, harm: Harm) -> (Seen, Arc<AtomicU32>, impl Fn() -> Fragile + Send + Sync) {
        let (seen, prepared) = (Seen::default(), Arc::<AtomicU32>::default());
        let made = (seen.clone(), prepared.clone());
        let make = move || {
            let (seen, prepared) = made.clone();
            Fragile { seen, task: 0, known: 0, bad, harm, kept: Vec::new(), prepared }
        };
        (seen, prepared, make)
    }
}

impl Bolt for Fragile {
    type In = Num;
    type Out = Stream<Num>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.task = ctx.task();
        self.prepared.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Num>, out: &mut Stream<Num>) -> Result<(), BoltError> {
        let n = input.n.to_native();
        self.known += 1;
        self.seen.lock().unwrap().push((self.task, self.known, n));
        if n != self.bad {
            out.emit(Num { n });
            return Ok(());
        }
        match self.harm {
            Harm::Panic => panic_quietly("a bad number"),
            Harm::Fatal => return Err(BoltError::fatal("no database")),
            Harm::Keep => self.kept.push(input.keep().1),
            Harm::Emit => (0..2).for_each(|_| out.emit(Num { n })),
            Harm::Burst => (0..1_000_000).for_each(|_| out.emit(Num { n })),
        }
        panic_quietly("a bad number");
    }
}

/// Writes down what it takes.
struct Sink(Arc<Mutex<Vec<u64>>>);

impl Bolt for Sink {
    type In = Num;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
        self.0.lock().unwrap().push(input.n.to_native());
        Ok(())
    }
}

struct Letters(Arc<Mutex<Vec<DeadLetter>>>);

impl Bolt for Letters {
    type In = DeadLetter;
    type Out = ();

    fn execute(&mut self, input: Input<'_, DeadLetter>, _: &mut ()) -> Result<(), BoltError> {
        self.0.lock().unwrap().push(input.view().to_owned());
        Ok(())
    }
}

fn numbers(seen: &Seen) -> Vec<u64> {
    seen.lock().unwrap().iter().map(|(_, _, n)| *n).collect()
}

fn known(seen: &Seen) -> Vec<u64> {
    seen.lock().unwrap().iter().map(|(_, known, _)| *known).collect()
}

fn logged(fed: &Fed) -> Vec<String> {
    let events = fed.cluster.receivers().events.try_iter();
    let errors = events.filter_map(|e| match e {
        WorkerEvent::Log { level: Level::Error, component, task, text } => Some(format!("{component} {task}: {text}")),
        _ => None,
    });
    errors.collect()
}

/// What a sink took.
type Got = Arc<Mutex<Vec<u64>>>;

/// One bolt that fails on 3, between a feeder and a sink.
fn one(placement: (u32, u32), harm: Harm) -> (Fed, Feeder, Seen, Arc<AtomicU32>, Got) {
    let (seen, prepared, make) = Fragile::on(3, harm);
    let (t, feeder, got) = (Topology::new("isolated"), Feeder::default(), Arc::<Mutex<Vec<u64>>>::default());
    place(&t, placement);
    let from = feeder.clone();
    let source = t.spout("source", move || from.spout());
    let fragile = t.bolt("fragile", make).burst_bytes(1 << 16).on(source.shuffle());
    let sink = got.clone();
    t.bolt("sink", move || Sink(sink.clone())).on(fragile.shuffle());
    (Fed::start(t), feeder, seen, prepared, got)
}

#[test]
fn a_panic_and_a_fatal_error_fail_the_tuple_and_restart_the_executor_with_a_new_state() {
    for (harm, words) in [(Harm::Panic, "panicked: a bad number"), (Harm::Fatal, "a fatal error: no database")] {
        for placement in PLACEMENTS {
            let (mut fed, feeder, seen, prepared, got) = one(placement, harm);
            (1..=6).for_each(|n| feeder.feed(n, n));
            fed.settle();
            assert_eq!(numbers(&seen), [1, 2, 3, 4, 5, 6], "each tuple once");
            assert_eq!(known(&seen), [1, 2, 3, 1, 2, 3], "the state is lost");
            assert_eq!(*got.lock().unwrap(), [1, 2, 4, 5, 6]);
            assert_eq!(prepared.load(Ordering::Relaxed), 2, "prepare comes again");
            assert_eq!(feeder.acks(), [1, 2, 4, 5, 6]);
            assert_eq!(feeder.fails(), [(3, "failed by fragile".to_owned())]);
            let stats = fed.stats("fragile");
            assert_eq!((stats.restarts, stats.executed, stats.acked, stats.failed, stats.lost), (1, 6, 5, 1, 0));
            let log = logged(&fed);
            assert_eq!(log.len(), 1);
            assert!(log[0].contains(words) && log[0].contains("tuple 3 of 6") && log[0].contains("lost"), "{log:?}");
        }
    }
}

#[test]
fn what_was_emitted_before_the_panic_stays_and_the_root_fails_once() {
    for placement in PLACEMENTS {
        let (mut fed, feeder, _, _, got) = one(placement, Harm::Emit);
        (1..=4).for_each(|n| feeder.feed(n, n));
        fed.settle();
        assert_eq!(*got.lock().unwrap(), [1, 2, 3, 3, 4]);
        assert_eq!((feeder.acks(), feeder.fails().len()), (vec![1, 2, 4], 1));
    }
}

#[test]
fn a_tuple_that_was_kept_before_the_panic_is_ended_by_its_anchor_which_is_lost_with_the_state() {
    for placement in PLACEMENTS {
        let (mut fed, feeder, _, _, _) = one(placement, Harm::Keep);
        (1..=4).for_each(|n| feeder.feed(n, n));
        fed.settle();
        assert_eq!(feeder.acks(), [1, 2, 4]);
        assert_eq!(feeder.fails(), [(3, "failed by fragile".to_owned())]);
        assert_eq!((fed.stats("fragile").failed, fed.stats("fragile").acked), (1, 3));
    }
}

#[test]
fn a_burst_beyond_its_memory_loses_nothing_of_the_tuples_before() {
    for placement in PLACEMENTS {
        let (mut fed, feeder, _, _, got) = one(placement, Harm::Burst);
        (1..=4).for_each(|n| feeder.feed(n, n));
        fed.settle();
        let mut got = got.lock().unwrap().clone();
        got.retain(|n| *n != 3);
        assert_eq!((got, feeder.acks()), (vec![1, 2, 4], vec![1, 2, 4]));
        assert!(logged(&fed)[0].contains("burst memory"));
    }
}

/// Emits the fed numbers, again if they failed.
struct Stubborn(Feeder, Vec<u64>);

impl Spout for Stubborn {
    type Out = Stream<Num>;

    fn next(&mut self, out: &mut Stream<Num>) -> Result<Next, SpoutError> {
        match self.1.pop() {
            Some(n) => {
                out.emit_with_id(n, Num { n });
                Ok(Next::Emitted)
            }
            None => self.0.spout().next(out),
        }
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.0.spout().ack(id)
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        self.1.push(id.as_u64());
        self.0.spout().fail(id, why)
    }
}

#[test]
fn a_tuple_that_ends_its_executor_three_times_goes_to_the_dead_letters_and_is_acked() {
    for placement in PLACEMENTS {
        let (seen, _, make) = Fragile::on(3, Harm::Panic);
        let (t, feeder, letters) = (Topology::new("poison"), Feeder::default(), Arc::<Mutex<Vec<_>>>::default());
        place(&t, placement);
        let from = feeder.clone();
        let source = t.spout("source", move || Stubborn(from.clone(), Vec::new()));
        let fragile = t.bolt("fragile", make).on(source.shuffle());
        let box_ = letters.clone();
        t.bolt("letters", move || Letters(box_.clone())).on(fragile.dead_letters().shuffle());
        let mut fed = Fed::start(t);
        (1..=5).for_each(|n| feeder.feed(n, n));
        fed.pass(Duration::from_millis(50));
        assert_eq!(numbers(&seen).iter().filter(|n| **n == 3).count(), 3, "tried three times");
        let mut acks = feeder.acks();
        acks.sort_unstable();
        assert_eq!(acks, [1, 2, 3, 4, 5], "the letter ends the root");
        assert_eq!(feeder.fails().len(), 2);
        let letters = letters.lock().unwrap();
        assert_eq!(letters.len(), 1);
        let letter = &letters[0];
        assert_eq!(
            (letter.component.as_str(), letter.stream.as_str(), letter.failures),
            ("fragile", "source.default", 3)
        );
        assert!(letter.error.contains("a bad number"));
        assert_eq!(letter.tuple::<Num>(), Some(Num { n: 3 }));
        let stats = fed.stats("fragile");
        assert_eq!((stats.dead_letters, stats.restarts, stats.failed, stats.acked), (1, 3, 2, 5));
    }
}

#[derive(Tuple)]
struct Text {
    text: String,
}

/// Passes numbers on as texts; of the third so many of so many bytes.
struct Shouting(u64, usize);

impl Bolt for Shouting {
    type In = Num;
    type Out = Stream<Text>;

    fn execute(&mut self, input: Input<'_, Num>, out: &mut Stream<Text>) -> Result<(), BoltError> {
        out.emit(TextRef { text: "passed" });
        let text = "z".repeat(self.1);
        if input.n.to_native() == 3 {
            (0..self.0).for_each(|_| out.emit(TextRef { text: &text }));
        }
        Ok(())
    }
}

struct Listener;

impl Bolt for Listener {
    type In = Text;
    type Out = ();

    fn execute(&mut self, _: Input<'_, Text>, _: &mut ()) -> Result<(), BoltError> {
        Ok(())
    }
}

#[test]
fn an_emit_that_was_refused_is_no_part_of_the_tree_that_a_dead_letter_ends() {
    // One above the limit of a tuple; many that each need a batch of their own; many small ones.
    for (count, bytes) in [(1, 17 << 20), (64, 1 << 20), (1_000_000, 64)] {
        for placement in PLACEMENTS {
            let (t, feeder, letters) = (Topology::new("shouts"), Feeder::default(), Arc::<Mutex<Vec<_>>>::default());
            place(&t, placement);
            let from = feeder.clone();
            let source = t.spout("source", move || Stubborn(from.clone(), Vec::new()));
            let shouting = t.bolt("shouting", move || Shouting(count, bytes)).on(source.shuffle());
            let box_ = letters.clone();
            t.bolt("letters", move || Letters(box_.clone())).on(shouting.dead_letters().shuffle());
            // To one task, and to several with an archive for each of their reactors.
            t.bolt("one", || Listener).on(shouting.shuffle());
            if bytes < 100 {
                t.bolt("all", || Listener).tasks(3).on(shouting.all());
            }
            let mut fed = Fed::start(t);
            (1..=4).for_each(|n| feeder.feed(n, n));
            fed.pass(Duration::from_millis(50));
            let mut acks = feeder.acks();
            acks.sort_unstable();
            assert_eq!(acks, [1, 2, 3, 4], "{count} of {bytes} bytes: the letter ends the root");
            assert_eq!((letters.lock().unwrap().len(), feeder.fails().len()), (1, 2));
        }
    }
}

#[test]
fn a_tuple_that_nobody_emits_again_goes_to_the_dead_letters_at_once_or_is_counted_as_lost() {
    for read in [true, false] {
        let (seen, _, make) = Fragile::on(3, Harm::Fatal);
        let (t, feeder, letters) = (Topology::new("unacked"), Feeder::default(), Arc::<Mutex<Vec<_>>>::default());
        t.configure(|c| c.ackers = Some(0));
        let from = feeder.clone();
        let source = t.spout("source", move || from.spout());
        let fragile = t.bolt("fragile", make).on(source.shuffle());
        let (dead, box_) = (fragile.dead_letters(), letters.clone());
        if read {
            t.bolt("letters", move || Letters(box_.clone())).on(dead.shuffle());
        }
        let mut fed = Fed::start(t);
        (1..=4).for_each(|n| feeder.feed_without_id(n));
        fed.settle();
        assert_eq!(numbers(&seen), [1, 2, 3, 4]);
        let stats = fed.stats("fragile");
        let counts = (stats.dead_letters, stats.failed, stats.lost, letters.lock().unwrap().len());
        assert_eq!(counts, if read { (1, 0, 0, 1) } else { (0, 1, 1, 0) });
    }
}

#[test]
fn a_bolt_may_post_its_dead_letters_itself() {
    struct Own(Arc<Mutex<Vec<String>>>);
    impl Bolt for Own {
        type In = Num;
        type Out = Stream<Num>;
        fn execute(&mut self, input: Input<'_, Num>, _: &mut Stream<Num>) -> Result<(), BoltError> {
            if input.n == 3 { Err(BoltError::fatal("three")) } else { Ok(()) }
        }
        fn dead_letter(
            &mut self,
            input: Input<'_, Num>,
            error: &str,
            out: &mut Stream<Num>,
        ) -> Result<bool, BoltError> {
            self.0.lock().unwrap().push(format!("{}: {error}", input.n));
            out.emit(Num { n: 1003 });
            Ok(true)
        }
    }
    let (t, feeder) = (Topology::new("own"), Feeder::default());
    t.configure(|c| c.dead_letter_after = 1);
    let (from, posted, got) = (feeder.clone(), Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
    let source = t.spout("source", move || from.spout());
    let to = posted.clone();
    let own = t.bolt("own", move || Own(to.clone())).on(source.shuffle());
    let sink = got.clone();
    t.bolt("sink", move || Sink(sink.clone())).on(own.shuffle());
    let mut fed = Fed::start(t);
    (1..=4).for_each(|n| feeder.feed(n, n));
    fed.settle();
    assert_eq!(*posted.lock().unwrap(), ["3: three"]);
    assert_eq!(*got.lock().unwrap(), [1003]);
    let mut acks = feeder.acks();
    acks.sort_unstable();
    assert_eq!((acks, feeder.fails().len()), (vec![1, 2, 3, 4], 0));
}

#[test]
fn other_executors_of_the_component_keep_their_state_and_execute_what_went_to_all_of_them() {
    let (seen, prepared, make) = Fragile::on(3, Harm::Panic);
    let (t, feeder) = (Topology::new("all"), Feeder::default());
    place(&t, (1, 1));
    let from = feeder.clone();
    let source = t.spout("source", move || from.spout());
    // Of four tasks one fails on each 3, of two executors of two tasks.
    let first = Arc::new(AtomicU32::new(u32::MAX));
    struct OneOf(Fragile, Arc<AtomicU32>);
    impl Bolt for OneOf {
        type In = Num;
        type Out = Stream<Num>;
        fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
            self.0.prepare(ctx)
        }
        fn execute(&mut self, input: Input<'_, Num>, out: &mut Stream<Num>) -> Result<(), BoltError> {
            // The second of the four: one is done with the tuple, two are not.
            if self.0.task != 2 {
                self.0.bad = u64::MAX;
            }
            self.0.execute(input, out)
        }
    }
    t.bolt("four", move || OneOf(make(), first.clone())).tasks(4).executors(2).on(source.all());
    let mut fed = Fed::start(t);
    (1..=4).for_each(|n| feeder.feed(n, n));
    fed.settle();
    let seen = seen.lock().unwrap();
    for task in 1..=4 {
        let of: Vec<_> = seen.iter().filter(|(t, ..)| *t == task).map(|(_, known, n)| (*known, *n)).collect();
        let lost = task <= 2;
        assert_eq!(of.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 3, 4], "task {task}: each once, in order");
        assert_eq!(of[3].0, if lost { 1 } else { 4 }, "task {task}");
    }
    assert_eq!(prepared.load(Ordering::Relaxed), 4 + 2, "the tasks of one executor");
    assert_eq!(feeder.acks(), [1, 2, 4]);
    assert_eq!(feeder.fails(), [(3, "failed by four".to_owned())]);
}

#[test]
fn an_executor_that_fails_again_and_again_ends_its_worker_with_the_cause() {
    let (_, prepared, make) = Fragile::on(3, Harm::Fatal);
    let (t, feeder) = (Topology::new("hopeless"), Feeder::default());
    t.configure(|c| c.executor_restarts = 5);
    let from = feeder.clone();
    let source = t.spout("source", move || from.spout());
    t.bolt("fragile", make).on(source.shuffle());
    let mut fed = Fed::start(t);
    (1..=9).for_each(|n| feeder.feed(n, 3));
    let error = fed.cluster.run(20_000_000_000).unwrap_err().to_string();
    assert!(error.contains("fragile (task 1) ended with a fatal error: no database"), "{error}");
    assert!(error.contains("it had been restarted 5 times in a row"), "{error}");
    assert_eq!(prepared.load(Ordering::Relaxed), 6);
}

#[test]
fn restarts_may_be_turned_off() {
    let (_, _, make) = Fragile::on(3, Harm::Panic);
    let (t, feeder) = (Topology::new("brittle"), Feeder::default());
    t.configure(|c| c.executor_restarts = 0);
    let from = feeder.clone();
    let source = t.spout("source", move || from.spout());
    t.bolt("fragile", make).on(source.shuffle());
    let mut fed = Fed::start(t);
    feeder.feed(1, 3);
    let error = fed.cluster.run(20_000_000_000).unwrap_err().to_string();
    assert!(error.contains("panicked: a bad number") && !error.contains("in a row"), "{error}");
}

#[test]
fn a_new_instance_that_cannot_be_prepared_is_tried_again_and_its_input_waits() {
    struct Late(Seen, u32, Arc<AtomicU32>);
    impl Bolt for Late {
        type In = Num;
        type Out = ();
        fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
            let nth = self.2.fetch_add(1, Ordering::Relaxed);
            assert_eq!(ctx.takes_over(), nth > 0);
            if (1..4).contains(&nth) { Err(BoltError::fatal("not yet")) } else { Ok(()) }
        }
        fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
            let n = input.n.to_native();
            self.0.lock().unwrap().push((0, 0, n));
            if n == 3 {
                panic_quietly("three")
            }
            Ok(())
        }
    }
    for placement in PLACEMENTS {
        let (seen, prepared) = (Seen::default(), Arc::<AtomicU32>::default());
        let (t, feeder) = (Topology::new("late"), Feeder::default());
        place(&t, placement);
        let (from, made) = (feeder.clone(), (seen.clone(), prepared.clone()));
        let source = t.spout("source", move || from.spout());
        t.bolt("late", move || Late(made.0.clone(), 0, made.1.clone())).on(source.shuffle());
        let mut fed = Fed::start(t);
        (1..=6).for_each(|n| feeder.feed(n, n));
        fed.pass(Duration::from_millis(100));
        assert_eq!(numbers(&seen), [1, 2, 3, 4, 5, 6], "in order, each once");
        assert_eq!(prepared.load(Ordering::Relaxed), 5);
        assert_eq!((feeder.acks(), feeder.fails().len()), (vec![1, 2, 4, 5, 6], 1));
        assert_eq!(fed.stats("late").restarts, 4);
        // 1, 2 and 4 ms of waiting, on virtual time.
        assert_eq!(fed.stats("late").down_ns_max / 1_000_000, 7);
    }
}

/// Panics at the third tuple, or in the third `ack`, once in its life.
struct FragileSpout {
    feeder: Feeder,
    asked: u64,
    acked: u64,
    in_ack: bool,
    once: Arc<AtomicU32>,
}

impl FragileSpout {
    fn harm(&self, nth: u64) {
        if nth == 3 && self.once.fetch_add(1, Ordering::Relaxed) == 0 {
            panic_quietly("a fragile spout");
        }
    }
}

impl Spout for FragileSpout {
    type Out = Stream<Num>;

    fn next(&mut self, out: &mut Stream<Num>) -> Result<Next, SpoutError> {
        let next = self.feeder.spout().next(out)?;
        if next == Next::Emitted && !self.in_ack {
            self.asked += 1;
            self.harm(self.asked);
        }
        Ok(next)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.acked += 1;
        if self.in_ack {
            self.harm(self.acked);
        }
        self.feeder.spout().ack(id)
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        self.feeder.spout().fail(id, why)
    }
}

#[test]
fn a_spout_that_panics_is_made_anew_and_its_pending_roots_fail_as_lost_without_being_told() {
    for in_ack in [false, true] {
        for placement in PLACEMENTS {
            let (t, feeder, other) = (Topology::new("spouts"), Feeder::default(), Feeder::default());
            place(&t, placement);
            let (from, once) = (feeder.clone(), Arc::<AtomicU32>::default());
            let make = move || FragileSpout { feeder: from.clone(), asked: 0, acked: 0, in_ack, once: once.clone() };
            let source = t.spout("source", make);
            let from = other.clone();
            let calm = t.spout("calm", move || from.spout());
            let got = Arc::<Mutex<Vec<u64>>>::default();
            let sink = got.clone();
            t.bolt("sink", move || Sink(sink.clone())).on(source.shuffle()).on(calm.shuffle());
            let mut fed = Fed::start(t);
            (1..=6).for_each(|n| feeder.feed(n, n));
            (101..=106).for_each(|n| other.feed(n, n));
            fed.settle();
            let mut got = got.lock().unwrap().clone();
            got.sort_unstable();
            assert_eq!(got, [1, 2, 3, 4, 5, 6, 101, 102, 103, 104, 105, 106], "nothing that was emitted is lost");
            let stats = fed.stats("source");
            let lost = stats.roots_failed.get("spout lost").copied().unwrap_or(0);
            assert_eq!((stats.roots, stats.acked + lost, stats.restarts), (6, 6, 1), "{stats:?}");
            if in_ack {
                assert_eq!(feeder.acks(), [1, 2], "of what was acked meanwhile nobody is left to be told");
            } else {
                assert!(lost > 0, "{stats:?}");
                assert_eq!(feeder.acks().len() as u64, stats.acked);
            }
            assert_eq!(feeder.fails(), [], "who knew of them is gone");
            assert_eq!((other.acks().len(), fed.stats("calm").restarts), (6, 0));
        }
    }
}

#[test]
fn a_panic_at_the_end_of_a_batch_fails_what_was_executed_in_it_and_the_next_end_comes() {
    struct Ends(Arc<AtomicU32>);
    impl Bolt for Ends {
        type In = Num;
        type Out = ();
        fn execute(&mut self, _: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
            Ok(())
        }
        fn batch_end(&mut self, _: &mut ()) -> Result<(), BoltError> {
            if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
                panic_quietly("a full disk");
            }
            Ok(())
        }
    }
    let (t, feeder, ends) = (Topology::new("ends"), Feeder::default(), Arc::<AtomicU32>::default());
    let (from, counted) = (feeder.clone(), ends.clone());
    let source = t.spout("source", move || from.spout());
    t.bolt("sink", move || Ends(counted.clone())).on(source.shuffle());
    let mut fed = Fed::start(t);
    (1..=6).for_each(|n| feeder.feed(n, n));
    fed.settle();
    // What a sink had put off to the end is lost: none of it may count as written (D4).
    assert_eq!((fed.stats("sink").restarts, feeder.acks().len(), feeder.fails().len()), (1, 0, 6));
    (7..=9).for_each(|n| feeder.feed(n, n));
    fed.settle();
    assert!(ends.load(Ordering::Relaxed) >= 2);
    assert_eq!((feeder.acks(), feeder.fails().len()), (vec![7, 8, 9], 0));
    assert!(logged(&fed)[0].contains("the end of a batch"));
}

#[test]
fn an_ended_run_ends_although_executors_were_restarted_in_their_finish() {
    struct Finishes(Arc<AtomicU32>);
    impl Bolt for Finishes {
        type In = Num;
        type Out = Stream<Num>;
        fn execute(&mut self, _: Input<'_, Num>, _: &mut Stream<Num>) -> Result<(), BoltError> {
            Ok(())
        }
        fn finish(&mut self, out: &mut Stream<Num>) -> Result<Finish, BoltError> {
            if self.0.fetch_add(1, Ordering::Relaxed) < 2 {
                panic_quietly("finish");
            }
            out.emit(Num { n: 77 });
            Ok(Finish::Done)
        }
    }
    let (t, feeder, got) = (Topology::new("finish"), Feeder::default(), Arc::<Mutex<Vec<u64>>>::default());
    let (from, calls) = (feeder.clone(), Arc::<AtomicU32>::default());
    let source = t.spout("source", move || from.spout());
    let finishes = t.bolt("finishes", move || Finishes(calls.clone())).on(source.shuffle());
    let sink = got.clone();
    t.bolt("sink", move || Sink(sink.clone())).on(finishes.shuffle());
    let mut fed = Fed::start(t);
    feeder.feed(1, 1);
    feeder.end();
    assert!(fed.cluster.run(20_000_000_000).unwrap());
    assert_eq!((*got.lock().unwrap()).as_slice(), [77]);
    assert_eq!(fed.stats("finishes").restarts, 2);
}

#[test]
fn an_instance_whose_tick_panicked_is_not_asked_to_finish_in_the_same_turn() {
    #[derive(Default)]
    struct Ticks {
        broken: bool,
        ticked: bool,
        panics: Arc<AtomicU32>,
    }
    impl Bolt for Ticks {
        type In = Num;
        type Out = ();
        fn execute(&mut self, _: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
            Ok(())
        }
        fn tick(&mut self, _: &mut ()) -> Result<(), BoltError> {
            self.ticked = true;
            if self.panics.fetch_add(1, Ordering::Relaxed) < 3 {
                self.broken = true;
                panic_quietly("tick");
            }
            Ok(())
        }
        fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
            assert!(!self.broken, "called after its panic");
            Ok(if self.ticked { Finish::Done } else { Finish::More })
        }
    }
    let (t, feeder, panics) = (Topology::new("ticks"), Feeder::default(), Arc::<AtomicU32>::default());
    let (from, counted) = (feeder.clone(), panics.clone());
    let source = t.spout("source", move || from.spout());
    let make = move || Ticks { panics: counted.clone(), ..Ticks::default() };
    t.bolt("ticks", make).tick_every(Duration::from_millis(1)).on(source.shuffle());
    let mut fed = Fed::start(t);
    feeder.end();
    assert!(fed.cluster.run(20_000_000_000).unwrap());
    // Three panics and no fourth from a call of what had panicked.
    assert_eq!((fed.stats("ticks").restarts, panics.load(Ordering::Relaxed)), (3, 4), "{:?}", logged(&fed));
}

#[test]
fn an_executor_that_was_restarted_is_left_alone_when_its_neighbour_cannot_be() {
    /// Prepares of either task; which calls of `next` panic, and which prepares.
    #[derive(Default, Clone)]
    struct Script(Arc<[AtomicU32; 2]>, Arc<Mutex<Vec<usize>>>);
    struct Twin(Script, usize);
    impl Spout for Twin {
        type Out = Stream<Num>;
        fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
            self.1 = ctx.task_index() as usize;
            let lives = self.0.0[self.1].fetch_add(1, Ordering::Relaxed);
            if (self.1, lives) == (1, 1) {
                panic_quietly("prepare");
            }
            Ok(())
        }
        fn next(&mut self, out: &mut Stream<Num>) -> Result<Next, SpoutError> {
            // Twice the first, so that it has to wait; meanwhile the second, which has never rested.
            let next = self.0.1.lock().unwrap().pop();
            match next {
                Some(task) if task == self.1 => panic_quietly("next"),
                Some(task) => self.0.1.lock().unwrap().push(task),
                None if self.0.0[1].load(Ordering::Relaxed) < 3 => return Ok(Next::Idle),
                None => return Ok(Next::End),
            }
            out.emit(Num { n: 1 });
            Ok(Next::Emitted)
        }
    }
    let (t, script, got) = (Topology::new("twins"), Script::default(), Arc::<Mutex<Vec<u64>>>::default());
    t.configure(|c| c.reactors = Some(1));
    script.1.lock().unwrap().extend([1, 0, 0]);
    let made = script.clone();
    let source = t.spout("source", move || Twin(made.clone(), 0)).tasks(2).executors(2);
    let sink = got.clone();
    t.bolt("sink", move || Sink(sink.clone())).on(source.shuffle());
    let mut fed = Fed::start(t);
    assert!(fed.cluster.run(20_000_000_000).unwrap());
    let prepared = [0, 1].map(|at: usize| script.0[at].load(Ordering::Relaxed));
    assert_eq!(prepared, [3, 3], "{:?}", logged(&fed));
}

#[test]
fn a_tuple_for_several_tasks_comes_to_each_once_though_the_second_panics_behind_a_full_feedback_batch() {
    struct Loop(Arc<Mutex<Vec<(TaskId, u64)>>>, TaskId);
    impl Bolt for Loop {
        type In = Num;
        type Out = Stream<Num>;
        fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
            self.1 = ctx.task();
            Ok(())
        }
        fn execute(&mut self, input: Input<'_, Num>, out: &mut Stream<Num>) -> Result<(), BoltError> {
            let (n, first) = (input.n.to_native(), self.1 == 1);
            let mut seen = self.0.lock().unwrap();
            seen.push((self.1, n));
            match (n, first) {
                // More than a batch: it lies in the inbox when the second task panics.
                (0, true) => (1..=40).for_each(|n| out.emit(Num { n })),
                (0, false) => {
                    drop(seen);
                    panic_quietly("second");
                }
                _ => {}
            }
            Ok(())
        }
    }
    let (t, feeder, seen) = (Topology::new("loop"), Feeder::default(), Arc::<Mutex<Vec<_>>>::default());
    place(&t, (1, 1));
    t.configure(|c| c.batch_bytes = 256);
    let (from, made) = (feeder.clone(), seen.clone());
    let source = t.spout("source", move || from.spout());
    let looped = t.bolt("loop", move || Loop(made.clone(), 0)).tasks(2).on(source.all());
    let back = looped.all().feedback();
    looped.on(back);
    let mut fed = Fed::start(t);
    feeder.feed(1, 0);
    fed.settle();
    let seen = seen.lock().unwrap();
    for task in [1, 2] {
        let of: Vec<u64> = seen.iter().filter(|(t, _)| *t == task).map(|(_, n)| *n).collect();
        assert_eq!(of, (0..=40).collect::<Vec<_>>(), "task {task}");
    }
}
