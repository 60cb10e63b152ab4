//! All reactors of a plan on one thread, with memory between them and a virtual clock: the test harness runs it in
//! plain order, the simulator in any legal one.
//!
//! Legal means what real links may do: batches of one link arrive in order, those of different links in any order and
//! any time later; credit comes back late; a reactor may be slow. A link holds a bounded number of batches. A worker may be lost at any step and
//! begin another life later ([`MemCluster::lose_worker`], [`MemCluster::restart_worker`]); what its last life had sent may still arrive then.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use squall_topology::Plan;
use squall_tuple::ids::{ReactorIx, WorkerIx};
use squall_tuple::{Batch, BatchBuf, BatchKind};

use crate::board::Board;
use crate::clock::{Clock, VirtualClock};
use crate::env::Registry;
use crate::fault::{Fault, LinkError};
use crate::logic::{Core, CoreConfig, ReceiveError, SpoutGate};
use crate::net::{Net, Offered};
use crate::shared::{WorkerReceivers, WorkerShared};
use crate::stats::ComponentStats;

/// One reactor's links, in memory.
pub struct MemNet {
    /// By destination: batches on their way.
    pub out: Vec<VecDeque<BatchBuf>>,
    /// Batches a link holds before it refuses.
    pub link_batches: usize,
    /// By destination: gone, so that nothing is taken for it.
    gone: Vec<bool>,
    /// By destination and inbox: what came back of our bytes.
    consumed: Vec<BTreeMap<u32, u64>>,
    /// By sender: credit we gave and that has not arrived there.
    returned: Vec<VecDeque<(u32, u64)>>,
}

impl MemNet {
    /// Links of one reactor to `reactors` reactors.
    pub fn new(reactors: usize, link_batches: usize) -> Self {
        MemNet {
            out: (0..reactors).map(|_| VecDeque::new()).collect(),
            link_batches,
            gone: vec![false; reactors],
            consumed: vec![BTreeMap::new(); reactors],
            returned: vec![VecDeque::new(); reactors],
        }
    }
}

impl Net for MemNet {
    fn offer(&mut self, to: ReactorIx, batch: BatchBuf) -> Offered {
        let link = &mut self.out[to as usize];
        if self.gone[to as usize] || link.len() >= self.link_batches {
            return Offered::Refused(batch);
        }
        link.push_back(batch);
        Offered::Taken
    }

    fn backlog(&self, to: ReactorIx) -> usize {
        self.out[to as usize].len()
    }

    fn consumed(&self, to: ReactorIx, inbox: u32) -> u64 {
        self.consumed[to as usize].get(&inbox).copied().unwrap_or(0)
    }

    fn consume(&mut self, from: ReactorIx, inbox: u32, bytes: u64) {
        self.returned[from as usize].push_back((inbox, bytes));
    }
}

impl MemNet {
    /// The link to a reactor, both ways as far as this end knows it, is no more.
    fn forget(&mut self, peer: ReactorIx) {
        self.out[peer as usize].clear();
        self.consumed[peer as usize].clear();
        self.returned[peer as usize].clear();
        self.gone[peer as usize] = true;
    }
}

/// One thing that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A reactor turns.
    Turn(ReactorIx),
    /// The oldest batch of a link arrives.
    Deliver {
        /// Sender.
        from: ReactorIx,
        /// Receiver.
        to: ReactorIx,
    },
    /// The oldest credit of a link arrives.
    Credit {
        /// The reactor that consumed.
        from: ReactorIx,
        /// The reactor that may send more.
        to: ReactorIx,
    },
}

/// See the module.
pub struct MemCluster {
    plan: Arc<Plan>,
    registry: Arc<Registry>,
    clock: VirtualClock,
    cores: Vec<Core>,
    /// By worker: its life, and whether it is gone at the moment.
    lives: Vec<(u32, bool)>,
    /// What workers that are gone had sent: sender, receiver, batch.
    left_over: Vec<(ReactorIx, ReactorIx, BatchBuf)>,
    board: Board,
    gate: SpoutGate,
    wake: crate::env::Wake,
    nets: Vec<MemNet>,
    deadlines: Vec<Option<u64>>,
    receivers: WorkerReceivers,
    shared: Arc<WorkerShared>,
    largest_batch: usize,
    /// Holds a message once a waker was used.
    woken: crossbeam_channel::Receiver<()>,
}

impl MemCluster {
    /// All reactors of `plan`; links hold `link_batches` batches each.
    pub fn new(plan: Arc<Plan>, registry: Arc<Registry>, clock: VirtualClock, link_batches: usize) -> Self {
        let (shared, receivers) = WorkerShared::new(0);
        let count = plan.reactors.len();
        let (wake, woken) = crossbeam_channel::bounded(1);
        // A full channel says all there is to say.
        let wake: crate::env::Wake = Arc::new(move || {
            let _ = wake.try_send(());
        });
        let config = &plan.spec.config;
        let mut cluster = MemCluster {
            cores: Vec::new(),
            lives: vec![(0, false); plan.workers.len()],
            left_over: Vec::new(),
            board: Board::heap(&plan),
            gate: SpoutGate::Waiting,
            wake,
            nets: (0..count).map(|_| MemNet::new(count, link_batches)).collect(),
            deadlines: vec![None; count],
            largest_batch: config.max_tuple_bytes.max(config.socket_batch_bytes) as usize * 2,
            plan,
            registry,
            clock,
            receivers,
            shared,
            woken,
        };
        cluster.cores = (0..count as ReactorIx).map(|reactor| cluster.core(reactor)).collect();
        cluster
    }

    /// A reactor in its worker's present life.
    fn core(&self, reactor: ReactorIx) -> Core {
        let worker = self.plan.reactors[reactor as usize].worker;
        let config = CoreConfig {
            plan: self.plan.clone(),
            reactor,
            epoch: self.lives[worker as usize].0,
            registry: self.registry.clone(),
            clock: Rc::new(self.clock.clone()),
            shared: self.shared.clone(),
            wake: self.wake.clone(),
        };
        let mut core = Core::on_board(config, &self.board);
        core.set_epochs(&self.lives.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>());
        core
    }

    /// Waits, in real time, until a waker of a task is used, or was since the last call; `false` if none is within `most`.
    pub fn wait_for_wake(&self, most: Duration) -> bool {
        self.woken.recv_timeout(most).is_ok()
    }

    /// Prepares every task and opens the spouts.
    pub fn start(&mut self) -> Result<(), Fault> {
        for core in &mut self.cores {
            core.prepare()?;
        }
        self.set_gate(SpoutGate::Open);
        Ok(())
    }

    /// Opens or stops all spouts.
    pub fn set_gate(&mut self, gate: SpoutGate) {
        self.gate = gate;
        for core in &mut self.cores {
            core.set_gate(gate);
        }
    }

    /// Everything that can happen next.
    pub fn steps(&self) -> Vec<Step> {
        let count = self.cores.len() as ReactorIx;
        let mut steps: Vec<Step> = (0..count).filter(|r| !self.is_gone(*r)).map(Step::Turn).collect();
        for from in 0..count {
            for to in 0..count {
                if !self.nets[from as usize].out[to as usize].is_empty() && !self.is_gone(to) {
                    steps.push(Step::Deliver { from, to });
                }
                if !self.nets[from as usize].returned[to as usize].is_empty() {
                    steps.push(Step::Credit { from, to });
                }
            }
        }
        steps
    }

    /// Does one step. Returns whether anything happened.
    pub fn step(&mut self, step: Step, flush_all: bool) -> Result<bool, ReceiveError> {
        let now = self.clock.now_ns();
        match step {
            Step::Turn(r) => {
                let turn = self.cores[r as usize].turn(now, &mut self.nets[r as usize], flush_all)?;
                self.deadlines[r as usize] = turn.deadline_ns;
                Ok(turn.progress)
            }
            Step::Deliver { from, to } => {
                let Some(buf) = self.nets[from as usize].out[to as usize].pop_front() else {
                    return Ok(false);
                };
                // As from another process: nothing is trusted.
                let ty = match buf.view().kind() {
                    BatchKind::Data => self.registry.types.get(buf.view().stream() as usize),
                    _ => None,
                };
                let batch = Batch::validate(&buf, ty, self.largest_batch)
                    .map_err(|e| LinkError::Malformed { from, cause: e.to_string() })?;
                self.cores[to as usize].on_batch(from, &batch, now, &mut self.nets[to as usize])?;
                self.cores[from as usize].pool().give(buf);
                Ok(true)
            }
            Step::Credit { from, to } => {
                let Some((inbox, bytes)) = self.nets[from as usize].returned[to as usize].pop_front() else {
                    return Ok(false);
                };
                *self.nets[to as usize].consumed[from as usize].entry(inbox).or_default() += bytes;
                Ok(true)
            }
        }
    }

    fn is_gone(&self, reactor: ReactorIx) -> bool {
        self.lives[self.plan.reactors[reactor as usize].worker as usize].1
    }

    /// A worker is lost with all its state, and the others hear of it. What it had sent and the others have not taken arrives once it has begun
    /// another life, and must be refused then.
    pub fn lose_worker(&mut self, worker: WorkerIx) {
        let reactors = self.plan.workers[worker as usize].reactors.clone();
        self.lives[worker as usize].1 = true;
        for r in &reactors {
            let sent = self.nets[*r as usize].out.iter_mut().enumerate();
            let sent = sent.flat_map(|(to, link)| link.drain(..).map(move |batch| (*r, to as ReactorIx, batch)));
            self.left_over.extend(sent.filter(|(_, to, _)| !reactors.contains(to)));
            self.deadlines[*r as usize] = None;
        }
        // Of two lost workers neither hears what the other had said.
        let plan = self.plan.clone();
        self.left_over.retain(|(_, to, _)| plan.reactors[*to as usize].worker != worker);
        for (at, core) in self.cores.iter_mut().enumerate().filter(|(at, _)| !reactors.contains(&(*at as ReactorIx))) {
            reactors.iter().for_each(|r| self.nets[at].forget(*r));
            core.lose_worker(worker);
            self.deadlines[at] = Some(self.clock.now_ns());
        }
        self.board.bury(worker);
    }

    /// A lost worker begins another life, and the others hear of it.
    ///
    /// # Errors
    /// A component could not be prepared.
    pub fn restart_worker(&mut self, worker: WorkerIx) -> Result<(), Fault> {
        let reactors = self.plan.workers[worker as usize].reactors.clone();
        let (epoch, gone) = &mut self.lives[worker as usize];
        assert!(*gone, "worker {worker} is lost");
        (*epoch, *gone) = (*epoch + 1, false);
        let epoch = *epoch;
        for r in &reactors {
            let mut core = self.core(*r);
            core.prepare()?;
            core.set_gate(self.gate);
            self.nets[*r as usize] = MemNet::new(self.nets.len(), self.nets[*r as usize].link_batches);
            for (other, _) in self.lives.iter().enumerate().filter(|(_, (_, gone))| *gone) {
                self.plan.workers[other].reactors.iter().for_each(|p| self.nets[*r as usize].forget(*p));
                core.lose_worker(other as WorkerIx);
            }
            self.cores[*r as usize] = core;
            self.deadlines[*r as usize] = Some(self.clock.now_ns());
        }
        for at in (0..self.cores.len()).filter(|at| !reactors.contains(&(*at as ReactorIx))) {
            reactors.iter().for_each(|r| self.nets[at].gone[*r as usize] = false);
            self.cores[at].rejoin_worker(worker, epoch);
            self.deadlines[at] = Some(self.clock.now_ns());
        }
        for (from, to, batch) in self.left_over.extract_if(.., |(from, ..)| reactors.contains(from)) {
            self.nets[from as usize].out[to as usize].push_back(batch);
        }
        Ok(())
    }

    /// Workers that are lost and have not begun another life.
    pub fn gone(&self) -> Vec<WorkerIx> {
        (0..).zip(&self.lives).filter(|(_, (_, gone))| *gone).map(|(worker, _)| worker).collect()
    }

    /// The counts of all workers, in all their lives, by component.
    pub fn stats(&self) -> Vec<ComponentStats> {
        let mut sums = vec![ComponentStats::default(); self.plan.spec.components.len()];
        (0..self.lives.len()).for_each(|worker| self.board.add_worker(worker as WorkerIx, &mut sums));
        sums
    }

    /// Every cohort has finished and nothing is on its way.
    pub fn finished(&self) -> bool {
        self.gone().is_empty()
            && self.cores.iter().all(Core::finished)
            && self.nets.iter().all(|n| n.out.iter().all(VecDeque::is_empty))
    }

    /// Runs in plain order until everything has finished, or nothing happens any more: then `Ok(false)`. Time moves on
    /// when nothing else can happen; `until_ns` bounds it.
    pub fn run(&mut self, until_ns: u64) -> Result<bool, ReceiveError> {
        loop {
            let mut progress = false;
            for step in self.steps() {
                progress |= self.step(step, true)?;
            }
            if self.finished() {
                return Ok(true);
            }
            if !progress && !self.advance(until_ns) {
                return Ok(false);
            }
        }
    }

    /// When something is due next, if nothing comes before.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Moves the clock to the next deadline. `false`: there is none before `until_ns`.
    pub fn advance(&mut self, until_ns: u64) -> bool {
        let now = self.clock.now_ns();
        match self.next_deadline_ns() {
            Some(at) if at <= until_ns => {
                self.clock.advance(at.saturating_sub(now).max(1));
                true
            }
            _ => false,
        }
    }

    /// The clock of all reactors.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The reactors.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// Who waits for whom, over all reactors.
    pub fn back_pressure(&self) -> Vec<(String, String)> {
        self.cores.iter().zip(&self.nets).flat_map(|(c, n)| c.back_pressure(n)).collect()
    }

    /// Log lines, warnings and result rows of the components.
    pub fn receivers(&self) -> &WorkerReceivers {
        &self.receivers
    }

    /// User counters and resources.
    pub fn shared(&self) -> &Arc<WorkerShared> {
        &self.shared
    }
}
