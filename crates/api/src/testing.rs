//! Runs bolts and whole topologies inside a unit test: one thread, virtual time, no sleeping.
//!
//! The code under test is the real engine's: only links, clock and threads are replaced.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use squall_engine::{
    Core, CoreConfig, Fault, MemCluster, MemNet, Registry, SpoutGate, VirtualClock, WorkerEvent, WorkerReceivers,
    WorkerShared,
};
use squall_topology::{
    ComponentSpec, Grouping, Machine, Placement, Plan, SubscriptionSpec, TopologyConfig, TopologySpec,
};
use squall_tuple::ids::{ReactorIx, StreamIx, TaskId};
use squall_tuple::{
    AckKind, AckRecord, AnchorEdge, BatchBuf, BatchKind, Dest, DestRef, Emit, MarkKind, MarkRecord, OpenBatch, RootId,
    Tuple, TupleHead, TupleType,
};

use crate::builder::Topology;
use crate::{Accepts, Bolt, BuildError, Inputs, RowStream};

/// One tuple that a bolt under test emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted<T> {
    /// The tuple.
    pub tuple: T,
    /// Roots it is anchored to.
    pub roots: Vec<u64>,
    /// The task it was sent to, on a direct stream.
    pub task: TaskId,
}

/// Runs one task of one bolt.
///
/// Each input gets a root of its own; what becomes of it shows in [`BoltHarness::acked`] and [`BoltHarness::failed`].
pub struct BoltHarness<B: Bolt> {
    core: Core,
    net: MemNet,
    clock: VirtualClock,
    plan: Arc<Plan>,
    bolt_task: TaskId,
    feeds: Vec<Feed>,
    sent: BTreeMap<u64, u64>,
    xor: HashMap<u64, u64>,
    acked: Vec<u64>,
    failed: Vec<u64>,
    reset: Vec<u64>,
    outputs: HashMap<String, Vec<BatchBuf>>,
    receivers: WorkerReceivers,
    shared: Arc<WorkerShared>,
    of: std::marker::PhantomData<B>,
}

/// One input port: a source that never runs, on a reactor of its own, in whose name the harness sends.
struct Feed {
    reactor: ReactorIx,
    task: TaskId,
    stream: StreamIx,
    seq: u64,
    schema_id: u64,
    dynamic: bool,
}

/// Tasks that stand in for the subscribers of each output stream.
const OUTPUT_TASKS: u32 = 4;
const HARNESS_BATCH: usize = 1 << 20;
/// Where virtual time begins: not at zero, which real clocks never show.
const START_NS: u64 = 1_000_000_000;
/// Virtual time a run may take.
const RUN_LIMIT_NS: u64 = 3_600_000_000_000;
/// Virtual time between two looks at the results.
const RUN_SLICE_NS: u64 = 2_000_000;

impl<B: Bolt> BoltHarness<B>
where
    B::In: PortTypes,
{
    /// Prepares one task. Panics with the cause if `prepare` fails: use [`BoltHarness::try_new`] to test that.
    pub fn new(factory: impl Fn() -> B + Send + Sync + 'static) -> Self {
        Self::with(factory, |c| c)
    }

    /// As [`BoltHarness::new`], with the component's settings changed (`config`, `tick_ms` …).
    pub fn with(
        factory: impl Fn() -> B + Send + Sync + 'static,
        change: impl FnOnce(ComponentSpec) -> ComponentSpec,
    ) -> Self {
        Self::try_new(factory, change).unwrap_or_else(|f| panic!("{f}"))
    }

    /// Prepares one task.
    ///
    /// # Errors
    /// What `prepare` returned.
    pub fn try_new(
        factory: impl Fn() -> B + Send + Sync + 'static,
        change: impl FnOnce(ComponentSpec) -> ComponentSpec,
    ) -> Result<Self, Fault> {
        Self::try_rows(&[], factory, change)
    }

    /// As [`BoltHarness::try_new`], for a bolt whose outputs are [`RowStreams`](crate::RowStreams): these.
    ///
    /// # Errors
    /// What `prepare` returned.
    pub fn try_rows(
        streams: &[RowStream],
        factory: impl Fn() -> B + Send + Sync + 'static,
        change: impl FnOnce(ComponentSpec) -> ComponentSpec,
    ) -> Result<Self, Fault> {
        let t = Topology::new("harness");
        t.bolt_with("bolt", streams, factory);
        Self::declared(t, change)
    }

    /// Prepares one task of the first component of `topology`, a bolt of type `B` that was declared there by code which
    /// chooses its settings; it must not be subscribed to anything.
    ///
    /// # Errors
    /// What `prepare` returned.
    pub fn declared(t: Topology, change: impl FnOnce(ComponentSpec) -> ComponentSpec) -> Result<Self, Fault> {
        let mut inner = t.shared.take();
        let bolt = &mut inner.spec.components[0];
        *bolt = change(std::mem::replace(bolt, ComponentSpec::bolt("bolt")));
        bolt.placement = Placement::Reactor;
        add_stand_ins::<B>(&mut inner.spec, &mut inner.types);
        // The stand-ins never run: only the bolt's reactor is built.
        let (spec, registry) = inner.into_parts();
        let plan = Plan::new(spec, &Machine::default()).unwrap_or_else(|e| panic!("{}", BuildError::from(e)));
        let plan = Arc::new(plan);
        Self::on_plan(plan, registry)
    }

    fn on_plan(plan: Arc<Plan>, registry: Arc<Registry>) -> Result<Self, Fault> {
        let bolt_task = plan.tasks_of(0).start;
        let reactor = plan.tasks[bolt_task as usize].reactor;
        let clock = VirtualClock::at(START_NS);
        let (shared, receivers) = WorkerShared::new(0);
        let mut core = Core::new(CoreConfig {
            plan: plan.clone(),
            reactor,
            epoch: 0,
            registry,
            clock: Rc::new(clock.clone()),
            shared: shared.clone(),
            wake: Arc::new(|| {}),
        });
        core.prepare()?;
        core.set_gate(SpoutGate::Open);
        let feed = |sub: &u32| {
            let stream = plan.spec.subscriptions[*sub as usize].stream;
            let task = plan.source_tasks(stream).start;
            let schema = &plan.spec.streams[stream as usize].schema;
            Feed {
                reactor: plan.tasks[task as usize].reactor,
                task,
                stream,
                seq: 0,
                schema_id: schema.id,
                dynamic: schema.dynamic,
            }
        };
        let feeds = plan.inputs_of(0).iter().map(feed).collect();
        Ok(BoltHarness {
            core,
            net: MemNet::new(plan.reactors.len(), usize::MAX),
            clock,
            plan: plan.clone(),
            bolt_task,
            feeds,
            sent: BTreeMap::new(),
            xor: HashMap::new(),
            acked: Vec::new(),
            failed: Vec::new(),
            reset: Vec::new(),
            outputs: HashMap::new(),
            receivers,
            shared,
            of: std::marker::PhantomData,
        })
    }

    /// Executes one tuple and returns its root. Panics if the bolt ends its executor: use [`BoltHarness::try_send`].
    pub fn send<T: Tuple + Emit<T>>(&mut self, tuple: T) -> u64
    where
        B::In: Accepts<T>,
    {
        self.try_send(tuple).unwrap_or_else(|f| panic!("{f}"))
    }

    /// Executes one tuple and returns its root.
    ///
    /// # Errors
    /// A fatal error or a panic of the bolt.
    pub fn try_send<T: Tuple + Emit<T>>(&mut self, tuple: T) -> Result<u64, Fault>
    where
        B::In: Accepts<T>,
    {
        self.send_to_port(<B::In as Accepts<T>>::PORT, tuple)
    }

    /// Executes one tuple on a named port.
    ///
    /// # Errors
    /// A fatal error or a panic of the bolt.
    pub fn send_on<T: Tuple + Emit<T>>(&mut self, port: crate::InputPort<B::In, T>, tuple: T) -> Result<u64, Fault> {
        self.send_to_port(port.port, tuple)
    }

    fn send_to_port<T: Tuple + Emit<T>>(&mut self, port: u16, tuple: T) -> Result<u64, Fault> {
        let slot = self.sent.len() as u32;
        let root = RootId::new(self.feeds[port as usize].task, 0, slot).as_u64();
        let edge = (u64::from(slot) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.sent.insert(root, edge);
        let own = squall_tuple::delivery_edge(edge, self.bolt_task);
        *self.xor.entry(root).or_default() ^= own;
        let mut buf = self.open(port, BatchKind::Data);
        let head = TupleHead {
            anchors: &[AnchorEdge { root, edge }],
            ..TupleHead::plain(self.feeds[port as usize].task, self.bolt_task, self.clock_ns())
        };
        let head = TupleHead { dest: Dest::Task(self.bolt_task), ..head };
        buf.push::<T, T>(&head, &tuple).expect("a test's tuple fits a megabyte");
        self.deliver(port, buf)?;
        Ok(root)
    }

    fn clock_ns(&self) -> u64 {
        squall_engine::Clock::now_ns(&self.clock)
    }

    fn open(&self, port: u16, kind: BatchKind) -> BatchBuf {
        let feed = &self.feeds[port as usize];
        let mut buf = BatchBuf::with_capacity(HARNESS_BATCH);
        buf.open(&OpenBatch {
            kind,
            stream: feed.stream,
            schema_id: feed.schema_id,
            dynamic: feed.dynamic,
            source_reactor: feed.reactor,
            epoch: 0,
        });
        buf
    }

    fn deliver(&mut self, port: u16, mut buf: BatchBuf) -> Result<(), Fault> {
        let now = self.clock_ns();
        let feed = &mut self.feeds[port as usize];
        buf.seal(feed.seq, now, false);
        feed.seq += 1;
        let from = feed.reactor;
        match self.core.on_batch(from, &buf.view(), now, &mut self.net) {
            Ok(()) => self.settle(),
            Err(squall_engine::ReceiveError::Fault(f)) => Err(f),
            Err(squall_engine::ReceiveError::Link(e)) => {
                panic!("the harness sent a bad batch: {e}")
            }
        }
    }

    /// Turns until nothing happens any more.
    fn settle(&mut self) -> Result<(), Fault> {
        loop {
            let turn = self.core.turn(self.clock_ns(), &mut self.net, true)?;
            self.collect();
            if !turn.progress {
                return Ok(());
            }
        }
    }

    fn collect(&mut self) {
        for to in 0..self.net.out.len() {
            while let Some(batch) = self.net.out[to].pop_front() {
                let header = batch.view().header();
                match header.kind {
                    BatchKind::Data => {}
                    BatchKind::Ack => {
                        batch.view().acks().for_each(|record| self.note_ack(&record));
                        continue;
                    }
                    BatchKind::Mark | BatchKind::Control => continue,
                }
                for frame in batch.view().iter() {
                    let targets: Vec<TaskId> = match frame.dest() {
                        DestRef::Task(t) => vec![t],
                        DestRef::List(list) => list.collect(),
                        DestRef::Set(set) => self.plan.task_sets[set as usize].tasks.clone(),
                    };
                    for a in frame.anchors() {
                        let xor = targets.iter().fold(0, |x, t| x ^ squall_tuple::delivery_edge(a.edge, *t));
                        *self.xor.entry(a.root).or_default() ^= xor;
                    }
                }
                let name = self.plan.spec.streams[header.stream as usize].name.clone();
                self.outputs.entry(name).or_default().push(batch);
            }
        }
    }

    fn note_ack(&mut self, record: &AckRecord) {
        match record.kind {
            AckKind::Fail => self.failed.push(record.root),
            AckKind::Ack => {
                *self.xor.entry(record.root).or_default() ^= record.xor;
                self.acked.push(record.root);
            }
            AckKind::Reset => self.reset.push(record.root),
            AckKind::NoRoom => {}
        }
    }

    /// Takes what was emitted on a stream since the last call (`"default"` for a bolt with one stream).
    pub fn outputs<T: Tuple>(&mut self, stream: &str) -> Vec<T> {
        self.emitted(stream).into_iter().map(|e| e.tuple).collect()
    }

    /// As [`BoltHarness::outputs`], with anchors and target.
    pub fn emitted<T: Tuple>(&mut self, stream: &str) -> Vec<Emitted<T>> {
        let known = |s: &u32| self.plan.spec.streams[*s as usize].name == stream;
        assert!(self.plan.streams_of(0).iter().any(known), "the bolt has no stream named {stream:?}");
        let mut all = Vec::new();
        for batch in self.outputs.remove(stream).unwrap_or_default() {
            for frame in batch.view().iter() {
                let task = match frame.dest() {
                    DestRef::Task(t) => t,
                    _ => 0,
                };
                let roots = frame.anchors().map(|a| a.root).collect();
                all.push(Emitted { tuple: frame.tuple::<T>().to_owned(), roots, task });
            }
        }
        all
    }

    /// Roots of inputs that the bolt acknowledged so far.
    pub fn acked(&self) -> &[u64] {
        &self.acked
    }

    /// Roots of inputs that the bolt failed so far.
    pub fn failed(&self) -> &[u64] {
        &self.failed
    }

    /// Roots whose timeouts the bolt has reset, in calls that did not end them.
    pub fn reset(&self) -> &[u64] {
        &self.reset
    }

    /// Roots whose XOR would be zero once the emitted tuples are acknowledged downstream: the tree is complete as far as
    /// this bolt goes.
    pub fn balanced(&self) -> bool {
        // What went in, minus what was acknowledged, must be exactly what went out.
        self.acked.iter().filter(|r| !self.failed.contains(r)).all(|r| self.xor.get(r) == Some(&0))
    }

    /// Moves time forward; ticks that come due run.
    pub fn advance(&mut self, by: Duration) {
        self.try_advance(by).unwrap_or_else(|f| panic!("{f}"));
    }

    /// As [`BoltHarness::advance`].
    ///
    /// # Errors
    /// A fatal error or a panic of the bolt.
    pub fn try_advance(&mut self, by: Duration) -> Result<(), Fault> {
        let end = self.clock_ns() + by.as_nanos() as u64;
        loop {
            let now = self.clock_ns();
            let turn = self.core.turn(now, &mut self.net, true)?;
            self.collect();
            match turn.deadline_ns {
                _ if turn.progress => {}
                Some(at) if at <= end => self.clock.advance(at.saturating_sub(now).max(1)),
                _ => break,
            }
        }
        self.clock.advance(end - self.clock_ns());
        self.settle()
    }

    /// Ends all inputs: `finish` is called until it is done.
    pub fn finish(&mut self) {
        self.try_finish().unwrap_or_else(|f| panic!("{f}"));
    }

    /// As [`BoltHarness::finish`].
    ///
    /// # Errors
    /// A fatal error or a panic of the bolt.
    pub fn try_finish(&mut self) -> Result<(), Fault> {
        for port in 0..self.feeds.len() as u16 {
            let mut buf = self.open(port, BatchKind::Mark);
            let Feed { stream, task, .. } = self.feeds[port as usize];
            let mark = MarkRecord { kind: MarkKind::EndOfStream, stream, source: task, value: 0 };
            buf.push_mark(&mark).expect("an empty batch holds a mark");
            self.deliver(port, buf)?;
        }
        self.settle()
    }

    /// Takes the result rows that the bolt published, by key.
    pub fn results(&mut self) -> Vec<(String, Vec<u8>)> {
        take_results(&self.receivers)
    }

    /// A user counter's value; 0 if there is none.
    pub fn counter(&self, name: &str) -> u64 {
        self.shared.counters().get(&("bolt".to_owned(), name.to_owned())).copied().unwrap_or(0)
    }

    /// The bolt's task.
    pub fn task(&self) -> TaskId {
        self.bolt_task
    }
}

fn take_results(receivers: &WorkerReceivers) -> Vec<(String, Vec<u8>)> {
    let row = |e| match e {
        WorkerEvent::Result { key, bytes, .. } => (key, bytes),
        _ => unreachable!("only results are sent here"),
    };
    receivers.results.try_iter().map(row).collect()
}

/// Tuple types of a bolt's input ports; every [`Inputs`] has them.
pub trait PortTypes: Inputs {
    /// In the order of the ports.
    fn port_types() -> Vec<TupleType>;
}

impl<I: Inputs> PortTypes for I {
    fn port_types() -> Vec<TupleType> {
        I::ports().into_iter().map(|p| p.ty).collect()
    }
}

/// Gives every input port a spout and every output stream a bolt, each alone on a side reactor.
fn add_stand_ins<B: Bolt>(spec: &mut TopologySpec, types: &mut Vec<TupleType>)
where
    B::In: PortTypes,
{
    let stand_in = |c: ComponentSpec| ComponentSpec { placement: Placement::SideThread, ..c };
    let outputs = spec.streams.len() as StreamIx;
    for stream in 0..outputs {
        let to = spec.components.len() as u32;
        let grouping = if spec.streams[stream as usize].direct { Grouping::Direct } else { Grouping::Global };
        let tasks = if grouping == Grouping::Direct { OUTPUT_TASKS } else { 1 };
        let sink = ComponentSpec { tasks, executors: 1, ..ComponentSpec::bolt(format!("out-{stream}")) };
        spec.components.push(stand_in(sink));
        spec.subscriptions.push(SubscriptionSpec { stream, to, port: 0, grouping, feedback: false });
    }
    for (port, ty) in B::In::port_types().into_iter().enumerate() {
        let component = spec.components.len() as u32;
        spec.components.push(stand_in(ComponentSpec::spout(format!("in-{port}"))));
        let stream = spec.streams.len() as StreamIx;
        spec.streams.push(crate::stream::stream_spec(component, "default", &ty, false));
        types.push(ty);
        let grouping = Grouping::Global;
        spec.subscriptions.push(SubscriptionSpec { stream, to: 0, port: port as u16, grouping, feedback: false });
    }
    // What ends the executor is what a test wants to see.
    spec.config = TopologyConfig { reactors: Some(1), executor_restarts: 0, ..TopologyConfig::default() };
}

/// The most that one step of virtual time waits in real time, where there are threads.
const PACE: Duration = Duration::from_millis(20);

/// Waits as long as virtual time would jump; `true`: a waker was used meanwhile.
fn pace(cluster: &MemCluster, patience: Duration) -> bool {
    let Some(at_ns) = cluster.next_deadline_ns() else { return false };
    let jump = Duration::from_nanos(at_ns.saturating_sub(squall_engine::Clock::now_ns(cluster.clock())));
    !patience.is_zero() && cluster.wait_for_wake(jump.min(PACE))
}

/// What a topology under test came to.
pub struct Outcome {
    /// Result rows by key, in order per task.
    pub results: Vec<(String, Vec<u8>)>,
    /// User counters by component and name.
    pub counters: BTreeMap<(String, String), u64>,
    /// Emitted, executed, acked and failed, by component.
    pub components: BTreeMap<String, squall_engine::ComponentStats>,
    /// Virtual time it took.
    pub took: Duration,
}

/// Runs a whole bounded topology on one thread with virtual time, to its end: at most an hour of that time.
///
/// # Errors
/// What is wrong with the topology, the fault of a component, or (as text) the components that wait for each other.
pub fn run(topology: Topology) -> Result<Outcome, Box<dyn std::error::Error>> {
    run_live(topology, Duration::ZERO)
}

/// As [`run`], for topologies with threads of their own, as servers and clients have: where nothing else can happen it waits, in
/// real time and so long at most, for a [`Waker`](crate::Waker) to be used. Ticks pass as in real time, so that no root times out
/// while a thread is at it; of a longer wait only 20 ms a step are waited.
///
/// # Errors
/// As [`run`].
pub fn run_live(topology: Topology, patience: Duration) -> Result<Outcome, Box<dyn std::error::Error>> {
    let built = topology.build()?;
    let plan = Arc::new(built.plan(&Machine::default())?);
    let clock = VirtualClock::at(START_NS);
    let mut cluster = MemCluster::new(plan.clone(), built.registry, clock.clone(), 64);
    cluster.start()?;
    let mut results = Vec::new();
    let limit_ns = START_NS + RUN_LIMIT_NS;
    loop {
        // In slices, because result rows are bounded: a component that publishes many waits until they are taken.
        let done = cluster.run(squall_engine::Clock::now_ns(&clock) + RUN_SLICE_NS)?;
        let rows = take_results(cluster.receivers());
        let taken = rows.len();
        results.extend(rows);
        if done {
            break;
        }
        if taken > 0 || pace(&cluster, patience) || cluster.advance(limit_ns) {
            continue;
        }
        if patience.is_zero() || !cluster.wait_for_wake(patience) {
            let waits: Vec<String> =
                cluster.back_pressure().iter().map(|(a, b)| format!("{a} waits for {b}")).collect();
            return Err(format!("nothing happens any more before the end: {}", waits.join(", ")).into());
        }
    }
    let mut components: BTreeMap<String, squall_engine::ComponentStats> = BTreeMap::new();
    for core in cluster.cores() {
        for (component, stats) in core.stats() {
            let name = plan.spec.components[component as usize].name.clone();
            let entry = components.entry(name.clone()).or_default();
            entry.name = name;
            stats.add_to(entry);
        }
    }
    let took = Duration::from_nanos(squall_engine::Clock::now_ns(&clock) - START_NS);
    Ok(Outcome { results, counters: cluster.shared().counters(), components, took })
}
