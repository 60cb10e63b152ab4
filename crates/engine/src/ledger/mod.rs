//! The ledger of a spout's pending roots: Storm's acker, as a value on the spout's own reactor (D4–D6).
//!
//! A root is one emit with a message id. Its slot keeps the XOR of all delivery edges of its tuple tree that were either
//! made or ended an odd number of times; it is zero when the tree is complete. No clock and no I/O in here: time is an
//! argument, and what comes of roots is asked for ([`Ledger::take_ended`]).
//!
//! # Time
//! A silent root fails between `timeout` and 1/16 more (see `wheel`). Each record that names it starts its clock anew. So
//! does each report that a worker it was sent to finds no room (D6): it is held up, not lost. `max_age` ends it in any case.
//!
//! # Invariants
//! - A root ends once: as acknowledged, or failed for one reason.
//! - A record of a root that has ended finds nobody: a [`RootId`] names the generation of the slot. Slots of failed roots,
//!   for which records may still be under way, are used again last.
//! - Each operation takes constant time, but for [`Ledger::lose_workers`] and [`Ledger::lose_tasks`], which look at every
//!   slot; a slot is looked at again once per timeout while it is pending.
//!
//! # Limits
//! A slot takes 64 bytes; there are as many as roots were ever pending at once. A task is not called while it has
//! `max_pending` (Storm's `max.spout.pending`), so there are at most as many per task, and what one call emits. What
//! became of those that ended since it was asked takes 32 bytes each. Workers are told apart modulo 32: a root "may have been" on more.
//!
//! Deliberately absent: tuples. Who replays keeps them, and budgets for them apart.

mod reason;
mod slots;
#[cfg(test)]
mod tests;
mod wheel;

use squall_io::planted::{Bug, is};
use squall_tuple::ids::TaskId;
use squall_tuple::{AckKind, AckRecord, RootId};

pub use reason::{FailKind, FailReason, MessageId, worker_bit};
use slots::{Place, Slots};
use wheel::Wheel;

/// Limits of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerConfig {
    /// A root of which nothing is heard for so long fails. At least 1 ms.
    pub timeout_ns: u64,
    /// A root of this age fails in any case.
    pub max_age_ns: u64,
    /// Roots that a task may have pending when it is called.
    pub max_pending: u32,
}

/// What became of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its whole tree was acknowledged.
    Acked,
    /// It failed.
    Failed(FailReason),
}

/// A root that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The spout task that emitted it.
    pub task: TaskId,
    /// With this id.
    pub message: MessageId,
    /// How it ended.
    pub outcome: Outcome,
}

/// Counts since the start. `begun = acked + failed + pending`, at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Roots.
    pub begun: u64,
    /// Of those: acknowledged.
    pub acked: u64,
    /// Of those: failed, by [`FailKind`].
    pub failed: [u64; FailKind::COUNT],
    /// Records that named no pending root: late ones, of roots that had failed.
    pub late: u64,
}

impl LedgerCounts {
    /// Roots failed for any reason.
    pub fn all_failed(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Roots neither acknowledged nor failed.
    pub fn pending(&self) -> u64 {
        self.begun - self.acked - self.all_failed()
    }
}

/// See the module.
pub struct Ledger {
    config: LedgerConfig,
    slots: Slots,
    wheel: Wheel,
    /// By task from `first_task`: roots that have not been asked for.
    held: Vec<u32>,
    first_task: TaskId,
    /// By bit of a worker: when it last reported no room.
    no_room_ns: [u64; 32],
    lost: u32,
    counts: LedgerCounts,
}

impl Ledger {
    /// An empty ledger for these spout tasks (ascending, at least one).
    pub fn new(config: LedgerConfig, tasks: &[TaskId]) -> Ledger {
        let (first, last) = (tasks[0], tasks[tasks.len() - 1]);
        Ledger {
            config,
            slots: Slots::new(config.max_pending as usize * tasks.len()),
            wheel: Wheel::new(config.timeout_ns),
            held: vec![0; (last - first) as usize + 1],
            first_task: first,
            no_room_ns: [0; 32],
            lost: 0,
            counts: LedgerCounts::default(),
        }
    }

    /// Slots begin with this generation, so that records of roots of an earlier ledger of these tasks find nobody.
    pub fn from_generation(mut self, generation: u16) -> Ledger {
        self.slots.begin_with(generation);
        self
    }

    /// Enters a root of `task`, whose tuple was delivered along the edges with this XOR to tasks on these workers. Without
    /// an edge it is acknowledged at once.
    #[inline]
    pub fn begin(&mut self, task: TaskId, message: MessageId, xor: u64, workers: u32, now_ns: u64) -> RootId {
        self.counts.begun += 1;
        self.held[(task - self.first_task) as usize] += 1;
        let at = self.slots.take(task, message, xor, workers, now_ns);
        let root = RootId::new(task, self.slots[at].generation, at);
        if xor == 0 {
            self.end(at, Outcome::Acked);
        } else if workers & self.lost != 0 {
            self.end(at, Outcome::Failed(FailReason::WorkerLost));
        } else {
            self.wheel.insert(&mut self.slots, at, now_ns + self.config.timeout_ns.min(self.config.max_age_ns));
        }
        root
    }

    /// The root of this record may be in this ledger: its task is one of the ledger's.
    #[inline]
    pub fn is_for(&self, root: u64) -> bool {
        (RootId::from_u64(root).task().wrapping_sub(self.first_task) as usize) < self.held.len()
    }

    /// Takes what a reactor says of a root.
    #[inline]
    pub fn fold(&mut self, record: &AckRecord, now_ns: u64) {
        if record.kind == AckKind::NoRoom {
            return self.no_room(record.xor as u32, now_ns);
        }
        let root = RootId::from_u64(record.root);
        let at = root.slot();
        let Some(slot) = self.slots.pending(at, root.generation(), root.task()) else {
            self.counts.late += 1;
            return;
        };
        match record.kind {
            AckKind::Ack => {
                slot.xor ^= record.xor;
                if is(Bug::AckTwice) && record.xor & 7 == 0 {
                    slot.xor ^= record.xor;
                }
                slot.workers |= record.detail;
                slot.progress_ns = now_ns;
                if slot.xor == 0 {
                    self.close(at, Outcome::Acked);
                } else if slot.workers & self.lost != 0 {
                    // Sent on to a worker that was lost before this was heard.
                    self.close(at, Outcome::Failed(FailReason::WorkerLost));
                }
            }
            AckKind::Reset => slot.progress_ns = now_ns,
            AckKind::Fail => self.close(at, Outcome::Failed(FailReason::from_detail(record.detail))),
            AckKind::NoRoom => unreachable!("taken above"),
        }
    }

    /// These workers find no room now: roots sent there are held up. To be said again while it lasts, several times per
    /// timeout.
    pub fn no_room(&mut self, workers: u32, now_ns: u64) {
        for bit in bits(workers) {
            self.no_room_ns[bit] = now_ns;
        }
    }

    /// These workers are gone: fails all roots that may have been there, and those that will be said to have been, until
    /// [`Ledger::restore_workers`].
    pub fn lose_workers(&mut self, workers: u32) {
        self.lost |= workers;
        for at in 0..self.slots.len() {
            if self.slots[at].is_pending() && self.slots[at].workers & workers != 0 {
                self.close(at, Outcome::Failed(FailReason::WorkerLost));
            }
        }
    }

    /// These workers are there again, as new ones.
    pub fn restore_workers(&mut self, workers: u32) {
        self.lost &= !workers;
    }

    /// These spout tasks are gone with what they knew: fails all their pending roots.
    pub fn lose_tasks(&mut self, tasks: &[TaskId]) {
        for at in 0..self.slots.len() {
            if self.slots[at].is_pending() && tasks.contains(&self.slots[at].task()) {
                self.close(at, Outcome::Failed(FailReason::SpoutLost));
            }
        }
    }

    /// Fails the roots whose time is up.
    #[inline]
    pub fn expire(&mut self, now_ns: u64) {
        if self.wheel.deadline_ns().is_some_and(|at| at <= now_ns) {
            self.expire_due(now_ns);
        }
    }

    fn expire_due(&mut self, now_ns: u64) {
        while let Some(at) = self.wheel.next_due(&mut self.slots, now_ns) {
            let slot = &self.slots[at];
            let too_old = slot.born_ns + self.config.max_age_ns;
            let heard = bits(slot.workers).fold(slot.progress_ns, |t, bit| t.max(self.no_room_ns[bit]));
            let timed_out = heard + self.config.timeout_ns;
            if timed_out.min(too_old) > now_ns {
                self.wheel.insert(&mut self.slots, at, timed_out.min(too_old));
                continue;
            }
            let reason = if timed_out <= too_old { FailReason::TimedOut } else { FailReason::TooOld };
            self.end(at, Outcome::Failed(reason));
        }
    }

    /// When [`Ledger::expire`] has something to look at.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.wheel.deadline_ns()
    }

    /// Whether a task may be called: it has less than `max_pending` roots.
    #[inline]
    pub fn has_room(&self, task: TaskId) -> bool {
        self.held[(task - self.first_task) as usize] < self.config.max_pending
    }

    /// Whether a root has ended and was not asked for.
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.slots.has_ended()
    }

    /// Moves the roots that have ended into `into`, which must be empty, in the order in which they ended.
    pub fn take_ended(&mut self, into: &mut Vec<Ended>) {
        self.slots.take_ended(into);
        for root in into {
            self.held[(root.task - self.first_task) as usize] -= 1;
        }
    }

    /// Nothing is pending, and everything that ended was asked for.
    pub fn is_empty(&self) -> bool {
        self.counts.pending() == 0 && !self.has_ended()
    }

    /// Counts since the start.
    pub fn counts(&self) -> LedgerCounts {
        self.counts
    }

    /// Slots in memory, 64 bytes each.
    pub fn slots(&self) -> usize {
        self.slots.len() as usize
    }

    /// Ends a pending root.
    fn close(&mut self, at: Place, outcome: Outcome) {
        self.wheel.remove(&mut self.slots, at);
        self.end(at, outcome);
    }

    /// Ends a root that is not in the wheel.
    fn end(&mut self, at: Place, outcome: Outcome) {
        match outcome {
            Outcome::Acked => self.counts.acked += 1,
            Outcome::Failed(reason) => self.counts.failed[reason.kind() as usize] += 1,
        }
        self.slots.end(at, outcome);
    }
}

/// Places of the bits that are set.
fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (bit < 32).then_some(bit)
    })
}
