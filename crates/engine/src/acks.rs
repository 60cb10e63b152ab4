//! Acks on their way: what the cohorts of a reactor say of roots, folded per root until it leaves for the spout's reactor.
//!
//! Folding is XOR, so any number of ends of one tree's tuples become one record: what a chain of bolts on one reactor does
//! with a tuple adds up to a record of its last edges. Records wait while their link is busy, and fold on meanwhile (D5).
//!
//! Invariant: one record per root. So what waits is bounded by the roots that are pending.

use std::cell::{Cell, RefCell};

use squall_topology::{ComponentKind, Plan};
use squall_tuple::ids::ReactorIx;
use squall_tuple::{AckKind, AckRecord, RootId};

/// Records for the ledgers of one reactor.
pub(crate) struct Fold {
    pub(crate) to: ReactorIx,
    /// Bytes of the batches that take them there.
    pub(crate) batch_bytes: usize,
    /// When "no room" is to be said again at the earliest.
    pub(crate) report_at_ns: u64,
    /// Turns for which records have waited because the link had enough under way.
    waited: u32,
    /// In the order in which their roots were first named.
    records: Vec<AckRecord>,
    /// Places of roots in `records`, by open addressing. Only entries of this stamp count, so emptying is one addition.
    index: Vec<Entry>,
    stamp: u32,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    stamp: u32,
    at: u32,
}

/// Turns that records fold on while their link is busy, at most.
const TURNS_TO_WAIT: u32 = 8;
/// Room in the index to begin with; a power of two.
const INDEX_BEGINS_WITH: usize = 1024;

impl Fold {
    fn new(to: ReactorIx, batch_bytes: usize) -> Self {
        let index = vec![Entry::default(); INDEX_BEGINS_WITH];
        Fold { to, batch_bytes, report_at_ns: 0, waited: 0, records: Vec::new(), index, stamp: 1 }
    }

    #[inline]
    fn add(&mut self, record: &AckRecord) {
        // Tuples of one root often come one behind the other: the words of a line.
        if let Some(last) = self.records.last_mut()
            && last.root == record.root
        {
            return merge(last, record);
        }
        let mask = self.index.len() - 1;
        let mut place = hash(record.root) & mask;
        loop {
            let entry = &mut self.index[place];
            if entry.stamp != self.stamp {
                *entry = Entry { stamp: self.stamp, at: self.records.len() as u32 };
                self.records.push(*record);
                break;
            }
            let known = &mut self.records[entry.at as usize];
            if known.root == record.root {
                return merge(known, record);
            }
            place = (place + 1) & mask;
        }
        if self.records.len() * 2 > self.index.len() {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let larger = self.index.len() * 2;
        self.index.clear();
        self.index.resize(larger, Entry::default());
        self.stamp = 0;
        self.reindex();
    }

    fn reindex(&mut self) {
        let Some(stamp) = self.stamp.checked_add(1) else {
            self.index.fill(Entry::default());
            self.stamp = 0;
            return self.reindex();
        };
        self.stamp = stamp;
        let mask = self.index.len() - 1;
        for (at, record) in self.records.iter().enumerate() {
            let mut place = hash(record.root) & mask;
            while self.index[place].stamp == stamp {
                place = (place + 1) & mask;
            }
            self.index[place] = Entry { stamp, at: at as u32 };
        }
    }

    /// To be asked once per turn: whether records have waited long enough for a link that always has something under way.
    pub(crate) fn has_waited(&mut self) -> bool {
        self.waited += 1;
        self.waited > TURNS_TO_WAIT
    }

    pub(crate) fn records(&self) -> &[AckRecord] {
        &self.records
    }

    /// The first `count` records have left.
    pub(crate) fn sent(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.waited = 0;
        self.records.drain(..count);
        self.reindex();
    }
}

/// Adds what `new` says of a root to what is known. The first fail decides; a reset is an ack of nothing.
#[inline]
fn merge(known: &mut AckRecord, new: &AckRecord) {
    match (known.kind, new.kind) {
        (AckKind::Fail, _) => {}
        (_, AckKind::Fail) => *known = *new,
        _ => {
            known.kind = if new.kind == AckKind::Ack { AckKind::Ack } else { known.kind };
            known.xor ^= new.xor;
            known.detail |= new.detail;
        }
    }
}

/// Roots of one spout differ in their lowest bits, and in few of them.
#[inline]
fn hash(root: u64) -> usize {
    ((root ^ root >> 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}

/// No ledger: the task of a bolt.
const NOWHERE: u32 = u32::MAX;

/// See the module. Shared by the cohorts of a reactor and its core.
pub(crate) struct AckFolds {
    /// By reactor with spouts.
    folds: RefCell<Vec<Fold>>,
    /// By task: its reactor's place in `folds`.
    of_task: Vec<u32>,
    /// Records wait.
    waiting: Cell<bool>,
    /// A record was ever added: where nothing is tracked, there is nothing to look after.
    live: Cell<bool>,
}

impl AckFolds {
    /// Of one reactor. Where acking is off, nothing is ever added.
    pub(crate) fn new(plan: &Plan, me: ReactorIx) -> Self {
        let mut folds: Vec<Fold> = Vec::new();
        let mut of_task = vec![NOWHERE; if plan.spec.config.acking() { plan.tasks.len() } else { 0 }];
        for (task, of) in plan.tasks.iter().zip(&mut of_task) {
            if plan.spec.components[task.component as usize].kind != ComponentKind::Spout {
                continue;
            }
            let at = folds.iter().position(|f| f.to == task.reactor).unwrap_or_else(|| {
                folds.push(Fold::new(task.reactor, plan.link_batch_bytes(me, task.reactor)));
                folds.len() - 1
            });
            *of = at as u32;
        }
        AckFolds { folds: RefCell::new(folds), of_task, waiting: Cell::new(false), live: Cell::new(false) }
    }

    /// What the end of a tuple says of a root. Roots that name no spout, which only a corrupt peer sends, are nobody's.
    #[inline]
    pub(crate) fn add(&self, record: &AckRecord) {
        let mut folds = self.folds.borrow_mut();
        let task = RootId::from_u64(record.root).task();
        if let Some(fold) = self.of_task.get(task as usize).and_then(|at| folds.get_mut(*at as usize)) {
            fold.add(record);
            self.waiting.set(true);
            self.live.set(true);
        }
    }

    /// Whether records wait.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.get()
    }

    /// Whether trees have been worked on here.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.live.get()
    }

    /// Roots have begun here.
    pub(crate) fn set_live(&self) {
        self.live.set(true);
    }

    /// Calls `send` with each fold.
    pub(crate) fn each(&self, mut send: impl FnMut(&mut Fold)) {
        let mut folds = self.folds.borrow_mut();
        folds.iter_mut().for_each(&mut send);
        self.waiting.set(folds.iter().any(|f| !f.records.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(slot: u32, xor: u64, kind: AckKind, detail: u32) -> AckRecord {
        AckRecord { root: RootId::new(3, 1, slot).as_u64(), xor, kind, detail }
    }

    #[test]
    fn records_of_a_root_become_one_and_the_first_fail_decides() {
        let mut fold = Fold::new(0, 4096);
        let all = [
            record(1, 0b01, AckKind::Ack, 1),
            record(2, 0b11, AckKind::Reset, 0),
            record(1, 0b11, AckKind::Ack, 4),
            record(2, 0, AckKind::Fail, 7),
            record(2, 0b11, AckKind::Ack, 1),
            record(2, 0, AckKind::Fail, 8),
            record(3, 0, AckKind::Reset, 0),
            record(3, 5, AckKind::Ack, 2),
        ];
        all.iter().for_each(|r| fold.add(r));
        let folded = [record(1, 0b10, AckKind::Ack, 5), record(2, 0, AckKind::Fail, 7), record(3, 5, AckKind::Ack, 2)];
        assert_eq!(fold.records(), folded);
        // The rest folds on behind those that have left.
        fold.sent(2);
        fold.add(&record(3, 1, AckKind::Ack, 0));
        fold.add(&record(1, 9, AckKind::Ack, 0));
        assert_eq!(fold.records(), [record(3, 4, AckKind::Ack, 2), record(1, 9, AckKind::Ack, 0)]);
    }

    #[test]
    fn many_roots_are_found_again_whatever_has_left() {
        let mut fold = Fold::new(0, 4096);
        for round in 0..50u64 {
            for slot in 0..5000 {
                fold.add(&record(slot, 1 << (round % 64), AckKind::Ack, 0));
            }
            assert!(fold.records().len() == 5000, "one record per root");
            fold.sent((round as usize * 97) % 5000);
            let mut seen = std::collections::HashSet::new();
            assert!(fold.records().iter().all(|r| seen.insert(r.root)));
        }
    }
}
