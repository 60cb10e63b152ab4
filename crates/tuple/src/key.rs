//! Keys: fields → canonical bytes → XXH3-64 → key group → task.
//!
//! Canonical bytes: every integer that fits is an `i64` in 8 little-endian bytes, a larger `u64` is 8 bytes under its own
//! tag; an `f64` has one zero and one NaN; strings are UTF-8; `false`/`true` is one byte; null is empty. One key hashes
//! its bytes in place with its tag as the seed. Several keys hash, with seed 0, the concatenation of tag (1 byte), length
//! (4 bytes, little-endian) and bytes of each. A typed and a dynamic tuple with equal keys therefore meet in one task.
//!
//! The tags and the hash are part of the topology's semantics (state belongs to key groups): golden vectors pin them.
//! Nothing here allocates.

use std::marker::PhantomData;

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::schema::FieldType;

/// A field's value as a key.
///
/// Equality is that of the Rust values (so `F64(NaN)` differs from itself); [`hash_key`] works on canonical bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key<'a> {
    /// Absent: `None`, a null value, a list or map of a dynamic tuple, or a field that does not exist.
    Null,
    /// A boolean.
    Bool(bool),
    /// Every integer that fits.
    I64(i64),
    /// An integer above `i64::MAX`. Use [`Key::from_u64`], which chooses between the two.
    U64(u64),
    /// A float; `f32` is widened.
    F64(f64),
    /// Text.
    Str(&'a str),
    /// Raw bytes. Differs from text with the same bytes.
    Bytes(&'a [u8]),
}

impl<'a> Key<'a> {
    /// The canonical key of an unsigned integer: `I64` where it fits.
    #[inline]
    pub const fn from_u64(n: u64) -> Key<'a> {
        if n <= i64::MAX as u64 { Key::I64(n as i64) } else { Key::U64(n) }
    }

    /// The type tag: seed of a single key's hash, prefix in a compound one.
    #[inline]
    pub const fn tag(&self) -> u8 {
        match self {
            Key::Null => 0,
            Key::Bool(_) => 1,
            Key::I64(_) => 2,
            Key::U64(_) => 3,
            Key::F64(_) => 4,
            Key::Str(_) => 5,
            Key::Bytes(_) => 6,
        }
    }

    /// Calls `f` with the canonical bytes, in place where they already exist.
    #[inline]
    fn with_bytes<R>(self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Key::Null => f(&[]),
            Key::Bool(b) => f(&[b as u8]),
            Key::I64(n) => f(&n.to_le_bytes()),
            // `U64` made by hand with a small number must still meet the `I64` of the same number, so the tag is
            // decided in `canonical`.
            Key::U64(n) => f(&n.to_le_bytes()),
            Key::F64(x) => f(&canonical_f64(x).to_le_bytes()),
            Key::Str(s) => f(s.as_bytes()),
            Key::Bytes(b) => f(b),
        }
    }

    #[inline]
    const fn canonical(self) -> Key<'a> {
        match self {
            Key::U64(n) => Key::from_u64(n),
            other => other,
        }
    }
}

#[inline]
fn canonical_f64(x: f64) -> u64 {
    const ONE_NAN: u64 = 0x7FF8_0000_0000_0000;
    if x == 0.0 {
        0
    } else if x.is_nan() {
        ONE_NAN
    } else {
        x.to_bits()
    }
}

/// The hash of one key.
#[inline]
pub fn hash_key(key: Key<'_>) -> u64 {
    let key = key.canonical();
    key.with_bytes(|bytes| xxh3_64_with_seed(bytes, key.tag() as u64))
}

/// The hash of several keys in order. With exactly one key it equals [`hash_key`].
#[inline]
pub fn hash_keys<'a>(keys: impl IntoIterator<Item = Key<'a>>) -> u64 {
    let mut keys = keys.into_iter();
    let Some(first) = keys.next() else { return xxh3_64_with_seed(&[], 0) };
    let Some(second) = keys.next() else { return hash_key(first) };
    // Put together on the stack while short, which is the usual case.
    let mut short = [0; SHORT];
    let mut len = 0;
    let mut keys = [first, second].into_iter().chain(keys);
    while let Some(key) = keys.next() {
        match put(&mut short[len..], key) {
            Some(bytes) => len += bytes,
            None => return hash_long(&short[..len], key, keys),
        }
    }
    xxh3_64_with_seed(&short[..len], 0)
}

const SHORT: usize = 128;

/// Tag and length.
#[inline]
fn prefix(key: &Key<'_>, len: usize) -> [u8; 5] {
    let len = (len as u32).to_le_bytes();
    [key.tag(), len[0], len[1], len[2], len[3]]
}

/// Writes a tagged key to the start of `room`; gives its length, or `None` if it does not fit.
#[inline]
fn put(room: &mut [u8], key: Key<'_>) -> Option<usize> {
    let key = key.canonical();
    key.with_bytes(|bytes| {
        let (head, rest) = room.split_first_chunk_mut::<5>()?;
        let body = rest.get_mut(..bytes.len())?;
        *head = prefix(&key, bytes.len());
        body.copy_from_slice(bytes);
        Some(5 + bytes.len())
    })
}

#[cold]
fn hash_long<'a>(so_far: &[u8], key: Key<'a>, rest: impl Iterator<Item = Key<'a>>) -> u64 {
    let mut stream = Xxh3::new();
    stream.update(so_far);
    for key in std::iter::once(key).chain(rest) {
        let key = key.canonical();
        key.with_bytes(|bytes| {
            stream.update(&prefix(&key, bytes.len()));
            stream.update(bytes);
        });
    }
    stream.digest()
}

/// The key group of a hash: `hash × groups ÷ 2⁶⁴`. Below `groups`; 0 if `groups` is 0.
#[inline]
pub const fn key_group(hash: u64, groups: u32) -> u32 {
    ((hash as u128 * groups as u128) >> 64) as u32
}

/// The task (index within its component) that owns a key group: `group × tasks ÷ groups`.
///
/// # Panics
///
/// If `groups` is 0: a topology has at least one key group.
#[inline]
pub const fn group_task(group: u32, groups: u32, tasks: u32) -> u32 {
    (group as u64 * tasks as u64 / groups as u64) as u32
}

/// A field of tuple type `T` that can be a key, by index: `Word::WORD`.
pub struct Field<T> {
    index: u16,
    of: PhantomData<fn() -> T>,
}

impl<T> Field<T> {
    /// Names the field by its index in [`Tuple::FIELDS`](crate::Tuple::FIELDS). Written by the derive, for fields whose type is a
    /// [`KeyField`].
    pub const fn new(index: u16) -> Field<T> {
        Field { index, of: PhantomData }
    }

    /// The index in [`Tuple::FIELDS`](crate::Tuple::FIELDS).
    #[inline]
    pub const fn index(&self) -> u16 {
        self.index
    }
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Field<T> {}

impl<T> std::fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Field({})", self.index)
    }
}

/// A field type that can be a key: integers, `bool`, floats, `String`, `Vec<u8>`, and options of those.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be a key",
    note = "keys are integers, bool, f32, f64, String, Vec<u8>, and options of those"
)]
pub trait KeyField: FieldType {
    /// The key of an owned field.
    fn key(&self) -> Key<'_>;
    /// The key of an archived field, read in place.
    fn archived_key(archived: &Self::Archived) -> Key<'_>;
    /// The key of a borrowed field.
    fn ref_key(value: Self::Ref<'_>) -> Key<'_>;
}

macro_rules! int_keys {
    ($($ty:ty => $make:expr),* $(,)?) => {$(
        impl KeyField for $ty {
            #[inline]
            fn key(&self) -> Key<'_> {
                $make(*self)
            }
            #[inline]
            #[allow(clippy::useless_conversion, reason = "u8 and i8 archive as themselves, the others do not")]
            fn archived_key(archived: &Self::Archived) -> Key<'_> {
                $make(<$ty>::from(*archived))
            }
            #[inline]
            fn ref_key(value: Self::Ref<'_>) -> Key<'_> {
                $make(value)
            }
        }
    )*};
}

int_keys! {
    u8 => |n| Key::I64(n as i64),
    u16 => |n| Key::I64(n as i64),
    u32 => |n| Key::I64(n as i64),
    u64 => Key::from_u64,
    i8 => |n| Key::I64(n as i64),
    i16 => |n| Key::I64(n as i64),
    i32 => |n| Key::I64(n as i64),
    i64 => Key::I64,
    bool => Key::Bool,
    f32 => |x| Key::F64(x as f64),
    f64 => Key::F64,
}

impl KeyField for String {
    #[inline]
    fn key(&self) -> Key<'_> {
        Key::Str(self)
    }
    #[inline]
    fn archived_key(archived: &Self::Archived) -> Key<'_> {
        Key::Str(archived.as_str())
    }
    #[inline]
    fn ref_key(value: Self::Ref<'_>) -> Key<'_> {
        Key::Str(value)
    }
}

impl KeyField for Vec<u8> {
    #[inline]
    fn key(&self) -> Key<'_> {
        Key::Bytes(self)
    }
    #[inline]
    fn archived_key(archived: &Self::Archived) -> Key<'_> {
        Key::Bytes(archived.as_slice())
    }
    #[inline]
    fn ref_key(value: Self::Ref<'_>) -> Key<'_> {
        Key::Bytes(value)
    }
}

impl<T: KeyField> KeyField for Option<T> {
    #[inline]
    fn key(&self) -> Key<'_> {
        self.as_ref().map_or(Key::Null, T::key)
    }
    #[inline]
    fn archived_key(archived: &Self::Archived) -> Key<'_> {
        archived.as_ref().map_or(Key::Null, T::archived_key)
    }
    #[inline]
    fn ref_key(value: Self::Ref<'_>) -> Key<'_> {
        value.map_or(Key::Null, T::ref_key)
    }
}

/// How generated code asks for a field's key without knowing whether its type is a [`KeyField`].
///
/// `Probe::<F>::archived_key(a)` finds the inherent function when `F: KeyField`, and otherwise the one of
/// [`NoKey`], which answers [`Key::Null`]. Works for concrete types only, which is what a derive has; `NoKey` must be
/// in scope.
#[doc(hidden)]
pub struct Probe<T>(PhantomData<T>);

impl<T: KeyField> Probe<T> {
    #[doc(hidden)]
    #[inline]
    pub fn key(value: &T) -> Key<'_> {
        value.key()
    }
    #[doc(hidden)]
    #[inline]
    pub fn archived_key(archived: &T::Archived) -> Key<'_> {
        T::archived_key(archived)
    }
    #[doc(hidden)]
    #[inline]
    pub fn ref_key(value: T::Ref<'_>) -> Key<'_> {
        T::ref_key(value)
    }
}

/// See [`Probe`].
#[doc(hidden)]
pub trait NoKey<T: FieldType> {
    #[doc(hidden)]
    fn key(_: &T) -> Key<'_> {
        Key::Null
    }
    #[doc(hidden)]
    fn archived_key(_: &T::Archived) -> Key<'_> {
        Key::Null
    }
    #[doc(hidden)]
    fn ref_key(_: T::Ref<'_>) -> Key<'_> {
        Key::Null
    }
}

impl<T: FieldType> NoKey<T> for Probe<T> {}
