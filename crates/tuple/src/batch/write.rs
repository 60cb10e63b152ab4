//! Writing batches.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;

use super::header::{AT_CRC, BatchHeader, BatchKind, HEADER_BYTES, TUPLE_HEADER_BYTES, batch_flags, tuple_flags};
use super::memory::Memory;
use super::read::Outline;
use super::record::{AckRecord, CreditRecord, MarkRecord};
use super::{Batch, Cursor, crc, pad8, schema_carried, schema_of};
use crate::emit::{Emit, Full, Scratch, TupleWriter};
use crate::ids::{AnchorEdge, ReactorIx, StreamIx, TaskId};
use crate::schema::Tuple;

/// Where a tuple goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dest<'a> {
    /// One task.
    Task(TaskId),
    /// The task set with this index in the plan.
    Set(u32),
    /// These tasks, all on the receiving reactor.
    List(&'a [TaskId]),
}

/// All that a tuple carries beside its value.
#[derive(Debug, Clone, Copy)]
pub struct TupleHead<'a> {
    /// The emitting task.
    pub source: TaskId,
    /// Where it goes.
    pub dest: Dest<'a>,
    /// Time of the spout's turn that began the tuple's tree, ns of the host's monotonic clock.
    pub origin_ns: u64,
    /// The trees it belongs to; empty if unanchored.
    pub anchors: &'a [AnchorEdge],
    /// When it happened, by the source's own reckoning.
    pub event_time: Option<i64>,
    /// Its key group, where the receiver should not compute it again.
    pub key_group: Option<u32>,
    /// Its trace, if it is traced.
    pub trace: Option<u64>,
}

impl<'a> TupleHead<'a> {
    /// An unanchored tuple with nothing special.
    pub fn plain(source: TaskId, dest: TaskId, origin_ns: u64) -> TupleHead<'a> {
        TupleHead {
            source,
            dest: Dest::Task(dest),
            origin_ns,
            anchors: &[],
            event_time: None,
            key_group: None,
            trace: None,
        }
    }
}

/// What [`BatchBuf::open`] needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenBatch {
    /// What the batch will hold.
    pub kind: BatchKind,
    /// The stream; 0 where the kind has none.
    pub stream: StreamIx,
    /// [`TupleType::schema_id`](crate::TupleType::schema_id) of the stream; 0 where the kind has none.
    pub schema_id: u64,
    /// [`TupleType::dynamic`](crate::TupleType::dynamic) of the stream.
    pub dynamic: bool,
    /// The reactor that writes.
    pub source_reactor: ReactorIx,
    /// Epoch of this process's incarnation.
    pub epoch: u32,
}

impl OpenBatch {
    /// The same, worked out once for many batches.
    pub fn template(&self) -> BatchTemplate {
        let header = BatchHeader {
            kind: self.kind,
            flags: if self.dynamic { batch_flags::DYNAMIC } else { 0 },
            stream: self.stream,
            source_reactor: self.source_reactor,
            schema_id: self.schema_id,
            link_seq: 0,
            epoch: self.epoch,
            count: 0,
            byte_len: HEADER_BYTES as u32,
            crc: 0,
            enqueued_ns: 0,
            base_ns: 0,
        };
        BatchTemplate::of(&header)
    }
}

/// How batches of one stream begin.
#[derive(Debug, Clone)]
pub struct BatchTemplate {
    head: [u8; HEADER_BYTES],
    kind: BatchKind,
    schema: u64,
    base_ns: u64,
}

impl BatchTemplate {
    fn of(header: &BatchHeader) -> Self {
        assert!(header.schema_id != super::ROWS, "u64::MAX is no schema id");
        BatchTemplate {
            head: header.encode(),
            kind: header.kind,
            schema: schema_carried(header.kind, header.schema_id, header.dynamic()),
            base_ns: header.base_ns,
        }
    }
}

/// An owned buffer that holds one batch: 64-aligned, of fixed capacity, reused from batch to batch.
///
/// Life: [`open`](BatchBuf::open) → pushes → [`seal`](BatchBuf::seal) → sent (it dereferences to the batch's bytes) or read
/// in place ([`view`](BatchBuf::view)) → `open` again. A batch that arrives in pieces comes in by
/// [`receive_begin`](BatchBuf::receive_begin). A push never allocates memory for the batch: it answers [`Full`].
pub struct BatchBuf {
    /// Behind a pointer, so that moving a batch from queue to queue moves eight bytes.
    pub(super) state: Box<State>,
}

pub(super) struct State {
    pub(super) memory: Memory,
    /// Bytes in use, header included. Invariant: a multiple of 8 and `<= memory.bytes`, but for a batch being received.
    pub(super) len: usize,
    /// Bytes that pushes may use: the capacity while the batch is open, 0 otherwise.
    limit: usize,
    /// Tuples or records pushed.
    pub(super) count: u32,
    /// Type that pushes must have, see `schema_of`.
    pub(super) schema: u64,
    /// Origin of the last tuple pushed.
    origin_ns: u64,
    /// Base of the origins: the first tuple's.
    pub(super) base_ns: u64,
    /// How often a batch was begun here; by it a cursor of an earlier one is noticed.
    fills: u64,
    pub(super) kind: BatchKind,
    /// Bytes arrive that are not checked yet.
    pub(super) receiving: bool,
}

impl Deref for State {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len <= memory.bytes`, all of it initialized since allocation.
        unsafe { std::slice::from_raw_parts(self.memory.at.as_ptr(), self.len) }
    }
}

// SAFETY: the memory is owned and reached only through the `BatchBuf`.
unsafe impl Send for BatchBuf {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for BatchBuf {}

/// The bytes in use.
impl Deref for BatchBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.state
    }
}

// SAFETY: the bytes lie on the heap, so moving the `BatchBuf` does not move them; `deref` gives the same bytes until a
// `&mut` method is called.
unsafe impl stable_deref_trait::StableDeref for BatchBuf {}

impl fmt::Debug for BatchBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuf")
            .field("kind", &self.state.kind)
            .field("count", &self.state.count)
            .field("len", &self.state.len)
            .field("capacity", &self.capacity())
            .field("receiving", &self.state.receiving)
            .finish_non_exhaustive()
    }
}

impl BatchBuf {
    /// The largest capacity, 1 GiB. (rkyv's relative pointers reach 2 GiB.)
    pub const MAX_CAPACITY: usize = 1 << 30;
    /// Bytes of an empty batch.
    pub const EMPTY_BYTES: usize = HEADER_BYTES;

    /// A buffer of at least `bytes` (rounded up to a multiple of 64, at least 128), zeroed, closed: `open` it before the first push.
    ///
    /// # Panics
    ///
    /// Above [`MAX_CAPACITY`](BatchBuf::MAX_CAPACITY).
    pub fn with_capacity(bytes: usize) -> BatchBuf {
        let state = State {
            memory: Memory::new(bytes),
            len: HEADER_BYTES,
            limit: 0,
            count: 0,
            schema: 0,
            origin_ns: 0,
            base_ns: 0,
            fills: 0,
            kind: BatchKind::Data,
            receiving: false,
        };
        let mut buf = BatchBuf { state: Box::new(state) };
        buf.close_empty();
        buf
    }

    /// Bytes it can hold, header included.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.state.memory.bytes
    }

    /// Bytes in use, header included: 64 when empty.
    #[inline]
    pub fn len(&self) -> usize {
        self.state.len
    }

    /// Tuples or records in it.
    #[inline]
    pub fn count(&self) -> u32 {
        self.state.count
    }

    /// Whether it holds neither tuples nor records.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.state.count == 0
    }

    /// What it holds.
    #[inline]
    pub fn kind(&self) -> BatchKind {
        self.state.kind
    }

    /// Begins a batch; what was in the buffer is forgotten. The base of the origins will be that of the first tuple.
    ///
    /// # Panics
    ///
    /// If `schema_id` is `u64::MAX`, which no type has.
    pub fn open(&mut self, o: &OpenBatch) {
        self.open_as(&o.template());
    }

    /// As [`open`](BatchBuf::open), from a template: the way for batch after batch of one stream.
    #[inline]
    pub fn open_as(&mut self, template: &BatchTemplate) {
        self.memory_mut()[..HEADER_BYTES].copy_from_slice(&template.head);
        let state = &mut *self.state;
        state.kind = template.kind;
        state.schema = template.schema;
        state.len = HEADER_BYTES;
        state.limit = state.memory.bytes;
        state.count = 0;
        state.base_ns = template.base_ns;
        state.origin_ns = template.base_ns;
        state.fills += 1;
        state.receiving = false;
    }

    /// Lets the pushes of the open batch use no more than `bytes`, header included, where that is less than the capacity.
    #[inline]
    pub fn limit_to(&mut self, bytes: usize) {
        self.state.limit = self.state.limit.min(bytes);
    }

    /// Empty and closed: no type may be pushed until `open`.
    pub(super) fn close_empty(&mut self) {
        self.open(&OpenBatch {
            kind: BatchKind::Data,
            stream: 0,
            schema_id: 0,
            dynamic: false,
            source_reactor: 0,
            epoch: 0,
        });
        self.state.limit = 0;
    }

    /// All of the memory.
    #[inline]
    pub(super) fn memory_mut(&mut self) -> &mut [u8] {
        // SAFETY: `bytes` initialized bytes since allocation, reached only through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.state.memory.at.as_ptr(), self.state.memory.bytes) }
    }

    /// Appends a tuple that is unanchored and goes to one task. Gives the bytes it takes.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room, or the batch is sealed. Nothing has changed then.
    ///
    /// # Panics
    ///
    /// If the batch was opened for another type than `T`, or not at all.
    #[inline]
    pub fn push_plain<T: Tuple, E: Emit<T> + ?Sized>(
        &mut self,
        source: TaskId,
        dest: TaskId,
        origin_ns: u64,
        value: &E,
    ) -> Result<u32, Full> {
        self.push(&TupleHead::plain(source, dest, origin_ns), value)
    }

    /// Appends a tuple that is unanchored, goes to one task and has the origin of the tuple before: the hot path. Gives the
    /// bytes it takes.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room, the batch is sealed, or the origin is another than the tuple's before: then
    /// [`push`](BatchBuf::push) tells. Nothing has changed.
    ///
    /// # Panics
    ///
    /// If the batch was opened for another type than `T`, or not at all.
    #[inline(always)]
    pub fn push_steady<T: Tuple, E: Emit<T> + ?Sized>(
        &mut self,
        source: TaskId,
        dest: TaskId,
        origin_ns: u64,
        value: &E,
    ) -> Result<u32, Full> {
        if origin_ns != self.state.origin_ns {
            // Not by a call of `push`: it would take the value by reference, and a small tuple would have to lie in memory.
            if self.state.count != 0 {
                return Err(Full);
            }
            self.state.base_ns = origin_ns;
            self.state.origin_ns = origin_ns;
        }
        let word = dest as u64 | ((TUPLE_HEADER_BYTES / 8) as u64) << 48;
        self.append(TUPLE_HEADER_BYTES, source, word, value)
    }

    /// As [`push_steady`](BatchBuf::push_steady), with one anchor: the hot path of tracked tuples.
    ///
    /// # Errors
    ///
    /// As there, and for the first tuple of a batch.
    ///
    /// # Panics
    ///
    /// If the batch was opened for another type than `T`, or not at all.
    #[inline(always)]
    pub fn push_tracked<T: Tuple, E: Emit<T> + ?Sized>(
        &mut self,
        source: TaskId,
        dest: TaskId,
        origin_ns: u64,
        anchor: AnchorEdge,
        value: &E,
    ) -> Result<u32, Full> {
        if origin_ns != self.state.origin_ns || self.state.count == 0 {
            return Err(Full);
        }
        let (header, word) = self.put_words(dest, tuple_flags::ANCHOR1, [anchor.root, anchor.edge])?;
        self.append(header, source, word, value)
    }

    /// Appends a tuple. Gives the bytes it takes.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room, or the batch is sealed. Nothing has changed then.
    ///
    /// # Panics
    ///
    /// If the batch was opened for another type than `T`, or not at all.
    #[inline(always)]
    pub fn push<T: Tuple, E: Emit<T> + ?Sized>(&mut self, head: &TupleHead<'_>, value: &E) -> Result<u32, Full> {
        let first = self.state.count == 0;
        let origin = !first && head.origin_ns != self.state.origin_ns;
        let delta = head.origin_ns.wrapping_sub(self.state.base_ns);
        // The usual cases are worth their own stores: up to one anchor, and nothing rare.
        let usual = (head.dest, head.event_time, head.key_group, head.trace);
        let (header, word) = match (usual, head.anchors, origin) {
            ((Dest::Task(task), None, None, None), [], false) => self.put_words(task, 0, []),
            ((Dest::Task(task), None, None, None), [], true) => self.put_words(task, tuple_flags::ORIGIN, [delta]),
            ((Dest::Task(task), None, None, None), [one], false) => {
                self.put_words(task, tuple_flags::ANCHOR1, [one.root, one.edge])
            }
            ((Dest::Task(task), None, None, None), [one], true) => {
                self.put_words(task, tuple_flags::ORIGIN | tuple_flags::ANCHOR1, [delta, one.root, one.edge])
            }
            _ => self.put_head(head, origin.then_some(delta)),
        }?;
        let bytes = self.append(header, head.source, word, value)?;
        if first {
            self.state.base_ns = head.origin_ns;
        }
        self.state.origin_ns = head.origin_ns;
        Ok(bytes)
    }

    /// Writes sections of one word each behind the place of the tuple header. Gives what `put_head` does.
    #[inline(always)]
    fn put_words<const N: usize>(&mut self, dest: TaskId, flags: u16, words: [u64; N]) -> Result<(usize, u64), Full> {
        let header = TUPLE_HEADER_BYTES + 8 * N;
        let start = self.state.len;
        if self.state.limit < start + header {
            return Err(Full);
        }
        let room = &mut self.memory_mut()[start + TUPLE_HEADER_BYTES..start + header];
        for (room, word) in room.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *room = word.to_le_bytes();
        }
        Ok((header, dest as u64 | (flags as u64) << 32 | (header as u64 / 8) << 48))
    }

    /// Writes the sections behind the place of the tuple header. Gives the bytes of both, and the second half of the tuple
    /// header but for the padding.
    fn put_head(&mut self, head: &TupleHead<'_>, delta: Option<u64>) -> Result<(usize, u64), Full> {
        let (flags, mut header) = sections(head, delta.is_some());
        let units = header / 8;
        let long = units > u8::MAX as usize;
        if long {
            header += 8;
        }
        if self.state.limit.saturating_sub(self.state.len) < header {
            return Err(Full);
        }
        let start = self.state.len;
        let mut put = Put(&mut self.memory_mut()[start + TUPLE_HEADER_BYTES..start + header]);
        if long {
            put.u64(header as u64 / 8);
        }
        if let Some(delta) = delta {
            put.u64(delta);
        }
        match head.anchors {
            [] => {}
            [one] => put.anchor(one),
            many => {
                put.u64(many.len() as u64);
                many.iter().for_each(|anchor| put.anchor(anchor));
            }
        }
        let dest = match head.dest {
            Dest::Task(task) => task,
            Dest::Set(set) => set,
            Dest::List(tasks) => {
                put.list(tasks);
                tasks.len() as u32
            }
        };
        if let Some(time) = head.event_time {
            put.u64(time as u64);
        }
        if let Some(group) = head.key_group {
            put.u64(group as u64);
        }
        if let Some(trace) = head.trace {
            put.u64(trace);
        }
        debug_assert!(put.0.is_empty(), "the sections fill the header");
        let units = if long { 0 } else { units as u64 };
        Ok((header, dest as u64 | (flags as u64) << 32 | units << 48))
    }

    /// Writes the archive after `header` bytes of header and sections, then the header, and only then counts the tuple in.
    /// `word` is the second half of the tuple header but for the padding.
    #[inline(always)]
    fn append<T: Tuple, E: Emit<T> + ?Sized>(
        &mut self,
        header: usize,
        source: TaskId,
        word: u64,
        value: &E,
    ) -> Result<u32, Full> {
        if self.state.schema != schema_of::<T>() {
            wrong_type::<T>(self);
        }
        let start = self.state.len;
        let Some(room) = self.state.limit.checked_sub(start + header) else { return Err(Full) };
        let mut scratch: Scratch = [MaybeUninit::uninit(); _];
        // SAFETY: `start` and `header` are multiples of 8 and the memory is 64-aligned, so the payload is 8-aligned;
        // `room` bytes from it (a multiple of 8, since `limit` is one) are within the memory, initialized since
        // allocation, and borrowed exclusively with `self` until the writer is finished. The scratch is used here only.
        let (archive, tail) = unsafe {
            let payload = self.state.memory.at.add(start + header);
            let mut writer = TupleWriter::new(payload, room, &mut scratch);
            value.write(&mut writer)?;
            writer.finish()
        };
        let len = header + archive;
        // SAFETY: `start + 16 <= limit`, 8-aligned, exclusively ours.
        unsafe {
            let head = self.state.memory.at.add(start).cast::<u64>();
            head.write((len as u64 | (source as u64) << 32).to_le());
            head.add(1).write((word | (tail as u64) << 56).to_le());
        }
        self.state.len = start + len;
        self.state.count += 1;
        Ok(len as u32)
    }

    /// Appends a mark.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room, or the batch is sealed.
    ///
    /// # Panics
    ///
    /// If the batch was opened for another kind.
    pub fn push_mark(&mut self, m: &MarkRecord) -> Result<(), Full> {
        self.push_record(BatchKind::Mark, &m.encode())
    }

    /// Appends an ack.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room, or the batch is sealed.
    ///
    /// # Panics
    ///
    /// If the batch was opened for another kind.
    pub fn push_ack(&mut self, a: &AckRecord) -> Result<(), Full> {
        self.push_record(BatchKind::Ack, &a.encode())
    }

    /// Appends as many of these acks as fit. How many.
    ///
    /// # Panics
    ///
    /// If the batch was opened for another kind.
    pub fn push_acks(&mut self, acks: &[AckRecord]) -> usize {
        assert!(self.state.kind == BatchKind::Ack, "acks were pushed to a batch opened for {:?}", self.state.kind);
        let start = self.state.len;
        let count = (self.state.limit.saturating_sub(start) / AckRecord::BYTES).min(acks.len());
        let end = start + count * AckRecord::BYTES;
        let room = self.memory_mut()[start..end].as_chunks_mut::<{ AckRecord::BYTES }>().0;
        for (room, ack) in room.iter_mut().zip(acks) {
            *room = ack.encode();
        }
        self.state.len = end;
        self.state.count += count as u32;
        count
    }

    /// Appends a credit.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room, or the batch is sealed.
    ///
    /// # Panics
    ///
    /// If the batch was opened for another kind.
    pub fn push_credit(&mut self, c: &CreditRecord) -> Result<(), Full> {
        self.push_record(BatchKind::Control, &c.encode())
    }

    fn push_record(&mut self, kind: BatchKind, record: &[u8]) -> Result<(), Full> {
        assert!(
            self.state.kind == kind,
            "a record of kind {kind:?} was pushed to a batch opened for {:?}",
            self.state.kind
        );
        let end = self.state.len + record.len();
        if end > self.state.limit {
            return Err(Full);
        }
        let start = self.state.len;
        self.memory_mut()[start..end].copy_from_slice(record);
        self.state.len = end;
        self.state.count += 1;
        Ok(())
    }

    /// Finishes the batch: writes its header. Pushes answer [`Full`] from now on, until `open`.
    ///
    /// `link_seq` numbers the batches of the link, `enqueued_ns` is now. With `crc` the batch is summed (some 0.5 ns a byte).
    ///
    /// # Panics
    ///
    /// While a batch is being received.
    pub fn seal(&mut self, link_seq: u64, enqueued_ns: u64, crc: bool) {
        assert!(!self.state.receiving, "the batch is still being received");
        let (count, len, base_ns) = (self.state.count, self.state.len as u32, self.state.base_ns);
        let head = self.memory_mut().first_chunk_mut().expect("the memory is at least 128 bytes long");
        BatchHeader::complete(head, crc, link_seq, enqueued_ns, count, len, base_ns);
        if crc {
            let sum = crc::crc32c(0, self);
            self.memory_mut()[AT_CRC..AT_CRC + 4].copy_from_slice(&sum.to_le_bytes());
        }
        self.state.limit = 0;
    }

    /// The batch, to be read in place. Needs no check: it was written here, or checked by `receive_end`. May be taken before
    /// `seal`; only its [`bytes`](Batch::bytes) are not for sending then.
    ///
    /// # Panics
    ///
    /// While a batch is being received.
    #[inline]
    pub fn view(&self) -> Batch<'_> {
        let State { kind, count, base_ns, schema, .. } = *self.state;
        assert!(!self.state.receiving, "the batch is still being received");
        let outline = Outline { kind, count, base_ns, schema };
        // SAFETY: the bytes were written by this type's own pushes, each of the type of the batch, or validated.
        unsafe { Batch::new(self, outline, self.state.fills) }
    }

    /// Replaces the content by the tuples of `batch` from the cursor on, and the header of `batch` with their count. The base
    /// is the cursor's running origin. More tuples may be pushed after them.
    ///
    /// # Errors
    ///
    /// [`Full`] if they exceed the capacity ([`grow_to`](BatchBuf::grow_to) `batch.bytes().len()` always suffices). Nothing has
    /// changed then.
    ///
    /// # Panics
    ///
    /// If the cursor is not of this batch.
    pub fn copy_tail(&mut self, batch: &Batch<'_>, at: &Cursor) -> Result<(), Full> {
        let tail = batch.tail(at);
        let end = HEADER_BYTES + tail.len();
        if end > self.state.memory.bytes {
            return Err(Full);
        }
        let mut header = BatchHeader { base_ns: at.origin_ns(), crc: 0, ..batch.header() };
        header.flags &= !batch_flags::CRC;
        self.open_as(&BatchTemplate::of(&header));
        self.memory_mut()[HEADER_BYTES..end].copy_from_slice(tail);
        self.state.len = end;
        self.state.count = at.left();
        self.rebase(batch.header().base_ns);
        Ok(())
    }

    /// Turns the origins in the tuples from being relative to `old` into being relative to `base_ns`, and finds the last.
    fn rebase(&mut self, old: u64) {
        let shift = old.wrapping_sub(self.state.base_ns);
        let mut pos = HEADER_BYTES;
        let mut origin_ns = self.state.base_ns;
        let end = self.state.len;
        let bytes = self.memory_mut();
        while pos < end {
            let word = super::u64_at(bytes, pos + 8);
            if (word >> 32) as u16 & tuple_flags::ORIGIN != 0 {
                let long = (word >> 48) as u8 == 0;
                let at = pos + TUPLE_HEADER_BYTES + if long { 8 } else { 0 };
                let delta = super::u64_at(bytes, at).wrapping_add(shift);
                bytes[at..at + 8].copy_from_slice(&delta.to_le_bytes());
                origin_ns = old.wrapping_sub(shift).wrapping_add(delta);
            }
            pos += super::u32_at(bytes, pos) as usize;
        }
        self.state.origin_ns = origin_ns;
    }

    /// Makes the capacity at least `bytes`; the content stays.
    ///
    /// # Panics
    ///
    /// Above [`MAX_CAPACITY`](BatchBuf::MAX_CAPACITY).
    pub fn grow_to(&mut self, bytes: usize) {
        if bytes <= self.state.memory.bytes {
            return;
        }
        let old = std::mem::replace(&mut self.state.memory, Memory::new(bytes));
        // SAFETY: `len` bytes of the old memory are initialized, the new memory is larger, and they are apart.
        unsafe { self.state.memory.at.copy_from_nonoverlapping(old.at, self.state.len) };
        if self.state.limit != 0 {
            self.state.limit = self.state.memory.bytes;
        }
    }
}

#[cold]
#[inline(never)]
fn wrong_type<T: Tuple>(buf: &BatchBuf) -> ! {
    panic!(
        "a `{}` (schema {:#018x}) was pushed to a batch opened for {:?} with schema {:#018x}",
        T::NAME,
        T::ID,
        buf.state.kind,
        buf.state.schema,
    )
}

/// The flags of a head, and the bytes of tuple header and sections.
#[inline]
fn sections(head: &TupleHead<'_>, origin: bool) -> (u16, usize) {
    let (mut flags, mut bytes) = (0, TUPLE_HEADER_BYTES);
    let mut section = |present: bool, flag: u16, size: usize| {
        if present {
            flags |= flag;
            bytes += size;
        }
    };
    section(origin, tuple_flags::ORIGIN, 8);
    section(head.anchors.len() == 1, tuple_flags::ANCHOR1, 16);
    section(head.anchors.len() > 1, tuple_flags::ANCHORS, 8 + 16 * head.anchors.len());
    match head.dest {
        Dest::Task(_) => {}
        Dest::Set(_) => section(true, tuple_flags::DEST_SET, 0),
        Dest::List(tasks) => section(true, tuple_flags::DEST_LIST, pad8(4 + 4 * tasks.len())),
    }
    section(head.event_time.is_some(), tuple_flags::EVENT_TIME, 8);
    section(head.key_group.is_some(), tuple_flags::KEY_GROUP, 8);
    section(head.trace.is_some(), tuple_flags::TRACE, 8);
    (flags, bytes)
}

/// Writes sections one after the other; what is left of the room.
struct Put<'a>(&'a mut [u8]);

impl Put<'_> {
    #[inline]
    fn u64(&mut self, n: u64) {
        let (word, rest) =
            std::mem::take(&mut self.0).split_first_chunk_mut::<8>().expect("the sections fit the header");
        *word = n.to_le_bytes();
        self.0 = rest;
    }

    #[inline]
    fn anchor(&mut self, anchor: &AnchorEdge) {
        self.u64(anchor.root);
        self.u64(anchor.edge);
    }

    /// Count and tasks, two to a word.
    fn list(&mut self, tasks: &[TaskId]) {
        let mut words = std::iter::once(tasks.len() as u32).chain(tasks.iter().copied());
        while let Some(low) = words.next() {
            self.u64(low as u64 | (words.next().unwrap_or(0) as u64) << 32);
        }
    }
}
