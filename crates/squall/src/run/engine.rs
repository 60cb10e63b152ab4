//! The seam between the runner and what it runs.
//!
//! The parent needs an [`Outline`] of the plan, a worker needs to start its share of it and to hear what happens there.
//! Everything else here (processes, sockets, signals, reports) works the same over the real engine and over the one in
//! the tests.

use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_engine::BoardLayout;

use super::stats::WorkerStats;

/// What the parent of a run needs to know of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outline {
    /// Name of the topology.
    pub name: String,
    /// Number of worker processes.
    pub workers: u32,
    /// The plan as text, equal in all processes of a run.
    pub canonical: String,
    /// Hash of the canonical plan.
    pub hash: u64,
    /// CPUs the plan was made for.
    pub cores: Vec<usize>,
    /// Pairs of reactors in different workers between which anything may travel.
    pub socket_pairs: Vec<SocketPair>,
    /// Components in the order of the topology.
    pub components: Vec<ComponentOutline>,
    /// Bound of all buffers (D2).
    pub memory_bytes: u64,
    pub tasks: u32,
    pub reactors: u32,
    /// Where counts and pulses lie.
    pub board: BoardLayout,
}

/// Two reactors of different workers, the lower reactor first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SocketPair {
    pub reactors: (u32, u32),
    pub workers: (u32, u32),
}

/// One component of an [`Outline`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ComponentOutline {
    pub name: String,
    pub tasks: u32,
    pub spout: bool,
    /// A spout that emits what has failed again, in a topology that tracks it.
    pub reliable: bool,
    /// Components whose every emitted tuple is executed here exactly `per_tuple` times; `None` where the grouping
    /// leaves that to the tuple or to the author.
    pub inputs: Option<Vec<InputOutline>>,
    /// Milliseconds after which the worker of a call that does not return is killed; 0: never.
    pub execute_timeout_ms: u64,
}

/// One input of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputOutline {
    pub from: String,
    pub per_tuple: u64,
}

/// A stream socket that joins a reactor of this worker with one of another.
#[derive(Debug)]
pub(crate) struct SocketEnd {
    /// Both reactors, the lower one first.
    pub reactors: (u32, u32),
    pub fd: OwnedFd,
}

/// What a started worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Log {
        level: String,
        component: String,
        task: u32,
        text: String,
    },
    Result {
        key: String,
        task: u32,
        bytes: Vec<u8>,
    },
    Warning(String),
    /// Cause and remedy.
    Failed(String),
    /// The link to another worker has ended, after it had been made anew so many times.
    LinkLost {
        worker: u32,
        joins: u32,
    },
    /// All components are done and every result row has been given out.
    Finished,
}

/// A plan with the code behind it, in one process.
pub(crate) trait Program {
    /// The plan for the parent's eyes.
    fn outline(&self) -> &Outline;
    /// The first place where this program's plan differs from another canonical one.
    fn first_difference(&self, canonical: &str) -> Option<String>;
    /// Starts one worker's share: threads up, components prepared, spouts waiting. The error names cause and remedy.
    fn start(self: Box<Self>, role: Role, sockets: Vec<SocketEnd>) -> Result<Box<dyn Engine>, String>;
}

/// Which worker a process is, and in what run.
#[derive(Debug)]
pub(crate) struct Role {
    pub worker: u32,
    /// By worker: how often it was started before.
    pub epochs: Vec<u32>,
    /// Whether workers that die are replaced.
    pub heals: bool,
    /// How long a link that has ended waits for the word of who watches the workers.
    pub patience: Duration,
    /// Memory for counts and pulses, owned by the parent.
    pub board: OwnedFd,
}

/// Joins a worker that has begun another life; run on a thread of its own, since it waits for the other one.
pub(crate) type Join = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// A started worker, as its main thread holds it. To end it at once, end the process.
pub(crate) trait Engine {
    /// What it says from now on; asked for once, used by another thread.
    fn events(&self) -> Box<dyn Events>;
    /// Spouts may run.
    fn begin(&self);
    /// Spouts are not called until [`Engine::begin`].
    fn pause_spouts(&self);
    /// Spouts end; the rest ends as at a normal end.
    fn stop_spouts(&self);
    /// Another worker is gone.
    fn lose(&self, worker: u32);
    /// Another worker, which had done its part, is gone.
    fn leave(&self, worker: u32);
    /// Another worker begins the life `epoch`: what links to it over these sockets, for the `joins`-th time.
    fn rejoin(&self, worker: u32, epoch: u32, joins: u32, sockets: Vec<SocketEnd>) -> Join;
    /// Shows that the main thread lives.
    fn beat(&self);
    /// Counts so far.
    fn snapshot(&self) -> WorkerStats;
    /// Ends all threads; after `Finished`.
    fn join(self: Box<Self>) -> WorkerStats;
}

/// Events of a started worker.
pub(crate) trait Events: Send {
    /// The next event, if one comes in time. Result rows are given out only with `results`; other events never wait
    /// behind them, and `Finished` comes after the last of them.
    fn next(&mut self, timeout: Duration, results: bool) -> Option<Event>;
}
