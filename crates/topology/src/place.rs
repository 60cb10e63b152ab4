//! Placement: executors to workers, reactors and cores, and what follows from it (links, inboxes, task sets).
//!
//! A deal in turn, with no knowledge of load: predictable, easy to read off `plan`, and every worker gets a share of each
//! component. A deal that weighs measured load would need measurements a plan must not depend on.

use std::ops::Range;

use squall_tuple::ids::{ComponentIx, ReactorIx, TaskId, WorkerIx};

use crate::error::TopologyError;
use crate::plan::{
    Cohort, ExecutorIx, ExecutorPlan, InboxPlan, LinkKind, LinkPlan, Machine, ReactorPlan, Seat, TaskPlan, TaskSet,
    WorkerPlan,
};
use crate::spec::{ComponentKind, Grouping, MAX_REACTORS, Placement, ShmUse, TopologySpec};

pub(crate) struct Placed {
    pub(crate) first_task: Vec<TaskId>,
    pub(crate) tasks: Vec<TaskPlan>,
    pub(crate) executors: Vec<ExecutorPlan>,
    pub(crate) reactors: Vec<ReactorPlan>,
    pub(crate) workers: Vec<WorkerPlan>,
    /// By worker: its host.
    pub(crate) hosts: Vec<u32>,
}

/// Places a valid spec on one machine, all of whose cores are dealt to the workers in turn. The only fault left to find here is the number of
/// reactors.
pub(crate) fn place(spec: &TopologySpec, machine: &Machine) -> Result<Placed, TopologyError> {
    let (first_task, executors) = split_tasks(spec);
    let per_worker = reactors_per_worker(spec, machine);
    let mut cores = machine.cores.iter().copied().cycle();
    let mut hands = deal_to_workers(spec, &executors);
    for hand in &mut hands {
        hand.cores = cores.by_ref().take(hand.normal.len().min(per_worker)).collect();
        hand.reactors = per_worker;
    }
    arrange(spec, first_task, executors, hands)
}

/// Places a valid spec as somebody else has assigned it: each seat is a worker with the executors it is to run.
pub(crate) fn place_seated(spec: &TopologySpec, seats: &[Seat]) -> Result<Placed, TopologyError> {
    let (first_task, executors) = split_tasks(spec);
    let mut seated = vec![false; executors.len()];
    let mut hands = Vec::with_capacity(seats.len());
    for (at, seat) in seats.iter().enumerate() {
        let mut hand = Hand {
            cores: seat.cores.clone(),
            reactors: seat.reactors.max(1) as usize,
            host: seat.host,
            ..Hand::default()
        };
        let mut own = seat.executors.clone();
        own.sort_unstable();
        for ix in own {
            let executor = executors.get(ix as usize).ok_or_else(|| {
                let why = format!("worker {at} is to run executor {ix}, but there are {}", executors.len());
                TopologyError::Seats { why }
            })?;
            if std::mem::replace(&mut seated[ix as usize], true) {
                return Err(TopologyError::Seats { why: format!("executor {ix} is assigned twice") });
            }
            match spec.components[executor.component as usize].placement {
                Placement::Reactor => hand.normal.push(ix),
                Placement::SideThread => hand.side.push(ix),
            }
        }
        if hand.normal.is_empty() && hand.side.is_empty() {
            return Err(TopologyError::Seats { why: format!("worker {at} has nothing to run") });
        }
        hands.push(hand);
    }
    if let Some(missing) = seated.iter().position(|there| !there) {
        return Err(TopologyError::Seats { why: format!("executor {missing} has no worker") });
    }
    arrange(spec, first_task, executors, hands)
}

/// From who runs what to reactors and tasks.
fn arrange(
    spec: &TopologySpec,
    first_task: Vec<TaskId>,
    mut executors: Vec<ExecutorPlan>,
    dealt: Vec<Hand>,
) -> Result<Placed, TopologyError> {
    let side: u64 = dealt.iter().map(|d| d.side.len() as u64).sum();
    let normal: u64 = dealt.iter().map(|d| d.normal.len().min(d.reactors) as u64).sum();
    if side + normal > u64::from(MAX_REACTORS) {
        return Err(TopologyError::TooManyReactors { reactors: side + normal, side });
    }

    let mut reactors: Vec<ReactorPlan> = Vec::new();
    let mut workers = Vec::with_capacity(dealt.len());
    for (worker, hand) in dealt.iter().enumerate() {
        let worker = worker as WorkerIx;
        let first = reactors.len();
        let mut cores = hand.cores.iter().cycle();
        for _ in 0..hand.normal.len().min(hand.reactors) {
            reactors.push(ReactorPlan { worker, core: cores.next().copied(), side: false, executors: Vec::new() });
        }
        let normal_reactors = reactors.len() - first;
        for (turn, &executor) in hand.normal.iter().enumerate() {
            reactors[first + turn % normal_reactors].executors.push(executor);
        }
        for &executor in &hand.side {
            reactors.push(ReactorPlan { worker, core: None, side: true, executors: vec![executor] });
        }
        workers.push(WorkerPlan { reactors: (first as ReactorIx..reactors.len() as ReactorIx).collect() });
    }

    let mut tasks =
        vec![TaskPlan { component: 0, executor: 0, reactor: 0 }; first_task[spec.components.len()] as usize];
    for (at, reactor) in reactors.iter().enumerate() {
        for &ix in &reactor.executors {
            let executor = &mut executors[ix as usize];
            executor.reactor = at as ReactorIx;
            for task in executor.tasks.clone() {
                tasks[task as usize] =
                    TaskPlan { component: executor.component, executor: ix, reactor: at as ReactorIx };
            }
        }
    }
    let hosts = dealt.iter().map(|hand| hand.host).collect();
    Ok(Placed { first_task, tasks, executors, reactors, workers, hosts })
}

/// Numbers the tasks and cuts each component's into contiguous shares that differ by at most one. Reactors are set later.
fn split_tasks(spec: &TopologySpec) -> (Vec<TaskId>, Vec<ExecutorPlan>) {
    let mut first_task = Vec::with_capacity(spec.components.len() + 1);
    let mut executors = Vec::new();
    let mut next: TaskId = 0;
    for (at, component) in spec.components.iter().enumerate() {
        first_task.push(next);
        let cut =
            |share: u32| next + (u64::from(component.tasks) * u64::from(share) / u64::from(component.executors)) as u32;
        for share in 0..component.executors {
            let tasks: Range<TaskId> = cut(share)..cut(share + 1);
            executors.push(ExecutorPlan { component: at as ComponentIx, tasks, reactor: 0 });
        }
        next += component.tasks;
    }
    first_task.push(next);
    (first_task, executors)
}

/// The executors of one worker.
#[derive(Default)]
struct Hand {
    normal: Vec<ExecutorIx>,
    side: Vec<ExecutorIx>,
    /// For its normal reactors, in turn.
    cores: Vec<usize>,
    /// Normal reactors, at most.
    reactors: usize,
    host: u32,
}

/// Deals side threads from the last worker down: they load other cores than the reactors do, so they go where the first
/// deal ends early, and no worker stays empty while there are as many executors as workers.
fn deal_to_workers(spec: &TopologySpec, executors: &[ExecutorPlan]) -> Vec<Hand> {
    let workers = spec.config.workers as usize;
    let mut hands: Vec<Hand> = Vec::new();
    hands.resize_with(workers, Hand::default);
    let (mut normal, mut side) = (0, 0);
    for (at, executor) in executors.iter().enumerate() {
        match spec.components[executor.component as usize].placement {
            Placement::Reactor => {
                hands[normal % workers].normal.push(at as ExecutorIx);
                normal += 1;
            }
            Placement::SideThread => {
                hands[workers - 1 - side % workers].side.push(at as ExecutorIx);
                side += 1;
            }
        }
    }
    hands
}

fn reactors_per_worker(spec: &TopologySpec, machine: &Machine) -> usize {
    match spec.config.reactors {
        Some(reactors) => reactors as usize,
        None => (machine.cores.len() / spec.config.workers as usize).max(1),
    }
}

/// The cohorts of one reactor, in topological order of the components.
pub(crate) fn cohorts(on: &[ExecutorIx], executors: &[ExecutorPlan], order: &[ComponentIx]) -> Vec<Cohort> {
    let mut rank = vec![0u32; order.len()];
    for (at, &component) in order.iter().enumerate() {
        rank[component as usize] = at as u32;
    }
    let mut sorted = on.to_vec();
    sorted.sort_by_key(|&ix| (rank[executors[ix as usize].component as usize], ix));
    let mut cohorts: Vec<Cohort> = Vec::new();
    for ix in sorted {
        let ExecutorPlan { component, tasks, .. } = executors[ix as usize].clone();
        match cohorts.last_mut().filter(|last| last.component == component) {
            Some(cohort) => {
                cohort.tasks.extend(tasks);
                cohort.executors.push(ix);
            }
            None => cohorts.push(Cohort { component, tasks: tasks.collect(), executors: vec![ix] }),
        }
    }
    cohorts
}

/// The reactors of each component, ascending.
pub(crate) fn reactors_of(components: usize, executors: &[ExecutorPlan]) -> Vec<Vec<ReactorIx>> {
    let mut reactors: Vec<Vec<ReactorIx>> = vec![Vec::new(); components];
    for executor in executors {
        reactors[executor.component as usize].push(executor.reactor);
    }
    for list in &mut reactors {
        list.sort_unstable();
        list.dedup();
    }
    reactors
}

/// One link for each ordered pair of reactors between which a subscription leads, in either direction; and, where roots
/// are tracked, between each reactor of a spout and those that tuples of its trees can reach: acks go straight to the ledger.
pub(crate) fn links(
    spec: &TopologySpec,
    reactors: &[ReactorPlan],
    reactors_of: &[Vec<ReactorIx>],
    hosts: &[u32],
) -> Vec<LinkPlan> {
    let count = reactors.len();
    let mut linked = vec![false; count * count];
    let trees = if spec.config.acking() { crate::graph::trees(spec) } else { Vec::new() };
    for (from, to) in crate::graph::edges(spec, true).into_iter().chain(trees) {
        for &a in &reactors_of[from as usize] {
            for &b in &reactors_of[to as usize] {
                linked[a as usize * count + b as usize] = true;
                linked[b as usize * count + a as usize] = true;
            }
        }
    }
    let host = |reactor: usize| hosts[reactors[reactor].worker as usize];
    let kind = |from: usize, to: usize| {
        if from == to {
            LinkKind::Local
        } else if reactors[from].worker == reactors[to].worker {
            LinkKind::Ring
        } else if spec.config.shm == ShmUse::Off || host(from) != host(to) {
            LinkKind::Socket
        } else {
            LinkKind::Shm
        }
    };
    (0..count * count)
        .filter(|&at| linked[at])
        .map(|at| (at / count, at % count))
        .map(|(from, to)| LinkPlan { from: from as ReactorIx, to: to as ReactorIx, kind: kind(from, to) })
        .collect()
}

/// One inbox for each bolt and each reactor it is on.
pub(crate) fn inboxes(
    spec: &TopologySpec,
    reactors_of: &[Vec<ReactorIx>],
    cohorts_of: &[Vec<Cohort>],
) -> Vec<InboxPlan> {
    let mut inboxes = Vec::new();
    for (at, component) in spec.components.iter().enumerate() {
        if component.kind == ComponentKind::Spout {
            continue;
        }
        let component = at as ComponentIx;
        for &reactor in &reactors_of[at] {
            let cohort = cohorts_of[reactor as usize]
                .iter()
                .find(|cohort| cohort.component == component)
                .expect("a reactor of a component has a cohort of it");
            inboxes.push(InboxPlan { component, reactor, tasks: cohort.tasks.clone() });
        }
    }
    inboxes
}

/// One set for each `All` subscription and each inbox of its subscriber.
pub(crate) fn task_sets(spec: &TopologySpec, inboxes: &[InboxPlan]) -> Vec<TaskSet> {
    let mut sets = Vec::new();
    for (at, subscription) in spec.subscriptions.iter().enumerate().filter(|(_, s)| s.grouping == Grouping::All) {
        sets.extend(inboxes.iter().filter(|inbox| inbox.component == subscription.to).map(|inbox| TaskSet {
            subscription: at as u32,
            reactor: inbox.reactor,
            tasks: inbox.tasks.clone(),
        }));
    }
    sets
}
