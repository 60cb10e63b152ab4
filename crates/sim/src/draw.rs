//! Draws a scenario from a seed.
//!
//! Swarm testing: each seed first draws which features it has at all and how tight its limits are, so that rare
//! combinations come up as whole runs and not as single events in runs that have everything.

use crate::dice::Dice;
use crate::scenario::*;

/// Bytes that a tuple of the simulator takes beside its padding: archive, header and sections for all its targets.
const TUPLE_OVERHEAD_MAX: u64 = 512;
/// Batch sizes, from the smallest that a topology may ask for.
const BATCH_BYTES: [u32; 7] = [256, 256, 320, 512, 1024, 4096, 16384];

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: u64) -> Scenario {
        let mut dice = Dice::new(seed, 0);
        let d = &mut dice;
        let sizes = sizes(d);
        let endless = d.percent(20);
        let stop_at = (endless || d.percent(15)).then(|| d.between_u64(1, 3000));
        let mut components = components(d, endless);
        let mut subscriptions = subscriptions(d, &components);
        shape_inputs(d, &mut components, &mut subscriptions);
        if d.percent(30) {
            feedback(d, &components, &mut subscriptions);
        }
        if d.percent(35) {
            reorder(d, &mut components, &mut subscriptions);
        }
        let mut scenario = Scenario { seed, sizes, components, subscriptions, schedule: schedule(d, stop_at) };
        scenario.settle_limits(d.percent(35));
        scenario
    }

    /// Makes limits that depend on each other agree. `tight_bursts`: burst memory as small as the scripts allow.
    pub fn settle_limits(&mut self, tight_bursts: bool) {
        let executors: u32 = self.components.iter().map(|c| c.executors).sum();
        self.sizes.workers = self.sizes.workers.clamp(1, executors);
        let batch = self.sizes.batch_bytes.max(self.sizes.socket_batch_bytes);
        self.sizes.credit_bytes = self.sizes.credit_bytes.max(batch.into());
        if tight_bursts {
            let per_call: Vec<u64> = (0..self.components.len()).map(|c| self.call_bytes_max(c)).collect();
            for (component, bytes) in self.components.iter_mut().zip(per_call) {
                component.burst_bytes = Some(bytes);
            }
        }
    }

    /// The largest tuple of the scenario, alone in a batch. Bolts pass on what others emit, so it is one for all.
    pub(crate) fn tuple_bytes_max(&self) -> u64 {
        let pad = self.components.iter().map(|c| c.pads.small_max.max(c.pads.large_max)).max();
        u64::from(pad.unwrap_or(0)) + TUPLE_OVERHEAD_MAX
    }

    /// Bytes of batches that one call of a component can fill: everything it emits, to each reactor that gets a copy.
    fn call_bytes_max(&self, component: usize) -> u64 {
        let side: u32 = self.components.iter().filter(|c| c.side).map(|c| c.executors).sum();
        let reactors = self.sizes.workers * self.sizes.reactors + side;
        let copies = |stream: usize| -> u32 {
            let subs = self.subscriptions.iter().filter(|s| (s.from, s.stream) == (component, stream));
            subs.map(|s| match s.grouping {
                GroupScript::All | GroupScript::Custom(_) => self.components[s.to].tasks.min(reactors),
                _ => 1,
            })
            .sum()
        };
        let script = &self.components[component];
        let copies = (0..script.output.streams().len()).map(copies).max().unwrap_or(0);
        let batch = u64::from(self.sizes.batch_bytes.max(self.sizes.socket_batch_bytes));
        (u64::from(script.emits_max() * copies) * self.tuple_bytes_max()).max(batch)
    }
}

impl ComponentScript {
    /// Tuples that one call of a task emits, at most.
    pub(crate) fn emits_max(&self) -> u32 {
        match &self.role {
            Role::Spout(s) => s.per_call_max,
            // One more for a kept tuple.
            Role::Bolt(b) => (b.burst_max.max(2) + 1).max(b.finish_per_call),
        }
    }
}

fn sizes(d: &mut Dice) -> Sizes {
    let batch_bytes = d.pick(&BATCH_BYTES);
    let socket_batch_bytes = d.pick(&BATCH_BYTES);
    let batch = u64::from(batch_bytes.max(socket_batch_bytes));
    let credit_bytes = d.pick(&[batch, batch, batch + 64, batch * 2, batch * 3, batch * 16]);
    Sizes {
        workers: d.weighted(&[(3, 1), (3, 2), (2, 3)]),
        reactors: d.weighted(&[(3, 1), (3, 2), (2, 3)]),
        batch_bytes,
        socket_batch_bytes,
        credit_bytes,
        max_tuple_bytes: 64 << 10,
        key_groups: d.pick(&[8, 16, 1000, 1024]),
        link_batches: d.pick(&[1, 1, 2, 3, 8, 64]),
        keys: d.pick(&[1, 2, 5, 20]),
        budget: d.pick(&[300, 600, 1200]),
        acking: acking(d),
        breaks: d.pick(&[0, 0, 1, 5, 40]),
        letters_at_once: d.percent(30),
    }
}

fn acking(d: &mut Dice) -> Acking {
    let impatient = d.percent(40);
    Acking {
        on: d.percent(90),
        timeout_ms: if impatient { d.pick(&[1, 5, 1000]) } else { Acking::PATIENT.timeout_ms },
        max_age_ms: (impatient && d.percent(30)).then_some(1000),
        max_pending: None,
    }
    .with_pending(d)
}

impl Acking {
    /// A limit of pending roots, where the timeout frees a spout that waits for what a bolt keeps.
    fn with_pending(mut self, d: &mut Dice) -> Acking {
        if self.timeout_ms <= 5 && d.percent(60) {
            self.max_age_ms = None;
            self.max_pending = Some(d.pick(&[1, 2, 20]));
        }
        self
    }
}

fn components(d: &mut Dice, endless: bool) -> Vec<ComponentScript> {
    let spouts = d.weighted(&[(5, 1), (3, 2), (2, 3), (1, 4)]);
    let bolts = d.between(1, 8);
    let mut components = Vec::new();
    // Features of the whole seed: many seeds have none of the rare ones.
    let features = Features {
        slow: d.percent(30),
        keep: d.percent(35),
        fail: d.percent(30),
        ticks: d.percent(35),
        side: d.percent(30),
        hooks: d.percent(40),
        large: d.percent(40),
        bursts: d.percent(40),
        finish: d.percent(50),
        park: d.percent(30),
        ids: d.percent(60),
        breaks: d.percent(50),
        tasks_max: d.pick(&[1, 2, 3, 5, 5]),
    };
    for at in 0..spouts {
        components.push(component(d, &features, format!("s{at}"), Some(endless)));
    }
    for at in 0..bolts {
        components.push(component(d, &features, format!("b{at}"), None));
    }
    components
}

struct Features {
    slow: bool,
    keep: bool,
    fail: bool,
    ticks: bool,
    side: bool,
    hooks: bool,
    large: bool,
    bursts: bool,
    finish: bool,
    park: bool,
    ids: bool,
    breaks: bool,
    tasks_max: u32,
}

fn component(d: &mut Dice, f: &Features, name: String, spout: Option<bool>) -> ComponentScript {
    let tasks = d.between(1, f.tasks_max);
    let executors = if d.percent(60) { tasks } else { d.between(1, tasks) };
    let role = match spout {
        Some(endless) => Role::Spout(spout_script(d, f, endless)),
        None => Role::Bolt(bolt_script(d, f)),
    };
    let output = match spout {
        Some(_) => d.weighted(&[(4, OutputShape::Items), (2, OutputShape::Rows), (4, OutputShape::Many)]),
        None => d.weighted(&[
            (2, OutputShape::Nothing),
            (8, OutputShape::Items),
            (3, OutputShape::Rows),
            (7, OutputShape::Many),
        ]),
    };
    let small_max = d.pick(&[0, 16, 100, 400, 700]);
    let large_max = if f.large { d.pick(&[600, 3000, 9000, 60_000]) } else { 0 };
    ComponentScript {
        name,
        tasks,
        executors,
        side: f.side && d.percent(25),
        hooked: f.hooks && d.percent(40),
        ticks: (f.ticks && d.percent(50)).then(|| (d.between_u64(1, 7), d.pick(&[0, 20, 60]))),
        burst_bytes: None,
        output,
        pads: Pads { small_max, large_percent: if f.large { d.pick(&[1, 5, 30]) } else { 0 }, large_max },
        role,
    }
}

fn spout_script(d: &mut Dice, f: &Features, endless: bool) -> SpoutScript {
    let tuples = d.pick(&[0, 1, 5, 20, 60, 150]);
    SpoutScript {
        tuples: (!endless || d.percent(40)).then_some(tuples),
        per_call_max: d.pick(&[1, 1, 3, 10]),
        id_percent: if f.ids { d.pick(&[0, 50, 100, 100]) } else { 0 },
        idle_percent: d.pick(&[0, 0, 10, 40]),
        sleep_percent: d.pick(&[0, 0, 10, 40]),
        sleep_ns_max: d.pick(&[0, 100_000, 20_000_000]),
        park_percent: if f.park { d.pick(&[0, 10, 40]) } else { 0 },
        emits_at_end: d.percent(50),
        slow_percent: if f.slow { d.pick(&[0, 10, 100]) } else { 0 },
        slow_ns_max: d.pick(&[1_000, 300_000, 4_000_000]),
        break_permille: if f.breaks { d.pick(&[0, 5, 50]) } else { 0 },
    }
}

fn bolt_script(d: &mut Dice, f: &Features) -> BoltScript {
    let finish_tuples = if f.finish { d.pick(&[0, 1, 10, 60]) } else { 0 };
    BoltScript {
        input: InputShape::Any,
        none_percent: d.pick(&[0, 20, 70]),
        burst_percent: if f.bursts { d.pick(&[0, 5, 30]) } else { 0 },
        burst_max: d.pick(&[2, 5, 30]),
        forward_percent: d.pick(&[0, 30, 90]),
        fail_percent: if f.fail { d.pick(&[0, 5, 30]) } else { 0 },
        keep_percent: if f.keep { d.pick(&[0, 10, 60, 100]) } else { 0 },
        settle: d.pick(&[Settle::Soon, Settle::Tick, Settle::Finish, Settle::Cleanup, Settle::Elsewhere]),
        slow_percent: if f.slow { d.pick(&[0, 10, 100]) } else { 0 },
        slow_ns_max: d.pick(&[1_000, 300_000, 1_500_000, 4_000_000]),
        batch_end_percent: d.pick(&[0, 0, 0, 10]),
        finish_tuples,
        finish_per_call: d.pick(&[1, 7, 60]),
        finish_pauses: if f.finish { d.pick(&[0, 0, 1, 3]) } else { 0 },
        depth_max: d.pick(&[3, 8, 20]),
        break_permille: if f.breaks { d.pick(&[0, 5, 50, 200]) } else { 0 },
        letters: d.percent(50),
    }
}

/// How the graph is drawn.
#[derive(Clone, Copy)]
enum Graph {
    /// Any earlier components.
    Any,
    /// Each reads the one before.
    Chain,
    /// All read the spouts.
    FanOut,
    /// The last reads everything.
    FanIn,
    /// Layers of two, each reading both of the layer before.
    Diamonds,
}

fn subscriptions(d: &mut Dice, components: &[ComponentScript]) -> Vec<SubScript> {
    let graph =
        d.weighted(&[(4, Graph::Any), (2, Graph::Chain), (2, Graph::FanOut), (2, Graph::FanIn), (3, Graph::Diamonds)]);
    let spouts = components.iter().filter(|c| matches!(c.role, Role::Spout(_))).count();
    let mut subs = Vec::new();
    for to in spouts..components.len() {
        let earlier: Vec<usize> = (0..to).filter(|c| components[*c].output != OutputShape::Nothing).collect();
        let last = to == components.len() - 1;
        let wanted: Vec<usize> = match graph {
            Graph::Chain => vec![*earlier.last().expect("a spout emits")],
            Graph::FanOut if !d.percent(20) => vec![d.below(spouts as u32) as usize],
            Graph::FanIn if last => earlier.clone(),
            Graph::Diamonds => earlier.iter().rev().take(2).copied().collect(),
            _ => {
                let count = d.weighted(&[(5, 1), (4, 2), (2, 3), (1, 4)]);
                (0..count).map(|_| d.pick(&earlier)).collect()
            }
        };
        for from in wanted {
            let stream = d.below(components[from].output.streams().len() as u32) as usize;
            if !subs.iter().any(|s: &SubScript| (s.from, s.stream, s.to) == (from, stream, to)) {
                let grouping = grouping(d, components[from].output.streams()[stream]);
                subs.push(SubScript { from, stream, to, port: 0, grouping, feedback: false });
            }
        }
    }
    subs
}

fn grouping(d: &mut Dice, kind: StreamKind) -> GroupScript {
    if kind == StreamKind::Direct {
        return GroupScript::Direct;
    }
    let salt = d.between_u64(0, u64::MAX - 1);
    d.weighted(&[
        (4, GroupScript::Shuffle),
        (2, GroupScript::LoadAware),
        (2, GroupScript::LocalOrShuffle),
        (2, GroupScript::ByKey),
        (1, GroupScript::ByName),
        (1, GroupScript::ByBoth),
        (2, GroupScript::PartialKey),
        (2, GroupScript::All),
        (1, GroupScript::Global),
        (1, GroupScript::None),
        (2, GroupScript::Custom(salt)),
    ])
}

/// Gives each bolt the narrowest input that its streams allow, or a wide one, and each subscription its port.
fn shape_inputs(d: &mut Dice, components: &mut [ComponentScript], subs: &mut [SubScript]) {
    for to in 0..components.len() {
        let rows = |s: &SubScript| components[s.from].output.streams()[s.stream] == StreamKind::Rows;
        let inputs: Vec<bool> = subs.iter().filter(|s| s.to == to).map(rows).collect();
        let shape = if d.percent(30) || inputs.windows(2).any(|w| w[0] != w[1]) {
            InputShape::Any
        } else if inputs.first() == Some(&true) {
            InputShape::Rows
        } else {
            InputShape::Items
        };
        let ports: Vec<u16> = inputs.iter().map(|rows| port(d, shape, *rows)).collect();
        for (sub, port) in subs.iter_mut().filter(|s| s.to == to).zip(ports) {
            sub.port = port;
        }
        if let Role::Bolt(bolt) = &mut components[to].role {
            bolt.input = shape;
        }
    }
}

fn port(d: &mut Dice, shape: InputShape, rows: bool) -> u16 {
    match (shape, rows) {
        (InputShape::Any, true) => 2,
        (InputShape::Any, false) => d.below(2) as u16,
        _ => 0,
    }
}

/// Declares one or two feedback edges where something leads back.
fn feedback(d: &mut Dice, components: &[ComponentScript], subs: &mut Vec<SubScript>) {
    for _ in 0..d.between(1, 2) {
        let mut edges = Vec::new();
        for to in 0..components.len() {
            let Role::Bolt(bolt) = &components[to].role else { continue };
            for from in reachable(subs, to, components.len()) {
                for (stream, kind) in components[from].output.streams().iter().enumerate() {
                    let fits = bolt.input == InputShape::Any
                        || (bolt.input == InputShape::Rows) == (*kind == StreamKind::Rows);
                    let free = !subs.iter().any(|s| (s.from, s.stream, s.to) == (from, stream, to));
                    if fits && free {
                        edges.push((from, stream, to, *kind, bolt.input));
                    }
                }
            }
        }
        if edges.is_empty() {
            return;
        }
        let (from, stream, to, kind, shape) = d.pick(&edges);
        let port = port(d, shape, kind == StreamKind::Rows);
        subs.push(SubScript { from, stream, to, port, grouping: grouping(d, kind), feedback: true });
    }
}

/// The components that tuples of `start` can reach without feedback edges, itself included.
fn reachable(subs: &[SubScript], start: usize, count: usize) -> Vec<usize> {
    let mut seen = vec![false; count];
    let mut todo = vec![start];
    while let Some(at) = todo.pop() {
        if !std::mem::replace(&mut seen[at], true) {
            todo.extend(subs.iter().filter(|s| s.from == at && !s.feedback).map(|s| s.to));
        }
    }
    (0..count).filter(|c| seen[*c]).collect()
}

/// Declares the components in another order: nothing may depend on it.
fn reorder(d: &mut Dice, components: &mut Vec<ComponentScript>, subs: &mut [SubScript]) {
    let mut order: Vec<usize> = (0..components.len()).collect();
    d.shuffle(&mut order);
    *components = order.iter().map(|c| components[*c].clone()).collect();
    let place = |old: usize| order.iter().position(|c| *c == old).expect("a permutation");
    for sub in subs.iter_mut() {
        sub.from = place(sub.from);
        sub.to = place(sub.to);
    }
    d.shuffle(subs);
}

fn schedule(d: &mut Dice, stop_at: Option<u64>) -> Schedule {
    let (from, to) = (d.below(64), d.below(64));
    let policy = d.weighted(&[
        (4, Policy::Uniform),
        (2, Policy::StarveLink { from, to }),
        (2, Policy::StarveReactor(from)),
        (2, Policy::DelayCredit),
        (2, Policy::Bursts(2 + to % 30)),
        (1, Policy::TurnsFirst),
        (2, Policy::DeliveriesFirst),
    ]);
    Schedule {
        rig: if d.percent(15) { RigKind::Memory } else { RigKind::Audited },
        policy,
        starve_hard: d.percent(50),
        flush_percent: d.pick(&[0, 10, 50, 100]),
        drift_permille: d.pick(&[0, 0, 5, 100]),
        stop_at,
    }
}
