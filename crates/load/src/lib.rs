//! Load from outside: what a load generator and a topology say to each other, and the two ordinary components that say it.
//!
//! * [`Ingest`] is a spout that emits what a generator sends, as [`Load`] tuples; [`Egress`] is a sink that hands them back. So a latency
//!   is the difference of two readings of one clock, the generator's.
//! * [`IngestRooted`] hands each tuple back itself, when its tree is complete, where no sink could tell.
//! * [`registry::add`] puts both, for rows, under the names `ingest` and `egress` for topologies in YAML.
//! * [`local`] links a generator with the two in one process; elsewhere they listen at an [`Address`] and a generator
//!   [`connect`]s: over shared memory where the host is one, else over a Unix or TCP socket.
//! * [`record`] is the format: 32 bytes of stamps and checksum before each tuple's own bytes.
//!
//! Bounds: a chunk is at most [`CHUNK_BYTES_MAX`]; a ring holds [`LinkOptions::ring_bytes`]; one generator at a time. What does not
//! belong to the format ends the link with an error that says so, and never sizes an allocation.
//!
//! Deliberately absent: schedules, histograms, verdicts (`tools/tuplegen`), and any guarantee: load is not replayed.
#![forbid(unsafe_code)]

// The derives write `::squall::…`.
extern crate squall_api as squall;

mod egress;
mod hello;
mod ingest;
mod link;
pub mod record;
pub mod registry;
mod rooted;
mod rows;
mod schema;

pub use egress::{Egress, EgressParts};
pub use hello::{Address, ConnectError, Connected, LinkOptions, Role, Server, connect};
pub use ingest::{Ingest, Load, LoadRef, Reflect, Source, Stamp, StampRef};
pub use link::{CHUNK_BYTES_MAX, LinkError, LocalEnds, Rx, Tag, Target, Tx, local};
pub use rooted::IngestRooted;
pub use schema::{FieldType, Schema, SchemaError};

/// Where the generator's end of the ingest spout is, for topologies that it starts: an [`Address`].
pub const INGEST_ENV: &str = "SQUALL_LOAD_INGEST";
/// The same for the egress sink.
pub const EGRESS_ENV: &str = "SQUALL_LOAD_EGRESS";
