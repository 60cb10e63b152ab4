//! Who runs where: executors to workers, workers to slots of nodes.
//!
//! A [`Scheduler`] is a pure function of the cluster, the topologies and what was placed before. It reads no clock and draws no
//! random number, so two nimbuses that see the same say the same, and a plan can be shown before it is carried out.
//!
//! Invariants of every schedule (`tests/properties.rs`): a slot of a node has at most one worker; what the executors of a node
//! need is within its capacity; an executor is in one worker; a topology that is placed is placed whole; what was placed
//! before stays where it is unless its node is gone, asks to be emptied or is too small now, or the topology itself changed;
//! where nothing changed, nothing moves.
//!
//! [`Even`] is the default, [`Isolation`] gives some topologies nodes of their own, [`Blacklist`] remembers nodes that come and
//! go. Deliberately absent: measured load (a schedule must be predictable), racks, and moving single executors between live
//! workers for balance.
#![forbid(unsafe_code)]

mod blacklist;
mod even;
mod isolation;
mod room;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use blacklist::{Blacklist, BlacklistOptions};
pub use even::Even;
pub use isolation::Isolation;

/// Points of one core, as Storm counts them.
pub const POINTS_PER_CORE: u32 = 100;

/// What an executor needs, or a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time in hundredths of a core ([`POINTS_PER_CORE`]).
    pub cpu: u64,
    /// Memory in bytes.
    pub memory: u64,
}

impl Resources {
    /// More than anything asks for: a node that does not say what it has.
    pub const UNLIMITED: Resources = Resources { cpu: u64::MAX / 4, memory: u64::MAX / 4 };

    /// Both together.
    pub fn plus(self, other: Resources) -> Resources {
        Resources { cpu: self.cpu.saturating_add(other.cpu), memory: self.memory.saturating_add(other.memory) }
    }

    /// What is left of this after `other` is taken, nothing where there was less.
    pub fn less(self, other: Resources) -> Resources {
        Resources { cpu: self.cpu.saturating_sub(other.cpu), memory: self.memory.saturating_sub(other.memory) }
    }

    /// There is as much of each here as `need` asks for.
    pub fn covers(self, need: Resources) -> bool {
        self.cpu >= need.cpu && self.memory >= need.memory
    }
}

/// What a node may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeUse {
    /// Everything.
    #[default]
    Ready,
    /// Keeps what it runs and takes nothing new: cordoned by hand, or blacklisted.
    KeepOnly,
    /// Gives up what it runs: drained.
    Empty,
}

/// A live node: what its supervisor said when it registered. A node that is gone is not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The supervisor's id, unique.
    pub id: String,
    /// Workers it can run. Slots are numbered from 0.
    pub slots: u16,
    /// What its executors may use together.
    pub capacity: Resources,
    /// What it may be used for.
    pub usage: NodeUse,
}

/// One executor of a topology; its number is its position in [`Topology::executors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executor {
    /// Index of its component.
    pub component: u32,
    /// What it needs.
    pub need: Resources,
}

/// A topology as a scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Unique.
    pub id: String,
    /// The name it was submitted under ([`Isolation`] goes by it).
    pub name: String,
    /// Workers it asks for, at least 1. It gets fewer where slots or executors are fewer.
    pub workers: u32,
    /// All its executors, by component.
    pub executors: Vec<Executor>,
    /// Components that talk: the ends of each subscription.
    pub talks: Vec<(u32, u32)>,
    /// Keeps exactly the workers it has on nodes that are there, and gets nothing new: it is about to be stopped or placed anew.
    pub pinned: bool,
}

/// One worker of a topology in its slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerPlace {
    /// Id of the node.
    pub node: String,
    /// Slot on the node.
    pub slot: u16,
    /// Its executors, ascending, never empty.
    pub executors: Vec<u32>,
}

/// Where the workers of one topology are.
pub type Placement = Vec<WorkerPlace>;

/// All placements by topology id.
pub type Placements = BTreeMap<String, Placement>;

/// Why a topology is not placed whole. It keeps the workers it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    /// There is no slot for it.
    #[error(
        "no free slot: {nodes} nodes with {slots} slots, all in use or not to be used; add a supervisor or kill a topology"
    )]
    NoSlot {
        /// Live nodes.
        nodes: usize,
        /// Their slots.
        slots: usize,
    },
    /// Slots there are, but not this much processor time or memory on their nodes.
    #[error(
        "no room for {executors} of its executors: the largest needs {}.{:02} cores and {} MiB, which no node with a slot has \
         left; ask for less, or add nodes", .largest.cpu / 100, .largest.cpu % 100, .largest.memory >> 20
    )]
    NoRoom {
        /// Executors left over.
        executors: usize,
        /// What the one that needs most needs.
        largest: Resources,
    },
}

/// What a scheduler says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The placements, of all topologies that have one.
    pub placements: Placements,
    /// Topologies that are not placed whole, and why.
    pub unplaced: BTreeMap<String, Unplaced>,
}

/// Places topologies on nodes.
pub trait Scheduler: Send {
    /// The schedule for these topologies on these nodes. Pure; `previous` may name nodes and topologies that are gone.
    fn schedule(&self, nodes: &[Node], topologies: &[Topology], previous: &Placements) -> Schedule;
}

/// How many executors are elsewhere in `after` than they were in `before`; those that were nowhere do not count.
pub fn moved(before: &[WorkerPlace], after: &[WorkerPlace]) -> usize {
    let home = |placement: &[WorkerPlace]| -> BTreeMap<u32, (String, u16)> {
        let each = |w: &WorkerPlace| w.executors.iter().map(|&e| (e, (w.node.clone(), w.slot))).collect::<Vec<_>>();
        placement.iter().flat_map(each).collect()
    };
    let (before, after) = (home(before), home(after));
    before.iter().filter(|(executor, place)| after.get(executor) != Some(place)).count()
}
