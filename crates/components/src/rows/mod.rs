//! Rows as components handle them: put together without allocating where all values are scalars, shown as text, written and
//! read as JSON, and what becomes of rows that cannot be used.

mod json;
mod policy;

use smallvec::SmallVec;
use squall::{ArchivedRow, ArchivedValue, MessageId, Row, RowRef, RowStream, Stream, Value, ValueRef};

use crate::expression::Evaluated;

pub(crate) use json::{parse_object, write_json, write_object};
pub use policy::OnError;
pub(crate) use policy::{BadInput, DEAD_LETTERS, on_error, on_error_option};

/// Values of a row that is about to be emitted.
pub(crate) type Cells<'a> = SmallVec<[Evaluated<'a>; 8]>;

/// Name of the usual stream.
pub(crate) const DEFAULT: &str = "default";

/// The usual stream with these fields.
pub(crate) fn stream<S: Into<String>>(fields: impl IntoIterator<Item = S>) -> RowStream {
    RowStream::new(DEFAULT, fields)
}

/// What kind of value it is, as messages say it.
pub(crate) fn kind_of(value: &ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "null",
        ValueRef::Bool(_) => "a boolean",
        ValueRef::I64(_) => "an integer",
        ValueRef::F64(_) => "a number",
        ValueRef::Str(_) => "a text",
        ValueRef::Bytes(_) => "bytes",
        ValueRef::List(_) => "a list",
        ValueRef::Map(_) => "a map",
    }
}

/// As [`kind_of`], of a value in a row.
pub(crate) fn kind_of_field(value: &ArchivedValue) -> &'static str {
    match value {
        ArchivedValue::List(_) => "a list",
        ArchivedValue::Map(_) => "a map",
        other => other.scalar().map_or("null", |v| kind_of(&v)),
    }
}

/// The value at a position; null where the row is shorter.
#[inline]
pub(crate) fn at(row: &ArchivedRow, field: u16) -> &ArchivedValue {
    row.get(field as usize).unwrap_or(&ArchivedValue::Null)
}

fn scalar_of(value: &Value) -> Option<ValueRef<'_>> {
    Some(match value {
        Value::Null => ValueRef::Null,
        Value::Bool(b) => ValueRef::Bool(*b),
        Value::I64(n) => ValueRef::I64(*n),
        Value::F64(x) => ValueRef::F64(*x),
        Value::Str(s) => ValueRef::Str(s),
        Value::Bytes(b) => ValueRef::Bytes(b),
        Value::List(_) | Value::Map(_) => return None,
    })
}

/// Emits a row of these values: without an allocation if they are scalars and not many.
#[inline]
pub(crate) fn emit(stream: &mut Stream<Row>, cells: &[Evaluated<'_>]) {
    emit_as(stream, None, cells);
}

/// The same, of a spout with an id.
#[inline]
pub(crate) fn emit_as(stream: &mut Stream<Row>, id: Option<MessageId>, cells: &[Evaluated<'_>]) {
    let mut scalars: SmallVec<[ValueRef<'_>; 16]> = SmallVec::new();
    for cell in cells {
        let scalar = match cell {
            Evaluated::Scalar(v) => Some(*v),
            Evaluated::Field(v) => v.scalar(),
            Evaluated::Owned(v) => scalar_of(v),
        };
        match scalar {
            Some(v) => scalars.push(v),
            None => return emit_owned(stream, id, cells),
        }
    }
    match id {
        None => stream.emit(RowRef(&scalars)),
        Some(id) => stream.emit_with_id(id, RowRef(&scalars)),
    }
}

#[cold]
fn emit_owned(stream: &mut Stream<Row>, id: Option<MessageId>, cells: &[Evaluated<'_>]) {
    let row = Row(cells.iter().map(|cell| cell.clone().into_value()).collect());
    match id {
        None => stream.emit(row),
        Some(id) => stream.emit_with_id(id, row),
    }
}

/// Appends a value as people read it: text as it is, numbers and the rest as JSON.
pub(crate) fn write_text(value: &ArchivedValue, out: &mut Vec<u8>) {
    match value {
        ArchivedValue::Str(s) => out.extend_from_slice(s.as_bytes()),
        ArchivedValue::Bytes(b) => out.extend_from_slice(b),
        ArchivedValue::Null => {}
        other => write_json(other, out),
    }
}
