//! The byte ring: records of variable size from one side to one other, between threads or between processes.
//!
//! A record takes one header line (length, tag) and its bytes rounded up to whole lines, so it starts 64-byte aligned and is contiguous: when it
//! does not fit before the end of the memory, a *skip* header there sends the reader back to the start. Both cursors count bytes since the
//! beginning and never wrap; the place in memory is the cursor modulo the capacity, a power of two.
//!
//! ```text
//!        head (consumer)            tail (producer)
//!          v                          v
//! ...free..|hdr|record.....|hdr|rec...|....free.....|hdr: skip|
//! ```
//!
//! Invariant: `head <= tail <= head + capacity`. Bytes in `[head, tail)` belong to the consumer, all others to the producer. One store of the tail
//! publishes a record, so a producer that is killed between any two of its stores has published it wholly or not at all. Each side keeps the
//! other's cursor as it last saw it and looks again only when that copy does not suffice: while both are busy, a push and a release touch the
//! other core's line only now and then.
//!
//! *Trust.* The other side of a mapped ring is another process. Positions and lengths are read once and then checked; what does not hold is
//! [`RingCorrupt`], never a panic and never an access outside of the ring. The bytes of a record are read in place by [`Consumer::record`], which
//! takes the peer at its word that it leaves a published record alone (it runs this same code); whoever does not, copies it out with
//! [`Consumer::copy_record`], during which it may change without harm.

use crate::memory::{Arc, LINE, Memory, Ordering, PAD};
use std::cell::Cell;
use std::fmt;

/// Smallest capacity: a record of one line and its header in each half.
pub(crate) const CAPACITY_MIN: usize = 4 * LINE;
/// Largest capacity: lengths are kept in 32 bits, and a bound is a bound.
pub(crate) const CAPACITY_MAX: usize = 1 << 30;
/// Bytes of cursors that a ring needs beside its capacity.
pub(crate) const CONTROL_BYTES: usize = 2 * PAD;
/// Length of a header that stands for "go on at the start of the memory".
const SKIP: u32 = u32::MAX;
/// Lines fetched as soon as a record is seen: its header, the batch header, the header of the first tuple and a small tuple.
const AHEAD: usize = 4 * LINE;

/// Where the parts of a ring lie in its memory.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// [`CONTROL_BYTES`] of cursors.
    pub(crate) control: usize,
    /// The records.
    pub(crate) lines: usize,
    /// Bytes of records.
    pub(crate) capacity: usize,
}

impl Place {
    /// The producer's cursor.
    const fn tail(&self) -> usize {
        self.control
    }

    /// The producer says that it is gone.
    const fn producer_gone(&self) -> usize {
        self.control + 8
    }

    /// The consumer's cursor.
    const fn head(&self) -> usize {
        self.control + PAD
    }

    /// Records released since the beginning.
    const fn released(&self) -> usize {
        self.control + PAD + 8
    }

    /// The consumer says that it is gone.
    const fn consumer_gone(&self) -> usize {
        self.control + PAD + 16
    }

    /// Place in the memory of a cursor.
    #[inline]
    fn at(&self, cursor: u64) -> usize {
        self.lines + (cursor as usize & (self.capacity - 1))
    }

    /// Bytes from a cursor to the end of the records' memory.
    #[inline]
    fn before_end(&self, cursor: u64) -> u64 {
        (self.capacity - (cursor as usize & (self.capacity - 1))) as u64
    }

    const fn max_record(&self) -> usize {
        self.capacity / 2 - LINE
    }
}

/// The capacity that a ring gets when `asked` bytes are asked for; `None` beyond the limit.
pub(crate) fn capacity_for(asked: usize) -> Option<usize> {
    (asked <= CAPACITY_MAX).then(|| asked.next_power_of_two().max(CAPACITY_MIN))
}

/// Makes a ring of at least `capacity` bytes (rounded up to a power of two, 256 B at least) and gives its two ends, each of which may move to a
/// thread of its own. The memory is not touched here: its pages are placed by the first push.
///
/// Cost of a record of n bytes: one copy of n bytes, `64 + n` rounded up to 64 bytes of room.
///
/// # Panics
/// If `capacity` exceeds 1 GiB.
///
/// ```
/// let (mut producer, mut consumer) = squall_ring::byte_ring(4096);
/// producer.try_push(7, b"a batch").unwrap();
/// assert_eq!(consumer.peek().unwrap(), Some((7, &b"a batch"[..])));
/// consumer.release();
/// assert_eq!(producer.unread(), 0);
/// ```
pub fn byte_ring(capacity: usize) -> (Producer, Consumer) {
    let Some(rounded) = capacity_for(capacity) else {
        panic!("a ring of {capacity} bytes was asked for; the most is {CAPACITY_MAX}: lower the topology's ring size");
    };
    let memory = Arc::new(Memory::heap(CONTROL_BYTES + rounded));
    let place = Place { control: 0, lines: CONTROL_BYTES, capacity: rounded };
    (Producer::over(Arc::clone(&memory), place), Consumer::over(memory, place))
}

/// The other side of a ring has written what no working peer writes. The ring is of no use from then on: end the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingCorrupt {
    /// Which word, and what is wrong with it.
    pub what: &'static str,
    /// The word.
    pub word: u64,
    /// The reader's own cursor.
    pub cursor: u64,
}

impl fmt::Display for RingCorrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RingCorrupt { what, word, cursor } = self;
        write!(f, "the ring is corrupt: {what} ({word:#x} at position {cursor})")
    }
}

impl std::error::Error for RingCorrupt {}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// No room now; there will be once the consumer has released enough. Nothing was written.
    Full,
    /// The consumer's side is broken; there will never be room again.
    Corrupt(RingCorrupt),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full => {
                f.write_str("the ring is full: keep the record and push it again after the consumer has released some")
            }
            PushError::Corrupt(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for PushError {}

/// The writing end of a ring. Dropping it makes the consumer see [`Consumer::is_abandoned`] after the last record.
pub struct Producer {
    memory: Arc<Memory>,
    place: Place,
    /// The published tail: ours alone to change.
    tail: u64,
    /// The consumer's head as last seen; the true one is this or further.
    head_seen: u64,
    pushed: u64,
    released_seen: Cell<u64>,
}

impl Producer {
    /// The only producer of this place in this memory, which is fresh.
    pub(crate) fn over(memory: Arc<Memory>, place: Place) -> Producer {
        Producer { memory, place, tail: 0, head_seen: 0, pushed: 0, released_seen: Cell::new(0) }
    }

    /// Copies `record` into the ring and publishes it. `tag` is handed to the consumer as it is.
    ///
    /// # Errors
    /// [`PushError::Full`] if it does not fit now; [`PushError::Corrupt`] if the consumer's cursor makes no sense.
    ///
    /// # Panics
    /// If the record is longer than [`max_record`](Self::max_record): it would never fit.
    #[inline]
    pub fn try_push(&mut self, tag: u32, record: &[u8]) -> Result<(), PushError> {
        assert!(
            record.len() <= self.max_record(),
            "a record of {} bytes never fits a ring whose records are at most {} bytes",
            record.len(),
            self.max_record()
        );
        let span = span(record.len());
        let to_end = self.place.before_end(self.tail);
        let skip = if span > to_end { to_end } else { 0 };
        let tail_next = self.tail + skip + span;
        self.room_until(tail_next)?;
        let Producer { memory, place, .. } = &*self;
        let at = place.at(self.tail + skip);
        // SAFETY: `write` demands that nobody else touches these bytes before they are published. They lie in `[tail, tail_next)`, and
        // `room_until` has shown `tail_next <= head + capacity`, so they are the producer's (module invariant), of which there is one
        // (`&mut self`, not `Clone`, one per memory by `over`); the consumer's slices lie in `[head, tail)`. A peer that breaks the protocol
        // may spoil the bytes, which are its own to lose.
        unsafe {
            if skip != 0 {
                memory.write(place.at(self.tail), &header(SKIP, 0));
            }
            memory.write(at, &header(record.len() as u32, tag));
            memory.write(at + LINE, record);
        }
        // Pairs with the Acquire in `Consumer::header`: header and bytes are visible before the cursor. A skip is published together with the
        // record behind it, so the consumer never meets one without the other.
        memory.store(place.tail(), tail_next, Ordering::Release);
        self.tail = tail_next;
        self.pushed += 1;
        Ok(())
    }

    /// Writes a zero into every page of the ring. Nothing may have been pushed.
    pub(crate) fn touch(&mut self, page: usize) {
        assert!(self.pushed == 0, "pages are placed before the first push");
        for at in (0..self.place.capacity).step_by(page) {
            // Relaxed: these bytes are the producer's and hold zero already.
            self.memory.store(self.place.lines + at, 0, Ordering::Relaxed);
        }
    }

    /// Makes sure that all bytes below `end` are the producer's.
    #[inline]
    fn room_until(&mut self, end: u64) -> Result<(), PushError> {
        let capacity = self.place.capacity as u64;
        if end - self.head_seen <= capacity {
            return Ok(());
        }
        // Pairs with the Release in `release`: the consumer is done with the bytes we are about to write.
        let head = self.memory.load(self.place.head(), Ordering::Acquire);
        if head < self.head_seen || head > self.tail || !head.is_multiple_of(LINE as u64) {
            let what = "the consumer's position lies outside of what was published";
            return Err(PushError::Corrupt(RingCorrupt { what, word: head, cursor: self.tail }));
        }
        self.head_seen = head;
        if end - head > capacity { Err(PushError::Full) } else { Ok(()) }
    }

    /// Records pushed and not yet released. Zero means that the consumer has caught up: an idle link, where the next batch should go at once.
    /// Touches the consumer's cache line unless the last look already said zero.
    #[inline]
    pub fn unread(&self) -> u64 {
        if self.released_seen.get() != self.pushed {
            // Pairs with the Release in `release`. Only a count: the memory is guarded by `head`. A peer's nonsense is cut to what can be.
            let released = self.memory.load(self.place.released(), Ordering::Acquire);
            self.released_seen.set(released.min(self.pushed));
        }
        self.pushed - self.released_seen.get()
    }

    /// Whether `limit` or more records are pushed and not yet released. Touches the consumer's cache line only when the last
    /// look does not already say no: on a link with one record at a time, every `limit` records.
    #[inline]
    pub fn has_unread(&self, limit: u64) -> bool {
        self.pushed - self.released_seen.get() >= limit && self.unread() >= limit
    }

    /// The longest record this ring ever takes, in bytes: half of its capacity less one line. A longer one could find the ring empty and yet
    /// no contiguous room, for ever.
    #[inline]
    pub fn max_record(&self) -> usize {
        self.place.max_record()
    }

    /// The capacity in bytes, as it was rounded.
    pub fn capacity(&self) -> usize {
        self.place.capacity
    }

    /// Whether the consumer was dropped: nothing pushed from now on will be read. A process that is killed drops nothing.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        // Pairs with the Release in the consumer's drop: `unread` is final then.
        self.memory.load(self.place.consumer_gone(), Ordering::Acquire) != 0
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Pairs with the Acquire in `Consumer::is_abandoned`: who sees this also sees the last record.
        self.memory.store(self.place.producer_gone(), 1, Ordering::Release);
    }
}

/// The reading end of a ring. Dropping it makes the producer see [`Producer::is_abandoned`].
pub struct Consumer {
    memory: Arc<Memory>,
    place: Place,
    /// Ours alone to change; the published head is this, or behind by one skip and what `release_later` released.
    head: u64,
    /// The producer's tail as last seen; the true one is this or further.
    tail_seen: u64,
    released: u64,
    /// What the producer knows of it.
    released_told: u64,
    /// Span of the record that was found and `release` has not taken back; zero if none (a span is never zero).
    found: u64,
    len: usize,
    tag: u32,
}

impl Consumer {
    /// The only consumer of this place in this memory, which is fresh.
    pub(crate) fn over(memory: Arc<Memory>, place: Place) -> Consumer {
        Consumer { memory, place, head: 0, tail_seen: 0, released: 0, released_told: 0, found: 0, len: 0, tag: 0 }
    }

    /// The oldest record with its tag, in place and 64-byte aligned, or `None` if there is none now. The same record again until
    /// [`release`](Self::release).
    ///
    /// # Errors
    /// [`RingCorrupt`] if what the producer published is no record of this ring.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<(u32, &[u8])>, RingCorrupt> {
        match self.header()? {
            None => Ok(None),
            Some((tag, _)) => Ok(Some((tag, self.record()))),
        }
    }

    /// Tag and length of the oldest record, or `None` if there is none now. The same again until [`release`](Self::release).
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    #[inline]
    pub fn header(&mut self) -> Result<Option<(u32, usize)>, RingCorrupt> {
        if self.found != 0 {
            return Ok(Some((self.tag, self.len)));
        }
        if self.head == self.tail_seen {
            // Pairs with the Release in `try_push`.
            let tail = self.memory.load(self.place.tail(), Ordering::Acquire);
            if self.head == tail {
                return Ok(None);
            }
            // These lines are on their way to us while the cursor and the header are looked at.
            self.memory.prefetch_read(self.place.at(self.head), AHEAD);
            if tail < self.head || tail - self.head > self.place.capacity as u64 || !tail.is_multiple_of(LINE as u64) {
                return Err(self.corrupt("the producer's position lies outside of the ring", tail));
            }
            self.tail_seen = tail;
        }
        let mut word = self.header_at_head();
        if word as u32 == SKIP {
            let start = self.head + self.place.before_end(self.head);
            if start >= self.tail_seen {
                return Err(self.corrupt("a skip without a record behind it", word));
            }
            self.head = start;
            word = self.header_at_head();
        }
        let len = word as u32 as usize;
        let span = span(len);
        if len > self.place.max_record() || span > self.place.before_end(self.head) || span > self.tail_seen - self.head
        {
            return Err(self.corrupt("a record that reaches beyond what was published", word));
        }
        (self.found, self.len, self.tag) = (span, len, (word >> 32) as u32);
        Ok(Some((self.tag, len)))
    }

    /// Length and tag, read once.
    #[inline]
    fn header_at_head(&self) -> u64 {
        let at = self.place.at(self.head);
        self.memory.note_read(at, LINE);
        // Relaxed: the Acquire of the tail ordered it. Atomic, so that a peer that writes it again can do no more than that.
        self.memory.load_plain(at)
    }

    /// The bytes of the record that [`header`](Self::header) found, in place and 64-byte aligned.
    ///
    /// A peer of a mapped ring is trusted not to write them again before the release (see the module); use
    /// [`copy_record`](Self::copy_record) where it is not.
    ///
    /// # Panics
    /// If no record was found since the last release.
    #[inline]
    pub fn record(&self) -> &[u8] {
        assert!(self.found != 0, "a record is asked for, and none was found");
        // SAFETY: `read` demands published bytes that nobody writes while the slice lives. `header` has seen the record's commit and checked that
        // it lies inside of the ring; the producer does not write it before the published head passes it (module invariant; in another process,
        // the trust that this function's contract states). Only `release` moves that head, and it takes `&mut self`, which the slice borrows.
        unsafe { self.memory.read(self.place.at(self.head) + LINE, self.len) }
    }

    /// Copies the record that [`header`](Self::header) found into `to`, which is exactly as long. Sound whatever the peer does meanwhile; then
    /// validate the copy.
    ///
    /// # Panics
    /// If no record was found since the last release, or `to` has another length.
    pub fn copy_record(&self, to: &mut [u8]) {
        assert!(self.found != 0 && to.len() == self.len, "a copy is as long as the record");
        self.memory.copy_out(self.place.at(self.head) + LINE, to);
    }

    #[cold]
    fn corrupt(&self, what: &'static str, word: u64) -> RingCorrupt {
        RingCorrupt { what, word, cursor: self.head }
    }

    /// Gives the room of the found record back to the producer.
    ///
    /// # Panics
    /// If no record was found since the last release.
    #[inline]
    pub fn release(&mut self) {
        self.release_later();
        self.publish_released();
    }

    /// Is done with the found record: the next one can be looked for. The producer learns of it by
    /// [`publish_released`](Self::publish_released), which is due before this side sleeps. So a reactor can send its answer before it touches
    /// the line that the producer reads, and touch it once for several records.
    ///
    /// # Panics
    /// If no record was found since the last release.
    #[inline]
    pub fn release_later(&mut self) {
        assert!(self.found != 0, "release without a record that was found");
        self.memory.note_read(self.place.at(self.head), self.found as usize);
        self.head += self.found;
        self.found = 0;
        self.released += 1;
    }

    /// Tells the producer of all records released so far. Costs nothing if it knows.
    #[inline]
    pub fn publish_released(&mut self) {
        if self.released == self.released_told {
            return;
        }
        self.released_told = self.released;
        // Pairs with the Acquire in `Producer::unread`.
        self.memory.store(self.place.released(), self.released, Ordering::Release);
        // Pairs with the Acquire in `Producer::room_until`: our reads of the record are done before the producer may write there.
        self.memory.store(self.place.head(), self.head, Ordering::Release);
    }

    /// Whether a record waits (or is found and not released). A load at most; made for a loop that has nothing else to do, and for the second
    /// look of [`SleepFlag::prepare`](crate::SleepFlag::prepare).
    #[inline]
    pub fn pending(&self) -> bool {
        // Relaxed: only a hint here, `header` acquires. After `SleepFlag::prepare` its fence orders this load.
        self.head != self.tail_seen || self.head != self.memory.load(self.place.tail(), Ordering::Relaxed)
    }

    /// Whether the producer was dropped. Once this is true, a [`peek`](Self::peek) that finds nothing means that nothing will ever come. A
    /// process that is killed drops nothing.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        // Pairs with the Release in the producer's drop: the next `peek` sees all that was pushed before it.
        self.memory.load(self.place.producer_gone(), Ordering::Acquire) != 0
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.publish_released();
        // Pairs with the Acquire in `Producer::is_abandoned`.
        self.memory.store(self.place.consumer_gone(), 1, Ordering::Release);
    }
}

/// Bytes of ring that a record of `len` bytes takes, header included.
#[inline]
fn span(len: usize) -> u64 {
    (LINE + len.next_multiple_of(LINE)) as u64
}

#[inline]
fn header(len: u32, tag: u32) -> [u8; 8] {
    (u64::from(len) | u64::from(tag) << 32).to_ne_bytes()
}
