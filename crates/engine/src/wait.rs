//! How a reactor waits when it has nothing to do (D9): spin briefly, then sleep in the kernel.
//!
//! A sleeper costs its waker 6–9 µs and wakes after 15–80 µs; a spinner answers at once but owns its core. So a hybrid
//! reactor spins for about as long as a wake-up would take, and only where every spinning thread can have a core of
//! its own; elsewhere spinning steals the time of the thread it waits for, so it yields a few times and sleeps.

use std::fmt;
use std::str::FromStr;

/// What an idle reactor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitStrategy {
    /// Never sleeps: the lowest latency, one whole core per reactor.
    Spin,
    /// Spins briefly, then sleeps. The default.
    #[default]
    Hybrid,
    /// Sleeps at once: the least CPU.
    Park,
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitStrategy::Spin => "spin",
            WaitStrategy::Hybrid => "hybrid",
            WaitStrategy::Park => "park",
        })
    }
}

impl FromStr for WaitStrategy {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "spin" => Ok(WaitStrategy::Spin),
            "hybrid" => Ok(WaitStrategy::Hybrid),
            "park" => Ok(WaitStrategy::Park),
            other => Err(format!("unknown wait strategy {other:?}: use spin, hybrid or park")),
        }
    }
}

/// Nanoseconds a hybrid reactor with a core of its own spins.
const SPIN_NS: u64 = 50_000;
/// Times a hybrid reactor without one yields.
const YIELDS: u32 = 50;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    Spin,
    Yield,
    Sleep,
}

/// Decides, turn by turn. A value: the reactor tells it what happened and when.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: WaitStrategy,
    /// No other busy thread needs this core.
    own_core: bool,
    idle_since_ns: Option<u64>,
    yields: u32,
}

impl Waiter {
    pub(crate) fn new(strategy: WaitStrategy, own_core: bool) -> Self {
        Waiter { strategy, own_core, idle_since_ns: None, yields: 0 }
    }

    /// Something happened.
    pub(crate) fn busy(&mut self) {
        self.idle_since_ns = None;
        self.yields = 0;
    }

    /// Nothing happened in the turn that began at `now_ns`.
    pub(crate) fn idle(&mut self, now_ns: u64) -> Idle {
        let since = *self.idle_since_ns.get_or_insert(now_ns);
        match self.strategy {
            WaitStrategy::Spin => Idle::Spin,
            WaitStrategy::Park => Idle::Sleep,
            WaitStrategy::Hybrid if self.own_core => {
                if now_ns - since < SPIN_NS {
                    Idle::Spin
                } else {
                    Idle::Sleep
                }
            }
            WaitStrategy::Hybrid => {
                self.yields += 1;
                if self.yields <= YIELDS { Idle::Yield } else { Idle::Sleep }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_with_a_core_spins_for_its_budget_and_then_sleeps_until_it_was_busy() {
        let mut w = Waiter::new(WaitStrategy::Hybrid, true);
        assert_eq!(w.idle(1000), Idle::Spin);
        assert_eq!(w.idle(1000 + SPIN_NS - 1), Idle::Spin);
        assert_eq!(w.idle(1000 + SPIN_NS), Idle::Sleep);
        w.busy();
        assert_eq!(w.idle(1_000_000), Idle::Spin);
    }

    #[test]
    fn hybrid_without_a_core_yields_and_never_spins() {
        let mut w = Waiter::new(WaitStrategy::Hybrid, false);
        let seen: Vec<Idle> = (0..=u64::from(YIELDS)).map(|i| w.idle(i)).collect();
        assert_eq!(seen.iter().filter(|i| **i == Idle::Yield).count(), YIELDS as usize);
        assert_eq!(seen.last(), Some(&Idle::Sleep));
    }

    #[test]
    fn spin_never_sleeps_and_park_never_spins() {
        assert_eq!(Waiter::new(WaitStrategy::Spin, true).idle(u64::MAX), Idle::Spin);
        assert_eq!(Waiter::new(WaitStrategy::Park, true).idle(0), Idle::Sleep);
    }
}
