//! The credit board of a link through memory: how many bytes of each inbox the receiver has consumed, counted since the beginning.
//!
//! The sender may have `credit` bytes outstanding per inbox: it keeps its own cumulative count of bytes sent and has room while
//! `sent - consumed(i) < credit`. Cumulative counts need no message, cannot be lost and cannot be applied twice.
//!
//! A sender without credit raises the *starving* flag, so that the receiver rings its doorbell when it gives credit back and not otherwise. No
//! wake-up is lost: `set_starving(true)` and `take_starving` each hold a sequentially consistent fence, so either the sender sees the new count
//! when it looks again after raising the flag, or the receiver sees the flag after adding.
//!
//! In memory mapped from another process, the counts are that process's word and no more: whoever acts on them bounds what they can do.

use crate::memory::{Arc, Memory, Ordering, PAD, fence};

/// Where a board lies in its memory: the starving flag alone, then the counts.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) at: usize,
    pub(crate) inboxes: usize,
}

impl Place {
    /// Bytes that a board takes. One writer and one reader, so inboxes share lines with each other, but with nothing else.
    pub(crate) const fn bytes(inboxes: usize) -> usize {
        PAD + (inboxes * 8).next_multiple_of(PAD)
    }

    const fn starving(&self) -> usize {
        self.at
    }

    #[inline]
    fn count(&self, inbox: usize) -> usize {
        assert!(inbox < self.inboxes, "inbox {inbox} of a credit board of {}", self.inboxes);
        self.at + PAD + inbox * 8
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
    let memory = Arc::new(Memory::heap(Place::bytes(inboxes)));
    let place = Place { at: 0, inboxes };
    (CreditSource::over(Arc::clone(&memory), place), CreditView::over(memory, place))
}

/// The receiver's side of a credit board: the only writer of the counts.
pub struct CreditSource {
    memory: Arc<Memory>,
    place: Place,
}

impl CreditSource {
    /// The only source of this place in this memory, which is fresh.
    pub(crate) fn over(memory: Arc<Memory>, place: Place) -> CreditSource {
        CreditSource { memory, place }
    }

    /// Counts `bytes` of inbox `inbox` as consumed.
    ///
    /// # Panics
    /// If there is no such inbox.
    #[inline]
    pub fn add(&mut self, inbox: usize, bytes: u64) {
        let at = self.place.count(inbox);
        // One writer (`&mut self`, not `Clone`): a load and a store suffice. Pairs with the Acquire in `CreditView::consumed`.
        let count = self.memory.load(at, Ordering::Relaxed).wrapping_add(bytes);
        self.memory.store(at, count, Ordering::Release);
    }

    /// Whether the sender waits for credit; lowers the flag. Call it after [`add`](Self::add), once per flush: it costs a fence. If it is true,
    /// wake the sender.
    #[inline]
    pub fn take_starving(&mut self) -> bool {
        // Pairs with the fence in `set_starving`: our `add` before it, the sender's second look after its own.
        fence(Ordering::SeqCst);
        let at = self.place.starving();
        // The load first: it leaves the line shared while nobody starves. Relaxed: the fence orders it, and nothing hangs on the swap's order
        // (the sender that raises the flag again does so with a fence and looks again).
        self.memory.load(at, Ordering::Relaxed) != 0 && self.memory.swap(at, 0, Ordering::Relaxed) != 0
    }
}

/// The sender's side of a credit board.
pub struct CreditView {
    memory: Arc<Memory>,
    place: Place,
}

impl CreditView {
    pub(crate) fn over(memory: Arc<Memory>, place: Place) -> CreditView {
        CreditView { memory, place }
    }

    /// Bytes of `inbox` that the receiver has consumed since the beginning.
    ///
    /// # Panics
    /// If there is no such inbox.
    #[inline]
    pub fn consumed(&self, inbox: usize) -> u64 {
        // Pairs with the Release in `CreditSource::add`.
        self.memory.load(self.place.count(inbox), Ordering::Acquire)
    }

    /// Raises or lowers the flag that asks the receiver for a wake-up. After raising it, look at [`consumed`](Self::consumed) once more before
    /// giving up: credit that came in between may not be announced.
    #[inline]
    pub fn set_starving(&self, starving: bool) {
        self.memory.store(self.place.starving(), u64::from(starving), Ordering::Relaxed);
        if starving {
            // Pairs with the fence in `take_starving`.
            fence(Ordering::SeqCst);
        }
    }
}
