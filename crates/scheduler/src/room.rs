//! What is free on the nodes while a schedule is made.

use std::collections::HashMap;

use crate::{Node, NodeUse, Resources, WorkerPlace};

/// One node's slots and room. `taken.len()` is the number of slots.
pub(crate) struct NodeRoom<'a> {
    pub(crate) node: &'a Node,
    taken: Vec<bool>,
    /// Slots not taken.
    pub(crate) free: usize,
    /// Capacity not used.
    pub(crate) left: Resources,
}

/// The room of all nodes. Invariant: a slot is taken once; `left` is capacity less everything taken.
pub(crate) struct Rooms<'a> {
    pub(crate) nodes: Vec<NodeRoom<'a>>,
    by_id: HashMap<&'a str, usize>,
}

impl<'a> Rooms<'a> {
    pub(crate) fn new(nodes: &'a [Node]) -> Self {
        let room = |node: &'a Node| NodeRoom {
            node,
            taken: vec![false; node.slots.into()],
            free: node.slots.into(),
            left: node.capacity,
        };
        let by_id = nodes.iter().enumerate().map(|(at, node)| (node.id.as_str(), at)).collect();
        Rooms { nodes: nodes.iter().map(room).collect(), by_id }
    }

    /// The node of a worker: there, with its slot, which nothing else has.
    pub(crate) fn place(&self, place: &WorkerPlace) -> Option<usize> {
        let at = *self.by_id.get(place.node.as_str())?;
        (self.nodes[at].taken.get(usize::from(place.slot)) == Some(&false)).then_some(at)
    }

    /// The node on which a worker may stay: as [`Rooms::place`], and not to be emptied.
    pub(crate) fn home(&self, place: &WorkerPlace) -> Option<usize> {
        self.place(place).filter(|&at| self.nodes[at].node.usage != NodeUse::Empty)
    }

    /// Uses room, even where there is less.
    pub(crate) fn use_up(&mut self, at: usize, need: Resources) {
        let left = &mut self.nodes[at].left;
        *left = left.less(need);
    }

    /// Takes a slot that is free.
    pub(crate) fn take_slot(&mut self, at: usize, slot: u16) {
        let room = &mut self.nodes[at];
        assert!(!std::mem::replace(&mut room.taken[usize::from(slot)], true), "a slot is used once");
        room.free -= 1;
    }

    /// Gives a slot back.
    pub(crate) fn give_slot(&mut self, at: usize, slot: u16) {
        let room = &mut self.nodes[at];
        assert!(std::mem::replace(&mut room.taken[usize::from(slot)], false), "only a taken slot comes back");
        room.free += 1;
    }

    /// The lowest free slot of a node that takes something new.
    pub(crate) fn free_slot(&self, at: usize) -> Option<u16> {
        let room = &self.nodes[at];
        (room.free > 0 && room.node.usage == NodeUse::Ready)
            .then(|| room.taken.iter().position(|taken| !taken).expect("one is free") as u16)
    }

    /// Uses some of a node's room, if there is as much.
    #[must_use]
    pub(crate) fn take(&mut self, at: usize, need: Resources) -> bool {
        let left = &mut self.nodes[at].left;
        let fits = left.covers(need);
        if fits {
            *left = left.less(need);
        }
        fits
    }

    /// Gives room back.
    pub(crate) fn give(&mut self, at: usize, need: Resources) {
        let left = &mut self.nodes[at].left;
        *left = left.plus(need);
    }
}
