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
pub mod value;
pub mod view;

pub use rkyv;

pub use batch::{
    AckKind, AckRecord, Anchors, Batch, BatchBuf, BatchError, BatchHeader, BatchKind, CreditRecord, Cursor, Dest,
    DestRef, Frame, MarkKind, MarkRecord, OpenBatch, TaskList, TupleHead,
};
pub use emit::{Emit, Full, TupleWriter};
pub use ids::{AnchorEdge, ComponentIx, ReactorIx, RootId, StreamIx, TaskId, WorkerIx, delivery_edge};
pub use key::{Field, Key, KeyField, group_task, hash_key, hash_keys, key_group};
pub use schema::{FieldDef, FieldType, InvalidTuple, RefOf, Tuple, TupleType};
pub use value::{Row, RowRef, Value, ValueRef};
pub use view::TupleRef;
