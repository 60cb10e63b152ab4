//! The byte ring: records of variable size from one thread to one other.
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
//! Invariant: `head <= tail <= head + capacity`. Bytes in `[head, tail)` belong to the consumer, all others to the producer. Each side keeps the
//! other's cursor as it last saw it and looks again only when that copy does not suffice: while both are busy, a push and a release touch the
//! other core's line only now and then.

use crate::sync::{Arc, AtomicBool, AtomicU64, LINE, Lines, Ordering};
use crossbeam::utils::CachePadded;
use std::cell::Cell;
use std::fmt;

/// Smallest capacity: a record of one line and its header in each half.
const CAPACITY_MIN: usize = 4 * LINE;
/// Largest capacity: lengths are kept in 32 bits, and a bound is a bound.
const CAPACITY_MAX: usize = 1 << 30;
/// Length of a header that stands for "go on at the start of the memory".
const SKIP: u32 = u32::MAX;

/// Written by the producer, read by the consumer.
struct ProducerLine {
    tail: AtomicU64,
    gone: AtomicBool,
}

/// Written by the consumer, read by the producer.
struct ConsumerLine {
    head: AtomicU64,
    /// Records released since the beginning.
    released: AtomicU64,
    gone: AtomicBool,
}

struct Shared {
    producer: CachePadded<ProducerLine>,
    consumer: CachePadded<ConsumerLine>,
    lines: Lines,
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
/// assert_eq!(consumer.peek(), Some((7, &b"a batch"[..])));
/// consumer.release();
/// assert_eq!(producer.unread(), 0);
/// ```
pub fn byte_ring(capacity: usize) -> (Producer, Consumer) {
    assert!(
        capacity <= CAPACITY_MAX,
        "a ring of {capacity} bytes was asked for; the most is {CAPACITY_MAX}: lower the topology's ring size"
    );
    let capacity = capacity.next_power_of_two().max(CAPACITY_MIN);
    let shared = Arc::new(Shared {
        producer: CachePadded::new(ProducerLine { tail: AtomicU64::new(0), gone: AtomicBool::new(false) }),
        consumer: CachePadded::new(ConsumerLine {
            head: AtomicU64::new(0),
            released: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        }),
        lines: Lines::new(capacity),
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        capacity: capacity as u64,
        tail: 0,
        head_seen: 0,
        pushed: 0,
        released_seen: Cell::new(0),
    };
    let consumer = Consumer { shared, capacity: capacity as u64, head: 0, tail_seen: 0, released: 0, peeked: 0 };
    (producer, consumer)
}

/// The ring has no room for the record now; it will once the consumer has released enough. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingFull;

impl fmt::Display for RingFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is full: keep the record and push it again after the consumer has released some")
    }
}

impl std::error::Error for RingFull {}

/// The writing end of a ring. Dropping it makes the consumer see [`Consumer::is_abandoned`] after the last record.
pub struct Producer {
    shared: Arc<Shared>,
    capacity: u64,
    /// The published tail: ours alone to change.
    tail: u64,
    /// The consumer's head as last seen; the true one is this or further.
    head_seen: u64,
    pushed: u64,
    released_seen: Cell<u64>,
}

impl Producer {
    /// Copies `record` into the ring and publishes it. `tag` is handed to the consumer as it is.
    ///
    /// # Errors
    /// [`RingFull`] if it does not fit now.
    ///
    /// # Panics
    /// If the record is longer than [`max_record`](Self::max_record): it would never fit.
    #[inline]
    pub fn try_push(&mut self, tag: u32, record: &[u8]) -> Result<(), RingFull> {
        assert!(
            record.len() <= self.max_record(),
            "a record of {} bytes never fits a ring whose records are at most {} bytes",
            record.len(),
            self.max_record()
        );
        let span = span(record.len());
        let at = self.tail & (self.capacity - 1);
        let to_end = self.capacity - at;
        let skip = if span > to_end { to_end } else { 0 };
        let tail_next = self.tail + skip + span;
        if tail_next - self.head_seen > self.capacity {
            // Pairs with the Release in `release`: the consumer is done with the bytes we are about to write.
            self.head_seen = self.shared.consumer.head.load(Ordering::Acquire);
            if tail_next - self.head_seen > self.capacity {
                return Err(RingFull);
            }
        }
        let lines = &self.shared.lines;
        let start = if skip == 0 { at as usize } else { 0 };
        // SAFETY: `write` demands that nobody else touches these bytes before they are published. They lie in `[tail, tail_next)`, and
        // `tail_next <= head_seen + capacity <= head + capacity`, so they are the producer's (module invariant), of which there is one
        // (`&mut self`, not `Clone`); the consumer's slices lie in `[head, tail)`.
        unsafe {
            if skip != 0 {
                lines.write(at as usize, &header(SKIP, 0));
            }
            lines.write(start, &header(record.len() as u32, tag));
            lines.write(start + LINE, record);
        }
        self.tail = tail_next;
        self.pushed += 1;
        // Pairs with the Acquire in `Consumer::peek`: header and bytes are visible before the cursor. A skip is published together with the
        // record behind it, so the consumer never meets one without the other.
        self.shared.producer.tail.store(tail_next, Ordering::Release);
        Ok(())
    }

    /// Records pushed and not yet released. Zero means that the consumer has caught up: an idle link, where the next batch should go at once.
    /// Touches the consumer's cache line unless the last look already said zero.
    #[inline]
    pub fn unread(&self) -> u64 {
        if self.released_seen.get() != self.pushed {
            // Pairs with the Release in `release`. Only a count: the memory is guarded by `head`.
            self.released_seen.set(self.shared.consumer.released.load(Ordering::Acquire));
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
        (self.capacity / 2) as usize - LINE
    }

    /// The capacity in bytes, as it was rounded.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Whether the consumer was dropped: nothing pushed from now on will be read.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        // Pairs with the Release in the consumer's drop: `unread` is final then.
        self.shared.consumer.gone.load(Ordering::Acquire)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Pairs with the Acquire in `Consumer::is_abandoned`: who sees this also sees the last record.
        self.shared.producer.gone.store(true, Ordering::Release);
    }
}

/// The reading end of a ring. Dropping it makes the producer see [`Producer::is_abandoned`].
pub struct Consumer {
    shared: Arc<Shared>,
    capacity: u64,
    /// Ours alone to change; the published head is this, or one skip behind.
    head: u64,
    /// The producer's tail as last seen; the true one is this or further.
    tail_seen: u64,
    released: u64,
    /// Span of the record that `peek` gave and `release` has not taken back; zero if none (a span is never zero).
    peeked: u64,
}

impl Consumer {
    /// The oldest record with its tag, in place and 64-byte aligned, or `None` if there is none now. The same record again until
    /// [`release`](Self::release).
    #[inline]
    pub fn peek(&mut self) -> Option<(u32, &[u8])> {
        if self.head == self.tail_seen {
            // Pairs with the Release in `try_push`.
            self.tail_seen = self.shared.producer.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        let (mut len, mut tag) = self.header_at_head();
        if len == SKIP {
            self.head += self.capacity - (self.head & (self.capacity - 1));
            (len, tag) = self.header_at_head();
        }
        self.peeked = span(len as usize);
        debug_assert!(self.head + self.peeked <= self.tail_seen, "a record lies between head and tail");
        let at = (self.head & (self.capacity - 1)) as usize + LINE;
        // SAFETY: `read` demands published bytes that nobody writes while the slice lives. The record lies in `[head, tail_seen)`, which the
        // producer does not write before the published head passes it (module invariant). Only `release` moves that head, and it takes
        // `&mut self`, which the slice borrows.
        let record = unsafe { self.shared.lines.read(at, len as usize) };
        Some((tag, record))
    }

    #[inline]
    fn header_at_head(&self) -> (u32, u32) {
        let at = (self.head & (self.capacity - 1)) as usize;
        // SAFETY: as in `peek`: head is below `tail_seen` (checked there; a skip is never the last thing published), so this header is
        // published and the producer leaves it alone; the slice does not outlive this function.
        let bytes = unsafe { self.shared.lines.read(at, 8) };
        let word = u64::from_le_bytes(bytes.try_into().expect("eight bytes were asked for"));
        (word as u32, (word >> 32) as u32)
    }

    /// Gives the room of the record that [`peek`](Self::peek) returned back to the producer.
    ///
    /// # Panics
    /// If no record was peeked since the last release.
    #[inline]
    pub fn release(&mut self) {
        assert!(self.peeked != 0, "release without a peek that returned a record");
        self.shared.lines.note_read((self.head & (self.capacity - 1)) as usize, self.peeked as usize);
        self.head += self.peeked;
        self.peeked = 0;
        self.released += 1;
        // Pairs with the Acquire in `Producer::unread`.
        self.shared.consumer.released.store(self.released, Ordering::Release);
        // Pairs with the Acquire in `try_push`: our reads of the record are done before the producer may write there.
        self.shared.consumer.head.store(self.head, Ordering::Release);
    }

    /// Whether a record waits (or is peeked and not released). A load at most; made for a loop that has nothing else to do, and for the second
    /// look of [`SleepFlag::prepare`](crate::SleepFlag::prepare).
    #[inline]
    pub fn pending(&self) -> bool {
        // Relaxed: only a hint here, `peek` acquires. After `SleepFlag::prepare` its fence orders this load.
        self.head != self.tail_seen || self.head != self.shared.producer.tail.load(Ordering::Relaxed)
    }

    /// Whether the producer was dropped. Once this is true, a [`peek`](Self::peek) that returns `None` means that nothing will ever come.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        // Pairs with the Release in the producer's drop: the next `peek` sees all that was pushed before it.
        self.shared.producer.gone.load(Ordering::Acquire)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Pairs with the Acquire in `Producer::is_abandoned`.
        self.shared.consumer.gone.store(true, Ordering::Release);
    }
}

/// Bytes of ring that a record of `len` bytes takes, header included.
#[inline]
fn span(len: usize) -> u64 {
    (LINE + len.next_multiple_of(LINE)) as u64
}

#[inline]
fn header(len: u32, tag: u32) -> [u8; 8] {
    (u64::from(len) | u64::from(tag) << 32).to_le_bytes()
}
