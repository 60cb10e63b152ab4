//! Nodes of their own for some topologies, as Storm's `isolation.scheduler.machines`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::{Even, Node, NodeUse, Placements, Schedule, Scheduler, Topology};

/// Gives the named topologies whole nodes, which nothing else uses, and deals the rest evenly over the others.
///
/// A topology keeps the nodes it has; more are taken from those with the fewest workers of others, which move. While there
/// are fewer nodes than asked for, the first by name get theirs.
#[derive(Clone, Debug, Default)]
pub struct Isolation {
    /// Nodes by the name of the topology.
    pub machines: BTreeMap<String, usize>,
    /// How the workers are dealt within each set of nodes.
    pub even: Even,
}

impl Scheduler for Isolation {
    fn schedule(&self, nodes: &[Node], topologies: &[Topology], previous: &Placements) -> Schedule {
        let mut alone: Vec<(&Topology, usize)> =
            topologies.iter().filter_map(|t| self.machines.get(&t.name).map(|&machines| (t, machines))).collect();
        alone.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let workers = workers_by_node(previous);
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        let mut schedule = Schedule::default();
        for (topology, machines) in alone {
            let count = |node: &Node, own: bool| {
                let here = workers.get(node.id.as_str());
                here.map_or(0, |list| list.iter().filter(|id| (**id == topology.id) == own).count())
            };
            let mut open: Vec<&Node> = nodes.iter().filter(|n| !taken.contains(n.id.as_str())).collect();
            open.retain(|node| {
                node.usage == NodeUse::Ready || (node.usage == NodeUse::KeepOnly && count(node, true) > 0)
            });
            open.sort_by_key(|node| (Reverse(count(node, true)), count(node, false)));
            open.truncate(machines);
            taken.extend(open.iter().map(|node| node.id.as_str()));
            let own: Vec<Node> = nodes.iter().filter(|n| open.iter().any(|o| o.id == n.id)).cloned().collect();
            merge(&mut schedule, self.even.schedule(&own, std::slice::from_ref(topology), previous));
        }
        let rest: Vec<Node> = nodes.iter().filter(|n| !taken.contains(n.id.as_str())).cloned().collect();
        let shared: Vec<Topology> =
            topologies.iter().filter(|t| !self.machines.contains_key(&t.name)).cloned().collect();
        merge(&mut schedule, self.even.schedule(&rest, &shared, previous));
        schedule
    }
}

fn merge(into: &mut Schedule, from: Schedule) {
    into.placements.extend(from.placements);
    into.unplaced.extend(from.unplaced);
}

/// Topology ids by node, one for each worker.
fn workers_by_node(previous: &Placements) -> BTreeMap<&str, Vec<&str>> {
    let mut by_node: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, placement) in previous {
        for worker in placement {
            by_node.entry(worker.node.as_str()).or_default().push(id);
        }
    }
    by_node
}
