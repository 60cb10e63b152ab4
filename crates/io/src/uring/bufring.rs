//! The receive buffers of a driver: a ring of free buffers that the kernel takes from, and their memory.
//!
//! One mapping: a page of ring entries, then the buffers, 64 KiB each. A buffer is the kernel's from `recycle` until a completion names it, and
//! ours from then until it is recycled. [`Lent`] is that second time as a value: dropping it recycles, also when the receiver panics.
//!
//! Deliberately absent: incremental consumption. The bytes are copied out before the next completion is looked at, so a buffer is free again
//! within a microsecond and there is nothing to gain from filling it up.

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::ops::Deref;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU16, Ordering};

/// Bytes of one receive buffer, and so of the largest piece handed to a sink.
pub(super) const BUF_BYTES: usize = 64 << 10;
/// Most buffers of a driver: 1 MiB.
pub(super) const BUFS_MAX: u16 = 16;
/// Bytes before the first buffer: the ring of entries, and a whole page because the kernel wants it aligned to one.
const ENTRIES_BYTES: usize = 4096;
/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

const _: () = assert!(size_of::<BufRingEntry>() * BUFS_MAX as usize <= ENTRIES_BYTES);

pub(super) struct BufRing {
    /// Start of the mapping; the ring of entries lies here.
    base: NonNull<u8>,
    /// Buffers, a power of two up to [`BUFS_MAX`]. Buffer ids are below it.
    count: u16,
    /// Entries published since the beginning, wrapping; the entry's place is this modulo `count`.
    tail: u16,
    registered: bool,
}

impl BufRing {
    /// `count` is a power of two.
    pub(super) fn new(count: u16) -> io::Result<BufRing> {
        assert!(count.is_power_of_two() && count <= BUFS_MAX, "{count} receive buffers");
        // SAFETY: `mmap_anonymous` demands that the mapping replaces none that is in use: the address is null and MAP_FIXED is not set, so the
        // kernel chooses free space. The result is ours alone.
        let base = unsafe {
            mmap_anonymous(null_mut(), mapped_bytes(count), ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        let base = NonNull::new(base.cast()).expect("mmap returns an error, not null");
        Ok(BufRing { base, count, tail: 0, registered: false })
    }

    /// Registers the ring of entries and gives all buffers to the kernel. Once.
    pub(super) fn register(&mut self, ring: &IoUring) -> io::Result<()> {
        assert!(!self.registered);
        let address = self.base.as_ptr() as u64;
        // SAFETY: `register_buf_ring_with_flags` demands a page-aligned address with room for `count` entries (the mapping's first page) that
        // stays valid until the group is unregistered or the ring gone: `unregister` comes before the unmapping in the driver's drop, or else
        // the mapping is leaked.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, self.count, GROUP, 0) }?;
        self.registered = true;
        (0..self.count).for_each(|id| self.recycle(id));
        Ok(())
    }

    /// Takes the buffers back from the kernel. No receive may be in flight.
    pub(super) fn unregister(&mut self, ring: &IoUring) -> io::Result<()> {
        if self.registered {
            ring.submitter().unregister_buf_ring(GROUP)?;
            self.registered = false;
        }
        Ok(())
    }

    /// The first `len` bytes of buffer `id`, which a completion has just named.
    pub(super) fn lend(&mut self, id: u16, len: usize) -> Lent<'_> {
        assert!(id < self.count && len <= BUF_BYTES, "completion names buffer {id} of {} with {len} bytes", self.count);
        Lent { ring: self, id, len }
    }

    fn buf(&self, id: u16) -> NonNull<u8> {
        // SAFETY: `add` demands that the result stays in the allocation: `id < count` (checked by `lend`, or from `register`'s range), and the
        // mapping has `count` buffers after the entries.
        unsafe { self.base.add(ENTRIES_BYTES + usize::from(id) * BUF_BYTES) }
    }

    /// Gives buffer `id` to the kernel.
    fn recycle(&mut self, id: u16) {
        let entries = self.base.cast::<BufRingEntry>().as_ptr();
        let address = self.buf(id).as_ptr() as u64;
        // SAFETY: The place is below `count`, whose entries lie in the first page, zeroed (a valid entry) and aligned. The kernel reads an entry
        // only after the tail passed it, and this one is free: there are no more ids than entries, and this id is ours. In the first entry the
        // tail lies in the padding, which no setter touches; `BufRingEntry::tail` demands the address of the first entry, initialised.
        unsafe {
            let entry = entries.add(usize::from(self.tail & (self.count - 1)));
            (*entry).set_addr(address);
            (*entry).set_len(BUF_BYTES as u32);
            (*entry).set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entries).cast_mut();
            // Pairs with the kernel's acquire of the tail: the entry is visible before it. Also ends our reads of the buffer.
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Keeps the mapping for ever: the kernel may still write to it.
    pub(super) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for BufRing {
    fn drop(&mut self) {
        // SAFETY: `munmap` demands that nobody uses the mapping any more: no `Lent` is alive (it borrows `self`), and the kernel has given the
        // buffers back (`unregister`, after all receives have completed) or never had them.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), mapped_bytes(self.count)) };
        debug_assert!(unmapped.is_ok(), "unmapping what was mapped: {unmapped:?}");
    }
}

fn mapped_bytes(count: u16) -> usize {
    ENTRIES_BYTES + usize::from(count) * BUF_BYTES
}

/// A filled buffer on loan from the kernel.
pub(super) struct Lent<'a> {
    ring: &'a mut BufRing,
    id: u16,
    len: usize,
}

impl Deref for Lent<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `from_raw_parts` demands `len` initialised bytes (zeroed when mapped, `len <= BUF_BYTES` by `lend`) that nobody writes meanwhile:
        // the completion made the buffer ours, and the kernel gets it back only when this value is dropped.
        unsafe { std::slice::from_raw_parts(self.ring.buf(self.id).as_ptr(), self.len) }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.ring.recycle(self.id);
    }
}
