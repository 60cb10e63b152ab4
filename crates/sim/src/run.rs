//! Runs a scenario: chooses what happens next until everything has finished, nothing can happen any more, or something
//! was wrong.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use squall_engine::{MemCluster, SpoutGate, Step, VirtualClock};
use squall_topology::Plan;
use squall_tuple::ids::ReactorIx;

use crate::check;
use crate::dice::Dice;
use crate::links::LinkTotals;
use crate::rig::{Cluster, Rig};
use crate::scenario::{Policy, RigKind, Scenario};
use crate::topology;
use crate::world::{RootCounts, World};

/// Steps after which a run is said never to end. Forty restarts in a row wait for 10 s of virtual time, in which others may
/// have a timer every 125 µs.
const STEPS_MAX: u64 = 10_000_000;
/// Virtual time without a call of a component, ticks aside, after which a run is said to have stalled. Longer than any
/// sleep of a script, and than any wait for a restart.
const STALL_NS: u64 = 600_000_000;
/// Steps shown with a failure.
const STEPS_SHOWN: usize = 40;
/// The weight of everything that a policy does not starve, against 1.
const WEIGHT: u32 = 200;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Hash of everything that happened, in order: equal for equal scenarios.
    pub trace: u64,
    /// Steps taken.
    pub steps: u64,
    /// Tuples emitted.
    pub emitted: u64,
    /// Tuples executed.
    pub executed: u64,
    /// Tuples dropped on feedback edges.
    pub dropped: u64,
    /// Bytes that were moved out of links because a cohort was paused or busy.
    pub moved_bytes: u64,
    /// Batches between reactors.
    pub batches: u64,
    /// Batches that hold one tuple larger than a batch.
    pub large: u64,
    /// Offers that a full link refused.
    pub refused: u64,
    /// Most bytes under way to an inbox, in percent of the window.
    pub fullest_percent: u64,
    /// Tuples kept.
    pub kept: u64,
    /// Tuples failed.
    pub failed: u64,
    /// Roots, and what became of them.
    pub roots: RootCounts,
    /// Restarts of executors.
    pub restarts: u64,
    /// Tuples that went to dead letters.
    pub letters: u64,
    /// Records in batches of acks.
    pub acks: u64,
    /// Virtual time it took.
    pub took_ns: u64,
}

/// A scenario that went wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What went wrong.
    pub what: String,
    /// Kind of failure, without names and numbers: two failures of one kind are probably one bug.
    pub kind: &'static str,
    /// What else helps: the last steps, who waits for whom, what is under way.
    pub details: Vec<String>,
    /// The plan, as `plan` shows it.
    pub plan: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        for line in &self.details {
            writeln!(f, "  {line}")?;
        }
        write!(f, "{}", self.plan)
    }
}

impl std::error::Error for Failure {}

/// Runs a scenario to its end.
///
/// # Errors
/// What went wrong first.
pub fn run(scenario: &Scenario) -> Result<Report, Box<Failure>> {
    let (plan, registry) = topology::build(scenario).map_err(|e| failure("build", e, Vec::new(), None))?;
    let clock = VirtualClock::at(1_000_000_000);
    let world = World::new(plan.clone(), clock.clone(), Rc::new(scenario.clone()));
    let _entered = world.enter();
    let rig: Box<dyn Rig> = match scenario.schedule.rig {
        RigKind::Audited => Box::new(Cluster::new(plan, registry, clock, scenario.sizes.link_batches)),
        RigKind::Memory => Box::new(MemCluster::new(plan, registry, clock, scenario.sizes.link_batches)),
    };
    let mut run = Run::new(scenario, world, rig);
    let end = run.until_the_end();
    end.map_err(|(kind, what)| failure(kind, what, run.details(), Some(&run.world.plan)))
}

fn failure(kind: &'static str, what: String, details: Vec<String>, plan: Option<&Plan>) -> Box<Failure> {
    let plan = plan.map_or_else(String::new, squall_topology::render::text);
    Box::new(Failure { what, kind, details, plan })
}

type Wrong = (&'static str, String);

/// How little a reactor has to do, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Quiet {
    /// It may have something to do.
    Unknown,
    /// Its last turn did nothing.
    Idle,
    /// Its last turn, which flushed everything, did nothing.
    Silent,
}

/// A step as reports show it.
struct Taken {
    number: u64,
    now_ns: u64,
    step: Step,
    flush_all: bool,
    /// `None`: it did not return.
    progress: Option<bool>,
}

struct Run<'s> {
    scenario: &'s Scenario,
    world: Rc<World>,
    rig: Box<dyn Rig>,
    dice: Dice,
    quiet: Vec<Quiet>,
    gates: Vec<SpoutGate>,
    steps: u64,
    possible: Vec<Step>,
    weights: Vec<u32>,
    last: VecDeque<Taken>,
    /// Activity of the world when it last changed, and the time then.
    active: (u64, u64),
    /// Time when the reactors' deadlines were last looked at.
    seen_ns: u64,
    began_ns: u64,
}

impl<'s> Run<'s> {
    fn new(scenario: &'s Scenario, world: Rc<World>, rig: Box<dyn Rig>) -> Self {
        let count = rig.cores().len();
        let began_ns = world.now_ns();
        Run {
            scenario,
            dice: Dice::new(scenario.seed, 1),
            quiet: vec![Quiet::Unknown; count],
            gates: vec![SpoutGate::Waiting; count],
            steps: 0,
            possible: Vec::new(),
            weights: Vec::new(),
            last: VecDeque::new(),
            active: (0, began_ns),
            seen_ns: began_ns,
            began_ns,
            world,
            rig,
        }
    }

    fn until_the_end(&mut self) -> Result<Report, Wrong> {
        self.rig.prepare().map_err(|e| ("fault", e.to_string()))?;
        while !self.rig.finished() {
            self.gates();
            self.once()?;
            self.violations()?;
            if self.steps > STEPS_MAX {
                return Err(("endless", format!("not finished after {STEPS_MAX} steps")));
            }
        }
        // The moment of the end: whoever reads the counts now must see all of them.
        check::check(&self.world, self.rig.cores()).map_err(|what| ("check", what))?;
        self.settle()?;
        Ok(self.report())
    }

    /// After the end nothing may happen any more, and all credit must be back.
    fn settle(&mut self) -> Result<(), Wrong> {
        let before = self.world.activity();
        for round in 0..3 {
            for r in 0..self.quiet.len() as ReactorIx {
                let progress = self.rig.step(Step::Turn(r), round > 0).map_err(|e| ("fault", e.to_string()))?;
                if progress || self.world.activity() != before {
                    return Err(("after the end", format!("reactor {r} still has something to do after the end")));
                }
            }
        }
        self.rig.check_settled();
        self.violations()
    }

    /// Opens the spouts, each reactor's at its own time, and stops them when it is time.
    fn gates(&mut self) {
        let stopping = self.scenario.schedule.stop_at.is_some_and(|at| self.steps >= at);
        for r in 0..self.gates.len() {
            let next = match self.gates[r] {
                _ if stopping => SpoutGate::Stopped,
                SpoutGate::Waiting => SpoutGate::Open,
                gate => gate,
            };
            if next == self.gates[r] || !(self.dice.percent(10) || self.steps.is_multiple_of(64)) {
                continue;
            }
            self.world.trace(&[20, r as u64, next as u64]);
            if next == SpoutGate::Stopped {
                self.world.stopped(r);
            }
            if self.rig.set_gate(r as ReactorIx, next) {
                self.gates[r] = next;
                self.quiet[r] = Quiet::Unknown;
            } else {
                if next == SpoutGate::Stopped {
                    (0..self.gates.len()).for_each(|r| self.world.stopped(r));
                }
                self.gates.fill(next);
                self.quiet.fill(Quiet::Unknown);
            }
        }
    }

    /// One step, or a few of one kind, or time goes on.
    fn once(&mut self) -> Result<(), Wrong> {
        self.steps += 1;
        if self.dice.below(1000) < self.scenario.schedule.drift_permille {
            let by = self.dice.pick(&[1, 700, 50_000, 1_000_000, 30_000_000]);
            self.world.clock.advance(by);
        }
        if self.dice.percent(2) {
            self.outside();
        }
        self.sleepers();
        let Some(step) = self.choose() else { return self.time_goes_on() };
        let times = match self.scenario.schedule.policy {
            Policy::Bursts(most) => self.dice.between(1, most),
            _ => 1,
        };
        for _ in 0..times {
            if !self.take(step)? {
                break;
            }
        }
        Ok(())
    }

    /// Another thread does something: wakes a parked spout, or ends a tuple that was kept.
    fn outside(&mut self) -> bool {
        let first = self.dice.percent(50);
        let done = if first {
            self.world.wake_one(&mut self.dice).is_some()
        } else {
            self.world.settle_adrift(&mut self.dice)
        };
        done || if first {
            self.world.settle_adrift(&mut self.dice)
        } else {
            self.world.wake_one(&mut self.dice).is_some()
        }
    }

    /// Reactors that sleep wake when their bell was rung or their deadline has come.
    fn sleepers(&mut self) {
        let now_ns = self.world.now_ns();
        let later = std::mem::replace(&mut self.seen_ns, now_ns) != now_ns;
        for r in 0..self.quiet.len() {
            let told = self.world.take_told(r);
            let rung = self.rig.take_rung(r as ReactorIx).unwrap_or(told);
            if rung || later && self.rig.due(r as ReactorIx).unwrap_or(true) {
                self.quiet[r] = Quiet::Unknown;
            }
        }
    }

    /// What happens next: by weight among everything that can, but for turns of reactors that have nothing to do.
    fn choose(&mut self) -> Option<Step> {
        self.possible.clear();
        self.rig.steps(&mut self.possible);
        let spurious = self.dice.percent(1);
        let silent = |s: &Step, quiet: &[Quiet]| matches!(s, Step::Turn(r) if quiet[*r as usize] == Quiet::Silent);
        self.possible.retain(|s| spurious || !silent(s, &self.quiet));
        let starved = u32::from(!self.scenario.schedule.starve_hard);
        let (policy, count) = (self.scenario.schedule.policy, self.quiet.len() as u32);
        self.weights.clear();
        let weight = |s| if is_starved(policy, count, s) { starved } else { WEIGHT };
        self.weights.extend(self.possible.iter().map(weight));
        if self.weights.iter().all(|w| *w == 0) {
            self.weights.fill(1);
        }
        let sum: u32 = self.weights.iter().sum();
        if sum == 0 {
            return None;
        }
        let mut left = self.dice.below(sum);
        for (step, weight) in self.possible.iter().zip(&self.weights) {
            if left < *weight {
                return Some(*step);
            }
            left -= weight;
        }
        unreachable!("the throw is below the sum of the weights")
    }

    /// Takes one step. Returns whether anything happened.
    fn take(&mut self, step: Step) -> Result<bool, Wrong> {
        let idle = matches!(step, Step::Turn(r) if self.quiet[r as usize] >= Quiet::Idle);
        // A real reactor flushes when its last turn had nothing to do; doing so earlier must be harmless.
        let flush_all = idle || self.dice.percent(self.scenario.schedule.flush_percent);
        self.begin(step, flush_all);
        self.world.begin_step();
        let paused = match step {
            Step::Deliver { to, .. } => self.rig.paused(to),
            _ => Vec::new(),
        };
        let executed = |to| self.world.executions(to, &paused);
        let before = if let Step::Deliver { to, .. } = step { executed(to) } else { 0 };
        let progress = self.rig.step(step, flush_all).map_err(|e| ("fault", e.to_string()))?;
        if let Step::Deliver { to, .. } = step
            && executed(to) != before
        {
            return Err(("violation", format!("a paused component of reactor {to} executed: one of {paused:?}")));
        }
        self.end(progress);
        match step {
            Step::Turn(r) if progress => self.quiet[r as usize] = Quiet::Unknown,
            Step::Turn(r) => self.quiet[r as usize] = if flush_all { Quiet::Silent } else { Quiet::Idle },
            // The receiver has input, the sender has room.
            Step::Deliver { from, to } => {
                self.quiet[from as usize] = Quiet::Unknown;
                self.quiet[to as usize] = Quiet::Unknown;
            }
            Step::Credit { to, .. } => self.quiet[to as usize] = Quiet::Unknown,
        }
        Ok(progress)
    }

    fn begin(&mut self, step: Step, flush_all: bool) {
        let (kind, from, to) = match step {
            Step::Turn(r) => (0, r, r),
            Step::Deliver { from, to } => (1, from, to),
            Step::Credit { from, to } => (2, from, to),
        };
        let now_ns = self.world.now_ns();
        self.world.trace(&[kind << 1 | u64::from(flush_all), from.into(), to.into(), now_ns]);
        if self.last.len() == STEPS_SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(Taken { number: self.steps, now_ns, step, flush_all, progress: None });
    }

    fn end(&mut self, progress: bool) {
        self.world.trace(&[progress.into()]);
        self.last.back_mut().expect("it began").progress = Some(progress);
    }

    /// Nothing else can happen: a parked spout is woken, or the clock goes to the next deadline. Neither possible, or
    /// nobody does anything but tick: a stall.
    fn time_goes_on(&mut self) -> Result<(), Wrong> {
        let (activity, now_ns) = (self.world.activity(), self.world.now_ns());
        if activity != self.active.0 {
            self.active = (activity, now_ns);
        }
        let stopping =
            self.scenario.schedule.stop_at.is_some_and(|at| self.gates[0] != SpoutGate::Stopped && self.steps < at);
        let waits = now_ns - self.active.1 < STALL_NS || stopping;
        let left = self.world.left_waiting();
        if !left.is_empty() {
            return Err(("stall", self.stall(&format!("left waiting: {}", left.join(", ")))));
        }
        let forgotten = self.world.forgotten();
        if !forgotten.is_empty() {
            return Err(("forgotten root", self.stall(&format!("nobody was told of {}", forgotten.join(", ")))));
        }
        let inner = self.world.inner.borrow();
        check::counters(&self.world, &inner, self.rig.cores()).map_err(|what| ("check", what))?;
        // Who is down has not executed what it has got. Now and then: each looks at all emissions.
        if !self.world.any_down() && self.dice.percent(5) {
            check::adds_up(&self.world, &inner, self.rig.cores()).map_err(|what| ("check", what))?;
        }
        drop(inner);
        if self.dice.percent(50) && self.outside() {
            return Ok(());
        }
        if waits && self.rig.advance() {
            self.world.check_ticks(now_ns);
            return Ok(());
        }
        if self.outside() || stopping || self.gates.contains(&SpoutGate::Waiting) {
            return Ok(());
        }
        Err(("stall", self.stall("nothing can happen any more")))
    }

    /// Who waits for whom.
    fn stall(&self, why: &str) -> String {
        let chain: Vec<String> = self.rig.back_pressure().iter().map(|(a, b)| format!("{a} waits for {b}")).collect();
        let chain = if chain.is_empty() { "nobody waits for room".to_owned() } else { chain.join(", ") };
        format!("stalled: {why}; {chain}; not finished: {}", self.world.unfinished().join(", "))
    }

    fn violations(&self) -> Result<(), Wrong> {
        match self.world.violation().or_else(|| self.rig.violation()) {
            Some(what) => Err(("violation", what)),
            None => Ok(()),
        }
    }

    fn details(&self) -> Vec<String> {
        let mut lines = vec![format!("after {} steps and {} ns", self.steps, self.world.now_ns() - self.began_ns)];
        lines.extend(self.rig.back_pressure().iter().map(|(a, b)| format!("{a} waits for {b}")));
        lines.extend(self.rig.describe());
        for Taken { number, now_ns, step, flush_all, progress } in &self.last {
            let flush = if *flush_all { ", flushing" } else { "" };
            let end = match progress {
                Some(true) => "",
                Some(false) => ": nothing",
                None => ": did not return",
            };
            lines.push(format!("step {number} at {now_ns}: {step:?}{flush}{end}"));
        }
        lines
    }

    fn report(&self) -> Report {
        let stats = crate::rig::stats(&self.world.plan, self.rig.cores());
        let sum = |f: &dyn Fn(&squall_engine::ComponentStats) -> u64| stats.iter().map(f).sum::<u64>();
        let LinkTotals { batches, large, refused, fullest_percent, acks, .. } = self.rig.totals();
        let roots = self.world.root_counts();
        let inner = self.world.inner.borrow();
        Report {
            trace: self.world.hash(),
            steps: self.steps,
            emitted: sum(&|c| c.emitted),
            executed: sum(&|c| c.executed),
            dropped: sum(&|c| c.dropped.values().sum()),
            moved_bytes: sum(&|c| c.moved_bytes),
            batches,
            large,
            refused,
            fullest_percent,
            kept: inner.tasks.iter().map(|t| t.kept).sum(),
            failed: sum(&|c| c.failed),
            roots,
            restarts: sum(&|c| c.restarts),
            letters: sum(&|c| c.dead_letters),
            acks,
            took_ns: self.world.now_ns() - self.began_ns,
        }
    }
}

/// Whether a policy holds a step back; `count` is the number of reactors.
fn is_starved(policy: Policy, count: u32, step: &Step) -> bool {
    match (policy, step) {
        (Policy::StarveLink { from, to }, Step::Deliver { from: f, to: t }) => (from % count, to % count) == (*f, *t),
        (Policy::StarveReactor(r), Step::Turn(t)) => r % count == *t,
        (Policy::DelayCredit, Step::Credit { .. }) => true,
        (Policy::TurnsFirst, s) => !matches!(s, Step::Turn(_)),
        (Policy::DeliveriesFirst, Step::Turn(_)) => true,
        _ => false,
    }
}
