//! Memory that two processes share: a memfd that both have mapped, read and written through atomic words and plain
//! copies. The plainest thing that crosses processes; what is done with it is up to the floors.
//!
//! Limits: Linux. Deliberately absent: huge pages, wake-ups, any check of what the peer wrote: both ends are this program.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Words that different processes write lie this far apart: a cache line and its prefetched neighbour.
pub(crate) const APART: usize = 128;

/// See the module.
pub(crate) struct Shared {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the value alone and lives until its drop, on whichever thread; what is read and written
// through it is atomic, or `unsafe` with the duty to exclude others.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Zeroed memory, and the descriptor by which another process can map it too.
    pub(crate) fn create(len: usize) -> io::Result<(Shared, OwnedFd)> {
        let fd = memfd_create("squall-bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, len as u64)?;
        Ok((Shared::open(&fd, len)?, fd))
    }

    /// Maps what another process created with the same `len`. Every page is touched: the first access costs no fault.
    pub(crate) fn open(fd: impl AsFd, len: usize) -> io::Result<Shared> {
        if rustix::fs::fstat(fd.as_fd())?.st_size != len as i64 {
            return Err(io::Error::other("the shared memory has another size than expected"));
        }
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: `mmap` without a fixed address demands nothing of existing memory; the length was checked against the
        // file's, so no access within it faults.
        let start = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags, fd, 0)? };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave no memory"))?;
        Ok(Shared { start, len })
    }

    /// The word at a byte offset.
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: `place` has checked bounds and alignment; an atomic may be shared with whoever else has it mapped.
        unsafe { self.place::<AtomicU64>(at).as_ref() }
    }

    /// Half a word, as futexes are.
    pub(crate) fn half_word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as in `word`.
        unsafe { self.place::<AtomicU32>(at).as_ref() }
    }

    /// Where a `T` at a byte offset lies. Panics outside of the memory, and where a `T` would be misaligned.
    #[inline(always)]
    pub(crate) fn place<T>(&self, at: usize) -> NonNull<T> {
        assert!(
            at.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len) && at.is_multiple_of(align_of::<T>())
        );
        // SAFETY: `at` lies within the mapping. A page is more aligned than any `T` here, so `at` decides.
        unsafe { self.start.add(at).cast() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length, unmapped once; references into it borrow `self`, and users of `place`
        // promise not to keep what it gave. It fails only for arguments that are no mapping.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let (a, fd) = Shared::create(4096).unwrap();
        let b = Shared::open(&fd, 4096).unwrap();
        a.word(APART).store(7, Ordering::Release);
        assert_eq!(b.word(APART).load(Ordering::Acquire), 7);
        assert!(Shared::open(&fd, 8192).is_err(), "another size is refused");
    }

    #[test]
    #[should_panic]
    fn a_place_beyond_the_end_is_refused() {
        Shared::create(4096).unwrap().0.place::<[u64; 2]>(4088);
    }
}
