//! The graph of components: an order along the streams, and the cycle that prevents one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use squall_tuple::ids::ComponentIx;

use crate::spec::{ComponentKind, TopologySpec};

/// Edges from component to component, without duplicates. Indices in the spec must be valid.
pub(crate) fn edges(spec: &TopologySpec, with_feedback: bool) -> BTreeSet<(ComponentIx, ComponentIx)> {
    spec.subscriptions
        .iter()
        .filter(|s| with_feedback || !s.feedback)
        .map(|s| (spec.streams[s.stream as usize].component, s.to))
        .collect()
}

/// Each spout with each component that tuples of its trees can reach, feedback edges included.
pub(crate) fn trees(spec: &TopologySpec) -> Vec<(ComponentIx, ComponentIx)> {
    let edges = edges(spec, true);
    let mut pairs = Vec::new();
    for spout in (0..).zip(&spec.components).filter(|(_, c)| c.kind == ComponentKind::Spout).map(|(at, _)| at) {
        let mut reached = vec![false; spec.components.len()];
        let mut todo = vec![spout];
        while let Some(at) = todo.pop() {
            for (_, to) in edges.range((at, 0)..=(at, ComponentIx::MAX)) {
                if !std::mem::replace(&mut reached[*to as usize], true) {
                    todo.push(*to);
                    pairs.push((spout, *to));
                }
            }
        }
    }
    pairs
}

/// Components such that every stream that is not feedback leads forward; ties by index. Or a cycle, in the direction of
/// the streams, without repeating its first component.
pub(crate) fn topological_order(spec: &TopologySpec) -> Result<Vec<ComponentIx>, Vec<ComponentIx>> {
    let count = spec.components.len();
    let mut incoming = vec![0u32; count];
    let mut next: Vec<Vec<ComponentIx>> = vec![Vec::new(); count];
    let mut previous: Vec<Vec<ComponentIx>> = vec![Vec::new(); count];
    for (from, to) in edges(spec, false) {
        incoming[to as usize] += 1;
        next[from as usize].push(to);
        previous[to as usize].push(from);
    }
    let mut ready: BinaryHeap<Reverse<ComponentIx>> =
        (0..count as ComponentIx).filter(|&c| incoming[c as usize] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(component)) = ready.pop() {
        order.push(component);
        for &to in &next[component as usize] {
            incoming[to as usize] -= 1;
            if incoming[to as usize] == 0 {
                ready.push(Reverse(to));
            }
        }
    }
    match incoming.iter().position(|&n| n > 0) {
        None => Ok(order),
        Some(start) => Err(cycle_before(start as ComponentIx, &previous, &incoming)),
    }
}

/// Walks against the streams among the components that Kahn's algorithm left over. Each of them has a left-over
/// predecessor, so the walk must meet itself.
fn cycle_before(start: ComponentIx, previous: &[Vec<ComponentIx>], incoming: &[u32]) -> Vec<ComponentIx> {
    let mut walk = vec![start];
    loop {
        let at = walk[walk.len() - 1];
        let before = *previous[at as usize]
            .iter()
            .find(|&&p| incoming[p as usize] > 0)
            .expect("a component left over has a predecessor that is left over");
        if let Some(first) = walk.iter().position(|&c| c == before) {
            let mut cycle = walk.split_off(first);
            cycle.reverse();
            // The one declared first is where its author will look.
            let lowest = (0..cycle.len()).min_by_key(|&at| cycle[at]).expect("a cycle has a component");
            cycle.rotate_left(lowest);
            return cycle;
        }
        walk.push(before);
    }
}

/// Whether a path of streams, feedback included, leads from one component to another (or they are the same).
pub(crate) fn leads_to(spec: &TopologySpec, from: ComponentIx, to: ComponentIx) -> bool {
    let edges = edges(spec, true);
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        for &(_, next) in edges.range((at, 0)..=(at, ComponentIx::MAX)) {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}
