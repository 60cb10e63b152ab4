//! Workers that die and come again, at any step, in random topologies whose spouts emit again what fails.
//!
//! Beside the main simulator, not in it: there every tuple arrives once, which is what a death breaks. Here each emission of a spout carries a number
//! of its own through its whole tree, and the sums of what is open in a tree are kept apart from the engine. Checked:
//! - a root is told as acked only when its whole tree was executed and nothing of it failed, and is told once (D4);
//! - every input is acked in the end, whatever died, in bounded virtual time; nothing stalls;
//! - what a bolt writes at the end of a batch is written before its tuples count as acked (D4);
//! - a key goes to the same task in all lives;
//! - one life of a task receives what one life of another sent it on a stream in the order of the emits (D1);
//! - what the engine counted over all lives adds up: roots = acked + failed, as the spouts were told, and those that died with their spout as
//!   `spout lost`; every emission was counted.
//!
//! A lost worker's batches that were still under way arrive in its next life, where they must be refused (D6).
//!
//! Deliberately absent: what the main simulator checks (credit to the byte, ends, groupings), and clocks that drift.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use squall::prelude::*;
use squall::{Stream, TaskId, Topology};
use squall_engine::{MemCluster, Step, VirtualClock};
use squall_topology::{Machine, Plan};

use crate::dice::Dice;

/// Steps after which a run is said never to end.
const STEPS_MAX: u64 = 400_000;

#[derive(Tuple)]
struct Grain {
    /// Which emission of a spout this descends from.
    emission: u64,
    key: u64,
    /// Number of the emit on its stream, and who emitted it.
    number: u64,
    life: u64,
}

/// One emission of a spout, and what is known of its tree.
#[derive(Default)]
struct Tree {
    task: TaskId,
    input: u64,
    open: u64,
    /// Executions whose bolt has not written what came of them.
    unwritten: u64,
    failed: bool,
    told: bool,
    /// The life that emitted it is over.
    orphan: bool,
}

/// A spout task's source: what its next life finds.
#[derive(Default)]
struct Source {
    acked: Vec<bool>,
    /// Inputs that the present life has emitted, and those to be emitted again.
    next: u64,
    again: VecDeque<u64>,
    /// Emissions that are pending, by input.
    pending: BTreeMap<u64, u64>,
}

struct Shared {
    dice: Dice,
    plan: Option<Arc<Plan>>,
    inputs: u64,
    trees: Vec<Tree>,
    sources: HashMap<TaskId, Source>,
    lives: u64,
    /// By receiver's life, sender's life and stream: the last number that came.
    last: HashMap<(u64, u64, u32), u64>,
    /// By component and key, where its input is grouped by it: the task.
    keys: HashMap<(u32, u64), TaskId>,
    clock: VirtualClock,
    /// Executors that may still be broken, and those that were.
    breaks_left: u32,
    broken: u64,
    told: (u64, u64),
    emissions: u64,
    violation: Option<String>,
}

impl Shared {
    fn wrong(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn new_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    /// Deliveries that an emit on the only stream of a component becomes.
    fn deliveries(&self, task: TaskId) -> u64 {
        let plan = self.plan.as_ref().expect("the run has begun");
        let streams = plan.streams_of(plan.component_of(task));
        let subs = streams.iter().flat_map(|s| plan.subscribers_of(*s));
        let subs = subs.map(|s| &plan.spec.subscriptions[*s as usize]);
        let targets = subs.map(|s| match s.grouping {
            squall_topology::Grouping::All => u64::from(plan.spec.components[s.to as usize].tasks),
            _ => 1,
        });
        targets.sum()
    }
}

thread_local! {
    /// The run of this thread: factories must be `Send`, so the components find it here when they are made.
    static RUN: RefCell<Option<Rc<RefCell<Shared>>>> = const { RefCell::new(None) };
}

fn shared() -> Rc<RefCell<Shared>> {
    RUN.with(|run| run.borrow().clone()).expect("components live within a run")
}

struct Feed {
    shared: Rc<RefCell<Shared>>,
    task: TaskId,
    life: u64,
    number: u64,
}

impl Spout for Feed {
    type Out = Stream<Grain>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.task = ctx.task();
        let shared = &mut *self.shared.borrow_mut();
        self.life = shared.new_life();
        let inputs = shared.inputs as usize;
        let source = shared.sources.entry(self.task).or_default();
        source.acked.resize(inputs, false);
        // As a file is read on from the last offset before which all was acked.
        source.next = source.acked.iter().position(|acked| !acked).unwrap_or(inputs) as u64;
        source.again.clear();
        source.pending.clear();
        shared.trees.iter_mut().filter(|t| t.task == self.task && !t.told).for_each(|t| t.orphan = true);
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Grain>) -> Result<Next, SpoutError> {
        let shared = &mut *self.shared.borrow_mut();
        let inputs = shared.inputs;
        let source = shared.sources.get_mut(&self.task).expect("it was prepared");
        let input = match source.again.pop_front() {
            Some(input) => input,
            None if source.next < inputs => {
                source.next += 1;
                source.next - 1
            }
            None if source.pending.is_empty() => return Ok(Next::End),
            None => return Ok(Next::Parked),
        };
        let emission = shared.trees.len() as u64;
        source.pending.insert(input, emission);
        let open = shared.deliveries(self.task);
        shared.trees.push(Tree { task: self.task, input, open, ..Tree::default() });
        shared.emissions += 1;
        self.number += 1;
        let key = u64::from(shared.dice.below(16));
        out.emit_with_id(emission, Grain { emission, key, number: self.number, life: self.life });
        Ok(Next::Emitted)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.told(id, true);
        Ok(())
    }

    fn fail(&mut self, id: MessageId, _: Failure<'_>) -> Result<(), SpoutError> {
        self.told(id, false);
        Ok(())
    }
}

impl Feed {
    fn told(&self, id: MessageId, acked: bool) {
        let shared = &mut *self.shared.borrow_mut();
        *(if acked { &mut shared.told.0 } else { &mut shared.told.1 }) += 1;
        let tree = &mut shared.trees[id.as_u64() as usize];
        let (open, unwritten, failed, twice, orphan) = (tree.open, tree.unwritten, tree.failed, tree.told, tree.orphan);
        tree.told = true;
        let input = tree.input;
        let source = shared.sources.get_mut(&self.task).expect("it was prepared");
        let known = source.pending.remove(&input) == Some(id.as_u64());
        if acked {
            source.acked[input as usize] = true;
        } else {
            source.again.push_back(input);
        }
        if twice || orphan || !known {
            shared
                .wrong(format!("task {} was told of emission {id:?} that is not pending in this life (D4)", self.task));
        }
        if acked && (open > 0 || unwritten > 0 || failed) {
            shared.wrong(format!(
                "emission {id:?} was acked with {open} ends open, {unwritten} not written, failed: {failed} (D4)"
            ));
        }
    }
}

/// What a bolt does with its tuples.
#[derive(Debug, Clone, Copy)]
struct Habits {
    branches: u32,
    fail_permille: u32,
    keep_percent: u32,
    /// It writes what it has executed at the end of a batch.
    writes: bool,
    /// Its input is grouped by the key.
    keyed: bool,
    /// Calls that take a millisecond.
    slow_percent: u32,
    /// Ends of batches that break it.
    break_permille: u32,
}

struct Pipe {
    shared: Rc<RefCell<Shared>>,
    habits: Habits,
    task: TaskId,
    life: u64,
    number: u64,
    kept: Vec<(u64, Anchor)>,
    /// Emissions of which something is to be written.
    unwritten: Vec<u64>,
}

impl Pipe {
    fn new(habits: Habits) -> Pipe {
        Pipe { shared: shared(), habits, task: 0, life: 0, number: 0, kept: Vec::new(), unwritten: Vec::new() }
    }

    fn prepare(&mut self, ctx: &Context) {
        self.task = ctx.task();
        self.life = self.shared.borrow_mut().new_life();
    }

    /// What comes of a tuple: `None` if it fails, else the emits.
    fn take(&mut self, emission: u64, from: (u64, u32), number: u64, key: u64) -> Option<Vec<Grain>> {
        let shared = &mut *self.shared.borrow_mut();
        if self.habits.keyed {
            let component = shared.plan.as_ref().expect("the run has begun").component_of(self.task);
            let owner = *shared.keys.entry((component, key)).or_insert(self.task);
            if owner != self.task {
                shared.wrong(format!("key {key} came to task {}, before to task {owner}", self.task));
            }
        }
        if shared.dice.percent(self.habits.slow_percent) {
            shared.clock.advance(1_100_000);
        }
        let last = shared.last.insert((self.life, from.0, from.1), number);
        if last.is_some_and(|last| last >= number) {
            shared.wrong(format!("task {} got number {number} after {last:?} (D1)", self.task));
        }
        if shared.dice.below(1000) < self.habits.fail_permille {
            shared.trees[emission as usize].failed = true;
            return None;
        }
        let deliveries = shared.deliveries(self.task);
        let branches = if deliveries == 0 { 0 } else { shared.dice.between(0, self.habits.branches) };
        shared.trees[emission as usize].open += u64::from(branches) * deliveries;
        let emits = (0..branches).map(|_| {
            self.number += 1;
            Grain { emission, key: u64::from(shared.dice.below(16)), number: self.number, life: self.life }
        });
        Some(emits.collect())
    }

    fn end_kept(&mut self) {
        for (emission, anchor) in self.kept.drain(..) {
            self.shared.borrow_mut().trees[emission as usize].open -= 1;
            anchor.ack();
        }
    }
}

impl Bolt for Pipe {
    type In = Grain;
    type Out = Stream<Grain>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        Pipe::prepare(self, ctx);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Grain>, out: &mut Stream<Grain>) -> Result<(), BoltError> {
        let emission = input.emission.to_native();
        let from = (input.life.to_native(), input.stream());
        let Some(emits) = self.take(emission, from, input.number.to_native(), input.key.to_native()) else {
            return Err(BoltError::fail("as it was asked to"));
        };
        emits.into_iter().for_each(|grain| out.emit(grain));
        if self.shared.borrow_mut().dice.percent(self.habits.keep_percent) {
            self.kept.push((emission, input.keep().1));
        } else {
            let tree = &mut self.shared.borrow_mut().trees[emission as usize];
            tree.open -= 1;
            if self.habits.writes {
                tree.unwritten += 1;
                self.unwritten.push(emission);
            }
        }
        Ok(())
    }

    fn batch_end(&mut self, _: &mut Stream<Grain>) -> Result<(), BoltError> {
        let shared = &mut *self.shared.borrow_mut();
        if shared.breaks_left > 0 && shared.dice.below(1000) < self.habits.break_permille {
            shared.breaks_left -= 1;
            shared.broken += 1;
            return Err(BoltError::fatal("it cannot be written"));
        }
        let trees = &mut shared.trees;
        self.unwritten.drain(..).for_each(|emission| trees[emission as usize].unwritten -= 1);
        Ok(())
    }

    fn tick(&mut self, _: &mut Stream<Grain>) -> Result<(), BoltError> {
        self.end_kept();
        Ok(())
    }

    fn finish(&mut self, _: &mut Stream<Grain>) -> Result<squall::Finish, BoltError> {
        self.end_kept();
        Ok(squall::Finish::Done)
    }
}

/// What a run with deaths came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// Deaths.
    pub deaths: u64,
    /// Emissions of spouts.
    pub emissions: u64,
    /// Of those: failed, for whatever reason.
    pub failed: u64,
    /// Of those: they died with their spout.
    pub spout_lost: u64,
    /// Batches of an earlier life that were refused.
    pub refused: u64,
    /// Executors that could not write at the end of a batch, and were restarted.
    pub broken: u64,
    /// Steps taken.
    pub steps: u64,
}

impl CrashReport {
    /// Sums two runs.
    pub fn add(&mut self, other: &CrashReport) {
        self.deaths += other.deaths;
        self.emissions += other.emissions;
        self.failed += other.failed;
        self.spout_lost += other.spout_lost;
        self.refused += other.refused;
        self.broken += other.broken;
        self.steps += other.steps;
    }
}

/// Runs the topology and the deaths of a seed.
///
/// # Errors
/// What went wrong first, and how to replay it.
pub fn run_crashes(seed: u64) -> Result<CrashReport, String> {
    let end = crashes(seed);
    RUN.with(|run| run.borrow_mut().take());
    end.map_err(|what| {
        format!("seed {seed}: {what}\nreplay: SQUALL_SIM_SEED={seed} cargo test -p squall-sim --test seeds deaths")
    })
}

fn crashes(seed: u64) -> Result<CrashReport, String> {
    let mut dice = Dice::new(seed, 0xDEAD);
    let clock = VirtualClock::at(1_000_000_000);
    let world = Rc::new(RefCell::new(Shared {
        dice: Dice::new(seed, 0xBEEF),
        plan: None,
        inputs: u64::from(dice.between(1, 60)),
        trees: Vec::new(),
        sources: HashMap::new(),
        lives: 0,
        last: HashMap::new(),
        keys: HashMap::new(),
        clock: clock.clone(),
        breaks_left: 8,
        broken: 0,
        told: (0, 0),
        emissions: 0,
        violation: None,
    }));
    RUN.with(|run| *run.borrow_mut() = Some(world.clone()));
    let workers = dice.between(1, 4);
    let built = draw(&mut dice, workers);
    let cores = dice.between(workers, workers + 2);
    let machine = Machine { cores: (0..cores as usize).collect() };
    let plan = Arc::new(built.plan(&machine).map_err(|e| format!("the plan: {e}"))?);
    world.borrow_mut().plan = Some(plan.clone());
    let link_batches = dice.pick(&[1, 2, 8]) as usize;
    let mut cluster = MemCluster::new(plan.clone(), built.registry, clock, link_batches);
    cluster.start().map_err(|e| e.to_string())?;
    let mut report = CrashReport::default();
    let mut deaths_left = dice.between(0, 8);
    let calm = dice.pick(&[20, 200, 1000]);
    while !cluster.finished() {
        report.steps += 1;
        if let Some(what) = world.borrow().violation.clone() {
            return Err(what);
        }
        if report.steps > STEPS_MAX {
            return Err(format!("not finished after {STEPS_MAX} steps: {:?}", cluster.back_pressure()));
        }
        let gone = cluster.gone();
        if deaths_left > 0 && dice.below(calm) == 0 {
            let worker = dice.below(plan.workers.len() as u32);
            if !gone.contains(&worker) {
                deaths_left -= 1;
                report.deaths += 1;
                cluster.lose_worker(worker);
            }
        } else if !gone.is_empty() && dice.below(30) == 0 {
            cluster.restart_worker(dice.pick(&gone)).map_err(|e| e.to_string())?;
        }
        step(&mut cluster, &mut dice)?;
    }
    report.refused = cluster.cores().iter().map(squall_engine::Core::refused_batches).sum();
    let world = world.borrow();
    settle(&world, &cluster, &mut report)?;
    Ok(report)
}

/// One step of any kind, or time goes on where nothing else can happen.
fn step(cluster: &mut MemCluster, dice: &mut Dice) -> Result<(), String> {
    let steps = cluster.steps();
    if !steps.is_empty() {
        let step = dice.pick(&steps);
        let progress = cluster.step(step, dice.percent(50)).map_err(|e| e.to_string())?;
        if progress || dice.percent(95) {
            return Ok(());
        }
    }
    let mut idle = true;
    for step in cluster.steps() {
        let flush_all = matches!(step, Step::Turn(_));
        idle &= !cluster.step(step, flush_all).map_err(|e| e.to_string())?;
    }
    if idle && cluster.gone().is_empty() {
        cluster.advance(u64::MAX);
    }
    Ok(())
}

/// What must hold when all has ended.
fn settle(world: &Shared, cluster: &MemCluster, report: &mut CrashReport) -> Result<(), String> {
    if let Some(what) = &world.violation {
        return Err(what.clone());
    }
    for (task, source) in &world.sources {
        if let Some(lost) = source.acked.iter().position(|acked| !acked) {
            return Err(format!("input {lost} of task {task} was never acked (D4)"));
        }
    }
    let stats = cluster.stats();
    let sum = |of: fn(&squall_engine::ComponentStats) -> u64| stats.iter().map(of).sum::<u64>();
    let spout_lost = sum(|c| c.roots_failed.get("spout lost").copied().unwrap_or(0));
    let (roots, all_failed) = (sum(|c| c.roots), sum(|c| c.roots_failed.values().sum()));
    let spouts = stats.iter().filter(|c| c.roots > 0);
    let acked: u64 = spouts.map(|c| c.acked).sum();
    let told = (acked, all_failed - spout_lost);
    if roots != world.emissions || told != world.told || roots != acked + all_failed {
        return Err(format!(
            "the counts do not add up: {roots} roots of {} emissions, {told:?} counted of {:?} told, {spout_lost} lost with their spouts",
            world.emissions, world.told
        ));
    }
    adds_up(world, &stats, report.deaths)?;
    report.broken = world.broken;
    report.emissions = roots;
    report.failed = all_failed;
    report.spout_lost = spout_lost;
    Ok(())
}

/// Counts of different components add up: without a death what was emitted to a component was executed there, and each
/// execution acked or failed.
fn adds_up(world: &Shared, stats: &[squall_engine::ComponentStats], deaths: u64) -> Result<(), String> {
    if deaths > 0 {
        return Ok(());
    }
    let spec = &world.plan.as_ref().expect("the run has begun").spec;
    for (component, counted) in stats.iter().enumerate() {
        let per = |s: &squall_topology::SubscriptionSpec| match s.grouping {
            squall_topology::Grouping::All => u64::from(spec.components[component].tasks),
            _ => 1,
        };
        let inputs = spec.subscriptions.iter().filter(|s| s.to as usize == component);
        let from = |s: &squall_topology::SubscriptionSpec| spec.streams[s.stream as usize].component as usize;
        let due: u64 = inputs.map(|s| stats[from(s)].emitted * per(s)).sum();
        let ended = counted.acked + counted.failed;
        if counted.executed != due || counted.roots == 0 && ended != due {
            let name = &spec.components[component].name;
            return Err(format!("{due} tuples are due at {name}, {} executed, {ended} ended", counted.executed));
        }
    }
    Ok(())
}

fn draw(dice: &mut Dice, workers: u32) -> squall::Built {
    let t = Topology::new("deaths");
    let (batch, pending) = (dice.pick(&[256, 1024, 4096]), dice.pick(&[1, 7, 1000]));
    let credit = u64::from(batch) * dice.pick(&[1, 1, 2, 16]);
    t.configure(|c| {
        c.message_timeout_ms = 1_000;
        (c.batch_bytes, c.socket_batch_bytes, c.credit_bytes) = (batch, batch, credit);
        c.max_spout_pending = Some(pending);
    });
    let feed = || Feed { shared: shared(), task: 0, life: 0, number: 0 };
    let mut tasks = dice.between(1, 3);
    let spout = t.spout("feed", feed).tasks(tasks).streams();
    let mut streams = vec![spout];
    for layer in 0..dice.between(1, 4) {
        let grouping = dice.below(4);
        let habits = Habits {
            branches: dice.between(1, 3),
            fail_permille: dice.pick(&[0, 0, 10]),
            keep_percent: dice.pick(&[0, 0, 40]),
            writes: dice.percent(40),
            keyed: grouping == 1,
            slow_percent: dice.pick(&[0, 0, 10, 60]),
            break_permille: dice.pick(&[0, 0, 20]),
        };
        let from = &streams[dice.below(streams.len() as u32) as usize];
        let more = dice.between(1, 4);
        tasks += more;
        let bolt = t.bolt(&format!("pipe{layer}"), move || Pipe::new(habits)).tasks(more);
        let bolt = bolt.tick_every(Duration::from_millis(5));
        let bolt = match grouping {
            0 => bolt.on(from.all()),
            1 => bolt.on(from.fields([Grain::KEY])),
            2 => bolt.on(from.local_or_shuffle()),
            _ => bolt.on(from.shuffle()),
        };
        streams.push(bolt.streams());
    }
    // Each worker has something to do.
    t.configure(|c| c.workers = workers.min(tasks));
    t.build().expect("the topology is sound")
}
