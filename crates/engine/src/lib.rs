//! The dataplane: reactors that run cohorts and move batches over links.
//!
//! [`Core`] is the logic of one reactor without any I/O; [`Worker`] runs cores on pinned threads, with rings between
//! them and shared memory or sockets to other workers; [`MemCluster`] runs all cores of a plan on one thread, in any legal order, for
//! the test harness and the simulator. Promises D1–D10 are in `docs/semantics.md`.
//!
//! Invariants: a tuple never waits for the control plane, a lock or a log line; every queue is bounded in bytes; one
//! thread owns a cohort for its whole life.
//!
//! Deliberately absent: the typed API (crate `squall-api`), processes and the command line (crate `squall`).
#![deny(unsafe_code)] // one exception, explained in `wires`

mod acks;
mod anchor;
mod board;
mod clock;
mod cohort;
mod credit;
mod env;
mod fault;
mod hello;
mod hook;
mod inbox;
mod input;
mod ledger;
mod log;
mod logic;
mod mem;
mod net;
mod outbox;
mod pool;
mod port;
mod reactor;
mod shared;
mod stats;
mod wait;
mod wires;
mod worker;

pub use anchor::Anchor;
pub use board::{Board, BoardLayout, Pulse};
pub use clock::{Clock, MonotonicClock, VirtualClock};
pub use cohort::{BatchEnd, Cohort, DeadLetter, Finish, SpoutTurn};
pub use env::{CohortEnv, CohortFactory, GroupingFactory, Registry, Wake};
pub use fault::{Fault, FaultDetails, FaultKind, LinkError};
pub use hook::{HookFactory, TaskHook, Way};
pub use ledger::{Ended, FailKind, FailReason, Ledger, LedgerConfig, LedgerCounts, MessageId, Outcome, worker_bit};
pub use log::{BadLogFilter, Level, LogFilter};
pub use logic::{Core, CoreConfig, ReceiveError, SpoutGate, Turn};
pub use mem::{MemCluster, MemNet, Step};
pub use net::{Net, Offered};
pub use outbox::{KeptCall, Outbox, OutboxCounts, Sealed};
pub use pool::BatchPool;
pub use port::Port;
pub use shared::{ResultsFull, WorkerEvent, WorkerReceivers, WorkerShared};
#[doc(hidden)]
pub use squall_io::planted;
pub use squall_io::{IoChoice, IoKind, IoOptions, ZeroCopy};
pub use stats::{CohortStats, ComponentStats, DropReason, LinkCounters, LinkStats, LinkTraffic};
pub use wait::{WaitPlan, WaitStrategy};
pub use worker::{Membership, PeerLinks, Rejoiner, SocketLink, StartError, Worker, WorkerConfig, WorkerStats};
