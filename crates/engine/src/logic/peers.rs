//! Workers that go and come again: what the loss of a peer means for the reactors that live on.
//!
//! A lost worker's reactors are *away*: their links refuse everything ([`Net`](crate::Net) sees to that), so what was emitted for them waits with
//! its cohort, and the spouts of a reactor that has a link to one are not called meanwhile (their roots would only fail). Roots that may have been
//! there fail at once. When the worker is there again, under a new epoch, links begin anew: numbers and credit at zero, and the ends of streams
//! that were told to the one before are told again.
//!
//! Invariants: what came from a worker's last life is executed, but gives no credit to this one; ends of streams that it told count no more, unless
//! the component has finished on them; a batch of another epoch than the sender's present one is refused and counted.

use squall_io::planted::{Bug, is};
use squall_tuple::BatchHeader;
use squall_tuple::ids::{ReactorIx, WorkerIx};

use super::{Core, Life, ReceiveError};
use crate::fault::LinkError;
use crate::inbox::Item;
use crate::ledger::worker_bit;

impl Core {
    /// The epochs of all workers, by index, when this one starts. Until told, all are as old as this one.
    pub fn set_epochs(&mut self, epochs: &[u32]) {
        for (epoch, reactor) in self.epochs.iter_mut().zip(&self.plan.reactors) {
            *epoch = epochs[reactor.worker as usize];
        }
    }

    /// A worker is gone, or the link to it: roots that may have been there fail, and nothing is sent there until
    /// [`Core::rejoin_worker`]. Its links must refuse what is offered from now on.
    pub fn lose_worker(&mut self, worker: WorkerIx) {
        let plan = self.plan.clone();
        let lost = |reactor: ReactorIx| plan.reactors[reactor as usize].worker == worker;
        for reactor in (0..plan.reactors.len() as ReactorIx).filter(|r| lost(*r)) {
            self.tx_seq[reactor as usize] = 0;
            self.rx_seq[reactor as usize] = 0;
            if !is(Bug::CreditLeaked) {
                self.tx_credit[reactor as usize].forget();
            }
            self.acks.forget(reactor);
        }
        let from_there = |task: u32| lost(plan.tasks[task as usize].reactor);
        for slot in &mut self.slots {
            slot.outbox.drain_sealed(&mut slot.pending);
            slot.inbox.queue.retain_mut(|item| match item {
                Item::Batch { from, charge, .. } => {
                    *charge = if lost(*from) { 0 } else { *charge };
                    true
                }
                Item::Mark(mark) => !from_there(mark.source),
            });
            if slot.life == Life::Running {
                slot.ends.forget(from_there);
            }
        }
        let links = |r: &ReactorIx| lost(*r) && plan.link_between(self.me, *r).is_some();
        if (0..plan.reactors.len() as ReactorIx).any(|r| links(&r)) {
            self.away |= worker_bit(worker);
        }
        for ledger in self.slots.iter().filter_map(|s| s.outbox.ledger()) {
            ledger.borrow_mut().lose_workers(worker_bit(worker));
        }
    }

    /// A worker is there again, as its incarnation `epoch`: links to it begin anew, and hear again what has ended here.
    pub fn rejoin_worker(&mut self, worker: WorkerIx, epoch: u32) {
        for (known, reactor) in self.epochs.iter_mut().zip(&self.plan.reactors) {
            *known = if reactor.worker == worker { epoch } else { *known };
        }
        self.away &= !worker_bit(worker);
        for slot in &mut self.slots {
            // To all, since an end that is told twice changes nothing.
            let ended = std::mem::take(&mut slot.ended);
            if !ended.is_empty() {
                slot.send_ends(&ended);
            }
        }
        for ledger in self.slots.iter().filter_map(|s| s.outbox.ledger()) {
            ledger.borrow_mut().restore_workers(worker_bit(worker));
        }
    }

    /// Batches that were refused because their sender's worker has begun another life since.
    pub fn refused_batches(&self) -> u64 {
        self.refused_batches
    }

    /// A batch with another epoch or number than is due.
    #[cold]
    pub(super) fn refuse_batch(&mut self, from: ReactorIx, header: &BatchHeader) -> Result<(), ReceiveError> {
        if header.epoch != self.epochs[from as usize] {
            self.refused_batches += 1;
            return Ok(());
        }
        let expected = self.rx_seq[from as usize];
        Err(LinkError::Sequence { from, expected, got: header.link_seq }.into())
    }
}
