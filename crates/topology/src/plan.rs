//! The plan: which task is in which executor on which reactor of which worker, and every path tuples may take.
//!
//! [`Plan::new`] is a pure function of the spec and the machine. Two workers that call it with equal arguments hold equal
//! plans; [`Plan::canonical`] and [`Plan::hash`] let them prove it before the first tuple.
//!
//! All ids are dense and 0-based. Invariants, which the property tests check for any valid spec:
//! - tasks of one component are contiguous and in the order of the components; every task is in exactly one executor,
//!   every executor on exactly one reactor, every reactor in exactly one worker;
//! - executors of one component differ by at most one task; reactors of a worker are contiguous, normal ones first;
//! - a side-thread executor is alone on an unpinned reactor; other reactors share no core while cores suffice;
//! - for every subscription there is a link between each reactor of the source and each of the subscriber, both ways.
//!   The grouping makes no difference: marks (end of stream, barriers) go from every source task to every target task;
//! - unless acking is off, there is one between each reactor of a spout and each that tuples of its trees can reach.
//!
//! The lookups are built once here; none searches more than one component's or one reactor's entries.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use squall_tuple::ids::{ComponentIx, ReactorIx, StreamIx, TaskId, WorkerIx};

use crate::error::TopologyError;
use crate::graph;
use crate::memory::MemoryPlan;
use crate::place;
use crate::router::Target;
use crate::spec::{Grouping, TopologySpec};

/// Index of an executor in [`Plan::executors`].
pub type ExecutorIx = u32;
/// Index of a subscription in [`TopologySpec::subscriptions`].
pub type SubscriptionIx = u32;
/// Index of an inbox in [`Plan::inboxes`].
pub type InboxIx = u32;
/// Index of a link in [`Plan::links`].
pub type LinkIx = u32;
/// Index of a task set in [`Plan::task_sets`], as a tuple's `destination` carries it.
pub type SetIx = u32;

/// What a plan needs to know about the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Ids of the CPUs this process may use, in the order to use them. Empty: nothing is pinned.
    pub cores: Vec<usize>,
}

/// One worker as a scheduler has assigned it; see [`Plan::seated`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Its executors, never none. Numbered by component, then by tasks.
    pub executors: Vec<ExecutorIx>,
    /// Normal reactors, at most; 0 counts as 1.
    pub reactors: u32,
    /// The CPUs to pin them to, in turn. Empty: nothing is pinned.
    pub cores: Vec<usize>,
    /// Workers with equal numbers share a host, and memory unless that is switched off.
    pub host: u32,
}

/// Where one task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskPlan {
    /// Its component.
    pub component: ComponentIx,
    /// Its executor.
    pub executor: ExecutorIx,
    /// The reactor of that executor.
    pub reactor: ReactorIx,
}

/// One executor: a contiguous share of the tasks of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorPlan {
    /// Its component.
    pub component: ComponentIx,
    /// Its tasks, never empty.
    pub tasks: Range<TaskId>,
    /// Where it runs.
    pub reactor: ReactorIx,
}

/// One reactor: a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactorPlan {
    /// The worker it belongs to.
    pub worker: WorkerIx,
    /// The CPU to pin it to. `None`: unpinned.
    pub core: Option<usize>,
    /// It holds one side-thread executor and may block.
    pub side: bool,
    /// Its executors, ascending, never empty.
    pub executors: Vec<ExecutorIx>,
}

/// One worker: a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPlan {
    /// Its reactors, ascending and contiguous, never empty: normal ones first, then side reactors.
    pub reactors: Vec<ReactorIx>,
}

/// How bytes travel on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// Within one reactor.
    Local,
    /// A ring between two reactors of one worker.
    Ring,
    /// Memory shared by two workers of one host, with a socket beside it that tells when the other is gone. Carries batches over that
    /// socket where the memory cannot be had.
    Shm,
    /// A stream socket between two workers.
    Socket,
}

/// The one-way path of batches from one reactor to another (or itself).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// The sender.
    pub from: ReactorIx,
    /// The receiver.
    pub to: ReactorIx,
    /// How.
    pub kind: LinkKind,
}

/// Where tuples for one bolt arrive on one reactor: the unit of credit and of pausing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxPlan {
    /// The bolt.
    pub component: ComponentIx,
    /// The reactor.
    pub reactor: ReactorIx,
    /// The bolt's tasks on that reactor, ascending, never empty.
    pub tasks: Vec<TaskId>,
}

/// All target tasks of an `All` subscription on one reactor: one archived tuple reaches them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSet {
    /// The subscription it serves.
    pub subscription: SubscriptionIx,
    /// The reactor.
    pub reactor: ReactorIx,
    /// The tasks, ascending, never empty.
    pub tasks: Vec<TaskId>,
}

/// All tasks of one component on one reactor: what the engine runs as one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohort {
    /// The component.
    pub component: ComponentIx,
    /// Its tasks here, ascending, never empty.
    pub tasks: Vec<TaskId>,
    /// Its executors here, ascending.
    pub executors: Vec<ExecutorIx>,
}

/// A validated topology placed on workers, reactors and cores. Read only: changing a field would contradict the lookups.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The topology as declared.
    pub spec: TopologySpec,
    /// By task id.
    pub tasks: Vec<TaskPlan>,
    /// By executor; ordered by component, then by tasks.
    pub executors: Vec<ExecutorPlan>,
    /// By reactor; ordered by worker, normal reactors first.
    pub reactors: Vec<ReactorPlan>,
    /// By worker.
    pub workers: Vec<WorkerPlan>,
    /// Sorted by `from`, then `to`. If (a, b) is here, so is (b, a): credits and acks flow back.
    pub links: Vec<LinkPlan>,
    /// Sorted by component, then reactor. Bolts only.
    pub inboxes: Vec<InboxPlan>,
    /// Sorted by subscription, then reactor. One for each reactor that hosts tasks of an `All` subscriber.
    pub task_sets: Vec<TaskSet>,
    /// The bytes all buffers may take.
    pub memory: MemoryPlan,
    /// First task of each component; one more entry holds the number of tasks.
    pub first_task: Vec<TaskId>,
    lookup: Lookup,
}

/// Tables for the methods below; derived from the public fields.
#[derive(Clone, Debug, PartialEq)]
struct Lookup {
    order: Vec<ComponentIx>,
    streams_of: Vec<Vec<StreamIx>>,
    inputs_of: Vec<Vec<SubscriptionIx>>,
    subscribers_of: Vec<Vec<SubscriptionIx>>,
    reactors_of: Vec<Vec<ReactorIx>>,
    cohorts_of: Vec<Vec<Cohort>>,
    inboxes_of: Vec<Vec<InboxIx>>,
    /// Entries `first[i]..first[i + 1]` belong to component, reactor or subscription i.
    first_inbox: Vec<u32>,
    first_link: Vec<u32>,
    first_set: Vec<u32>,
}

impl Plan {
    /// Validates the spec and places it on the machine. Pure: equal arguments give equal plans.
    ///
    /// Executors of all components are dealt to workers in turn, one deal going on from component to component, so each
    /// worker gets a share of each component; side-thread executors are dealt the same way from the last worker down.
    /// Within a worker they are dealt to its reactors in turn.
    pub fn new(spec: TopologySpec, machine: &Machine) -> Result<Plan, Vec<TopologyError>> {
        spec.validate()?;
        let placed = place::place(&spec, machine).map_err(|error| vec![error])?;
        Ok(Plan::of(spec, placed))
    }

    /// Validates the spec and places it as a scheduler has assigned it: one worker for each seat, in their order, whatever the spec says of
    /// workers and reactors. Pure, as [`Plan::new`].
    ///
    /// # Errors
    /// Those of [`Plan::new`], or seats that do not hold each executor once.
    pub fn seated(mut spec: TopologySpec, seats: &[Seat]) -> Result<Plan, Vec<TopologyError>> {
        spec.config.workers = seats.len() as u32;
        spec.validate()?;
        let placed = place::place_seated(&spec, seats).map_err(|error| vec![error])?;
        Ok(Plan::of(spec, placed))
    }

    fn of(spec: TopologySpec, placed: place::Placed) -> Plan {
        let order = graph::topological_order(&spec).expect("a validated topology has an order");
        let place::Placed { first_task, tasks, executors, reactors, workers, hosts } = placed;

        let cohorts_of: Vec<Vec<Cohort>> =
            reactors.iter().map(|reactor| place::cohorts(&reactor.executors, &executors, &order)).collect();
        let reactors_of = place::reactors_of(spec.components.len(), &executors);
        let links = place::links(&spec, &reactors, &reactors_of, &hosts);
        let inboxes = place::inboxes(&spec, &reactors_of, &cohorts_of);
        let task_sets = place::task_sets(&spec, &inboxes);
        let memory = MemoryPlan::of(&spec, &reactors, workers.len(), &executors, &links, &inboxes, &reactors_of);

        let components = spec.components.len();
        let lookup = Lookup {
            order,
            streams_of: invert(components, spec.streams.iter().map(|s| s.component)),
            inputs_of: invert(components, spec.subscriptions.iter().map(|s| s.to)),
            subscribers_of: invert(spec.streams.len(), spec.subscriptions.iter().map(|s| s.stream)),
            inboxes_of: invert(reactors.len(), inboxes.iter().map(|i| i.reactor)),
            first_inbox: first_of(components, inboxes.iter().map(|i| i.component)),
            first_link: first_of(reactors.len(), links.iter().map(|l| l.from)),
            first_set: first_of(spec.subscriptions.len(), task_sets.iter().map(|s| s.subscription)),
            reactors_of,
            cohorts_of,
        };
        Plan { spec, tasks, executors, reactors, workers, links, inboxes, task_sets, memory, first_task, lookup }
    }

    /// The tasks of a component.
    #[inline]
    pub fn tasks_of(&self, component: ComponentIx) -> Range<TaskId> {
        self.first_task[component as usize]..self.first_task[component as usize + 1]
    }

    /// The tasks that emit a stream.
    #[inline]
    pub fn source_tasks(&self, stream: StreamIx) -> Range<TaskId> {
        self.tasks_of(self.spec.streams[stream as usize].component)
    }

    /// The component of a task.
    #[inline]
    pub fn component_of(&self, task: TaskId) -> ComponentIx {
        self.tasks[task as usize].component
    }

    /// The worker of a task.
    #[inline]
    pub fn worker_of(&self, task: TaskId) -> WorkerIx {
        self.reactors[self.tasks[task as usize].reactor as usize].worker
    }

    /// The reactors that host tasks of a component, ascending.
    pub fn reactors_of(&self, component: ComponentIx) -> &[ReactorIx] {
        &self.lookup.reactors_of[component as usize]
    }

    /// The streams a component emits, ascending.
    pub fn streams_of(&self, component: ComponentIx) -> &[StreamIx] {
        &self.lookup.streams_of[component as usize]
    }

    /// The subscriptions through which a component reads, ascending.
    pub fn inputs_of(&self, component: ComponentIx) -> &[SubscriptionIx] {
        &self.lookup.inputs_of[component as usize]
    }

    /// The subscriptions that read a stream, ascending. Empty: its tuples go nowhere.
    pub fn subscribers_of(&self, stream: StreamIx) -> &[SubscriptionIx] {
        &self.lookup.subscribers_of[stream as usize]
    }

    /// Components such that every stream that is not feedback leads forward; ties by index.
    pub fn topological_order(&self) -> &[ComponentIx] {
        &self.lookup.order
    }

    /// What runs on a reactor, in topological order of the components.
    pub fn cohorts_of(&self, reactor: ReactorIx) -> &[Cohort] {
        &self.lookup.cohorts_of[reactor as usize]
    }

    /// The inbox of a component on a reactor. `None` for spouts, and where the component has no task.
    pub fn inbox_at(&self, component: ComponentIx, reactor: ReactorIx) -> Option<InboxIx> {
        let range = part(&self.lookup.first_inbox, component);
        find(&self.inboxes[range.clone()], |inbox| inbox.reactor, reactor).map(|at| (range.start + at) as InboxIx)
    }

    /// The inbox in which a task's tuples arrive. `None` for the task of a spout.
    pub fn inbox_of_task(&self, task: TaskId) -> Option<InboxIx> {
        let TaskPlan { component, reactor, .. } = self.tasks[task as usize];
        self.inbox_at(component, reactor)
    }

    /// The inboxes on a reactor, ascending.
    pub fn inboxes_of_reactor(&self, reactor: ReactorIx) -> &[InboxIx] {
        &self.lookup.inboxes_of[reactor as usize]
    }

    /// The link from one reactor to another (or to itself), if tuples, credits or acks may flow there.
    pub fn link_between(&self, from: ReactorIx, to: ReactorIx) -> Option<LinkIx> {
        let range = self.links_from(from);
        let slice = &self.links[range.start as usize..range.end as usize];
        find(slice, |link| link.to, to).map(|at| range.start + at as LinkIx)
    }

    /// Bytes of the batches that one reactor sends to another.
    pub fn link_batch_bytes(&self, from: ReactorIx, to: ReactorIx) -> usize {
        let socket = self.link_between(from, to).is_some_and(|l| self.links[l as usize].kind == LinkKind::Socket);
        let config = &self.spec.config;
        (if socket { config.socket_batch_bytes } else { config.batch_bytes }) as usize
    }

    /// The links that begin at a reactor: contiguous, ascending by receiver.
    pub fn links_from(&self, from: ReactorIx) -> Range<LinkIx> {
        self.lookup.first_link[from as usize]..self.lookup.first_link[from as usize + 1]
    }

    /// The task set of an `All` subscription on a reactor. `None` for other groupings, and where the subscriber has no task.
    pub fn task_set(&self, subscription: SubscriptionIx, reactor: ReactorIx) -> Option<SetIx> {
        let range = part(&self.lookup.first_set, subscription);
        find(&self.task_sets[range.clone()], |set| set.reactor, reactor).map(|at| (range.start + at) as SetIx)
    }

    /// The targets of a subscription as a sender on this reactor sees them: all tasks of the subscriber in order, local
    /// where they are in the sender's worker. For local-or-shuffle only those on the sender's reactor, where every reactor
    /// of the worker has its share of senders and targets: dealt like that, targets get as much as by turns over the whole
    /// worker, and no tuple crosses a ring. What [`crate::Router::new`] takes.
    pub fn targets(&self, subscription: SubscriptionIx, sender: ReactorIx) -> Vec<Target> {
        let sub = &self.spec.subscriptions[subscription as usize];
        let worker = self.reactors[sender as usize].worker;
        let by_reactor = sub.grouping == Grouping::LocalOrShuffle && self.shares_match(subscription, worker);
        let local = |task: TaskId| {
            if by_reactor { self.tasks[task as usize].reactor == sender } else { self.worker_of(task) == worker }
        };
        self.tasks_of(sub.to).map(|task| Target { task, local: local(task) }).collect()
    }

    /// Whether the tasks of a subscription's two ends are spread over the reactors of a worker in one proportion.
    fn shares_match(&self, subscription: SubscriptionIx, worker: WorkerIx) -> bool {
        let sub = &self.spec.subscriptions[subscription as usize];
        let from = self.spec.streams[sub.stream as usize].component;
        let on = |component, reactor| {
            self.tasks_of(component).filter(|task| self.tasks[*task as usize].reactor == reactor).count()
        };
        let shares: Vec<(usize, usize)> =
            self.workers[worker as usize].reactors.iter().map(|r| (on(from, *r), on(sub.to, *r))).collect();
        let (senders, targets) = shares.iter().fold((0, 0), |(s, t), share| (s + share.0, t + share.1));
        shares.iter().all(|(s, t)| s * targets == t * senders)
    }
}

/// For each of `count` owners, the positions at which it occurs.
fn invert(count: usize, owners: impl Iterator<Item = u32>) -> Vec<Vec<u32>> {
    let mut positions = vec![Vec::new(); count];
    for (at, owner) in owners.enumerate() {
        positions[owner as usize].push(at as u32);
    }
    positions
}

/// Start of each owner's entries in a list sorted by owner, and the list's length at the end.
fn first_of(count: usize, owners: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut first = vec![0; count + 1];
    for owner in owners {
        first[owner as usize + 1] += 1;
    }
    for at in 0..count {
        first[at + 1] += first[at];
    }
    first
}

fn part(first: &[u32], owner: u32) -> Range<usize> {
    first[owner as usize] as usize..first[owner as usize + 1] as usize
}

fn find<T>(sorted: &[T], key: impl Fn(&T) -> u32, wanted: u32) -> Option<usize> {
    sorted.binary_search_by_key(&wanted, key).ok()
}
