//! A stand-in for the derive, so that these tests cover every field type without the macro crate, and small helpers.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros, reason = "each test takes what it needs")]

use squall_tuple::{BatchBuf, BatchKind, OpenBatch, Tuple};

/// Generates what `squall_tuple::sample` writes by hand.
macro_rules! tuple_type {
    ($name:ident, $archived:ident, $twin:ident, $archive_name:literal { $($field:ident: $ty:ty = $ix:tt),* $(,)? }) => {
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(pub $field: $ty),*
        }

        #[derive(squall_tuple::rkyv::Portable, squall_tuple::rkyv::bytecheck::CheckBytes)]
        #[rkyv(crate = squall_tuple::rkyv)]
        #[bytecheck(crate = squall_tuple::rkyv::bytecheck)]
        #[repr(C)]
        pub struct $archived {
            $(pub $field: squall_tuple::rkyv::Archived<$ty>),*
        }

        #[derive(Clone, Copy)]
        pub struct $twin<'a> {
            $(pub $field: <$ty as squall_tuple::FieldType>::Ref<'a>,)*
            #[allow(dead_code)]
            pub lifetime: std::marker::PhantomData<&'a ()>,
        }

        impl squall_tuple::rkyv::Archive for $name {
            type Archived = $archived;
            type Resolver = ($(squall_tuple::rkyv::Resolver<$ty>,)*);
            #[allow(clippy::unit_arg, clippy::unused_unit, unused_variables)]
            fn resolve(&self, resolver: Self::Resolver, out: squall_tuple::rkyv::Place<$archived>) {
                squall_tuple::rkyv::munge::munge!(let $archived { $($field),* } = out);
                $(squall_tuple::rkyv::Archive::resolve(&self.$field, resolver.$ix, $field);)*
            }
        }

        impl squall_tuple::rkyv::Serialize<squall_tuple::TupleWriter> for $name {
            #[allow(unused_variables)]
            fn serialize(&self, w: &mut squall_tuple::TupleWriter) -> Result<Self::Resolver, squall_tuple::Full> {
                Ok(($(squall_tuple::rkyv::Serialize::serialize(&self.$field, w)?,)*))
            }
        }

        impl squall_tuple::rkyv::Archive for $twin<'_> {
            type Archived = $archived;
            type Resolver = ($(squall_tuple::rkyv::Resolver<$ty>,)*);
            #[allow(clippy::unit_arg, clippy::unused_unit, unused_variables)]
            fn resolve(&self, resolver: Self::Resolver, out: squall_tuple::rkyv::Place<$archived>) {
                squall_tuple::rkyv::munge::munge!(let $archived { $($field),* } = out);
                $(<$ty as squall_tuple::FieldType>::resolve_ref(self.$field, resolver.$ix, $field);)*
            }
        }

        impl squall_tuple::rkyv::Serialize<squall_tuple::TupleWriter> for $twin<'_> {
            #[allow(unused_variables)]
            fn serialize(&self, w: &mut squall_tuple::TupleWriter) -> Result<Self::Resolver, squall_tuple::Full> {
                Ok(($(<$ty as squall_tuple::FieldType>::serialize_ref(self.$field, w)?,)*))
            }
        }

        // SAFETY: as for `squall_tuple::sample::Word`.
        unsafe impl squall_tuple::Tuple for $name {
            const NAME: &'static str = $archive_name;
            const FIELDS: &'static [squall_tuple::FieldDef] = &[$(
                squall_tuple::FieldDef { name: stringify!($field), ty: <$ty as squall_tuple::FieldType>::TYPE }
            ),*];
            const ID: u64 = squall_tuple::schema::tuple_id(Self::NAME, Self::FIELDS);

            #[allow(unused_variables)]
            fn key_of(archived: &$archived, field: u16) -> squall_tuple::Key<'_> {
                #[allow(unused_imports)]
                use squall_tuple::key::NoKey as _;
                match field {
                    $($ix => squall_tuple::key::Probe::<$ty>::archived_key(&archived.$field),)*
                    _ => squall_tuple::Key::Null,
                }
            }
            fn key_of_owned(&self, field: u16) -> squall_tuple::Key<'_> {
                #[allow(unused_imports)]
                use squall_tuple::key::NoKey as _;
                match field {
                    $($ix => squall_tuple::key::Probe::<$ty>::key(&self.$field),)*
                    _ => squall_tuple::Key::Null,
                }
            }
            fn validate(bytes: &[u8]) -> Result<(), squall_tuple::InvalidTuple> {
                squall_tuple::schema::check_archive::<$archived>(bytes)
            }
            #[allow(unused_variables)]
            fn to_owned(archived: &$archived) -> $name {
                $name { $($field: <$ty as squall_tuple::FieldType>::from_archived(&archived.$field)),* }
            }
        }

        // SAFETY: as for `squall_tuple::sample::Word`.
        unsafe impl squall_tuple::FieldType for $name {
            const TYPE: &'static str = const {
                &squall_tuple::schema::TypeText::signature(
                    <$name as squall_tuple::Tuple>::NAME,
                    <$name as squall_tuple::Tuple>::FIELDS,
                )
            }
            .as_str();
            type Ref<'a> = $twin<'a>;

            fn to_ref(&self) -> $twin<'_> {
                $twin {
                    $($field: squall_tuple::FieldType::to_ref(&self.$field),)*
                    lifetime: std::marker::PhantomData,
                }
            }
            fn serialize_ref(
                value: $twin<'_>,
                w: &mut squall_tuple::TupleWriter,
            ) -> Result<Self::Resolver, squall_tuple::Full> {
                squall_tuple::rkyv::Serialize::serialize(&value, w)
            }
            fn resolve_ref(
                value: $twin<'_>,
                resolver: Self::Resolver,
                out: squall_tuple::rkyv::Place<$archived>,
            ) {
                squall_tuple::rkyv::Archive::resolve(&value, resolver, out);
            }
            fn from_archived(archived: &$archived) -> $name {
                <$name as squall_tuple::Tuple>::to_owned(archived)
            }
        }

        // SAFETY: writes one root whose archived type is the tuple's.
        unsafe impl squall_tuple::Emit<$name> for $name {
            fn write(&self, w: &mut squall_tuple::TupleWriter) -> Result<(), squall_tuple::Full> {
                w.root(self)
            }
            fn key(&self, field: u16) -> squall_tuple::Key<'_> {
                squall_tuple::Tuple::key_of_owned(self, field)
            }
        }

        // SAFETY: writes one root whose archived type is the tuple's.
        unsafe impl squall_tuple::Emit<$name> for $twin<'_> {
            fn write(&self, w: &mut squall_tuple::TupleWriter) -> Result<(), squall_tuple::Full> {
                w.root(self)
            }
            fn key(&self, field: u16) -> squall_tuple::Key<'_> {
                #[allow(unused_imports)]
                use squall_tuple::key::NoKey as _;
                match field {
                    $($ix => squall_tuple::key::Probe::<$ty>::ref_key(self.$field),)*
                    _ => squall_tuple::Key::Null,
                }
            }
        }
    };
}
pub(crate) use tuple_type;

/// How a stream of `T` opens its batches.
pub fn opening<T: Tuple>() -> OpenBatch {
    OpenBatch { kind: BatchKind::Data, stream: 3, schema_id: T::ID, dynamic: T::DYNAMIC, source_reactor: 2, epoch: 9 }
}

/// An open buffer for tuples of `T`.
pub fn opened<T: Tuple>(bytes: usize) -> BatchBuf {
    let mut buf = BatchBuf::with_capacity(bytes);
    buf.open(&opening::<T>());
    buf
}

/// Bytes where a batch may start, and may be changed.
pub fn aligned(bytes: &[u8]) -> squall_tuple::rkyv::util::AlignedVec<64> {
    let mut copy = squall_tuple::rkyv::util::AlignedVec::with_capacity(bytes.len().max(64));
    copy.extend_from_slice(bytes);
    copy
}

pub fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> =
        bytes.chunks(8).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    words.join("\n")
}

/// SplitMix64: a seeded generator that gives the same numbers everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}
