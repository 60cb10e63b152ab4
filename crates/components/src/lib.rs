//! Stock spouts, bolts and sinks, written against the public API only: what they do, any author's crate can do.
//!
//! Of typed tuples:
//! - [`Lines`]: the lines of files and folders, shared among the spout's tasks.
//! - [`Print`]: shows tuples on standard output or any other writer.
//! - [`Null`]: takes tuples and does nothing, as the end of a topology whose counts are all that matters.
//!
//! Of rows ([`squall::Row`]), each with a builder (`Keyed::count().by(["word"])`) that is declared at a
//! [`Place`](registry::Place), and under a name in the [`registry`] with its configuration described:
//! - sources: [`Generator`], [`Interval`], [`RowLines`], [`Stdin`], [`TcpLines`], [`Udp`], [`LogRead`];
//! - bolts: [`Map`], [`Filter`], [`Route`], [`FlatMap`], [`Split`], [`Parse`], [`Format`], [`Enrich`], [`Keyed`], [`TopK`],
//!   [`Window`], [`Dedup`], [`Batch`], [`RateLimit`];
//! - sinks: [`PrintRows`], [`LogRows`], [`NullRows`], [`FileSink`], [`TcpSink`], [`LogAppend`];
//! - with the feature `http`, `HttpPost` and `HttpSink`; with `sqlite`, `Sqlite`; with `parquet`, `ParquetSink`.
//!
//! What a component cannot use it deals with by its [`OnError`] policy, which is counted and never silent. All memory has a
//! bound, which is an option. What a reliable source gives up after many failures goes where [`GiveUp`] says. Sources that threads feed (standard input, sockets) hold a bounded queue; the threads wait when it
//! is full.
//!
//! Deliberately absent: the language of expressions ([`expression::Compiler`] is its place), YAML, event time, and connectors to
//! other systems, which live in crates of their own.

#![forbid(unsafe_code)]

// The derives' code says `::squall::…`, whichever crate re-exports the API.
extern crate squall_api as squall;

pub mod expression;
mod giving_up;
mod lines;
mod log;
mod offsets;
pub mod registry;
mod reliable;
mod rows;
mod sinks;
mod sources;
mod state;
mod stock;
mod transform;

pub use giving_up::GiveUp;
pub use lines::{
    BINARY_TEST_BYTES, DeadLine, Line, LineReader, LineRef, LineText, Lines, LinesAndLetters, LinesAndLettersStreams,
    LinesInput, LinesOptions, LinesOut, ReadCounts, ReadError, RowLines, Share, Start,
};
pub use log::{LogAppend, LogRead, ReadFrom};
pub use offsets::{OffsetError, OffsetStore};
pub use rows::OnError;
pub use sinks::{FileSink, LogRows, Null, NullRows, Print, PrintRows, TcpSink};
pub use sources::{Form, Generator, Interval, Keys, Stdin, TcpLines, Udp};
pub use state::{Aggregate, Batch, Beyond, Dedup, Emitted, Keyed, RateLimit, TopK, Window, Windows};
pub use stock::COUNTERS;
pub use transform::{
    Code, Column, Enrich, Filter, FlatMap, Format, FormatTo, Map, Missing, Parse, ParseFrom, Route, Split, TableFormat,
};

#[cfg(feature = "http")]
pub use sinks::HttpSink;
#[cfg(feature = "sqlite")]
pub use sinks::{Conflict, Sqlite};
#[cfg(feature = "parquet")]
pub use sinks::{ParquetKind, ParquetSink};
#[cfg(feature = "http")]
pub use sources::HttpPost;
