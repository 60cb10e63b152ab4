//! The ledger against a plain model: roots in a map, every deadline computed from scratch.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use squall_tuple::{AckKind, AckRecord, RootId};

use super::*;

const TIMEOUT_NS: u64 = 1_600_000;
const MAX_AGE_NS: u64 = 5_000_000;
/// A silent root may fail this much later than its deadline.
const SPREAD_NS: u64 = TIMEOUT_NS / 10;
const TASKS: [TaskId; 2] = [5, 7];

/// Every run draws the same cases; `PROPTEST_RNG_SEED=n` draws others.
fn cases() -> ProptestConfig {
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5351);
    println!("PROPTEST_RNG_SEED={seed} draws these cases");
    ProptestConfig {
        cases: 2000,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn config() -> LedgerConfig {
    LedgerConfig { timeout_ns: TIMEOUT_NS, max_age_ns: MAX_AGE_NS, max_pending: 4 }
}

fn ack(root: RootId, xor: u64, workers: u32) -> AckRecord {
    AckRecord { root: root.as_u64(), xor, kind: AckKind::Ack, detail: workers }
}

fn record(root: RootId, kind: AckKind) -> AckRecord {
    AckRecord { root: root.as_u64(), xor: 0, kind, detail: 0 }
}

fn asked(ledger: &mut Ledger) -> Vec<Ended> {
    let mut ended = Vec::new();
    ledger.take_ended(&mut ended);
    ended
}

fn ended(ledger: &mut Ledger) -> Vec<(u64, Outcome)> {
    asked(ledger).iter().map(|e| (e.message.as_u64(), e.outcome)).collect()
}

#[derive(Debug, Clone)]
enum Op {
    Begin {
        task: usize,
        xor: u64,
        workers: u32,
    },
    /// Folds the rest of a live root, or a part of it.
    Ack {
        pick: usize,
        whole: bool,
        workers: u32,
    },
    Fail {
        pick: usize,
        component: u32,
    },
    Reset {
        pick: usize,
    },
    /// A record of a root that has ended.
    Late {
        pick: usize,
        kind: AckKind,
    },
    NoRoom {
        workers: u32,
    },
    Lose {
        workers: u32,
    },
    Restore {
        workers: u32,
    },
    Pass {
        ns: u64,
    },
    Ask,
}

fn op() -> impl Strategy<Value = Op> {
    let workers = || (0u32..4).prop_map(|w| 1 << w);
    let kind = prop_oneof![Just(AckKind::Ack), Just(AckKind::Fail), Just(AckKind::Reset)];
    prop_oneof![
        8 => (0..2usize, prop_oneof![9 => 1..u64::MAX, 1 => Just(0)], workers())
            .prop_map(|(task, xor, workers)| Op::Begin { task, xor, workers }),
        6 => (any::<usize>(), any::<bool>(), workers()).prop_map(|(pick, whole, workers)| Op::Ack { pick, whole, workers }),
        2 => (any::<usize>(), 0..9u32).prop_map(|(pick, component)| Op::Fail { pick, component }),
        2 => any::<usize>().prop_map(|pick| Op::Reset { pick }),
        2 => (any::<usize>(), kind).prop_map(|(pick, kind)| Op::Late { pick, kind }),
        2 => workers().prop_map(|workers| Op::NoRoom { workers }),
        1 => workers().prop_map(|workers| Op::Lose { workers }),
        1 => workers().prop_map(|workers| Op::Restore { workers }),
        6 => prop_oneof![0..TIMEOUT_NS / 4, 0..3 * MAX_AGE_NS].prop_map(|ns| Op::Pass { ns }),
        2 => Just(Op::Ask),
    ]
}

struct Root {
    message: u64,
    task: TaskId,
    xor: u64,
    workers: u32,
    born_ns: u64,
    progress_ns: u64,
}

#[derive(Default)]
struct Model {
    live: BTreeMap<RootId, Root>,
    over: Vec<RootId>,
    /// Ended and not asked for, in order where the order is certain.
    ended: Vec<(u64, TaskId, Outcome)>,
    no_room_ns: BTreeMap<u32, u64>,
    lost: u32,
}

impl Model {
    fn pick(&self, pick: usize) -> Option<RootId> {
        (!self.live.is_empty()).then(|| *self.live.keys().nth(pick % self.live.len()).unwrap())
    }

    fn end(&mut self, root: RootId, outcome: Outcome) {
        let gone = self.live.remove(&root).unwrap();
        self.over.push(root);
        self.ended.push((gone.message, gone.task, outcome));
    }

    fn deadline(&self, root: &Root) -> (u64, FailReason) {
        let held = (0..32).filter(|b| root.workers & 1 << b != 0).filter_map(|b| self.no_room_ns.get(&b));
        let timed_out = held.copied().fold(root.progress_ns, u64::max) + TIMEOUT_NS;
        let too_old = root.born_ns + MAX_AGE_NS;
        if timed_out <= too_old { (timed_out, FailReason::TimedOut) } else { (too_old, FailReason::TooOld) }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_root_ends_once_and_as_a_plain_model_says(ops in vec(op(), 1..120)) {
        let mut ledger = Ledger::new(config(), &TASKS);
        let mut model = Model::default();
        let (mut now, mut message, mut most_held) = (1_000_000_000u64, 0u64, 0usize);
        for op in ops {
            match op {
                Op::Begin { task, xor, workers } => {
                    message += 1;
                    let task = TASKS[task];
                    let root = ledger.begin(task, message.into(), xor, workers, now);
                    prop_assert!(ledger.is_for(root.as_u64()));
                    let new = Root { message, task, xor, workers, born_ns: now, progress_ns: now };
                    prop_assert!(model.live.insert(root, new).is_none(), "a live root's id was given again");
                    prop_assert!(!model.over.contains(&root), "an id was used again");
                    if xor == 0 {
                        model.end(root, Outcome::Acked);
                    } else if workers & model.lost != 0 {
                        model.end(root, Outcome::Failed(FailReason::WorkerLost));
                    }
                    most_held = most_held.max(model.live.len() + model.ended.len());
                }
                Op::Ack { pick, whole, workers } => if let Some(root) = model.pick(pick) {
                    let live = model.live.get_mut(&root).unwrap();
                    let xor = if whole { live.xor } else { live.xor.rotate_left(1) | 1 };
                    ledger.fold(&ack(root, xor, workers), now);
                    live.xor ^= xor;
                    live.workers |= workers;
                    live.progress_ns = now;
                    let (xor, workers) = (live.xor, live.workers);
                    if xor == 0 {
                        model.end(root, Outcome::Acked);
                    } else if workers & model.lost != 0 {
                        model.end(root, Outcome::Failed(FailReason::WorkerLost));
                    }
                },
                Op::Fail { pick, component } => if let Some(root) = model.pick(pick) {
                    let reason = FailReason::Failed(component);
                    ledger.fold(&AckRecord { detail: reason.detail(), ..record(root, AckKind::Fail) }, now);
                    model.end(root, Outcome::Failed(reason));
                },
                Op::Reset { pick } => if let Some(root) = model.pick(pick) {
                    ledger.fold(&record(root, AckKind::Reset), now);
                    model.live.get_mut(&root).unwrap().progress_ns = now;
                },
                Op::Late { pick, kind } => if !model.over.is_empty() {
                    let root = model.over[pick % model.over.len()];
                    let late = ledger.counts().late;
                    ledger.fold(&record(root, kind), now);
                    prop_assert_eq!(ledger.counts().late, late + 1);
                },
                Op::NoRoom { workers } => {
                    ledger.fold(&AckRecord { root: 0, xor: workers.into(), kind: AckKind::NoRoom, detail: 0 }, now);
                    model.no_room_ns.extend((0..32).filter(|b| workers & 1 << b != 0).map(|b| (b, now)));
                }
                Op::Lose { workers } => {
                    ledger.lose_workers(workers);
                    model.lost |= workers;
                    let gone: Vec<RootId> =
                        model.live.iter().filter(|(_, r)| r.workers & workers != 0).map(|(id, _)| *id).collect();
                    gone.into_iter().for_each(|r| model.end(r, Outcome::Failed(FailReason::WorkerLost)));
                }
                Op::Restore { workers } => {
                    ledger.restore_workers(workers);
                    model.lost &= !workers;
                }
                Op::Pass { ns } => {
                    now += ns;
                    let before = ledger.counts();
                    ledger.expire(now);
                    // The wheel may be late by the spread, never early: which of those it failed is seen by their ends.
                    let must = model.live.values().filter(|r| model.deadline(r).0 + SPREAD_NS <= now).count() as u64;
                    let may = model.live.values().filter(|r| model.deadline(r).0 <= now).count() as u64;
                    let failed = ledger.counts().all_failed() - before.all_failed();
                    prop_assert!((must..=may).contains(&failed), "{} failed, {}..={} due", failed, must, may);
                    let mut asked = ended(&mut ledger);
                    for (message, _, outcome) in model.ended.drain(..) {
                        let at = asked.iter().position(|a| *a == (message, outcome));
                        prop_assert!(at.is_some(), "{} should have ended as {:?}: {:?}", message, outcome, asked);
                        asked.remove(at.unwrap());
                    }
                    prop_assert_eq!(asked.len() as u64, failed);
                    for (message, outcome) in asked {
                        let root = *model.live.iter().find(|(_, r)| r.message == message).expect("it was live").0;
                        let (deadline, reason) = model.deadline(&model.live[&root]);
                        prop_assert!(deadline <= now, "{} failed {} ns early", message, deadline - now);
                        prop_assert_eq!(outcome, Outcome::Failed(reason));
                        model.end(root, outcome);
                    }
                    model.ended.clear();
                    prop_assert!(ledger.deadline_ns().is_none_or(|at| at > now), "looked at, and due again at once");
                }
                Op::Ask => for e in asked(&mut ledger) {
                    let at = model.ended.iter().position(|m| *m == (e.message.as_u64(), e.task, e.outcome));
                    prop_assert!(at.is_some(), "{:?} was not to end now", e);
                    model.ended.remove(at.unwrap());
                },
            }
            let counts = ledger.counts();
            prop_assert_eq!(counts.pending() as usize, model.live.len());
            prop_assert_eq!(ledger.has_ended(), !model.ended.is_empty());
            prop_assert_eq!(ledger.deadline_ns().is_some(), !model.live.is_empty());
            prop_assert!(ledger.slots() <= most_held, "slots are used again");
            for task in TASKS {
                let held = model.live.values().filter(|r| r.task == task).count()
                    + model.ended.iter().filter(|(_, t, _)| *t == task).count();
                prop_assert_eq!(ledger.has_room(task), held < 4);
            }
        }
        // Left alone, every root ends.
        ledger.expire(now + 2 * MAX_AGE_NS);
        prop_assert_eq!(ledger.counts().pending(), 0);
        prop_assert_eq!(ended(&mut ledger).len(), model.live.len() + model.ended.len());
        prop_assert!(ledger.is_empty());
    }
}

#[test]
fn a_tree_of_three_tuples_is_complete_when_each_edge_was_made_and_ended() {
    let mut ledger = Ledger::new(config(), &[3]);
    let root = ledger.begin(3, 1.into(), 0xA, 1, 0);
    // The first bolt makes two tuples of it; their ends come in any order, one before it is known that they exist.
    ledger.fold(&ack(root, 0xC, 0), 10);
    ledger.fold(&ack(root, 0xA ^ 0xB ^ 0xC, 0), 20);
    assert!(!ledger.has_ended());
    ledger.fold(&ack(root, 0xB, 0), 30);
    assert_eq!(ended(&mut ledger), [(1, Outcome::Acked)]);
    ledger.fold(&ack(root, 0xB, 0), 40);
    assert_eq!((ledger.counts().late, ended(&mut ledger)), (1, vec![]));
}

#[test]
fn slots_of_acked_roots_are_used_again_first_and_those_of_failed_ones_last() {
    let mut ledger = Ledger::new(config(), &[0]);
    let roots: Vec<RootId> = (1..=3).map(|m| ledger.begin(0, m.into(), m, 1, 0)).collect();
    ledger.fold(&ack(roots[1], 2, 0), 0);
    ledger.fold(&record(roots[2], AckKind::Fail), 0);
    ledger.fold(&ack(roots[0], 1, 0), 0);
    assert_eq!(ended(&mut ledger).len(), 3);
    let again: Vec<RootId> = (4..=6).map(|m| ledger.begin(0, m.into(), m, 1, 0)).collect();
    assert_eq!(again.iter().map(|r| (r.slot(), r.generation())).collect::<Vec<_>>(), [(0, 1), (1, 1), (2, 1)]);
}

#[test]
fn a_root_that_is_held_up_ends_by_its_age_alone() {
    let mut ledger = Ledger::new(config(), &[0]);
    ledger.begin(0, 1.into(), 9, worker_bit(2), 0);
    let mut now = 0;
    while now + TIMEOUT_NS / 8 < MAX_AGE_NS {
        now += TIMEOUT_NS / 8;
        ledger.no_room(worker_bit(2) | worker_bit(4), now);
        ledger.expire(now);
        assert!(!ledger.has_ended(), "it ended at {now}");
    }
    ledger.expire(MAX_AGE_NS + SPREAD_NS);
    assert_eq!(ended(&mut ledger), [(1, Outcome::Failed(FailReason::TooOld))]);
}
