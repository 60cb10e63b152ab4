//! All reactors of a plan on one thread, with memory between them and a virtual clock: the test harness runs it in
//! plain order, the simulator in any legal one.
//!
//! Legal means what real links may do: batches of one link arrive in order, those of different links in any order and
//! any time later; credit comes back late; a reactor may be slow. A link holds a bounded number of batches.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use squall_topology::Plan;
use squall_tuple::ids::{ReactorIx, WorkerIx};
use squall_tuple::{Batch, BatchBuf, BatchKind};

use crate::clock::{Clock, VirtualClock};
use crate::env::Registry;
use crate::fault::{Fault, LinkError};
use crate::ledger::worker_bit;
use crate::logic::{Core, CoreConfig, ReceiveError, SpoutGate};
use crate::net::{Net, Offered};
use crate::shared::{WorkerReceivers, WorkerShared};

/// One reactor's links, in memory.
pub struct MemNet {
    /// By destination: batches on their way.
    pub out: Vec<VecDeque<BatchBuf>>,
    /// Batches a link holds before it refuses.
    pub link_batches: usize,
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
            consumed: vec![BTreeMap::new(); reactors],
            returned: vec![VecDeque::new(); reactors],
        }
    }
}

impl Net for MemNet {
    fn offer(&mut self, to: ReactorIx, batch: BatchBuf) -> Offered {
        let link = &mut self.out[to as usize];
        if link.len() >= self.link_batches {
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
        let cores = (0..count as ReactorIx).map(|reactor| {
            Core::new(CoreConfig {
                plan: plan.clone(),
                reactor,
                epoch: 0,
                registry: registry.clone(),
                clock: Rc::new(clock.clone()),
                shared: shared.clone(),
                wake: wake.clone(),
            })
        });
        let config = &plan.spec.config;
        MemCluster {
            cores: cores.collect(),
            nets: (0..count).map(|_| MemNet::new(count, link_batches)).collect(),
            deadlines: vec![None; count],
            largest_batch: config.max_tuple_bytes.max(config.socket_batch_bytes) as usize * 2,
            plan,
            registry,
            clock,
            receivers,
            shared,
            woken,
        }
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
        for core in &mut self.cores {
            core.set_gate(gate);
        }
    }

    /// Everything that can happen next.
    pub fn steps(&self) -> Vec<Step> {
        let count = self.cores.len() as ReactorIx;
        let mut steps: Vec<Step> = (0..count).map(Step::Turn).collect();
        for from in 0..count {
            for to in 0..count {
                if !self.nets[from as usize].out[to as usize].is_empty() {
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

    /// All reactors hear that a worker is gone. Its reactors go on: their batches are as those of a worker that others
    /// believe dead.
    pub fn lose_worker(&mut self, worker: WorkerIx) {
        for core in &mut self.cores {
            core.lose_workers(worker_bit(worker));
        }
    }

    /// Every cohort has finished and nothing is on its way.
    pub fn finished(&self) -> bool {
        self.cores.iter().all(Core::finished) && self.nets.iter().all(|n| n.out.iter().all(VecDeque::is_empty))
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

    /// Moves the clock to the next deadline. `false`: there is none before `until_ns`.
    pub fn advance(&mut self, until_ns: u64) -> bool {
        let now = self.clock.now_ns();
        match self.deadlines.iter().flatten().min() {
            Some(&at) if at <= until_ns => {
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
