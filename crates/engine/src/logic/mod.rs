//! The logic of one reactor as a value: it takes batches and `now`, runs cohorts, and offers batches to a [`Net`].
//! It opens nothing, sleeps never and reads no clock but the one it is given, so the same code runs on a pinned
//! thread, in a unit test and under the simulator.
//!
//! # How nothing deadlocks
//! 1. What arrives is always taken: executed where it lies if its cohort is free, else moved to the cohort's inbox,
//!    whose memory is bounded by the credit of the links that lead there. So no link ever stays full because of one
//!    paused cohort, and nothing waits behind a batch that is not its own.
//! 2. A cohort is paused exactly while a batch of its own could not leave (`pending`). Paused, it executes nothing
//!    and emits nothing.
//! 3. The topology without feedback edges has no cycle, so of all paused cohorts one is the most downstream; those
//!    it waits for are not paused, they execute what they hold, their credit returns, and it goes on.
//! 4. A feedback edge never makes its sender wait: without credit its tuples are failed and counted (D3).
//!
//! `crates/sim` hunts for a counter-example.

mod budget;
mod peers;
mod receive;
mod restart;
mod roots;
mod send;
mod slot;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use squall_metrics::Histogram;
use squall_topology::{ComponentKind, DEAD_LETTERS, Plan};
use squall_tuple::ids::{ComponentIx, ReactorIx, TaskId};
use squall_tuple::{RootId, TupleType};

use crate::acks::AckFolds;
use crate::board::Board;
use crate::clock::Clock;
use crate::cohort::{Finish, SpoutTurn};
use crate::credit::{LinkCredit, Way};
use crate::env::{CohortEnv, Registry, Wake};
use crate::fault::{Fault, FaultKind};
use crate::inbox::{EndTracker, Inbox};
use crate::ledger::{Ended, Ledger, LedgerConfig};
use crate::log::Level;
use crate::net::Net;
use crate::outbox::{Outbox, OutboxParts};
use crate::pool::BatchPool;
use crate::shared::{WorkerEvent, WorkerShared};
use crate::stats::{CohortStats, LinkBooks, LinkStats};

pub use receive::ReceiveError;
pub(crate) use slot::{Life, Slot};

/// Calls of `Spout::next` per turn and cohort, at most: a socket's batch of the smallest tuples. Slow spouts stop earlier,
/// by the clock.
const SPOUT_BUDGET: u32 = 4096;
/// Bytes of batches for which a spout's turn ends. No more than a batch of the usual size, so that such ones leave one by one; of small ones
/// several leave together.
const SENT_ENOUGH: u64 = 8 << 10;
/// Batches a link may hold before a batch that is not full waits for company (batching by arrival, design §3).
const BACKLOG_BEFORE_BATCHING: usize = 2;
/// Room that the queues of a cohort begin with; they grow to what their bounds in bytes allow.
const QUEUES_BEGIN_WITH: usize = 64;
/// Spreads epochs over seeds and generations: the golden ratio, odd, so different epochs stay different.
const EPOCH_SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// How often load-aware groupings learn the load.
const LOAD_REFRESH_NS: u64 = 100_000_000;
/// How soon a component that can go on but has nothing to show (an idle spout, `Finish::More` without an emit) is
/// asked again when the reactor sleeps.
pub(crate) const IDLE_POLL_NS: u64 = 1_000_000;

/// Who may emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoutGate {
    /// Before the start: spouts wait.
    Waiting,
    /// Spouts run.
    Open,
    /// Spouts were told to end.
    Stopped,
    /// Spouts are not called until they are open again; all else goes on.
    Paused,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Something was executed, emitted or sent.
    pub progress: bool,
    /// If nothing else happens, turn again at this time.
    pub deadline_ns: Option<u64>,
}

/// What a reactor is made from.
pub struct CoreConfig {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Which of its reactors this is.
    pub reactor: ReactorIx,
    /// Incarnation of the worker; its batches carry it.
    pub epoch: u32,
    /// The code behind the plan.
    pub registry: Arc<Registry>,
    /// Time.
    pub clock: Rc<dyn Clock>,
    /// What the worker's components share.
    pub shared: Arc<WorkerShared>,
    /// Wakes this reactor from other threads.
    pub wake: Wake,
}

/// See the module.
pub struct Core {
    plan: Arc<Plan>,
    me: ReactorIx,
    epoch: u32,
    /// By reactor: incarnation of its worker; batches of another are refused.
    epochs: Vec<u32>,
    refused_batches: u64,
    /// Workers to which there are links and which are gone, by bit.
    away: u32,
    registry: Arc<Registry>,
    clock: Rc<dyn Clock>,
    shared: Arc<WorkerShared>,
    pool: Rc<BatchPool>,
    slots: Vec<Slot>,
    /// By [`Way::index`]: slots here that subscribe to it, with the port it arrives on.
    subscribers: Vec<Vec<(usize, u16)>>,
    /// By reactor.
    tx_seq: Vec<u64>,
    tx_credit: Vec<LinkCredit>,
    rx_seq: Vec<u64>,
    window: u64,
    gate: SpoutGate,
    latency: Rc<RefCell<Histogram>>,
    first_sink_ns: Option<u64>,
    next_load_ns: u64,
    has_load_aware: bool,
    has_spouts: bool,
    /// What the cohorts here say of roots.
    acks: Rc<AckFolds>,
    /// By task: the slot of the spout here that it belongs to.
    ledger_of: Vec<Option<u32>>,
    /// Scratch of `tell_spout`.
    ended: Vec<Ended>,
    books: LinkBooks,
    /// Scratch of `drain`.
    refused: Vec<ReactorIx>,
    /// Until then calls are timed, for one was too long.
    watch_until_ns: u64,
}

impl Core {
    /// Builds the cohorts of one reactor; [`Core::prepare`] comes next.
    pub fn new(config: CoreConfig) -> Core {
        let board = Board::heap(&config.plan);
        Core::on_board(config, &board)
    }

    /// As [`Core::new`], counting on the board of a run.
    pub fn on_board(config: CoreConfig, board: &Board) -> Core {
        let CoreConfig { plan, reactor: me, epoch, registry, clock, shared, wake } = config;
        let pool = Rc::new(BatchPool::new());
        let latency = Rc::new(RefCell::new(Histogram::new()));
        let worker = plan.reactors[me as usize].worker;
        let now = clock.now_ns();
        let acks = Rc::new(AckFolds::new(&plan, me));
        let mut ledger_of = vec![None; plan.tasks.len()];
        let mut slots = Vec::new();
        let mut subscribers = vec![Vec::new(); plan.spec.streams.len() * 2];
        for cohort in plan.cohorts_of(me) {
            let spec = &plan.spec.components[cohort.component as usize];
            let spout = spec.kind == ComponentKind::Spout;
            let hooks = registry.hooks.get(cohort.component as usize);
            let outbox = Rc::new(Outbox::new(OutboxParts {
                component: cohort.component,
                reactor: me,
                epoch,
                pool: pool.clone(),
                burst_bytes: spec.burst_bytes,
                // Another in each life: edges and roots of the one before must not be met again.
                seed: plan.hash() ^ u64::from(cohort.tasks[0]) << 20 ^ u64::from(epoch).wrapping_mul(EPOCH_SPREAD),
                wake: wake.clone(),
                hooks: hooks.map_or_else(Vec::new, |h| h.iter().map(|f| f()).collect()),
                registry: registry.clone(),
                acks: acks.clone(),
                ledger: spout.then(|| {
                    let ledger = Ledger::new(ledger_config(&plan, cohort.tasks.len()), &cohort.tasks);
                    ledger.from_generation((u64::from(epoch).wrapping_mul(EPOCH_SPREAD) >> 48) as u16)
                }),
                acking: plan.spec.config.acking(),
            }));
            if spout {
                cohort.tasks.iter().for_each(|t| ledger_of[*t as usize] = Some(slots.len() as u32));
            }
            let goes_on =
                |s: &u32| plan.spec.streams[*s as usize].name != DEAD_LETTERS && !plan.subscribers_of(*s).is_empty();
            let is_sink = !plan.streams_of(cohort.component).iter().any(goes_on);
            let env = CohortEnv {
                plan: plan.clone(),
                component: cohort.component,
                reactor: me,
                worker,
                tasks: cohort.tasks.clone(),
                outbox: outbox.clone(),
                clock: clock.clone(),
                latency: (is_sink && !spout).then(|| latency.clone()),
                shared: shared.clone(),
                wake: wake.clone(),
                registry: registry.clone(),
            };
            let mut expected = Vec::new();
            for sub in plan.inputs_of(cohort.component) {
                let sub = &plan.spec.subscriptions[*sub as usize];
                let way = Way { stream: sub.stream, feedback: sub.feedback };
                subscribers[way.index()].push((slots.len(), sub.port));
                if !sub.feedback {
                    expected.push((sub.stream, plan.source_tasks(sub.stream).len()));
                }
            }
            let tick_ns = spec.tick_ms.map(|ms| ms * 1_000_000);
            slots.push(Slot {
                component: cohort.component,
                name: spec.name.clone(),
                inbox_ix: plan.inbox_at(cohort.component, me),
                tasks: cohort.tasks.clone(),
                cohort: registry.cohorts[cohort.component as usize](env),
                outbox,
                inbox: Inbox { queue: VecDeque::with_capacity(QUEUES_BEGIN_WITH), local_bytes: 0 },
                ends: EndTracker::new(&expected),
                ended: Vec::new(),
                pending: VecDeque::with_capacity(QUEUES_BEGIN_WITH),
                stalled: None,
                life: Life::Running,
                down: None,
                restarts: Default::default(),
                suspects: Default::default(),
                spout,
                is_sink: is_sink && !spout,
                tick_ns,
                next_tick_ns: now + tick_ns.unwrap_or(0),
                flushed_at: 0,
                more: false,
                published: Default::default(),
                roots_told: (0, 0),
                lost_told: 0,
                stats: board.cohort(cohort.component, me),
                pulse: board.reactor(me),
            });
        }
        let reactors = plan.reactors.len();
        let window = plan.spec.config.credit_bytes;
        let load_aware =
            |s: &squall_topology::SubscriptionSpec| matches!(s.grouping, squall_topology::Grouping::LoadAwareShuffle);
        let has_load_aware = plan.spec.subscriptions.iter().any(load_aware);
        let books = LinkBooks::new(&plan, me);
        let has_spouts = slots.iter().any(|s| s.spout);
        let tx_credit = (0..reactors as ReactorIx).map(|to| LinkCredit::new(inboxes_by_way(&plan, to))).collect();
        Core {
            plan,
            me,
            epoch,
            epochs: vec![epoch; reactors],
            refused_batches: 0,
            away: 0,
            registry,
            clock,
            shared,
            pool,
            slots,
            subscribers,
            tx_seq: vec![0; reactors],
            tx_credit,
            rx_seq: vec![0; reactors],
            window,
            gate: SpoutGate::Waiting,
            latency,
            first_sink_ns: None,
            next_load_ns: 0,
            has_load_aware,
            has_spouts,
            acks,
            ledger_of,
            ended: Vec::new(),
            books,
            refused: Vec::new(),
            watch_until_ns: 0,
        }
    }

    /// Prepares every task. Call once, before the first turn.
    pub fn prepare(&mut self) -> Result<(), Fault> {
        for slot in &mut self.slots {
            slot.outbox.prepare_hooks(&slot.name, &slot.tasks);
            slot.guarded(|c| c.prepare()).map_err(|mut fault| {
                if fault.kind != FaultKind::Panic {
                    fault.kind = FaultKind::Prepare;
                }
                fault
            })?;
        }
        Ok(())
    }

    /// Opens, pauses or stops the spouts. Stopping is final.
    pub fn set_gate(&mut self, gate: SpoutGate) {
        if self.gate == SpoutGate::Stopped || self.gate == gate {
            return;
        }
        self.gate = gate;
        for slot in self.slots.iter_mut().filter(|s| s.spout) {
            if gate == SpoutGate::Stopped {
                slot.cohort.stop_spout();
            }
        }
    }

    /// One turn: everything that waits gets its share. `flush_all`: batches that are not full leave whatever their
    /// link's backlog (the last turn had nothing else to do).
    pub fn turn(&mut self, now_ns: u64, net: &mut dyn Net, flush_all: bool) -> Result<Turn, Fault> {
        let mut turn = Turn::default();
        if self.has_load_aware && now_ns >= self.next_load_ns {
            self.next_load_ns = now_ns + LOAD_REFRESH_NS;
            self.refresh_load(net);
        }
        for at in 0..self.slots.len() {
            if self.slots[at].rests() {
                continue;
            }
            turn.progress |= self.drain(at, now_ns, net)?;
            turn.progress |= self.run_inbox(at, now_ns, net)?;
            if self.slots[at].outbox.has_roots() {
                self.settle_roots(at, now_ns, &mut turn)?;
            }
            if self.slots[at].tick_ns.is_some() && self.slots[at].callable() {
                self.tick(at, now_ns, &mut turn)?;
                turn.progress |= self.drain(at, now_ns, net)?;
            }
            // Asked again: its tick may have ended the executor, whose instance is not called any more.
            if self.slots[at].callable() {
                if self.slots[at].spout {
                    self.run_spout(at, now_ns, net, &mut turn)?;
                    if self.slots[at].life == Life::Finishing {
                        self.end_spout(at, &mut turn)?;
                    }
                } else if self.slots[at].life == Life::Finishing {
                    self.finish(at, now_ns, net, &mut turn)?;
                }
            }
            turn.progress |= self.flush(at, now_ns, net, flush_all)?;
            // Last, so that the counts of a cohort that has just finished hold the anchors it ended in its last calls.
            if self.slots[at].outbox.has_home() {
                turn.progress |= self.slots[at].outbox.drain_home() > 0;
                self.wake_bolt(at, now_ns, net)?;
            }
            if self.slots[at].down.is_some() {
                self.revive(at, now_ns, &mut turn)?;
            }
            // Roots that went nowhere have ended in this very turn: the spout is told in the next.
            turn.progress |= self.slots[at].has_news();
            self.slots[at].publish();
            if self.slots[at].published.failed > 0 {
                self.report_causes(at);
            }
        }
        if self.acks.is_live() {
            self.send_acks(now_ns, net, flush_all, &mut turn);
        }
        Ok(turn)
    }

    fn tick(&mut self, at: usize, now_ns: u64, turn: &mut Turn) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        let Some(period) = slot.tick_ns else {
            return Ok(());
        };
        // A spout that waits for its start has not begun to live; ticks begin with the run.
        if self.gate == SpoutGate::Waiting {
            slot.next_tick_ns = now_ns + period;
            return Ok(());
        }
        if now_ns >= slot.next_tick_ns {
            // Ticks missed while the reactor was busy are not made up for: the next is a period from the last due time
            // still ahead.
            let missed = (now_ns - slot.next_tick_ns) / period;
            slot.next_tick_ns += (missed + 1) * period;
            slot.outbox.set_origin(now_ns);
            let next_tick_ns = slot.next_tick_ns;
            let ticked = self.watched(at, |me| me.slots[at].guarded(|c| c.tick()));
            self.survive(at, ticked)?;
            turn.progress = true;
            earliest(&mut turn.deadline_ns, next_tick_ns);
            return Ok(());
        }
        earliest(&mut turn.deadline_ns, slot.next_tick_ns);
        Ok(())
    }

    fn run_spout(&mut self, at: usize, now_ns: u64, net: &mut dyn Net, turn: &mut Turn) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        if matches!(self.gate, SpoutGate::Waiting | SpoutGate::Paused) || slot.life != Life::Running || self.away != 0 {
            return Ok(());
        }
        slot.outbox.set_origin(now_ns);
        let (mut began, mut budget, mut sent) = (Some(now_ns), SPOUT_BUDGET, 0);
        loop {
            let ran = self.watched(at, |me| me.slots[at].guarded(|c| c.run_spout(budget, began)));
            // Counted before they leave: who finds this worker dead knows of every root that others may know of.
            self.slots[at].publish_roots();
            let Some(end) = self.survive(at, ran)? else {
                turn.progress = true;
                return self.drain(at, now_ns, net).map(drop);
            };
            sent += self.slots[at].outbox.sealed_bytes();
            self.spout_ran(at, now_ns, end, turn)?;
            self.drain(at, now_ns, net)?;
            budget = budget.saturating_sub(end.calls);
            let slot = &self.slots[at];
            if !slot.more || slot.paused() || sent >= SENT_ENOUGH || budget == 0 {
                return Ok(());
            }
            began = None;
        }
    }

    fn spout_ran(&mut self, at: usize, now_ns: u64, end: SpoutTurn, turn: &mut Turn) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        slot.more = slot.outbox.has_sealed() && !end.ended;
        if end.some_ended {
            let mut ended = Vec::new();
            slot.cohort.take_ended(&mut ended);
            slot.send_ends(&ended);
        }
        if end.ended {
            slot.life = Life::Finishing;
        }
        turn.progress |= end.progress || end.ended;
        if let Some(wake) = end.wake_at_ns {
            earliest(&mut turn.deadline_ns, wake);
        }
        if end.idle {
            earliest(&mut turn.deadline_ns, now_ns + IDLE_POLL_NS);
        }
        Ok(())
    }

    /// The last call of a spout comes when its tasks know what became of all their roots.
    fn end_spout(&mut self, at: usize, turn: &mut Turn) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        if slot.outbox.ledger().is_some_and(|l| !l.borrow().is_empty()) {
            return Ok(());
        }
        slot.life = Life::Finished;
        turn.progress = true;
        slot.guarded(|c| {
            c.cleanup();
            Ok(())
        })
    }

    fn finish(&mut self, at: usize, now_ns: u64, net: &mut dyn Net, turn: &mut Turn) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        slot.outbox.set_origin(now_ns);
        slot.outbox.set_source(slot.tasks[0]);
        let before = slot.outbox.counts().emitted;
        let step = slot.finish_step();
        let Some(end) = self.survive(at, step)? else { return Ok(()) };
        if end == Finish::Done || self.slots[at].outbox.counts().emitted != before {
            turn.progress = true;
        } else {
            earliest(&mut turn.deadline_ns, now_ns + IDLE_POLL_NS);
        }
        self.drain(at, now_ns, net)?;
        Ok(())
    }

    fn report_causes(&mut self, at: usize) {
        let slot = &self.slots[at];
        for cause in slot.outbox.take_causes() {
            self.shared.event(WorkerEvent::Log {
                level: Level::Warn,
                component: slot.name.clone(),
                task: slot.outbox.source(),
                text: format!("failed a tuple: {cause}"),
            });
        }
    }

    fn refresh_load(&mut self, net: &dyn Net) {
        let Core { slots, plan, tx_credit, me, window, .. } = self;
        let local: Vec<(ComponentIx, u64)> = slots.iter().map(|s| (s.component, s.inbox.local_bytes)).collect();
        let load = |task: TaskId| {
            let component = plan.tasks[task as usize].component;
            let to = plan.tasks[task as usize].reactor;
            let Some(inbox) = plan.inbox_at(component, to) else {
                return 0;
            };
            if to == *me {
                let waiting = local.iter().find(|(c, _)| *c == component).map_or(0, |(_, b)| *b);
                return (waiting.min(*window) * 100 / *window) as u8;
            }
            tx_credit[to as usize].load(inbox, *window, net.consumed(to, inbox))
        };
        for slot in slots.iter_mut() {
            slot.cohort.ports(&mut |p| p.set_load(load));
        }
    }

    /// Every cohort has finished and everything it emitted has left.
    pub fn finished(&self) -> bool {
        let done = |s: &Slot| s.life == Life::Finished && s.down.is_none() && !s.paused() && !s.outbox.has_sealed();
        // What feedback edges brought after the end waits to be counted as dropped (D3).
        self.slots.iter().all(|s| done(s) && s.inbox.queue.is_empty()) && self.roots_settled()
    }

    /// Whether spouts run here, whose emits have the time of their turn as their origin.
    pub fn has_spouts(&self) -> bool {
        self.has_spouts
    }

    /// Whether a cohort waits for room or credit.
    pub fn paused(&self) -> bool {
        self.slots.iter().any(Slot::paused)
    }

    /// Who waits for whom: (waiting component, component whose inbox is full).
    pub fn back_pressure(&self, net: &dyn Net) -> Vec<(String, String)> {
        let name = |c: ComponentIx| self.plan.spec.components[c as usize].name.clone();
        let waits_on = |slot: &Slot| {
            let sealed = slot.pending.front()?;
            let stream = sealed.batch.view().stream();
            let (to, way) = (sealed.to(), Way { stream, feedback: sealed.feedback() });
            let inbox = if to == self.me {
                self.local_short_of(way, sealed.batch.len() as u64).and_then(|at| self.slots[at].inbox_ix)
            } else {
                let bytes = sealed.batch.len() as u64;
                self.tx_credit[to as usize].short_of(way, bytes, self.window, |i| net.consumed(to, i))
            };
            // No inbox is short: the link itself has no room, so name the stream's first subscriber there.
            let on = inbox.map(|i| self.plan.inboxes[i as usize].component).or_else(|| {
                let sub = self.plan.subscribers_of(stream).first()?;
                Some(self.plan.spec.subscriptions[*sub as usize].to)
            })?;
            Some((slot.name.clone(), name(on)))
        };
        self.slots.iter().filter(|s| s.paused()).filter_map(waits_on).collect()
    }

    /// Counters of each cohort, by component.
    pub fn stats(&self) -> impl Iterator<Item = (ComponentIx, CohortStats)> + '_ {
        self.slots.iter().map(|s| (s.component, s.stats.clone()))
    }

    /// What the links from here carried, and what of the links to here was copied on the way in.
    pub fn link_stats(&self) -> Vec<LinkStats> {
        self.books.rows(&self.plan, self.me)
    }

    /// Tuples that arrived from `from` were copied on the way in by their link.
    pub(crate) fn note_copied_in(&mut self, from: ReactorIx, tuples: u64) {
        self.books.copied_in(from, tuples);
    }

    /// End-to-end latencies recorded by the sinks here so far.
    pub fn latency(&self) -> Histogram {
        self.latency.borrow().clone()
    }

    /// When the first tuple was executed by a sink here.
    pub fn first_sink_ns(&self) -> Option<u64> {
        self.first_sink_ns
    }

    /// Tuple type of a stream.
    pub fn tuple_type(&self, stream: u32) -> Option<&TupleType> {
        self.registry.types.get(stream as usize)
    }

    /// The reactor's index.
    pub fn reactor(&self) -> ReactorIx {
        self.me
    }

    /// Buffers that left through a link come back here.
    pub fn pool(&self) -> &Rc<BatchPool> {
        &self.pool
    }
}

/// Limits of the roots of so many tasks of a spout on one reactor.
fn ledger_config(plan: &Plan, tasks: usize) -> LedgerConfig {
    let config = &plan.spec.config;
    // All of them share the slots that a root can name; half are left for what calls emit beyond the limit.
    let most = (RootId::MAX_SLOT / 2 / tasks as u32).max(1);
    LedgerConfig {
        timeout_ns: config.message_timeout_ms * 1_000_000,
        max_age_ns: config.max_root_age() * 1_000_000,
        max_pending: config.max_pending().min(most),
    }
}

fn earliest(deadline: &mut Option<u64>, at: u64) {
    *deadline = Some(deadline.map_or(at, |d| d.min(at)));
}

/// For each way: the inboxes of `to` that subscribe to it.
fn inboxes_by_way(plan: &Plan, to: ReactorIx) -> Vec<(Way, Vec<u32>)> {
    let inboxes = |way: Way| {
        let subs = plan.subscribers_of(way.stream).iter().map(|s| &plan.spec.subscriptions[*s as usize]);
        let subs = subs.filter(|s| s.feedback == way.feedback);
        subs.filter_map(|s| plan.inbox_at(s.to, to)).collect::<Vec<u32>>()
    };
    let streams = 0..plan.spec.streams.len() as u32;
    let ways = streams.flat_map(|stream| [false, true].map(|feedback| Way { stream, feedback }));
    ways.map(|w| (w, inboxes(w))).filter(|(_, i)| !i.is_empty()).collect()
}
