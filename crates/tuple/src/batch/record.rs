//! Records of fixed size: marks, acks, credits. Their layouts are pinned by golden-bytes tests.

use super::{u32_at, u64_at};
use crate::ids::{StreamIx, TaskId};

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum MarkKind {
    /// The source task emits nothing more on the stream.
    EndOfStream = 1,
    /// No tuple with an event time below `value` (an i64) follows.
    Watermark = 2,
    /// A checkpoint barrier; `value` is its number.
    Checkpoint = 3,
    /// The epoch changes to `value`.
    Epoch = 4,
    /// The source drains.
    Drain = 5,
}

impl MarkKind {
    fn from_u32(raw: u32) -> Option<MarkKind> {
        use MarkKind::*;
        [EndOfStream, Watermark, Checkpoint, Epoch, Drain].get((raw as usize).wrapping_sub(1)).copied()
    }
}

/// A mark, in order with the tuples of one source task and stream.
///
/// Bytes: kind u32, stream u32, source u32, reserved u32 (0), value u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MarkRecord {
    /// What it says.
    pub kind: MarkKind,
    /// The stream.
    pub stream: StreamIx,
    /// The task whose tuples on the stream it stands between.
    pub source: TaskId,
    /// By kind; 0 where the kind has none.
    pub value: u64,
}

impl MarkRecord {
    pub(super) const BYTES: usize = 24;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.source.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }

    /// The record, or the unknown kind.
    pub(super) fn decode(bytes: &[u8]) -> Result<MarkRecord, u32> {
        let raw = u32_at(bytes, 0);
        let kind = MarkKind::from_u32(raw).ok_or(raw)?;
        Ok(MarkRecord { kind, stream: u32_at(bytes, 4), source: u32_at(bytes, 8), value: u64_at(bytes, 16) })
    }
}

/// What an ack record says of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum AckKind {
    /// Folds `xor` into the root's ledger entry.
    Ack = 0,
    /// The root has failed; `reason` says why.
    Fail = 1,
    /// The root makes progress: its timeout starts anew.
    Reset = 2,
    /// No root: the workers whose bits are set in `xor` (worker modulo 32) find no room, as the sender sees it. What was
    /// sent there is held up.
    NoRoom = 3,
}

impl AckKind {
    #[inline]
    fn from_u32(raw: u32) -> Option<AckKind> {
        [AckKind::Ack, AckKind::Fail, AckKind::Reset, AckKind::NoRoom].get(raw as usize).copied()
    }
}

/// An ack or fail, on its way to the ledger that the root names.
///
/// Bytes: root u64, xor u64, kind u32, detail u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AckRecord {
    /// The root, as [`RootId`](crate::RootId) lays it out.
    pub root: u64,
    /// Edges to fold in, of any number of tuples.
    pub xor: u64,
    /// What it says.
    pub kind: AckKind,
    /// For acks the workers to which tuples of the root were sent on, by bit (worker modulo 32); for fails the reason.
    pub detail: u32,
}

impl AckRecord {
    pub(super) const BYTES: usize = 24;

    #[inline]
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..8].copy_from_slice(&self.root.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.xor.to_le_bytes());
        bytes[16..20].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[20..24].copy_from_slice(&self.detail.to_le_bytes());
        bytes
    }

    /// The record, or the unknown kind.
    #[inline]
    pub(super) fn decode(bytes: &[u8]) -> Result<AckRecord, u32> {
        // One check of the length for all.
        let bytes = bytes.first_chunk::<{ Self::BYTES }>().expect("a record has its length");
        let raw = u32_at(bytes, 16);
        let kind = AckKind::from_u32(raw).ok_or(raw)?;
        Ok(AckRecord { root: u64_at(bytes, 0), xor: u64_at(bytes, 8), kind, detail: u32_at(bytes, 20) })
    }
}

/// Credit given back: how much an inbox has consumed so far.
///
/// Bytes: inbox u32, record type u32 (0), consumed u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CreditRecord {
    /// The inbox, as the plan numbers them.
    pub inbox: u32,
    /// Bytes consumed since the link began; only grows.
    pub consumed: u64,
}

impl CreditRecord {
    pub(super) const BYTES: usize = 16;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.inbox.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.consumed.to_le_bytes());
        bytes
    }

    /// The record, or the unknown record type.
    pub(super) fn decode(bytes: &[u8]) -> Result<CreditRecord, u32> {
        match u32_at(bytes, 4) {
            0 => Ok(CreditRecord { inbox: u32_at(bytes, 0), consumed: u64_at(bytes, 8) }),
            other => Err(other),
        }
    }
}
