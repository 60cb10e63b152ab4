//! The memory of a batch buffer.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::BatchBuf;

/// Zeroed, 64-aligned memory of fixed size.
pub(super) struct Memory {
    pub(super) at: NonNull<u8>,
    /// Invariant: a multiple of 64, at least 128, at most `BatchBuf::MAX_CAPACITY`.
    pub(super) bytes: usize,
}

impl Memory {
    const ALIGN: usize = 64;

    fn layout(bytes: usize) -> Layout {
        // Neither the alignment nor the size (at most 1 GiB) can be refused.
        Layout::from_size_align(bytes, Self::ALIGN).expect("64 is a power of two and the size is bounded")
    }

    pub(super) fn new(bytes: usize) -> Memory {
        assert!(bytes <= BatchBuf::MAX_CAPACITY, "a batch buffer of {bytes} bytes exceeds the limit of 1 GiB");
        let bytes = bytes.max(128).next_multiple_of(Self::ALIGN);
        let layout = Self::layout(bytes);
        // SAFETY: the size is not 0.
        let at = unsafe { alloc_zeroed(layout) };
        match NonNull::new(at) {
            Some(at) => Memory { at, bytes },
            None => handle_alloc_error(layout),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and dropped once.
        unsafe { dealloc(self.at.as_ptr(), Self::layout(self.bytes)) };
    }
}
