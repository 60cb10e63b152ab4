//! The default scheduler: spread over nodes, talkers together.
//!
//! 1. Workers stay where they are, for all topologies, before anything new is placed.
//! 2. A topology short of workers gets slots on the nodes with the fewest of its workers, the emptiest first. What ran together on a node that
//!    is gone moves there together: who runs what is the plan of its workers, and while that stays the others need not start anew.
//! 3. Its executors that have no worker go to the workers that have room for them in number (all have the same number, or
//!    one more) and on their node; of those to where most of the components they talk to are, then to the one with the
//!    fewest.
//! 4. Where a node has two workers of a topology more than another that could take one, one moves: that is how a node that
//!    came back is used again.

use std::cmp::Reverse;

use crate::room::Rooms;
use crate::{Node, NodeUse, Placement, Placements, Resources, Schedule, Scheduler, Topology, Unplaced, WorkerPlace};

/// Spreads the workers of each topology over the nodes and its executors over the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Even {
    /// Moves a worker to a node that has two workers of its topology fewer (default). Otherwise only new workers use a node
    /// that came back.
    pub restore_spread: bool,
}

impl Default for Even {
    fn default() -> Self {
        Even { restore_spread: true }
    }
}

/// Passes at most. Each but the last places, adds or spreads something, so two are usual.
const MAX_PASSES: usize = 8;

impl Scheduler for Even {
    fn schedule(&self, nodes: &[Node], topologies: &[Topology], previous: &Placements) -> Schedule {
        // What one topology gives up another may use, so a pass is repeated until it changes nothing: that is what makes a
        // schedule stable when it is asked for again.
        let mut schedule = self.pass(nodes, topologies, previous);
        for _ in 1..MAX_PASSES {
            let next = self.pass(nodes, topologies, &schedule.placements);
            if next == schedule {
                break;
            }
            schedule = next;
        }
        schedule
    }
}

impl Even {
    fn pass(&self, nodes: &[Node], topologies: &[Topology], previous: &Placements) -> Schedule {
        let mut rooms = Rooms::new(nodes);
        let mut drafts: Vec<Draft<'_>> = topologies.iter().map(Draft::new).collect();
        // Pinned ones first: nothing may take their slots.
        drafts.sort_by_key(|draft| !draft.topology.pinned);
        for draft in &mut drafts {
            if let Some(placement) = previous.get(&draft.topology.id) {
                draft.keep(placement, &mut rooms);
            }
        }
        let mut schedule = Schedule::default();
        for mut draft in drafts {
            let id = draft.topology.id.clone();
            if draft.topology.pinned {
                // As it is.
            } else if let Err(why) = draft.complete(&mut rooms) {
                schedule.unplaced.insert(id.clone(), why);
            } else if self.restore_spread {
                draft.restore_spread(&mut rooms);
            }
            let placement = draft.placement(&rooms);
            if !placement.is_empty() {
                schedule.placements.insert(id, placement);
            }
        }
        schedule
    }
}

/// A worker while it is filled.
#[derive(Clone)]
struct Worker {
    node: usize,
    slot: u16,
    executors: Vec<u32>,
    /// Executors by component.
    of: Vec<u32>,
    need: Resources,
}

/// One topology's placement while it is made.
struct Draft<'a> {
    topology: &'a Topology,
    /// Components each component talks to.
    talks: Vec<Vec<u32>>,
    workers: Vec<Worker>,
    /// By executor: it has a worker.
    placed: Vec<bool>,
    /// Executors of workers that cannot stay where they were.
    homeless: Vec<Vec<u32>>,
}

impl<'a> Draft<'a> {
    fn new(topology: &'a Topology) -> Self {
        let components = topology.executors.iter().map(|e| e.component + 1).max().unwrap_or(0);
        let mut talks = vec![Vec::new(); components as usize];
        for &(a, b) in topology.talks.iter().filter(|(a, b)| *a < components && *b < components && a != b) {
            talks[a as usize].push(b);
            talks[b as usize].push(a);
        }
        let placed = vec![false; topology.executors.len()];
        Draft { topology, talks, workers: Vec::new(), placed, homeless: Vec::new() }
    }

    /// Keeps what can stay: workers of nodes that are there, executors that still exist and fit.
    fn keep(&mut self, previous: &[WorkerPlace], rooms: &mut Rooms<'_>) {
        for place in previous {
            if self.topology.pinned {
                self.pin(place, rooms);
                continue;
            }
            let Some(node) = rooms.home(place) else {
                self.homeless.push(place.executors.clone());
                continue;
            };
            let mut worker = self.empty_worker(node, place.slot);
            for &executor in &place.executors {
                if self.placed.get(executor as usize) == Some(&false) {
                    self.put(&mut worker, executor, rooms);
                }
            }
            if !worker.executors.is_empty() {
                rooms.take_slot(node, place.slot);
                self.workers.push(worker);
            }
        }
    }

    /// Keeps a worker as it is, whatever its node is to be used for and whether it still fits.
    fn pin(&mut self, place: &WorkerPlace, rooms: &mut Rooms<'_>) {
        let Some(node) = rooms.place(place) else { return };
        let mut worker = self.empty_worker(node, place.slot);
        let known = place.executors.iter().filter_map(|&e| self.topology.executors.get(e as usize));
        worker.need = known.fold(Resources::default(), |sum, executor| sum.plus(executor.need));
        worker.executors.clone_from(&place.executors);
        rooms.take_slot(node, place.slot);
        rooms.use_up(node, worker.need);
        self.workers.push(worker);
    }

    /// Brings the topology to the workers it wants and all executors to a worker.
    ///
    /// Where that does not work out everything new is taken back: half a topology would only hold slots, and a worker that
    /// nothing fits into would be opened and closed again for ever.
    fn complete(&mut self, rooms: &mut Rooms<'_>) -> Result<(), Unplaced> {
        let wanted = (self.topology.workers.max(1) as usize).min(self.topology.executors.len());
        while self.workers.len() > wanted {
            self.close_smallest(rooms);
        }
        let before = (self.workers.clone(), self.placed.clone());
        let kept = self.workers.len();
        self.rehouse(wanted, rooms);
        // Beyond so many, workers that are there give up executors to new ones.
        let mut full = self.workers.len();
        let mut why = Ok(());
        let mut workers = wanted;
        loop {
            while self.workers.len() < workers {
                let Some((node, slot)) = self.next_slot(rooms, workers) else { break };
                rooms.take_slot(node, slot);
                let worker = self.empty_worker(node, slot);
                self.workers.push(worker);
            }
            if self.workers.is_empty() {
                let slots = rooms.nodes.iter().map(|room| usize::from(room.node.slots)).sum();
                return if wanted == 0 { Ok(()) } else { Err(Unplaced::NoSlot { nodes: rooms.nodes.len(), slots }) };
            }
            // Slots may be fewer than workers are wanted.
            workers = self.workers.len();
            if workers > full {
                self.shed(rooms);
            }
            self.deal(rooms);
            let left: Vec<usize> = (0..self.placed.len()).filter(|&e| !self.placed[e]).collect();
            if left.is_empty() && self.workers.iter().all(|w| !w.executors.is_empty()) {
                return Ok(());
            }
            let largest = left.iter().map(|&e| self.topology.executors[e].need).max_by_key(|n| (n.cpu, n.memory));
            if let (Ok(()), Some(largest)) = (&why, largest) {
                why = Err(Unplaced::NoRoom { executors: left.len(), largest });
            }
            self.take_back(&before, rooms);
            full = kept;
            if workers == kept.max(1) {
                return why;
            }
            workers -= 1;
        }
    }

    /// Gives workers that cannot stay a slot elsewhere, with all they run where there is room for it.
    fn rehouse(&mut self, wanted: usize, rooms: &mut Rooms<'_>) {
        for executors in std::mem::take(&mut self.homeless) {
            let free: Vec<u32> =
                executors.into_iter().filter(|&e| self.placed.get(e as usize) == Some(&false)).collect();
            if free.is_empty() || self.workers.len() >= wanted {
                continue;
            }
            let Some((node, slot)) = self.next_slot(rooms, wanted) else { return };
            let mut worker = self.empty_worker(node, slot);
            for executor in free {
                self.put(&mut worker, executor, rooms);
            }
            if !worker.executors.is_empty() {
                rooms.take_slot(node, slot);
                self.workers.push(worker);
            }
        }
    }

    fn empty_worker(&self, node: usize, slot: u16) -> Worker {
        Worker { node, slot, executors: Vec::new(), of: vec![0; self.talks.len()], need: Resources::default() }
    }

    /// Puts an executor into a worker if its node has the room.
    fn put(&mut self, worker: &mut Worker, executor: u32, rooms: &mut Rooms<'_>) -> bool {
        let what = self.topology.executors[executor as usize];
        let fits = rooms.take(worker.node, what.need);
        if fits {
            worker.executors.push(executor);
            worker.of[what.component as usize] += 1;
            worker.need = worker.need.plus(what.need);
            self.placed[executor as usize] = true;
        }
        fits
    }

    fn close_smallest(&mut self, rooms: &mut Rooms<'_>) {
        let smallest = (0..self.workers.len()).min_by_key(|&at| (self.workers[at].executors.len(), Reverse(at)));
        let worker = self.workers.remove(smallest.expect("there is one to close"));
        self.free(&worker, rooms);
    }

    /// What a worker has becomes free, its slot too.
    fn free(&mut self, worker: &Worker, rooms: &mut Rooms<'_>) {
        rooms.give_slot(worker.node, worker.slot);
        rooms.give(worker.node, worker.need);
        for &executor in &worker.executors {
            self.placed[executor as usize] = false;
        }
    }

    /// The slot for one more worker. Nodes without room for an average worker come last.
    fn next_slot(&self, rooms: &Rooms<'_>, wanted: usize) -> Option<(usize, u16)> {
        let total = self.topology.executors.iter().fold(Resources::default(), |sum, e| sum.plus(e.need));
        let share = Resources { cpu: total.cpu / wanted as u64, memory: total.memory / wanted as u64 };
        let mut here = vec![0u32; rooms.nodes.len()];
        for worker in &self.workers {
            here[worker.node] += 1;
        }
        let rank = |at: usize| {
            let room = &rooms.nodes[at];
            let slots = u64::from(room.node.slots.max(1));
            let used = (slots - room.free as u64) * 1_000_000 / slots;
            (!room.left.covers(share), here[at], used, at)
        };
        let open = (0..rooms.nodes.len()).filter(|&at| rooms.free_slot(at).is_some());
        open.min_by_key(|&at| rank(at)).map(|at| (at, rooms.free_slot(at).expect("it is open")))
    }

    /// Frees what workers have beyond their even share; those that have most may keep the odd one.
    fn shed(&mut self, rooms: &mut Rooms<'_>) {
        let (share, mut odd) = self.share();
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        order.sort_by_key(|&at| (Reverse(self.workers[at].executors.len()), at));
        for at in order {
            let limit = share + usize::from(odd > 0);
            odd -= usize::from(odd > 0 && self.workers[at].executors.len() >= limit);
            while self.workers[at].executors.len() > limit {
                let executor = self.workers[at].executors.pop().expect("it has more than its share");
                let what = self.topology.executors[executor as usize];
                let worker = &mut self.workers[at];
                worker.of[what.component as usize] -= 1;
                worker.need = worker.need.less(what.need);
                rooms.give(worker.node, what.need);
                self.placed[executor as usize] = false;
            }
        }
    }

    /// Executors of each worker, and how many workers have one more.
    fn share(&self) -> (usize, usize) {
        let (executors, workers) = (self.topology.executors.len(), self.workers.len());
        (executors / workers, executors % workers)
    }

    /// Deals free executors: first within even shares, then wherever their need fits.
    fn deal(&mut self, rooms: &mut Rooms<'_>) {
        let (share, odd) = self.share();
        let mut odd = odd.saturating_sub(self.workers.iter().filter(|w| w.executors.len() > share).count());
        for executor in 0..self.placed.len() as u32 {
            if self.placed[executor as usize] {
                continue;
            }
            let within = |w: &Worker| w.executors.len() < share || (w.executors.len() == share && odd > 0);
            if let Some(at) = self.best(executor, rooms, within) {
                odd -= usize::from(self.workers[at].executors.len() == share);
                self.put_at(at, executor, rooms);
            }
        }
        // What an even share left over for want of room may still fit beside others.
        for executor in 0..self.placed.len() as u32 {
            if !self.placed[executor as usize]
                && let Some(at) = self.best(executor, rooms, |_| true)
            {
                self.put_at(at, executor, rooms);
            }
        }
    }

    /// The worker for an executor among those that `may` take it and have room.
    fn best(&self, executor: u32, rooms: &Rooms<'_>, may: impl Fn(&Worker) -> bool) -> Option<usize> {
        let what = self.topology.executors[executor as usize];
        let talk =
            |w: &Worker| self.talks[what.component as usize].iter().map(|&c| w.of[c as usize].min(1)).sum::<u32>();
        let open =
            self.workers.iter().enumerate().filter(|(_, w)| may(w) && rooms.nodes[w.node].left.covers(what.need));
        let own = |w: &Worker| w.of[what.component as usize];
        open.min_by_key(|(at, w)| (Reverse(talk(w)), own(w), w.executors.len(), *at)).map(|(at, _)| at)
    }

    fn put_at(&mut self, at: usize, executor: u32, rooms: &mut Rooms<'_>) {
        let nothing = Worker { node: 0, slot: 0, executors: Vec::new(), of: Vec::new(), need: Resources::default() };
        let mut worker = std::mem::replace(&mut self.workers[at], nothing);
        assert!(self.put(&mut worker, executor, rooms), "room was looked for");
        self.workers[at] = worker;
    }

    /// Back to what was kept.
    fn take_back(&mut self, (workers, placed): &(Vec<Worker>, Vec<bool>), rooms: &mut Rooms<'_>) {
        for worker in std::mem::take(&mut self.workers) {
            self.free(&worker, rooms);
        }
        for worker in workers {
            rooms.take_slot(worker.node, worker.slot);
            assert!(rooms.take(worker.node, worker.need), "it had that room before");
        }
        (self.workers, self.placed) = (workers.clone(), placed.clone());
    }

    /// Moves whole workers from nodes that have two more of them than another node that can take one.
    fn restore_spread(&mut self, rooms: &mut Rooms<'_>) {
        let mut here = vec![0u32; rooms.nodes.len()];
        for worker in &self.workers {
            here[worker.node] += 1;
        }
        // Each move lowers the sum of squares of `here`, so this ends.
        while let Some((at, to, slot)) = self.spread_step(&here, rooms) {
            let (node, old_slot, need) = (self.workers[at].node, self.workers[at].slot, self.workers[at].need);
            rooms.give_slot(node, old_slot);
            rooms.give(node, need);
            rooms.take_slot(to, slot);
            assert!(rooms.take(to, need), "room was looked for");
            here[node] -= 1;
            here[to] += 1;
            (self.workers[at].node, self.workers[at].slot) = (to, slot);
        }
    }

    fn spread_step(&self, here: &[u32], rooms: &Rooms<'_>) -> Option<(usize, usize, u16)> {
        let most = *here.iter().max()?;
        if most < 2 {
            return None;
        }
        // The last worker of the fullest nodes first: the younger one has less to lose.
        let movable = (0..self.workers.len()).rev().filter(|&at| here[self.workers[at].node] == most);
        let open: Vec<(usize, u16)> = (0..here.len())
            .filter(|&to| here[to] + 2 <= most && rooms.nodes[to].node.usage == NodeUse::Ready)
            .filter_map(|to| rooms.free_slot(to).map(|slot| (to, slot)))
            .collect();
        for at in movable {
            let need = self.workers[at].need;
            let fits = open.iter().filter(|(to, _)| rooms.nodes[*to].left.covers(need));
            if let Some(&(to, slot)) = fits.min_by_key(|(to, _)| (here[*to], *to)) {
                return Some((at, to, slot));
            }
        }
        None
    }

    fn placement(self, rooms: &Rooms<'_>) -> Placement {
        let place = |worker: Worker| {
            let mut executors = worker.executors;
            executors.sort_unstable();
            WorkerPlace { node: rooms.nodes[worker.node].node.id.clone(), slot: worker.slot, executors }
        };
        self.workers.into_iter().map(place).collect()
    }
}
