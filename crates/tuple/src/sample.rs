//! What `#[derive(Tuple)]` generates, written by hand for two types: the reference for the macro, and the tuple types of
//! this crate's tests, examples and fuzz target. Not part of the public API.
//!
//! Paths here are `crate::` and `rkyv::`; generated code says `::squall::__rt::tuple::` and `::squall::__rt::rkyv::`, and
//! gives the derives of rkyv and bytecheck those paths by their `crate` attributes (shown on [`ArchivedWord`]).
//!
//! For a struct `X` with fields `f: F` the derive writes:
//!
//! 1. `ArchivedX`: `#[repr(C)]`, field by field `Archived<F>`, with `Portable` and `CheckBytes` derived.
//! 2. `impl Archive for X` and `impl Serialize<TupleWriter> for X`; the resolver is the tuple of the fields' resolvers.
//! 3. `XRef<'a>`: `Copy`, field by field `<F as FieldType>::Ref<'a>`; `Archive` and `Serialize` with the same archived
//!    type and resolver.
//! 4. `unsafe impl Tuple for X` and `unsafe impl FieldType for X` (so that it nests).
//! 5. `unsafe impl Emit<X>` for `X` and for `XRef<'_>`; `&X` and `&XRef` are covered by a blanket impl.
//! 6. `impl X { pub const F: Field<X> = Field::new(index); }` for each field that can be a key.

#![allow(unsafe_code, missing_docs)]
#![allow(clippy::unit_arg, reason = "the resolver of a number is (), and the derive treats all fields alike")]

use rkyv::bytecheck::CheckBytes;
use rkyv::munge::munge;
use rkyv::traits::CopyOptimization;
use rkyv::{Archive, Archived, Place, Portable, Resolver, Serialize};

use crate::emit::{Emit, Full, TupleWriter};
#[allow(unused_imports, reason = "needed where a field's type cannot be a key: the derive always writes it")]
use crate::key::NoKey as _;
use crate::key::{Field, Key, Probe};
use crate::schema::{FieldDef, FieldType, InvalidTuple, Tuple, TypeText, check_archive, tuple_id};

// ---------------------------------------------------------------------------------------------- a word and its count

/// `#[derive(Tuple)] struct Word { word: String, n: u64 }`
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    pub word: String,
    pub n: u64,
}

/// The archived form. `CheckBytes` and `Portable` come from rkyv's and bytecheck's own derives.
#[derive(Debug, Portable, CheckBytes)]
#[rkyv(crate = rkyv)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub struct ArchivedWord {
    pub word: Archived<String>,
    pub n: Archived<u64>,
}

impl Archive for Word {
    type Archived = ArchivedWord;
    type Resolver = (Resolver<String>, Resolver<u64>);

    #[inline]
    fn resolve(&self, resolver: Self::Resolver, out: Place<ArchivedWord>) {
        munge!(let ArchivedWord { word, n } = out);
        self.word.resolve(resolver.0, word);
        self.n.resolve(resolver.1, n);
    }
}

impl Serialize<TupleWriter> for Word {
    #[inline]
    fn serialize(&self, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        Ok((self.word.serialize(w)?, self.n.serialize(w)?))
    }
}

/// The borrowed twin.
#[derive(Debug, Clone, Copy)]
pub struct WordRef<'a> {
    pub word: <String as FieldType>::Ref<'a>,
    pub n: <u64 as FieldType>::Ref<'a>,
}

impl Archive for WordRef<'_> {
    type Archived = ArchivedWord;
    type Resolver = (Resolver<String>, Resolver<u64>);

    #[inline]
    fn resolve(&self, resolver: Self::Resolver, out: Place<ArchivedWord>) {
        munge!(let ArchivedWord { word, n } = out);
        <String as FieldType>::resolve_ref(self.word, resolver.0, word);
        <u64 as FieldType>::resolve_ref(self.n, resolver.1, n);
    }
}

impl Serialize<TupleWriter> for WordRef<'_> {
    #[inline]
    fn serialize(&self, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        Ok((<String as FieldType>::serialize_ref(self.word, w)?, <u64 as FieldType>::serialize_ref(self.n, w)?))
    }
}

// SAFETY: each field is archived by its own type's impl into its own place; `validate` checks the archived type as a whole;
// the id is of the true name and fields.
unsafe impl Tuple for Word {
    const NAME: &'static str = "Word";
    const FIELDS: &'static [FieldDef] = &[
        FieldDef { name: "word", ty: <String as FieldType>::TYPE },
        FieldDef { name: "n", ty: <u64 as FieldType>::TYPE },
    ];
    const ID: u64 = tuple_id(Self::NAME, Self::FIELDS);

    #[inline]
    fn key_of(archived: &ArchivedWord, field: u16) -> Key<'_> {
        match field {
            0 => Probe::<String>::archived_key(&archived.word),
            1 => Probe::<u64>::archived_key(&archived.n),
            _ => Key::Null,
        }
    }

    #[inline]
    fn key_of_owned(&self, field: u16) -> Key<'_> {
        match field {
            0 => Probe::<String>::key(&self.word),
            1 => Probe::<u64>::key(&self.n),
            _ => Key::Null,
        }
    }

    fn validate(bytes: &[u8]) -> Result<(), InvalidTuple> {
        check_archive::<ArchivedWord>(bytes)
    }

    #[inline]
    fn to_owned(archived: &ArchivedWord) -> Word {
        Word {
            word: <String as FieldType>::from_archived(&archived.word),
            n: <u64 as FieldType>::from_archived(&archived.n),
        }
    }
}

// SAFETY: value and twin are archived field by field by the fields' own types; the name is the full signature.
unsafe impl FieldType for Word {
    const TYPE: &'static str = const { &TypeText::signature(<Word as Tuple>::NAME, <Word as Tuple>::FIELDS) }.as_str();
    type Ref<'a> = WordRef<'a>;

    #[inline]
    fn to_ref(&self) -> WordRef<'_> {
        WordRef { word: self.word.to_ref(), n: self.n.to_ref() }
    }
    #[inline]
    fn serialize_ref(value: WordRef<'_>, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        value.serialize(w)
    }
    #[inline]
    fn resolve_ref(value: WordRef<'_>, resolver: Self::Resolver, out: Place<ArchivedWord>) {
        value.resolve(resolver, out);
    }
    #[inline]
    fn from_archived(archived: &ArchivedWord) -> Word {
        <Word as Tuple>::to_owned(archived)
    }
}

// SAFETY: writes one root whose archived type is `Word`'s.
unsafe impl Emit<Word> for Word {
    #[inline(always)]
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full> {
        w.root(self)
    }
    #[inline]
    fn key(&self, field: u16) -> Key<'_> {
        self.key_of_owned(field)
    }
}

// SAFETY: writes one root whose archived type is `Word`'s.
unsafe impl Emit<Word> for WordRef<'_> {
    #[inline(always)]
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full> {
        w.root(self)
    }
    #[inline]
    fn key(&self, field: u16) -> Key<'_> {
        match field {
            0 => Probe::<String>::ref_key(self.word),
            1 => Probe::<u64>::ref_key(self.n),
            _ => Key::Null,
        }
    }
}

impl Word {
    pub const WORD: Field<Word> = Field::new(0);
    pub const N: Field<Word> = Field::new(1);
}

// ------------------------------------------------------------------------------------- four numbers: a fixed size

/// `#[derive(Tuple)] struct Pod { a: u64, b: u64, c: u64, d: u64 }`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pod {
    pub a: u64,
    pub b: u64,
    pub c: u64,
    pub d: u64,
}

#[derive(Debug, Portable, CheckBytes)]
#[rkyv(crate = rkyv)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub struct ArchivedPod {
    pub a: Archived<u64>,
    pub b: Archived<u64>,
    pub c: Archived<u64>,
    pub d: Archived<u64>,
}

impl Archive for Pod {
    /// Lets a `Vec<Pod>` be copied as one block. Optional: the derive may write it for any struct, since the condition
    /// is checked, field by field, and is false for fields that are not plain data.
    // SAFETY: enabled only where every field is plain data, lies where its archived twin lies, and the fields fill the
    // struct: so there is no padding.
    const COPY_OPTIMIZATION: CopyOptimization<Self> = unsafe {
        CopyOptimization::enable_if(
            size_of::<Pod>() == size_of::<ArchivedPod>()
                && size_of::<Pod>() == size_of::<u64>() + size_of::<u64>() + size_of::<u64>() + size_of::<u64>()
                && <u64 as Archive>::COPY_OPTIMIZATION.is_enabled()
                && std::mem::offset_of!(Pod, a) == std::mem::offset_of!(ArchivedPod, a)
                && std::mem::offset_of!(Pod, b) == std::mem::offset_of!(ArchivedPod, b)
                && std::mem::offset_of!(Pod, c) == std::mem::offset_of!(ArchivedPod, c)
                && std::mem::offset_of!(Pod, d) == std::mem::offset_of!(ArchivedPod, d),
        )
    };

    type Archived = ArchivedPod;
    type Resolver = (Resolver<u64>, Resolver<u64>, Resolver<u64>, Resolver<u64>);

    #[inline]
    fn resolve(&self, resolver: Self::Resolver, out: Place<ArchivedPod>) {
        munge!(let ArchivedPod { a, b, c, d } = out);
        self.a.resolve(resolver.0, a);
        self.b.resolve(resolver.1, b);
        self.c.resolve(resolver.2, c);
        self.d.resolve(resolver.3, d);
    }
}

impl Serialize<TupleWriter> for Pod {
    #[inline]
    fn serialize(&self, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        Ok((self.a.serialize(w)?, self.b.serialize(w)?, self.c.serialize(w)?, self.d.serialize(w)?))
    }
}

/// The twin of a struct without borrowed fields has a lifetime all the same, so that generic code can name it alike.
#[derive(Debug, Clone, Copy)]
pub struct PodRef<'a> {
    pub a: <u64 as FieldType>::Ref<'a>,
    pub b: <u64 as FieldType>::Ref<'a>,
    pub c: <u64 as FieldType>::Ref<'a>,
    pub d: <u64 as FieldType>::Ref<'a>,
}

impl Archive for PodRef<'_> {
    type Archived = ArchivedPod;
    type Resolver = (Resolver<u64>, Resolver<u64>, Resolver<u64>, Resolver<u64>);

    #[inline]
    fn resolve(&self, resolver: Self::Resolver, out: Place<ArchivedPod>) {
        munge!(let ArchivedPod { a, b, c, d } = out);
        <u64 as FieldType>::resolve_ref(self.a, resolver.0, a);
        <u64 as FieldType>::resolve_ref(self.b, resolver.1, b);
        <u64 as FieldType>::resolve_ref(self.c, resolver.2, c);
        <u64 as FieldType>::resolve_ref(self.d, resolver.3, d);
    }
}

impl Serialize<TupleWriter> for PodRef<'_> {
    #[inline]
    fn serialize(&self, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        Ok((
            <u64 as FieldType>::serialize_ref(self.a, w)?,
            <u64 as FieldType>::serialize_ref(self.b, w)?,
            <u64 as FieldType>::serialize_ref(self.c, w)?,
            <u64 as FieldType>::serialize_ref(self.d, w)?,
        ))
    }
}

// SAFETY: as for `Word`.
unsafe impl Tuple for Pod {
    const NAME: &'static str = "Pod";
    const FIELDS: &'static [FieldDef] = &[
        FieldDef { name: "a", ty: <u64 as FieldType>::TYPE },
        FieldDef { name: "b", ty: <u64 as FieldType>::TYPE },
        FieldDef { name: "c", ty: <u64 as FieldType>::TYPE },
        FieldDef { name: "d", ty: <u64 as FieldType>::TYPE },
    ];
    const ID: u64 = tuple_id(Self::NAME, Self::FIELDS);

    #[inline]
    fn key_of(archived: &ArchivedPod, field: u16) -> Key<'_> {
        match field {
            0 => Probe::<u64>::archived_key(&archived.a),
            1 => Probe::<u64>::archived_key(&archived.b),
            2 => Probe::<u64>::archived_key(&archived.c),
            3 => Probe::<u64>::archived_key(&archived.d),
            _ => Key::Null,
        }
    }

    #[inline]
    fn key_of_owned(&self, field: u16) -> Key<'_> {
        match field {
            0 => Probe::<u64>::key(&self.a),
            1 => Probe::<u64>::key(&self.b),
            2 => Probe::<u64>::key(&self.c),
            3 => Probe::<u64>::key(&self.d),
            _ => Key::Null,
        }
    }

    fn validate(bytes: &[u8]) -> Result<(), InvalidTuple> {
        check_archive::<ArchivedPod>(bytes)
    }

    #[inline]
    fn to_owned(archived: &ArchivedPod) -> Pod {
        Pod {
            a: <u64 as FieldType>::from_archived(&archived.a),
            b: <u64 as FieldType>::from_archived(&archived.b),
            c: <u64 as FieldType>::from_archived(&archived.c),
            d: <u64 as FieldType>::from_archived(&archived.d),
        }
    }
}

// SAFETY: as for `Word`.
unsafe impl FieldType for Pod {
    const TYPE: &'static str = const { &TypeText::signature(<Pod as Tuple>::NAME, <Pod as Tuple>::FIELDS) }.as_str();
    type Ref<'a> = PodRef<'a>;

    #[inline]
    fn to_ref(&self) -> PodRef<'_> {
        PodRef { a: self.a.to_ref(), b: self.b.to_ref(), c: self.c.to_ref(), d: self.d.to_ref() }
    }
    #[inline]
    fn serialize_ref(value: PodRef<'_>, w: &mut TupleWriter) -> Result<Self::Resolver, Full> {
        value.serialize(w)
    }
    #[inline]
    fn resolve_ref(value: PodRef<'_>, resolver: Self::Resolver, out: Place<ArchivedPod>) {
        value.resolve(resolver, out);
    }
    #[inline]
    fn from_archived(archived: &ArchivedPod) -> Pod {
        <Pod as Tuple>::to_owned(archived)
    }
}

// SAFETY: writes one root whose archived type is `Pod`'s.
unsafe impl Emit<Pod> for Pod {
    #[inline(always)]
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full> {
        w.root(self)
    }
    #[inline]
    fn key(&self, field: u16) -> Key<'_> {
        self.key_of_owned(field)
    }
}

// SAFETY: writes one root whose archived type is `Pod`'s.
unsafe impl Emit<Pod> for PodRef<'_> {
    #[inline(always)]
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full> {
        w.root(self)
    }
    #[inline]
    fn key(&self, field: u16) -> Key<'_> {
        match field {
            0 => Probe::<u64>::ref_key(self.a),
            1 => Probe::<u64>::ref_key(self.b),
            2 => Probe::<u64>::ref_key(self.c),
            3 => Probe::<u64>::ref_key(self.d),
            _ => Key::Null,
        }
    }
}

impl Pod {
    pub const A: Field<Pod> = Field::new(0);
    pub const B: Field<Pod> = Field::new(1);
    pub const C: Field<Pod> = Field::new(2);
    pub const D: Field<Pod> = Field::new(3);
}
