//! Batches: tuples of one stream from one reactor to one reactor, archived back to back in one buffer.
//!
//! ```text
//! ┌──────────────┬──────────────────────────────────────────────┬─────┐
//! │ batch header │ tuple                                        │ …   │
//! │ 64 B         │ header 16 B │ sections │ archive │ 0..7 zero │     │
//! └──────────────┴──────────────────────────────────────────────┴─────┘
//! ```
//!
//! *Tuple header*: length u32 (of the whole tuple, a multiple of 8), source task u32, destination u32, flags u16, header
//! length u8 (header and sections, in units of 8 bytes), padding u8 (bytes after the archive). A header length of 0 means
//! *long*: the u64 after the header holds it instead (itself included), for tuples with more than some 120 anchors or 480
//! destinations. Then the sections, in the order origin, anchors, destinations, event time, key group, trace; each a
//! multiple of 8 bytes. Flags: [`header::tuple_flags`].
//!
//! A batch that holds no tuples holds records of fixed size: marks, acks or credits.
//!
//! On a byte stream (a socket) batches follow each other, each padded with zeros to a multiple of 64 bytes ([`StreamBatch`]): the next begins at
//! `byte length` rounded up. The padding is no part of the batch.
//!
//! Writing is [`BatchBuf`], reading is [`Batch`] with a [`Cursor`]; bytes from another process go through
//! [`Batch::validate`] once. All `unsafe` of the format is in this module; it rests on one invariant: *a `Batch` is
//! well-formed*, that is, its header's lengths hold, its tuples lie back to back and fill it, their sections fit their
//! headers, and each archive is valid for the type that the schema id names.

#![allow(unsafe_code)]

mod crc;
pub mod header;
mod memory;
mod read;
mod receive;
mod record;
mod stream;
mod validate;
mod write;

pub use header::{BatchHeader, BatchKind};
pub use read::{Anchors, Batch, Cursor, DestRef, Frame, TaskList};
pub use record::{AckKind, AckRecord, CreditRecord, MarkKind, MarkRecord};
pub use stream::{STREAM_ALIGN, StreamBatch, stream_bytes};
pub use validate::{BatchError, TupleFault};
pub use write::{BatchBuf, BatchTemplate, Dest, OpenBatch, TupleHead};

use crate::schema::Tuple;

/// Stands for "rows" where a batch's type is compared by one number. No schema id has this value: opening a batch of one
/// is refused, and so is validating one.
const ROWS: u64 = u64::MAX;

/// What a batch must be of for `T` to be written to it or read from it.
#[inline(always)]
const fn schema_of<T: Tuple>() -> u64 {
    if T::DYNAMIC { ROWS } else { T::ID }
}

/// The same, from the batch's side. 0 matches no type.
#[inline]
fn schema_carried(kind: BatchKind, schema_id: u64, dynamic: bool) -> u64 {
    match (kind, dynamic) {
        (BatchKind::Data, true) => ROWS,
        (BatchKind::Data, false) if schema_id != ROWS => schema_id,
        _ => 0,
    }
}

#[inline]
fn pad8(bytes: usize) -> usize {
    (bytes + 7) & !7
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    match bytes[at..].first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => panic!("a section of a well-formed tuple lies within it"),
    }
}
