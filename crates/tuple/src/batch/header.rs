//! The batch header: 64 bytes, little-endian, pinned by a golden-bytes test.

use std::mem::size_of;

use super::validate::BatchError;
use crate::ids::{ReactorIx, StreamIx};

/// First two bytes of a batch.
pub const MAGIC: u16 = 0x5351;
/// Format version. Another version is refused.
pub const VERSION: u8 = 1;
/// Bytes of the batch header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a tuple header without sections.
pub const TUPLE_HEADER_BYTES: usize = 16;

/// Batch flags. The low nibble may be ignored by a reader that does not know a flag; the high nibble must be understood.
pub mod batch_flags {
    /// The header's `crc` is the CRC-32C of the whole batch (with `crc` itself as zero).
    pub const CRC: u8 = 1 << 0;
    /// The tuples are [`Row`](crate::Row)s.
    pub const DYNAMIC: u8 = 1 << 4;
    /// Reserved: fixed-size tuples as columns. Not understood yet, so refused.
    pub const UNIFORM: u8 = 1 << 5;
    /// What must be understood.
    pub const MUST_UNDERSTAND: u8 = 0xF0;
    /// The must-understand flags that this version understands.
    pub const UNDERSTOOD: u8 = DYNAMIC;
}

/// Tuple flags, which are sections, in the order in which the sections lie. Bits 8 to 15 must be understood; unknown low bits
/// are ignored, and their sections follow the known ones.
pub mod tuple_flags {
    /// Origin time, ns after the batch's base (i64), where it differs from the tuple before.
    pub const ORIGIN: u16 = 1 << 0;
    /// Event time (i64).
    pub const EVENT_TIME: u16 = 1 << 1;
    /// Key group (u64).
    pub const KEY_GROUP: u16 = 1 << 2;
    /// Trace id (u64).
    pub const TRACE: u16 = 1 << 3;
    /// One anchor: root, edge.
    pub const ANCHOR1: u16 = 1 << 8;
    /// A count (u64), then as many anchors.
    pub const ANCHORS: u16 = 1 << 9;
    /// `dest` is a number of tasks; their list follows (count u32, tasks u32, padded to 8).
    pub const DEST_LIST: u16 = 1 << 10;
    /// `dest` is an index into the plan's task sets.
    pub const DEST_SET: u16 = 1 << 11;
    /// The low flags that this version knows.
    pub const KNOWN_LOW: u16 = ORIGIN | EVENT_TIME | KEY_GROUP | TRACE;
    /// The must-understand flags that this version understands.
    pub const UNDERSTOOD: u16 = ANCHOR1 | ANCHORS | DEST_LIST | DEST_SET;
    /// What must be understood.
    pub const MUST_UNDERSTAND: u16 = 0xFF00;
}

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BatchKind {
    /// Tuples of one stream.
    Data = 0,
    /// [`AckRecord`](super::AckRecord)s.
    Ack = 1,
    /// [`MarkRecord`](super::MarkRecord)s.
    Mark = 2,
    /// [`CreditRecord`](super::CreditRecord)s.
    Control = 3,
}

impl BatchKind {
    pub(super) fn from_u8(raw: u8) -> Option<BatchKind> {
        [BatchKind::Data, BatchKind::Ack, BatchKind::Mark, BatchKind::Control].get(raw as usize).copied()
    }

    /// Bytes of one record; `None` for tuples, whose size varies.
    pub(super) fn record_bytes(self) -> Option<usize> {
        match self {
            BatchKind::Data => None,
            BatchKind::Ack => Some(super::AckRecord::BYTES),
            BatchKind::Mark => Some(super::MarkRecord::BYTES),
            BatchKind::Control => Some(super::CreditRecord::BYTES),
        }
    }
}

/// The header of a batch, as numbers.
///
/// Bytes: magic u16, version u8, header length u8, kind u8, flags u8, reserved u16, stream u32, source reactor u32, schema
/// id u64, link sequence u64, epoch u32, count u32, byte length u32, CRC u32, enqueued u64, base u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// What the batch holds.
    pub kind: BatchKind,
    /// [`batch_flags`].
    pub flags: u8,
    /// The stream whose tuples these are; 0 where the kind has none.
    pub stream: StreamIx,
    /// The reactor that wrote the batch.
    pub source_reactor: ReactorIx,
    /// [`TupleType::schema_id`](crate::TupleType::schema_id); 0 where the kind has none.
    pub schema_id: u64,
    /// Number of the batch on its link.
    pub link_seq: u64,
    /// Epoch of the sender's incarnation.
    pub epoch: u32,
    /// Tuples or records.
    pub count: u32,
    /// Bytes of the whole batch, header included; a multiple of 8.
    pub byte_len: u32,
    /// CRC-32C if [`batch_flags::CRC`] is set, else 0.
    pub crc: u32,
    /// When the sender enqueued the batch, ns of its monotonic clock.
    pub enqueued_ns: u64,
    /// Base of the tuples' origin times, ns of the sender's monotonic clock.
    pub base_ns: u64,
}

const _: () = assert!(
    HEADER_BYTES == 2 * size_of::<u16>() + 4 * size_of::<u8>() + 6 * size_of::<u32>() + 4 * size_of::<u64>(),
    "the fields fill the header"
);

pub(super) const AT_CRC: usize = 44;

impl BatchHeader {
    /// Reads the header of a batch of which at least the first 64 bytes have arrived. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`BatchError`] names what is wrong: too short, magic, version, header length, kind, a flag that must be understood,
    /// or lengths that contradict each other. Nothing is said of the rest of the batch: that is [`Batch::validate`](super::Batch::validate).
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { needed: HEADER_BYTES, found: bytes.len() });
        };
        let magic = u16::from_le_bytes([head[0], head[1]]);
        if magic != MAGIC {
            return Err(BatchError::Magic { found: magic });
        }
        if head[2] != VERSION {
            return Err(BatchError::Version { found: head[2] });
        }
        if head[3] as usize != HEADER_BYTES {
            return Err(BatchError::HeaderLength { found: head[3] });
        }
        if BatchKind::from_u8(head[4]).is_none() {
            return Err(BatchError::Kind { found: head[4] });
        }
        let unknown = head[5] & batch_flags::MUST_UNDERSTAND & !batch_flags::UNDERSTOOD;
        if unknown != 0 {
            return Err(BatchError::BatchFlags { unknown });
        }
        let header = BatchHeader::decode(head);
        header.check_lengths()?;
        Ok(header)
    }

    fn check_lengths(&self) -> Result<(), BatchError> {
        let byte_len = self.byte_len as usize;
        if byte_len < HEADER_BYTES || !byte_len.is_multiple_of(8) {
            return Err(BatchError::ByteLength { found: self.byte_len });
        }
        let content = byte_len - HEADER_BYTES;
        let fits = match self.kind.record_bytes() {
            Some(record) => self.count as usize * record == content,
            None if self.count == 0 => content == 0,
            None => self.count as usize * TUPLE_HEADER_BYTES <= content,
        };
        if fits { Ok(()) } else { Err(BatchError::Count { count: self.count, byte_len: self.byte_len }) }
    }

    /// Reads without checks. An unknown kind, which only unchecked bytes can have, reads as data.
    #[inline]
    pub(super) fn decode(head: &[u8; HEADER_BYTES]) -> BatchHeader {
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u32_at(at) as u64 | (u32_at(at + 4) as u64) << 32;
        BatchHeader {
            kind: BatchKind::from_u8(head[4]).unwrap_or(BatchKind::Data),
            flags: head[5],
            stream: u32_at(8),
            source_reactor: u32_at(12),
            schema_id: u64_at(16),
            link_seq: u64_at(24),
            epoch: u32_at(32),
            count: u32_at(36),
            byte_len: u32_at(40),
            crc: u32_at(AT_CRC),
            enqueued_ns: u64_at(48),
            base_ns: u64_at(56),
        }
    }

    #[inline]
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        head[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        head[2] = VERSION;
        head[3] = HEADER_BYTES as u8;
        head[4] = self.kind as u8;
        head[5] = self.flags;
        head[8..12].copy_from_slice(&self.stream.to_le_bytes());
        head[12..16].copy_from_slice(&self.source_reactor.to_le_bytes());
        head[16..24].copy_from_slice(&self.schema_id.to_le_bytes());
        head[24..32].copy_from_slice(&self.link_seq.to_le_bytes());
        head[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        head[36..40].copy_from_slice(&self.count.to_le_bytes());
        head[40..44].copy_from_slice(&self.byte_len.to_le_bytes());
        head[AT_CRC..48].copy_from_slice(&self.crc.to_le_bytes());
        head[48..56].copy_from_slice(&self.enqueued_ns.to_le_bytes());
        head[56..64].copy_from_slice(&self.base_ns.to_le_bytes());
        head
    }

    /// Writes into an encoded header what is known only when the batch is done. The CRC, where there is one, comes last.
    #[inline]
    pub(super) fn complete(
        head: &mut [u8; HEADER_BYTES],
        crc: bool,
        link_seq: u64,
        enqueued_ns: u64,
        count: u32,
        byte_len: u32,
        base_ns: u64,
    ) {
        head[5] = head[5] & !batch_flags::CRC | if crc { batch_flags::CRC } else { 0 };
        head[24..32].copy_from_slice(&link_seq.to_le_bytes());
        head[36..40].copy_from_slice(&count.to_le_bytes());
        head[40..44].copy_from_slice(&byte_len.to_le_bytes());
        head[AT_CRC..48].copy_from_slice(&0_u32.to_le_bytes());
        head[48..56].copy_from_slice(&enqueued_ns.to_le_bytes());
        head[56..64].copy_from_slice(&base_ns.to_le_bytes());
    }

    /// Whether the tuples are rows.
    #[inline]
    pub fn dynamic(&self) -> bool {
        self.flags & batch_flags::DYNAMIC != 0
    }
}
