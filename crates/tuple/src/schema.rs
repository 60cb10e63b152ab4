//! Tuple types: names, fields, identity, validation.
//!
//! A type's *signature* is the text `Word{word: string, n: u64}`; nested tuple types appear in it in full. Its hash is the
//! identity that batches carry and links compare ([`Tuple::ID`]). Two types with one signature have one archive layout, so
//! the hash decides whether bytes may be read as a type.
//!
//! [`Tuple`] and [`FieldType`] are unsafe traits: the archive that they describe is read without further checks. The derive
//! implements them; the types of the standard library that may be fields are here.
//!
//! Deliberately absent: `usize` and `isize` (rkyv archives them as 32 bits), 128-bit integers (alignment 16), maps, sets
//! and shared pointers.

#![allow(unsafe_code)]

use std::fmt::{self, Write as _};
use std::num::NonZeroUsize;

use rkyv::api::access_with_context;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Source, Strategy, Trace};
use rkyv::string::ArchivedString;
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::vec::ArchivedVec;
use rkyv::{Archive, Place, Portable, Serialize};

use crate::emit::{Full, TupleWriter};
use crate::key::Key;
use crate::show::{self, Show, Text};

/// How deep relative pointers may nest in an archive that is accepted: the root counts one, each list, out-of-line string
/// or map one more. Deeper archives are refused, because checking them would use stack by the depth that a peer chooses.
pub const MAX_DEPTH: usize = 32;

/// A field of a tuple type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDef {
    /// The field's name.
    pub name: &'static str,
    /// The field's type, [`FieldType::TYPE`].
    pub ty: &'static str,
}

/// A type that travels as a tuple. `#[derive(Tuple)]` implements it.
///
/// # Safety
///
/// - Serializing a value with [`TupleWriter`] and resolving it must give an archive that is valid to access.
/// - `validate` must accept only bytes that are valid to access as `Self::Archived` with the root at the end, when they
///   start at an 8-aligned address.
/// - `ID` must be [`tuple_id`] of the true name, field names and field types (or, where `DYNAMIC`, a number of its own), so
///   that types with one `ID` have one archived layout.
pub unsafe trait Tuple: Sized + 'static + Archive + Serialize<TupleWriter> {
    /// The type's name, without its path.
    const NAME: &'static str;
    /// The fields in order.
    const FIELDS: &'static [FieldDef];
    /// Hash of name, field names and field types: [`tuple_id`].
    const ID: u64;
    /// Whether the fields are known only at run time. Batches of such tuples carry a flag, and the schema id of the
    /// stream's field names.
    const DYNAMIC: bool = false;

    /// The key of an archived field, read in place. [`Key::Null`] if the field does not exist or cannot be a key.
    fn key_of(archived: &Self::Archived, field: u16) -> Key<'_>;
    /// The key of an owned field. [`Key::Null`] if the field does not exist or cannot be a key.
    fn key_of_owned(&self, field: u16) -> Key<'_>;
    /// Checks an archive; depth-limited, allocates nothing. Implemented by [`check_archive`].
    ///
    /// # Errors
    ///
    /// [`InvalidTuple`] with the cause.
    fn validate(bytes: &[u8]) -> Result<(), InvalidTuple>;
    /// The owned tuple of an archived one.
    fn to_owned(archived: &Self::Archived) -> Self;
}

/// A type that may be the type of a tuple's field: integers up to 64 bits, floats, `bool`, `char`, `String`, `Vec<T>`,
/// `Option<T>`, `[T; N]`, tuples of 2 to 4, and structs that derive `Tuple`.
///
/// # Safety
///
/// - As for [`Tuple`], serializing and resolving, of the value or of its borrowed twin, must give a valid archive.
/// - Two types with one `TYPE` must have one archived layout.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the type of a tuple's field",
    note = "fields are integers up to 64 bits (not usize: it has no fixed size), f32, f64, bool, char, String, Vec<T>, Option<T>, [T; N], tuples of 2 to 4, and structs that derive `Tuple`"
)]
pub unsafe trait FieldType: Sized + 'static + Archive + Serialize<TupleWriter> {
    /// The type as schemas spell it: `u64`, `string`, `list<option<f64>>`, `Word{word: string, n: u64}`.
    const TYPE: &'static str;
    /// Hash of `TYPE`.
    const TYPE_ID: u64 = text_id(Self::TYPE);

    /// The borrowed twin, which emits without owning: `&str` for `String`, `&[T]` for `Vec<T>`, the value itself for numbers.
    type Ref<'a>: Copy;

    /// Borrows.
    fn to_ref(&self) -> Self::Ref<'_>;
    /// rkyv's `serialize`, of the borrowed twin.
    ///
    /// # Errors
    ///
    /// [`Full`] if the buffer has no room.
    fn serialize_ref(value: Self::Ref<'_>, w: &mut TupleWriter) -> Result<Self::Resolver, Full>;
    /// rkyv's `resolve`, of the borrowed twin.
    fn resolve_ref(value: Self::Ref<'_>, resolver: Self::Resolver, out: Place<Self::Archived>);
    /// The owned value of an archived one.
    fn from_archived(archived: &Self::Archived) -> Self;
}

/// Wraps a borrowed twin so that it archives like the owned type: `Option<RefOf<String>>` archives as `Option<String>` does.
pub struct RefOf<'a, T: FieldType>(pub T::Ref<'a>);

impl<T: FieldType> Clone for RefOf<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: FieldType> Copy for RefOf<'_, T> {}

impl<T: FieldType> Archive for RefOf<'_, T> {
    type Archived = T::Archived;
    type Resolver = T::Resolver;

    #[inline]
    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        T::resolve_ref(self.0, resolver, out);
    }
}

impl<T: FieldType> Serialize<TupleWriter> for RefOf<'_, T> {
    #[inline]
    fn serialize(&self, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        T::serialize_ref(self.0, w)
    }
}

macro_rules! number_fields {
    ($($ty:ty : $name:literal),* $(,)?) => {$(
        // SAFETY: rkyv's own impls of a number; the twin is the number. The name is that of this type only.
        unsafe impl FieldType for $ty {
            const TYPE: &'static str = $name;
            type Ref<'a> = $ty;

            #[inline]
            fn to_ref(&self) -> $ty {
                *self
            }
            #[inline]
            fn serialize_ref(_: $ty, _: &mut TupleWriter) -> Result<(), Full> {
                Ok(())
            }
            #[inline]
            fn resolve_ref(value: $ty, (): (), out: Place<Self::Archived>) {
                value.resolve((), out);
            }
            #[inline]
            #[allow(clippy::useless_conversion, reason = "one-byte types archive as themselves, the others do not")]
            fn from_archived(archived: &Self::Archived) -> $ty {
                <$ty>::from(*archived)
            }
        }
    )*};
}

number_fields! {
    u8: "u8", u16: "u16", u32: "u32", u64: "u64", i8: "i8", i16: "i16", i32: "i32", i64: "i64",
    f32: "f32", f64: "f64", bool: "bool", char: "char",
}

// SAFETY: rkyv's impls; the twin is serialized by the function that `String`'s impl calls.
unsafe impl FieldType for String {
    const TYPE: &'static str = "string";
    type Ref<'a> = &'a str;

    #[inline]
    fn to_ref(&self) -> &str {
        self
    }
    #[inline]
    fn serialize_ref(value: &str, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        ArchivedString::serialize_from_str(value, w)
    }
    #[inline]
    fn resolve_ref(value: &str, resolver: Self::Resolver, out: Place<ArchivedString>) {
        ArchivedString::resolve_from_str(value, resolver, out);
    }
    #[inline]
    fn from_archived(archived: &ArchivedString) -> String {
        archived.as_str().to_owned()
    }
}

// SAFETY: rkyv's impls; the twin is serialized by the function that `Vec`'s impl calls. The name holds the element's.
unsafe impl<T: FieldType> FieldType for Vec<T> {
    const TYPE: &'static str = {
        // A list of them could claim any length in no bytes, and checking it would take as long as a peer likes.
        assert!(size_of::<T::Archived>() > 0, "a list's elements must not be of size zero");
        const { &TypeText::new().text("list<").text(T::TYPE).text(">") }.as_str()
    };
    type Ref<'a> = &'a [T];

    #[inline]
    fn to_ref(&self) -> &[T] {
        self
    }
    #[inline]
    fn serialize_ref(value: &[T], w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        ArchivedVec::serialize_from_slice(value, w)
    }
    #[inline]
    fn resolve_ref(value: &[T], resolver: Self::Resolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(value, resolver, out);
    }
    fn from_archived(archived: &Self::Archived) -> Vec<T> {
        archived.iter().map(T::from_archived).collect()
    }
}

// SAFETY: rkyv's impls, of `Option<T>` and of `Option<RefOf<T>>`, which archives alike by `T`'s own promise.
unsafe impl<T: FieldType> FieldType for Option<T> {
    const TYPE: &'static str = const { &TypeText::new().text("option<").text(T::TYPE).text(">") }.as_str();
    type Ref<'a> = Option<T::Ref<'a>>;

    #[inline]
    fn to_ref(&self) -> Self::Ref<'_> {
        self.as_ref().map(T::to_ref)
    }
    #[inline]
    fn serialize_ref(value: Self::Ref<'_>, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        value.map(RefOf::<T>).serialize(w)
    }
    #[inline]
    fn resolve_ref(value: Self::Ref<'_>, resolver: Self::Resolver, out: Place<Self::Archived>) {
        value.map(RefOf::<T>).resolve(resolver, out);
    }
    #[inline]
    fn from_archived(archived: &Self::Archived) -> Option<T> {
        archived.as_ref().map(T::from_archived)
    }
}

// SAFETY: rkyv's impls of the array; the twin is a reference to it. The name holds the element's and the length.
unsafe impl<T: FieldType, const N: usize> FieldType for [T; N] {
    const TYPE: &'static str =
        const { &TypeText::new().text("[").text(T::TYPE).text("; ").number(N).text("]") }.as_str();
    type Ref<'a> = &'a [T; N];

    #[inline]
    fn to_ref(&self) -> &[T; N] {
        self
    }
    #[inline]
    fn serialize_ref(value: &[T; N], w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        value.serialize(w)
    }
    #[inline]
    fn resolve_ref(value: &[T; N], resolver: Self::Resolver, out: Place<Self::Archived>) {
        value.resolve(resolver, out);
    }
    #[inline]
    fn from_archived(archived: &Self::Archived) -> [T; N] {
        std::array::from_fn(|i| T::from_archived(&archived[i]))
    }
}

macro_rules! tuple_fields {
    ($(($($ty:ident $ix:tt),+))*) => {$(
        // SAFETY: rkyv's impls, of the tuple and of the tuple of `RefOf`s, which archives alike by the elements' own
        // promises. The name holds the elements' names.
        unsafe impl<$($ty: FieldType),+> FieldType for ($($ty,)+) {
            const TYPE: &'static str =
                const { &TypeText::new().text("(")$(.separated($ix, $ty::TYPE))+.text(")") }.as_str();
            type Ref<'a> = ($($ty::Ref<'a>,)+);

            #[inline]
            fn to_ref(&self) -> Self::Ref<'_> {
                ($(self.$ix.to_ref(),)+)
            }
            #[inline]
            fn serialize_ref(value: Self::Ref<'_>, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
                ($(RefOf::<$ty>(value.$ix),)+).serialize(w)
            }
            #[inline]
            fn resolve_ref(value: Self::Ref<'_>, resolver: Self::Resolver, out: Place<Self::Archived>) {
                ($(RefOf::<$ty>(value.$ix),)+).resolve(resolver, out);
            }
            #[inline]
            fn from_archived(archived: &Self::Archived) -> Self {
                ($($ty::from_archived(&archived.$ix),)+)
            }
        }
    )*};
}

tuple_fields! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
}

/// Text put together in a constant, for the names of composed types.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct TypeText {
    bytes: [u8; TypeText::MAX],
    len: usize,
}

impl TypeText {
    /// The longest name of a field type.
    pub const MAX: usize = 4096;

    #[doc(hidden)]
    #[allow(clippy::new_without_default, reason = "for constants, where Default cannot be called")]
    pub const fn new() -> TypeText {
        TypeText { bytes: [0; Self::MAX], len: 0 }
    }

    /// Appends. Fails the build if the name grows beyond [`TypeText::MAX`] bytes.
    #[doc(hidden)]
    pub const fn text(mut self, text: &str) -> TypeText {
        let text = text.as_bytes();
        assert!(
            self.len + text.len() <= Self::MAX,
            "the name of a field's type, with all it nests, exceeds 4096 bytes"
        );
        let mut i = 0;
        while i < text.len() {
            self.bytes[self.len] = text[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    /// Appends `, ` unless first, then `text`.
    #[doc(hidden)]
    pub const fn separated(self, index: usize, text: &str) -> TypeText {
        if index == 0 { self.text(text) } else { self.text(", ").text(text) }
    }

    /// Appends a number.
    #[doc(hidden)]
    pub const fn number(self, n: usize) -> TypeText {
        let head = if n >= 10 { self.number(n / 10) } else { self };
        const DIGITS: &str = "0123456789";
        head.text(DIGITS.split_at(n % 10).1.split_at(1).0)
    }

    /// The signature of a struct: `Word{word: string, n: u64}`.
    #[doc(hidden)]
    pub const fn signature(name: &str, fields: &[FieldDef]) -> TypeText {
        let mut text = TypeText::new().text(name).text("{");
        let mut i = 0;
        while i < fields.len() {
            text = text.separated(i, fields[i].name).text(": ").text(fields[i].ty);
            i += 1;
        }
        text.text("}")
    }

    #[doc(hidden)]
    pub const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => panic!("names are put together from whole strings"),
        }
    }
}

/// FNV-1a over text, finished with MurmurHash3's mix so that all bits depend on all others. Never 0, which means "no schema".
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    const START: Fnv = Fnv(0xCBF2_9CE4_8422_2325);

    const fn text(self, text: &str) -> Fnv {
        let text = text.as_bytes();
        let mut hash = self.0;
        let mut i = 0;
        while i < text.len() {
            hash = (hash ^ text[i] as u64).wrapping_mul(0x0000_0100_0000_01B3);
            i += 1;
        }
        Fnv(hash)
    }

    const fn finish(self) -> u64 {
        let mut x = self.0;
        x = (x ^ (x >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        x = (x ^ (x >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        x ^= x >> 33;
        if x == 0 { 1 } else { x }
    }
}

/// The hash of a type's name. Part of the wire format.
pub const fn text_id(text: &str) -> u64 {
    Fnv::START.text(text).finish()
}

/// The hash of a tuple type's signature, [`Tuple::ID`]: equal to [`text_id`] of `Name{field: type, …}`.
pub const fn tuple_id(name: &str, fields: &[FieldDef]) -> u64 {
    let mut hash = Fnv::START.text(name).text("{");
    let mut i = 0;
    while i < fields.len() {
        if i > 0 {
            hash = hash.text(", ");
        }
        hash = hash.text(fields[i].name).text(": ").text(fields[i].ty);
        i += 1;
    }
    hash.text("}").finish()
}

/// Why bytes are not an archive of the type. Holds its text itself (cut at 96 bytes), so that refusing allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InvalidTuple {
    text: [u8; Self::MAX],
    len: u8,
}

impl InvalidTuple {
    const MAX: usize = 96;

    /// An error with this cause.
    pub fn new(cause: impl fmt::Display) -> InvalidTuple {
        let mut error = InvalidTuple { text: [0; Self::MAX], len: 0 };
        // Only "cut at the end" can fail here.
        let _ = write!(error, "{cause}");
        error
    }

    /// The cause.
    pub fn cause(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len as usize]).unwrap_or("(unreadable)")
    }
}

impl fmt::Write for InvalidTuple {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let at = self.len as usize;
        let mut fits = s.len().min(Self::MAX - at);
        while !s.is_char_boundary(fits) {
            fits -= 1;
        }
        self.text[at..at + fits].copy_from_slice(&s.as_bytes()[..fits]);
        self.len += fits as u8;
        if fits == s.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Display for InvalidTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the archive is invalid: {}", self.cause())
    }
}

impl fmt::Debug for InvalidTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvalidTuple({:?})", self.cause())
    }
}

impl std::error::Error for InvalidTuple {}

impl Trace for InvalidTuple {
    /// Adds the field in which the fault lies, innermost first, as far as there is room.
    #[cold]
    fn trace<R: fmt::Debug + fmt::Display + Send + Sync + 'static>(mut self, trace: R) -> Self {
        // rkyv reports the depth limit as a missing value, and only traces the reason.
        if self.cause() == "`Option` is `None`, expected `Some`" {
            return InvalidTuple::new(trace);
        }
        let _ = write!(self, ", {trace}");
        self
    }
}

impl Source for InvalidTuple {
    #[cold]
    fn new<T: std::error::Error + Send + Sync + 'static>(source: T) -> Self {
        InvalidTuple::new(source)
    }
}

/// The context in which archives are checked: depth-limited, without shared pointers. `E` is [`Failure`], which is nothing
/// but the fact, or [`InvalidTuple`], which tells the cause.
pub type TupleValidator<'a, E = InvalidTuple> = Strategy<Validator<ArchiveValidator<'a>, ()>, E>;

/// Checks that `bytes` are an archive of `A` with the root at the end; what [`Tuple::validate`] is made of.
///
/// # Errors
///
/// [`InvalidTuple`] with the cause.
#[inline]
pub fn check_archive<A>(bytes: &[u8]) -> Result<(), InvalidTuple>
where
    A: Portable + for<'a> CheckBytes<TupleValidator<'a, Failure>> + for<'a> CheckBytes<TupleValidator<'a>>,
{
    match check::<A, Failure>(bytes) {
        Ok(()) => Ok(()),
        // Errors that carry text through every level of the check would cost each good tuple, so a bad one is checked twice.
        Err(Failure) => Err(explain::<A>(bytes)),
    }
}

#[inline]
fn check<A, E: Source>(bytes: &[u8]) -> Result<(), E>
where
    A: Portable + for<'a> CheckBytes<TupleValidator<'a, E>>,
{
    const DEPTH: NonZeroUsize = NonZeroUsize::new(MAX_DEPTH).unwrap();
    // The validator computes the root's position by a saturating subtraction, so a short buffer would be read from its start.
    if bytes.len() < size_of::<A>() {
        return Err(E::new(ShortArchive { found: bytes.len(), root: size_of::<A>() }));
    }
    let mut context = Validator::new(ArchiveValidator::with_max_depth(bytes, Some(DEPTH)), ());
    access_with_context::<A, _, E>(bytes, &mut context).map(|_| ())
}

#[cold]
#[inline(never)]
fn explain<A>(bytes: &[u8]) -> InvalidTuple
where
    A: Portable + for<'a> CheckBytes<TupleValidator<'a>>,
{
    match check::<A, InvalidTuple>(bytes) {
        Err(cause) => cause,
        Ok(()) => {
            InvalidTuple::new("it was refused at the first look, but not at the second: did it change meanwhile?")
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{found} bytes cannot hold a root of {root}")]
struct ShortArchive {
    found: usize,
    root: usize,
}

/// A tuple type as a value: what a stream carries, and how bytes of it are checked.
///
/// The parts are private because a batch that passed `validate` is read as the type that `schema_id` names.
#[derive(Clone)]
pub struct TupleType {
    name: String,
    fields: Vec<(String, String)>,
    schema_id: u64,
    dynamic: bool,
    validate: fn(&[u8]) -> Result<(), InvalidTuple>,
    show: Show,
}

impl TupleType {
    /// The type `T`. For rows use [`TupleType::row`], which knows the stream's field names.
    pub fn of<T: Tuple>() -> TupleType {
        TupleType {
            name: T::NAME.to_owned(),
            fields: T::FIELDS.iter().map(|f| (f.name.to_owned(), f.ty.to_owned())).collect(),
            schema_id: T::ID,
            dynamic: T::DYNAMIC,
            validate: T::validate,
            show: if T::DYNAMIC { show::row } else { show::typed::<T> },
        }
    }

    /// Rows with these field names; every field's type is `any`.
    pub fn row<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> TupleType {
        let fields: Vec<_> = names.into_iter().map(|name| (name.as_ref().to_owned(), "any".to_owned())).collect();
        let mut hash = Fnv::START.text(crate::Row::NAME).text("{");
        for (i, (name, ty)) in fields.iter().enumerate() {
            hash = if i > 0 { hash.text(", ") } else { hash }.text(name).text(": ").text(ty);
        }
        TupleType {
            name: crate::Row::NAME.to_owned(),
            fields,
            schema_id: hash.text("}").finish(),
            dynamic: true,
            validate: <crate::Row as Tuple>::validate,
            show: show::row,
        }
    }

    /// The type's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names and types of the fields, in order.
    pub fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// The identity that batches of it carry.
    pub fn schema_id(&self) -> u64 {
        self.schema_id
    }

    /// Whether its tuples are rows.
    pub fn dynamic(&self) -> bool {
        self.dynamic
    }

    /// Checks one archive.
    ///
    /// # Errors
    ///
    /// [`InvalidTuple`] with the cause.
    pub fn validate(&self, bytes: &[u8]) -> Result<(), InvalidTuple> {
        (self.validate)(bytes)
    }

    /// One archive as text for people, cut at `bytes_max` bytes: `{word: "the", n: 3}`. Of typed tuples, fields that cannot be
    /// keys are shown by their type. Checks the archive first, so it is nothing for each tuple.
    ///
    /// # Errors
    ///
    /// [`InvalidTuple`] with the cause.
    pub fn text(&self, bytes: &[u8], bytes_max: usize) -> Result<String, InvalidTuple> {
        let mut text = Text::new(bytes_max);
        (self.show)(bytes, &self.fields, &mut text)?;
        Ok(text.into_string())
    }
}

/// The signature: `Word{word: string, n: u64}`.
impl fmt::Display for TupleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{", self.name)?;
        for (i, (name, ty)) in self.fields.iter().enumerate() {
            write!(f, "{}{name}: {ty}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for TupleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TupleType({self}, {:#018x}{})", self.schema_id, if self.dynamic { ", dynamic" } else { "" })
    }
}

/// The same type: same identity, both typed or both rows.
impl PartialEq for TupleType {
    fn eq(&self, other: &Self) -> bool {
        self.schema_id == other.schema_id && self.dynamic == other.dynamic
    }
}

impl Eq for TupleType {}
