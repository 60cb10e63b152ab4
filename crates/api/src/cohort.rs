//! What bolt and spout cohorts have in common.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use squall_engine::{CohortEnv, Fault, FaultDetails, FaultKind};
use squall_tuple::ids::TaskId;

use crate::{Cause, Context};

/// Makes the instances of a component: at the start, and when an executor is restarted.
pub(crate) type Factory<C> = Arc<dyn Fn() -> C + Send + Sync>;

/// Finds a task's place in its cohort without a search: tasks of a component are contiguous in the topology.
pub(crate) struct TaskIndex {
    first: TaskId,
    /// By task − first: place in the cohort, or `ABSENT`.
    place: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl TaskIndex {
    pub(crate) fn new(tasks: &[TaskId]) -> Self {
        let first = tasks[0];
        let mut place = vec![ABSENT; (tasks[tasks.len() - 1] - first) as usize + 1];
        for (i, t) in tasks.iter().enumerate() {
            place[(t - first) as usize] = i as u32;
        }
        TaskIndex { first, place }
    }

    /// The task of a cohort that has only one.
    pub(crate) fn only(&self) -> Option<TaskId> {
        (self.place.len() == 1).then_some(self.first)
    }

    /// The task's place, if it is one of the cohort's.
    #[inline(always)]
    pub(crate) fn place(&self, task: TaskId) -> Option<usize> {
        match self.place.get(task.wrapping_sub(self.first) as usize) {
            Some(&p) if p != ABSENT => Some(p as usize),
            _ => None,
        }
    }
}

/// A context for one task, and what its waker and its doorbell signal.
/// `restarts`: of executors of its cohort, before.
pub(crate) fn context(env: &Rc<CohortEnv>, task: TaskId, restarts: u32) -> (Context, Arc<Signal>) {
    let signal = Arc::new(Signal::default());
    (Context { env: env.clone(), task, signal: signal.clone(), restarts }, signal)
}

/// What may end the parking of a spout task.
#[derive(Default)]
pub(crate) struct Signal {
    woken: AtomicBool,
    /// The task has given away its reactor's doorbell: whatever wakes the reactor may be meant for it.
    belled: AtomicBool,
}

impl Signal {
    /// From any thread.
    pub(crate) fn wake(&self) {
        // Release pairs with the Acquire of the reactor's look at the flag: it sees what was done before the wake.
        self.woken.store(true, Ordering::Release);
    }

    /// Once the doorbell has been given away.
    pub(crate) fn set_belled(&self) {
        // Set and read by the reactor's thread.
        self.belled.store(true, Ordering::Relaxed);
    }

    /// Woken while it decided to park.
    pub(crate) fn is_woken(&self) -> bool {
        // Acquire: see `wake`.
        self.woken.load(Ordering::Acquire)
    }

    /// Whether a parked task is to be asked.
    pub(crate) fn take(&self) -> bool {
        // Acquire: see `wake`.
        self.belled.load(Ordering::Relaxed) || self.woken.swap(false, Ordering::Acquire)
    }
}

/// The end of an executor; the engine adds the component's name.
pub(crate) fn fatal(task: TaskId, cause: &Cause) -> Fault {
    FaultDetails {
        component: String::new(),
        task,
        kind: FaultKind::Fatal,
        cause: cause.to_string(),
        at: None,
        restarts: 0,
    }
    .into()
}

/// The end of a spout's source.
pub(crate) fn source_ended(task: TaskId, cause: &Cause) -> Fault {
    let mut fault = fatal(task, cause);
    fault.kind = FaultKind::Source;
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_is_taken_once_and_a_doorbell_has_the_task_asked_whenever_its_reactor_is_awake() {
        let signal = Signal::default();
        assert!(!signal.take());
        signal.wake();
        assert!(signal.is_woken() && signal.take() && !signal.take());
        signal.set_belled();
        assert!(!signal.is_woken() && signal.take() && signal.take());
    }

    #[test]
    fn a_task_of_another_cohort_has_no_place() {
        let index = TaskIndex::new(&[4, 6, 9]);
        assert_eq!([4, 6, 9].map(|t| index.place(t)), [Some(0), Some(1), Some(2)]);
        assert_eq!([0, 3, 5, 7, 10, u32::MAX].map(|t| index.place(t)), [None; 6]);
    }
}
