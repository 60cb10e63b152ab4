//! What a supervisor and the workers of its node say to each other, framed as in [`control`](crate::run::control).
//!
//! The worker connects to the supervisor's socket, not the other way round, and does so again whenever the connection ends: a supervisor that was
//! restarted is found at the same path, and is told what it has to know to go on. What a worker of a run hears of its parent it hears here of its
//! supervisor: its place, its peers, sockets to them, what its spouts do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use squall_topology::Seat;

use crate::run::engine::Outline;
use crate::run::stats::WorkerStats;

/// The variable in which a worker finds its [`Place`].
pub(crate) const PLACE_VARIABLE: &str = "SQUALL_SEAT";
/// Version of these messages; both ends have the same.
pub(crate) const PROTOCOL: u32 = 1;

/// Where a worker belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The supervisor's socket.
    pub socket: PathBuf,
    pub slot: u16,
    /// Generation and restart of this incarnation.
    pub epoch: (u32, u32),
    /// How long the worker goes on without a supervisor, in milliseconds. `None`: for ever.
    pub orphan_ms: Option<u64>,
}

/// What the spouts of a worker are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SpoutsDo {
    Run,
    Pause,
    End,
}

/// From a supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToSeat {
    /// Answer to [`FromSeat::Join`].
    Hello(Box<SeatHello>),
    /// Which worker of the plan this is. Beside it: the board.
    Become {
        worker: u32,
        /// By worker: its incarnation, as batches carry it.
        epochs: Vec<u32>,
        /// Number of [`ToSeat::Sockets`] entries that follow.
        sockets: u32,
    },
    /// The reactors that the sockets beside this message join, the lower one first.
    Sockets(Vec<(u32, u32)>),
    /// A worker is gone.
    Lost(u32),
    /// A worker begins another life, or the link to it is made anew.
    Rejoin {
        worker: u32,
        epoch: u32,
        /// How often this worker was told so of that one, with this time.
        joins: u32,
        sockets: Vec<(u32, u32)>,
        /// More sockets follow in another message.
        more: bool,
    },
    /// What the spouts do from now on.
    Spouts(SpoutsDo),
    /// Components clean up, and the worker leaves.
    Exit,
    /// End at once.
    Abort,
}

/// The topology as it was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeatHello {
    /// [`PROTOCOL`] of the supervisor.
    pub protocol: u32,
    /// Id of the topology.
    pub topology: String,
    /// By worker: what it runs.
    pub seats: Vec<Seat>,
    /// Executors by component: a rebalance may have changed what the topology declares.
    pub executors: BTreeMap<String, u32>,
}

/// From a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum FromSeat {
    /// The first message of a worker that has just started.
    Join { slot: u16, epoch: (u32, u32) },
    /// The first message of a worker that works already. Beside it: the board.
    Back(Box<Back>),
    /// The program is loaded, and this is its plan.
    Loaded(Box<Outline>),
    /// Threads are up and components prepared.
    Prepared,
    /// The link to another worker has ended, after it had been made anew so many times.
    LinkLost { worker: u32, joins: u32 },
    /// Counts so far.
    Stats(Box<WorkerStats>),
    /// All components here have finished.
    Finished,
    /// It cannot go on, and ends: cause and remedy.
    Failed(String),
}

/// What a supervisor must know of a worker that it did not start, or that it lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Back {
    pub slot: u16,
    pub epoch: (u32, u32),
    pub topology: String,
    pub worker: u32,
    pub seats: Vec<Seat>,
    pub executors: BTreeMap<String, u32>,
    pub outline: Outline,
    /// By worker: the incarnation that it was last told of.
    pub epochs: Vec<u32>,
    /// By worker: how often links to it were made anew.
    pub joins: BTreeMap<u32, u32>,
    pub finished: bool,
}

/// What a program says of its topology when it is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Described {
    pub protocol: u32,
    pub name: String,
    /// Version of the engine in it.
    pub engine: String,
    /// The machine that it is built for, as `uname -m` says.
    pub arch: String,
    pub workers: u32,
    /// Reactor threads of each worker, if it says so.
    pub reactors: Option<u32>,
    pub components: Vec<DescribedComponent>,
    /// Components that talk: both ends of each subscription.
    pub talks: Vec<(u32, u32)>,
    /// Bytes that all buffers may take, placed on the machine where it was asked.
    pub memory: u64,
}

/// A component of a [`Described`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DescribedComponent {
    pub name: String,
    pub tasks: u32,
    pub executors: u32,
}

/// The engine of this program: programs with equal ones can be workers of one topology, and be led by one supervisor.
pub(crate) fn engine_version() -> String {
    format!("{}/{PROTOCOL}", env!("CARGO_PKG_VERSION"))
}

/// The machine this program is built for.
pub(crate) fn arch() -> String {
    std::env::consts::ARCH.to_owned()
}
