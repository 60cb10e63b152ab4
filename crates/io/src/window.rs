//! The receive window of a stream: memory mapped twice, back to back, so that what has arrived and is not yet consumed is one slice, also where
//! it wraps.
//!
//! ```text
//!  positions   0 ───────────── head ════ unread ════ tail ──── room ──── head + size
//!  addresses   │ first mapping (size bytes)     │ second mapping of the same pages │
//!                        ^ head mod size, and up to size bytes from there
//! ```
//! Two handles share it on one thread: [`RecvWindow`] reads and consumes, [`WindowWriter`] (the driver's) fills and publishes. Positions only
//! grow; the place of a position is its value modulo the size.
//!
//! Why that is sound: bytes between head and tail are written by nobody. The writer, and the kernel in its name, write only between tail and
//! `head + size`, which are other bytes, in both mappings, as long as `tail - head <= size`: an invariant, kept by `publish` (which grows the tail
//! only into room) and `consume` (which grows the head only up to the tail). The head grows only by `&mut RecvWindow`, so no slice of what it
//! passes is borrowed then.
//!
//! Limits: a power of two of bytes, from a page to 1 GiB; a message of at most [`RecvWindow::reach`] bytes always fits. Windows up to 1 MiB get
//! their pages at once, larger ones as they are used.

use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap_anonymous, mremap_fixed, munmap};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;

/// Pieces in which a window goes back to the kernel.
pub(crate) const CHUNKS: usize = 8;
/// The largest window.
pub(crate) const WINDOW_MAX: usize = 1 << 30;
/// Windows up to this size get their pages when they are made.
const POPULATED_MAX: usize = 1 << 20;

/// Pages that lie at two addresses.
struct Mirror {
    base: NonNull<u8>,
    /// Bytes of one mapping: a power of two, and whole pages.
    bytes: usize,
}

impl Mirror {
    fn new(bytes: usize) -> io::Result<Mirror> {
        let reserved = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: `mmap_anonymous` demands that no mapping in use is replaced: the address is null and MAP_FIXED is not set, so the kernel
        // chooses free space, which is then ours alone.
        let base = unsafe { mmap_anonymous(null_mut(), 2 * bytes, ProtFlags::empty(), reserved) }?;
        let base = NonNull::new(base.cast()).expect("mmap returns an error, not null");
        // From here on a failure unmaps the whole reservation.
        let mirror = Mirror { base, bytes };
        let populate = if bytes <= POPULATED_MAX { MapFlags::POPULATE } else { MapFlags::empty() };
        let flags = MapFlags::SHARED | MapFlags::FIXED | populate;
        let at = mirror.base.as_ptr();
        // SAFETY: `mmap_anonymous` with MAP_FIXED demands that what it replaces is not in use: it is the first half of our reservation, which
        // nobody has seen yet.
        unsafe { mmap_anonymous(at.cast(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        // An old size of 0 leaves a shared mapping where it is and maps its pages once more, mremap(2). So no descriptor is needed, which a
        // container may refuse.
        // SAFETY: `add`: the second half lies in the reservation of `2 * bytes`. `mremap_fixed` demands that what it replaces is not in use: it is
        // that half, which nobody has seen yet; the first one stays as it is.
        unsafe { mremap_fixed(at.cast(), 0, bytes, MremapFlags::MAYMOVE, at.add(bytes).cast()) }?;
        Ok(mirror)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // SAFETY: `munmap` demands that nobody uses the mapping any more: both handles are gone, so no slice is borrowed, and a driver keeps its
        // handle (for ever, if need be) while the kernel may write.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), 2 * self.bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping what was mapped: {unmapped:?}");
    }
}

struct Shared {
    mirror: Mirror,
    /// What the reader has consumed.
    head: Cell<u64>,
    /// What has arrived.
    tail: Cell<u64>,
}

impl Shared {
    fn place(&self, position: u64) -> NonNull<u8> {
        let offset = position as usize & (self.mirror.bytes - 1);
        // SAFETY: `add` demands to stay in the allocation: the offset is below the size of the first mapping.
        unsafe { self.mirror.base.add(offset) }
    }

    fn unread(&self) -> usize {
        (self.tail.get() - self.head.get()) as usize
    }
}

/// The reader's handle of a stream's receive window. Not `Send`: it lives on the driver's thread, and may outlive stream and driver.
///
/// While it is not consumed, the peer is held back: nothing is lost, however slow the reader is.
pub struct RecvWindow {
    shared: Rc<Shared>,
}

impl RecvWindow {
    /// What has arrived and is not consumed, in order, in one piece. It stays where it is until it is consumed, whatever the driver does.
    #[inline]
    pub fn unread(&self) -> &[u8] {
        // SAFETY: `from_raw_parts` demands initialised bytes (anonymous pages are zeroed) in one allocation: from the head's place, which lies
        // in the first mapping, at most `bytes` further, so within the second. Nobody writes them while the slice lives: see the module.
        unsafe { std::slice::from_raw_parts(self.shared.place(self.shared.head.get()).as_ptr(), self.shared.unread()) }
    }

    /// Gives back the first `bytes`.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.shared.unread(), "consuming {bytes} bytes of {}", self.shared.unread());
        self.shared.head.set(self.shared.head.get() + bytes as u64);
    }

    /// Bytes of the window: at least what was asked for.
    pub fn size(&self) -> usize {
        self.shared.mirror.bytes
    }

    /// A message of up to so many bytes always comes to lie in [`unread`](Self::unread) as a whole, wherever it begins: 7/8 of the size. Of a
    /// longer one, consume what is there to get the rest.
    pub fn reach(&self) -> usize {
        self.size() - self.size() / CHUNKS
    }
}

impl fmt::Debug for RecvWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvWindow").field("size", &self.size()).field("unread", &self.shared.unread()).finish()
    }
}

/// The driver's handle. Exactly one per window.
pub(crate) struct WindowWriter {
    shared: Rc<Shared>,
}

/// Makes the window of a stream: at least `bytes`, rounded up to a power of two and a page.
pub(crate) fn window(bytes: usize) -> io::Result<(WindowWriter, RecvWindow)> {
    if bytes > WINDOW_MAX {
        let text = format!("a receive window of {bytes} bytes, the limit is {WINDOW_MAX}: choose smaller batches");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let bytes = bytes.next_power_of_two().max(rustix::param::page_size());
    let shared = Rc::new(Shared { mirror: Mirror::new(bytes)?, head: Cell::new(0), tail: Cell::new(0) });
    Ok((WindowWriter { shared: Rc::clone(&shared) }, RecvWindow { shared }))
}

impl WindowWriter {
    pub(crate) fn size(&self) -> usize {
        self.shared.mirror.bytes
    }

    /// Up to where the reader has consumed.
    pub(crate) fn head(&self) -> u64 {
        self.shared.head.get()
    }

    /// Up to where bytes have arrived.
    pub(crate) fn tail(&self) -> u64 {
        self.shared.tail.get()
    }

    /// Bytes that may arrive before the reader consumes more.
    pub(crate) fn room(&self) -> usize {
        self.size() - self.shared.unread()
    }

    /// Whether there is room enough to receive again: an eighth of the window, so that a reader that consumes byte by byte does not make the
    /// kernel deliver byte by byte. What [`RecvWindow::reach`] promises holds nevertheless.
    pub(crate) fn worth_receiving(&self) -> bool {
        self.room() >= self.size() / CHUNKS
    }

    /// The room behind the tail, for the kernel to write to: where, and how much. In one piece.
    pub(crate) fn spare_at(&self) -> (*mut u8, usize) {
        (self.shared.place(self.tail()).as_ptr(), self.room())
    }

    /// The place of a position, for the kernel to write to: `position` lies between tail and `head + size`.
    pub(crate) fn place_of(&self, position: u64) -> *mut u8 {
        self.shared.place(position).as_ptr()
    }

    /// The room behind the tail. Not for a driver that has given it to the kernel.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        let (at, room) = self.spare_at();
        // SAFETY: `from_raw_parts_mut` demands initialised bytes in one allocation (as in `unread`: from a place in the first mapping, at most
        // `bytes` further) that nobody else reads or writes while the slice lives: the reader's slices end at the tail, `consume` only adds room
        // elsewhere, and this is the only writer, borrowed as `&mut`. The kernel got room of this window only from the io_uring driver, which
        // does not call this.
        unsafe { std::slice::from_raw_parts_mut(at, room) }
    }

    /// The first `bytes` of the room have been written: they are the reader's now.
    ///
    /// # Panics
    /// If there is not so much room.
    pub(crate) fn publish(&mut self, bytes: usize) {
        assert!(bytes <= self.room(), "{bytes} bytes arrived in a room of {}", self.room());
        self.shared.tail.set(self.tail() + bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(writer: &mut WindowWriter, bytes: &[u8]) {
        writer.spare()[..bytes.len()].copy_from_slice(bytes);
        writer.publish(bytes.len());
    }

    #[test]
    fn what_wraps_is_still_one_slice() {
        let (mut writer, mut reader) = window(1).expect("a window");
        let size = reader.size();
        assert_eq!(size, rustix::param::page_size());
        // Steps that are no divisors of the size: every place becomes a beginning.
        for round in 0..20_000 {
            let len = 1 + round % 997;
            let bytes: Vec<u8> = (0..len).map(|at| (round * 31 + at * 7) as u8).collect();
            write(&mut writer, &bytes);
            assert_eq!(reader.unread(), bytes, "round {round}");
            reader.consume(len);
        }
        assert_eq!(writer.room(), size);
    }

    #[test]
    fn a_full_window_has_no_room_and_keeps_what_is_in_it() {
        let (mut writer, mut reader) = window(4096).expect("a window");
        let size = reader.size();
        write(&mut writer, &vec![1; size - 10]);
        reader.consume(100);
        write(&mut writer, &[2; 110]);
        assert_eq!((writer.room(), writer.worth_receiving()), (0, false));
        assert_eq!(writer.spare(), &mut [] as &mut [u8]);
        let unread = reader.unread();
        assert!(unread[..size - 110].iter().all(|b| *b == 1) && unread[size - 110..].iter().all(|b| *b == 2));
        reader.consume(size);
        assert!(writer.worth_receiving());
    }

    #[test]
    fn a_slice_stays_while_more_arrives() {
        let (mut writer, reader) = window(4096).expect("a window");
        write(&mut writer, b"first");
        let first = reader.unread();
        write(&mut writer, b"second");
        assert_eq!((first, reader.unread()), (&b"first"[..], &b"firstsecond"[..]));
    }

    #[test]
    fn the_reader_outlives_the_writer() {
        let (mut writer, mut reader) = window(4096).expect("a window");
        write(&mut writer, b"last words");
        drop(writer);
        assert_eq!(reader.unread(), b"last words");
        reader.consume(10);
    }

    #[test]
    #[should_panic(expected = "consuming 4 bytes of 3")]
    fn consuming_what_has_not_arrived_is_a_bug() {
        let (mut writer, mut reader) = window(4096).expect("a window");
        write(&mut writer, b"abc");
        reader.consume(4);
    }

    #[test]
    fn a_window_beyond_the_limit_is_refused() {
        assert_eq!(window(WINDOW_MAX + 1).err().expect("too large").kind(), io::ErrorKind::InvalidInput);
    }
}
