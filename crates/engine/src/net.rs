//! The core's way to other reactors, as a trait: rings and sockets for real, queues under a simulator's control in
//! tests.

use squall_tuple::BatchBuf;
use squall_tuple::ids::ReactorIx;

/// What became of a batch offered to a link.
pub enum Offered {
    /// The link copied it; the buffer is free again.
    Copied(BatchBuf),
    /// The link owns it until it has left; it comes back to the pool by itself.
    Taken,
    /// No room now. Nothing changed.
    Refused(BatchBuf),
}

/// Links of one reactor to all others. Batches of one link arrive once and in order.
pub trait Net {
    /// Offers a sealed batch to the link to `to`. Never blocks.
    fn offer(&mut self, to: ReactorIx, batch: BatchBuf) -> Offered;

    /// Batches that the link holds and the other side (ring) or the kernel (socket) has not taken yet.
    fn backlog(&self, to: ReactorIx) -> usize;

    /// Whether the backlog is `batches` or more: cheaper than the exact number where that costs a cache line of the peer's.
    fn has_backlog(&self, to: ReactorIx, batches: usize) -> bool {
        self.backlog(to) >= batches
    }

    /// Bytes of batches to `inbox` (plan index) on `to` that it is done with: cumulative, may lag.
    fn consumed(&self, to: ReactorIx, inbox: u32) -> u64;

    /// This reactor's `inbox` is done with `bytes` of batches that came from `from`.
    fn consume(&mut self, from: ReactorIx, inbox: u32, bytes: u64);
}
