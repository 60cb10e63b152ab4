//! One cohort in its reactor: its inbox, its unsent batches, its place in the life of a run.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use squall_tuple::ids::{ComponentIx, ReactorIx, StreamIx, TaskId};
use squall_tuple::{Batch, Cursor, MarkKind, MarkRecord};

use super::budget::{Restarts, Suspects};
use super::restart::Down;
use crate::board::Pulse;
use crate::cohort::{BatchEnd, Cohort, Finish};
use crate::fault::{EmitRefused, Fault, FaultDetails, FaultKind};
use crate::inbox::{EndTracker, Inbox};
use crate::outbox::{Outbox, OutboxCounts, Sealed};
use crate::stats::{CohortStats, Count};

/// Where a cohort is in its life. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Taking input, or emitting as a spout.
    Running,
    /// All inputs ended: `finish` is being called. Of a spout: its tasks ended, and wait for what becomes of their roots.
    Finishing,
    /// Its own ends of stream are on their way; nothing will come from it any more.
    Finished,
}

pub(crate) struct Slot {
    pub(crate) component: ComponentIx,
    pub(crate) name: String,
    /// Inbox's index in the plan; spouts have none.
    pub(crate) inbox_ix: Option<u32>,
    pub(crate) tasks: Vec<TaskId>,
    pub(crate) cohort: Box<dyn Cohort>,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) inbox: Inbox,
    pub(crate) ends: EndTracker,
    /// Tasks whose ends of stream were sent.
    pub(crate) ended: Vec<TaskId>,
    /// Batches that their links refused, in order. Not empty: the cohort is paused.
    pub(crate) pending: VecDeque<Sealed>,
    /// While it is paused: the link that refused first, and since when.
    pub(crate) stalled: Option<(ReactorIx, u64)>,
    pub(crate) life: Life,
    /// Executors that have failed and are to be restarted.
    pub(crate) down: Option<Down>,
    pub(crate) restarts: Restarts,
    pub(crate) suspects: Suspects,
    pub(crate) spout: bool,
    /// A bolt whose output nobody subscribes to: where latencies end.
    pub(crate) is_sink: bool,
    pub(crate) tick_ns: Option<u64>,
    pub(crate) next_tick_ns: u64,
    /// Spouts only: stopped by a full batch, with more to emit. (A bolt stops early only when its time is up, and then what
    /// it has emitted must not wait for the rest.)
    pub(crate) more: bool,
    /// Emits since the last flush, by the outbox's count.
    pub(crate) flushed_at: u64,
    pub(crate) published: OutboxCounts,
    /// Roots begun and late records, as far as they were published.
    pub(crate) roots_told: (u64, u64),
    /// Lost tuples, as published.
    pub(crate) lost_told: u64,
    pub(crate) stats: CohortStats,
    pub(crate) pulse: Pulse,
}

impl Slot {
    /// A bolt that has nothing to do in a turn: nothing waits for it, nothing it did is still to be sent or told.
    #[inline]
    pub(crate) fn rests(&self) -> bool {
        let counts = self.outbox.counts();
        let told = counts == self.published && self.flushed_at == counts.emitted;
        let waits = self.inbox.queue.is_empty() && self.pending.is_empty() && !self.outbox.has_sealed();
        let life = !self.spout && self.life != Life::Finishing && self.tick_ns.is_none() && self.down.is_none();
        life && waits && told && !self.outbox.has_home()
    }

    /// A spout whose roots have ended and that was not told.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.outbox.has_roots() && self.outbox.ledger().is_some_and(|l| l.borrow().has_ended())
    }

    #[inline]
    pub(crate) fn paused(&self) -> bool {
        !self.pending.is_empty()
    }

    /// May not be called: its outputs have no room, or, of a bolt, an executor waits for its restart. (The other executors of
    /// a spout go on.)
    pub(crate) fn blocked(&self) -> bool {
        self.paused() || self.down.is_some() && !self.spout
    }

    /// May be called, in its turn.
    pub(crate) fn callable(&self) -> bool {
        !self.blocked() && self.life != Life::Finished
    }

    /// May execute a batch where it lies: nothing is before it and nothing holds the outputs back.
    pub(crate) fn ready(&self) -> bool {
        self.life == Life::Running && self.pending.is_empty() && self.inbox.queue.is_empty() && self.down.is_none()
    }

    /// Runs the cohort on a batch.
    pub(crate) fn run_batch(&mut self, batch: &Batch<'_>, cursor: &mut Cursor, port: u16) -> Result<BatchEnd, Fault> {
        let mut executed = 0;
        self.pulse.calls(self.component);
        let cohort = &mut self.cohort;
        let end = guard(&self.name, &self.outbox, || cohort.run_batch(batch, cursor, port, &mut executed));
        self.stats.bump(Count::Executed, executed);
        end
    }

    pub(crate) fn guarded<R>(&mut self, call: impl FnOnce(&mut dyn Cohort) -> Result<R, Fault>) -> Result<R, Fault> {
        self.pulse.calls(self.component);
        let cohort = &mut *self.cohort;
        guard(&self.name, &self.outbox, || call(cohort))
    }

    /// A mark in its place in the input.
    pub(crate) fn take_mark(&mut self, mark: &MarkRecord) -> Result<(), Fault> {
        if mark.kind != MarkKind::EndOfStream {
            return self.guarded(|c| c.on_mark(mark));
        }
        self.ends.note(mark.stream, mark.source);
        if self.ends.complete() && self.life == Life::Running {
            self.life = Life::Finishing;
        }
        Ok(())
    }

    /// Calls `finish` once; when it is done, sends the ends of this cohort's streams.
    pub(crate) fn finish_step(&mut self) -> Result<Finish, Fault> {
        let end = self.guarded(|c| c.finish())?;
        if end == Finish::Done {
            self.life = Life::Finished;
            let tasks = self.tasks.clone();
            self.send_ends(&tasks);
            self.guarded(|c| {
                c.cleanup();
                Ok(())
            })?;
        }
        Ok(end)
    }

    /// Sends end-of-stream marks for `tasks` on every output stream.
    pub(crate) fn send_ends(&mut self, tasks: &[TaskId]) {
        self.ended.extend_from_slice(tasks);
        self.cohort.ports(&mut |port| {
            let end = |source: &TaskId| end_of_stream(port.stream(), *source);
            let marks: Vec<MarkRecord> = tasks.iter().map(end).collect();
            port.send_marks(&marks);
        });
    }

    /// Writes the counts where other threads read them.
    pub(crate) fn publish(&mut self) {
        let now = self.outbox.counts();
        if now == self.published {
            return;
        }
        self.stats.bump(Count::Emitted, now.emitted - self.published.emitted);
        self.stats.bump(Count::Acked, now.acked - self.published.acked);
        self.stats.bump(Count::Failed, now.failed - self.published.failed);
        let lost = self.outbox.lost();
        self.stats.bump(Count::Lost, lost - std::mem::replace(&mut self.lost_told, lost));
        self.published = now;
    }

    /// Writes how many roots have begun where other threads read it.
    #[inline]
    pub(crate) fn publish_roots(&mut self) {
        if !self.outbox.has_roots() {
            return;
        }
        let counts = self.outbox.ledger().map(|l| l.borrow().counts()).unwrap_or_default();
        let (begun, late) = std::mem::replace(&mut self.roots_told, (counts.begun, counts.late));
        self.stats.bump(Count::Roots, counts.begun - begun);
        self.stats.bump(Count::LateAcks, counts.late - late);
    }
}

fn end_of_stream(stream: StreamIx, source: TaskId) -> MarkRecord {
    MarkRecord { kind: MarkKind::EndOfStream, stream, source, value: 0 }
}

/// Turns a panic of a component into a fault that names it.
fn guard<R>(name: &str, outbox: &Outbox, call: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    // Of the cohort, the tasks of the executor that panicked are not used again; the rest is whole after each step.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(r)) => Ok(r),
        Ok(Err(mut fault)) => {
            name.clone_into(&mut fault.component);
            Err(fault)
        }
        Err(payload) => {
            let (kind, cause) = match payload.downcast::<EmitRefused>() {
                Ok(refused) => (refused.kind, refused.cause),
                Err(payload) => (FaultKind::Panic, panic_message(&*payload)),
            };
            Err(FaultDetails { component: name.to_owned(), task: outbox.source(), kind, cause, at: None, restarts: 0 }
                .into())
        }
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(s) = payload.downcast_ref::<&str>() {
        (*s).to_owned()
    } else if let Some(s) = payload.downcast_ref::<String>() {
        s.clone()
    } else {
        "a panic whose message is not text".to_owned()
    }
}
