//! What the tuples carry, and how a receiver reads it: every field through `black_box`, of large ones a word per cache
//! line, on both sides alike.

use std::hint::black_box;

use squall::__rt::rkyv::Archive;
use squall::{Emit, Stream, Tuple};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Payloads up to here are all words and read whole.
pub(crate) const WORDS_BYTES_MAX: usize = 128;

/// A tuple type of fixed payload size.
pub(crate) trait Payload: Tuple + Emit<Self> {
    /// The tuple that is sent again and again.
    fn constant() -> Self;

    /// Emits it with `n` as its first word, so that no two are equal: a small one by value, a large one borrowed.
    fn emit(&self, n: u64, out: &mut Stream<Self>);

    /// The same with `n` as its message id.
    fn emit_with_id(&self, n: u64, out: &mut Stream<Self>);

    /// Reads it.
    fn touch(archived: &Self::Archived);
}

macro_rules! words {
    ($name:ident, $size:literal, $first:ident $(, $field:ident)*) => {
        /// Words only.
        #[derive(Tuple)]
        pub(crate) struct $name {
            $first: u64,
            $($field: u64,)*
        }

        const _: () = assert!(size_of::<<$name as Archive>::Archived>() == $size);

        impl Payload for $name {
            fn constant() -> Self {
                $name { $first: 0, $($field: 0x5157_5545_4c4c_5321,)* }
            }

            #[inline(always)]
            fn emit(&self, n: u64, out: &mut Stream<Self>) {
                out.emit($name { $first: n, $($field: self.$field,)* });
            }

            #[inline(always)]
            fn emit_with_id(&self, n: u64, out: &mut Stream<Self>) {
                out.emit_with_id(n, $name { $first: n, $($field: self.$field,)* });
            }

            #[inline(always)]
            fn touch(archived: &Self::Archived) {
                black_box(archived.$first.to_native());
                $(black_box(archived.$field.to_native());)*
            }
        }
    };
}

words!(Words32, 32, a, b, c, d);
words!(Words64, 64, a, b, c, d, e, f, g, h);
words!(Words128, 128, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);

macro_rules! bytes {
    ($name:ident, $borrowed:ident, $size:literal) => {
        /// A word and a byte array.
        #[derive(Tuple)]
        pub(crate) struct $name {
            n: u64,
            bytes: [u8; $size - 8],
        }

        const _: () = assert!(size_of::<<$name as Archive>::Archived>() == $size);

        impl Payload for $name {
            fn constant() -> Self {
                $name { n: 0, bytes: [0x5a; $size - 8] }
            }

            #[inline(always)]
            fn emit(&self, n: u64, out: &mut Stream<Self>) {
                out.emit($borrowed { n, bytes: &self.bytes });
            }

            #[inline(always)]
            fn emit_with_id(&self, n: u64, out: &mut Stream<Self>) {
                out.emit_with_id(n, $borrowed { n, bytes: &self.bytes });
            }

            #[inline(always)]
            fn touch(archived: &Self::Archived) {
                black_box(archived.n.to_native());
                // The array begins 8 bytes into the payload: this reads a word of every line of it.
                touch_lines(&archived.bytes[LINE - 8..]);
            }
        }
    };
}

bytes!(Bytes1K, Bytes1KRef, 1024);
bytes!(Bytes16K, Bytes16KRef, 16384);

/// Reads the first word of each 64 bytes.
#[inline(always)]
fn touch_lines(bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        if let Some(word) = line.first_chunk::<8>() {
            black_box(u64::from_le_bytes(*word));
        }
    }
}

/// Reads a floor's message of this size as `Payload::touch` reads a tuple.
#[inline(always)]
pub(crate) fn touch_bytes(bytes: &[u8]) {
    if bytes.len() <= WORDS_BYTES_MAX {
        for word in bytes.as_chunks::<8>().0 {
            black_box(u64::from_le_bytes(*word));
        }
    } else {
        touch_lines(bytes);
    }
}

/// The same for a message of words.
#[inline(always)]
pub(crate) fn touch_words<const W: usize>(words: &[u64; W]) {
    if W * 8 <= WORDS_BYTES_MAX {
        for word in words {
            black_box(*word);
        }
    } else {
        for line in words.chunks(LINE / 8) {
            black_box(line[0]);
        }
    }
}

/// Calls a generic function with the payload type of a size.
macro_rules! with_payload {
    ($size:expr, $call:ident $args:tt) => {
        match $size {
            32 => $call::<$crate::payload::Words32> $args,
            64 => $call::<$crate::payload::Words64> $args,
            128 => $call::<$crate::payload::Words128> $args,
            1024 => $call::<$crate::payload::Bytes1K> $args,
            16384 => $call::<$crate::payload::Bytes16K> $args,
            other => unreachable!("no row has a payload of {other} bytes"),
        }
    };
}

/// Calls a function that is generic over the number of words of a message.
macro_rules! with_words {
    ($size:expr, $call:ident $args:tt) => {
        match $size {
            32 => $call::<4> $args,
            64 => $call::<8> $args,
            128 => $call::<16> $args,
            1024 => $call::<128> $args,
            16384 => $call::<2048> $args,
            other => unreachable!("no row has a payload of {other} bytes"),
        }
    };
}

pub(crate) use {with_payload, with_words};
