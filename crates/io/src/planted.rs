//! Bugs that can be planted, to show that the tests which look for such bugs find them (docs/planted.md).
//!
//! Without the feature `planted` nothing can be: [`is`] is `false` for the compiler, and the lines that ask it are gone. It lies in this crate as
//! the lowest of those in which something is planted.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The ledger folds one ack in eight twice.
    AckTwice,
    /// One emit in eight adds no edge to its tree.
    XorDropped,
    /// Acks leave before `batch_end`, where a sink writes.
    AckBeforeWrite,
    /// The credit that a lost worker held is not given back.
    CreditLeaked,
    /// A batch of an earlier life of a worker is taken.
    EpochUnchecked,
    /// Roots expire by the wall clock.
    WallClock,
    /// After a restart keys go to other tasks.
    KeyMoved,
    /// A dead letter is acknowledged and not written.
    LetterLost,
    /// A send of which the kernel took a part counts as done.
    ShortSend,
    /// Buffers of zero-copy sends come back while the kernel reads them.
    BufferReused,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 10] = [
        Bug::AckTwice,
        Bug::XorDropped,
        Bug::AckBeforeWrite,
        Bug::CreditLeaked,
        Bug::EpochUnchecked,
        Bug::WallClock,
        Bug::KeyMoved,
        Bug::LetterLost,
        Bug::ShortSend,
        Bug::BufferReused,
    ];
}

#[cfg(feature = "planted")]
mod bed {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// From now on this thread has this bug, and no other.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this thread has this bug.
    #[inline]
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use bed::{is, plant};

/// Whether this thread has this bug: never, without the feature `planted`.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}
