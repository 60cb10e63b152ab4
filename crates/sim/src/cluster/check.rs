//! What has to hold.

use std::collections::BTreeSet;

use squall_control::Role;
use squall_control::record::{ASSIGNMENTS, Assignment, EPOCH, SUPERVISORS, TOPOLOGIES, TopologyRecord, at, from_json};
use squall_scheduler::Unplaced;

use super::world::World;

impl World {
    /// Of the nimbuses that think they lead, one at most has the epoch that is current.
    pub(super) fn one_leader(&mut self) {
        let Some(node) = self.server.node(EPOCH) else { return };
        let current = std::str::from_utf8(&node.data).ok().and_then(|text| text.parse::<u64>().ok());
        let leads = |n: &super::world::NimbusProcess| {
            let nimbus = n.nimbus.as_ref();
            nimbus.is_some_and(|nimbus| *nimbus.role() == Role::Leading && nimbus.epoch() == current)
        };
        let leaders = self.nimbuses.iter().filter(|n| leads(n)).count();
        if leaders > 1 {
            self.fail(format!("{leaders} nimbuses lead with epoch {current:?}"));
        }
    }

    /// No slot is assigned twice.
    pub(super) fn slots_once(&mut self) {
        let mut slots = BTreeSet::new();
        let mut twice = None;
        for (path, node) in self.server.children(ASSIGNMENTS) {
            let assignment: Assignment = from_json(&node.data).expect("assignments can be read");
            for worker in assignment.workers {
                if !slots.insert((worker.node.clone(), worker.slot)) {
                    twice = Some(format!("slot {} of {} is assigned twice, now to {path}", worker.slot, worker.node));
                }
            }
        }
        if let Some(why) = twice {
            self.fail(why);
        }
    }

    /// All is as it should be: the number of topologies that wait for a slot, or what is not well.
    pub(super) fn well(&self) -> Result<usize, String> {
        if !self.asked.is_empty() {
            return Err(format!("{} requests are not answered", self.asked.len()));
        }
        let leads = |n: &&super::world::NimbusProcess| n.nimbus.as_ref().is_some_and(|n| *n.role() == Role::Leading);
        let leaders: Vec<_> = self.nimbuses.iter().filter(leads).collect();
        let [leader] = leaders.as_slice() else { return Err(format!("{} leaders", leaders.len())) };
        let leader = leader.nimbus.as_ref().expect("it leads");
        let live: BTreeSet<String> = self.server.children(SUPERVISORS).map(|(path, _)| path.clone()).collect();
        if live.len() != self.hosts.len() {
            return Err(format!("{} of {} supervisors are registered", live.len(), self.hosts.len()));
        }
        let topologies: Vec<TopologyRecord> =
            self.server.children(TOPOLOGIES).map(|(_, n)| from_json(&n.data).expect("records can be read")).collect();
        for (name, id) in &self.promises.submitted {
            let there = topologies.iter().any(|t| t.id == *id);
            if !there && !self.promises.kill_asked.contains_key(name) {
                return Err(format!("{id} was accepted and is lost"));
            }
        }
        if let Some(id) = self.promises.killed.iter().find(|id| topologies.iter().any(|t| t.id == **id)) {
            return Err(format!("{id} was killed and is there"));
        }
        let names: BTreeSet<&str> = topologies.iter().map(|t| t.name.as_str()).collect();
        if names.len() != topologies.len() {
            return Err("two topologies have one name".into());
        }
        let mut expected = BTreeSet::new();
        let mut waiting = 0;
        for topology in &topologies {
            if topology.status.waits().is_some() {
                return Err(format!("{} is still {}", topology.id, topology.status.word()));
            }
            if leader.unplaced(&topology.id).is_some_and(|why| matches!(why, Unplaced::NoSlot { .. })) {
                waiting += 1;
                continue;
            }
            let Some(node) = self.server.node(&at(ASSIGNMENTS, &topology.id)) else {
                return Err(format!("{} is not assigned", topology.id));
            };
            let assignment: Assignment = from_json(&node.data).expect("assignments can be read");
            let mut executors: Vec<u32> = assignment.workers.iter().flat_map(|w| w.executors.clone()).collect();
            executors.sort_unstable();
            if executors != (0..topology.shape.executors().len() as u32).collect::<Vec<_>>() {
                return Err(format!("{} has executors {executors:?}", topology.id));
            }
            for worker in &assignment.workers {
                let (at, host) =
                    self.hosts.iter().enumerate().find(|(_, h)| h.id == worker.node).expect("a host that exists");
                let Some(pid) = host.in_slot(worker.slot) else {
                    return Err(format!("{} does not run in slot {} of {}", topology.id, worker.slot, host.id));
                };
                let process = &host.processes[&pid];
                let right = process.topology == topology.id
                    && process.epoch.generation == worker.generation
                    && process.executors == worker.executors
                    && process.spouts == topology.status.spouts()
                    && process.peers.as_ref() == Some(&assignment);
                if !right {
                    return Err(format!("slot {} of {} runs {process:?}, not {worker:?}", worker.slot, host.id));
                }
                expected.insert((at, pid));
            }
        }
        match self.processes().difference(&expected).next() {
            // What a topology without room still runs is its own.
            Some((host, pid)) if waiting == 0 => Err(format!("process {pid} of node{host} is nobody's")),
            _ => Ok(waiting),
        }
    }

    /// All is well, as [`Report::healed`](super::Report) counts it.
    pub fn is_well(&self) -> Result<(), String> {
        self.well().map(|_| ())
    }
}
