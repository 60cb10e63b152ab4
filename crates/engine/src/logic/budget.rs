//! How often an executor may be restarted, and which tuples are known to end it: values without a clock.
//!
//! An executor that fails now and then is restarted for ever; one that fails again and again is given up after a number
//! of restarts that is told beforehand, having waited longer and longer in between.

use std::collections::VecDeque;

use squall_tuple::ids::TaskId;
use squall_tuple::{Key, hash_key};

/// Running for so long makes up for one restart.
const FORGIVEN_AFTER_NS: u64 = 1_000_000_000;
/// The second restart in a row waits for so long, each later one for twice as long as the one before.
const FIRST_WAIT_NS: u64 = 1_000_000;
/// The longest wait.
const LONGEST_WAIT_NS: u64 = 250_000_000;
/// The same where other executors share the cohort, whose input waits as well.
const LONGEST_SHARED_WAIT_NS: u64 = 8_000_000;
/// Tuples of which failures are remembered, per cohort.
const SUSPECTS_MAX: usize = 1024;

/// The restarts of one cohort's executors.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    /// In a row, those forgiven taken off.
    spent: u32,
    /// When the last one was forgiven, or made.
    since_ns: u64,
}

impl Restarts {
    /// An executor failed at `now_ns`. How long it waits before it is restarted; `None`: `limit` restarts were made, and it is
    /// not. `shared`: other executors wait with it.
    pub(crate) fn next_wait_ns(&mut self, limit: u32, shared: bool, now_ns: u64) -> Option<u64> {
        let forgiven = (now_ns.saturating_sub(self.since_ns) / FORGIVEN_AFTER_NS).min(self.spent.into());
        self.spent -= forgiven as u32;
        self.since_ns = now_ns;
        if self.spent >= limit {
            return None;
        }
        let longest = if shared { LONGEST_SHARED_WAIT_NS } else { LONGEST_WAIT_NS };
        // The first comes at once: what one tuple does is over with it.
        let wait = self.spent.checked_sub(1).map_or(0, |doublings| FIRST_WAIT_NS << doublings.min(30));
        self.spent += 1;
        Some(wait.min(longest))
    }

    /// Restarts in a row.
    pub(crate) fn spent(&self) -> u32 {
        self.spent
    }
}

/// Tuples that have ended an executor, by their contents: a replayed one has another root each time.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// Task and hash of the archive, with the number of failures; oldest first.
    known: VecDeque<(TaskId, u64, u32)>,
}

impl Suspects {
    /// A tuple of this stream with this archive ended `task`. Gives how often it has. The ones that failed longest ago are
    /// forgotten first.
    pub(crate) fn add(&mut self, task: TaskId, stream: u32, archive: &[u8]) -> u32 {
        let hash = hash_key(Key::Bytes(archive)) ^ u64::from(stream).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let before = self.known.iter().position(|(t, h, _)| (*t, *h) == (task, hash));
        let failures = before.and_then(|at| self.known.remove(at)).map_or(0, |(_, _, n)| n) + 1;
        if self.known.len() >= SUSPECTS_MAX {
            self.known.pop_front();
        }
        self.known.push_back((task, hash, failures));
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn restarts_in_a_row_wait_longer_and_longer_until_there_are_none_left() {
        let mut restarts = Restarts::default();
        let mut now_ns = 5_000 * MS;
        let mut waits = Vec::new();
        while let Some(wait) = restarts.next_wait_ns(12, false, now_ns) {
            now_ns += wait;
            waits.push(wait / MS);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 250, 250, 250]);
        assert_eq!(restarts.spent(), 12);
    }

    #[test]
    fn who_runs_for_seconds_between_its_failures_is_restarted_for_ever_and_at_once() {
        let mut restarts = Restarts::default();
        for failure in 1..1000u64 {
            assert_eq!(restarts.next_wait_ns(3, false, failure * 1000 * MS), Some(0), "failure {failure}");
        }
        // Twice a second is more than is forgiven.
        let mut more = (2000..).map(|half| restarts.next_wait_ns(3, false, half * 500 * MS));
        assert!(more.by_ref().take(20).any(|wait| wait.is_none()));
    }

    #[test]
    fn where_others_share_the_cohort_no_wait_is_longer_than_eight_milliseconds() {
        let mut restarts = Restarts::default();
        let waits: Vec<_> = (0..20).map_while(|_| restarts.next_wait_ns(20, true, 0)).collect();
        assert_eq!(waits.len(), 20);
        assert!(waits.iter().all(|w| *w <= 8 * MS), "{waits:?}");
    }

    #[test]
    fn without_restarts_the_first_failure_is_the_last() {
        assert_eq!(Restarts::default().next_wait_ns(0, false, 7), None);
    }

    #[test]
    fn a_tuple_is_known_again_by_its_contents_at_the_same_task_and_on_the_same_stream() {
        let mut suspects = Suspects::default();
        assert_eq!(
            [(3, 0, b"a"), (3, 0, b"b"), (4, 0, b"a"), (3, 1, b"a")].map(|(t, s, b)| suspects.add(t, s, b)),
            [1; 4]
        );
        assert_eq!(suspects.add(3, 0, b"a"), 2);
        for n in 0..SUSPECTS_MAX as u64 {
            suspects.add(9, 0, &n.to_le_bytes());
        }
        assert_eq!(suspects.add(3, 0, b"a"), 1, "forgotten: others failed since");
        assert_eq!(suspects.known.len(), SUSPECTS_MAX);
    }
}
