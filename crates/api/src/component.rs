//! The two kinds of components, as traits.

use std::time::Duration;

use squall_engine::Finish;
use squall_topology::Placement;
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
    /// Nothing until the task's [`Waker`](crate::Waker) is used. Costs nothing meanwhile.
    Parked,
    /// Nothing ever again: the end of a bounded source.
    End,
}

/// A source of streams (Storm's `ISpout`). Each task is one instance; all calls come from one thread.
///
/// `next` is called only while every output has room, so a spout never waits for one. It must not block: a source
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

    /// The run drains: `next` is not called again.
    fn deactivate(&mut self) {}

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

/// A step that consumes streams (Storm's `IBasicBolt`: input is acknowledged, and output anchored, by itself). Each
/// task is one instance; all calls come from one thread.
pub trait Bolt: 'static {
    /// What it consumes: a tuple type, or an enum with a variant per input (`#[derive(Inputs)]`).
    type In: Inputs;
    /// What it emits: `()`, `Stream<T>`, or a struct of named streams (`#[derive(Outputs)]`).
    type Out: Outputs;

    /// Once, before the first tuple.
    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        let _ = ctx;
        Ok(())
    }

    /// One tuple. `Ok` acknowledges it unless [`Input::keep`] took it over; `Err(BoltError::Fail)` fails it and goes
    /// on; `Err(BoltError::Fatal)` and a panic end the executor.
    fn execute(&mut self, input: Input<'_, Self::In>, out: &mut Self::Out) -> Result<(), BoltError>;

    /// After the last tuple of a batch: sinks flush here instead of per tuple.
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
