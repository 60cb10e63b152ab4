//! What becomes of an executor that panics or returns a fatal error (D7): its instances are thrown away and new ones
//! prepared, now or after a while; the tuple fails, or goes to the dead letters if it has done so before.
//!
//! A cohort is all executors of a component on this reactor: only the tasks of the one that failed are made anew. While a
//! bolt's waits, its input waits in the inbox (in order, within its credit) and so does that of the others in its cohort, for
//! which the waits are short. A spout's others go on.
//!
//! Deliberately absent: state. What a task knew is lost, and that is said.

use squall_io::planted::{Bug, is};
use squall_tuple::ids::TaskId;
use squall_tuple::{AckKind, AckRecord, Batch, BatchBuf, Cursor, DestRef};

use super::{Core, Life, Turn, earliest};
use crate::cohort::{BatchEnd, DeadLetter};
use crate::fault::{Fault, FaultKind};
use crate::input::TakenRoots;
use crate::ledger::FailReason;
use crate::log::Level;
use crate::net::Net;
use crate::shared::WorkerEvent;
use crate::stats::Count;

/// A call on a batch gives the reactor back after 1 ms, so one of this length has been in one `execute` for most of it.
const LONG_CALL_NS: u64 = 5_000_000;
/// How long calls are timed after a turn that was too long.
const WATCH_NS: u64 = 2_000_000_000;

/// Executors of one cohort that have failed.
pub(crate) struct Down {
    /// When they are to be restarted; 0: at once.
    until_ns: u64,
    /// Since when the first of them is down.
    since_ns: u64,
    tasks: Vec<TaskId>,
    letter: Option<Letter>,
}

/// A tuple for the dead letters, once the executor is there again.
pub(super) struct Letter {
    /// Begins with it.
    batch: BatchBuf,
    port: u16,
    task: TaskId,
    cause: String,
    failures: u32,
    input: TakenRoots,
}

impl Core {
    /// Runs a cohort on a batch. Where an executor fails, that tuple is dealt with and the rest of the batch is left to the
    /// time after its restart.
    #[inline]
    pub(super) fn execute(
        &mut self,
        at: usize,
        batch: &Batch<'_>,
        cursor: &mut Cursor,
        port: u16,
    ) -> Result<BatchEnd, Fault> {
        let began = cursor.clone();
        match self.watched(at, |me| me.slots[at].run_batch(batch, cursor, port)) {
            Ok(end) => Ok(end),
            // Also behind the last tuple: `batch_end` is still to come.
            Err(fault) => self.batch_broke(at, fault, batch, began, cursor, port).map(|()| BatchEnd::Yield),
        }
    }

    #[cold]
    fn batch_broke(
        &mut self,
        at: usize,
        mut fault: Fault,
        batch: &Batch<'_>,
        began: Cursor,
        cursor: &mut Cursor,
        port: u16,
    ) -> Result<(), Fault> {
        let header = batch.header();
        let in_tuple = self.slots[at].outbox.take_in_tuple();
        fault.at.get_or_insert_with(|| match header.count - cursor.left() {
            _ if !in_tuple => format!("the end of a batch of stream {}", header.stream),
            nth => format!("tuple {nth} of {} in a batch of stream {}", header.count, header.stream),
        });
        self.record_missing(cursor.origin_ns());
        let letter = if in_tuple {
            self.tuple_broke(at, &fault, batch, cursor, port)
        } else {
            self.end_broke(at, batch, began, cursor.left());
            None
        };
        self.on_fault(at, fault, letter)
    }

    /// What the bolt had put off to the end of the batch was not done, so no tuple of the call may count as processed (D4): the
    /// acks that they have given have not left, and fold into these fails.
    fn end_broke(&mut self, at: usize, batch: &Batch<'_>, mut from: Cursor, left: u32) {
        let slot = &self.slots[at];
        let detail = FailReason::Failed(slot.component).detail();
        while from.left() > left
            && let Some(frame) = batch.next(&mut from)
        {
            let here = |task: TaskId| slot.tasks.contains(&task);
            let was_executed = match frame.dest() {
                DestRef::Task(task) => here(task),
                DestRef::List(mut tasks) => tasks.any(here),
                DestRef::Set(set) => {
                    self.plan.task_sets.get(set as usize).is_some_and(|set| set.tasks.iter().any(|task| here(*task)))
                }
            };
            if was_executed {
                let roots = frame.anchors().map(|anchor| anchor.root);
                roots.for_each(|root| self.acks.add(&AckRecord { root, xor: 0, kind: AckKind::Fail, detail }));
            }
        }
    }

    /// The latencies of a call that broke off were not recorded: one for each tuple that a sink has executed (D10).
    fn record_missing(&mut self, origin_ns: u64) {
        let executed = |s: &super::Slot| s.stats.get(Count::Executed);
        let due: u64 = self.slots.iter().filter(|s| s.is_sink).map(executed).sum();
        let mut latency = self.latency.borrow_mut();
        let missing = due.saturating_sub(latency.count());
        if missing > 0 {
            latency.record_n(self.clock.now_ns().saturating_sub(origin_ns), missing);
        }
    }

    /// Fails the tuple in front of the cursor, or makes a dead letter of it. The tasks behind the one that failed still have to
    /// execute it.
    fn tuple_broke(
        &mut self,
        at: usize,
        fault: &Fault,
        batch: &Batch<'_>,
        cursor: &mut Cursor,
        port: u16,
    ) -> Option<Letter> {
        let mut before = batch.cursor();
        while before.left() > cursor.left() + 1 {
            batch.next(&mut before);
        }
        let frame = batch.next(&mut before.clone())?;
        let config = &self.plan.spec.config;
        let slot = &mut self.slots[at];
        let task = fault.task;
        if !matches!(frame.dest(), DestRef::Task(_)) {
            slot.cohort.resume_behind(task);
            *cursor = before.clone();
        }
        // One that was kept is ended by its anchor, which went with the task's state or elsewhere.
        let input = slot.outbox.take_input()?;
        let failures = slot.suspects.add(task, batch.stream(), frame.payload());
        // Without roots nobody emits it again: there will be no other time.
        if config.executor_restarts == 0 || failures < config.dead_letter_after && !input.roots.is_empty() {
            slot.outbox.fail_taken(&input, &fault.cause);
            return None;
        }
        let mut copy = self.pool.take(batch.bytes().len());
        copy.copy_tail(batch, &before).expect("the buffer is as large as the batch");
        Some(Letter { batch: copy, port, task, cause: fault.cause.clone(), failures, input })
    }

    /// What came of a call of a component outside of a tuple; `None`: its executor failed, and will be restarted.
    pub(super) fn survive<R>(&mut self, at: usize, came: Result<R, Fault>) -> Result<Option<R>, Fault> {
        match came {
            Ok(r) => Ok(Some(r)),
            Err(fault) => self.on_fault(at, fault, None).map(|()| None),
        }
    }

    /// An executor failed: it is to be restarted.
    ///
    /// # Errors
    /// The fault, where it has been restarted often enough, or has nothing to be restarted for.
    #[cold]
    pub(super) fn on_fault(&mut self, at: usize, mut fault: Fault, letter: Option<Letter>) -> Result<(), Fault> {
        let now_ns = self.clock.now_ns();
        let slot = &mut self.slots[at];
        let tasks: Vec<TaskId> = if slot.tasks.contains(&fault.task) {
            let executor = self.plan.tasks[fault.task as usize].executor;
            self.plan.executors[executor as usize].tasks.clone().collect()
        } else {
            slot.tasks.clone()
        };
        let shared = !slot.spout && tasks.len() < slot.tasks.len();
        let limit = self.plan.spec.config.executor_restarts;
        // After its last call there is nothing to come back for, and a source that is gone is as gone for a new instance.
        let over = slot.life == Life::Finished || fault.kind == FaultKind::Source;
        let wait = (!over).then(|| slot.restarts.next_wait_ns(limit, shared, now_ns)).flatten();
        let Some(wait_ns) = wait else {
            if let Some(letter) = letter {
                slot.outbox.fail_taken(&letter.input, &letter.cause);
            }
            fault.restarts = if over { 0 } else { slot.restarts.spent() };
            return Err(fault);
        };
        slot.stats.bump(Count::Restarts, 1);
        self.shared.event(WorkerEvent::Log {
            level: Level::Error,
            component: slot.name.clone(),
            task: fault.task,
            text: match fault.kind {
                FaultKind::Fatal | FaultKind::Prepare => {
                    format!("{}; its executor is restarted, its state is lost", fault.short())
                }
                _ => format!("{}; its executor is restarted, its state is lost; {}", fault.short(), fault.remedy()),
            },
        });
        slot.cohort.retire(&tasks);
        let down =
            slot.down.get_or_insert_with(|| Down { until_ns: 0, since_ns: now_ns, tasks: Vec::new(), letter: None });
        down.tasks.extend(tasks.iter().filter(|t| !down.tasks.contains(t)).copied().collect::<Vec<_>>());
        if wait_ns > 0 {
            down.until_ns = down.until_ns.max(now_ns + wait_ns);
        }
        down.letter = letter.or(down.letter.take());
        if slot.spout {
            self.lose_roots(at, &tasks)?;
        }
        Ok(())
    }

    /// Restarts what is down and due.
    pub(super) fn revive(&mut self, at: usize, now_ns: u64, turn: &mut Turn) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        let Some(mut down) = slot.down.take_if(|down| down.until_ns <= now_ns) else {
            if let Some(down) = &slot.down {
                earliest(&mut turn.deadline_ns, down.until_ns);
            }
            return Ok(());
        };
        turn.progress = true;
        slot.outbox.begin_call();
        let (outbox, name) = (slot.outbox.clone(), slot.name.clone());
        // One executor after the other: where one cannot be prepared, those before it live.
        while let Some(first) = down.tasks.first() {
            let of = |task: &TaskId| self.plan.tasks[*task as usize].executor;
            let executor = of(first);
            let again: Vec<TaskId> = down.tasks.iter().copied().filter(|task| of(task) == executor).collect();
            let restarted = slot.guarded(|c| {
                outbox.prepare_hooks(&name, &again);
                c.restart(&again)
            });
            if let Err(mut fault) = restarted {
                if fault.kind != FaultKind::Panic {
                    fault.kind = FaultKind::Prepare;
                }
                // What is down stays so, and so does the letter.
                slot.down = Some(Down { until_ns: 0, ..down });
                return self.on_fault(at, fault, None);
            }
            down.tasks.retain(|task| of(task) != executor);
        }
        slot.stats.raise(Count::DownNsMax, self.clock.now_ns().saturating_sub(down.since_ns));
        match down.letter {
            Some(letter) => self.post(at, letter),
            None => Ok(()),
        }
    }

    fn post(&mut self, at: usize, letter: Letter) -> Result<(), Fault> {
        let Letter { batch, port, task, cause, failures, input } = letter;
        let slot = &mut self.slots[at];
        let outbox = slot.outbox.clone();
        outbox.set_source(task);
        let view = batch.view();
        outbox.set_origin(view.iter().next().map_or(0, |frame| frame.origin_ns()));
        outbox.restore_input(input);
        let dead = DeadLetter { batch: &view, port, task, cause: &cause, failures };
        let posted = match is(Bug::LetterLost) {
            false => slot.guarded(|c| c.dead_letter(&dead)),
            true => {
                outbox.end_input();
                Ok(true)
            }
        };
        if matches!(posted, Ok(true)) {
            slot.stats.bump(Count::DeadLetters, 1);
        } else if let Some(input) = outbox.take_input() {
            outbox.fail_taken(&input, &cause);
        }
        self.pool.give(batch);
        self.survive(at, posted).map(drop)
    }

    /// Calls a bolt one of whose wakers was used.
    pub(super) fn wake_bolt(&mut self, at: usize, now_ns: u64, net: &mut dyn Net) -> Result<(), Fault> {
        // What was woken while it may not be called is called when it may.
        if self.slots[at].blocked() || self.slots[at].life == Life::Finished || !self.slots[at].outbox.take_woken() {
            return Ok(());
        }
        let woken = self.watched(at, |me| me.slots[at].guarded(|c| c.woken()));
        self.survive(at, woken)?;
        self.drain(at, now_ns, net).map(drop)
    }

    /// A turn took too long: calls are timed for a while, to learn whose it is.
    pub fn watch(&mut self, now_ns: u64) {
        // Side threads are there to be held.
        if !self.plan.reactors[self.me as usize].side {
            self.watch_until_ns = now_ns + WATCH_NS;
        }
    }

    /// Makes a call, and times it if calls are.
    #[inline]
    pub(super) fn watched<R>(&mut self, at: usize, call: impl FnOnce(&mut Self) -> R) -> R {
        if self.watch_until_ns == 0 {
            return call(self);
        }
        let began_ns = self.clock.now_ns();
        let came = call(self);
        let now_ns = self.clock.now_ns();
        let took_ns = now_ns.saturating_sub(began_ns);
        if took_ns >= LONG_CALL_NS {
            let stats = &self.slots[at].stats;
            stats.bump(Count::LongCalls, 1);
            stats.raise(Count::LongCallNsMax, took_ns);
        } else if now_ns > self.watch_until_ns {
            self.watch_until_ns = 0;
        }
        came
    }
}
