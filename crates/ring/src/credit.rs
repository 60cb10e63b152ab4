//! The credit board of a ring link: how many bytes of each inbox the receiver has consumed, counted since the beginning.
//!
//! The sender may have `credit` bytes outstanding per inbox: it keeps its own cumulative count of bytes sent and has room while
//! `sent - consumed(i) < credit`. Cumulative counts need no message, cannot be lost and cannot be applied twice.
//!
//! A sender without credit raises the *starving* flag, so that the receiver rings its doorbell when it gives credit back and not otherwise. No
//! wake-up is lost: `set_starving(true)` and `take_starving` each hold a sequentially consistent fence, so either the sender sees the new count
//! when it looks again after raising the flag, or the receiver sees the flag after adding.

use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, fence};
use crossbeam::utils::CachePadded;

/// Counts per padded block: one block is 128 bytes where `CachePadded` is.
const PER_BLOCK: usize = 16;

struct Board {
    /// One writer and one reader, so inboxes share lines with each other, but with nothing else.
    consumed: Box<[CachePadded<[AtomicU64; PER_BLOCK]>]>,
    starving: CachePadded<AtomicBool>,
    inboxes: usize,
}

impl Board {
    #[inline]
    fn count(&self, inbox: usize) -> &AtomicU64 {
        assert!(inbox < self.inboxes, "inbox {inbox} of a credit board of {}", self.inboxes);
        &self.consumed[inbox / PER_BLOCK][inbox % PER_BLOCK]
    }
}

/// Makes a board for `inboxes` inboxes, numbered from 0: the receiver's side and the sender's side.
///
/// ```
/// let (mut source, view) = squall_ring::credit_board(2);
/// source.add(1, 4096);
/// assert_eq!((view.consumed(0), view.consumed(1)), (0, 4096));
/// ```
pub fn credit_board(inboxes: usize) -> (CreditSource, CreditView) {
    let board = Arc::new(Board {
        consumed: (0..inboxes.div_ceil(PER_BLOCK))
            .map(|_| CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))))
            .collect(),
        starving: CachePadded::new(AtomicBool::new(false)),
        inboxes,
    });
    let source = CreditSource { board: Arc::clone(&board) };
    (source, CreditView { board })
}

/// The receiver's side of a credit board: the only writer of the counts.
pub struct CreditSource {
    board: Arc<Board>,
}

impl CreditSource {
    /// Counts `bytes` of inbox `inbox` as consumed.
    ///
    /// # Panics
    /// If there is no such inbox.
    #[inline]
    pub fn add(&mut self, inbox: usize, bytes: u64) {
        let count = self.board.count(inbox);
        // One writer (`&mut self`, not `Clone`): a load and a store suffice. Pairs with the Acquire in `CreditView::consumed`.
        count.store(count.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Release);
    }

    /// Whether the sender waits for credit; lowers the flag. Call it after [`add`](Self::add), once per flush: it costs a fence. If it is true,
    /// wake the sender.
    #[inline]
    pub fn take_starving(&mut self) -> bool {
        // Pairs with the fence in `set_starving`: our `add` before it, the sender's second look after its own.
        fence(Ordering::SeqCst);
        let starving = &self.board.starving;
        // The load first: it leaves the line shared while nobody starves. Relaxed: the fence orders it, and nothing hangs on the swap's order
        // (the sender that raises the flag again does so with a fence and looks again).
        starving.load(Ordering::Relaxed) && starving.swap(false, Ordering::Relaxed)
    }
}

/// The sender's side of a credit board.
pub struct CreditView {
    board: Arc<Board>,
}

impl CreditView {
    /// Bytes of `inbox` that the receiver has consumed since the beginning.
    ///
    /// # Panics
    /// If there is no such inbox.
    #[inline]
    pub fn consumed(&self, inbox: usize) -> u64 {
        // Pairs with the Release in `CreditSource::add`.
        self.board.count(inbox).load(Ordering::Acquire)
    }

    /// Raises or lowers the flag that asks the receiver for a wake-up. After raising it, look at [`consumed`](Self::consumed) once more before
    /// giving up: credit that came in between may not be announced.
    #[inline]
    pub fn set_starving(&self, starving: bool) {
        self.board.starving.store(starving, Ordering::Relaxed);
        if starving {
            // Pairs with the fence in `take_starving`.
            fence(Ordering::SeqCst);
        }
    }
}
