//! Task hooks (Storm's `ITaskHook`): code that watches the tasks of a component without being part of it.
//!
//! A component without hooks pays one predicted branch per tuple; with hooks its emits take the general path.

use squall_tuple::ids::{StreamIx, TaskId};

/// Which way a sampled tuple goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Into a task that is about to execute it.
    In,
    /// Out of the task that emits it.
    Out,
}

/// Watches the tasks of one component on one reactor; every call comes from that reactor's thread.
pub trait TaskHook {
    /// A task is about to be prepared.
    fn prepare(&mut self, component: &str, task: TaskId) {
        let _ = (component, task);
    }

    /// A task emitted a tuple on `stream`, delivered to `targets`.
    fn on_emit(&mut self, task: TaskId, stream: StreamIx, targets: &mut dyn Iterator<Item = TaskId>) {
        let _ = (task, stream, targets);
    }

    /// A task is about to execute a tuple of `stream` from `source`.
    fn on_execute(&mut self, task: TaskId, stream: StreamIx, source: TaskId) {
        let _ = (task, stream, source);
    }

    /// A task acknowledged an input tuple.
    fn on_ack(&mut self, task: TaskId) {
        let _ = task;
    }

    /// A task failed an input tuple.
    fn on_fail(&mut self, task: TaskId, cause: &str) {
        let _ = (task, cause);
    }

    /// Whether [`TaskHook::on_sample`] is to be called with the text of the tuple that a task is about to execute or emit. Asked
    /// for each tuple, so it should say `false` nearly always: the text costs more than the tuple.
    fn samples(&mut self, way: Way) -> bool {
        let _ = way;
        false
    }

    /// A tuple of `stream` that a task executes or emits, as text (cut where it is long).
    fn on_sample(&mut self, task: TaskId, stream: StreamIx, way: Way, text: String) {
        let _ = (task, stream, way, text);
    }

    /// The cohort has ended.
    fn cleanup(&mut self) {}
}

/// Makes a hook for one cohort.
pub type HookFactory = Box<dyn Fn() -> Box<dyn TaskHook> + Send + Sync>;
