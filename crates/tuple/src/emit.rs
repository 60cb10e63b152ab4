//! Emitting: how a value becomes an archive in a batch buffer.
//!
//! A [`TupleWriter`] is rkyv's serializer over the free end of one [`BatchBuf`](crate::BatchBuf). Positions count from
//! the start of the tuple's payload, which is 8-aligned in memory, so an archive can be copied to any other 8-aligned
//! place. The root is the last thing in the archive.
//!
//! Deliberately absent: pointer sharing (`Rc` and `Arc` do not serialize).

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::mem::{MaybeUninit, size_of};
use std::ptr::NonNull;

use rkyv::rancor::{Fallible, Source, Trace};
use rkyv::ser::{Allocator, Positional, Writer};
use rkyv::{Place, Serialize};

use crate::key::Key;
use crate::schema::Tuple;

/// The buffer has no room for the tuple (or for the record). The buffer is unchanged: send it, then push again into an
/// empty one; if it does not fit there either, into a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch buffer has no room for the tuple: send the batch first, or use a larger buffer")
    }
}

impl std::error::Error for Full {}

// The only failures of serializing are "no room" and "a string of a gigabyte", which never fits either: so the cause
// rkyv gives is dropped.
impl Trace for Full {
    fn trace<R: fmt::Debug + fmt::Display + Send + Sync + 'static>(self, _: R) -> Self {
        self
    }
}

impl Source for Full {
    fn new<T: std::error::Error + Send + Sync + 'static>(_: T) -> Self {
        Full
    }
}

/// Words of scratch memory on the stack of each push: rkyv keeps the resolvers of a list there (4 bytes a string, so a
/// list of up to 256 strings). Longer lists take their scratch from the global allocator.
const SCRATCH_WORDS: usize = 128;

pub(crate) type Scratch = [MaybeUninit<u64>; SCRATCH_WORDS];

/// The serializer that writes one archive into a batch buffer. Only a push makes one.
///
/// `P` makes the type unsized, so that safe code cannot swap two writers and so write through one into the buffer of the
/// other. In signatures it is always plain `TupleWriter`.
pub struct TupleWriter<P: ?Sized = [u8]> {
    /// Start of the payload; 8-aligned.
    base: NonNull<u8>,
    /// Bytes written. Invariant: `pos <= end`.
    pos: usize,
    /// Bytes that may be written; a multiple of 8. All of them are initialized memory.
    end: usize,
    /// Start of the scratch words.
    scratch: NonNull<MaybeUninit<u64>>,
    /// Scratch words in use. Invariant: `used <= SCRATCH_WORDS`.
    used: usize,
    _unsized: P,
}

impl TupleWriter<[u8; 0]> {
    /// # Safety
    ///
    /// For the life of the writer: `base` is 8-aligned, `end` (a multiple of 8) initialized bytes from it are writable
    /// and reached through no other path, and `scratch` is not used otherwise.
    #[inline(always)]
    pub(crate) unsafe fn new(base: NonNull<u8>, end: usize, scratch: &mut Scratch) -> Self {
        debug_assert!((base.as_ptr() as usize).is_multiple_of(8) && end.is_multiple_of(8));
        // SAFETY: a reference is not null.
        let scratch = unsafe { NonNull::new_unchecked(scratch.as_mut_ptr()) };
        TupleWriter { base, pos: 0, end, scratch, used: 0, _unsized: [] }
    }

    /// Zeroes the padding up to the next multiple of 8. Returns the padded length and the length of the padding.
    #[inline(always)]
    pub(crate) fn finish(mut self) -> (usize, usize) {
        let archive = self.pos;
        let writer: &mut TupleWriter = &mut self;
        writer.pad_to(8);
        (self.pos, self.pos - archive)
    }
}

impl TupleWriter {
    /// Writes `value` as the root of the archive: what it refers to, then, aligned, the archived value itself, resolved in
    /// place. For a value of fixed size this is one check for room and the stores of its fields.
    ///
    /// # Errors
    ///
    /// [`Full`] if the buffer has no room; the push is then undone as a whole.
    #[inline(always)]
    pub fn root<V: Serialize<TupleWriter>>(&mut self, value: &V) -> Result<(), Full> {
        const { assert!(align_of::<V::Archived>() <= 8, "an archived tuple needs an alignment of at most 8") };
        let resolver = value.serialize(self)?;
        self.pad_to(align_of::<V::Archived>());
        let size = size_of::<V::Archived>();
        if self.end - self.pos < size {
            return Err(Full);
        }
        // SAFETY: `pos + size <= end`, so the bytes are ours (`new`); they are aligned, because `base` is 8-aligned and
        // `pos` was padded to the alignment, which is at most 8; they are initialized, because all bytes up to `end` are.
        // Zeroing first keeps what older tuples left in this memory out of the padding; a type that may be copied as it
        // is has none.
        let place = unsafe {
            let at = self.base.as_ptr().add(self.pos).cast::<V::Archived>();
            if const { !V::COPY_OPTIMIZATION.is_enabled() } {
                at.write_bytes(0, 1);
            }
            Place::new_unchecked(self.pos, at)
        };
        value.resolve(resolver, place);
        self.pos += size;
        Ok(())
    }

    /// Copies a finished archive, which must be the first and only thing written.
    ///
    /// # Panics
    ///
    /// If something was written before: relative pointers survive a copy only to an 8-aligned place.
    #[inline]
    pub(crate) fn archive(&mut self, bytes: &[u8]) -> Result<(), Full> {
        assert!(self.pos == 0, "an archive must start its tuple");
        Writer::write(self, bytes)
    }

    /// Zero bytes up to the next multiple of `align` (1, 2, 4 or 8).
    #[inline(always)]
    fn pad_to(&mut self, align: usize) {
        let padded = (self.pos + align - 1) & !(align - 1);
        if padded != self.pos {
            debug_assert!(padded <= self.end);
            // SAFETY: `end` is a multiple of 8 and above `pos`, which is not a multiple of `align`, so `padded <= end` and
            // the bytes from `pos` to `padded` are ours.
            unsafe { self.base.as_ptr().add(self.pos).write_bytes(0, padded - self.pos) };
            self.pos = padded;
        }
    }
}

impl Fallible for TupleWriter {
    type Error = Full;
}

impl Positional for TupleWriter {
    #[inline]
    fn pos(&self) -> usize {
        self.pos
    }
}

impl Writer<Full> for TupleWriter {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.end - self.pos < bytes.len() {
            return Err(Full);
        }
        // SAFETY: `pos + bytes.len() <= end`, so the target is ours; `bytes` is a shared slice, so it does not overlap memory
        // that only this writer reaches.
        unsafe {
            self.base.as_ptr().add(self.pos).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.pos += bytes.len();
        Ok(())
    }
}

// SAFETY: `push_alloc` gives either scratch words that no earlier block in use covers (blocks are stacked from the start
// and `used` bounds them), or a fresh block of the global allocator. Both fit the layout.
unsafe impl Allocator<Full> for TupleWriter {
    #[inline]
    unsafe fn push_alloc(&mut self, layout: Layout) -> Result<NonNull<[u8]>, Full> {
        let words = layout.size().div_ceil(8);
        if words <= SCRATCH_WORDS - self.used && layout.align() <= 8 {
            // SAFETY: `used + words <= SCRATCH_WORDS`, so the block lies within the scratch array (`new`).
            let block = unsafe { self.scratch.add(self.used) };
            self.used += words;
            return Ok(NonNull::slice_from_raw_parts(block.cast(), layout.size()));
        }
        // SAFETY: the caller of `push_alloc` gives a layout of non-zero size.
        let block = unsafe { std::alloc::alloc(layout) };
        match NonNull::new(block) {
            Some(block) => Ok(NonNull::slice_from_raw_parts(block, layout.size())),
            None => std::alloc::handle_alloc_error(layout),
        }
    }

    #[inline]
    unsafe fn pop_alloc(&mut self, ptr: NonNull<u8>, layout: Layout) -> Result<(), Full> {
        let offset = (ptr.as_ptr() as usize).wrapping_sub(self.scratch.as_ptr() as usize);
        if offset < SCRATCH_WORDS * 8 {
            self.used = offset / 8;
        } else {
            // SAFETY: not in the scratch array, so `push_alloc` took it from the global allocator with this very layout
            // (the caller's promise).
            unsafe { std::alloc::dealloc(ptr.as_ptr(), layout) };
        }
        Ok(())
    }
}

/// What can be emitted on a stream of `T`: an owned `T`, its borrowed twin, an incoming [`TupleRef`](crate::TupleRef), and
/// references to those.
///
/// # Safety
///
/// `write` must, when it returns `Ok`, have written exactly one archive of `T` whose root is the last thing in it: by
/// [`TupleWriter::root`] of a value whose `Archived` is `T::Archived`, and nothing after it. The derive does this; there is
/// no reason to write an `impl` by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be emitted on a stream of `{T}`",
    label = "this stream carries `{T}`",
    note = "a stream of `{T}` takes `{T}`, `&{T}`, its borrowed twin `{T}Ref`, or an incoming tuple of `{T}` unchanged"
)]
pub unsafe trait Emit<T: Tuple> {
    /// Writes the archive.
    ///
    /// # Errors
    ///
    /// [`Full`] if the buffer has no room.
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full>;

    /// The key of a field; [`Key::Null`] if the field does not exist or its type cannot be a key.
    fn key(&self, field: u16) -> Key<'_>;
}

// SAFETY: the same bytes as the referent writes.
unsafe impl<T: Tuple, E: Emit<T> + ?Sized> Emit<T> for &E {
    #[inline(always)]
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full> {
        E::write(self, w)
    }
    #[inline(always)]
    fn key(&self, field: u16) -> Key<'_> {
        E::key(self, field)
    }
}
