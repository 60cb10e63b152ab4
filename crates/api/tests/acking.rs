//! Storm's acking scenarios, with the counts of its `TopologyIntegrationTest`, and what Squall promises beyond them
//! (D4–D6): in several placements, on virtual time.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

#[path = "support/feed.rs"]
mod feed;
#[path = "support/storm.rs"]
mod storm;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use feed::{Fed, Feeder, Num, PLACEMENTS, place};
use squall::prelude::*;
use squall_topology::ShmUse;
use storm::{Ack, AckEveryOther, Branching, Stage};

const SECOND: Duration = Duration::from_secs(1);

impl Stage for Fed {
    const TIMEOUT: Duration = Duration::from_secs(10);
    const ALMOST: Duration = Duration::from_secs(9);

    fn start(t: Topology) -> Fed {
        Fed::start(t)
    }

    fn until(&mut self, done: &mut dyn FnMut() -> bool) {
        self.settle();
        let mut steps = 0;
        while !done() && steps < 200 {
            self.pass(Self::TIMEOUT / 100);
            steps += 1;
        }
    }

    fn pass(&mut self, by: Duration) {
        Fed::pass(self, by);
    }

    fn end(mut self, feeders: &[Feeder]) {
        feeders.iter().for_each(Feeder::end);
        self.settle();
    }
}

#[test]
fn storms_scenarios_have_its_counts_on_virtual_time_in_each_placement() {
    for scenario in &storm::SCENARIOS {
        PLACEMENTS.iter().for_each(|placement| scenario.play::<Fed>(*placement, ShmUse::Auto));
    }
}

// Beyond Storm's scenarios.

/// The failure comes at the timeout, not between it and twice as late.
#[test]
fn a_tuple_that_nobody_ends_fails_at_the_message_timeout() {
    for placement in PLACEMENTS {
        let t = Topology::new("timeout");
        place(&t, placement);
        t.configure(|c| c.message_timeout_ms = 10_000);
        let feeder = Feeder::default();
        let f = feeder.clone();
        let spout = t.spout("1", move || f.spout());
        t.bolt("2", AckEveryOther::default).on(spout.global());
        let mut fed = Fed::start(t);
        (1..=3).for_each(|id| feeder.feed(id, id));
        fed.pass(9 * SECOND);
        assert_eq!(feeder.acks(), [1, 3]);
        fed.pass(SECOND - Duration::from_millis(1));
        assert_eq!(feeder.fails(), []);
        fed.pass(SECOND);
        assert_eq!(feeder.fails(), [(2, "timed out".into())], "in placement {placement:?}");
        let stats = fed.stats("1");
        assert_eq!((stats.roots, stats.acked, stats.failed), (3, 2, 1));
        assert_eq!(stats.roots_failed, [("timed out".to_owned(), 1)].into());
    }
}

#[test]
fn with_acking_off_ids_are_acked_at_once_and_nothing_is_anchored() {
    struct NoRoots;
    impl Bolt for NoRoots {
        type In = Num;
        type Out = ();
        fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
            assert_eq!(input.root_count(), 0);
            Err(BoltError::fail("whatever becomes of it"))
        }
    }
    let t = Topology::new("off");
    t.configure(|c| (c.ackers, c.workers) = (Some(0), 2));
    let feeder = Feeder::default();
    let f = feeder.clone();
    let spout = t.spout("s", move || f.spout());
    t.bolt("b", || NoRoots).on(spout.shuffle());
    let mut fed = Fed::start(t);
    (1..=100).for_each(|id| feeder.feed(id, id));
    fed.settle();
    assert_eq!(feeder.acks(), (1..=100).collect::<Vec<u64>>());
    assert_eq!((feeder.fails(), fed.stats("b").failed), (vec![], 100));
}

#[test]
fn a_tuple_that_goes_nowhere_is_acked_at_once_and_one_without_an_id_is_not_tracked() {
    let t = Topology::new("nowhere");
    let (feeder, quiet) = (Feeder::default(), Feeder::default());
    let (f, q) = (feeder.clone(), quiet.clone());
    t.spout("s", move || f.spout());
    let spout = t.spout("quiet", move || q.spout());
    t.bolt("b", || Ack).on(spout.shuffle());
    let mut fed = Fed::start(t);
    feeder.feed(5, 1);
    quiet.feed_without_id(1);
    fed.settle();
    assert_eq!((feeder.acks(), quiet.acks()), (vec![5], vec![]));
    assert_eq!((fed.stats("quiet").emitted, fed.stats("quiet").roots), (1, 0));
}

#[test]
fn a_spout_is_not_called_while_it_has_as_many_pending_as_it_may() {
    for placement in PLACEMENTS {
        let t = Topology::new("pending");
        place(&t, placement);
        t.configure(|c| (c.max_spout_pending, c.message_timeout_ms) = (Some(3), 10_000));
        let feeder = Feeder::default();
        let f = feeder.clone();
        let spout = t.spout("s", move || f.spout());
        t.bolt("b", AckEveryOther::default).on(spout.global());
        let mut fed = Fed::start(t);
        (1..=10).for_each(|id| feeder.feed(id, id));
        fed.settle();
        // 1, 3 and 5 were acked; 2, 4 and 6 are kept.
        assert_eq!((feeder.acks(), feeder.not_emitted()), (vec![1, 3, 5], 4), "in placement {placement:?}");
        fed.pass(11 * SECOND);
        assert_eq!(feeder.fails().len(), 3);
        assert_eq!(feeder.acks(), [7, 9]);
        assert_eq!(feeder.not_emitted(), 0);
    }
}

#[test]
fn a_root_fails_once_however_many_of_its_tuples_fail_and_however_late_the_rest_ends() {
    struct FailAll;
    impl Bolt for FailAll {
        type In = Num;
        type Out = ();
        fn execute(&mut self, n: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
            if n.n.to_native().is_multiple_of(2) { Err(BoltError::fail("even")) } else { Ok(()) }
        }
    }
    for placement in PLACEMENTS {
        let t = Topology::new("once");
        place(&t, placement);
        let feeder = Feeder::default();
        let f = feeder.clone();
        let spout = t.spout("s", move || f.spout());
        let branch = t.bolt("branch", || Branching(9)).on(spout.shuffle());
        t.bolt("fails", || FailAll).tasks(3).on(branch.shuffle());
        t.bolt("all", || FailAll).tasks(4).on(branch.all());
        let mut fed = Fed::start(t);
        (1..=20).for_each(|id| feeder.feed(id, 1));
        fed.settle();
        fed.settle();
        let fails = feeder.fails();
        assert!(fails.iter().all(|(_, why)| why == "failed by fails" || why == "failed by all"), "{fails:?}");
        let mut ids: Vec<u64> = fails.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        assert_eq!((ids, feeder.acks()), ((1..=20).collect(), vec![]), "in placement {placement:?}");
    }
}

/// D6: what waits behind a slow bolt does not time out while it waits.
#[test]
fn roots_that_wait_for_a_slow_executor_do_not_time_out_but_come_of_age() {
    struct Slow;
    impl Bolt for Slow {
        type In = Num;
        type Out = ();
        fn execute(&mut self, _: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
            feed::take_time(Duration::from_millis(200));
            Ok(())
        }
    }
    for (max_age, acked) in [(None, 30usize), (Some(4_000), 20)] {
        let t = Topology::new("slow");
        place(&t, (2, 1));
        t.configure(|c| (c.message_timeout_ms, c.max_root_age_ms) = (3_000, max_age));
        let feeder = Feeder::default();
        let f = feeder.clone();
        let spout = t.spout("s", move || f.spout());
        t.bolt("slow", || Slow).on(spout.shuffle());
        let mut fed = Fed::start(t);
        (1..=30).for_each(|id| feeder.feed(id, 1));
        fed.pass(20 * SECOND);
        let (acks, fails) = (feeder.acks(), feeder.fails());
        assert_eq!(acks.len() + fails.len(), 30);
        assert!(acks.len().abs_diff(acked) <= 3, "{acks:?} {fails:?}");
        assert!(fails.iter().all(|(_, why)| why == "too old"), "{fails:?}");
    }
}

/// A chain of seven bolts that branches at each: 128 tuples a root at the end, 255 ends in all.
fn chain(placement: (u32, u32)) -> (Topology, Feeder) {
    let t = Topology::new("chain");
    place(&t, placement);
    let feeder = Feeder::default();
    let f = feeder.clone();
    let spout = t.spout("s", move || f.spout());
    let mut last = t.bolt("b0", || Branching(1)).on(spout.shuffle());
    for at in 1..8 {
        last = t.bolt(&format!("b{at}"), || Branching(2)).tasks(1 + at % 3).on(last.shuffle());
    }
    t.bolt("end", || Ack).on(last.shuffle());
    (t, feeder)
}

/// D5: what a reactor says of a root while its link is busy, or within a turn, is one record.
#[test]
fn acks_are_folded_per_root_on_their_way() {
    let (t, feeder) = chain((2, 1));
    let mut fed = Fed::start(t);
    (1..=50).for_each(|id| feeder.feed(id, 1));
    fed.settle();
    fed.settle();
    assert_eq!(feeder.acks().len(), 50);
    let ends: u64 = (0..8).map(|at| fed.stats(&format!("b{at}")).acked).sum::<u64>() + fed.stats("end").acked;
    assert_eq!(ends, 50 * (1 + 1 + 2 + 4 + 8 + 16 + 32 + 64 + 128));
    let links = fed.cluster.cores().iter().flat_map(|c| c.link_stats());
    let (acks, batches) = links.fold((0, 0), |(a, b), l| (a + l.traffic.acks, b + l.traffic.ack_batches));
    assert!(batches > 0 && acks >= 50, "{acks} records in {batches} batches");
    assert!(acks * 20 < ends, "{acks} records in {batches} batches for {ends} ends of tuples");
}

/// D6: the roots that may have been on a lost worker fail at once, the others live.
#[test]
fn losing_a_worker_fails_the_roots_that_may_have_been_there_at_once() {
    struct Keep(Vec<Anchor>);
    impl Bolt for Keep {
        type In = Num;
        type Out = ();
        fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
            self.0.push(input.keep().1);
            Ok(())
        }
    }
    let t = Topology::new("lost");
    place(&t, (2, 1));
    let feeder = Feeder::default();
    let f = feeder.clone();
    let spout = t.spout("s", move || f.spout());
    // Its two tasks are on the two workers.
    let pass = t.bolt("pass", || Branching(1)).tasks(2).on(spout.shuffle());
    t.bolt("keep", || Keep(Vec::new())).tasks(2).on(pass.local_or_shuffle());
    let mut fed = Fed::start(t);
    (1..=10).for_each(|id| feeder.feed(id, 1));
    fed.settle();
    fed.cluster.lose_worker(1);
    fed.settle();
    let fails = feeder.fails();
    assert_eq!(fails.len(), 5, "{fails:?}");
    assert!(fails.iter().all(|(_, why)| why == "worker lost"), "{fails:?}");
    fed.pass(31 * SECOND);
    fed.pass(SECOND);
    let rest = feeder.fails();
    assert_eq!(rest.len(), 5);
    assert!(rest.iter().all(|(_, why)| why == "timed out"), "{rest:?}");
}

/// The end of a bounded run waits for what is pending.
#[test]
fn a_spout_that_has_ended_is_told_of_its_last_roots_before_its_cleanup() {
    struct Last(Feeder, Arc<Mutex<Vec<&'static str>>>, u64);
    impl Spout for Last {
        type Out = Stream<Num>;
        fn next(&mut self, out: &mut Stream<Num>) -> Result<Next, SpoutError> {
            self.2 += 1;
            out.emit_with_id(self.2, Num { n: self.2 });
            Ok(if self.2 == 3 { Next::End } else { Next::Emitted })
        }
        fn ack(&mut self, _: MessageId) -> Result<(), SpoutError> {
            self.1.lock().unwrap().push("ack");
            Ok(())
        }
        fn cleanup(&mut self) {
            self.1.lock().unwrap().push("cleanup");
        }
    }
    /// Keeps everything to its end.
    struct ToTheEnd(Vec<Anchor>);
    impl Bolt for ToTheEnd {
        type In = Num;
        type Out = ();
        fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
            self.0.push(input.keep().1);
            Ok(())
        }
        fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
            self.0.drain(..).for_each(Anchor::ack);
            Ok(Finish::Done)
        }
    }
    for placement in PLACEMENTS {
        let t = Topology::new("end");
        place(&t, placement);
        let said = Arc::new(Mutex::new(Vec::new()));
        let s = said.clone();
        let spout = t.spout("s", move || Last(Feeder::default(), s.clone(), 0));
        t.bolt("b", || ToTheEnd(Vec::new())).tasks(2).on(spout.shuffle());
        let outcome = squall::testing::run(t).unwrap();
        assert_eq!(*said.lock().unwrap(), ["ack", "ack", "ack", "cleanup"], "in placement {placement:?}");
        assert_eq!(outcome.components["s"].roots, 3);
        assert!(outcome.took < SECOND, "nothing timed out");
    }
}

#[test]
fn a_parked_spout_is_called_again_when_one_of_its_tuples_ends() {
    struct OneByOne(u64);
    impl Spout for OneByOne {
        type Out = Stream<Num>;
        fn next(&mut self, out: &mut Stream<Num>) -> Result<Next, SpoutError> {
            if self.0 == 0 {
                return Ok(Next::End);
            }
            if self.0.is_multiple_of(2) {
                self.0 -= 1;
                out.emit_with_id(self.0, Num { n: 1 });
            }
            Ok(Next::Parked)
        }
        fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
            assert_eq!(id.as_u64(), self.0);
            self.0 -= 1;
            Ok(())
        }
    }
    // Also where the tuple goes nowhere, and ends in the turn in which its spout parks.
    for read in [true, false] {
        let t = Topology::new("one-by-one");
        let spout = t.spout("s", || OneByOne(200));
        if read {
            place(&t, (2, 1));
            t.bolt("b", || Ack).on(spout.shuffle());
        }
        let outcome = squall::testing::run(t).unwrap();
        assert_eq!(outcome.components["s"].acked, 100);
    }
}

#[test]
fn a_bolt_that_emits_with_an_id_is_told_that_only_spouts_have_messages() {
    struct Wrong;
    impl Bolt for Wrong {
        type In = Num;
        type Out = Stream<Num>;
        fn execute(&mut self, n: Input<'_, Num>, out: &mut Stream<Num>) -> Result<(), BoltError> {
            out.emit_with_id(1, n.view());
            Ok(())
        }
    }
    let mut h = squall::testing::BoltHarness::new(|| Wrong);
    let fault = h.try_send(Num { n: 1 }).unwrap_err();
    assert!(fault.to_string().contains("only spouts have messages"), "{fault}");
}
