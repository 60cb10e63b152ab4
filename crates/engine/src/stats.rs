//! Counts that leave the reactor: plain numbers its thread writes once per turn, read by the worker's main thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Why tuples were dropped; each is counted (D3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// A declared feedback edge had no credit.
    FeedbackFull,
    /// They came over a feedback edge after the component's inputs had ended.
    AfterEnd,
}

/// Counts of one cohort. One writer, so an add is a relaxed load and store.
#[derive(Debug, Default)]
pub struct CohortStats {
    pub(crate) emitted: AtomicU64,
    pub(crate) executed: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) feedback_full: AtomicU64,
    pub(crate) after_end: AtomicU64,
    pub(crate) moved_bytes: AtomicU64,
}

pub(crate) fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

impl CohortStats {
    /// Adds this cohort's counts to its component's.
    pub fn add_to(&self, c: &mut ComponentStats) {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        c.emitted += get(&self.emitted);
        c.executed += get(&self.executed);
        c.acked += get(&self.acked);
        c.failed += get(&self.failed);
        c.moved_bytes += get(&self.moved_bytes);
        for (reason, n) in [("feedback full", &self.feedback_full), ("after the end", &self.after_end)] {
            if get(n) > 0 {
                *c.dropped.entry(reason.to_owned()).or_default() += get(n);
            }
        }
    }
}

/// Counts of one component, summed over its cohorts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStats {
    /// Name in the topology.
    pub name: String,
    /// Tuples emitted: one per emit, however many tasks received it.
    pub emitted: u64,
    /// Tuples executed: one per task that received it.
    pub executed: u64,
    /// Input tuples acknowledged.
    pub acked: u64,
    /// Input tuples failed.
    pub failed: u64,
    /// Tuples dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Bytes copied out of links because the component was paused.
    pub moved_bytes: u64,
}
