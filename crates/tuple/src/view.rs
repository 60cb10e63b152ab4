//! Reading an archived tuple in place.

#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use crate::emit::{Emit, Full, TupleWriter};
use crate::key::Key;
use crate::schema::{InvalidTuple, Tuple};

/// An archived tuple of type `T` and its bytes: `Copy`, dereferences to `T::Archived`, and can be emitted unchanged.
///
/// Invariant: `bytes` is an 8-aligned, valid archive of `T` with the root at its end.
pub struct TupleRef<'a, T: Tuple> {
    bytes: &'a [u8],
    of: PhantomData<fn() -> T>,
}

impl<T: Tuple> Clone for TupleRef<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Tuple> Copy for TupleRef<'_, T> {}

impl<'a, T: Tuple> TupleRef<'a, T> {
    /// # Safety
    ///
    /// `bytes` must start at an 8-aligned address and be an archive of `T` that a push of `T` wrote or that
    /// [`Tuple::validate`] accepted.
    #[inline(always)]
    pub(crate) unsafe fn new(bytes: &'a [u8]) -> TupleRef<'a, T> {
        debug_assert!(bytes.len() >= size_of::<T::Archived>());
        TupleRef { bytes, of: PhantomData }
    }

    /// Checks bytes that did not come out of a [`Batch`](crate::Batch).
    ///
    /// # Errors
    ///
    /// [`InvalidTuple`] if the bytes are not 8-aligned or not an archive of `T`.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<TupleRef<'a, T>, InvalidTuple> {
        if !(bytes.as_ptr() as usize).is_multiple_of(8) {
            return Err(InvalidTuple::new("the archive does not start at a multiple of 8"));
        }
        T::validate(bytes)?;
        // SAFETY: aligned and accepted just now.
        Ok(unsafe { TupleRef::new(bytes) })
    }

    /// The archive: root at the end, relative pointers within.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The archived value, for as long as the batch lives (`Deref` lends it only for as long as this view).
    #[inline(always)]
    pub fn get(&self) -> &'a T::Archived {
        // SAFETY: by the invariant of the type the last bytes are a valid, aligned `T::Archived` that lives for `'a`.
        unsafe {
            let root = self.bytes.len() - size_of::<T::Archived>();
            &*self.bytes.as_ptr().add(root).cast::<T::Archived>()
        }
    }

    /// The owned tuple.
    #[inline]
    pub fn to_owned(&self) -> T {
        T::to_owned(self.get())
    }

    /// The key of a field; [`Key::Null`] if the field does not exist or its type cannot be a key.
    #[inline]
    pub fn key(&self, field: u16) -> Key<'a> {
        T::key_of(self.get(), field)
    }
}

impl<T: Tuple> Deref for TupleRef<'_, T> {
    type Target = T::Archived;

    #[inline(always)]
    fn deref(&self) -> &T::Archived {
        self.get()
    }
}

impl<T: Tuple> fmt::Debug for TupleRef<'_, T>
where
    T::Archived: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

// SAFETY: copies a valid archive of `T` as a whole to the 8-aligned start of the payload.
unsafe impl<T: Tuple> Emit<T> for TupleRef<'_, T> {
    #[inline]
    fn write(&self, w: &mut TupleWriter) -> Result<(), Full> {
        w.archive(self.bytes)
    }
    #[inline]
    fn key(&self, field: u16) -> Key<'_> {
        T::key_of(self.get(), field)
    }
}
