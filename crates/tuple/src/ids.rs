//! Identifiers: dense, zero-based, global in a topology; roots and edges of tuple trees.
//!
//! Tasks of one component are contiguous. The aliases say which number space a `u32` belongs to; they are not new
//! types because the dataplane indexes arrays with them on every tuple.

/// One instance of a component. At most [`RootId::MAX_TASK`] + 1 tasks per topology, so that a root can name its spout.
pub type TaskId = u32;
/// One output stream of one component.
pub type StreamIx = u32;
/// One pinned thread with its I/O driver, of any worker.
pub type ReactorIx = u32;
/// One worker process.
pub type WorkerIx = u32;
/// One spout or bolt of the topology.
pub type ComponentIx = u32;

/// A tuple's place in one tuple tree: the tree's root and the edge that leads to this tuple.
///
/// The edge stands for the *serialized* tuple; each delivery of it to a task has its own edge, see [`delivery_edge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct AnchorEdge {
    /// The tree, as [`RootId`] lays it out.
    pub root: u64,
    /// A random number that names the edge; 0 is never drawn, since XOR could not see it.
    pub edge: u64,
}

/// Names the root of a tuple tree so that an ack finds its ledger entry without a look-up.
///
/// Bits from the top: spout task (24), generation of the slot (16), slot (24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootId(u64);

impl RootId {
    /// The largest spout task that fits.
    pub const MAX_TASK: TaskId = (1 << 24) - 1;
    /// The largest ledger slot that fits.
    pub const MAX_SLOT: u32 = (1 << 24) - 1;

    /// Packs the three parts.
    ///
    /// # Panics
    ///
    /// If `task` or `slot` needs more than 24 bits: a root that names the wrong ledger entry would ack a stranger.
    #[inline]
    pub const fn new(task: TaskId, generation: u16, slot: u32) -> RootId {
        assert!(task <= Self::MAX_TASK, "a spout task id must fit in 24 bits");
        assert!(slot <= Self::MAX_SLOT, "a ledger slot must fit in 24 bits");
        RootId((task as u64) << 40 | (generation as u64) << 24 | slot as u64)
    }

    /// The root as it travels in [`AnchorEdge::root`]. Any `u64` is some root.
    #[inline]
    pub const fn from_u64(raw: u64) -> RootId {
        RootId(raw)
    }

    /// The number that travels.
    #[inline]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The spout task whose ledger holds the root.
    #[inline]
    pub const fn task(self) -> TaskId {
        (self.0 >> 40) as TaskId
    }

    /// How often the slot had been used before, modulo 65536.
    #[inline]
    pub const fn generation(self) -> u16 {
        (self.0 >> 24) as u16
    }

    /// The ledger slot.
    #[inline]
    pub const fn slot(self) -> u32 {
        self.0 as u32 & Self::MAX_SLOT
    }
}

/// The edge of one delivery of a tuple to one task.
///
/// Sender and receiver compute it from the edge in the tuple and the task, so that one archive serves many tasks and
/// each acks on its own. Never 0. The mix is SplitMix64's finalizer over the edge and a spread task id.
#[inline]
pub const fn delivery_edge(edge: u64, task: TaskId) -> u64 {
    let mut x = edge ^ (task as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    if x == 0 { 1 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_gives_back_the_parts_it_was_made_of() {
        for (task, generation, slot) in
            [(0, 0, 0), (RootId::MAX_TASK, u16::MAX, RootId::MAX_SLOT), (1, 2, 3), (0xABCDEF, 0x1234, 0x56789A)]
        {
            let root = RootId::new(task, generation, slot);
            assert_eq!((root.task(), root.generation(), root.slot()), (task, generation, slot));
            assert_eq!(RootId::from_u64(root.as_u64()), root);
        }
        assert_eq!(RootId::new(0xABCDEF, 0x1234, 0x56789A).as_u64(), 0xABCD_EF12_3456_789A);
    }

    #[test]
    #[should_panic(expected = "24 bits")]
    fn a_task_beyond_24_bits_is_refused() {
        let _ = RootId::new(1 << 24, 0, 0);
    }

    #[test]
    fn delivery_edges_differ_by_task_and_are_never_zero() {
        let mut seen = std::collections::BTreeSet::new();
        for edge in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            for task in 0..1000 {
                let delivered = delivery_edge(edge, task);
                assert_ne!(delivered, 0);
                assert!(seen.insert(delivered), "edge {edge:#x} task {task} collides");
            }
        }
        // The preimage of 0: task 0 spread is the golden constant itself.
        assert_eq!(delivery_edge(0x9E37_79B9_7F4A_7C15, 0), 1);
    }

    #[test]
    fn the_mix_is_pinned_because_both_ends_compute_it() {
        assert_eq!(delivery_edge(0x0123_4567_89AB_CDEF, 7), 0xEBA0_3D21_6C92_0F3B);
    }
}
