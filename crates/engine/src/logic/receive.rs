//! The way into a reactor: batches from links, executed where they lie whenever possible.

use squall_tuple::ids::{ReactorIx, StreamIx, TaskId};
use squall_tuple::{Batch, BatchBuf, BatchKind, DestRef};

use squall_io::planted::{Bug, is};

use super::{Core, Life};
use crate::cohort::BatchEnd;
use crate::credit::Way;
use crate::fault::{Fault, LinkError};
use crate::inbox::{Held, Item};
use crate::net::Net;
use crate::stats::Count;

/// Why a batch ended the link or an executor.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The link is broken.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A component ended.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Core {
    /// A batch of the link from `from`. Its bytes are free again when this returns: what could not be executed now has
    /// been moved out.
    pub fn on_batch(
        &mut self,
        from: ReactorIx,
        batch: &Batch<'_>,
        now_ns: u64,
        net: &mut dyn Net,
    ) -> Result<(), ReceiveError> {
        let header = batch.header();
        let of_now = header.epoch == self.epochs[from as usize] || is(Bug::EpochUnchecked);
        if header.link_seq != self.rx_seq[from as usize] || !of_now {
            return self.refuse_batch(from, &header);
        }
        self.rx_seq[from as usize] += 1;
        if header.kind == BatchKind::Ack {
            self.fold_here(batch.acks(), now_ns);
            return Ok(());
        }
        let stream = header.stream;
        let way = self.way_of(batch);
        let count = self.subscribers.get(way.index()).map_or(0, Vec::len);
        if count == 0 {
            let what = format!("a subscriber of stream {stream}");
            return Err(LinkError::Misrouted { from, here: self.me, what }.into());
        }
        for i in 0..count {
            let (at, port) = self.subscribers[way.index()][i];
            match header.kind {
                BatchKind::Data => self.receive(at, port, from, batch, now_ns, net)?,
                BatchKind::Mark => self.receive_marks(at, stream, batch)?,
                // Acks were taken above, and control batches end in the link.
                BatchKind::Ack | BatchKind::Control => {
                    let cause = format!("a {:?} batch on a data link", header.kind);
                    return Err(LinkError::Malformed { from, cause }.into());
                }
            }
        }
        Ok(())
    }

    /// Over which kind of edge a batch came. All its tuples came over the same, so the first one tells where a stream
    /// has subscribers of both kinds here; marks never take feedback edges.
    fn way_of(&self, batch: &Batch<'_>) -> Way {
        let stream = batch.stream();
        let [ordinary, back] = [false, true].map(|feedback| Way { stream, feedback });
        let some = |way: Way| self.subscribers.get(way.index()).is_some_and(|s| !s.is_empty());
        if batch.kind() != BatchKind::Data || !some(back) {
            return ordinary;
        }
        if !some(ordinary) {
            return back;
        }
        let first = batch.iter().next().and_then(|frame| match frame.dest() {
            DestRef::Task(task) => Some(task),
            DestRef::List(mut tasks) => tasks.next(),
            DestRef::Set(set) => self.plan.task_sets.get(set as usize)?.tasks.first().copied(),
        });
        let component = first.and_then(|task| self.plan.tasks.get(task as usize)).map(|t| t.component);
        let mut subs = self.plan.subscribers_of(stream).iter().map(|s| &self.plan.spec.subscriptions[*s as usize]);
        if subs.any(|s| Some(s.to) == component && s.feedback) { back } else { ordinary }
    }

    fn receive(
        &mut self,
        at: usize,
        port: u16,
        from: ReactorIx,
        batch: &Batch<'_>,
        now_ns: u64,
        net: &mut dyn Net,
    ) -> Result<(), Fault> {
        let charge = batch.bytes().len() as u64;
        let mut cursor = batch.cursor();
        if self.slots[at].life != Life::Running {
            self.drop_after_end(at, from, batch, charge, net);
            return Ok(());
        }
        let mut begun = false;
        while self.slots[at].ready() {
            begun = true;
            if self.execute(at, batch, &mut cursor, port)? == BatchEnd::Done {
                self.executed_all(at, from, charge, now_ns, net);
                // What the last tuple sealed leaves before the next batch is looked at: it may pause the cohort.
                self.drain(at, now_ns, net)?;
                return Ok(());
            }
            if !self.slots[at].outbox.has_sealed() {
                break; // Its time for this turn is up.
            }
            self.drain(at, now_ns, net)?;
        }
        // Moved out, so that nothing behind it on the link waits (design §4).
        let mut buf = self.pool.take(batch.bytes().len());
        buf.copy_tail(batch, &cursor).expect("the buffer is as large as the batch");
        self.books.copied_in(from, u64::from(buf.count()));
        let slot = &mut self.slots[at];
        slot.stats.bump(Count::MovedBytes, buf.len() as u64);
        let cursor = buf.view().cursor();
        slot.inbox.wait(Item::Batch { held: Held::Own(buf), cursor, port, from, charge }, begun);
        Ok(())
    }

    /// A batch from a cohort of this reactor: executed at once, as far as it goes. The rest waits in the inbox.
    pub(super) fn run_here(
        &mut self,
        at: usize,
        port: u16,
        batch: BatchBuf,
        now_ns: u64,
        net: &mut dyn Net,
    ) -> Result<(), Fault> {
        let mut cursor = batch.view().cursor();
        let mut begun = false;
        while self.slots[at].ready() {
            begun = true;
            if self.execute(at, &batch.view(), &mut cursor, port)? == BatchEnd::Done {
                self.note_first_sink(at, now_ns);
                self.pool.give(batch);
                self.drain(at, now_ns, net)?;
                return Ok(());
            }
            if !self.slots[at].outbox.has_sealed() {
                break; // Its time for this turn is up.
            }
            self.drain(at, now_ns, net)?;
        }
        let (inbox, charge) = (&mut self.slots[at].inbox, batch.len() as u64);
        inbox.local_bytes += charge;
        inbox.wait(Item::Batch { held: Held::Own(batch), cursor, port, from: self.me, charge }, begun);
        Ok(())
    }

    fn receive_marks(&mut self, at: usize, stream: StreamIx, batch: &Batch<'_>) -> Result<(), Fault> {
        for mark in batch.marks() {
            debug_assert_eq!(mark.stream, stream, "marks travel with their stream");
            let slot = &mut self.slots[at];
            if slot.inbox.queue.is_empty() && !slot.blocked() {
                let taken = slot.take_mark(&mark);
                self.survive(at, taken)?;
            } else {
                slot.inbox.queue.push_back(Item::Mark(mark));
            }
        }
        Ok(())
    }

    /// Executes what waits in the inbox, in order, until the cohort is paused or its time for this turn is up.
    pub(super) fn run_inbox(&mut self, at: usize, now_ns: u64, net: &mut dyn Net) -> Result<bool, Fault> {
        let mut progress = false;
        for _ in 0..self.slots[at].inbox.queue.len() {
            if self.slots[at].blocked() {
                break;
            }
            let Some(item) = self.slots[at].inbox.queue.pop_front() else {
                break;
            };
            progress = true;
            let (held, mut cursor, port, from, charge) = match item {
                Item::Mark(mark) => {
                    let taken = self.slots[at].take_mark(&mark);
                    self.survive(at, taken)?;
                    continue;
                }
                Item::Batch { held, cursor, port, from, charge } => (held, cursor, port, from, charge),
            };
            if self.slots[at].life != Life::Running {
                self.drop_after_end(at, from, &held.view(), charge, net);
                held.release(&self.pool);
                continue;
            }
            let mut end = BatchEnd::Yield;
            while end == BatchEnd::Yield && !self.slots[at].blocked() {
                end = self.execute(at, &held.view(), &mut cursor, port)?;
                let time_is_up = end == BatchEnd::Yield && !self.slots[at].outbox.has_sealed();
                self.drain(at, now_ns, net)?;
                if time_is_up {
                    break;
                }
            }
            if end == BatchEnd::Yield {
                self.slots[at].inbox.queue.push_front(Item::Batch { held, cursor, port, from, charge });
                break;
            }
            self.executed_all(at, from, charge, now_ns, net);
            held.release(&self.pool);
        }
        Ok(progress)
    }

    /// The cohort is done with a batch: its credit goes back.
    fn executed_all(&mut self, at: usize, from: ReactorIx, charge: u64, now_ns: u64, net: &mut dyn Net) {
        let slot = &mut self.slots[at];
        if from == self.me {
            slot.inbox.local_bytes -= charge;
        } else if let Some(inbox) = slot.inbox_ix
            && charge > 0
        {
            net.consume(from, inbox, charge);
        }
        self.note_first_sink(at, now_ns);
    }

    fn note_first_sink(&mut self, at: usize, now_ns: u64) {
        if self.first_sink_ns.is_none() && self.slots[at].is_sink {
            self.first_sink_ns = Some(self.clock.now_ns().max(now_ns));
        }
    }

    /// Only feedback edges can bring tuples to a component whose inputs have ended. They are dropped from then on, not
    /// only when `finish` is done: no task executes anything after its `finish` was called.
    fn drop_after_end(&mut self, at: usize, from: ReactorIx, batch: &Batch<'_>, charge: u64, net: &mut dyn Net) {
        let tasks = std::mem::take(&mut self.slots[at].tasks);
        let component = self.slots[at].component;
        let dropped = self.fail_tuples(batch, component, |task| tasks.contains(&task));
        self.slots[at].tasks = tasks;
        self.slots[at].stats.bump(Count::AfterEnd, dropped);
        self.executed_all(at, from, charge, 0, net);
    }

    /// Fails the tuples of a batch that is dropped. Returns the deliveries lost to tasks that `counts` accepts: one per
    /// task, as executions are counted. `component`: where it happened.
    pub(super) fn fail_tuples(&mut self, batch: &Batch<'_>, component: u32, counts: impl Fn(TaskId) -> bool) -> u64 {
        let mut lost = 0;
        for frame in batch.iter() {
            let here = match frame.dest() {
                DestRef::Task(task) => u64::from(counts(task)),
                DestRef::List(tasks) => tasks.filter(|t| counts(*t)).count() as u64,
                DestRef::Set(set) => {
                    let set = self.plan.task_sets.get(set as usize);
                    set.map_or(0, |s| s.tasks.iter().filter(|t| counts(**t)).count() as u64)
                }
            };
            if here > 0 {
                lost += here;
                self.fail_roots(frame.anchors().map(|a| a.root), component);
            }
        }
        lost
    }
}
