//! Tuples, batches and keys: Squall's wire format and its typed view.
//!
//! # What lives here
//!
//! - [`ids`]: the dense numbers of tasks, streams, reactors and workers, roots and edges of tuple trees.
//! - [`schema`]: what a tuple type is ([`Tuple`]), which types may be fields ([`FieldType`]), and their names and hashes.
//! - [`emit`]: how a value becomes an archive ([`Emit`], [`TupleWriter`]).
//! - [`view`]: how an archive is read in place ([`TupleRef`]).
//! - [`key`]: how fields become keys, hashes, key groups and tasks.
//! - [`value`]: tuples whose fields are known only at run time ([`Row`], [`Value`]).
//! - [`batch`]: tuples back to back in one buffer ([`BatchBuf`], [`Batch`]), marks, acks and credits.
//!
//! # A batch, there and back
//!
//! ```
//! use squall_tuple::{Batch, BatchBuf, BatchKind, OpenBatch, Row, RowRef, TupleType, ValueRef};
//!
//! let ty = TupleType::row(["word", "n"]);
//! let mut buf = BatchBuf::with_capacity(16 * 1024);
//! buf.open(&OpenBatch {
//!     kind: BatchKind::Data,
//!     stream: 0,
//!     schema_id: ty.schema_id(),
//!     dynamic: ty.dynamic(),
//!     source_reactor: 0,
//!     epoch: 1,
//! });
//! let (source, dest, origin_ns) = (4, 7, 1_000);
//! let row = RowRef(&[ValueRef::Str("squall"), ValueRef::I64(1)]);
//! buf.push_plain::<Row, _>(source, dest, origin_ns, &row)?; // `Err(Full)`: seal and send it, go on in another
//! let (link_seq, enqueued_ns, crc) = (0, 1_200, true);
//! buf.seal(link_seq, enqueued_ns, crc);
//!
//! // What arrives in another process is checked once; then it is read in place.
//! let batch = Batch::validate(&buf, Some(&ty), 16 * 1024 * 1024)?;
//! let mut cursor = batch.cursor();
//! while let Some(frame) = batch.next(&mut cursor) {
//!     let tuple = frame.tuple::<Row>();
//!     assert_eq!((frame.source(), tuple[0].as_str(), tuple[1].as_i64()), (4, Some("squall"), Some(1)));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//!
//! - The format is little-endian and is read in place, so this crate compiles for little-endian machines only.
//! - A [`Batch`] is well-formed: it was written by a [`BatchBuf`] of this process or it passed [`Batch::validate`].
//!   Everything reached from it ([`Frame`], [`TupleRef`]) may therefore be read without further checks.
//! - A number read from the wire never sizes an allocation; nothing in the validator allocates, recurses without a
//!   bound, or panics.
//!
//! # Limits
//!
//! One batch holds at most [`BatchBuf::MAX_CAPACITY`] bytes. Archived types need an alignment of at most 8. An archive
//! nests at most [`schema::MAX_DEPTH`] relative pointers deep.
//!
//! # Deliberately absent
//!
//! No shared pointers and no hash maps in tuples (`Rc`, `Arc`, `HashMap` do not compile), no schema evolution (another
//! shape is another [`Tuple::ID`]), no I/O, no clock.

#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("Squall's tuple format is little-endian and is read in place: big-endian machines are not supported");

pub mod batch;
pub mod emit;
pub mod ids;
pub mod key;
#[doc(hidden)]
pub mod sample;
pub mod schema;
mod show;
pub mod value;
pub mod view;

pub use rkyv;

pub use batch::{
    AckKind, AckRecord, Anchors, Batch, BatchBuf, BatchError, BatchHeader, BatchKind, BatchTemplate, CreditRecord,
    Cursor, Dest, DestRef, Frame, MarkKind, MarkRecord, OpenBatch, StreamBatch, TaskList, TupleHead,
};
pub use emit::{Emit, Full, TupleWriter};
pub use ids::{AnchorEdge, ComponentIx, ReactorIx, RootId, StreamIx, TaskId, WorkerIx, delivery_edge};
pub use key::{Field, Key, KeyField, group_task, hash_key, hash_keys, key_group};
pub use schema::{FieldDef, FieldType, InvalidTuple, RefOf, Tuple, TupleType};
pub use value::{Row, RowRef, Value, ValueRef};
pub use view::TupleRef;
