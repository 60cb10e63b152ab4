//! The memory that two sides share, on the heap of one process or mapped from a descriptor by two: one type, one code path.
//!
//! A [`Memory`] is zeroed bytes, reached by offset: as atomic words, and as plain bytes whose access the ring's protocol orders. Every access is
//! checked against the size. Who may touch what and when is said by the users (`bytes.rs`, `credit.rs`, `sleep.rs`, `shm.rs`); this module only
//! makes the accesses.
//!
//! Under `--cfg loom` the words are loom's, and plain accesses are told to loom line by line, so that a missing `Release` or `Acquire` is found as
//! a data race. The models are in `models.rs`; `make loom` runs them.
//!
//! In tests a thread may be told to stop at its n-th store ([`stop`]): what is in memory then is what a process killed there leaves.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicU64, Ordering, fence},
};

/// Bytes per line: the alignment of records, and the cache line of the machines we run on.
pub(crate) const LINE: usize = 64;
/// What two cores write in turn lies this far apart: processors fetch lines in pairs.
pub(crate) const PAD: usize = 128;
const WORD: usize = 8;

enum Backing {
    Heap(Layout),
    Mapping,
}

/// See the module.
pub(crate) struct Memory {
    base: NonNull<u8>,
    bytes: usize,
    backing: Backing,
    /// One per word.
    #[cfg(loom)]
    words: Box<[AtomicU64]>,
    /// One per line: loom's view of who touched it when.
    #[cfg(loom)]
    watch: Box<[loom::cell::UnsafeCell<()>]>,
}

// SAFETY: `Send` demands that the memory may be used and freed by another thread: it is owned, and neither the heap nor a mapping is bound to a
// thread. `Sync` demands that shared access is no data race: words are atomics, and plain bytes are reached through unsafe functions only, whose
// callers promise that no byte is written while another thread reads or writes it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` of zeros, a multiple of [`PAD`]. The allocator takes large blocks from the kernel, which places pages at first touch.
    pub(crate) fn heap(bytes: usize) -> Memory {
        assert!(bytes > 0 && bytes.is_multiple_of(PAD), "shared memory is made of whole pairs of lines");
        let layout = Layout::from_size_align(bytes, PAD).expect("far below the address space");
        // SAFETY: `alloc_zeroed` demands a size that is not zero (asserted above).
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        Memory::over(base, bytes, Backing::Heap(layout))
    }

    /// Maps the first `bytes` (a multiple of [`PAD`]) of a memfd, shared and writable. The caller has made sure that the file has that many
    /// bytes and cannot shrink: an access beyond its end would raise SIGBUS.
    pub(crate) fn map(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<Memory> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        assert!(bytes > 0 && bytes.is_multiple_of(PAD), "shared memory is made of whole pairs of lines");
        // SAFETY: `mmap` demands that no mapping in use is replaced: without MAP_FIXED the kernel chooses a free place.
        let base =
            unsafe { mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address zero for us");
        Ok(Memory::over(base, bytes, Backing::Mapping))
    }

    fn over(base: NonNull<u8>, bytes: usize, backing: Backing) -> Memory {
        Memory {
            base,
            bytes,
            backing,
            #[cfg(loom)]
            words: (0..bytes / WORD).map(|_| AtomicU64::new(0)).collect(),
            #[cfg(loom)]
            watch: (0..bytes / LINE).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    /// Asks for huge pages under a mapping; whether the kernel took the wish.
    pub(crate) fn advise_huge(&self) -> bool {
        // SAFETY: `madvise` demands a range of this process whose content the advice does not destroy: it is our mapping, and this advice only
        // concerns the size of its pages.
        let advised =
            unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.bytes, rustix::mm::Advice::LinuxHugepage) };
        advised.is_ok()
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(WORD) && at < self.bytes, "word outside of the shared memory");
        #[cfg(loom)]
        return &self.words[at / WORD];
        #[cfg(not(loom))]
        // SAFETY: `from_ptr` demands a pointer aligned to 8 (base is aligned to 64 or more, `at` to 8) and valid for reads and writes while the
        // reference lives (inside the memory by the assertion, whose size is a multiple of 8 too; it lives as long as `self`), and that no plain
        // access to these bytes is unordered with it (the contract of `write` and `read`).
        unsafe {
            AtomicU64::from_ptr(self.base.as_ptr().add(at).cast())
        }
    }

    #[inline]
    pub(crate) fn load(&self, at: usize, order: Ordering) -> u64 {
        self.word(at).load(order)
    }

    /// A word that was written as plain bytes and published since; loom, whose words are apart from the bytes, reads it there.
    #[inline]
    pub(crate) fn load_plain(&self, at: usize) -> u64 {
        let word = self.word(at);
        #[cfg(not(loom))]
        return word.load(Ordering::Relaxed);
        #[cfg(loom)]
        {
            let _ = word;
            // SAFETY: the models read published headers only, which the calls of `note_read` check.
            let bytes = unsafe { self.read(at, WORD) };
            u64::from_ne_bytes(bytes.try_into().expect("eight bytes were asked for"))
        }
    }

    #[inline]
    pub(crate) fn store(&self, at: usize, value: u64, order: Ordering) {
        #[cfg(all(test, not(loom)))]
        stop::step();
        self.word(at).store(value, order);
    }

    #[inline]
    pub(crate) fn swap(&self, at: usize, value: u64, order: Ordering) -> u64 {
        #[cfg(all(test, not(loom)))]
        stop::step();
        self.word(at).swap(value, order)
    }

    #[inline]
    pub(crate) fn fetch_add(&self, at: usize, by: u64, order: Ordering) -> u64 {
        self.word(at).fetch_add(by, order)
    }

    /// Copies `from` to the bytes from `at` on.
    ///
    /// # Safety
    /// Nobody else reads or writes these bytes until the caller has published them, and no reference into them is alive.
    #[inline]
    pub(crate) unsafe fn write(&self, at: usize, from: &[u8]) {
        assert!(at <= self.bytes && from.len() <= self.bytes - at, "write outside of the shared memory");
        #[cfg(loom)]
        self.each_line(at, from.len(), |cell| cell.with_mut(|_| ()));
        #[cfg(all(test, not(loom)))]
        let from = stop::torn(from);
        // SAFETY: `copy_from_nonoverlapping` demands `from.len()` readable bytes at the source (a slice), as many writable bytes at the target
        // (the assertion above), no overlap (nobody holds a reference into these bytes, by this function's contract) and no race (by the same).
        unsafe { self.base.as_ptr().add(at).copy_from_nonoverlapping(from.as_ptr(), from.len()) }
        #[cfg(all(test, not(loom)))]
        stop::step();
    }

    /// The `len` bytes from `at` on, in place.
    ///
    /// # Safety
    /// These bytes have been published to the caller, and nobody writes them while the slice is alive.
    #[inline]
    pub(crate) unsafe fn read(&self, at: usize, len: usize) -> &[u8] {
        assert!(at <= self.bytes && len <= self.bytes - at, "read outside of the shared memory");
        self.note_read(at, len);
        // SAFETY: `from_raw_parts` demands `len` initialised, readable bytes in one allocation (the assertion above; the memory was zeroed when
        // made), a non-null pointer aligned to 1, and that they do not change while the slice lives (this function's contract).
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(at), len) }
    }

    /// Copies the bytes from `at` (a multiple of 8) on out. They may change meanwhile: each word is then an old or a new one, and nothing worse.
    pub(crate) fn copy_out(&self, at: usize, to: &mut [u8]) {
        assert!(at <= self.bytes && to.len() <= self.bytes - at, "read outside of the shared memory");
        #[cfg(loom)]
        {
            // loom's words do not hold the plain bytes; its models copy what is ordered.
            // SAFETY: the models call this on published records only.
            to.copy_from_slice(unsafe { self.read(at, to.len()) });
        }
        #[cfg(not(loom))]
        for (place, piece) in to.chunks_mut(WORD).enumerate() {
            // The last word may reach beyond the piece, not beyond the memory: that is made of whole words.
            let word = self.word(at + place * WORD).load(Ordering::Relaxed).to_ne_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }

    /// Tells the processor that the lines of `[at, at + len)` will be read soon.
    #[inline]
    pub(crate) fn prefetch_read(&self, at: usize, len: usize) {
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        for line in (at..(at + len).min(self.bytes)).step_by(LINE) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: `_mm_prefetch` demands SSE, which every x86-64 has, and reads nothing in the sense of the language; the address is inside.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.base.as_ptr().add(line).cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom))))]
        let _ = (at, len);
    }

    /// Tells loom that these bytes are being read; nothing otherwise.
    #[inline]
    pub(crate) fn note_read(&self, _at: usize, _len: usize) {
        #[cfg(loom)]
        self.each_line(_at, _len, |cell| cell.with(|_| ()));
    }

    #[cfg(loom)]
    fn each_line(&self, at: usize, len: usize, f: impl Fn(&loom::cell::UnsafeCell<()>)) {
        self.watch[at / LINE..(at + len).div_ceil(LINE)].iter().for_each(f);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.backing {
            // SAFETY: `dealloc` demands a block of this allocator with this layout (made in `heap`), of which nothing is used afterwards (`self`
            // owns it and ends; references into it borrow `self`).
            Backing::Heap(layout) => unsafe { dealloc(self.base.as_ptr(), layout) },
            Backing::Mapping => {
                // SAFETY: `munmap` demands that nothing in the range is used afterwards: as above. The range is the one that `map` made.
                let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
                debug_assert!(unmapped.is_ok(), "our own mapping can be undone");
            }
        }
    }
}

/// Stops a thread at its n-th store, by a panic: tests see what a producer leaves that is killed there.
#[cfg(all(test, not(loom)))]
pub(crate) mod stop {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// The payload of the panic.
    pub(crate) struct Stopped;

    /// From now on this thread makes `stores` more; the next one stops it. `None`: as many as it likes.
    pub(crate) fn after(stores: Option<u64>) {
        LEFT.set(stores);
    }

    /// A store is due.
    pub(super) fn step() {
        match LEFT.get() {
            None => {}
            Some(0) => {
                // The ends of the ring are dropped while unwinding; a killed process drops nothing.
                LEFT.set(Some(u64::MAX));
                std::panic::resume_unwind(Box::new(Stopped));
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }

    /// What gets written of a copy that is stopped in its middle.
    pub(super) fn torn(from: &[u8]) -> &[u8] {
        match LEFT.get() {
            Some(0) => &from[..from.len() / 2],
            _ => from,
        }
    }
}
