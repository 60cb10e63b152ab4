//! The bolts and topologies of Storm's acking scenarios (`TopologyIntegrationTest`), for virtual time and for real workers.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};

use squall_api::prelude::*;
use squall_api::{TaskHook, TaskId};

use crate::feed::{Feeder, Num};

/// Emits so many tuples for each.
pub(crate) struct Branching(pub(crate) u64);

impl Bolt for Branching {
    type In = Num;
    type Out = Stream<Num>;

    fn execute(&mut self, _: Input<'_, Num>, out: &mut Stream<Num>) -> Result<(), BoltError> {
        (0..self.0).for_each(|n| out.emit(Num { n }));
        Ok(())
    }
}

/// Emits one tuple for so many, anchored to all of them.
pub(crate) struct Agg {
    of: usize,
    held: Vec<Anchor>,
}

impl Agg {
    pub(crate) fn of(of: usize) -> impl Fn() -> Agg + Send + Sync {
        move || Agg { of, held: Vec::new() }
    }
}

impl Bolt for Agg {
    type In = Num;
    type Out = Stream<Num>;

    fn execute(&mut self, input: Input<'_, Num>, out: &mut Stream<Num>) -> Result<(), BoltError> {
        self.held.push(input.keep().1);
        if self.held.len() == self.of {
            let all: Vec<&Anchor> = self.held.iter().collect();
            out.anchored(&all, Num { n: 1 });
            self.held.drain(..).for_each(Anchor::ack);
        }
        Ok(())
    }
}

pub(crate) struct Ack;

impl Bolt for Ack {
    type In = Num;
    type Out = ();

    fn execute(&mut self, _: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
        Ok(())
    }
}

/// Anchors its output twice to its input.
pub(crate) struct DupAnchor;

impl Bolt for DupAnchor {
    type In = Num;
    type Out = Stream<Num>;

    fn execute(&mut self, input: Input<'_, Num>, out: &mut Stream<Num>) -> Result<(), BoltError> {
        let (num, anchor) = input.keep();
        out.anchored(&[&anchor, &anchor], num);
        anchor.ack();
        Ok(())
    }
}

/// Acks the first, third and so on, and keeps the others.
#[derive(Default)]
pub(crate) struct AckEveryOther {
    seen: u64,
    kept: Vec<Anchor>,
}

impl Bolt for AckEveryOther {
    type In = Num;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
        self.seen += 1;
        if self.seen.is_multiple_of(2) {
            self.kept.push(input.keep().1);
        }
        Ok(())
    }
}

/// Storm's `ResetTimeoutBolt`.
#[derive(Default)]
pub(crate) struct ResetTimeout {
    seen: u64,
    first: Option<Anchor>,
    second: Option<Anchor>,
}

impl Bolt for ResetTimeout {
    type In = Num;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Num>, _: &mut ()) -> Result<(), BoltError> {
        self.seen += 1;
        match self.seen {
            1 => self.first = Some(input.keep().1),
            2 => {
                self.first.as_ref().unwrap().reset_timeout();
                self.second = Some(input.keep().1);
            }
            5 => self.first.take().unwrap().ack(),
            _ => self.first.as_ref().unwrap().reset_timeout(),
        }
        Ok(())
    }
}

#[derive(Default, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) emitted: u64,
    pub(crate) acked: u64,
    pub(crate) failed: u64,
    pub(crate) executed: u64,
}

pub(crate) struct CountingHook(pub(crate) Arc<Mutex<Seen>>);

impl TaskHook for CountingHook {
    fn on_emit(&mut self, _: TaskId, _: u32, _: &mut dyn Iterator<Item = TaskId>) {
        self.0.lock().unwrap().emitted += 1;
    }

    fn on_execute(&mut self, _: TaskId, _: u32, _: TaskId) {
        self.0.lock().unwrap().executed += 1;
    }

    fn on_ack(&mut self, _: TaskId) {
        self.0.lock().unwrap().acked += 1;
    }

    fn on_fail(&mut self, _: TaskId, _: &str) {
        self.0.lock().unwrap().failed += 1;
    }
}

/// Emits; acks while it has acked as much as failed, else fails.
pub(crate) struct Hooked {
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) rows: Arc<Mutex<Vec<Seen>>>,
}

impl Bolt for Hooked {
    type In = Num;
    type Out = Stream<Num>;

    fn execute(&mut self, _: Input<'_, Num>, out: &mut Stream<Num>) -> Result<(), BoltError> {
        let seen = *self.seen.lock().unwrap();
        self.rows.lock().unwrap().push(seen);
        out.emit(Num { n: 0 });
        if seen.acked == seen.failed { Ok(()) } else { Err(BoltError::fail("every other")) }
    }
}

impl Seen {
    pub(crate) fn new(emitted: u64, acked: u64, failed: u64, executed: u64) -> Seen {
        Seen { emitted, acked, failed, executed }
    }
}

/// `testAcking`: three spouts, branching into an aggregation over all of them, and branching again.
pub(crate) fn acking(t: &Topology) -> [Feeder; 3] {
    let feeders = [Feeder::default(), Feeder::default(), Feeder::default()];
    let [one, two, three] = &feeders;
    let spouts = [("1", one), ("2", two), ("3", three)].map(|(name, f)| {
        let f = f.clone();
        t.spout(name, move || f.spout())
    });
    let [b4, b5, b6] = [("4", 2, 0), ("5", 4, 1), ("6", 1, 2)]
        .map(|(name, branches, from)| t.bolt(name, move || Branching(branches)).on(spouts[from].shuffle()));
    let b7 = t.bolt("7", Agg::of(3)).on(b4.shuffle()).on(b5.shuffle()).on(b6.shuffle());
    let b8 = t.bolt("8", || Branching(2)).on(b7.shuffle());
    t.bolt("9", || Ack).on(b8.shuffle());
    feeders
}

/// The steps of `testAcking`: which spouts emit, and how many roots of each are acknowledged then. At the last one, the second
/// tuple of `1`'s last root, that of `3` and the four of `2` make two sets of three.
pub(crate) const ACKING_STEPS: [(usize, [usize; 3]); 6] =
    [(0, [0, 0, 0]), (1, [1, 1, 0]), (0, [0, 0, 0]), (0, [1, 0, 0]), (2, [0, 0, 0]), (1, [1, 1, 1])];

/// `testAckBranching`: a diamond with an aggregation of four.
pub(crate) fn diamond(t: &Topology) -> Feeder {
    let feeder = Feeder::default();
    let f = feeder.clone();
    let spout = t.spout("1", move || f.spout());
    let left = t.bolt("2", || Branching(1)).on(spout.shuffle());
    let right = t.bolt("3", || Branching(1)).on(spout.shuffle());
    t.bolt("4", Agg::of(4)).on(left.shuffle()).on(right.shuffle());
    feeder
}

/// `testAckingSelfAnchor`.
pub(crate) fn self_anchor(t: &Topology) -> Feeder {
    let feeder = Feeder::default();
    let f = feeder.clone();
    let spout = t.spout("1", move || f.spout());
    let dup = t.bolt("2", || DupAnchor).on(spout.shuffle());
    t.bolt("3", || Ack).on(dup.shuffle());
    feeder
}

/// What the hooks of `testHooks` saw: the bolt's, at each of its executions; the spout's.
pub(crate) struct HookedRun {
    pub(crate) feeder: Feeder,
    pub(crate) rows: Arc<Mutex<Vec<Seen>>>,
    pub(crate) of_spout: Arc<Mutex<Seen>>,
}

/// `testHooks`.
pub(crate) fn hooks(t: &Topology) -> HookedRun {
    let feeder = Feeder::default();
    let f = feeder.clone();
    let (seen, rows) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Mutex::new(Vec::new())));
    let of_spout = Arc::new(Mutex::new(Seen::default()));
    let hook = of_spout.clone();
    let spout = t.spout("1", move || f.spout()).hook(move || CountingHook(hook.clone()));
    let (s, r, hook) = (seen.clone(), rows.clone(), seen.clone());
    let bolt = t.bolt("2", move || Hooked { seen: s.clone(), rows: r.clone() });
    let bolt = bolt.on(spout.shuffle()).hook(move || CountingHook(hook.clone()));
    t.bolt("3", || Ack).on(bolt.shuffle());
    HookedRun { feeder, rows, of_spout }
}

/// What they have to see after four tuples. Storm counts the ack's own message as an emit, and an execution when it is over;
/// here acks are no tuples, and an execution counts when it begins. So its (2, 1, 0, 1) is (1, 1, 0, 2).
pub(crate) fn check_hooks(run: &HookedRun) {
    let rows = [(0, 0, 0, 1), (1, 1, 0, 2), (2, 1, 1, 3), (3, 2, 1, 4)].map(|(e, a, f, x)| Seen::new(e, a, f, x));
    assert_eq!(*run.rows.lock().unwrap(), rows);
    assert_eq!(*run.of_spout.lock().unwrap(), Seen::new(4, 2, 2, 0));
}
