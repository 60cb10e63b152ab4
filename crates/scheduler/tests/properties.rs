//! What every schedule keeps, for random clusters, topologies and changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use squall_scheduler::{
    Even, Executor, Isolation, Node, NodeUse, Placements, Resources, Schedule, Scheduler, Topology, Unplaced, moved,
};

fn need(cpu: u64, memory: u64) -> Resources {
    Resources { cpu, memory }
}

fn node(id: impl Into<String>, slots: u16) -> Node {
    Node { id: id.into(), slots, capacity: Resources::UNLIMITED, usage: NodeUse::Ready }
}

fn nodes(count: usize, slots: u16) -> Vec<Node> {
    (0..count).map(|n| node(format!("n{n}"), slots)).collect()
}

/// A chain of components with these numbers of executors.
fn chain(id: &str, workers: u32, executors: &[u32]) -> Topology {
    let each = |(component, &count): (usize, &u32)| {
        vec![Executor { component: component as u32, need: need(10, 1 << 20) }; count as usize]
    };
    Topology {
        id: id.into(),
        name: id.into(),
        workers,
        executors: executors.iter().enumerate().flat_map(each).collect(),
        talks: (1..executors.len() as u32).map(|c| (c - 1, c)).collect(),
        pinned: false,
    }
}

fn some_nodes() -> impl Strategy<Value = Vec<Node>> {
    let usage = prop_oneof![8 => Just(NodeUse::Ready), 1 => Just(NodeUse::KeepOnly), 1 => Just(NodeUse::Empty)];
    let one = (0u16..5, 0u64..400, 0u64..4000, usage);
    prop::collection::vec(one, 0..8).prop_map(|list| {
        let node =
            |(n, (slots, cpu, memory, usage))| Node { id: format!("n{n}"), slots, capacity: need(cpu, memory), usage };
        list.into_iter().enumerate().map(node).collect()
    })
}

/// Workers, executors (component, processor, memory), talkers.
type Drawn = (u32, Vec<(u32, u64, u64)>, Vec<(u32, u32)>);

fn some_topologies() -> impl Strategy<Value = Vec<Topology>> {
    let executor = (0u32..4, 0u64..60, 0u64..600);
    let one = (1u32..6, prop::collection::vec(executor, 1..12), prop::collection::vec((0u32..4, 0u32..4), 0..5));
    prop::collection::vec(one, 0..5).prop_map(|list| {
        let topology = |(n, (workers, mut executors, talks)): (usize, Drawn)| {
            executors.sort_unstable();
            let executors =
                executors.iter().map(|&(component, c, m)| Executor { component, need: need(c, m) }).collect();
            Topology { id: format!("t{n}"), name: format!("t{n}"), workers, executors, talks, pinned: false }
        };
        list.into_iter().enumerate().map(topology).collect()
    })
}

/// Slots, capacity, completeness; `previous` says what a node that takes nothing new may hold.
fn check(nodes: &[Node], topologies: &[Topology], previous: &Placements, schedule: &Schedule) {
    let mut slots = BTreeSet::new();
    let mut used: BTreeMap<&str, Resources> = BTreeMap::new();
    for (id, placement) in &schedule.placements {
        let topology = topologies.iter().find(|t| &t.id == id).expect("only known topologies are placed");
        let mut seen = BTreeSet::new();
        assert!(placement.len() <= topology.workers as usize);
        for worker in placement {
            let node = nodes.iter().find(|n| n.id == worker.node).expect("only nodes that are there are used");
            assert!(worker.slot < node.slots, "a slot that the node has");
            assert!(slots.insert((worker.node.as_str(), worker.slot)), "no slot twice");
            assert!(!worker.executors.is_empty() && worker.executors.is_sorted());
            let before =
                previous.get(id).is_some_and(|p| p.iter().any(|w| (&w.node, w.slot) == (&worker.node, worker.slot)));
            assert!(node.usage == NodeUse::Ready || (node.usage == NodeUse::KeepOnly && before), "{:?}", node.usage);
            for &executor in &worker.executors {
                assert!(seen.insert(executor), "an executor is in one worker");
                let sum = used.entry(worker.node.as_str()).or_default();
                *sum = sum.plus(topology.executors[executor as usize].need);
            }
        }
        if !schedule.unplaced.contains_key(id) {
            assert_eq!(seen.len(), topology.executors.len(), "what is placed is placed whole");
        }
    }
    for node in nodes {
        assert!(node.capacity.covers(used.get(node.id.as_str()).copied().unwrap_or_default()), "within the capacity");
    }
    for topology in topologies {
        let known = schedule.placements.contains_key(&topology.id) || schedule.unplaced.contains_key(&topology.id);
        assert!(known, "each topology is placed or it is said why not");
    }
}

fn schedulers() -> Vec<Box<dyn Scheduler>> {
    let machines = BTreeMap::from([("t0".to_owned(), 1), ("t3".to_owned(), 2)]);
    vec![
        Box::new(Even::default()),
        Box::new(Even { restore_spread: false }),
        Box::new(Isolation { machines, ..Isolation::default() }),
    ]
}

proptest! {
    #[test]
    fn no_slot_is_used_twice_capacity_is_kept_and_nothing_moves_where_nothing_changed(
        nodes in some_nodes(), topologies in some_topologies(), later in some_nodes(), wanted in 1u32..6,
    ) {
        for scheduler in schedulers() {
            let none = Placements::new();
            let first = scheduler.schedule(&nodes, &topologies, &none);
            check(&nodes, &topologies, &none, &first);
            let again = scheduler.schedule(&nodes, &topologies, &first.placements);
            check(&nodes, &topologies, &first.placements, &again);
            prop_assert_eq!(&first, &again, "stable");
            // Any other cluster, and a topology that asks for another number of workers.
            let mut changed = topologies.clone();
            if let Some(topology) = changed.first_mut() {
                topology.workers = wanted;
            }
            let next = scheduler.schedule(&later, &changed, &first.placements);
            check(&later, &changed, &first.placements, &next);
        }
    }

    #[test]
    fn losing_a_node_moves_only_what_ran_there(count in 2usize..8, lost in 0usize..8, workers in 1u32..8, executors in 1u32..20) {
        let all = nodes(count, 16);
        let topologies = [chain("a", workers, &[executors, executors, 1]), chain("b", 2, &[3])];
        let before = Even::default().schedule(&all, &topologies, &Placements::new());
        let lost = format!("n{}", lost % count);
        let left: Vec<Node> = all.iter().filter(|n| n.id != lost).cloned().collect();
        let after = Even::default().schedule(&left, &topologies, &before.placements);
        prop_assert!(after.unplaced.is_empty());
        for topology in &topologies {
            let there = |p: &[squall_scheduler::WorkerPlace]| {
                p.iter().filter(|w| w.node == lost).map(|w| w.executors.len()).sum::<usize>()
            };
            let (was, is) = (&before.placements[&topology.id], &after.placements[&topology.id]);
            prop_assert_eq!(moved(was, is), there(was), "of {}", topology.id);
            let together =
                |p: &[squall_scheduler::WorkerPlace]| p.iter().map(|w| w.executors.clone()).collect::<BTreeSet<_>>();
            prop_assert_eq!(together(is), together(was), "what ran together does so elsewhere");
        }
    }

    #[test]
    fn shares_of_executors_differ_by_one_at_most(workers in 1u32..9, counts in prop::collection::vec(1u32..9, 1..5)) {
        let topology = chain("a", workers, &counts);
        let placement = &Even::default().schedule(&nodes(3, 4), &[topology], &Placements::new()).placements["a"];
        let sizes: Vec<usize> = placement.iter().map(|w| w.executors.len()).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
    }
}

#[test]
fn workers_are_spread_over_nodes_and_emptier_nodes_come_first() {
    let all = nodes(3, 4);
    let topologies = [chain("a", 3, &[3]), chain("b", 2, &[2]), chain("c", 1, &[1])];
    let schedule = Even::default().schedule(&all, &topologies, &Placements::new());
    let on = |id: &str| schedule.placements[id].iter().map(|w| w.node.clone()).collect::<Vec<_>>();
    assert_eq!(on("a"), ["n0", "n1", "n2"]);
    assert_eq!(on("b"), ["n0", "n1"]);
    assert_eq!(on("c"), ["n2"]);
}

#[test]
fn components_that_talk_share_a_worker_where_shares_allow() {
    // Four in a row on two workers: the cut goes through one of the three streams only.
    let schedule = Even::default().schedule(&nodes(2, 1), &[chain("a", 2, &[1, 1, 1, 1])], &Placements::new());
    let workers: Vec<_> = schedule.placements["a"].iter().map(|w| w.executors.clone()).collect();
    assert_eq!(workers, [[0, 1], [2, 3]]);
    // Two of each on two workers: each worker has one of each, so every stream has a way within the worker.
    let schedule = Even::default().schedule(&nodes(2, 1), &[chain("a", 2, &[2, 2, 2])], &Placements::new());
    let workers: Vec<_> = schedule.placements["a"].iter().map(|w| w.executors.clone()).collect();
    assert_eq!(workers, [[0, 2, 4], [1, 3, 5]]);
}

#[test]
fn a_node_that_came_back_is_used_again() {
    let all = nodes(2, 4);
    let topology = [chain("a", 2, &[4])];
    let whole = Even::default().schedule(&all, &topology, &Placements::new()).placements;
    let short = Even::default().schedule(&all[..1], &topology, &whole).placements;
    assert!(short["a"].iter().all(|w| w.node == "n0"));
    let back = Even::default().schedule(&all, &topology, &short).placements;
    assert_eq!(back["a"].iter().filter(|w| w.node == "n1").count(), 1);
    assert_eq!(moved(&short["a"], &back["a"]), 2, "one worker moves, whole");
    let stays = Even { restore_spread: false }.schedule(&all, &topology, &short).placements;
    assert_eq!(stays, short);
}

#[test]
fn fewer_slots_than_workers_are_used_and_more_are_taken_when_they_come() {
    let topology = [chain("a", 4, &[8])];
    let two = Even::default().schedule(&nodes(1, 2), &topology, &Placements::new());
    assert!(two.unplaced.is_empty());
    assert_eq!(two.placements["a"].iter().map(|w| w.executors.len()).collect::<Vec<_>>(), [4, 4]);
    let four = Even::default().schedule(&nodes(2, 2), &topology, &two.placements).placements;
    assert_eq!(four["a"].iter().map(|w| w.executors.len()).collect::<Vec<_>>(), [2, 2, 2, 2]);
    assert_eq!(moved(&two.placements["a"], &four["a"]), 4, "no more than the new shares");
}

#[test]
fn what_does_not_fit_is_named_and_nothing_of_it_is_placed() {
    let mut small = nodes(2, 4);
    for node in &mut small {
        node.capacity = need(100, 1 << 30);
    }
    let mut topology = chain("a", 2, &[4]);
    for executor in &mut topology.executors {
        executor.need = need(60, 0);
    }
    let schedule = Even::default().schedule(&small, &[topology], &Placements::new());
    assert!(schedule.placements.is_empty());
    let why = &schedule.unplaced["a"];
    assert_eq!(*why, Unplaced::NoRoom { executors: 2, largest: need(60, 0) });
    assert!(why.to_string().contains("0.60 cores"), "{why}");
    let none = Even::default().schedule(&[], &[chain("a", 2, &[4])], &Placements::new());
    assert_eq!(none.unplaced["a"], Unplaced::NoSlot { nodes: 0, slots: 0 });
}

#[test]
fn a_drained_node_is_emptied_and_a_cordoned_one_keeps_what_it_has() {
    let mut all = nodes(2, 4);
    let topology = [chain("a", 2, &[4])];
    let before = Even::default().schedule(&all, &topology, &Placements::new()).placements;
    all[1].usage = NodeUse::KeepOnly;
    let more = [topology[0].clone(), chain("b", 2, &[2])];
    let cordoned = Even::default().schedule(&all, &more, &before).placements;
    assert_eq!(cordoned["a"], before["a"]);
    assert!(cordoned["b"].iter().all(|w| w.node == "n0"));
    all[1].usage = NodeUse::Empty;
    let drained = Even::default().schedule(&all, &more, &cordoned).placements;
    assert!(drained.values().flatten().all(|w| w.node == "n0"));
}

#[test]
fn a_pinned_topology_stays_where_it_is_and_nothing_takes_its_slots() {
    let mut all = nodes(2, 2);
    let mut pinned = chain("a", 2, &[4]);
    // Both workers on one node, which is full then; the other node would be better, and the node is to be emptied.
    let placed = Even::default().schedule(&all[..1], &[pinned.clone()], &Placements::new()).placements;
    all[0].usage = NodeUse::Empty;
    all[0].capacity = need(1, 1);
    pinned.pinned = true;
    let after = Even::default().schedule(&all, &[chain("b", 2, &[2]), pinned.clone()], &placed).placements;
    assert_eq!(after["a"], placed["a"]);
    assert!(after["b"].iter().all(|w| w.node == "n1"));
    let gone = Even::default().schedule(&all[1..], &[pinned], &placed);
    assert!(gone.placements.is_empty() && gone.unplaced.is_empty(), "what is gone is not placed anew");
}

#[test]
fn an_isolated_topology_shares_its_nodes_with_nobody() {
    let all = nodes(4, 4);
    let topologies = [chain("shared", 4, &[4]), chain("alone", 4, &[4])];
    let before = Even::default().schedule(&all, &topologies, &Placements::new()).placements;
    let isolation = Isolation { machines: BTreeMap::from([("alone".into(), 2)]), ..Isolation::default() };
    let after = isolation.schedule(&all, &topologies, &before);
    assert!(after.unplaced.is_empty());
    let on = |id: &str| after.placements[id].iter().map(|w| w.node.clone()).collect::<BTreeSet<_>>();
    assert_eq!((on("alone").len(), on("shared").len()), (2, 2));
    assert!(on("alone").is_disjoint(&on("shared")));
    assert_eq!(isolation.schedule(&all, &topologies, &after.placements).placements, after.placements);
}
