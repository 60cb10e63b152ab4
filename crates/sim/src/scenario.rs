//! What one seed runs, as plain data: a topology with a script for every component, sizes, and a schedule.
//!
//! A scenario says everything: running it twice does the same twice. It is made from a seed ([`Scenario::draw`]), made
//! smaller after a failure (module `shrink`), or written by hand (the regression tests).

/// See the module.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Seeds everything that is decided while it runs.
    pub seed: u64,
    /// Limits and counts of the whole topology.
    pub sizes: Sizes,
    /// Spouts and bolts, in the order in which they are declared.
    pub components: Vec<ComponentScript>,
    /// Who reads what.
    pub subscriptions: Vec<SubScript>,
    /// The order in which things happen.
    pub schedule: Schedule,
}

/// Limits and counts of the whole topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Worker processes; at most the number of executors.
    pub workers: u32,
    /// Reactors per worker.
    pub reactors: u32,
    /// Bytes of a batch within a worker.
    pub batch_bytes: u32,
    /// Bytes of a batch between workers.
    pub socket_batch_bytes: u32,
    /// Bytes under way to one inbox over one link; at least one batch.
    pub credit_bytes: u64,
    /// Largest tuple.
    pub max_tuple_bytes: u32,
    /// Units in which keys are dealt.
    pub key_groups: u32,
    /// Batches that a link holds before it refuses, at least 1.
    pub link_batches: usize,
    /// Different keys.
    pub keys: u64,
    /// Tuples that bolts and endless spouts may emit in all, so that every scenario ends.
    pub budget: u64,
    /// How roots are tracked.
    pub acking: Acking,
    /// Calls that may break an executor, in all; which do, the scripts say.
    pub breaks: u32,
    /// What breaks an executor goes to the dead letters at once, replayed or not.
    pub letters_at_once: bool,
}

/// How roots are tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acking {
    /// Off: what has an id is acknowledged at once.
    pub on: bool,
    /// After so long a root of which nothing is heard fails.
    pub timeout_ms: u64,
    /// At this age it fails in any case; `None`: ten times the timeout.
    pub max_age_ms: Option<u64>,
    /// Roots of a task that may be pending when it is called. With a limit the timeout must be short: a bolt may keep what a
    /// spout waits for.
    pub max_pending: Option<u32>,
}

impl Acking {
    /// On, with a timeout that no run reaches.
    pub const PATIENT: Acking = Acking { on: true, timeout_ms: 3_600_000, max_age_ms: None, max_pending: None };
}

/// One component: how it is placed, and what its tasks do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentScript {
    /// Name in the topology.
    pub name: String,
    /// Number of tasks, at least 1.
    pub tasks: u32,
    /// Number of executors, 1 to `tasks`.
    pub executors: u32,
    /// On threads of its own.
    pub side: bool,
    /// Watched by a hook, which tells the targets of each emit.
    pub hooked: bool,
    /// Tick period and, in percent, how often a tick emits.
    pub ticks: Option<(u64, u32)>,
    /// Burst memory; `None`: the default.
    pub burst_bytes: Option<u64>,
    /// Its output streams.
    pub output: OutputShape,
    /// Sizes of what it emits.
    pub pads: Pads,
    /// What it does.
    pub role: Role,
}

/// Bytes of padding in emitted tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pads {
    /// Usual padding, at most.
    pub small_max: u32,
    /// In percent: how often it is `large_max` at most.
    pub large_percent: u32,
    /// Padding of large tuples, at most.
    pub large_max: u32,
}

/// Spout or bolt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A source.
    Spout(SpoutScript),
    /// A step.
    Bolt(BoltScript),
}

/// What each task of a spout does. Percentages are of calls to `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoutScript {
    /// Tuples of one task; `None`: it emits until it is stopped.
    pub tuples: Option<u32>,
    /// Tuples per call, at most.
    pub per_call_max: u32,
    /// Tuples with an id.
    pub id_percent: u32,
    /// Calls that end idle.
    pub idle_percent: u32,
    /// Calls that end asleep.
    pub sleep_percent: u32,
    /// Longest sleep.
    pub sleep_ns_max: u64,
    /// Calls that end parked.
    pub park_percent: u32,
    /// The last call emits too.
    pub emits_at_end: bool,
    /// Calls that take time.
    pub slow_percent: u32,
    /// Longest time one takes.
    pub slow_ns_max: u64,
    /// Of a thousand calls, of any kind: those that end the executor.
    pub break_permille: u32,
}

/// What each task of a bolt does. Percentages are of executed tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoltScript {
    /// Its input ports.
    pub input: InputShape,
    /// Tuples that emit nothing.
    pub none_percent: u32,
    /// Tuples that emit a burst.
    pub burst_percent: u32,
    /// Tuples of a burst, at most.
    pub burst_max: u32,
    /// Emits that pass the input on unchanged, where they can.
    pub forward_percent: u32,
    /// Tuples that fail.
    pub fail_percent: u32,
    /// Tuples that are kept and ended later.
    pub keep_percent: u32,
    /// When kept tuples are ended at the latest.
    pub settle: Settle,
    /// Tuples that take time.
    pub slow_percent: u32,
    /// Longest time one takes.
    pub slow_ns_max: u64,
    /// In percent of `batch_end` calls: those that emit.
    pub batch_end_percent: u32,
    /// Tuples that `finish` emits.
    pub finish_tuples: u32,
    /// Tuples per call of `finish`.
    pub finish_per_call: u32,
    /// Calls of `finish` that ask for another and emit nothing.
    pub finish_pauses: u32,
    /// Tuples that have come through this many bolts emit nothing: what bounds a feedback loop.
    pub depth_max: u32,
    /// Of a thousand calls, of any kind: those that end the executor.
    pub break_permille: u32,
    /// It takes dead letters.
    pub letters: bool,
}

/// When a bolt ends the tuples it kept, at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// When the next tuple is executed, some of them.
    Soon,
    /// At the next tick or the end.
    Tick,
    /// When it finishes.
    Finish,
    /// In its last call.
    Cleanup,
    /// Outside of any call, as another thread would; the bolt does not finish before.
    Elsewhere,
}

/// The output streams of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputShape {
    /// None.
    Nothing,
    /// One typed stream.
    Items,
    /// One dynamic stream.
    Rows,
    /// Two typed streams, a dynamic one and a direct one.
    Many,
}

impl OutputShape {
    /// The kinds of its streams, in order.
    pub fn streams(self) -> &'static [StreamKind] {
        match self {
            OutputShape::Nothing => &[],
            OutputShape::Items => &[StreamKind::Items],
            OutputShape::Rows => &[StreamKind::Rows],
            OutputShape::Many => &[StreamKind::Items, StreamKind::Items, StreamKind::Rows, StreamKind::Direct],
        }
    }
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Typed tuples.
    Items,
    /// Rows.
    Rows,
    /// Typed tuples to tasks that the emitter names.
    Direct,
}

/// The input ports of a bolt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputShape {
    /// One typed port.
    Items,
    /// One dynamic port.
    Rows,
    /// Two typed ports and a dynamic one.
    Any,
}

/// A component reads a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubScript {
    /// The emitting component.
    pub from: usize,
    /// Which of its streams.
    pub stream: usize,
    /// The reading bolt.
    pub to: usize,
    /// Its input port.
    pub port: u16,
    /// Rule from tuple to tasks.
    pub grouping: GroupScript,
    /// It closes a cycle.
    pub feedback: bool,
}

/// A grouping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupScript {
    /// In turn.
    Shuffle,
    /// In turn, fewer to the loaded.
    LoadAware,
    /// In turn within the worker.
    LocalOrShuffle,
    /// By one field, an integer.
    ByKey,
    /// By one field, text.
    ByName,
    /// By two fields.
    ByBoth,
    /// One of two tasks per key.
    PartialKey,
    /// All tasks.
    All,
    /// The lowest task.
    Global,
    /// Any task.
    None,
    /// The emitter names it.
    Direct,
    /// A rule of our own: any number of tasks, none included, by key and this salt.
    Custom(u64),
}

/// The order in which things happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Which links: audited ones, or those of the test harness.
    pub rig: RigKind,
    /// What is preferred.
    pub policy: Policy,
    /// What the policy starves happens only when nothing else can; otherwise rarely.
    pub starve_hard: bool,
    /// Turns that flush everything though the turn before was not idle, in percent.
    pub flush_percent: u32,
    /// Steps at which time goes on a little, in thousandths.
    pub drift_permille: u32,
    /// The step at which the spouts are stopped.
    pub stop_at: Option<u64>,
}

/// What runs the reactors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RigKind {
    /// Links and credit like those between threads and processes, every transfer checked.
    Audited,
    /// `squall_engine::MemCluster`, as the harness for authors uses it.
    Memory,
}

/// What a schedule prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing.
    Uniform,
    /// One link delivers late.
    StarveLink {
        /// Sender, modulo the number of reactors.
        from: u32,
        /// Receiver, modulo the number of reactors.
        to: u32,
    },
    /// One reactor turns late.
    StarveReactor(u32),
    /// Credit comes back late.
    DelayCredit,
    /// A link delivers this many batches at once, a reactor turns as often.
    Bursts(u32),
    /// Spouts' reactors first: everything downstream fills up.
    TurnsFirst,
    /// What has arrived first: reactors turn rarely.
    DeliveriesFirst,
}

/// Hand-written scenarios begin with these and change what matters.
impl Scenario {
    /// One worker with two reactors, the tightest limits, no preference.
    pub fn tiny(seed: u64, components: Vec<ComponentScript>, subscriptions: Vec<SubScript>) -> Scenario {
        let mut scenario = Scenario {
            seed,
            sizes: Sizes {
                workers: 1,
                reactors: 2,
                batch_bytes: 256,
                socket_batch_bytes: 256,
                credit_bytes: 256,
                max_tuple_bytes: 64 << 10,
                key_groups: 8,
                link_batches: 1,
                keys: 5,
                budget: 2000,
                acking: Acking::PATIENT,
                breaks: 0,
                letters_at_once: false,
            },
            components,
            subscriptions,
            schedule: Schedule {
                rig: RigKind::Audited,
                policy: Policy::Uniform,
                starve_hard: false,
                flush_percent: 10,
                drift_permille: 0,
                stop_at: None,
            },
        };
        scenario.settle_limits(false);
        scenario
    }
}

impl ComponentScript {
    /// A spout of one task that emits this many small tuples on one typed stream, one per call, and ends.
    pub fn spout(name: &str, tuples: u32) -> ComponentScript {
        let spout = SpoutScript {
            tuples: Some(tuples),
            per_call_max: 1,
            id_percent: 0,
            idle_percent: 0,
            sleep_percent: 0,
            sleep_ns_max: 0,
            park_percent: 0,
            emits_at_end: false,
            slow_percent: 0,
            slow_ns_max: 1,
            break_permille: 0,
        };
        ComponentScript::new(name, Role::Spout(spout))
    }

    /// A bolt of one task that emits one or two small tuples per input on one typed stream.
    pub fn bolt(name: &str) -> ComponentScript {
        let bolt = BoltScript {
            input: InputShape::Items,
            none_percent: 0,
            burst_percent: 0,
            burst_max: 2,
            forward_percent: 30,
            fail_percent: 0,
            keep_percent: 0,
            settle: Settle::Soon,
            slow_percent: 0,
            slow_ns_max: 1,
            batch_end_percent: 0,
            finish_tuples: 0,
            finish_per_call: 1,
            finish_pauses: 0,
            depth_max: 20,
            break_permille: 0,
            letters: false,
        };
        ComponentScript::new(name, Role::Bolt(bolt))
    }

    fn new(name: &str, role: Role) -> ComponentScript {
        ComponentScript {
            name: name.into(),
            tasks: 1,
            executors: 1,
            side: false,
            hooked: false,
            ticks: None,
            burst_bytes: None,
            output: OutputShape::Items,
            pads: Pads { small_max: 16, large_percent: 0, large_max: 0 },
            role,
        }
    }

    /// With so many tasks, each in an executor of its own.
    #[must_use]
    pub fn tasks(mut self, tasks: u32) -> ComponentScript {
        (self.tasks, self.executors) = (tasks, tasks);
        self
    }

    /// With padding of up to so many bytes in every tuple.
    #[must_use]
    pub fn pads(mut self, bytes: u32) -> ComponentScript {
        self.pads = Pads { small_max: bytes, large_percent: 0, large_max: 0 };
        self
    }

    /// With a change to the script of its spout.
    #[must_use]
    pub fn as_spout(mut self, change: impl FnOnce(&mut SpoutScript)) -> ComponentScript {
        match &mut self.role {
            Role::Spout(s) => change(s),
            Role::Bolt(_) => panic!("{} is a bolt", self.name),
        }
        self
    }

    /// With a change to the script of its bolt.
    #[must_use]
    pub fn as_bolt(mut self, change: impl FnOnce(&mut BoltScript)) -> ComponentScript {
        match &mut self.role {
            Role::Bolt(b) => change(b),
            Role::Spout(_) => panic!("{} is a spout", self.name),
        }
        self
    }
}

impl SubScript {
    /// The first stream of `from`, read by `to` on its first port.
    pub fn new(from: usize, to: usize, grouping: GroupScript) -> SubScript {
        SubScript { from, stream: 0, to, port: 0, grouping, feedback: false }
    }

    /// As a feedback edge.
    #[must_use]
    pub fn back(mut self) -> SubScript {
        self.feedback = true;
        self
    }
}
