//! Storm's acking scenarios (`TopologyIntegrationTest`) as one table, [`SCENARIOS`]: played on virtual time and by real workers.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_api::prelude::*;
use squall_api::{TaskHook, TaskId};
use squall_topology::ShmUse;

use crate::feed::{Feeder, Num, place};

/// A scenario: a topology, what is done to it, and what has to come of it.
pub(crate) struct Scenario {
    /// Storm's name of the test.
    pub(crate) name: &'static str,
    build: fn(&Topology) -> Cast,
    steps: &'static [Step],
    /// What has to be so when all is over.
    at_the_end: fn(&Cast),
}

enum Step {
    /// The spout at this place emits a tuple with this id.
    Feed(usize, u64),
    /// Less than the message timeout passes: nine tenths of it where time is virtual, else half.
    AlmostTheTimeout,
    /// What ends of what was emitted so far, and was not heard of before: by spout and id, and why it failed.
    Heard(&'static [(usize, u64, Option<&'static str>)]),
}

use Step::{AlmostTheTimeout, Feed, Heard};

/// Who plays: what the steps are done to, and what is looked at in the end.
pub(crate) struct Cast {
    feeders: Vec<Feeder>,
    hooks: Option<Hooks>,
}

/// Where a scenario is played.
pub(crate) trait Stage {
    /// The topology's message timeout.
    const TIMEOUT: Duration;
    /// What passes for [`Step::AlmostTheTimeout`].
    const ALMOST: Duration;

    fn start(t: Topology) -> Self;

    /// Goes on until it is so, or for so long that it will not be.
    fn until(&mut self, done: &mut dyn FnMut() -> bool);

    fn pass(&mut self, by: Duration);

    /// The spouts end, and so does the run.
    fn end(self, feeders: &[Feeder]);
}

impl Scenario {
    pub(crate) fn named(name: &str) -> &'static Scenario {
        SCENARIOS.iter().find(|scenario| scenario.name == name).expect("a scenario of the table")
    }

    /// Plays it and compares.
    pub(crate) fn play<S: Stage>(&self, placement: (u32, u32), shm: ShmUse) {
        let here = format!("{} in placement {placement:?}, shm {shm}", self.name);
        let t = Topology::new(self.name);
        place(&t, placement);
        t.configure(|c| (c.shm, c.message_timeout_ms) = (shm, S::TIMEOUT.as_millis() as u64));
        let cast = (self.build)(&t);
        let mut stage = S::start(t);
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Feed(spout, id) => cast.feeders[*spout].feed(*id, *id),
                AlmostTheTimeout => stage.pass(S::ALMOST),
                Heard(wanted) => {
                    let mut heard = Vec::new();
                    stage.until(&mut || {
                        cast.hear(&mut heard);
                        heard.len() >= wanted.len()
                    });
                    heard.sort();
                    let wanted: Vec<_> = wanted.iter().map(|(s, id, why)| (*s, *id, why.map(str::to_owned))).collect();
                    assert_eq!(heard, wanted, "step {at} of {here}");
                }
            }
        }
        stage.end(&cast.feeders);
        let mut more = Vec::new();
        cast.hear(&mut more);
        assert_eq!(more, [], "after the end of {here}");
        (self.at_the_end)(&cast);
    }
}

impl Cast {
    fn of(feeders: impl Into<Vec<Feeder>>) -> Cast {
        Cast { feeders: feeders.into(), hooks: None }
    }

    /// What has ended since it was asked last.
    fn hear(&self, heard: &mut Vec<(usize, u64, Option<String>)>) {
        for (spout, feeder) in self.feeders.iter().enumerate() {
            heard.extend(feeder.acks().into_iter().map(|id| (spout, id, None)));
            heard.extend(feeder.fails().into_iter().map(|(id, why)| (spout, id, Some(why))));
        }
    }
}

/// The scenarios. Ids and spouts are counted as Storm does; what is heard is sorted.
pub(crate) static SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "testAcking",
        build: acking,
        // After the last: the second tuple of the first spout's last root, that of the third spout and the four of the second
        // make two sets of three.
        steps: &[
            Feed(0, 7),
            Heard(&[]),
            Feed(1, 7),
            Heard(&[(0, 7, None), (1, 7, None)]),
            Feed(0, 7),
            Heard(&[]),
            Feed(0, 7),
            Heard(&[(0, 7, None)]),
            Feed(2, 7),
            Heard(&[]),
            Feed(1, 7),
            Heard(&[(0, 7, None), (1, 7, None), (2, 7, None)]),
        ],
        at_the_end: nothing_more,
    },
    Scenario {
        name: "testAckBranching",
        build: diamond,
        steps: &[Feed(0, 1), Heard(&[]), Feed(0, 2), Heard(&[(0, 1, None), (0, 2, None)])],
        at_the_end: nothing_more,
    },
    Scenario {
        name: "testAckingSelfAnchor",
        build: self_anchor,
        steps: &[
            Feed(0, 1),
            Heard(&[(0, 1, None)]),
            Feed(0, 2),
            Feed(0, 3),
            Feed(0, 4),
            Heard(&[(0, 2, None), (0, 3, None), (0, 4, None)]),
        ],
        at_the_end: nothing_more,
    },
    Scenario {
        name: "testTimeout",
        build: timeout,
        steps: &[
            Feed(0, 1),
            Feed(0, 2),
            Feed(0, 3),
            Heard(&[(0, 1, None), (0, 3, None)]),
            AlmostTheTimeout,
            Heard(&[]),
            Heard(&[(0, 2, Some("timed out"))]),
        ],
        at_the_end: nothing_more,
    },
    Scenario {
        name: "testResetTimeout",
        build: reset_timeout,
        // The first lives because each later one resets it; the second is never reset.
        steps: &[
            Feed(0, 1),
            Feed(0, 2),
            AlmostTheTimeout,
            Feed(0, 3),
            Heard(&[(0, 2, Some("timed out")), (0, 3, None)]),
            Feed(0, 4),
            Heard(&[(0, 4, None)]),
            AlmostTheTimeout,
            Heard(&[]),
            Feed(0, 5),
            Heard(&[(0, 1, None), (0, 5, None)]),
        ],
        at_the_end: nothing_more,
    },
    Scenario {
        name: "testHooks",
        build: hooks,
        steps: &[
            Feed(0, 1),
            Heard(&[(0, 1, None)]),
            Feed(0, 2),
            Heard(&[(0, 2, Some("failed by 2"))]),
            Feed(0, 3),
            Heard(&[(0, 3, None)]),
            Feed(0, 4),
            Heard(&[(0, 4, Some("failed by 2"))]),
        ],
        at_the_end: check_hooks,
    },
];

fn nothing_more(_: &Cast) {}

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

/// A topology with one spout that is fed.
fn fed(t: &Topology) -> (Feeder, squall_api::SpoutDecl<Stream<Num>>) {
    let feeder = Feeder::default();
    let f = feeder.clone();
    let spout = t.spout("1", move || f.spout());
    (feeder, spout)
}

/// Three spouts, branching into an aggregation over all of them, and branching again.
fn acking(t: &Topology) -> Cast {
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
    Cast::of(feeders)
}

/// A diamond with an aggregation of four.
fn diamond(t: &Topology) -> Cast {
    let (feeder, spout) = fed(t);
    let left = t.bolt("2", || Branching(1)).on(spout.shuffle());
    let right = t.bolt("3", || Branching(1)).on(spout.shuffle());
    t.bolt("4", Agg::of(4)).on(left.shuffle()).on(right.shuffle());
    Cast::of([feeder])
}

fn self_anchor(t: &Topology) -> Cast {
    let (feeder, spout) = fed(t);
    let dup = t.bolt("2", || DupAnchor).on(spout.shuffle());
    t.bolt("3", || Ack).on(dup.shuffle());
    Cast::of([feeder])
}

fn timeout(t: &Topology) -> Cast {
    let (feeder, spout) = fed(t);
    t.bolt("2", AckEveryOther::default).on(spout.global());
    Cast::of([feeder])
}

fn reset_timeout(t: &Topology) -> Cast {
    let (feeder, spout) = fed(t);
    t.bolt("2", ResetTimeout::default).on(spout.global());
    Cast::of([feeder])
}

/// What hooks saw: the bolt's, at each of its executions; the spout's.
struct Hooks {
    rows: Arc<Mutex<Vec<Seen>>>,
    of_spout: Arc<Mutex<Seen>>,
}

fn hooks(t: &Topology) -> Cast {
    let (feeder, spout) = fed(t);
    let (seen, rows) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Mutex::new(Vec::new())));
    let of_spout = Arc::new(Mutex::new(Seen::default()));
    let hook = of_spout.clone();
    let spout = spout.hook(move || CountingHook(hook.clone()));
    let (s, r, hook) = (seen.clone(), rows.clone(), seen.clone());
    let bolt = t.bolt("2", move || Hooked { seen: s.clone(), rows: r.clone() });
    let bolt = bolt.on(spout.shuffle()).hook(move || CountingHook(hook.clone()));
    t.bolt("3", || Ack).on(bolt.shuffle());
    Cast { feeders: vec![feeder], hooks: Some(Hooks { rows, of_spout }) }
}

/// What they have to see after four tuples. Storm counts the ack's own message as an emit, and an execution when it is over;
/// here acks are no tuples, and an execution counts when it begins. So its (2, 1, 0, 1) is (1, 1, 0, 2).
fn check_hooks(cast: &Cast) {
    let hooks = cast.hooks.as_ref().expect("the topology has hooks");
    let rows = [(0, 0, 0, 1), (1, 1, 0, 2), (2, 1, 1, 3), (3, 2, 1, 4)].map(|(e, a, f, x)| Seen::new(e, a, f, x));
    assert_eq!(*hooks.rows.lock().unwrap(), rows);
    assert_eq!(*hooks.of_spout.lock().unwrap(), Seen::new(4, 2, 2, 0));
}
