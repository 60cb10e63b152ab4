//! What was lost, doubled, reordered, damaged: by sequence number, exactly.
//!
//! A tuple is *complete* when all its parts came back intact; one bit each remembers that, in blocks of 65,536 that are made as numbers are
//! reached, so a billion tuples take 125 MB and no tuple allocates. A tuple of several parts is remembered by the parts that came, while it is not
//! complete. A damaged return counts as corrupt; where it names a number that was sent and is not complete, that tuple is damaged, not
//! lost.

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

const BLOCK: u64 = 1 << 16;
const WORDS: usize = (BLOCK / 64) as usize;
/// Parts of a tuple are told apart up to here.
pub const PARTS_MAX: u16 = 64;

/// The counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tuples sent.
    pub sent: u64,
    /// Returns of any kind.
    pub returned: u64,
    /// Tuples of which all parts came back intact.
    pub complete: u64,
    /// Tuples of which a part never came back, and none came damaged.
    pub lost: u64,
    /// Intact returns of a part that had come before.
    pub duplicates: u64,
    /// Intact first returns behind that of a later tuple.
    pub reordered: u64,
    /// Returns that differ from what was sent.
    pub corrupt: u64,
    /// Intact returns of tuples that were never sent.
    pub unknown: u64,
}

/// What a return was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A part that had not come before: its latency counts.
    First,
    /// One that had.
    Again,
    /// Damaged, or never sent.
    Bad,
}

/// Keeps the counts of a run.
#[derive(Debug, Default)]
pub struct Accounts {
    counts: Counts,
    blocks: Vec<Option<Box<[u64; WORDS]>>>,
    partial: AHashMap<u64, u64>,
    damaged: AHashMap<u64, ()>,
    /// The highest number that came back, plus 1.
    beyond: u64,
}

impl Accounts {
    /// So many tuples have been sent, from 0 on.
    #[inline]
    pub fn sent(&mut self, total: u64) {
        self.counts.sent = total;
    }

    /// Whether every tuple that was sent is complete.
    pub fn all_complete(&self) -> bool {
        self.counts.complete == self.counts.sent
    }

    /// Tuples complete so far.
    #[inline]
    pub fn complete(&self) -> u64 {
        self.counts.complete
    }

    /// Tuples under way, or lost.
    #[inline]
    pub fn outstanding(&self) -> u64 {
        self.counts.sent - self.counts.complete.min(self.counts.sent)
    }

    /// A return came.
    #[inline]
    pub fn returned(&mut self, seq: u64, part: u16, parts: u16, intact: bool) -> Seen {
        self.counts.returned += 1;
        if !intact {
            self.counts.corrupt += 1;
            if seq < self.counts.sent && !self.is_complete(seq) {
                self.damaged.insert(seq, ());
            }
            return Seen::Bad;
        }
        if seq >= self.counts.sent || part >= parts || parts > PARTS_MAX {
            self.counts.unknown += 1;
            return Seen::Bad;
        }
        if self.is_complete(seq) || (parts > 1 && !self.first_of_part(seq, part)) {
            self.counts.duplicates += 1;
            return Seen::Again;
        }
        if seq < self.beyond.saturating_sub(1) {
            self.counts.reordered += 1;
        }
        self.beyond = self.beyond.max(seq + 1);
        let all = u64::MAX >> (64 - u32::from(parts));
        if parts == 1 || self.partial.get(&seq) == Some(&all) {
            if parts > 1 {
                self.partial.remove(&seq);
            }
            self.complete_now(seq);
        }
        Seen::First
    }

    fn first_of_part(&mut self, seq: u64, part: u16) -> bool {
        let bits = self.partial.entry(seq).or_default();
        let first = *bits & (1 << part) == 0;
        *bits |= 1 << part;
        first
    }

    #[inline]
    fn is_complete(&self, seq: u64) -> bool {
        let block = self.blocks.get((seq / BLOCK) as usize).and_then(Option::as_ref);
        block.is_some_and(|b| b[(seq % BLOCK / 64) as usize] >> (seq % 64) & 1 == 1)
    }

    #[inline]
    fn complete_now(&mut self, seq: u64) {
        let at = (seq / BLOCK) as usize;
        if self.blocks.len() <= at {
            self.blocks.resize_with(at + 1, || None);
        }
        let block = self.blocks[at].get_or_insert_with(|| Box::new([0; WORDS]));
        block[(seq % BLOCK / 64) as usize] |= 1 << (seq % 64);
        self.counts.complete += 1;
    }

    /// The counts, as if nothing came any more.
    pub fn counts(&self) -> Counts {
        let damaged = self.damaged.keys().filter(|seq| !self.is_complete(**seq)).count() as u64;
        let lost = self.counts.sent - self.counts.complete - damaged;
        Counts { lost, ..self.counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returns(sent: u64, seen: &[(u64, bool)]) -> Counts {
        let mut accounts = Accounts::default();
        accounts.sent(sent);
        seen.iter().for_each(|(seq, intact)| _ = accounts.returned(*seq, 0, 1, *intact));
        accounts.counts()
    }

    #[test]
    fn each_kind_of_fault_is_counted_as_what_it_is() {
        let ok = |seqs: &[u64]| seqs.iter().map(|s| (*s, true)).collect::<Vec<_>>();
        let fine = returns(4, &ok(&[0, 1, 2, 3]));
        assert_eq!(fine, Counts { sent: 4, returned: 4, complete: 4, ..Counts::default() });
        assert_eq!(returns(4, &ok(&[0, 1, 3])).lost, 1);
        let doubled = returns(4, &ok(&[0, 1, 1, 2, 3, 0]));
        assert_eq!(
            (doubled.duplicates, doubled.complete, doubled.reordered),
            (2, 4, 0),
            "a duplicate is not out of order"
        );
        assert_eq!(returns(4, &ok(&[1, 0, 3, 2])).reordered, 2);
        assert_eq!(returns(4, &ok(&[3, 0, 1, 2])).reordered, 3);
        let damaged = returns(4, &[(0, true), (1, false), (2, true), (3, true)]);
        assert_eq!((damaged.corrupt, damaged.lost, damaged.complete), (1, 0, 3));
        let healed = returns(2, &[(0, false), (0, true), (1, true)]);
        assert_eq!((healed.corrupt, healed.lost, healed.complete), (1, 0, 2));
        let foreign = returns(2, &ok(&[0, 1, 2]));
        assert_eq!((foreign.unknown, foreign.complete), (1, 2));
        assert_eq!(returns(2, &[(77, false)]).lost, 2, "a damaged number says nothing");
    }

    #[test]
    fn a_tuple_of_parts_is_complete_when_all_have_come() {
        let mut a = Accounts::default();
        a.sent(2);
        assert_eq!(a.returned(0, 0, 3, true), Seen::First);
        assert_eq!(a.returned(0, 0, 3, true), Seen::Again);
        assert_eq!(a.returned(1, 0, 64, true), Seen::First);
        assert_eq!(a.returned(0, 2, 3, true), Seen::First);
        assert_eq!(a.counts().lost, 2);
        assert_eq!(a.returned(0, 1, 3, true), Seen::First);
        assert_eq!((a.counts().lost, a.counts().complete, a.counts().duplicates), (1, 1, 1));
        assert_eq!(a.returned(0, 1, 3, true), Seen::Again);
        assert_eq!(a.returned(0, 3, 3, true), Seen::Bad, "there is no such part");
        (1..64).for_each(|part| _ = a.returned(1, part, 64, true));
        assert!(a.all_complete());
    }

    #[test]
    fn numbers_far_apart_are_kept_apart() {
        let mut a = Accounts::default();
        a.sent(10 * BLOCK);
        for seq in [0, BLOCK - 1, BLOCK, 5 * BLOCK + 77] {
            assert_eq!(a.returned(seq, 0, 1, true), Seen::First);
            assert_eq!(a.returned(seq, 0, 1, true), Seen::Again);
        }
        assert_eq!(a.counts().complete, 4);
    }
}
