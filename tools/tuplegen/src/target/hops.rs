//! Where a tuple's time goes within a topology of this process: components note when they see a sampled tuple.

use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;
use squall_machine::now_ns;

use super::Hop;
use crate::measure::latency::histogram;
use crate::measure::totals::quantile;

/// Notes kept at most; later ones are left out.
const NOTES_MAX: usize = 1 << 20;

/// Notes of all components. A tuple that is not sampled costs one comparison.
#[derive(Clone)]
pub struct Hops {
    mask: u64,
    notes: Arc<Mutex<Vec<(u8, u64, u64)>>>,
}

impl Hops {
    /// Samples tuples whose number has none of these bits.
    pub fn new(mask: u64) -> Hops {
        Hops { mask, notes: Arc::default() }
    }

    /// Component `at` (1, 2, … along the way) has tuple `seq`, which the ingest took in at this time.
    #[inline]
    pub fn note(&self, at: u8, seq: u64, ingest_ns: u64) {
        if seq & self.mask == 0 {
            self.keep(at, seq, now_ns().saturating_sub(ingest_ns));
        }
    }

    #[cold]
    fn keep(&self, at: u8, seq: u64, since_ns: u64) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES_MAX {
            notes.push((at, seq, since_ns));
        }
    }

    /// Hops between the components of these names.
    pub fn hops(&self, names: &[&str]) -> Vec<Hop> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // The first note of each (tuple, component): of several parts, the first one.
        let mut first: AHashMap<(u64, u8), u64> = AHashMap::new();
        for (at, seq, since) in notes.iter() {
            let kept = first.entry((*seq, *at)).or_insert(*since);
            *kept = (*kept).min(*since);
        }
        let hop = |(i, name): (usize, &&str)| {
            let at = i as u8 + 1;
            let mut h = histogram();
            for ((seq, _), since) in first.iter().filter(|((_, a), _)| *a == at) {
                let before = if at == 1 { Some(&0) } else { first.get(&(*seq, at - 1)) };
                if let Some(before) = before {
                    h.saturating_record(since.saturating_sub(*before).max(1));
                }
            }
            let from = if i == 0 { "ingest" } else { names[i - 1] };
            Hop {
                name: format!("{from} → {name}"),
                p50_ns: quantile(&h, 0.5),
                p99_ns: quantile(&h, 0.99),
                count: h.len(),
            }
        };
        names.iter().enumerate().map(hop).filter(|h| h.count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_differences_along_the_way_of_each_sampled_tuple() {
        let hops = Hops::new(0);
        for seq in 0..100 {
            hops.keep(1, seq, 1_000);
            hops.keep(2, seq, 5_000);
            hops.keep(2, seq, 9_000);
        }
        let found = hops.hops(&["split", "count"]);
        let shown: Vec<_> = found.iter().map(|h| (h.name.as_str(), h.count)).collect();
        assert_eq!(shown, [("ingest → split", 100), ("split → count", 100)]);
        assert!((3_990..4_010).contains(&found[1].p50_ns.unwrap()), "{found:?}");
    }
}
