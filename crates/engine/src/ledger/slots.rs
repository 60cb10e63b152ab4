//! The slots of a ledger: an arena with lists threaded through it. A slot is in exactly one of them: a bucket of the
//! wheel (pending), or the free list.

use std::ops::{Index, IndexMut};

use squall_tuple::RootId;
use squall_tuple::ids::TaskId;

use super::reason::MessageId;
use super::{Ended, Outcome};

/// A slot's place in the arena.
pub(super) type Place = u32;
/// Slots by which the arena grows, at least.
const GROW_MIN: usize = 64;
/// No slot.
pub(super) const NONE: Place = u32::MAX;

/// Where a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// In this bucket of the wheel.
    Pending(u8),
}

pub(super) struct Slot {
    /// The tree.
    pub(super) xor: u64,
    pub(super) born_ns: u64,
    pub(super) progress_ns: u64,
    message: MessageId,
    task: TaskId,
    /// Workers it may have been sent to, by bit.
    pub(super) workers: u32,
    pub(super) prev: Place,
    pub(super) next: Place,
    pub(super) generation: u16,
    pub(super) state: State,
}

const _: () = assert!(size_of::<Slot>() <= 64, "the ledger's memory is counted as 64 bytes a slot");

impl Slot {
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending(_))
    }

    pub(super) fn task(&self) -> TaskId {
        self.task
    }
}

/// First and last of a list that is linked by `next`.
struct Queue {
    first: Place,
    last: Place,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { first: NONE, last: NONE }
    }
}

pub(super) struct Slots {
    slots: Vec<Slot>,
    /// As many are wanted at most, as a rule.
    limit: usize,
    /// Generation of slots that are new.
    first: u16,
    free: Queue,
    /// In the order in which they ended.
    ended: Vec<Ended>,
}

impl Index<Place> for Slots {
    type Output = Slot;

    #[inline]
    fn index(&self, at: Place) -> &Slot {
        &self.slots[at as usize]
    }
}

impl IndexMut<Place> for Slots {
    #[inline]
    fn index_mut(&mut self, at: Place) -> &mut Slot {
        &mut self.slots[at as usize]
    }
}

impl Slots {
    pub(super) fn new(limit: usize) -> Slots {
        Slots { slots: Vec::new(), limit, first: 0, free: Queue::default(), ended: Vec::new() }
    }

    pub(super) fn begin_with(&mut self, generation: u16) {
        self.first = generation;
    }

    pub(super) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// A slot for a new root, in no list.
    #[inline]
    pub(super) fn take(&mut self, task: TaskId, message: MessageId, xor: u64, workers: u32, now_ns: u64) -> Place {
        let (at, generation) = match self.pop_free() {
            Some(at) => (at, self[at].generation),
            None => (self.grow(), self.first),
        };
        self[at] = Slot {
            xor,
            born_ns: now_ns,
            progress_ns: now_ns,
            message,
            task,
            workers,
            prev: NONE,
            next: NONE,
            generation,
            state: State::Free,
        };
        at
    }

    #[cold]
    fn grow(&mut self) -> Place {
        let at = self.slots.len() as Place;
        assert!(at <= RootId::MAX_SLOT, "a spout task emitted more roots in one call than a ledger can hold");
        if self.slots.len() == self.slots.capacity() {
            // Doubled, but never beyond what may be pending.
            let len = self.slots.len();
            self.slots.reserve_exact(len.min(self.limit.saturating_sub(len)).max(GROW_MIN));
        }
        self.slots.push(Slot {
            xor: 0,
            born_ns: 0,
            progress_ns: 0,
            message: MessageId::default(),
            task: 0,
            workers: 0,
            prev: NONE,
            next: NONE,
            generation: 0,
            state: State::Free,
        });
        at
    }

    /// The pending root of this generation and task in this slot.
    #[inline]
    pub(super) fn pending(&mut self, at: Place, generation: u16, task: TaskId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(at as usize)?;
        (slot.is_pending() && slot.generation == generation && slot.task == task).then_some(slot)
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Notes how the root in a slot that is in no list ended, and frees the slot for another generation.
    #[inline]
    pub(super) fn end(&mut self, at: Place, outcome: Outcome) {
        let slot = &mut self[at];
        let ended = Ended { task: slot.task, message: slot.message, outcome };
        slot.generation = slot.generation.wrapping_add(1);
        slot.state = State::Free;
        slot.next = NONE;
        self.ended.push(ended);
        self.push_free(at, outcome != Outcome::Acked);
    }

    /// Moves what has ended into `into`, which must be empty.
    pub(super) fn take_ended(&mut self, into: &mut Vec<Ended>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut self.ended, into);
    }

    fn pop_free(&mut self) -> Option<Place> {
        let at = self.free.first;
        if at == NONE {
            return None;
        }
        self.free.first = self[at].next;
        if self.free.first == NONE {
            self.free.last = NONE;
        }
        Some(at)
    }

    /// In front, where it is warm; at the back if records may still be under way that name it.
    fn push_free(&mut self, at: Place, back: bool) {
        if self.free.first == NONE {
            self.free = Queue { first: at, last: at };
        } else if back {
            let last = std::mem::replace(&mut self.free.last, at);
            self[last].next = at;
        } else {
            self[at].next = std::mem::replace(&mut self.free.first, at);
        }
    }
}
