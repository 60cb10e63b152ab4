//! The erased unit of execution: all tasks of one component on one reactor.
//!
//! One dynamic call per batch leads into a monomorphised loop (crate `squall-api`), tasks are picked by index, and
//! everything a task emits goes through the cohort's own ports into its own buffers.

use squall_tuple::ids::TaskId;
use squall_tuple::{Batch, Cursor, MarkRecord};

use crate::fault::Fault;
use crate::ledger::Ended;
use crate::port::Port;

/// How a call on a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEnd {
    /// Every tuple for this cohort was executed.
    Done,
    /// Stopped early: an outgoing batch is full, or the cohort used its time. The cursor says where to go on.
    Yield,
}

/// Whether `finish` has more to emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Everything was emitted.
    Done,
    /// Call again when the outputs have room.
    More,
}

/// What a turn of a spout cohort came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoutTurn {
    /// At least one task emitted or ended.
    pub progress: bool,
    /// At least one task asked to be called again soon although it had nothing.
    pub idle: bool,
    /// Earliest time a sleeping task asked for.
    pub wake_at_ns: Option<u64>,
    /// Tasks have ended since [`Cohort::take_ended`] was last called.
    pub some_ended: bool,
    /// Every task has ended.
    pub ended: bool,
    /// Calls made.
    pub calls: u32,
}

/// A tuple that ended its executor once too often.
pub struct DeadLetter<'a> {
    /// A batch that begins with it.
    pub batch: &'a Batch<'a>,
    /// The input it came in on.
    pub port: u16,
    /// The task that could not process it.
    pub task: TaskId,
    /// What it did, the last time.
    pub cause: &'a str,
    /// How often.
    pub failures: u32,
}

/// See the module. All calls come from the one thread of the cohort's reactor.
pub trait Cohort {
    /// Prepares every task, in order.
    fn prepare(&mut self) -> Result<(), Fault>;

    /// Executes the tuples of `batch` that are for tasks of this cohort, from `cursor` on. `executed` grows by one
    /// per execution. The cursor stands behind the tuple being executed, so after a panic it names it.
    fn run_batch(
        &mut self,
        batch: &Batch<'_>,
        cursor: &mut Cursor,
        port: u16,
        executed: &mut u64,
    ) -> Result<BatchEnd, Fault>;

    /// Lets spout tasks emit, at most `budget` calls, fewer when a batch is full. The turn began at `began_ns`; `None`: it is the turn of the
    /// last call, which goes on.
    fn run_spout(&mut self, budget: u32, began_ns: Option<u64>) -> Result<SpoutTurn, Fault>;

    /// Ends all spout tasks that have not ended: the drain of Ctrl-C and kill.
    fn stop_spout(&mut self);

    /// Tasks that ended since the last call.
    fn take_ended(&mut self, into: &mut Vec<TaskId>);

    /// Tells spout tasks what became of their roots, those that have ended too, but not those that are lost. `told` counts
    /// the ones that it has come to, so after a panic it names the one.
    fn settle(&mut self, ended: &[Ended], told: &mut usize) -> Result<(), Fault>;

    /// A mark that is not an end of stream.
    fn on_mark(&mut self, mark: &MarkRecord) -> Result<(), Fault>;

    /// A tick for every task.
    fn tick(&mut self) -> Result<(), Fault>;

    /// The inputs have ended.
    fn finish(&mut self) -> Result<Finish, Fault>;

    /// Calls `f` with every output port.
    fn ports(&mut self, f: &mut dyn FnMut(&mut Port));

    /// The last call: release what `prepare` took.
    fn cleanup(&mut self);

    /// These tasks have failed: none of them is called until [`Cohort::restart`].
    fn retire(&mut self, tasks: &[TaskId]);

    /// Makes new instances of these tasks and prepares them.
    fn restart(&mut self, tasks: &[TaskId]) -> Result<(), Fault>;

    /// The next tuple executed is one that has been executed by some of its tasks: it goes on behind this one.
    fn resume_behind(&mut self, task: TaskId);

    /// Hands a tuple that the component could not process to its stream of dead letters and ends it. `false`: the component
    /// has none, and the tuple is not ended.
    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<bool, Fault>;

    /// A waker of a task was used: calls those who asked.
    fn woken(&mut self) -> Result<(), Fault>;
}
