//! The clock of a run, and what the generating thread does when nothing is due.

use std::time::Duration;

use squall_machine::now_ns;

/// A clock that the loop reads and waits by. Tests have a virtual one.
pub trait Clock {
    /// Nanoseconds since some zero, never backwards.
    fn now(&mut self) -> u64;

    /// Nothing to do until this time, but for what returns (`waiting`: something is under way).
    fn idle(&mut self, until_ns: u64, waiting: bool);
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic {
    /// Spin, on a core of one's own; else give the core to others and sleep where there is time.
    pub spin: bool,
}

/// A sleep may come back so much later than asked.
const SLEEP_SLACK_NS: u64 = 150_000;
/// Longest sleep, so that returns are looked at.
const SLEEP_MAX_NS: u64 = 1_000_000;

impl Clock for Monotonic {
    #[inline]
    fn now(&mut self) -> u64 {
        now_ns()
    }

    #[inline]
    fn idle(&mut self, until_ns: u64, waiting: bool) {
        if self.spin {
            std::hint::spin_loop();
            return;
        }
        let left = until_ns.saturating_sub(now_ns());
        if waiting || left < SLEEP_SLACK_NS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_nanos((left - SLEEP_SLACK_NS).clamp(20_000, SLEEP_MAX_NS)));
        }
    }
}
