//! The free room of a receive window as the kernel sees it: a buffer group of its own per stream, whose buffers are the eighths of the window, in
//! order and end to end, consumed incrementally (`IOU_PBUF_RING_INC`). So the bytes of the stream come to lie one behind the other, and nothing is
//! left for us to copy or to assemble.
//!
//! A chunk is the kernel's from `give` until bytes up to its end have arrived, then the reader's until it has consumed up to its end, and then it is
//! given again, for the positions one window further. So at most [`CHUNKS`] chunks are with the kernel, one per entry of the ring, and those cover
//! exactly positions from the tail to `given`, which is at most `head rounded down to a chunk + size`.
//!
//! One receive fills as many chunks as there is to receive ("bundles", Linux 6.10): every receive from TCP may send the peer an acknowledgement, so
//! eight small ones cost much more than a large one (per 16 KiB batch 7.3–10.9 µs of processor time by chunks, 4.9–5.4 by bundles).

use super::ops::{self, Kind, Target};
use crate::StreamId;
use crate::window::{CHUNKS, WindowWriter};
use io_uring::IoUring;
use io_uring::squeue::Entry;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Bytes of the ring of entries: a page, because the kernel wants it aligned to one, and pins it as a whole. From the allocator, not mapped: so the
/// sanitizers see one owner's end and the next one's begin.
const ENTRIES_BYTES: usize = 4096;
const ENTRIES: Layout = match Layout::from_size_align(ENTRIES_BYTES, ENTRIES_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is a layout"),
};
/// Consume buffers bit by bit (Linux 6.12). The crate keeps the kernel's name for itself.
const IOU_PBUF_RING_INC: u16 = 2;

const _: () = assert!(CHUNKS.is_power_of_two() && size_of::<BufRingEntry>() * CHUNKS <= ENTRIES_BYTES);

pub(super) struct Feed {
    entries: NonNull<BufRingEntry>,
    /// The buffer group: the stream's number.
    group: u16,
    chunk_bytes: usize,
    /// Whether one receive may fill several chunks.
    bundles: bool,
    /// Position up to which the kernel has the window: a multiple of the chunk.
    given: u64,
    registered: bool,
}

impl Feed {
    /// Registers the group of a stream with this window and gives all of the window to the kernel.
    ///
    /// # Errors
    /// EINVAL if the kernel does not know incremental buffers, ENOMEM if the page of entries exceeds the limit of locked memory.
    pub(super) fn new(ring: &IoUring, group: u16, window: &WindowWriter) -> io::Result<Feed> {
        // SAFETY: `alloc_zeroed` demands a layout of more than no bytes: a page.
        let entries = unsafe { alloc_zeroed(ENTRIES) };
        let entries = NonNull::new(entries.cast::<BufRingEntry>()).unwrap_or_else(|| handle_alloc_error(ENTRIES));
        let chunk_bytes = window.size() / CHUNKS;
        let mut feed = Feed {
            entries,
            group,
            chunk_bytes,
            bundles: ring.params().is_feature_recvsend_bundle(),
            given: 0,
            registered: false,
        };
        let at = entries.as_ptr() as u64;
        // SAFETY: `register_buf_ring_with_flags` demands a page-aligned address with room for the entries (a page of our own) that stays valid
        // until the group is unregistered or the ring gone: `unregister` comes before the drop, or else the value is leaked.
        unsafe { ring.submitter().register_buf_ring_with_flags(at, CHUNKS as u16, group, IOU_PBUF_RING_INC) }?;
        feed.registered = true;
        feed.give(window);
        Ok(feed)
    }

    /// Gives the kernel the chunks that the reader has consumed. How many.
    pub(super) fn give(&mut self, window: &WindowWriter) -> u64 {
        let chunk = self.chunk_bytes as u64;
        let limit = window.head() / chunk * chunk + window.size() as u64;
        if self.given >= limit {
            return 0;
        }
        let entries = self.entries.as_ptr();
        let new = (limit - self.given) / chunk;
        while self.given < limit {
            let id = self.buffer_at(self.given);
            let address = window.place_of(self.given) as u64;
            // SAFETY: The id is below `CHUNKS`, whose entries lie in the page, zeroed (a valid entry) and aligned. The kernel reads and
            // writes an entry only between the tail and its own head; this one is ours: at most `CHUNKS` chunks are given at a time, and the one
            // that had this place was filled to its end, for the reader has consumed up to there. In the first entry the tail lies in the
            // padding, which no setter touches. The chunk's bytes are free in the same way (`give` never passes `head + size`).
            unsafe {
                let entry = entries.add(usize::from(id));
                (*entry).set_addr(address);
                (*entry).set_len(self.chunk_bytes as u32);
                (*entry).set_bid(id);
            }
            self.given += chunk;
        }
        // SAFETY: `BufRingEntry::tail` demands the address of the first entry, initialised; the tail lies there, aligned, and lives as long as
        // the page. The kernel only reads it.
        unsafe {
            let tail = BufRingEntry::tail(entries).cast_mut();
            // Entries published since the beginning, wrapping. Release pairs with the kernel's acquire of the tail: the entries are visible
            // before it, and the reader's last look at the chunks is over.
            AtomicU16::from_ptr(tail).store((self.given / chunk) as u16, Ordering::Release);
        }
        new
    }

    /// Whether the kernel has room to receive into.
    pub(super) fn has_room(&self, window: &WindowWriter) -> bool {
        self.given > window.tail()
    }

    /// The standing receive into this window. It refers to the socket and the window, and to the entries.
    pub(super) fn receive(&self, target: Target, kind: Kind, id: StreamId) -> Entry {
        ops::recv_multi(target, self.group, self.bundles, kind, id)
    }

    /// Whether the kernel may have put `bytes` at the tail if it says that it used `buffer`, or began there: the buffer that is there, and not
    /// beyond what it was given.
    pub(super) fn agrees(&self, window: &WindowWriter, buffer: Option<u16>, bytes: usize) -> bool {
        let given = (self.given - window.tail()) as usize;
        let in_chunk = self.chunk_bytes - window.tail() as usize % self.chunk_bytes;
        let most = if self.bundles { given } else { given.min(in_chunk) };
        buffer == Some(self.buffer_at(window.tail())) && bytes <= most
    }

    /// The number of the buffer that `position` lies in, and of its entry.
    fn buffer_at(&self, position: u64) -> u16 {
        (position as usize / self.chunk_bytes % CHUNKS) as u16
    }

    /// Takes the buffers back from the kernel. No receive of the stream may be in flight.
    pub(super) fn unregister(&mut self, ring: &IoUring) -> io::Result<()> {
        if self.registered {
            ring.submitter().unregister_buf_ring(self.group)?;
            self.registered = false;
        }
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if self.registered {
            // The kernel still looks at the entries: better to lose a page than to share it.
            return;
        }
        // SAFETY: `dealloc` demands memory that `alloc_zeroed` gave for this layout, which nobody uses any more: the kernel has given the group
        // back, or never had it.
        unsafe { dealloc(self.entries.as_ptr().cast(), ENTRIES) };
    }
}
