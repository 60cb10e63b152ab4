//! The two kinds of components, as traits.

use std::fmt;
use std::time::Duration;

use squall_engine::{FailKind, FailReason, Finish, MessageId};
use squall_topology::{Placement, Plan};
use squall_tuple::MarkRecord;

use crate::{BoltError, Context, Input, Inputs, Outputs, SpoutError};

/// A point on the topology's monotonic clock (virtual in tests). All workers of a host share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    pub(crate) ns: u64,
}

impl Time {
    /// Nanoseconds since the clock's zero.
    pub fn as_nanos(self) -> u64 {
        self.ns
    }

    /// Time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, d: Duration) -> Time {
        Time { ns: self.ns.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)) }
    }
}

/// What a call of [`Spout::next`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Emitted something; there may be more.
    Emitted,
    /// Nothing now, ask again soon: the reactor polls (within about 1 ms once it sleeps).
    Idle,
    /// Nothing before this time.
    WakeAt(Time),
    /// Nothing until the task's [`Waker`](crate::Waker) is used, or one of its tuples was acked or failed. Costs nothing
    /// meanwhile.
    Parked,
    /// Nothing ever again: the end of a bounded source.
    End,
}

/// Why the tree of a tuple failed, as [`Spout::fail`] is told. In words by `Display`: `failed by count`, `timed out`.
#[derive(Clone, Copy)]
pub struct Failure<'a> {
    pub(crate) reason: FailReason,
    pub(crate) plan: &'a Plan,
}

impl<'a> Failure<'a> {
    /// What kind of reason.
    pub fn kind(&self) -> FailKind {
        self.reason.kind()
    }

    /// The component that failed or dropped a tuple of the tree.
    pub fn component(&self) -> Option<&'a str> {
        let component = self.plan.spec.components.get(self.reason.component()? as usize)?;
        Some(&component.name)
    }
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.reason.text(self.plan))
    }
}

/// Shows the words.
impl fmt::Debug for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A source of streams (Storm's `ISpout`). Each task is one instance; all calls come from one thread.
///
/// `next` is called only while every output has room, and while less roots are pending than the topology's
/// `max_spout_pending`, so a spout never waits for one. It must not block: a source
/// that does belongs on a side thread ([`Placement::SideThread`]).
pub trait Spout: 'static {
    /// What it emits: `Stream<T>`, or a struct of named streams (`#[derive(Outputs)]`).
    type Out: Outputs;

    /// Once, before the first `next`.
    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let _ = ctx;
        Ok(())
    }

    /// Emits what is due: one tuple or a few.
    fn next(&mut self, out: &mut Self::Out) -> Result<Next, SpoutError>;

    /// At millisecond periods, where the topology asks for ticks.
    fn tick(&mut self, out: &mut Self::Out) -> Result<(), SpoutError> {
        let _ = out;
        Ok(())
    }

    /// The tree of the tuple that was emitted with this id is complete: everything that was anchored to it, down to the
    /// last bolt, was acknowledged. Ends the parking of the task. Comes once per emit with an id, this or [`Spout::fail`],
    /// also after [`Next::End`] and before `cleanup`.
    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        let _ = id;
        Ok(())
    }

    /// A tuple of the tree failed, or nothing was heard of it in time: it may have been processed, in part or in whole. A
    /// source that can emits it again, from `next`; so it must not have returned [`Next::End`] before all its ids are
    /// acknowledged. Ends the parking of the task.
    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        let _ = (id, why);
        Ok(())
    }

    /// The run drains: `next` is not called again, what is pending is waited for.
    fn deactivate(&mut self) {}

    /// The last call.
    fn cleanup(&mut self) {}

    /// Whether it emits a tuple that has failed again until it is acknowledged, and all that were not acknowledged again after
    /// the end of its own worker (D4). Shown by `plan`; a run does not fail because such a spout's roots did.
    fn reliable() -> bool
    where
        Self: Sized,
    {
        false
    }

    /// Where its executors run unless the topology says otherwise.
    fn placement() -> Placement
    where
        Self: Sized,
    {
        Placement::Reactor
    }
}

/// A step that consumes streams (Storm's `IBasicBolt`: input is acknowledged, and output anchored, by itself). Each
/// task is one instance; all calls come from one thread.
pub trait Bolt: 'static {
    /// What it consumes: a tuple type, or an enum with a variant per input (`#[derive(Inputs)]`).
    type In: Inputs;
    /// What it emits: `()`, `Stream<T>`, or a struct of named streams (`#[derive(Outputs)]`).
    type Out: Outputs;

    /// Once, before the first tuple. Of an instance that takes the place of one that failed, [`Context::restarts`] is not 0.
    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        let _ = ctx;
        Ok(())
    }

    /// One tuple. `Ok` acknowledges it unless [`Input::keep`] took it over; `Err(BoltError::Fail)` fails it and goes
    /// on; `Err(BoltError::Fatal)` and a panic end the executor, which is restarted: the tuple fails, the state of the
    /// executor's tasks is lost, and `prepare` is called on new instances.
    fn execute(&mut self, input: Input<'_, Self::In>, out: &mut Self::Out) -> Result<(), BoltError>;

    /// After the last tuple of a batch, and before the acks of its tuples leave: sinks flush here instead of per tuple. An error, or
    /// a panic, fails all tuples executed since the last call, and restarts the executor. What is held until here is lost, too,
    /// where the executor is restarted because of a later tuple of the batch; to have those fail as well, [`Input::keep`] them and
    /// acknowledge them here.
    fn batch_end(&mut self, out: &mut Self::Out) -> Result<(), BoltError> {
        let _ = out;
        Ok(())
    }

    /// At millisecond periods, where the topology asks for ticks. Emits are unanchored.
    fn tick(&mut self, out: &mut Self::Out) -> Result<(), BoltError> {
        let _ = out;
        Ok(())
    }

    /// All inputs have ended; nothing is executed after this was first called. Called again while it returns
    /// [`Finish::More`], each time when the outputs have room: emit a few hundred tuples at a time rather than all at once.
    fn finish(&mut self, out: &mut Self::Out) -> Result<Finish, BoltError> {
        let _ = out;
        Ok(Finish::Done)
    }

    /// A tuple has ended this task's executor so often that it is not tried again (`dead_letter_after`); this is a new
    /// instance. To hand it on, emit it with the error and return `true`: it is acknowledged. `false`, the default: it goes to
    /// the stream declared with [`BoltDecl::dead_letters`](crate::BoltDecl::dead_letters), or fails.
    fn dead_letter(&mut self, input: Input<'_, Self::In>, error: &str, out: &mut Self::Out) -> Result<bool, BoltError> {
        let _ = (input, error, out);
        Ok(false)
    }

    /// The task's [`Waker`](crate::Waker) was used, from any thread: what was waited for is there. Emits are unanchored unless
    /// they say what to.
    fn woken(&mut self, out: &mut Self::Out) -> Result<(), BoltError> {
        let _ = out;
        Ok(())
    }

    /// Reserved for watermarks and snapshots.
    fn on_mark(&mut self, mark: &MarkRecord, out: &mut Self::Out) -> Result<(), BoltError> {
        let _ = (mark, out);
        Ok(())
    }

    /// The last call.
    fn cleanup(&mut self) {}

    /// Where its executors run unless the topology says otherwise.
    fn placement() -> Placement
    where
        Self: Sized,
    {
        Placement::Reactor
    }
}

pub use squall_engine::TaskHook;

/// Name of the stream of a component that has only one.
pub(crate) const DEFAULT_STREAM: &str = "default";
