//! An append-only log of rows on disk: written by [`LogAppend`], read and replayed by offset by [`LogRead`].
//!
//! ```text
//! FOLDER/PARTITION/00000000000000000000.log    one partition a task of the sink, segments named by their first offset
//!   header:  "SQUALLG1", length and CRC-32 of the names (u32 each), names of the fields (JSON), zeros up to a multiple of 8
//!   record:  length and CRC-32 of the row (u32 each), the row's archive, zeros up to a multiple of 8
//! ```
//! Numbers are little-endian. A row's archive is the one that travels in batches, so reading a row is a check and no conversion.
//! An offset is a row's number in its partition, from 0.
//!
//! A record that was not written whole is the end of its log: the writer cuts it off when it opens the log again, and a reader
//! stops before it. A record inside the log that does not match its checksum ends the run with an error that names the place.

mod format;
mod sink;
mod spout;

use crate::registry::Described;

pub use sink::LogAppend;
pub use spout::{LogRead, ReadFrom};

pub(crate) fn spouts() -> Vec<Described> {
    vec![spout::described()]
}

pub(crate) fn sinks() -> Vec<Described> {
    vec![sink::described()]
}
