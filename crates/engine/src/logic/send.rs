//! The way out of a reactor: from a cohort's sealed batches to links, or to inboxes of the same reactor.

use squall_tuple::BatchKind;

use super::{BACKLOG_BEFORE_BATCHING, Core, Life};
use crate::credit::{Way, admits};
use crate::fault::Fault;
use crate::inbox::{Held, Item};
use crate::net::{Net, Offered};
use crate::outbox::Sealed;
use crate::stats::Count;

impl Core {
    /// Sends what the cohort sealed, in order per destination; what a link refuses stays in `pending` and pauses the
    /// cohort. Returns whether a batch left.
    #[inline(always)]
    pub(super) fn drain(&mut self, at: usize, now_ns: u64, net: &mut dyn Net) -> Result<bool, Fault> {
        let slot = &self.slots[at];
        match (slot.pending.is_empty(), slot.outbox.has_sealed()) {
            (true, false) => Ok(false),
            (true, true) => self.drain_sealed(at, now_ns, net),
            (false, _) => self.drain_pending(at, now_ns, net),
        }
    }

    /// The usual case: the cohort waits for nothing, and what it sealed leaves.
    #[inline(never)]
    fn drain_sealed(&mut self, at: usize, now_ns: u64, net: &mut dyn Net) -> Result<bool, Fault> {
        let mut left = false;
        // Counted before it leaves: who finds this worker dead knows of all that others have got.
        self.slots[at].publish();
        while let Some(sealed) = self.slots[at].outbox.pop_sealed() {
            if let Some(refused) = self.offer(at, sealed, now_ns, net)? {
                self.slots[at].pending.push_back(refused);
                return Ok(self.drain_pending(at, now_ns, net)? | left);
            }
            left = true;
        }
        Ok(left)
    }

    #[cold]
    #[inline(never)]
    fn drain_pending(&mut self, at: usize, now_ns: u64, net: &mut dyn Net) -> Result<bool, Fault> {
        let slot = &mut self.slots[at];
        slot.publish();
        slot.outbox.drain_sealed(&mut slot.pending);
        let mut refused = std::mem::take(&mut self.refused);
        let mut progress = false;
        // One round through the queue in place: what is kept goes to its end in the order in which it was.
        for _ in 0..self.slots[at].pending.len() {
            let Some(sealed) = self.slots[at].pending.pop_front() else { break };
            // Behind a refused batch everything to that reactor keeps its place (D1).
            if refused.contains(&sealed.to()) && !sealed.feedback() {
                self.slots[at].pending.push_back(sealed);
                continue;
            }
            match self.offer(at, sealed, now_ns, net)? {
                None => progress = true,
                Some(back) => {
                    refused.push(back.to());
                    self.slots[at].pending.push_back(back);
                }
            }
        }
        refused.clear();
        self.refused = refused;
        self.count_stall(at, now_ns);
        Ok(progress)
    }

    /// Counts the times and the length for which a cohort waits for a link.
    fn count_stall(&mut self, at: usize, now_ns: u64) {
        let slot = &mut self.slots[at];
        match (slot.stalled, slot.pending.front()) {
            (None, Some(first)) => {
                slot.stalled = Some((first.to(), now_ns));
                self.books.stalled(first.to());
            }
            (Some((to, since)), None) => {
                slot.stalled = None;
                self.books.resumed(to, now_ns.saturating_sub(since));
            }
            _ => {}
        }
    }

    /// Hands a batch over. Gives it back where there is no room for it now.
    fn offer(
        &mut self,
        at: usize,
        mut sealed: Sealed,
        now_ns: u64,
        net: &mut dyn Net,
    ) -> Result<Option<Sealed>, Fault> {
        let (stream, kind) = (sealed.batch.view().stream(), sealed.batch.kind());
        let tuples = u64::from(sealed.batch.count());
        let bytes = sealed.batch.len() as u64;
        let (to, way) = (sealed.to(), Way { stream, feedback: sealed.feedback() });
        if to == self.me {
            return self.deliver_here(at, way, kind, sealed, now_ns, net);
        }
        // Marks have reserved credit: they are few and small, one per task and stream.
        if kind == BatchKind::Data
            && self.tx_credit[to as usize].refuses(way, bytes, self.window, |i| net.consumed(to, i))
        {
            return Ok(self.refuse(at, sealed));
        }
        sealed.batch.seal(self.tx_seq[to as usize], now_ns, false);
        let copied = match net.offer(to, sealed.batch) {
            Offered::Copied(buf) => {
                self.pool.give(buf);
                true
            }
            Offered::Taken => false,
            Offered::Refused(batch) => return Ok(self.refuse(at, Sealed::new(to, way.feedback, batch))),
        };
        self.tx_seq[to as usize] += 1;
        if kind == BatchKind::Data {
            self.tx_credit[to as usize].charge(way, bytes);
            self.books.left(to, tuples, bytes, copied);
        }
        Ok(None)
    }

    /// No room: wait, or over a feedback edge fail the tuples (D3).
    fn refuse(&mut self, at: usize, sealed: Sealed) -> Option<Sealed> {
        if !sealed.feedback() {
            return Some(sealed);
        }
        let dropped = self.fail_tuples(&sealed.batch.view(), self.slots[at].component, |_| true);
        self.slots[at].stats.bump(Count::FeedbackFull, dropped);
        self.books.dropped(sealed.to(), u64::from(sealed.batch.count()));
        self.pool.give(sealed.batch);
        None
    }

    /// A slot here that has no room for a batch.
    pub(super) fn local_short_of(&self, way: Way, bytes: u64) -> Option<usize> {
        let full = |at: &usize| !admits(self.slots[*at].inbox.local_bytes, 0, bytes, self.window);
        self.subscribers[way.index()].iter().map(|(at, _)| *at).find(full)
    }

    /// The local link: a batch for one cohort further down is executed at once, as far as that goes; else the buffer itself
    /// moves to the inbox, shared when several cohorts subscribe.
    fn deliver_here(
        &mut self,
        at: usize,
        way: Way,
        kind: BatchKind,
        sealed: Sealed,
        now_ns: u64,
        net: &mut dyn Net,
    ) -> Result<Option<Sealed>, Fault> {
        let charge = sealed.batch.len() as u64;
        if kind == BatchKind::Mark {
            let marks: Vec<_> = sealed.batch.view().marks().collect();
            for (to, _) in self.subscribers[way.index()].clone() {
                self.slots[to].inbox.queue.extend(marks.iter().map(|m| Item::Mark(*m)));
            }
            self.pool.give(sealed.batch);
            return Ok(None);
        }
        if self.local_short_of(way, charge).is_some() {
            return Ok(self.refuse(at, sealed));
        }
        self.books.left(self.me, u64::from(sealed.batch.count()), charge, false);
        // Cohorts lie in topological order, so this nests no deeper than there are cohorts.
        if let [(to, port)] = self.subscribers[way.index()][..]
            && to > at
            && self.slots[to].ready()
        {
            return self.run_here(to, port, sealed.batch, now_ns, net).map(|()| None);
        }
        let cursor = sealed.batch.view().cursor();
        let subs = &self.subscribers[way.index()];
        let mut enqueue = |to: usize, port: u16, held: Held| {
            let inbox = &mut self.slots[to].inbox;
            inbox.local_bytes += charge;
            inbox.queue.push_back(Item::Batch { held, cursor: cursor.clone(), port, from: self.me, charge });
        };
        if let [(to, port)] = subs[..] {
            enqueue(to, port, Held::Own(sealed.batch));
            return Ok(None);
        }
        let shared = self.pool.share(sealed.batch);
        for (to, port) in subs {
            enqueue(*to, *port, Held::Shared(shared.clone()));
        }
        // Not the last share unless nobody subscribes.
        self.pool.give_shared(shared);
        Ok(None)
    }

    /// Lets open batches go: at once to this reactor and to links with little under way, else when full or when the
    /// reactor has nothing better to do (batching by arrival, design §3: no timer).
    pub(super) fn flush(&mut self, at: usize, now_ns: u64, net: &mut dyn Net, flush_all: bool) -> Result<bool, Fault> {
        let me = self.me;
        let slot = &mut self.slots[at];
        let emitted = slot.outbox.counts().emitted;
        if slot.flushed_at == emitted || (slot.paused() && slot.life != Life::Finished) {
            return Ok(false);
        }
        // A cohort that was stopped by a full batch goes on next turn: what it wrote behind that batch is the start of the
        // next, not a batch of one tuple.
        if slot.more && !flush_all {
            return Ok(false);
        }
        let mut left = false;
        slot.cohort.ports(&mut |port| {
            left |= port.flush(|to| to == me || flush_all || !net.has_backlog(to, BACKLOG_BEFORE_BATCHING));
        });
        if !left {
            slot.flushed_at = emitted;
        }
        self.drain(at, now_ns, net)
    }
}
