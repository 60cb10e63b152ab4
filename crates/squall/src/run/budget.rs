//! How often a worker may come back, and how soon: a value that takes deaths and the time.
//!
//! A worker that has been up for a while is started again at once: whatever ended it was probably no habit. One that dies young again and again
//! waits longer each time. More deaths within a minute than the budget has, and it is given up.

use std::collections::VecDeque;

/// Deaths further apart than this have nothing to do with each other.
pub(crate) const WINDOW_NS: u64 = 60_000_000_000;
/// A life of this length is no failed start.
const STEADY_NS: u64 = 1_000_000_000;
/// Waits before the first, second, … restart after short lives.
const BACK_OFF_NS: [u64; 6] = [0, 100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 5_000_000_000];

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget {
    limit: u32,
    deaths: VecDeque<u64>,
    young: usize,
}

impl Budget {
    /// So many restarts within [`WINDOW_NS`]; 0: none at all.
    pub(crate) fn new(limit: u32) -> Budget {
        Budget { limit, ..Budget::default() }
    }

    /// A death after a life of `lived_ns`. How long to wait before the next life; `None`: there is none.
    pub(crate) fn spend(&mut self, lived_ns: u64, now_ns: u64) -> Option<u64> {
        while self.deaths.front().is_some_and(|at| at + WINDOW_NS <= now_ns) {
            self.deaths.pop_front();
        }
        if self.deaths.len() >= self.limit as usize {
            return None;
        }
        self.deaths.push_back(now_ns);
        self.young = if lived_ns >= STEADY_NS { 0 } else { self.young + 1 };
        Some(BACK_OFF_NS[self.young.saturating_sub(1).min(BACK_OFF_NS.len() - 1)])
    }

    /// Restarts within the last window.
    pub(crate) fn spent(&self) -> usize {
        self.deaths.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: u64 = 1_000_000_000;

    #[test]
    fn a_worker_that_dies_young_waits_longer_each_time_and_is_given_up_at_the_limit() {
        let mut budget = Budget::new(4);
        let waits = [0, 1, 2, 3, 4].map(|i| budget.spend(SEC / 10, i * SEC));
        assert_eq!(waits, [Some(0), Some(SEC / 10), Some(SEC / 4), Some(SEC / 2), None]);
        assert_eq!(budget.spent(), 4);
        assert_eq!(budget.spend(SEC, WINDOW_NS), Some(0), "the first death is forgotten, and the life was long");
        assert_eq!(Budget::new(0).spend(SEC, 0), None);
    }

    #[test]
    fn a_worker_that_dies_after_long_lives_never_waits() {
        let mut budget = Budget::new(1000);
        assert!((0..500).all(|i| budget.spend(SEC, i * SEC) == Some(0)));
        assert_eq!(budget.spent(), 60);
    }
}
