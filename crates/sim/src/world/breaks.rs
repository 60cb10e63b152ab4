//! Executors that are broken on purpose: what that costs whom, as the world has to know it to judge what follows (D7).

use squall::TaskId;

use super::{Inner, RootIx, World};
use crate::dice::Dice;

impl World {
    /// How often a task was prepared.
    pub(crate) fn lives(&self, task: TaskId) -> u32 {
        self.inner.borrow().tasks[task as usize].prepared
    }

    /// Whether the running call of a task is to end its executor. Then it has to do so.
    pub(crate) fn breaks(&self, task: TaskId, dice: &mut Dice, permille: u32) -> bool {
        if permille == 0 || dice.below(1000) >= permille || self.inner.borrow().breaks == 0 {
            return false;
        }
        let mut inner = self.inner.borrow_mut();
        inner.breaks -= 1;
        inner.act(&[13, task.into()]);
        if let Some(cohort) = inner.ending.take() {
            let Inner { batches, trees, .. } = &mut *inner;
            let roots = batches.get(&cohort).map_or(&[][..], |(_, roots)| roots);
            roots.iter().for_each(|root| trees[*root as usize].end_broke = true);
        }
        let executor = &self.plan.executors[self.plan.tasks[task as usize].executor as usize];
        let spout = self.is_spout(executor.component);
        for task in executor.tasks.clone() {
            inner.parked.remove(&task);
            let log = &mut inner.tasks[task as usize];
            log.broken += 1;
            log.resting = true;
            (log.abandoned, log.down) = if spout && log.ended { (true, false) } else { (log.abandoned, true) };
            self.lose_roots(&mut inner, task);
        }
        // Its ticks, and those of the tasks whose input waits with its, may be late.
        for other in self.plan.tasks_of(executor.component) {
            inner.tasks[other as usize].ticked_ns = None;
        }
        true
    }

    /// A task executes a tuple of these trees: if the end of the batch breaks it, they fail.
    pub(crate) fn in_batch(&self, task: TaskId, roots: &[RootIx]) {
        let mut inner = self.inner.borrow_mut();
        inner.ending = None;
        let (ended, batch) = inner.batches.entry(self.cohort_of(task)).or_default();
        if std::mem::take(ended) {
            batch.clear();
        }
        batch.extend_from_slice(roots);
    }

    /// `batch_end` of a task is called, and has not come to its end.
    pub(crate) fn batch_ends(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        let cohort = self.cohort_of(task);
        inner.batches.entry(cohort).or_default().0 = true;
        inner.ending = Some(cohort);
    }

    /// Component and reactor of a task.
    fn cohort_of(&self, task: TaskId) -> (u32, u32) {
        (self.plan.component_of(task), self.plan.tasks[task as usize].reactor)
    }

    /// The tuple being executed breaks its executor, and was not kept.
    pub(crate) fn tuple_breaks(&self, task: TaskId, roots: &[RootIx]) {
        if roots.is_empty() || self.scenario.sizes.letters_at_once {
            self.inner.borrow_mut().tasks[task as usize].letters_due += 1;
        } else {
            self.failed(task);
            self.end_delivery(roots, false);
        }
    }

    /// It came back, to be handed on to the dead letters or not.
    pub(crate) fn letter(&self, task: TaskId, roots: &[RootIx], taken: bool) {
        let due = self.inner.borrow().tasks[task as usize].letters_due;
        match due.checked_sub(1) {
            Some(left) => self.inner.borrow_mut().tasks[task as usize].letters_due = left,
            None => self.violate(format!("{} got a dead letter that nobody wrote", self.task_name(task))),
        }
        if !taken {
            self.failed(task);
        }
        self.end_delivery(roots, taken);
    }

    pub(crate) fn any_down(&self) -> bool {
        self.inner.borrow().tasks.iter().any(|t| t.down)
    }
}
