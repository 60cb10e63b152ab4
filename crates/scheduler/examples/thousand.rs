//! How long schedules of 1000 nodes and 10,000 executors take:
//! `cargo run --release -p squall-scheduler --example thousand`.

use std::time::Instant;

use squall_scheduler::{Even, Executor, Node, NodeUse, Placements, Resources, Scheduler, Topology};

fn topology(id: usize, workers: u32, per_component: u32) -> Topology {
    let need = Resources { cpu: 10, memory: 128 << 20 };
    let executor = |at: u32| Executor { component: at / per_component, need };
    Topology {
        id: format!("t{id}"),
        name: format!("t{id}"),
        workers,
        executors: (0..5 * per_component).map(executor).collect(),
        talks: vec![(0, 1), (1, 2), (2, 3), (3, 4)],
        pinned: false,
    }
}

fn main() {
    let capacity = Resources { cpu: 1600, memory: 64 << 30 };
    let node = |n| Node { id: format!("node{n}"), slots: 8, capacity, usage: NodeUse::Ready };
    let nodes: Vec<Node> = (0..1000).map(node).collect();
    let cases = [
        ("1 topology x 10,000 executors, 1000 workers", vec![topology(0, 1000, 2000)]),
        ("1000 topologies x 10 executors, 4 workers each", (0..1000).map(|n| topology(n, 4, 2)).collect()),
    ];
    for (name, topologies) in cases {
        let timed = |what: &str, nodes: &[Node], previous: &Placements| {
            let start = Instant::now();
            let schedule = Even::default().schedule(nodes, &topologies, previous);
            let took = start.elapsed();
            assert!(schedule.unplaced.is_empty(), "{:?}", schedule.unplaced);
            println!("{name}: {what}: {:.1} ms", took.as_secs_f64() * 1e3);
            schedule.placements
        };
        let first = timed("from nothing", &nodes, &Placements::new());
        timed("nothing changed", &nodes, &first);
        timed("100 nodes lost", &nodes[100..], &first);
    }
}
