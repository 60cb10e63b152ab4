//! The outgoing side of a reactor's rings (of its worker, or shared with another) and sockets.

use std::rc::Rc;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use squall_io::{Bell, Driver, StreamId};
use squall_ring::{CreditSource, CreditView, Producer, PushError, RingCorrupt, SleepFlag};
use squall_topology::{LinkKind, Plan};
use squall_tuple::ids::ReactorIx;
use squall_tuple::{BatchBuf, BatchKind, CreditRecord, OpenBatch, StreamBatch};

use super::shm::Parts;
use crate::net::{Net, Offered};
use crate::pool::BatchPool;

/// Tag of a ring record that is a batch.
pub(crate) const TAG_BATCH: u32 = 0;
/// Tag of a ring record that stands for a batch too large for the ring, which waits in the queue beside it.
pub(crate) const TAG_LARGE: u32 = 1;
/// Tag of a ring record that is a part of a batch too large for one record, between workers.
pub(crate) const TAG_PART: u32 = 2;
/// Large batches under way between two reactors, at most.
pub(crate) const LARGE_MAX: usize = 4;

/// How to wake the reactor at the other end of a ring.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) sleep: SleepFlag,
    pub(crate) bell: Bell,
}

impl Peer {
    /// Rings if the peer sleeps; call after publishing.
    fn wake_if_asleep(&self) -> bool {
        let asleep = self.sleep.claim_wake_after_publish();
        if asleep {
            self.bell.ring();
        }
        asleep
    }
}

/// Batches to a reactor of the same worker, or of another one that shares memory with us.
pub(crate) struct RingTx {
    pub(crate) producer: Producer,
    pub(crate) credit: CreditView,
    pub(crate) large: Large,
    pub(crate) peer: Peer,
    pub(crate) dirty: bool,
}

/// The way of batches that are longer than a record of the ring.
pub(crate) enum Large {
    /// Within a worker: handed over beside the ring.
    Queue(Arc<ArrayQueue<BatchBuf>>),
    /// Between workers: in parts. Holds the one that is leaving.
    Parts(Option<Parts>),
}

impl RingTx {
    /// Pushes more of a large batch that is leaving; the parts pushed, and the batch once it has left.
    fn push_parts(&mut self) -> Result<(usize, Option<BatchBuf>), RingCorrupt> {
        let Large::Parts(leaving @ Some(_)) = &mut self.large else { return Ok((0, None)) };
        let parts = leaving.as_mut().expect("just seen");
        let pushed = parts.push(&mut self.producer)?;
        self.dirty |= pushed > 0;
        let sent = leaving.take_if(|parts| parts.is_sent()).map(Parts::into_batch);
        Ok((pushed, sent))
    }

    fn is_leaving(&self) -> bool {
        matches!(self.large, Large::Parts(Some(_)))
    }
}

/// Credit that goes back to a reactor over a ring.
pub(crate) struct RingCredit {
    pub(crate) source: CreditSource,
    pub(crate) peer: Peer,
    pub(crate) dirty: bool,
}

/// Batches and credit to a reactor of another worker.
pub(crate) struct SocketTx {
    pub(crate) stream: StreamId,
    /// Buffers that may be with the driver: counted in the plan's memory. Half of them may wait for the kernel, which one vectored send takes.
    buffers_max: usize,
    /// By inbox of the peer: what it has told us to be done with.
    pub(crate) consumed: Vec<(u32, u64)>,
    /// By inbox of ours: bytes done with, and how many of those the peer knows of.
    owed: Vec<(u32, u64, u64)>,
}

impl SocketTx {
    /// `batch_bytes`: the largest batch that tuples of the usual size make.
    pub(crate) fn new(stream: StreamId, batch_bytes: u32) -> Self {
        let buffers_max = squall_topology::memory::socket_send_batches(batch_bytes) as usize;
        SocketTx { stream, buffers_max, consumed: Vec::new(), owed: Vec::new() }
    }

    /// The peer says how far an inbox of its has come.
    pub(crate) fn on_credit(&mut self, credit: &CreditRecord) {
        match self.consumed.iter_mut().find(|(i, _)| *i == credit.inbox) {
            Some((_, c)) => *c = (*c).max(credit.consumed),
            None => self.consumed.push((credit.inbox, credit.consumed)),
        }
    }
}

pub(crate) enum LinkTx {
    None,
    /// The peer is gone: everything waits until it is there again.
    Down,
    Ring(RingTx),
    Socket(SocketTx),
}

/// See the module.
pub(crate) struct Tx {
    pub(crate) me: ReactorIx,
    pub(crate) links: Vec<LinkTx>,
    pub(crate) ring_credit: Vec<Option<RingCredit>>,
    pub(crate) driver: Box<dyn Driver<StreamBatch>>,
    /// Something was given to the driver since it was last polled.
    pub(crate) unflushed: bool,
    pub(crate) pool: Rc<BatchPool>,
    /// By inbox of the plan: its place among the inboxes of its reactor.
    inbox_place: Vec<u32>,
    window: u64,
    /// By reactor: times its doorbell was rung from here.
    pub(crate) wakeups_sent: Vec<u64>,
    /// Large batches that leave in parts.
    leaving: usize,
    /// A ring whose consumer wrote nonsense.
    pub(crate) corrupt: Option<(ReactorIx, RingCorrupt)>,
}

impl Tx {
    pub(crate) fn new(plan: &Plan, me: ReactorIx, driver: Box<dyn Driver<StreamBatch>>, pool: Rc<BatchPool>) -> Self {
        let mut inbox_place = vec![0; plan.inboxes.len()];
        for r in 0..plan.reactors.len() as ReactorIx {
            for (place, inbox) in plan.inboxes_of_reactor(r).iter().enumerate() {
                inbox_place[*inbox as usize] = place as u32;
            }
        }
        let count = plan.reactors.len();
        // What leads to another worker is down until its socket is here, which may be later than the first batch for it.
        let first = |to: ReactorIx| match plan.link_between(me, to).map(|link| plan.links[link as usize].kind) {
            Some(LinkKind::Shm | LinkKind::Socket) => LinkTx::Down,
            _ => LinkTx::None,
        };
        Tx {
            me,
            links: (0..count as ReactorIx).map(first).collect(),
            ring_credit: (0..count).map(|_| None).collect(),
            driver,
            unflushed: false,
            pool,
            inbox_place,
            window: plan.spec.config.credit_bytes,
            wakeups_sent: vec![0; count],
            leaving: 0,
            corrupt: None,
        }
    }

    /// Wakes the peers that sleep and got something since the last call: batches, room, or credit they wait for.
    pub(crate) fn publish(&mut self) {
        self.push_parts();
        for (link, woken) in self.links.iter_mut().zip(&mut self.wakeups_sent) {
            let LinkTx::Ring(ring) = link else { continue };
            if std::mem::take(&mut ring.dirty) {
                *woken += u64::from(ring.peer.wake_if_asleep());
            }
            // A look at the peer's line now, when nothing waits for it, saves the one before the next batch leaves.
            ring.producer.unread();
        }
        for (credit, woken) in self.ring_credit.iter_mut().zip(&mut self.wakeups_sent) {
            if let Some(credit) = credit
                && std::mem::take(&mut credit.dirty)
                && credit.source.take_starving()
            {
                *woken += u64::from(credit.peer.wake_if_asleep());
            }
        }
    }

    /// Pushes more of the large batches that leave in parts; whether any part went.
    pub(crate) fn push_parts(&mut self) -> bool {
        if self.leaving == 0 {
            return false;
        }
        let mut progress = false;
        for (to, link) in self.links.iter_mut().enumerate() {
            let LinkTx::Ring(ring) = link else { continue };
            match ring.push_parts() {
                Ok((pushed, sent)) => {
                    progress |= pushed > 0;
                    if let Some(batch) = sent {
                        self.leaving -= 1;
                        self.pool.give(batch);
                    }
                }
                Err(corrupt) => self.corrupt = Some((to as ReactorIx, corrupt)),
            }
        }
        progress
    }

    /// Whether a large batch waits for room to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving > 0
    }

    /// The ring from `from` has room again.
    pub(crate) fn gave_room(&mut self, from: ReactorIx) {
        if let Some(credit) = &mut self.ring_credit[from as usize] {
            credit.dirty = true;
        }
    }

    /// Asks the peers for a wake-up when room or credit comes back; take another turn before sleeping.
    pub(crate) fn set_starving(&mut self, starving: bool) {
        for link in &self.links {
            if let LinkTx::Ring(ring) = link {
                ring.credit.set_starving(starving);
            }
        }
    }

    /// Everything offered has left this process (sockets) or lies in the peer's memory (rings).
    pub(crate) fn all_sent(&self) -> bool {
        self.links.iter().all(|l| match l {
            LinkTx::Socket(s) => self.driver.queued(s.stream) == 0,
            LinkTx::Ring(ring) => !ring.is_leaving(),
            LinkTx::None | LinkTx::Down => true,
        })
    }

    /// The peer is gone: its link takes nothing any more, what it was to take is dropped.
    pub(crate) fn cut(&mut self, peer: ReactorIx) {
        self.ring_credit[peer as usize] = None;
        self.corrupt.take_if(|(from, _)| *from == peer);
        match std::mem::replace(&mut self.links[peer as usize], LinkTx::Down) {
            LinkTx::Ring(RingTx { large: Large::Parts(Some(parts)), .. }) => {
                self.leaving -= 1;
                self.pool.give(parts.into_batch());
            }
            LinkTx::Socket(socket) => {
                self.driver.close(socket.stream);
                self.unflushed = true;
            }
            LinkTx::Ring(_) | LinkTx::Down => {}
            LinkTx::None => self.links[peer as usize] = LinkTx::None,
        }
    }

    fn send_credit(&mut self, to: ReactorIx) {
        let LinkTx::Socket(socket) = &mut self.links[to as usize] else {
            return;
        };
        let mut buf = self.pool.take(0);
        buf.open(&OpenBatch {
            kind: BatchKind::Control,
            stream: 0,
            schema_id: 0,
            dynamic: false,
            source_reactor: self.me,
            epoch: 0, // A link is one connection of two lives: its credit can be of no other.
        });
        for (inbox, done, told) in &mut socket.owed {
            if *done != *told && buf.push_credit(&CreditRecord { inbox: *inbox, consumed: *done }).is_ok() {
                *told = *done;
            }
        }
        buf.seal(0, 0, false);
        self.driver.send(socket.stream, StreamBatch::new(buf));
        self.unflushed = true;
    }
}

impl Net for Tx {
    fn offer(&mut self, to: ReactorIx, batch: BatchBuf) -> Offered {
        match &mut self.links[to as usize] {
            LinkTx::Ring(ring) => {
                if ring.is_leaving() {
                    return Offered::Refused(batch);
                }
                if batch.len() > ring.producer.max_record() {
                    let large = match &mut ring.large {
                        Large::Parts(leaving) => {
                            // It has our buffer until it has left; `publish` pushes what does not fit now.
                            *leaving = Some(Parts::new(batch));
                            self.leaving += 1;
                            self.push_parts();
                            return Offered::Taken;
                        }
                        Large::Queue(large) => large,
                    };
                    // Only this thread pushes, so a queue that is not full stays so until the push below. The record
                    // first: the receiver that sees it early looks again.
                    if large.is_full() || ring.producer.try_push(TAG_LARGE, &[0; 8]).is_err() {
                        return Offered::Refused(batch);
                    }
                    let pushed = large.push(batch);
                    debug_assert!(pushed.is_ok(), "this thread alone pushes");
                    ring.dirty = true;
                    return Offered::Taken;
                }
                match ring.producer.try_push(TAG_BATCH, &batch) {
                    Ok(()) => {
                        ring.dirty = true;
                        Offered::Copied(batch)
                    }
                    Err(PushError::Full) => Offered::Refused(batch),
                    Err(PushError::Corrupt(corrupt)) => {
                        // The next poll ends the link.
                        self.corrupt = Some((to, corrupt));
                        Offered::Refused(batch)
                    }
                }
            }
            LinkTx::Socket(socket) => {
                let queued = self.driver.queued(socket.stream);
                let most = socket.buffers_max;
                if queued >= most / 2 || queued + self.driver.held(socket.stream) >= most {
                    return Offered::Refused(batch);
                }
                self.driver.send(socket.stream, StreamBatch::new(batch));
                self.unflushed = true;
                Offered::Taken
            }
            LinkTx::Down => Offered::Refused(batch),
            LinkTx::None => unreachable!("the plan has a link for every subscription"),
        }
    }

    fn backlog(&self, to: ReactorIx) -> usize {
        match &self.links[to as usize] {
            LinkTx::Ring(ring) => ring.producer.unread() as usize,
            LinkTx::Socket(socket) => self.driver.queued(socket.stream),
            LinkTx::None => 0,
            LinkTx::Down => usize::MAX,
        }
    }

    fn has_backlog(&self, to: ReactorIx, batches: usize) -> bool {
        match &self.links[to as usize] {
            LinkTx::Ring(ring) => ring.producer.has_unread(batches as u64),
            _ => self.backlog(to) >= batches,
        }
    }

    fn consumed(&self, to: ReactorIx, inbox: u32) -> u64 {
        match &self.links[to as usize] {
            LinkTx::Ring(ring) => ring.credit.consumed(self.inbox_place[inbox as usize] as usize),
            LinkTx::Socket(socket) => socket.consumed.iter().find(|(i, _)| *i == inbox).map_or(0, |(_, c)| *c),
            LinkTx::None | LinkTx::Down => 0,
        }
    }

    fn consume(&mut self, from: ReactorIx, inbox: u32, bytes: u64) {
        if let Some(credit) = &mut self.ring_credit[from as usize] {
            credit.source.add(self.inbox_place[inbox as usize] as usize, bytes);
            credit.dirty = true;
            return;
        }
        let LinkTx::Socket(socket) = &mut self.links[from as usize] else {
            return;
        };
        let at = socket.owed.iter().position(|(i, ..)| *i == inbox).unwrap_or_else(|| {
            socket.owed.push((inbox, 0, 0));
            socket.owed.len() - 1
        });
        let (_, done, told) = &mut socket.owed[at];
        *done += bytes;
        // In quarters of the window: the sender may go on with a quarter out, so it never waits for less.
        if *done - *told >= self.window / 4 {
            self.send_credit(from);
        }
    }
}
