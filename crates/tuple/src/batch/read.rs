//! Reading batches in place.

use std::fmt;

use super::header::{BatchHeader, BatchKind, HEADER_BYTES, TUPLE_HEADER_BYTES, tuple_flags};
use super::record::{AckRecord, CreditRecord, MarkRecord};
use super::{pad8, schema_carried, schema_of, u32_at, u64_at};
use crate::ids::{AnchorEdge, StreamIx, TaskId};
use crate::schema::Tuple;
use crate::view::TupleRef;

/// A well-formed batch, read in place.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// Exactly the batch.
    bytes: &'a [u8],
    /// Type of the tuples, see `schema_of`.
    schema: u64,
    /// Tells this batch from others, so that a cursor of another is noticed.
    stamp: u64,
    /// What the header says, or will when the batch is sealed; as read once.
    base_ns: u64,
    count: u32,
    kind: BatchKind,
}

/// What the view of a batch takes from its header, read once: the rest of the header is read when it is asked for.
#[derive(Clone, Copy)]
pub(super) struct Outline {
    pub(super) kind: BatchKind,
    pub(super) count: u32,
    pub(super) base_ns: u64,
    /// Type of the tuples, see `schema_of`.
    pub(super) schema: u64,
}

impl Outline {
    #[inline]
    pub(super) fn of(header: &BatchHeader) -> Outline {
        let schema = schema_carried(header.kind, header.schema_id, header.dynamic());
        Outline { kind: header.kind, count: header.count, base_ns: header.base_ns, schema }
    }
}

/// A position in a batch. Made by [`Batch::cursor`], advanced by [`Batch::next`]; may be kept and used later with the same
/// batch (at the same place, unchanged).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pos: u32,
    left: u32,
    origin_ns: u64,
    stamp: u64,
}

impl Cursor {
    /// Bytes from the start of the batch to the next tuple.
    #[inline]
    pub fn pos(&self) -> u32 {
        self.pos
    }

    /// Tuples from here on.
    #[inline]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Origin of the tuple before (of the batch, at its start): the running origin.
    #[inline]
    pub fn origin_ns(&self) -> u64 {
        self.origin_ns
    }
}

impl<'a> Batch<'a> {
    /// Takes bytes as they are.
    ///
    /// # Safety
    ///
    /// `bytes` must hold a batch that a [`BatchBuf`](super::BatchBuf) of this process sealed (or an exact copy), or that passed
    /// [`Batch::validate`] with the type of its stream; 8-aligned; unchanged since, and for `'a`. Cursors made of it may be
    /// used with the same bytes only.
    #[inline]
    pub unsafe fn from_trusted(bytes: &'a [u8]) -> Batch<'a> {
        let head = bytes.first_chunk::<HEADER_BYTES>().expect("a trusted batch has a header");
        let header = BatchHeader::decode(head);
        let bytes = &bytes[..header.byte_len as usize];
        debug_assert!((bytes.as_ptr() as usize).is_multiple_of(8), "a trusted batch is 8-aligned");
        // SAFETY: the caller's promise.
        unsafe { Batch::new(bytes, Outline::of(&header), header.link_seq) }
    }

    /// `fill` tells one filling of the memory from the next.
    ///
    /// # Safety
    ///
    /// `bytes` must be a well-formed, 8-aligned batch (module documentation) of `outline`; its header need not hold count,
    /// length and base yet.
    #[inline]
    pub(super) unsafe fn new(bytes: &'a [u8], outline: Outline, fill: u64) -> Batch<'a> {
        debug_assert!(bytes.len() >= HEADER_BYTES);
        let Outline { kind, count, base_ns, schema } = outline;
        // Three products that do not wait for each other.
        let place = (bytes.as_ptr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let size = ((bytes.len() as u64) << 32 | u64::from(count)).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        let time = (fill ^ schema).wrapping_mul(0x1656_67B1_9E37_79F9);
        let stamp = place.rotate_left(29) ^ size.rotate_left(11) ^ time;
        Batch { bytes, schema, stamp, base_ns, count, kind }
    }

    /// The header, read from the batch.
    #[inline]
    pub fn header(&self) -> BatchHeader {
        let head = self.bytes.first_chunk::<HEADER_BYTES>().expect("a batch has a header");
        BatchHeader {
            kind: self.kind,
            count: self.count,
            byte_len: self.bytes.len() as u32,
            base_ns: self.base_ns,
            ..BatchHeader::decode(head)
        }
    }

    /// What it holds.
    #[inline]
    pub fn kind(&self) -> BatchKind {
        self.kind
    }

    /// Its tuples or records.
    #[inline]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The stream whose tuples it holds; 0 where its kind has none.
    #[inline]
    pub fn stream(&self) -> StreamIx {
        self.header().stream
    }

    /// The bytes of the whole batch.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The position of the first tuple. Of a batch of records: a position with no tuple left.
    #[inline]
    pub fn cursor(&self) -> Cursor {
        let left = if self.kind == BatchKind::Data { self.count } else { 0 };
        Cursor { pos: HEADER_BYTES as u32, left, origin_ns: self.base_ns, stamp: self.stamp }
    }

    /// The tuple at the cursor, which moves on; `None` at the end.
    ///
    /// # Panics
    ///
    /// If the cursor is of another batch.
    // Always: a call would return the frame through memory, word by word, and its reader would load it back in vectors,
    // which the processor cannot forward from the stores: some 10 ns a tuple.
    #[inline(always)]
    pub fn next(&self, c: &mut Cursor) -> Option<Frame<'a>> {
        if c.left == 0 {
            return None;
        }
        if c.stamp != self.stamp {
            foreign_cursor();
        }
        let at = c.pos as usize;
        // SAFETY: the cursor is of this batch and has tuples left, so a tuple header lies at `at`, 8-aligned; the batch is
        // well-formed, so `len` bytes from there are within `bytes`.
        let (word0, word1, bytes) = unsafe {
            let start = self.bytes.as_ptr().add(at);
            let word0 = u64::from_le(start.cast::<u64>().read());
            let word1 = u64::from_le(start.cast::<u64>().add(1).read());
            let len = word0 as u32 as usize;
            debug_assert!(len >= TUPLE_HEADER_BYTES && at + len <= self.bytes.len());
            (word0, word1, std::slice::from_raw_parts(start, len))
        };
        let mut frame = Frame { bytes, word0, word1, origin_ns: c.origin_ns, schema: self.schema };
        if frame.flags() & tuple_flags::ORIGIN != 0 {
            c.origin_ns = self.base_ns.wrapping_add(u64_at(bytes, frame.sections_at()));
            frame.origin_ns = c.origin_ns;
        }
        c.pos += bytes.len() as u32;
        c.left -= 1;
        Some(frame)
    }

    /// The tuple at the cursor, which moves on, if it goes to this one task and has nothing but its archive: no anchors, no
    /// other section, the origin of the tuple before. The usual case, told by one comparison. `None`, and the cursor stays,
    /// at any other tuple and at the end.
    ///
    /// # Panics
    ///
    /// If the cursor is of another batch.
    #[inline(always)]
    pub fn next_plain(&self, c: &mut Cursor, task: TaskId) -> Option<Frame<'a>> {
        self.next_of(c, u64::from(task) | (TUPLE_HEADER_BYTES as u64 / 8) << 48)
    }

    /// The tuple at the cursor if its second word is this one, but for the padding; it has no origin of its own.
    #[inline(always)]
    fn next_of(&self, c: &mut Cursor, wanted: u64) -> Option<Frame<'a>> {
        const TAIL: u64 = 0xFF << 56;
        if c.left == 0 {
            return None;
        }
        if c.stamp != self.stamp {
            foreign_cursor();
        }
        let at = c.pos as usize;
        // SAFETY: as in `next`.
        let (word0, word1, bytes) = unsafe {
            let start = self.bytes.as_ptr().add(at);
            let word0 = u64::from_le(start.cast::<u64>().read());
            let word1 = u64::from_le(start.cast::<u64>().add(1).read());
            let len = word0 as u32 as usize;
            debug_assert!(len >= TUPLE_HEADER_BYTES && at + len <= self.bytes.len());
            (word0, word1, std::slice::from_raw_parts(start, len))
        };
        if word1 & !TAIL != wanted {
            return None;
        }
        c.pos += bytes.len() as u32;
        c.left -= 1;
        // Put together anew, so that the compiler knows its flags and its length.
        let word1 = wanted | word1 & TAIL;
        Some(Frame { bytes, word0, word1, origin_ns: c.origin_ns, schema: self.schema })
    }

    /// As [`next_plain`](Batch::next_plain), of a tuple with one anchor and nothing else: the usual tracked one.
    ///
    /// # Panics
    ///
    /// If the cursor is of another batch.
    #[inline(always)]
    pub fn next_tracked(&self, c: &mut Cursor, task: TaskId) -> Option<(Frame<'a>, AnchorEdge)> {
        const HEADER: u64 = TUPLE_HEADER_BYTES as u64 + 16;
        let tracked = u64::from(task) | u64::from(tuple_flags::ANCHOR1) << 32 | (HEADER / 8) << 48;
        let frame = self.next_of(c, tracked)?;
        let anchor = |at| u64_at(frame.bytes, TUPLE_HEADER_BYTES + at);
        Some((frame, AnchorEdge { root: anchor(0), edge: anchor(8) }))
    }

    /// The tuples in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Frame<'a>> + use<'a> {
        let (batch, mut cursor) = (*self, self.cursor());
        std::iter::from_fn(move || batch.next(&mut cursor))
    }

    /// The bytes from the cursor on.
    pub(super) fn tail(&self, at: &Cursor) -> &'a [u8] {
        if at.stamp != self.stamp {
            foreign_cursor();
        }
        &self.bytes[at.pos as usize..]
    }

    #[inline]
    fn records<R, D: Fn(&[u8]) -> Result<R, u32>>(
        &self,
        kind: BatchKind,
        bytes: usize,
        decode: D,
    ) -> impl Iterator<Item = R> + use<'a, R, D> {
        let content = if self.kind == kind { &self.bytes[HEADER_BYTES..] } else { &[] };
        content.chunks_exact(bytes).filter_map(move |record| decode(record).ok())
    }

    /// The marks; none if the batch is of another kind.
    #[inline]
    pub fn marks(&self) -> impl Iterator<Item = MarkRecord> + use<'a> {
        self.records(BatchKind::Mark, MarkRecord::BYTES, MarkRecord::decode)
    }

    /// The acks; none if the batch is of another kind.
    #[inline]
    pub fn acks(&self) -> impl Iterator<Item = AckRecord> + use<'a> {
        self.records(BatchKind::Ack, AckRecord::BYTES, AckRecord::decode)
    }

    /// The credits; none if the batch is of another kind.
    #[inline]
    pub fn credits(&self) -> impl Iterator<Item = CreditRecord> + use<'a> {
        self.records(BatchKind::Control, CreditRecord::BYTES, CreditRecord::decode)
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Batch").field(&self.header()).finish()
    }
}

#[cold]
#[inline(never)]
fn foreign_cursor() -> ! {
    panic!("the cursor is not of this batch, or the batch was filled anew since the cursor was made")
}

/// One tuple of a batch.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// The whole tuple: header, sections, archive, padding.
    bytes: &'a [u8],
    /// Length and source.
    word0: u64,
    /// Destination, flags, header length, padding.
    word1: u64,
    origin_ns: u64,
    schema: u64,
}

impl<'a> Frame<'a> {
    #[inline(always)]
    fn flags(&self) -> u16 {
        (self.word1 >> 32) as u16
    }

    #[inline(always)]
    fn is_long(&self) -> bool {
        (self.word1 >> 48) as u8 == 0
    }

    #[inline(always)]
    fn sections_at(&self) -> usize {
        if self.is_long() { TUPLE_HEADER_BYTES + 8 } else { TUPLE_HEADER_BYTES }
    }

    /// Bytes of header and sections.
    #[inline(always)]
    fn header_bytes(&self) -> usize {
        if self.is_long() {
            u64_at(self.bytes, TUPLE_HEADER_BYTES) as usize * 8
        } else {
            (self.word1 >> 48) as u8 as usize * 8
        }
    }

    fn anchors_at(&self) -> usize {
        self.sections_at() + if self.flags() & tuple_flags::ORIGIN != 0 { 8 } else { 0 }
    }

    fn dest_at(&self) -> usize {
        let at = self.anchors_at();
        if self.flags() & tuple_flags::ANCHOR1 != 0 {
            at + 16
        } else if self.flags() & tuple_flags::ANCHORS != 0 {
            at + 8 + 16 * u64_at(self.bytes, at) as usize
        } else {
            at
        }
    }

    fn word_section(&self, flag: u16) -> Option<u64> {
        if self.flags() & flag == 0 {
            return None;
        }
        let mut at = self.dest_at();
        if self.flags() & tuple_flags::DEST_LIST != 0 {
            at += pad8(4 + 4 * u32_at(self.bytes, at) as usize);
        }
        for earlier in [tuple_flags::EVENT_TIME, tuple_flags::KEY_GROUP] {
            if earlier < flag && self.flags() & earlier != 0 {
                at += 8;
            }
        }
        Some(u64_at(self.bytes, at))
    }

    /// The emitting task.
    #[inline]
    pub fn source(&self) -> TaskId {
        (self.word0 >> 32) as TaskId
    }

    /// Where the tuple goes.
    #[inline]
    pub fn dest(&self) -> DestRef<'a> {
        let dest = self.word1 as u32;
        if self.flags() & (tuple_flags::DEST_LIST | tuple_flags::DEST_SET) == 0 {
            DestRef::Task(dest)
        } else if self.flags() & tuple_flags::DEST_SET != 0 {
            DestRef::Set(dest)
        } else {
            let at = self.dest_at() + 4;
            DestRef::List(TaskList { tasks: &self.bytes[at..at + 4 * dest as usize] })
        }
    }

    /// Time of the spout's turn that began the tuple's tree, ns of the sender's monotonic clock.
    #[inline]
    pub fn origin_ns(&self) -> u64 {
        self.origin_ns
    }

    /// The trees the tuple belongs to; none if it is unanchored.
    #[inline]
    pub fn anchors(&self) -> Anchors<'a> {
        if self.flags() & (tuple_flags::ANCHOR1 | tuple_flags::ANCHORS) == 0 {
            return Anchors { pairs: &[] };
        }
        let at = self.anchors_at();
        let (at, count) =
            if self.flags() & tuple_flags::ANCHOR1 != 0 { (at, 1) } else { (at + 8, u64_at(self.bytes, at) as usize) };
        Anchors { pairs: &self.bytes[at..at + 16 * count] }
    }

    /// Event time, if the tuple has one.
    #[inline]
    pub fn event_time(&self) -> Option<i64> {
        self.word_section(tuple_flags::EVENT_TIME).map(|time| time as i64)
    }

    /// Key group, if the sender gave it.
    #[inline]
    pub fn key_group(&self) -> Option<u32> {
        self.word_section(tuple_flags::KEY_GROUP).map(|group| group as u32)
    }

    /// Trace id, if the tuple is traced.
    #[inline]
    pub fn trace(&self) -> Option<u64> {
        self.word_section(tuple_flags::TRACE)
    }

    /// Bytes of the whole tuple in the batch: header, sections, archive and padding. What it costs in credit.
    #[inline]
    pub fn byte_len(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// The archive.
    #[inline(always)]
    pub fn payload(&self) -> &'a [u8] {
        let start = self.header_bytes();
        let end = self.bytes.len() - (self.word1 >> 56) as usize;
        debug_assert!(start <= end && end <= self.bytes.len());
        // SAFETY: the batch is well-formed: header and padding lie within the tuple and do not overlap.
        unsafe { self.bytes.get_unchecked(start..end) }
    }

    /// The tuple as a `T`.
    ///
    /// # Panics
    ///
    /// If the batch is not of `T`: a mistake in wiring, not in the data.
    #[inline(always)]
    pub fn tuple<T: Tuple>(&self) -> TupleRef<'a, T> {
        if self.schema != schema_of::<T>() {
            wrong_type::<T>(self.schema);
        }
        // SAFETY: the batch is well-formed and of `T`, so the payload is a valid archive of `T`. It is 8-aligned: the batch
        // is, and tuples and headers are multiples of 8 long.
        unsafe { TupleRef::new(self.payload()) }
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("source", &self.source())
            .field("dest", &self.dest())
            .field("origin_ns", &self.origin_ns)
            .field("anchors", &self.anchors())
            .field("event_time", &self.event_time())
            .field("key_group", &self.key_group())
            .field("trace", &self.trace())
            .field("payload_bytes", &self.payload().len())
            .finish()
    }
}

#[cold]
#[inline(never)]
fn wrong_type<T: Tuple>(found: u64) -> ! {
    panic!("a tuple of schema {found:#018x} was read as `{}` (schema {:#018x})", T::NAME, schema_of::<T>())
}

/// Where a tuple goes, as read.
#[derive(Debug, Clone)]
pub enum DestRef<'a> {
    /// One task.
    Task(TaskId),
    /// The task set with this index in the plan.
    Set(u32),
    /// These tasks.
    List(TaskList<'a>),
}

/// Iterates over the tasks of a destination list.
#[derive(Clone)]
pub struct TaskList<'a> {
    /// Invariant: a multiple of 4 long.
    tasks: &'a [u8],
}

impl Iterator for TaskList<'_> {
    type Item = TaskId;

    #[inline]
    fn next(&mut self) -> Option<TaskId> {
        let (task, rest) = self.tasks.split_first_chunk::<4>()?;
        self.tasks = rest;
        Some(u32::from_le_bytes(*task))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.tasks.len() / 4, Some(self.tasks.len() / 4))
    }
}

impl ExactSizeIterator for TaskList<'_> {}

impl fmt::Debug for TaskList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Iterates over the anchors of a tuple.
#[derive(Clone, Copy)]
pub struct Anchors<'a> {
    /// Invariant: a multiple of 16 long.
    pairs: &'a [u8],
}

impl Anchors<'_> {
    /// Whether the tuple is unanchored (or none are left).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl Iterator for Anchors<'_> {
    type Item = AnchorEdge;

    #[inline]
    fn next(&mut self) -> Option<AnchorEdge> {
        let (pair, rest) = self.pairs.split_first_chunk::<16>()?;
        self.pairs = rest;
        Some(AnchorEdge { root: u64_at(pair, 0), edge: u64_at(pair, 8) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.pairs.len() / 16, Some(self.pairs.len() / 16))
    }
}

impl ExactSizeIterator for Anchors<'_> {}

impl fmt::Debug for Anchors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
