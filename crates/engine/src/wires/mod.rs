//! The real links of one reactor: rings to reactors of the same worker, shared memory or sockets to those of others.
//!
//! Batches are executed where they arrive: a ring's in the ring, a socket's in its receive window. What
//! comes from another process is validated as a whole before one byte of it is believed; what comes over a ring of this
//! worker was written by this process. A link in shared memory has a socket beside it, which carries nothing but its end:
//! that of the peer's process.

mod frames;
mod shm;
mod tx;

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use squall_io::{Bell, Closed, Driver, EventSink, IoKind, StreamId};
use squall_ring::{Consumer, RingCorrupt, ShmLink, Trust};
use squall_topology::memory::socket_window_bytes;
use squall_topology::{LinkKind, LinkPlan, Plan};
use squall_tuple::ids::ReactorIx;
use squall_tuple::{Batch, BatchBuf, BatchError, BatchKind, StreamBatch};

use crate::clock::Clock;
use crate::fault::LinkError;
use crate::hello::PeerEnd;
use crate::logic::{Core, ReceiveError};
use crate::pool::BatchPool;
use frames::{Frame, Frames};
use shm::ShmRx;
use tx::{LinkTx, TAG_LARGE, Tx};

pub(crate) use tx::{LARGE_MAX, Large, Peer, RingCredit, RingTx, SocketTx};

/// Records taken from one ring before the others get their turn.
const RECORDS_PER_POLL: usize = 8;
/// Turns without anything after which epoll is asked again, on a reactor that has rings too: asking costs a system call, 0.3 µs,
/// which is as long as several turns without it. io_uring is asked in every turn: that is two loads.
const EPOLL_EVERY: u32 = 4;
/// The same for sockets that carry nothing but their end, which need not be known at once.
const ENDS_EVERY: u32 = 64;

/// Batches from a reactor of the same worker.
pub(crate) struct RingRx {
    pub(crate) from: ReactorIx,
    pub(crate) consumer: Consumer,
    pub(crate) large: Arc<ArrayQueue<BatchBuf>>,
}

/// Batches from a reactor of another worker.
struct SocketRx {
    from: ReactorIx,
    frames: Frames,
    /// The batches go through shared memory: nothing but the end may come here.
    silent: bool,
    /// Something has arrived that was not looked at.
    readable: bool,
    closed: Option<String>,
    /// The link was cut: nothing is read, and its end is no news.
    cut: bool,
}

/// See the module.
pub(crate) struct Wires {
    plan: Arc<Plan>,
    pub(crate) tx: Tx,
    rings: Vec<RingRx>,
    shm: Vec<ShmRx>,
    /// By stream id.
    sockets: Vec<SocketRx>,
    /// Some socket carries batches.
    sockets_carry: bool,
    /// A peer's end was seen, but not yet all that it had published.
    end_waits: bool,
    largest_batch: usize,
    /// Turns since the driver was asked.
    unasked: u32,
    /// The run is over: a peer that goes away is no loss.
    pub(crate) closing: bool,
}

/// Takes what the driver reports; batches are executed after it returns.
struct Sink<'a> {
    sockets: &'a mut [SocketRx],
    pool: &'a BatchPool,
}

impl EventSink<StreamBatch> for Sink<'_> {
    fn on_readable(&mut self, id: StreamId) {
        self.sockets[id as usize].readable = true;
    }

    fn on_sent(&mut self, _: StreamId, buf: StreamBatch) {
        self.pool.give(buf.into_inner());
    }

    fn on_closed(&mut self, id: StreamId, cause: Closed) {
        let cause = match cause {
            Closed::Eof => "the other end closed it".to_owned(),
            Closed::Local => "closed here".to_owned(),
            Closed::Error(e) => e.to_string(),
        };
        self.sockets[id as usize].closed = Some(cause);
    }
}

impl Wires {
    pub(crate) fn new(
        plan: Arc<Plan>,
        me: ReactorIx,
        driver: Box<dyn Driver<StreamBatch>>,
        pool: Rc<BatchPool>,
    ) -> Self {
        let config = &plan.spec.config;
        // A tuple of the largest size in a batch of its own: header, tuple header and sections come on top.
        let largest_batch = (config.max_tuple_bytes as usize + 4096).max(config.socket_batch_bytes as usize);
        let tx = Tx::new(&plan, me, driver, pool);
        Wires {
            plan,
            tx,
            rings: Vec::new(),
            shm: Vec::new(),
            sockets: Vec::new(),
            sockets_carry: false,
            end_waits: false,
            largest_batch,
            unasked: 0,
            closing: false,
        }
    }

    pub(crate) fn add_ring_tx(&mut self, to: ReactorIx, ring: RingTx) {
        self.tx.links[to as usize] = LinkTx::Ring(ring);
    }

    pub(crate) fn add_ring_rx(&mut self, rx: RingRx, credit: RingCredit) {
        self.tx.ring_credit[rx.from as usize] = Some(credit);
        self.rings.push(rx);
    }

    pub(crate) fn add_socket(&mut self, peer: ReactorIx, fd: OwnedFd) -> std::io::Result<()> {
        let config = &self.plan.spec.config;
        let between = |l: &&LinkPlan| (l.from == peer && l.to == self.tx.me) || (l.from == self.tx.me && l.to == peer);
        let kind = self.plan.links.iter().find(between).map(|l| l.kind);
        // Where shared memory is refused, the batches are as the plan made them for it.
        let batch = if kind == Some(LinkKind::Shm) { config.batch_bytes } else { config.socket_batch_bytes };
        let stream = self.listen(peer, fd, Some(socket_window_bytes(batch) as usize))?;
        self.tx.links[peer as usize] = LinkTx::Socket(SocketTx::new(stream, batch));
        self.sockets_carry = true;
        Ok(())
    }

    /// A link through shared memory, with the socket that tells of the peer's end.
    pub(crate) fn add_shm(
        &mut self,
        peer: ReactorIx,
        fd: OwnedFd,
        mut link: ShmLink,
        bell: Bell,
    ) -> std::io::Result<()> {
        self.listen(peer, fd, None)?;
        link.touch();
        let copy = link.trust() == Trust::Nothing;
        let ShmLink { producer, consumer, credit, source, sleep, peer_sleep, .. } = link;
        let wake = Peer { sleep: peer_sleep, bell };
        let ring = RingTx { producer, credit, large: Large::Parts(None), peer: wake.clone(), dirty: false };
        self.tx.links[peer as usize] = LinkTx::Ring(ring);
        self.tx.ring_credit[peer as usize] = Some(RingCredit { source, peer: wake, dirty: false });
        self.shm.push(ShmRx::new(peer, consumer, sleep, copy));
        Ok(())
    }

    /// `window`: bytes of the receive window; `None` where nothing but the end may come.
    fn listen(&mut self, from: ReactorIx, fd: OwnedFd, window: Option<usize>) -> std::io::Result<StreamId> {
        let silent = window.is_none();
        let (stream, window) = self.tx.driver.add_stream(fd, window.unwrap_or(1))?;
        debug_assert_eq!(stream as usize, self.sockets.len(), "streams are numbered in order");
        let frames = Frames::new(window, self.largest_batch);
        self.sockets.push(SocketRx { from, frames, silent, readable: false, closed: None, cut: false });
        Ok(stream)
    }

    /// The link to a reactor is no more: what it had sent and is here in memory is executed, then both directions are closed.
    pub(crate) fn cut(&mut self, core: &mut Core, peer: ReactorIx, now_ns: u64) -> Result<(), ReceiveError> {
        let mut taken = Ok(());
        while let Some(shm) = self.shm.iter_mut().find(|s| s.from == peer && s.consumer.pending())
            && taken.is_ok()
        {
            let largest = self.largest_batch;
            // A record that is torn ends it: whoever wrote it is gone.
            taken = match shm.poll(core, &mut self.tx, largest, now_ns) {
                Ok(true) => Ok(()),
                Ok(false) | Err(ReceiveError::Link(_)) => break,
                Err(fault) => Err(fault),
            };
        }
        self.shm.retain(|s| s.from != peer);
        for (id, socket) in (0..).zip(&mut self.sockets).filter(|(_, s)| s.from == peer && !s.cut) {
            socket.cut = true;
            socket.closed = None;
            self.tx.driver.close(id);
            self.tx.unflushed = true;
        }
        self.tx.cut(peer);
        taken
    }

    /// A new link to a reactor whose last one was cut.
    pub(crate) fn join(&mut self, end: PeerEnd) -> std::io::Result<()> {
        let PeerEnd { peer, fd, shm, .. } = end;
        match shm {
            Some((link, bell)) => self.add_shm(peer, fd, link, bell),
            None => self.add_socket(peer, fd),
        }
    }

    /// Takes what has arrived, without sleeping. Returns whether anything had.
    pub(crate) fn poll(&mut self, core: &mut Core, now_ns: u64) -> Result<bool, ReceiveError> {
        let mut progress = self.poll_rings(core, now_ns)?;
        for shm in &mut self.shm {
            progress |= shm.poll(core, &mut self.tx, self.largest_batch, now_ns)?;
        }
        if !self.sockets.is_empty() && self.ask_driver(progress) {
            let mut sink = Sink { sockets: &mut self.sockets, pool: core.pool() };
            let events = self.tx.driver.poll(&mut sink).map_err(LinkError::Driver)?;
            progress |= (events > 0 || self.end_waits) && self.deliver_frames(core, now_ns)?;
        }
        if let Some((from, corrupt)) = self.tx.corrupt.take() {
            return Err(LinkError::Malformed { from, cause: corrupt.to_string() }.into());
        }
        Ok(progress)
    }

    /// Whether to poll the driver in this turn.
    fn ask_driver(&mut self, progress: bool) -> bool {
        self.unasked += 1;
        let now = if self.sockets_carry {
            let nothing_else = self.rings.is_empty() && self.shm.is_empty();
            let due = progress || nothing_else || self.tx.unflushed || self.unasked >= EPOLL_EVERY;
            due || self.tx.driver.kind() == IoKind::IoUring
        } else {
            self.end_waits || self.unasked >= ENDS_EVERY
        };
        if now {
            self.unasked = 0;
            self.tx.unflushed = false;
        }
        now
    }

    /// Tells the peers what was done since the last call: room in their rings, and a wake-up for those who sleep. After the turn: the batches
    /// that it sent are on their way then, and do not wait for the lines that the peers read.
    pub(crate) fn publish(&mut self) {
        self.rings.iter_mut().for_each(|ring| ring.consumer.publish_released());
        self.shm.iter_mut().for_each(|shm| shm.consumer.publish_released());
        self.tx.publish();
    }

    /// Tells the peers in other processes that this reactor is about to sleep; the fence of its own flag's `prepare` follows.
    pub(crate) fn announce_sleep(&self) {
        self.shm.iter().for_each(|shm| shm.sleep.announce());
    }

    /// Awake again.
    pub(crate) fn cancel_sleep(&self) {
        self.shm.iter().for_each(|shm| shm.sleep.cancel());
    }

    /// Sleeps until something arrives, the bell rings, or `timeout` has passed. Returns whether a socket had something.
    pub(crate) fn wait(
        &mut self,
        core: &mut Core,
        timeout: Option<Duration>,
        clock: &dyn Clock,
    ) -> Result<bool, ReceiveError> {
        let mut sink = Sink { sockets: &mut self.sockets, pool: core.pool() };
        let events = self.tx.driver.wait(timeout, &mut sink).map_err(LinkError::Driver)?;
        if events > 0 || self.end_waits {
            self.deliver_frames(core, clock.now_ns())?;
        }
        Ok(events > 0)
    }

    /// Whether a ring or a socket has something, as far as that can be told without a system call: the look between two turns
    /// of a spinning reactor, and the second look before sleeping.
    pub(crate) fn pending(&mut self) -> bool {
        self.rings.iter().any(|r| r.consumer.pending())
            || self.shm.iter().any(|s| s.consumer.pending())
            || (self.sockets_carry && self.tx.driver.pending())
    }

    fn poll_rings(&mut self, core: &mut Core, now_ns: u64) -> Result<bool, ReceiveError> {
        let mut progress = false;
        for ring in &mut self.rings {
            for _ in 0..RECORDS_PER_POLL {
                let corrupt = |e: RingCorrupt| LinkError::Malformed { from: ring.from, cause: e.to_string() };
                let Some((tag, record)) = ring.consumer.peek().map_err(corrupt)? else {
                    break;
                };
                if tag == TAG_LARGE {
                    // Its record may be seen an instant before the batch itself.
                    let Some(buf) = ring.large.pop() else { break };
                    core.on_batch(ring.from, &buf.view(), now_ns, &mut self.tx)?;
                } else {
                    let batch = trusted(record);
                    core.on_batch(ring.from, &batch, now_ns, &mut self.tx)?;
                }
                ring.consumer.release_later();
                progress = true;
                // Room in the ring may be what a sleeping sender waits for.
                self.tx.gave_room(ring.from);
            }
        }
        Ok(progress)
    }

    fn deliver_frames(&mut self, core: &mut Core, now_ns: u64) -> Result<bool, ReceiveError> {
        let mut progress = false;
        self.end_waits = false;
        for socket in self.sockets.iter_mut().filter(|s| !s.cut) {
            let from = socket.from;
            if std::mem::take(&mut socket.readable) {
                let malformed = |cause| LinkError::Malformed { from, cause };
                if socket.silent {
                    return Err(malformed("bytes on the socket beside shared memory".to_owned()).into());
                }
                while let Some(frame) = socket.frames.next().map_err(malformed)? {
                    progress = true;
                    deliver_frame(core, &mut self.tx, from, frame, self.largest_batch, now_ns)?;
                }
            }
            // What the peer had published before its end is executed first.
            let unread = |s: &ShmRx| s.from == from && s.consumer.pending();
            if socket.closed.is_some() && self.shm.iter().any(unread) {
                self.end_waits = true;
                continue;
            }
            if let Some(cause) = socket.closed.take()
                && !self.closing
            {
                let worker = self.plan.reactors[from as usize].worker;
                return Err(LinkError::PeerLost { peer: from, worker, cause }.into());
            }
        }
        // A send that completed is progress too: buffers are free again.
        Ok(progress)
    }
}

fn deliver_frame(
    core: &mut Core,
    tx: &mut Tx,
    from: ReactorIx,
    Frame { header, bytes, copied }: Frame<'_>,
    largest: usize,
    now_ns: u64,
) -> Result<(), ReceiveError> {
    let malformed = |e: BatchError| LinkError::Malformed { from, cause: e.to_string() };
    let ty = match header.kind {
        BatchKind::Data => core.tuple_type(header.stream),
        _ => None,
    };
    let batch = Batch::validate(bytes, ty, largest).map_err(malformed)?;
    if header.kind == BatchKind::Control {
        if let LinkTx::Socket(socket) = &mut tx.links[from as usize] {
            batch.credits().for_each(|c| socket.on_credit(&c));
        }
        return Ok(());
    }
    if copied && header.kind == BatchKind::Data {
        core.note_copied_in(from, u64::from(header.count));
    }
    core.on_batch(from, &batch, now_ns, tx)
}

/// A ring record as the batch it is.
#[allow(unsafe_code)]
fn trusted(record: &[u8]) -> Batch<'_> {
    // SAFETY: `from_trusted` asks for the bytes of a sealed `BatchBuf` of this process, 64-aligned. Records with
    // `TAG_BATCH` are pushed by `Tx::offer` only, which pushes the bytes of a `BatchBuf` that `Core` sealed just before;
    // the ring gives records 64-aligned and unchanged, and does not reuse their memory before `release`.
    unsafe { Batch::from_trusted(record) }
}
