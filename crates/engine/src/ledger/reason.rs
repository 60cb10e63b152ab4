//! The words of the ledger: ids of messages, and why a root failed, as it travels in an ack record.

use std::fmt;

use squall_topology::Plan;
use squall_tuple::ids::{ComponentIx, WorkerIx};

/// What a spout calls a tuple of its own: 16 bytes of its choice, given back with the tuple's ack or fail. A spout whose
/// ids are longer keeps them itself, by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MessageId([u64; 2]);

impl MessageId {
    /// The number it was made from, or the first of two.
    #[inline]
    pub fn as_u64(self) -> u64 {
        self.0[0]
    }

    /// The two numbers it was made from.
    #[inline]
    pub fn as_pair(self) -> (u64, u64) {
        (self.0[0], self.0[1])
    }

    /// The 16 bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.0[0]) | u128::from(self.0[1]) << 64).to_le_bytes()
    }
}

impl From<u64> for MessageId {
    #[inline]
    fn from(number: u64) -> Self {
        MessageId([number, 0])
    }
}

/// Two numbers: a file and an offset, a partition and an offset.
impl From<(u64, u64)> for MessageId {
    #[inline]
    fn from((first, second): (u64, u64)) -> Self {
        MessageId([first, second])
    }
}

impl From<[u8; 16]> for MessageId {
    fn from(bytes: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(bytes);
        MessageId([both as u64, (both >> 64) as u64])
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [number, 0] => write!(f, "{number}"),
            [first, second] => write!(f, "{first}:{second}"),
        }
    }
}

/// Why a root failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// A task of this component failed a tuple of its tree.
    Failed(ComponentIx),
    /// A tuple of its tree was dropped and counted: on a feedback edge from this component without room, or on the way to it
    /// after its end.
    Dropped(ComponentIx),
    /// Nothing was heard of it for the message timeout.
    TimedOut,
    /// A worker or a link it may have been on was lost.
    WorkerLost,
    /// It has reached `max_root_age`.
    TooOld,
    /// The executor of its spout, or its worker, ended: nobody is told.
    SpoutLost,
}

/// The kinds of [`FailReason`], for counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FailKind {
    /// See [`FailReason::Failed`].
    Failed = 0,
    /// See [`FailReason::Dropped`].
    Dropped = 1,
    /// See [`FailReason::TimedOut`].
    TimedOut = 2,
    /// See [`FailReason::WorkerLost`].
    WorkerLost = 3,
    /// See [`FailReason::TooOld`].
    TooOld = 4,
    /// See [`FailReason::SpoutLost`].
    SpoutLost = 5,
}

impl FailKind {
    /// Number of kinds.
    pub const COUNT: usize = 6;
    /// All kinds, in the order of their numbers.
    pub const ALL: [FailKind; Self::COUNT] = [
        FailKind::Failed,
        FailKind::Dropped,
        FailKind::TimedOut,
        FailKind::WorkerLost,
        FailKind::TooOld,
        FailKind::SpoutLost,
    ];

    /// As reports write it.
    pub fn word(self) -> &'static str {
        match self {
            FailKind::Failed => "failed",
            FailKind::Dropped => "dropped",
            FailKind::TimedOut => "timed out",
            FailKind::WorkerLost => "worker lost",
            FailKind::TooOld => "too old",
            FailKind::SpoutLost => "spout lost",
        }
    }
}

/// Bits of a component in a reason that travels. A topology has fewer components, as it has fewer tasks.
const COMPONENT_BITS: u32 = 24;

impl FailReason {
    /// Its kind.
    pub fn kind(self) -> FailKind {
        match self {
            FailReason::Failed(_) => FailKind::Failed,
            FailReason::Dropped(_) => FailKind::Dropped,
            FailReason::TimedOut => FailKind::TimedOut,
            FailReason::WorkerLost => FailKind::WorkerLost,
            FailReason::TooOld => FailKind::TooOld,
            FailReason::SpoutLost => FailKind::SpoutLost,
        }
    }

    /// The component that it names, if it names one.
    pub fn component(self) -> Option<ComponentIx> {
        match self {
            FailReason::Failed(c) | FailReason::Dropped(c) => Some(c),
            _ => None,
        }
    }

    /// For people: `failed by count`, `timed out`.
    pub fn text(self, plan: &Plan) -> String {
        let name =
            |c: ComponentIx| plan.spec.components.get(c as usize).map_or("a component unknown here", |c| &c.name);
        match self {
            FailReason::Failed(c) => format!("failed by {}", name(c)),
            FailReason::Dropped(c) => format!("dropped at {}", name(c)),
            other => other.kind().word().to_owned(),
        }
    }

    /// As it travels in [`AckRecord::detail`](squall_tuple::AckRecord::detail).
    pub fn detail(self) -> u32 {
        let component = match self {
            FailReason::Failed(c) | FailReason::Dropped(c) => c & ((1 << COMPONENT_BITS) - 1),
            _ => 0,
        };
        (self.kind() as u32) << COMPONENT_BITS | component
    }

    /// The reason that a record carries. One of an unknown kind, from a newer sender, reads as failed by its component.
    pub fn from_detail(detail: u32) -> FailReason {
        let component = detail & ((1 << COMPONENT_BITS) - 1);
        match detail >> COMPONENT_BITS {
            1 => FailReason::Dropped(component),
            2 => FailReason::TimedOut,
            3 => FailReason::WorkerLost,
            4 => FailReason::TooOld,
            5 => FailReason::SpoutLost,
            _ => FailReason::Failed(component),
        }
    }
}

/// The bit that stands for a worker, modulo 32.
#[inline]
pub fn worker_bit(worker: WorkerIx) -> u32 {
    1 << (worker % 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_their_way_in_a_record() {
        let all = [
            FailReason::Failed(0),
            FailReason::Failed(0xFF_FFFF),
            FailReason::Dropped(7),
            FailReason::TimedOut,
            FailReason::WorkerLost,
            FailReason::TooOld,
            FailReason::SpoutLost,
        ];
        for reason in all {
            assert_eq!(FailReason::from_detail(reason.detail()), reason);
            assert_eq!(FailKind::ALL[reason.kind() as usize], reason.kind());
        }
    }

    #[test]
    fn message_ids_give_back_what_they_were_made_of() {
        assert_eq!(MessageId::from(7).as_u64(), 7);
        assert_eq!(MessageId::from((7, 9)).as_pair(), (7, 9));
        assert_eq!(MessageId::from(*b"0123456789abcdef").to_bytes(), *b"0123456789abcdef");
    }
}
