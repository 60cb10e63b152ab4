//! What two reactors share, in one process or in two: byte rings, credit boards, the sleep handshake; and the command queue of each.
//!
//! * [`byte_ring`]: a single-producer single-consumer ring of variable-size records. One bulk copy on push, read in place on the other side.
//! * [`credit_board`]: cumulative byte counts that a receiver publishes per inbox, so that a sender knows its room.
//! * [`SleepFlag`]: lets a producer ring a doorbell only when the other side really sleeps, without a lost wake-up.
//! * [`ShmLink`]: rings, boards and flags of both directions in one memfd, between two processes of a host.
//! * [`Words`]: counters and heartbeats that several processes see and that outlive the one that writes them.
//! * [`command_queue`]: the one bounded queue through which control reaches a reactor.
//!
//! Limits: a record is at most half of its ring ([`Producer::max_record`]); a ring is 256 B to 1 GiB; every structure is bounded when it is made
//! and allocates nothing afterwards.
//!
//! Invariants: each shared word has one writer at a time, which publishes it with `Release`, and one reader, which loads it with `Acquire`; the
//! comment at each atomic access names its partner. All `unsafe` of this crate is in `memory.rs` (the shared memory) and at its calls in
//! `bytes.rs`.
//!
//! Deliberately absent: waking (the reactor's I/O driver owns the doorbell), blocking calls, more than one producer per ring, the news that a
//! process died (a socket tells that).
// `--cfg loom` selects the model checker's atomics (see `memory.rs`); cargo does not know that name.
#![allow(unexpected_cfgs)]

mod bytes;
#[forbid(unsafe_code)]
mod command;
#[forbid(unsafe_code)]
mod credit;
mod memory;
#[forbid(unsafe_code)]
mod shm;
#[forbid(unsafe_code)]
mod sleep;
#[forbid(unsafe_code)]
mod words;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

pub use bytes::{Consumer, Producer, PushError, RingCorrupt, byte_ring};
pub use command::{CommandQueueFull, CommandReceiver, CommandSender, command_queue};
pub use credit::{CreditSource, CreditView, credit_board};
pub use shm::{Pages, ShmError, ShmLink, ShmSizes, Trust};
pub use sleep::SleepFlag;
pub use words::Words;
