//! What runs the reactors of a plan, step by step: the audited links, or the memory cluster of the harness.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use squall_engine::{
    Clock, ComponentStats, Core, CoreConfig, LinkError, MemCluster, ReceiveError, Registry, SpoutGate, Step,
    VirtualClock, WorkerShared,
};
use squall_topology::Plan;
use squall_tuple::ids::ReactorIx;
use squall_tuple::{Batch, BatchKind};

use crate::links::{LinkTotals, Links, View};

/// Reactors that do one step at a time.
pub(crate) trait Rig {
    /// Prepares every task.
    fn prepare(&mut self) -> Result<(), ReceiveError>;

    /// Opens or stops the spouts of one reactor; `false`: this rig can do so for all at once only, and did.
    fn set_gate(&mut self, reactor: ReactorIx, gate: SpoutGate) -> bool;

    /// Adds everything that can happen next to `steps`.
    fn steps(&self, steps: &mut Vec<Step>);

    /// Does one step. Returns whether anything happened.
    fn step(&mut self, step: Step, flush_all: bool) -> Result<bool, ReceiveError>;

    /// Every cohort has finished and nothing is on its way.
    fn finished(&self) -> bool;

    /// Moves the clock to the next deadline; `false`: there is none.
    fn advance(&mut self) -> bool;

    /// Whether a reactor that sleeps would wake by now: its deadline has come. `None`: this rig does not tell.
    fn due(&self, reactor: ReactorIx) -> Option<bool> {
        let _ = reactor;
        None
    }

    /// Whether a reactor's wake was used since the last call. `None`: this rig does not tell.
    fn take_rung(&self, reactor: ReactorIx) -> Option<bool> {
        let _ = reactor;
        None
    }

    /// The reactors.
    fn cores(&self) -> &[Core];

    /// Who waits for whom.
    fn back_pressure(&self) -> Vec<(String, String)>;

    /// Components that are paused on one reactor, as far as this rig can tell.
    fn paused(&self, reactor: ReactorIx) -> Vec<String> {
        let _ = reactor;
        Vec::new()
    }

    /// What the links found wrong.
    fn violation(&self) -> Option<String> {
        None
    }

    /// Checks that are due when everything has finished.
    fn check_settled(&mut self) {}

    /// What is under way.
    fn describe(&self) -> Vec<String> {
        Vec::new()
    }

    /// What happened on the links.
    fn totals(&self) -> LinkTotals {
        LinkTotals::default()
    }
}

/// Counts by component of the plan, summed over reactors.
pub(crate) fn stats(plan: &Plan, cores: &[Core]) -> Vec<ComponentStats> {
    let mut sums = vec![ComponentStats::default(); plan.spec.components.len()];
    for (component, cohort) in cores.iter().flat_map(Core::stats) {
        cohort.add_to(&mut sums[component as usize]);
    }
    sums
}

/// Reactors on audited links. Unlike [`MemCluster`] it lets each reactor begin and stop by itself, as commands arrive
/// at threads, and knows rings from sockets.
pub(crate) struct Cluster {
    clock: VirtualClock,
    registry: Arc<Registry>,
    cores: Vec<Core>,
    links: RefCell<Links>,
    deadlines: Vec<Option<u64>>,
    rung: Vec<Arc<AtomicBool>>,
}

impl Cluster {
    pub(crate) fn new(plan: Arc<Plan>, registry: Arc<Registry>, clock: VirtualClock, link_batches: usize) -> Self {
        let shared: Vec<_> = (0..plan.workers.len() as u32).map(|w| WorkerShared::new(w).0).collect();
        let count = plan.reactors.len();
        let rung: Vec<Arc<AtomicBool>> = (0..count).map(|_| Arc::default()).collect();
        let core = |reactor: ReactorIx| {
            let bell = rung[reactor as usize].clone();
            Core::new(CoreConfig {
                plan: plan.clone(),
                reactor,
                epoch: 0,
                registry: registry.clone(),
                clock: Rc::new(clock.clone()),
                shared: shared[plan.reactors[reactor as usize].worker as usize].clone(),
                wake: Arc::new(move || bell.store(true, Ordering::Relaxed)),
            })
        };
        Cluster {
            cores: (0..count as ReactorIx).map(core).collect(),
            links: RefCell::new(Links::new(plan.clone(), link_batches)),
            deadlines: vec![None; count],
            clock,
            registry,
            rung,
        }
    }

    fn deliver(&mut self, from: ReactorIx, to: ReactorIx, now_ns: u64) -> Result<bool, ReceiveError> {
        let largest = self.links.borrow().largest_batch(from, to);
        let Some(parcel) = self.links.borrow_mut().deliver(from, to) else { return Ok(false) };
        let header = parcel.header();
        // As from another process: nothing is trusted.
        let ty = match header.kind {
            BatchKind::Data => self.registry.types.get(header.stream as usize),
            _ => None,
        };
        let batch = Batch::validate(parcel.bytes(), ty, largest)
            .map_err(|e| LinkError::Malformed { from, cause: e.to_string() })?;
        let mut net = View { me: to, links: &self.links };
        self.cores[to as usize].on_batch(from, &batch, now_ns, &mut net)?;
        parcel.recycle(self.cores[from as usize].pool());
        Ok(true)
    }
}

impl Rig for Cluster {
    fn prepare(&mut self) -> Result<(), ReceiveError> {
        for core in &mut self.cores {
            core.prepare()?;
        }
        Ok(())
    }

    fn set_gate(&mut self, reactor: ReactorIx, gate: SpoutGate) -> bool {
        self.cores[reactor as usize].set_gate(gate);
        true
    }

    fn steps(&self, steps: &mut Vec<Step>) {
        let count = self.cores.len() as ReactorIx;
        steps.extend((0..count).map(Step::Turn));
        let links = self.links.borrow();
        for from in 0..count {
            for to in 0..count {
                if links.has_batch(from, to) {
                    steps.push(Step::Deliver { from, to });
                }
                if links.has_credit(from, to) {
                    steps.push(Step::Credit { from, to });
                }
            }
        }
    }

    fn step(&mut self, step: Step, flush_all: bool) -> Result<bool, ReceiveError> {
        let now_ns = self.clock.now_ns();
        match step {
            Step::Turn(me) => {
                let mut net = View { me, links: &self.links };
                let turn = self.cores[me as usize].turn(now_ns, &mut net, flush_all)?;
                self.deadlines[me as usize] = turn.deadline_ns;
                Ok(turn.progress)
            }
            Step::Deliver { from, to } => self.deliver(from, to, now_ns),
            Step::Credit { from, to } => Ok(self.links.borrow_mut().return_credit(from, to)),
        }
    }

    fn finished(&self) -> bool {
        self.cores.iter().all(Core::finished) && self.links.borrow().idle()
    }

    fn advance(&mut self) -> bool {
        let Some(at) = self.deadlines.iter().flatten().min().copied() else { return false };
        self.clock.advance(at.saturating_sub(self.clock.now_ns()).max(1));
        true
    }

    fn due(&self, reactor: ReactorIx) -> Option<bool> {
        Some(self.deadlines[reactor as usize].is_some_and(|at| at <= self.clock.now_ns()))
    }

    fn take_rung(&self, reactor: ReactorIx) -> Option<bool> {
        Some(self.rung[reactor as usize].swap(false, Ordering::Relaxed))
    }

    fn cores(&self) -> &[Core] {
        &self.cores
    }

    fn back_pressure(&self) -> Vec<(String, String)> {
        let view = |me| View { me, links: &self.links };
        self.cores.iter().flat_map(|c| c.back_pressure(&view(c.reactor()))).collect()
    }

    fn paused(&self, reactor: ReactorIx) -> Vec<String> {
        let core = &self.cores[reactor as usize];
        if !core.paused() {
            return Vec::new();
        }
        let view = View { me: reactor, links: &self.links };
        core.back_pressure(&view).into_iter().map(|(waiting, _)| waiting).collect()
    }

    fn violation(&self) -> Option<String> {
        self.links.borrow().violation()
    }

    fn check_settled(&mut self) {
        self.links.borrow_mut().check_settled();
    }

    fn describe(&self) -> Vec<String> {
        self.links.borrow().describe()
    }

    fn totals(&self) -> LinkTotals {
        self.links.borrow().totals
    }
}

impl Rig for MemCluster {
    fn prepare(&mut self) -> Result<(), ReceiveError> {
        Ok(self.start()?)
    }

    fn set_gate(&mut self, _: ReactorIx, gate: SpoutGate) -> bool {
        MemCluster::set_gate(self, gate);
        false
    }

    fn steps(&self, steps: &mut Vec<Step>) {
        steps.extend(MemCluster::steps(self));
    }

    fn step(&mut self, step: Step, flush_all: bool) -> Result<bool, ReceiveError> {
        MemCluster::step(self, step, flush_all)
    }

    fn finished(&self) -> bool {
        MemCluster::finished(self)
    }

    fn advance(&mut self) -> bool {
        MemCluster::advance(self, u64::MAX)
    }

    fn cores(&self) -> &[Core] {
        MemCluster::cores(self)
    }

    fn back_pressure(&self) -> Vec<(String, String)> {
        MemCluster::back_pressure(self)
    }
}
