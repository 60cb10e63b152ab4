//! The simulator's custom grouping, and which tasks each grouping must or may choose.

use squall::{CustomGrouping, Key, RouteKey, TaskId};
use squall_topology::rng::mix;
use squall_topology::{Grouping, Plan};
use squall_tuple::{group_task, key_group};

use crate::scenario::GroupScript;
use crate::tuples::{KEY, NAME};
use crate::world::Emission;

/// Any subset of the targets, none included, by key.
pub(crate) struct ByMask {
    salt: u64,
    targets: u32,
}

impl ByMask {
    pub(crate) fn new(salt: u64) -> Self {
        ByMask { salt, targets: 0 }
    }
}

fn chosen(key: u64, salt: u64, target: u32) -> bool {
    mix(key.wrapping_add(1) ^ salt) >> target & 1 == 1
}

impl CustomGrouping for ByMask {
    fn prepare(&mut self, targets: &[TaskId]) {
        self.targets = targets.len() as u32;
    }

    fn choose(&mut self, tuple: &dyn RouteKey, out: &mut Vec<u32>) {
        let key = match tuple.key(KEY) {
            Key::I64(n) => n as u64,
            Key::U64(n) => n,
            other => panic!("the key of a tuple of the simulator is an integer, not {other:?}"),
        };
        out.extend((0..self.targets).filter(|t| chosen(key, self.salt, *t)));
    }
}

/// The tasks of one subscriber that a tuple must reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Exactly these.
    All(Vec<TaskId>),
    /// Exactly one of these.
    OneOf(Vec<TaskId>),
}

impl Expected {
    /// Number of deliveries.
    pub(crate) fn count(&self) -> usize {
        match self {
            Expected::All(tasks) => tasks.len(),
            Expected::OneOf(_) => 1,
        }
    }
}

/// Where a tuple that `source` emitted must go over a subscription (index in the plan), by its script.
pub(crate) fn expected(
    plan: &Plan,
    subscription: u32,
    script: GroupScript,
    source: TaskId,
    emission: &Emission,
) -> Expected {
    let sub = &plan.spec.subscriptions[subscription as usize];
    let targets = plan.tasks_of(sub.to);
    let all: Vec<TaskId> = targets.clone().collect();
    let by = |fields: &[u16]| {
        let groups = plan.spec.config.key_groups;
        let group = key_group(emission.draft.key_hash(fields), groups);
        Expected::All(vec![targets.start + group_task(group, groups, all.len() as u32)])
    };
    match script {
        GroupScript::ByKey => by(&[KEY]),
        GroupScript::ByName => by(&[NAME]),
        GroupScript::ByBoth => by(&[NAME, KEY]),
        GroupScript::All => Expected::All(all),
        GroupScript::Global => Expected::All(vec![targets.start]),
        GroupScript::Direct => Expected::All(emission.direct.into_iter().filter(|t| targets.contains(t)).collect()),
        GroupScript::Custom(salt) => {
            debug_assert!(matches!(sub.grouping, Grouping::Custom(_)));
            let wanted = |t: &TaskId| chosen(emission.draft.key, salt, t - targets.start);
            Expected::All(all.into_iter().filter(wanted).collect())
        }
        GroupScript::LocalOrShuffle => {
            let here = plan.worker_of(source);
            let local: Vec<TaskId> = all.iter().copied().filter(|t| plan.worker_of(*t) == here).collect();
            let reactor = |task: TaskId| plan.tasks[task as usize].reactor;
            let beside: Vec<TaskId> = local.iter().copied().filter(|t| reactor(*t) == reactor(source)).collect();
            // On each reactor as many targets per sender: then the nearest get them, and nobody gets less.
            let senders: Vec<TaskId> = plan.source_tasks(sub.stream).filter(|t| plan.worker_of(*t) == here).collect();
            let on = |tasks: &[TaskId], r| tasks.iter().filter(|t| reactor(**t) == r).count() as f64;
            let even = plan.workers[here as usize].reactors.iter().all(|r| {
                let (from, to) = (on(&senders, *r), on(&local, *r));
                (from / senders.len() as f64 - to / local.len().max(1) as f64).abs() < 1e-9
            });
            Expected::OneOf(match (local.is_empty(), even) {
                (true, _) => all,
                (false, true) => beside,
                (false, false) => local,
            })
        }
        GroupScript::Shuffle | GroupScript::LoadAware | GroupScript::PartialKey | GroupScript::None => {
            Expected::OneOf(all)
        }
    }
}
