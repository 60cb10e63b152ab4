//! The tuple trees of a run, kept by counting and not by XOR: what the ledger says of a root is judged by them (D4–D6).
//!
//! A tree has as many open ends as deliveries of its tuples that are due and have not been acknowledged. It may be
//! acknowledged only when there are none, and none failed; it may be failed only for a reason that there is; and when
//! nothing happens any more, a tree without open ends, or with a failed one, must have ended.

use squall::{FailKind, Failure, TaskId};
use squall_tuple::ids::StreamIx;

use super::{Emission, Inner, World};
use crate::grouping::expected;
use crate::scenario::{ComponentScript, Role};

/// A root's number: its message id.
pub(crate) type RootIx = u32;

/// One emit of a spout with an id.
pub(crate) struct Tree {
    task: TaskId,
    begun_ns: u64,
    /// Deliveries that are due and have not ended.
    open: i64,
    /// One was failed.
    failed: bool,
    /// The end of a batch broke its executor, in which one of its tuples was: it may fail for that. (That it must is seen where
    /// ends of batches write: in the simulation of deaths.)
    pub(super) end_broke: bool,
    /// What its spout was told.
    told: Option<Result<(), FailKind>>,
}

/// What spouts were told of their roots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RootCounts {
    /// Roots.
    pub begun: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Failed, by [`FailKind`].
    pub failed: [u64; FailKind::COUNT],
}

impl World {
    /// A spout task is about to emit a tuple with an id. Gives the id.
    pub(crate) fn begin_root(&self, task: TaskId) -> RootIx {
        let mut inner = self.inner.borrow_mut();
        let tree = Tree { task, begun_ns: self.now_ns(), open: 0, failed: false, end_broke: false, told: None };
        inner.trees.push(tree);
        inner.tasks[task as usize].pending += 1;
        inner.trees.len() as RootIx - 1
    }

    /// The latest emission of `task` on `stream` belongs to these trees.
    pub(crate) fn anchored(&self, task: TaskId, stream: StreamIx, roots: &[RootIx]) {
        if roots.is_empty() || !self.scenario.sizes.acking.on {
            return;
        }
        let inner = &mut *self.inner.borrow_mut();
        let source = (task - self.plan.source_tasks(stream).start) as usize;
        let emission = inner.emissions[stream as usize][source].last_mut().expect("the emit was told before");
        emission.roots = roots.to_vec();
        let due = self.deliveries(task, stream, emission);
        for root in roots {
            inner.trees[*root as usize].open += due;
        }
    }

    fn deliveries(&self, task: TaskId, stream: StreamIx, emission: &Emission) -> i64 {
        let subs = self.plan.subscribers_of(stream).iter();
        let due = |s: &u32| {
            expected(&self.plan, *s, self.scenario.subscriptions[*s as usize].grouping, task, emission).count()
        };
        subs.map(|s| due(s) as i64).sum()
    }

    /// The trees that a tuple belongs to.
    pub(crate) fn roots_of(&self, stream: StreamIx, source: TaskId, id: u64) -> Vec<RootIx> {
        let inner = self.inner.borrow();
        let Some(place) = inner.places.get(&(stream, source, id)) else { return Vec::new() };
        let at = (source - self.plan.source_tasks(stream).start) as usize;
        inner.emissions[stream as usize][at][*place as usize].roots.clone()
    }

    /// A delivery ended.
    pub(crate) fn end_delivery(&self, roots: &[RootIx], acked: bool) {
        let mut inner = self.inner.borrow_mut();
        for root in roots {
            let tree = &mut inner.trees[*root as usize];
            if acked {
                tree.open -= 1;
            } else {
                tree.failed = true;
            }
        }
    }

    /// A spout is told that a tree is complete.
    pub(crate) fn root_acked(&self, task: TaskId, root: RootIx) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[11, task.into(), root.into()]);
        let tree = &inner.trees[root as usize];
        if tree.open != 0 || tree.failed {
            let (open, failed) = (tree.open, tree.failed);
            inner.violate(format!("root {root} was acked with {open} open ends, failed: {failed} (D4)"));
        }
        self.told(&mut inner, task, root, Ok(()));
        inner.roots.acked += 1;
    }

    /// A spout is told that a tree has failed.
    pub(crate) fn root_failed(&self, task: TaskId, root: RootIx, why: Failure<'_>) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[12, task.into(), root.into(), why.kind() as u64]);
        let (now_ns, acking) = (self.now_ns(), &self.scenario.sizes.acking);
        let tree = &inner.trees[root as usize];
        // A root is as old as its tuple's origin, which is read before the calls of a turn, not between them.
        let age_ns = now_ns - tree.begun_ns + self.origin_age_max();
        let ms = |ms: u64| ms.saturating_mul(1_000_000);
        let true_reason = match why.kind() {
            FailKind::Failed => tree.failed || tree.end_broke,
            FailKind::Dropped => self.scenario.subscriptions.iter().any(|s| s.feedback),
            FailKind::TimedOut => age_ns >= ms(acking.timeout_ms),
            FailKind::TooOld => age_ns >= ms(acking.max_age_ms.unwrap_or(acking.timeout_ms.saturating_mul(10))),
            FailKind::WorkerLost | FailKind::SpoutLost => false,
        };
        if !true_reason {
            inner.violate(format!("root {root}, {age_ns} ns old, failed because {why}, which is not so (D4)"));
        }
        self.told(&mut inner, task, root, Err(why.kind()));
        inner.roots.failed[why.kind() as usize] += 1;
    }

    /// What a tuple's origin may be older than the tuple: the time that calls of the same turn have taken.
    fn origin_age_max(&self) -> u64 {
        let slow = |c: &ComponentScript| match &c.role {
            Role::Spout(s) => u64::from(s.slow_percent > 0) * s.slow_ns_max,
            Role::Bolt(b) => u64::from(b.slow_percent > 0) * b.slow_ns_max,
        };
        64 * self.scenario.components.iter().map(slow).max().unwrap_or(0)
    }

    /// A spout task is broken: nobody will be told of its roots.
    pub(super) fn lose_roots(&self, inner: &mut Inner, task: TaskId) {
        let mut lost = 0;
        for tree in inner.trees.iter_mut().filter(|t| t.task == task && t.told.is_none()) {
            tree.told = Some(Err(FailKind::SpoutLost));
            lost += 1;
        }
        let log = &mut inner.tasks[task as usize];
        (log.pending, log.roots_lost) = (0, log.roots_lost + lost);
        inner.roots.failed[FailKind::SpoutLost as usize] += lost;
    }

    fn told(&self, inner: &mut Inner, task: TaskId, root: RootIx, how: Result<(), FailKind>) {
        let tree = &mut inner.trees[root as usize];
        let (owner, before) = (tree.task, tree.told.replace(how));
        if let Some(before) = before {
            inner.violate(format!("root {root} ended as {before:?} and then as {how:?} (D4)"));
        }
        if owner != task {
            inner.violate(format!("{} was told of a root of task {owner}", self.task_name(task)));
        }
        let log = &mut inner.tasks[task as usize];
        log.pending = log.pending.saturating_sub(1);
        *(if how.is_ok() { &mut log.roots_acked } else { &mut log.roots_failed }) += 1;
        if log.cleaned > 0 {
            inner.violate(format!("{} was told of root {root} after its cleanup", self.task_name(task)));
        }
    }

    /// Whether a task has as many roots pending as it may.
    pub(crate) fn is_full(&self, inner: &Inner, task: TaskId) -> bool {
        self.scenario.sizes.acking.max_pending.is_some_and(|most| inner.tasks[task as usize].pending >= most)
    }

    /// Roots whose end nobody was told of though nothing happens any more.
    pub(crate) fn forgotten(&self) -> Vec<String> {
        let inner = self.inner.borrow();
        let over = |t: &&Tree| t.told.is_none() && (t.failed || t.open == 0);
        let forgotten = inner.trees.iter().filter(over);
        forgotten.map(|t| format!("a root of {} with {} open ends", self.task_name(t.task), t.open)).collect()
    }

    /// At the end every root has ended.
    pub(crate) fn all_told(&self, inner: &Inner) -> Result<(), String> {
        match inner.trees.iter().position(|t| t.told.is_none()) {
            Some(root) => Err(format!("root {root} of {} was lost (D4)", self.task_name(inner.trees[root].task))),
            None => Ok(()),
        }
    }

    /// What spouts were told.
    pub(crate) fn root_counts(&self) -> RootCounts {
        let inner = self.inner.borrow();
        RootCounts { begun: inner.trees.len() as u64, ..inner.roots }
    }
}
