//! Stock spouts and bolts, written against the public API only: what they do, any author's crate can do.
//!
//! - [`Lines`]: the lines of files and folders, shared among the spout's tasks.
//! - [`Print`]: shows tuples on standard output or any other writer.
//! - [`Null`]: takes tuples and does nothing, as the end of a topology whose counts are all that matters.
//!
//! One-line components (`map`, `filter`, `flat_map`) need no type of their own: the topology builder
//! makes them from closures.
//!
//! Deliberately absent: anything that needs a crate beyond the API and a byte search; connectors live in
//! crates of their own.

#![forbid(unsafe_code)]

// The derives' code says `::squall::…`, whichever crate re-exports the API.
extern crate squall_api as squall;

pub mod expression;
mod lines;
mod log;
pub mod registry;
mod rows;
mod sinks;
mod sources;
mod state;
mod stock;
mod transform;

pub use lines::{
    BINARY_TEST_BYTES, Line, LineReader, LineRef, LineText, Lines, LinesInput, LinesOptions, ReadCounts, ReadError,
    RowLines, Share, Start,
};
pub use log::{LogAppend, LogRead, ReadFrom};
pub use rows::OnError;
pub use sinks::{FileSink, LogRows, Null, NullRows, Print, PrintRows, TcpSink};
pub use sources::{Form, Generator, Interval, Keys, Stdin, TcpLines, Udp};
pub use state::{Aggregate, Batch, Beyond, Dedup, Emitted, Keyed, RateLimit, TopK, Window, Windows};
pub use transform::{
    Code, Column, Enrich, Filter, FlatMap, Format, FormatTo, Map, Missing, Parse, ParseFrom, Route, Split, TableFormat,
};

#[cfg(feature = "http")]
pub use sinks::HttpSink;
#[cfg(feature = "sqlite")]
pub use sinks::{Conflict, Sqlite};
#[cfg(feature = "http")]
pub use sources::HttpPost;
