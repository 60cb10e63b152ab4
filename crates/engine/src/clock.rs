//! Time comes in from outside: the reactor's clock is a value, so the same code runs under a virtual one.

use std::cell::Cell;
use std::rc::Rc;

/// A monotonic clock in nanoseconds; all workers of one host share its zero.
pub trait Clock {
    /// Nanoseconds since the clock's zero.
    fn now_ns(&self) -> u64;
}

/// `CLOCK_MONOTONIC`: one zero for all processes of a host (clock_gettime(2)); about 20 ns a reading.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    #[inline]
    fn now_ns(&self) -> u64 {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    }
}

/// A clock that stands still until it is moved; clones share the hand.
#[derive(Debug, Clone, Default)]
pub struct VirtualClock(Rc<Cell<u64>>);

impl VirtualClock {
    /// A clock at `ns`.
    pub fn at(ns: u64) -> Self {
        Self(Rc::new(Cell::new(ns)))
    }

    /// Moves the hand forward.
    pub fn advance(&self, ns: u64) {
        self.0.set(self.0.get() + ns);
    }
}

impl Clock for VirtualClock {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}
