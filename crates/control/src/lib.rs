//! The control plane as values: nimbus, supervisor, the life of a topology, configuration.
//!
//! [`Nimbus`] and [`Supervisor`] take events (of their coordinator session, requests, reports, what processes did) with the time, and
//! give outputs (calls, answers, commands) that a driver carries out in order. They open nothing, wait for nothing, read no clock;
//! the simulator runs them as they are. All their times are of one monotonic clock of their own process.
//!
//! What is agreed lies in the coordinator ([`record`] has the nodes); whoever crashes reads it again. Rules that hold throughout:
//! - Only the leader writes topologies and assignments, and every such commit checks the version of the epoch node, so a leader that was
//!   deposed without knowing changes nothing.
//! - A request is answered after it is committed; what was answered survives every crash.
//! - An incarnation of a worker has an [`Epoch`] greater than any before it of its topology's tasks, across nodes, restarts and
//!   leaders. Receivers take the greatest they heard of and refuse less.
//! - Nobody stops a worker because the coordinator, nimbus or a supervisor is away.
//!
//! Deliberately absent: sockets, processes and HTTP (drivers), heartbeats through the coordinator, and moving single executors of a
//! running topology.
#![forbid(unsafe_code)]

pub mod config;
mod epoch;
mod nimbus;
pub mod record;
mod supervisor;

pub use epoch::Epoch;
pub use nimbus::{
    Accepted, ClientId, Nimbus, NimbusOptions, Output as NimbusOutput, Preview, Refusal, Request, Role, Submission,
    Summary,
};
pub use supervisor::{
    Found, Liveness, Output as SupervisorOutput, Process, Report, Supervisor, SupervisorOptions, WorkerFile,
    WorkerOrder, WorkerReport, WorkerState, files,
};
