//! A timing wheel over the slots of a ledger: 64 buckets, each 1/16 of the timeout wide.
//!
//! A slot in the bucket of its deadline is looked at when that bucket has passed, so between its deadline and 1/16 of the
//! timeout later. A root that makes progress is not moved: when it is looked at, its deadline has moved on, and it is put
//! in again. So progress costs one store, and a root that lives on one look per timeout.

use super::slots::{NONE, Place, Slots, State};

const BUCKETS: u64 = 64;
/// Buckets that a timeout spans. With those the wheel has, no deadline laps it.
const PER_TIMEOUT: u64 = 16;

pub(super) struct Wheel {
    /// Nanoseconds of a bucket.
    width_ns: u64,
    /// Buckets up to this number, counted from time zero, have been looked at.
    done: u64,
    heads: [Place; BUCKETS as usize],
    /// By bucket: not empty.
    occupied: u64,
    /// Slots of the buckets being looked at.
    due: Place,
    /// The bucket of the deadline before, counted from time zero, and where it begins: the next root has the same one, as a
    /// rule, and dividing takes as long as all the rest.
    last: (u64, u64),
}

impl Wheel {
    pub(super) fn new(timeout_ns: u64) -> Wheel {
        let width_ns = (timeout_ns / PER_TIMEOUT).max(1);
        Wheel { width_ns, done: 0, heads: [NONE; BUCKETS as usize], occupied: 0, due: NONE, last: (1, 0) }
    }

    /// Puts a slot that is in no list into the bucket of its deadline.
    #[inline]
    pub(super) fn insert(&mut self, slots: &mut Slots, at: Place, deadline_ns: u64) {
        let number = self.number(deadline_ns);
        if self.occupied == 0 {
            // Nothing to look at until then. One width early, so that a clock that steps back does no harm.
            self.done = self.done.max(number.saturating_sub(PER_TIMEOUT + 3));
        }
        let number = number.clamp(self.done + 1, self.done + BUCKETS);
        let bucket = (number % BUCKETS) as u8;
        let next = std::mem::replace(&mut self.heads[usize::from(bucket)], at);
        self.occupied |= 1 << bucket;
        if next != NONE {
            slots[next].prev = at;
        }
        let slot = &mut slots[at];
        (slot.prev, slot.next, slot.state) = (NONE, next, State::Pending(bucket));
    }

    /// The bucket in which a deadline lies: above its beginning, up to its end.
    #[inline]
    fn number(&mut self, deadline_ns: u64) -> u64 {
        let (number, begins_ns) = self.last;
        if deadline_ns.wrapping_sub(begins_ns + 1) < self.width_ns {
            return number;
        }
        let number = deadline_ns.div_ceil(self.width_ns);
        self.last = (number, number.saturating_sub(1) * self.width_ns);
        number
    }

    /// Takes a pending slot out.
    #[inline]
    pub(super) fn remove(&mut self, slots: &mut Slots, at: Place) {
        let (prev, next, state) = (slots[at].prev, slots[at].next, slots[at].state);
        let State::Pending(bucket) = state else { unreachable!("only pending slots are in the wheel") };
        if next != NONE {
            slots[next].prev = prev;
        }
        if prev != NONE {
            slots[prev].next = next;
        } else {
            self.heads[usize::from(bucket)] = next;
            if next == NONE {
                self.occupied &= !(1 << bucket);
            }
        }
    }

    /// When the next bucket that holds something has passed.
    #[inline]
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        if self.occupied == 0 {
            return None;
        }
        let first = self.done + 1;
        let ahead = u64::from(self.occupied.rotate_right((first % BUCKETS) as u32).trailing_zeros());
        Some((first + ahead) * self.width_ns)
    }

    /// Takes out the next slot of the buckets that have passed by `now_ns`. Until it gives `None`, nothing but
    /// [`Wheel::insert`] of the slot just taken may happen.
    pub(super) fn next_due(&mut self, slots: &mut Slots, now_ns: u64) -> Option<Place> {
        while self.due == NONE {
            let deadline_ns = self.deadline_ns().filter(|at| *at <= now_ns)?;
            self.done = deadline_ns / self.width_ns;
            let bucket = self.done % BUCKETS;
            self.occupied &= !(1 << bucket);
            self.due = std::mem::replace(&mut self.heads[bucket as usize], NONE);
        }
        let at = self.due;
        self.due = slots[at].next;
        Some(at)
    }
}
