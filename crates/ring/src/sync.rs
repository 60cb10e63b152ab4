//! The atomics and the shared memory of this crate, behind one shim.
//!
//! Normally these are `std`'s. Under `--cfg loom` they are loom's, and [`Lines`] also tells loom which lines are read and written, so that a
//! missing `Release` or `Acquire` is found as a data race. `models.rs` holds the models. loom is not a dependency of this workspace yet; to run
//! them add to this crate's manifest
//!
//! ```toml
//! [target.'cfg(loom)'.dependencies]
//! loom = "0.7"
//! ```
//!
//! and run `RUSTFLAGS="--cfg loom" cargo test --release -p squall-ring models`.

use std::cell::UnsafeCell;

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};

/// Bytes per line: the alignment of records, and the cache line of the machines we run on.
pub(crate) const LINE: usize = 64;

#[repr(C, align(64))]
struct Line([u8; LINE]);

const _: () = assert!(size_of::<UnsafeCell<Line>>() == LINE && align_of::<UnsafeCell<Line>>() == LINE);

/// Memory that two threads write and read at different places at any one time. Who may touch which bytes is the ring's protocol; this type only
/// makes the accesses and checks their bounds.
pub(crate) struct Lines {
    cells: Box<[UnsafeCell<Line>]>,
    /// One per line: loom's view of who touched it when.
    #[cfg(loom)]
    watch: Box<[loom::cell::UnsafeCell<()>]>,
}

// SAFETY: `Sync` demands that shared access from several threads is no data race. All access goes through the unsafe functions below, whose
// callers promise that no byte is written while another thread reads or writes it.
unsafe impl Sync for Lines {}

impl Lines {
    /// `bytes` is a multiple of [`LINE`]. Zeroed lazily by the kernel: pages are placed at first touch, so on the node of the thread that
    /// pushes first.
    pub(crate) fn new(bytes: usize) -> Lines {
        assert!(bytes.is_multiple_of(LINE), "a ring is made of whole lines");
        let zeroed = Box::<[UnsafeCell<Line>]>::new_zeroed_slice(bytes / LINE);
        // SAFETY: `assume_init` demands that every element is a valid `UnsafeCell<Line>`; it is an array of bytes, for which zeros are valid.
        let cells = unsafe { zeroed.assume_init() };
        Lines {
            cells,
            #[cfg(loom)]
            watch: (0..bytes / LINE).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.cells.len() * LINE
    }

    fn base(&self) -> *mut u8 {
        // One pointer derived from the whole slice, so that it may reach every line of it.
        UnsafeCell::raw_get(self.cells.as_ptr()).cast()
    }

    /// Copies `from` to the bytes from `at` on.
    ///
    /// # Safety
    /// No other thread reads or writes these bytes until the caller has published them, and no reference into them is alive.
    #[inline]
    pub(crate) unsafe fn write(&self, at: usize, from: &[u8]) {
        assert!(at <= self.len() && from.len() <= self.len() - at, "write outside of the ring");
        #[cfg(loom)]
        self.each_line(at, from.len(), |cell| cell.with_mut(|_| ()));
        // SAFETY: `copy_nonoverlapping` demands `from.len()` readable bytes at the source (a slice), as many writable bytes at the target (the
        // assertion above; the cells permit writes through a shared reference), no overlap (nobody holds a reference into these bytes, by this
        // function's contract) and no race (by the same contract).
        unsafe { self.base().add(at).copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }

    /// The `len` bytes from `at` on, in place.
    ///
    /// # Safety
    /// These bytes have been published to the caller, and nobody writes them while the slice is alive.
    #[inline]
    pub(crate) unsafe fn read(&self, at: usize, len: usize) -> &[u8] {
        assert!(at <= self.len() && len <= self.len() - at, "read outside of the ring");
        self.note_read(at, len);
        // SAFETY: `from_raw_parts` demands `len` initialised, readable bytes in one allocation (the assertion above; the memory was zeroed when
        // made), a non-null pointer aligned to 1, and that they do not change while the slice lives (this function's contract).
        unsafe { std::slice::from_raw_parts(self.base().add(at), len) }
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
