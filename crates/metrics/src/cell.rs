//! Numbers with one writer and any number of readers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// One cell per cache line pair, so that two writers on two cores never share one (64 B lines are fetched in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

/// A count that only grows.
///
/// Clones share the number. Exactly one thread may write at a time: [`Counter::add`] is a load and a store, not a
/// locked addition, so two threads that add at once lose counts (never memory safety). Any thread may read.
/// Wraps at 2^64.
#[derive(Clone, Default)]
pub struct Counter(Arc<Line<AtomicU64>>);

impl Counter {
    /// A counter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `n`. Only the owning thread may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        let cell = &self.0.0;
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one. Only the owning thread may call it.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// The count as last written; may lag the writer by a store buffer.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.0.load(Relaxed)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counter({})", self.get())
    }
}

/// A value that goes up and down.
///
/// Clones share the number. [`Gauge::add`] has one writing thread at a time, as [`Counter::add`];
/// [`Gauge::set`] may come from any thread, the last one wins. Any thread may read.
#[derive(Clone, Default)]
pub struct Gauge(Arc<Line<AtomicI64>>);

impl Gauge {
    /// A gauge at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.0.store(value, Relaxed);
    }

    /// Adds `n`, which may be negative. Only the owning thread may call it.
    #[inline]
    pub fn add(&self, n: i64) {
        let cell = &self.0.0;
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value as last written.
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.0.load(Relaxed)
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauge({})", self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_of_a_counter_reads_what_the_writer_added() {
        let writer = Counter::new();
        let reader = writer.clone();
        std::thread::spawn(move || {
            for _ in 0..1000 {
                writer.add(3);
            }
            writer.inc();
        })
        .join()
        .expect("the writer does not panic");
        assert_eq!(reader.get(), 3001);
    }

    #[test]
    fn a_gauge_goes_up_and_down_and_is_replaced() {
        let gauge = Gauge::new();
        gauge.add(5);
        gauge.add(-8);
        assert_eq!(gauge.get(), -3);
        gauge.clone().set(7);
        assert_eq!(gauge.get(), 7);
    }
}
