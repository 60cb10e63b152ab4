//! Dynamic tuples: rows of values whose names are known only at run time (YAML topologies, other languages).
//!
//! A [`Row`] travels in the same batches as typed tuples, marked by a flag. [`Value`] and its borrowed twin [`ValueRef`]
//! have one archive: 16 bytes a value, text of up to 8 bytes inline.
//!
//! # Limits
//!
//! Lists and maps nest at most [`Value::MAX_DEPTH`] deep. Integers are `i64`. Maps are pairs sorted by key.
//!
//! # Deliberately absent
//!
//! Keys of lists and maps: [`Key::Null`] stands for them, so a grouping on such a field sends all its tuples to one task.

#![allow(unsafe_code, reason = "only `unsafe impl` of this crate's traits")]

use rkyv::rancor::{Fallible, Source};
use rkyv::ser::{Allocator, Writer};
use rkyv::string::{ArchivedString, StringResolver};
use rkyv::tuple::ArchivedTuple2;
use rkyv::validation::ArchiveContext;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::with::{ArchiveWith, SerializeWith};
use rkyv::{Archive, Place, Serialize, SerializeUnsized};

use crate::emit::{Emit, Full, TupleWriter};
use crate::key::Key;
use crate::schema::{FieldDef, InvalidTuple, Tuple, check_archive, text_id};

/// One value of a dynamic tuple.
#[derive(Debug, Clone, PartialEq, Default, Archive, Serialize)]
#[rkyv(
    derive(Debug),
    serialize_bounds(__S: Writer + Allocator, __S::Error: Source),
    bytecheck(bounds(__C: ArchiveContext, __C::Error: Source)),
)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    I64(i64),
    /// A float.
    F64(f64),
    /// Text.
    Str(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    List(#[rkyv(omit_bounds)] Vec<Value>),
    /// Pairs, sorted by key, each key once: [`Value::map`] makes them so.
    Map(#[rkyv(omit_bounds)] Vec<(String, Value)>),
}

/// A borrowed [`Value`]: emits without allocating, to the same archive.
#[derive(Debug, Clone, Copy, PartialEq, Default, Archive, Serialize)]
#[rkyv(as = ArchivedValue, serialize_bounds(__S: Writer + Allocator, __S::Error: Source))]
pub enum ValueRef<'a> {
    /// No value.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    I64(i64),
    /// A float.
    F64(f64),
    /// Text.
    Str(#[rkyv(with = Borrowed)] &'a str),
    /// Raw bytes.
    Bytes(#[rkyv(with = Borrowed)] &'a [u8]),
    /// Values in order.
    List(#[rkyv(with = Borrowed, omit_bounds)] &'a [ValueRef<'a>]),
    /// Pairs, sorted by key, each key once: the emitter sorts.
    Map(#[rkyv(with = Borrowed, omit_bounds)] &'a [(&'a str, ValueRef<'a>)]),
}

/// A dynamic tuple.
#[derive(Debug, Clone, PartialEq, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub struct Row(
    /// The values, in the order of the stream's field names.
    pub Vec<Value>,
);

/// A borrowed [`Row`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowRef<'a>(
    /// The values, in the order of the stream's field names.
    pub &'a [ValueRef<'a>],
);

/// How borrowed text and slices archive like owned ones.
#[doc(hidden)]
pub struct Borrowed;

impl ArchiveWith<&str> for Borrowed {
    type Archived = ArchivedString;
    type Resolver = StringResolver;

    fn resolve_with(field: &&str, resolver: StringResolver, out: Place<ArchivedString>) {
        ArchivedString::resolve_from_str(field, resolver, out);
    }
}

impl<S> SerializeWith<&str, S> for Borrowed
where
    S: Fallible + Writer + ?Sized,
    S::Error: Source,
    str: SerializeUnsized<S>,
{
    fn serialize_with(field: &&str, s: &mut S) -> Result<StringResolver, S::Error> {
        ArchivedString::serialize_from_str(field, s)
    }
}

impl ArchiveWith<&[u8]> for Borrowed {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve_with(field: &&[u8], resolver: VecResolver, out: Place<ArchivedVec<u8>>) {
        ArchivedVec::resolve_from_slice(field, resolver, out);
    }
}

impl<S: Fallible + Writer + Allocator + ?Sized> SerializeWith<&[u8], S> for Borrowed {
    fn serialize_with(field: &&[u8], s: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::<u8>::serialize_from_slice(field, s)
    }
}

impl ArchiveWith<&[ValueRef<'_>]> for Borrowed {
    type Archived = ArchivedVec<ArchivedValue>;
    type Resolver = VecResolver;

    fn resolve_with(field: &&[ValueRef<'_>], resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(field, resolver, out);
    }
}

impl<S> SerializeWith<&[ValueRef<'_>], S> for Borrowed
where
    S: Fallible + Writer + Allocator + ?Sized,
    S::Error: Source,
{
    fn serialize_with(field: &&[ValueRef<'_>], s: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::<ArchivedValue>::serialize_from_slice(field, s)
    }
}

type ArchivedPair = ArchivedTuple2<ArchivedString, ArchivedValue>;

/// Text by itself, so that a pair of it and a value archives as rkyv's own pair does.
struct TextRef<'a>(&'a str);

impl Archive for TextRef<'_> {
    type Archived = ArchivedString;
    type Resolver = StringResolver;

    fn resolve(&self, resolver: StringResolver, out: Place<ArchivedString>) {
        ArchivedString::resolve_from_str(self.0, resolver, out);
    }
}

impl<S> Serialize<S> for TextRef<'_>
where
    S: Fallible + Writer + ?Sized,
    S::Error: Source,
{
    fn serialize(&self, s: &mut S) -> Result<StringResolver, S::Error> {
        ArchivedString::serialize_from_str(self.0, s)
    }
}

impl ArchiveWith<&[(&str, ValueRef<'_>)]> for Borrowed {
    type Archived = ArchivedVec<ArchivedPair>;
    type Resolver = VecResolver;

    fn resolve_with(field: &&[(&str, ValueRef<'_>)], resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(field.len(), resolver, out);
    }
}

impl<'a, S> SerializeWith<&[(&'a str, ValueRef<'a>)], S> for Borrowed
where
    S: Fallible + Writer + Allocator + ?Sized,
    S::Error: Source,
{
    fn serialize_with(field: &&[(&'a str, ValueRef<'a>)], s: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::<ArchivedPair>::serialize_from_iter::<(TextRef<'a>, ValueRef<'a>), _, S>(
            field.iter().map(|(key, value)| (TextRef(key), *value)),
            s,
        )
    }
}

impl Value {
    /// How deep lists and maps may nest. Below what the validator accepts, so that what one worker may emit every other
    /// may receive.
    pub const MAX_DEPTH: usize = 24;

    /// A map of these pairs, sorted; of pairs with one key the last stays.
    pub fn map<K: Into<String>, V: Into<Value>>(pairs: impl IntoIterator<Item = (K, V)>) -> Value {
        let sorted: std::collections::BTreeMap<String, Value> =
            pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Value::Map(sorted.into_iter().collect())
    }

    /// The key; [`Key::Null`] for lists and maps.
    #[inline]
    pub fn key(&self) -> Key<'_> {
        match self {
            Value::Null | Value::List(_) | Value::Map(_) => Key::Null,
            Value::Bool(b) => Key::Bool(*b),
            Value::I64(n) => Key::I64(*n),
            Value::F64(x) => Key::F64(*x),
            Value::Str(s) => Key::Str(s),
            Value::Bytes(b) => Key::Bytes(b),
        }
    }

    fn nests_within(&self, depth: usize) -> bool {
        match self {
            Value::List(items) => depth > 0 && items.iter().all(|v| v.nests_within(depth - 1)),
            Value::Map(pairs) => depth > 0 && pairs.iter().all(|(_, v)| v.nests_within(depth - 1)),
            _ => true,
        }
    }
}

impl<'a> ValueRef<'a> {
    /// The key; [`Key::Null`] for lists and maps.
    #[inline]
    pub fn key(&self) -> Key<'a> {
        match *self {
            ValueRef::Null | ValueRef::List(_) | ValueRef::Map(_) => Key::Null,
            ValueRef::Bool(b) => Key::Bool(b),
            ValueRef::I64(n) => Key::I64(n),
            ValueRef::F64(x) => Key::F64(x),
            ValueRef::Str(s) => Key::Str(s),
            ValueRef::Bytes(b) => Key::Bytes(b),
        }
    }

    fn nests_within(&self, depth: usize) -> bool {
        match self {
            ValueRef::List(items) => depth > 0 && items.iter().all(|v| v.nests_within(depth - 1)),
            ValueRef::Map(pairs) => depth > 0 && pairs.iter().all(|(_, v)| v.nests_within(depth - 1)),
            _ => true,
        }
    }
}

impl ArchivedValue {
    /// The key, read in place; [`Key::Null`] for lists and maps.
    #[inline]
    pub fn key(&self) -> Key<'_> {
        self.scalar().map_or(Key::Null, |value| value.key())
    }

    /// The value as something to emit again; `None` for lists and maps.
    #[inline]
    pub fn scalar(&self) -> Option<ValueRef<'_>> {
        Some(match self {
            ArchivedValue::Null => ValueRef::Null,
            ArchivedValue::Bool(b) => ValueRef::Bool(*b),
            ArchivedValue::I64(n) => ValueRef::I64(n.to_native()),
            ArchivedValue::F64(x) => ValueRef::F64(x.to_native()),
            ArchivedValue::Str(s) => ValueRef::Str(s.as_str()),
            ArchivedValue::Bytes(b) => ValueRef::Bytes(b.as_slice()),
            ArchivedValue::List(_) | ArchivedValue::Map(_) => return None,
        })
    }

    /// The integer, if it is one.
    #[inline]
    pub fn as_i64(&self) -> Option<i64> {
        if let ArchivedValue::I64(n) = self { Some(n.to_native()) } else { None }
    }

    /// The float, or the integer as one.
    #[inline]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            ArchivedValue::F64(x) => Some(x.to_native()),
            ArchivedValue::I64(n) => Some(n.to_native() as f64),
            _ => None,
        }
    }

    /// The text, if it is text.
    #[inline]
    pub fn as_str(&self) -> Option<&str> {
        if let ArchivedValue::Str(s) = self { Some(s.as_str()) } else { None }
    }

    /// The value of a key, if this is a map that has it. Looks at the pairs in turn.
    pub fn get(&self, key: &str) -> Option<&ArchivedValue> {
        let ArchivedValue::Map(pairs) = self else { return None };
        pairs.iter().find(|pair| pair.0.as_str() == key).map(|pair| &pair.1)
    }

    /// The owned value.
    pub fn to_value(&self) -> Value {
        match self {
            ArchivedValue::Null => Value::Null,
            ArchivedValue::Bool(b) => Value::Bool(*b),
            ArchivedValue::I64(n) => Value::I64(n.to_native()),
            ArchivedValue::F64(x) => Value::F64(x.to_native()),
            ArchivedValue::Str(s) => Value::Str(s.as_str().to_owned()),
            ArchivedValue::Bytes(b) => Value::Bytes(b.as_slice().to_vec()),
            ArchivedValue::List(items) => Value::List(items.iter().map(ArchivedValue::to_value).collect()),
            ArchivedValue::Map(pairs) => {
                Value::Map(pairs.iter().map(|pair| (pair.0.as_str().to_owned(), pair.1.to_value())).collect())
            }
        }
    }
}

impl ArchivedRow {
    /// The values in order.
    #[inline]
    pub fn values(&self) -> &[ArchivedValue] {
        self.0.as_slice()
    }
}

impl std::ops::Deref for ArchivedRow {
    type Target = [ArchivedValue];

    #[inline]
    fn deref(&self) -> &[ArchivedValue] {
        self.values()
    }
}

macro_rules! from_values {
    ($($ty:ty => $variant:ident),* $(,)?) => {$(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Value {
                Value::$variant(value.into())
            }
        }
    )*};
}

from_values! {
    bool => Bool, i64 => I64, i32 => I64, u32 => I64, f64 => F64, String => Str, &str => Str, Vec<u8> => Bytes,
    Vec<Value> => List,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// Archives a [`RowRef`] as a [`Row`].
impl Archive for RowRef<'_> {
    type Archived = ArchivedRow;
    type Resolver = VecResolver;

    #[inline]
    fn resolve(&self, resolver: VecResolver, out: Place<ArchivedRow>) {
        rkyv::munge::munge!(let ArchivedRow(values) = out);
        ArchivedVec::resolve_from_slice(self.0, resolver, values);
    }
}

impl Serialize<TupleWriter> for RowRef<'_> {
    #[inline]
    fn serialize(&self, w: &mut TupleWriter) -> Result<VecResolver, Full> {
        ArchivedVec::<ArchivedValue>::serialize_from_slice(self.0, w)
    }
}

// SAFETY: rkyv's derived impls; `validate` checks the archived type as a whole; the id belongs to this type alone, and
// batches of it are flagged as dynamic.
unsafe impl Tuple for Row {
    const NAME: &'static str = "row";
    const FIELDS: &'static [FieldDef] = &[];
    const ID: u64 = text_id("row");
    const DYNAMIC: bool = true;

    #[inline]
    fn key_of(archived: &ArchivedRow, field: u16) -> Key<'_> {
        archived.values().get(field as usize).map_or(Key::Null, ArchivedValue::key)
    }

    #[inline]
    fn key_of_owned(&self, field: u16) -> Key<'_> {
        self.0.get(field as usize).map_or(Key::Null, Value::key)
    }

    fn validate(bytes: &[u8]) -> Result<(), InvalidTuple> {
        check_archive::<ArchivedRow>(bytes)
    }

    fn to_owned(archived: &ArchivedRow) -> Row {
        Row(archived.iter().map(ArchivedValue::to_value).collect())
    }
}

#[cold]
fn too_deep() -> ! {
    panic!(
        "a value of the row nests lists and maps more than {} deep: receivers refuse that, so flatten it before emitting",
        Value::MAX_DEPTH
    )
}

// SAFETY: writes one root whose archived type is `Row`'s.
unsafe impl Emit<Row> for Row {
    /// # Panics
    ///
    /// If a value nests deeper than [`Value::MAX_DEPTH`].
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full> {
        if !self.0.iter().all(|v| v.nests_within(Value::MAX_DEPTH)) {
            too_deep();
        }
        w.root(self)
    }
    #[inline]
    fn key(&self, field: u16) -> Key<'_> {
        self.key_of_owned(field)
    }
}

// SAFETY: writes one root whose archived type is `Row`'s.
unsafe impl Emit<Row> for RowRef<'_> {
    /// # Panics
    ///
    /// If a value nests deeper than [`Value::MAX_DEPTH`].
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full> {
        if !self.0.iter().all(|v| v.nests_within(Value::MAX_DEPTH)) {
            too_deep();
        }
        w.root(self)
    }
    #[inline]
    fn key(&self, field: u16) -> Key<'_> {
        self.0.get(field as usize).map_or(Key::Null, ValueRef::key)
    }
}
