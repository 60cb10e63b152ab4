//! From what is there to assignments: which nodes count, which workers get a new generation.

use std::collections::{BTreeMap, BTreeSet};

use squall_coordinator::Op;
use squall_scheduler::{Node, NodeUse, Placement, Placements, Resources, Topology, Unplaced, WorkerPlace};

use super::requests::{Accepted, Preview, Refusal, Submission};
use super::work::{Effect, Plan};
use super::{Nimbus, Role};
use crate::epoch::Epoch;
use crate::record::{
    ASSIGNMENTS, Assignment, NodeInfo, Status, TOPOLOGIES, TopologyRecord, WorkerAssignment, at, to_json,
};
use crate::supervisor::WorkerState;

impl Nimbus {
    /// A supervisor came, went or changed.
    pub(super) fn node_is(&mut self, id: String, info: Option<NodeInfo>) {
        let before = self.view.nodes.get(&id);
        if before == info.as_ref() {
            return;
        }
        match info {
            Some(info) => {
                if before.is_none() {
                    self.note(format!("node {id} is there"));
                }
                self.view.nodes.insert(id, info);
            }
            None => {
                self.view.nodes.remove(&id);
                self.reports.remove(&id);
                self.blacklist.lost(&id, self.now);
                let until = if self.blacklist.listed(&id, self.now) {
                    ": it comes and goes, and gets nothing new for a while"
                } else {
                    ""
                };
                self.note(format!("node {id} is lost{until}"));
            }
        }
        self.dirty = true;
    }

    /// Whether something came due that lets nodes be judged anew.
    pub(super) fn settle(&mut self) -> bool {
        let settled = self.settled_at != std::time::Duration::ZERO && self.settled_at <= self.now;
        if settled {
            self.settled_at = std::time::Duration::ZERO;
        }
        settled
    }

    /// The nodes a schedule may count with. While it is not settled which are gone, those that are missing keep what they have.
    fn nodes(&self) -> Vec<Node> {
        let live = self.view.nodes.values().map(|info| {
            let usage = match self.view.cordons.get(&info.id) {
                Some(usage) => *usage,
                None if self.blacklist.listed(&info.id, self.now) => NodeUse::KeepOnly,
                None => NodeUse::Ready,
            };
            Node { id: info.id.clone(), slots: info.slots, capacity: info.capacity, usage }
        });
        let mut nodes: Vec<Node> = live.collect();
        if self.settled_at > self.now {
            let mut missing: BTreeMap<&str, u16> = BTreeMap::new();
            for worker in self.view.assignments.values().flat_map(|a| &a.workers) {
                if !self.view.nodes.contains_key(&worker.node) {
                    let slots = missing.entry(&worker.node).or_default();
                    *slots = (*slots).max(worker.slot + 1);
                }
            }
            nodes.extend(missing.into_iter().map(|(id, slots)| Node {
                id: id.to_owned(),
                slots,
                capacity: Resources::UNLIMITED,
                usage: NodeUse::KeepOnly,
            }));
        }
        nodes
    }

    fn topology(record: &TopologyRecord) -> Topology {
        Topology {
            id: record.id.clone(),
            name: record.name.clone(),
            workers: record.shape.workers,
            executors: record.shape.executors(),
            talks: record.shape.talks.clone(),
            pinned: record.status.waits().is_some(),
        }
    }

    fn previous(&self) -> Placements {
        self.view.assignments.iter().map(|(id, a)| (id.clone(), a.placement())).collect()
    }

    /// Assignments that are not what they should be, as many as one commit takes.
    pub(super) fn assign(&mut self) -> Plan {
        let nodes = self.nodes();
        let topologies: Vec<Topology> = self.view.topologies.values().map(Self::topology).collect();
        let mut schedule = self.scheduler.schedule(&nodes, &topologies, &self.previous());
        let live: BTreeSet<&str> = nodes.iter().map(|n| n.id.as_str()).collect();
        let spent = self.spent();
        let mut changed = Vec::new();
        for record in self.view.topologies.values() {
            // One that is being stopped is not placed anew: it ends where it is.
            if record.status.waits().is_some() {
                continue;
            }
            let current = self.view.assignments.get(&record.id);
            let mut placement = schedule.placements.remove(&record.id).unwrap_or_default();
            if schedule.unplaced.contains_key(&record.id) {
                // What runs on nodes that seem to be gone may run still, and has nowhere to go.
                let gone =
                    current.into_iter().flat_map(Assignment::placement).filter(|w| !live.contains(w.node.as_str()));
                placement.extend(gone);
            }
            let next = self.generations(current, placement, &spent);
            if current.map_or(!next.workers.is_empty(), |current| *current != next) {
                changed.push((record.id.clone(), next, current.is_some()));
            }
        }
        for (id, why) in &schedule.unplaced {
            if self.unplaced.get(id) != Some(why) {
                self.outputs.push_back(super::Output::Note(format!("{id} is not placed whole: {why}")));
            }
        }
        self.unplaced = schedule.unplaced;
        self.in_one_commit(changed)
    }

    /// Workers that cannot be restarted any more in their generation.
    fn spent(&self) -> BTreeSet<(String, u16, u32)> {
        let of = |r: &crate::supervisor::Report| {
            let spent = r.workers.iter().filter(|w| w.state == WorkerState::Spent);
            spent.map(|w| (r.node.clone(), w.slot, w.epoch.generation)).collect::<Vec<_>>()
        };
        self.reports.values().flat_map(of).collect()
    }

    /// Workers that stay as they are keep their generation; all others get the next one. Where another plan is to be run (other executors together in
    /// a worker) nobody stays: workers of different plans do not understand each other.
    fn generations(
        &self,
        current: Option<&Assignment>,
        placement: Placement,
        spent: &BTreeSet<(String, u16, u32)>,
    ) -> Assignment {
        let mut next = Assignment { generation: current.map_or(0, |a| a.generation), workers: Vec::new() };
        let same_plan = current.is_some_and(|current| together(&current.placement()) == together(&placement));
        for place in placement {
            let old = current.and_then(|a| a.workers.iter().find(|w| (&w.node, w.slot) == (&place.node, place.slot)));
            let identity = self.view.nodes.get(&place.node).map(|n| &n.identity);
            let stays = old.filter(|old| {
                same_plan
                    && old.executors == place.executors
                    && identity.is_none_or(|identity| *identity == old.identity)
                    && !spent.contains(&(old.node.clone(), old.slot, old.generation))
            });
            let worker = match stays {
                Some(old) => old.clone(),
                None => {
                    let threads = self.threads(current, &place);
                    let identity = identity.or(old.map(|o| &o.identity)).cloned().unwrap_or_default();
                    Self::started(&mut next, place, identity, threads)
                }
            };
            next.workers.push(worker);
        }
        next.workers.sort_by(|a, b| (&a.node, a.slot).cmp(&(&b.node, b.slot)));
        next
    }

    /// What [`WorkerAssignment::threads`] says.
    fn threads(&self, current: Option<&Assignment>, place: &WorkerPlace) -> u32 {
        let before = current.and_then(|a| a.workers.iter().find(|w| w.executors == place.executors));
        let share = |node: &NodeInfo| {
            let cores = node.capacity.cpu / u64::from(squall_scheduler::POINTS_PER_CORE);
            (cores / u64::from(node.slots).max(1)).clamp(1, 1024) as u32
        };
        before.map(|w| w.threads).or(self.view.nodes.get(&place.node).map(share)).unwrap_or(0)
    }

    fn started(assignment: &mut Assignment, place: WorkerPlace, identity: String, threads: u32) -> WorkerAssignment {
        assert!(assignment.generation < Epoch::MAX_GENERATION, "a topology was reassigned four million times");
        assignment.generation += 1;
        let WorkerPlace { node, slot, executors } = place;
        WorkerAssignment { node, identity, slot, generation: assignment.generation, executors, threads }
    }

    /// A topology after its rebalance: all its workers are new, in the same places if it only restarts.
    pub(super) fn replace(&mut self, record: TopologyRecord, restart: bool) -> Plan {
        let current = self.view.assignments.get(&record.id).cloned().unwrap_or_default();
        let placement = if restart { Some(current.placement()) } else { self.placed_anew(&record).ok() };
        let mut ops = vec![Op::set(at(TOPOLOGIES, &record.id), to_json(&record), None)];
        let mut effects = Vec::new();
        // Where it does not fit any more it keeps its place, and the next schedule says why.
        if let Some(placement) = placement.filter(|p| !p.is_empty()) {
            let mut next = Assignment { generation: current.generation, workers: Vec::new() };
            for place in placement {
                let known = current.workers.iter().find(|w| w.node == place.node).map(|w| &w.identity);
                let identity =
                    self.view.nodes.get(&place.node).map(|n| &n.identity).or(known).cloned().unwrap_or_default();
                let threads = self.threads(Some(&current), &place);
                let worker = Self::started(&mut next, place, identity, threads);
                next.workers.push(worker);
            }
            let path = at(ASSIGNMENTS, &record.id);
            let exists = self.view.assignments.contains_key(&record.id);
            ops.push(if exists { Op::set(path, to_json(&next), None) } else { Op::create(path, to_json(&next)) });
            effects.push(Effect::Assignment(record.id.clone(), next));
        }
        let accepted = Accepted::Done(record.id.clone());
        effects.push(Effect::Topology(Box::new(record)));
        Plan { ops, effects, accepted }
    }

    /// Where a topology would be if it were placed now, all others staying where they are.
    pub(super) fn placed_anew(&self, record: &TopologyRecord) -> Result<Placement, Unplaced> {
        let mut previous = self.previous();
        previous.remove(&record.id);
        // The others stay: only this one is written.
        let others = self.view.topologies.values().filter(|r| r.id != record.id);
        let mut topologies: Vec<Topology> =
            others.map(|other| Topology { pinned: true, ..Self::topology(other) }).collect();
        topologies.push(Topology { pinned: false, ..Self::topology(record) });
        let mut schedule = self.scheduler.schedule(&self.nodes(), &topologies, &previous);
        match schedule.unplaced.remove(&record.id) {
            Some(why) => Err(why),
            None => Ok(schedule.placements.remove(&record.id).unwrap_or_default()),
        }
    }

    /// Where a submission would be placed if it came now, and what would move for it. Changes nothing.
    ///
    /// # Errors
    /// This nimbus does not lead, or would refuse it.
    pub fn preview(&self, submission: &Submission) -> Result<Preview, Refusal> {
        if self.role != Role::Leading {
            let leader = if let Role::Following(leader) = &self.role { Some(leader.clone()) } else { None };
            return Err(Refusal::NotLeader { leader });
        }
        let record = self.checked(submission)?;
        let previous = self.previous();
        let mut topologies: Vec<Topology> = self.view.topologies.values().map(Self::topology).collect();
        topologies.push(Self::topology(&record));
        let mut schedule = self.scheduler.schedule(&self.nodes(), &topologies, &previous);
        if let Some(why) = schedule.unplaced.get(&record.id) {
            return Err(Refusal::Wrong(format!("{} cannot be placed: {why}", submission.name)));
        }
        let placement = schedule.placements.remove(&record.id).unwrap_or_default();
        let moves =
            |(id, before): (&String, &Placement)| (schedule.placements.get(id) != Some(before)).then(|| id.clone());
        Ok(Preview { placement, moved: previous.iter().filter_map(moves).collect() })
    }

    /// What a person said a node is to be used for.
    pub fn usage(&self, node: &str) -> NodeUse {
        self.view.cordons.get(node).copied().unwrap_or_default()
    }

    /// A node that comes and goes, and gets nothing new for a while.
    pub fn blacklisted(&self, node: &str) -> bool {
        self.blacklist.listed(node, self.now)
    }

    /// Nodes that a person said something of, the ones that are away included.
    pub fn cordons(&self) -> impl Iterator<Item = (&str, NodeUse)> {
        self.view.cordons.iter().map(|(node, usage)| (node.as_str(), *usage))
    }

    /// Why a topology cannot be placed beside all that is there. Not where others wait for room too: then it is not its fault.
    pub(super) fn would_not_fit(&self, record: &TopologyRecord) -> Option<Unplaced> {
        let mut topologies: Vec<Topology> = self.view.topologies.values().map(Self::topology).collect();
        topologies.push(Self::topology(record));
        self.scheduler.schedule(&self.nodes(), &topologies, &self.previous()).unplaced.remove(&record.id)
    }

    /// The status that counts for workers of a topology, for those that look in from outside.
    pub fn status_of(&self, id: &str) -> Option<&Status> {
        self.view.topologies.get(id).map(|record| &record.status)
    }
}

/// Which executors are together, in an order that does not depend on where.
fn together(placement: &[WorkerPlace]) -> BTreeSet<&[u32]> {
    placement.iter().map(|place| place.executors.as_slice()).collect()
}
