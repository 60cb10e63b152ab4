//! The real links of one reactor: rings to reactors of the same worker, sockets to those of others.
//!
//! Batches are executed where they arrive: a ring's in the ring, a socket's in its receive window. What comes from a
//! socket is validated as a whole before one byte of it is believed; what comes over a ring was written by this process.

mod frames;
mod tx;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use squall_io::{Closed, Driver, EventSink, IoKind, StreamId};
use squall_ring::Consumer;
use squall_topology::Plan;
use squall_topology::memory::socket_window_bytes;
use squall_tuple::ids::ReactorIx;
use squall_tuple::{Batch, BatchBuf, BatchError, BatchHeader, BatchKind, StreamBatch};

use crate::fault::LinkError;
use crate::logic::{Core, ReceiveError};
use crate::pool::BatchPool;
use frames::{Copies, Frames};
use tx::{LinkTx, TAG_LARGE, Tx};

pub(crate) use tx::{LARGE_MAX, Peer, RingCredit, RingTx, SocketTx};

/// Records taken from one ring before the others get their turn.
const RECORDS_PER_POLL: usize = 8;
/// Turns without anything after which epoll is asked again, on a reactor that has rings too: asking costs a system call, 0.3 µs,
/// which is as long as several turns without it. io_uring is asked in every turn: that is two loads.
const EPOLL_EVERY: u32 = 4;

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
    /// Something has arrived that was not looked at.
    readable: bool,
    closed: Option<String>,
}

/// See the module.
pub(crate) struct Wires {
    plan: Arc<Plan>,
    pub(crate) tx: Tx,
    rings: Vec<RingRx>,
    /// By stream id.
    sockets: Vec<SocketRx>,
    largest_batch: usize,
    window_bytes: usize,
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
        let window_bytes = socket_window_bytes(config.socket_batch_bytes) as usize;
        let tx = Tx::new(&plan, me, driver, pool);
        Wires {
            plan,
            tx,
            rings: Vec::new(),
            sockets: Vec::new(),
            largest_batch,
            window_bytes,
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

    pub(crate) fn add_socket(&mut self, peer: ReactorIx, fd: std::os::fd::OwnedFd) -> std::io::Result<()> {
        let (stream, window) = self.tx.driver.add_stream(fd, self.window_bytes)?;
        debug_assert_eq!(stream as usize, self.sockets.len(), "streams are numbered in order");
        let frames = Frames::new(window, self.largest_batch);
        self.sockets.push(SocketRx { from: peer, frames, readable: false, closed: None });
        self.tx.links[peer as usize] = LinkTx::Socket(SocketTx::new(stream));
        Ok(())
    }

    /// Takes what has arrived, without sleeping. Returns whether anything had.
    pub(crate) fn poll(&mut self, core: &mut Core, now_ns: u64) -> Result<bool, ReceiveError> {
        let mut progress = self.poll_rings(core, now_ns)?;
        if !self.sockets.is_empty() && self.ask_driver(progress) {
            let mut sink = Sink { sockets: &mut self.sockets, pool: core.pool() };
            let events = self.tx.driver.poll(&mut sink).map_err(LinkError::Driver)?;
            progress |= events > 0 && self.deliver_frames(core, now_ns)?;
        }
        Ok(progress)
    }

    /// Whether to poll the driver in this turn.
    fn ask_driver(&mut self, progress: bool) -> bool {
        self.unasked += 1;
        let now = progress
            || self.tx.unflushed
            || self.rings.is_empty()
            || self.unasked >= EPOLL_EVERY
            || self.tx.driver.kind() == IoKind::IoUring;
        if now {
            self.unasked = 0;
            self.tx.unflushed = false;
        }
        now
    }

    /// Batches from sockets that were assembled outside their window, and their bytes.
    pub(crate) fn copies(&self) -> Copies {
        self.sockets.iter().fold(Copies::default(), |sum, socket| {
            let Copies { batches, bytes } = socket.frames.copies;
            Copies { batches: sum.batches + batches, bytes: sum.bytes + bytes }
        })
    }

    /// Sleeps until something arrives, the bell rings, or `timeout` has passed.
    pub(crate) fn wait(&mut self, core: &mut Core, timeout: Option<Duration>, now_ns: u64) -> Result<(), ReceiveError> {
        let mut sink = Sink { sockets: &mut self.sockets, pool: core.pool() };
        let events = self.tx.driver.wait(timeout, &mut sink).map_err(LinkError::Driver)?;
        if events > 0 {
            self.deliver_frames(core, now_ns)?;
        }
        Ok(())
    }

    /// Whether a ring or a socket has something, as far as that can be told without a system call: the look between two turns
    /// of a spinning reactor, and the second look before sleeping.
    pub(crate) fn rings_pending(&mut self) -> bool {
        self.rings.iter_mut().any(|r| r.consumer.pending()) || (!self.sockets.is_empty() && self.tx.driver.pending())
    }

    fn poll_rings(&mut self, core: &mut Core, now_ns: u64) -> Result<bool, ReceiveError> {
        let mut progress = false;
        for ring in &mut self.rings {
            for _ in 0..RECORDS_PER_POLL {
                let Some((tag, record)) = ring.consumer.peek() else {
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
                ring.consumer.release();
                progress = true;
                // Room in the ring may be what a sleeping sender waits for.
                if let Some(credit) = &mut self.tx.ring_credit[ring.from as usize] {
                    credit.dirty = true;
                }
            }
        }
        Ok(progress)
    }

    fn deliver_frames(&mut self, core: &mut Core, now_ns: u64) -> Result<bool, ReceiveError> {
        let mut progress = false;
        for socket in &mut self.sockets {
            let from = socket.from;
            if std::mem::take(&mut socket.readable) {
                let malformed = |cause| LinkError::Malformed { from, cause };
                while let Some((header, frame)) = socket.frames.next().map_err(malformed)? {
                    progress = true;
                    deliver_frame(core, &mut self.tx, from, (header, frame), self.largest_batch, now_ns)?;
                }
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
    (header, frame): (BatchHeader, &[u8]),
    largest: usize,
    now_ns: u64,
) -> Result<(), ReceiveError> {
    let malformed = |e: BatchError| LinkError::Malformed { from, cause: e.to_string() };
    let ty = match header.kind {
        BatchKind::Data => core.tuple_type(header.stream),
        _ => None,
    };
    let batch = Batch::validate(frame, ty, largest).map_err(malformed)?;
    if header.kind == BatchKind::Control {
        if let LinkTx::Socket(socket) = &mut tx.links[from as usize] {
            batch.credits().for_each(|c| socket.on_credit(&c));
        }
        return Ok(());
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
