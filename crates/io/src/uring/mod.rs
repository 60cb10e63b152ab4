//! The io_uring driver: one small ring per reactor, owned by its thread.
//!
//! The ring is set up with SINGLE_ISSUER, DEFER_TASKRUN and TASKRUN_FLAG. In this mode the kernel completes nothing by itself: it raises a flag in
//! the submission ring, and the completions appear in an `enter` that asks for events. So [`poll`](Driver::poll) looks at that flag and enters
//! only if it is set or there is something to submit (idle: no system call). Spinning on the completion queue alone would wait for ever, and
//! the other modes cost an interrupt or a timer tick per completion (3.7–7 ms).
//!
//! Per stream at most one multishot receive into the shared buffers (`bufring`) and one gathered `sendmsg` are in flight. A receive that finds
//! no free buffer ends and is armed again; by then its buffers are back, because completions are handled in order.
//!
//! Invariants: `Ring::in_flight` counts the operations that the kernel has, or will have with the next submission, and has not completed for
//! good. What such an operation points to (socket, header, pieces, buffers) is neither changed nor dropped: a stream is dropped only when
//! neither its send nor its receive is in flight, and the driver's drop cancels everything and waits for the completions; should they not come,
//! it leaks.
//!
//! Limits: 64 submission and 256 completion entries (a full submission queue is submitted at once; a full completion queue is kept by the kernel
//! and fetched), about 16 KiB of locked memory.

mod bufring;
mod ops;
mod ring;

use crate::driver::prepare_socket;
use crate::outgoing::Outgoing;
use crate::reports::Reports;
use crate::{Bell, Closed, Driver, EventSink, IoCounters, IoKind, StreamId};
use bufring::{BUFS_MAX, BufRing};
use ops::{Completion, Kind, SendMemory};
use ring::{COMPLETIONS, Ring};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, socketpair};
use stable_deref_trait::StableDeref;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long the drop waits for cancelled operations, and the self-test for its byte: 50 turns of 100 ms. It takes microseconds; the bound is for
/// a kernel that does not keep its word.
const PATIENCE_TURN: Duration = Duration::from_millis(100);
const PATIENCE_TURNS: u32 = 50;

/// A step of the set-up failed.
#[derive(Debug)]
pub(crate) struct SetupError {
    pub(crate) step: &'static str,
    pub(crate) source: io::Error,
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> SetupError {
    move |source| SetupError { step, source }
}

/// One socket with what is in flight on it.
struct Stream<B> {
    out: Outgoing<B>,
    /// What the send in flight points to, beside the buffers in `out`.
    memory: Box<SendMemory>,
    /// Whether a send is in flight. Then `memory` and the buffers in `out` are the kernel's.
    sending: bool,
    /// Bytes of the send in flight.
    send_bytes: usize,
    /// Whether a receive is in flight.
    receiving: bool,
    /// Whether it is in `dirty`.
    dirty: bool,
    /// Sending failed: nothing more is sent, but what has arrived is still handed over.
    send_error: Option<io::Error>,
    /// Set once the stream is being taken down: nothing more is submitted for it, and it ends when nothing is in flight.
    end: Option<Closed>,
    recv_cancelled: bool,
    send_cancelled: bool,
    fd: OwnedFd,
}

impl<B: StableDeref<Target = [u8]>> Stream<B> {
    /// Submits the receive and the next send, where they are missing. `false`: the ring has no room now.
    fn start(&mut self, id: StreamId, ring: &mut Ring) -> io::Result<bool> {
        if !self.receiving {
            // SAFETY: see `Ring::push`. The operation refers to the socket, which is dropped only when `receiving` is false, and to the receive
            // buffers, which the driver's drop keeps until nothing is in flight.
            self.receiving = unsafe { ring.push(&ops::recv(self.fd.as_fd(), Kind::Recv, id)) }?;
        }
        if !self.sending && !self.out.is_empty() && self.send_error.is_none() {
            let (bytes, entry) = self.memory.fill(self.fd.as_fd(), id, &self.out);
            // SAFETY: see `Ring::push`. The operation points into `memory`, which is boxed and written only here, when `sending` is false; to
            // the bytes of buffers in `out`, which `StableDeref` keeps in place and which leave that queue only on completion (`advance`) or
            // when the stream ends with `sending` false; and to the socket, dropped only then too.
            self.sending = unsafe { ring.push(&entry) }?;
            self.send_bytes = bytes;
            return Ok(self.receiving && self.sending);
        }
        Ok(self.receiving)
    }

    /// Cancels what is in flight, once. `false`: the ring has no room now.
    fn cancel(&mut self, id: StreamId, ring: &mut Ring) -> io::Result<bool> {
        for (kind, running, cancelled) in [
            (Kind::Recv, self.receiving, &mut self.recv_cancelled),
            (Kind::Send, self.sending, &mut self.send_cancelled),
        ] {
            if running && !*cancelled {
                // SAFETY: see `Ring::push`. The operation points to nothing.
                *cancelled = unsafe { ring.push(&ops::cancel(kind, id)) }?;
                if !*cancelled {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Closes the socket; nothing is in flight on it. Its last reports.
    fn finish(self, id: StreamId, reports: &mut Reports<B>) {
        assert!(!self.sending && !self.receiving, "a stream ends when the kernel is done with it");
        let Stream { mut out, end, fd, .. } = self;
        drop(fd);
        while let Some(buf) = out.pop() {
            reports.unsent(id, buf);
        }
        reports.closed(id, end.expect("a stream ends for a reason"));
    }
}

pub(crate) struct UringDriver<B> {
    ring: Ring,
    bell: Bell,
    /// Whether the kernel watches the doorbell.
    bell_armed: bool,
    /// Whether the doorbell was heard since the last wait ended.
    rung: bool,
    /// By id; `None` once closed.
    streams: Vec<Option<Box<Stream<B>>>>,
    /// Streams for which something is to be submitted, or that are to end.
    dirty: Vec<StreamId>,
    reports: Reports<B>,
    counters: IoCounters,
    /// Dropped by hand: after the ring has given the buffers back.
    recv_bufs: ManuallyDrop<BufRing>,
}

impl<B> UringDriver<B> {
    /// Sets up the ring and receives a byte through it.
    pub(crate) fn new(streams_hint: usize) -> Result<Self, SetupError> {
        let ring = Ring::new().map_err(failed("io_uring_setup"))?;
        let bell = Bell::new().map_err(failed("eventfd"))?;
        // Two per stream keep one filling while the other is handed over.
        let bufs = streams_hint.saturating_mul(2).clamp(4, BUFS_MAX.into()).next_power_of_two() as u16;
        let recv_bufs = BufRing::new(bufs).map_err(failed("mapping the receive buffers"))?;
        let mut driver = UringDriver {
            ring,
            bell,
            bell_armed: false,
            rung: false,
            streams: Vec::new(),
            dirty: Vec::new(),
            reports: Reports::new(),
            counters: IoCounters::default(),
            recv_bufs: ManuallyDrop::new(recv_bufs),
        };
        driver.recv_bufs.register(driver.ring.io_uring()).map_err(failed("io_uring_register (buffer ring)"))?;
        driver.receive_a_byte()?;
        driver.ring.syscalls = 0;
        Ok(driver)
    }

    /// Whether a multishot receive into a provided buffer works is not in the kernel's list of features: try it.
    fn receive_a_byte(&mut self) -> Result<(), SetupError> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|e| failed("socketpair")(e.into()))?;
        // SAFETY: see `Ring::push`. The operation refers to `ours`, which lives to the end of this function; if it is not over by then, it holds
        // the socket itself, and the driver's drop cancels it. The receive buffers outlive it as always.
        unsafe { self.ring.push(&ops::recv(ours.as_fd(), Kind::Test, 0)) }.map_err(failed("io_uring_enter"))?;
        rustix::io::write(&theirs, &[1]).map_err(|e| failed("writing to a socket pair")(e.into()))?;
        self.expect_received(1, true)?;
        drop(theirs);
        self.expect_received(0, false)
    }

    fn expect_received(&mut self, bytes: i32, more: bool) -> Result<(), SetupError> {
        let mut completion = None;
        for _ in 0..PATIENCE_TURNS {
            self.ring.enter(1, Some(PATIENCE_TURN)).map_err(failed("io_uring_enter"))?;
            completion = self.ring.next_completion();
            if completion.is_some() {
                break;
            }
        }
        let step = "multishot receive through io_uring";
        let completion = completion.ok_or_else(|| failed(step)(Errno::TIMEDOUT.into()))?;
        if let Some(buffer) = completion.buffer {
            drop(self.recv_bufs.lend(buffer, 0));
        }
        if (completion.result, completion.more) != (bytes, more) {
            let errno = if completion.result < 0 { -completion.result } else { libc::EINVAL };
            return Err(failed(step)(io::Error::from_raw_os_error(errno)));
        }
        Ok(())
    }
}

impl<B: StableDeref<Target = [u8]> + 'static> UringDriver<B> {
    /// Submits for the streams that need it, and ends those that are over.
    fn prepare(&mut self, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        if !self.bell_armed {
            // SAFETY: see `Ring::push`. The operation refers to the doorbell, which lives as long as the driver.
            self.bell_armed = unsafe { self.ring.push(&ops::bell(self.bell.as_fd())) }?;
        }
        while let Some(id) = self.dirty.pop() {
            if let Some(stream) = self.streams[id as usize].as_mut() {
                stream.dirty = false;
            }
            if !self.prepare_stream(id)? {
                self.mark_dirty(id);
                break;
            }
        }
        Ok(self.reports.make(sink))
    }

    /// `false`: the ring has no room now.
    fn prepare_stream(&mut self, id: StreamId) -> io::Result<bool> {
        let Some(stream) = self.streams[id as usize].as_deref_mut() else {
            return Ok(true);
        };
        match (&stream.end, stream.sending || stream.receiving) {
            (None, _) => {
                if !stream.sending {
                    stream.out.advance(0, |buf| self.reports.sent(id, buf));
                }
                stream.start(id, &mut self.ring)
            }
            (Some(_), true) => stream.cancel(id, &mut self.ring),
            (Some(_), false) => {
                let stream = self.streams[id as usize].take().expect("looked at above");
                self.counters.syscalls += 1;
                stream.finish(id, &mut self.reports);
                Ok(true)
            }
        }
    }

    fn mark_dirty(&mut self, id: StreamId) {
        if let Some(Some(stream)) = self.streams.get_mut(id as usize)
            && !stream.dirty
        {
            stream.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Handles the completions that are there.
    fn reap(&mut self, sink: &mut dyn EventSink<B>) -> usize {
        let mut events = 0;
        // At most a queue full: a peer that sends faster than we read must not keep the reactor here.
        for _ in 0..COMPLETIONS {
            let Some(completion) = self.ring.next_completion() else {
                break;
            };
            match completion.kind {
                Kind::Recv => events += self.received(completion, sink),
                Kind::Send => events += self.sent(completion, sink),
                Kind::Bell => {
                    self.counters.bells += 1;
                    self.rung = true;
                    self.bell_armed = completion.more;
                }
                Kind::Cancel | Kind::Test => {}
            }
        }
        events
    }

    fn received(&mut self, c: Completion, sink: &mut dyn EventSink<B>) -> usize {
        let stream = self.streams[c.id as usize].as_mut().expect("a stream outlives its receive");
        stream.receiving = c.more;
        let bytes = usize::try_from(c.result).unwrap_or(0);
        let mut events = 0;
        if !c.more {
            let over = match c.result {
                1.. => None,
                0 => Some(Closed::Eof),
                e if e == -libc::ENOBUFS => {
                    self.counters.recvs_starved += 1;
                    None
                }
                e if e == -libc::EINTR || e == -libc::EAGAIN => None,
                e => Some(Closed::Error(io::Error::from_raw_os_error(-e))),
            };
            if over.is_some() && stream.end.is_none() {
                stream.end = stream.send_error.take().map(Closed::Error).or(over);
            }
        }
        let wanted = !matches!(stream.end, Some(Closed::Local));
        if !c.more {
            // To be armed again, or to end.
            self.mark_dirty(c.id);
        }
        if let Some(buffer) = c.buffer {
            let lent = self.recv_bufs.lend(buffer, bytes);
            if bytes > 0 && wanted {
                self.counters.recvs += 1;
                self.counters.bytes_in += bytes as u64;
                events = 1;
                sink.on_recv(c.id, &lent);
            }
        }
        events
    }

    fn sent(&mut self, c: Completion, sink: &mut dyn EventSink<B>) -> usize {
        let stream = self.streams[c.id as usize].as_mut().expect("a stream outlives its send");
        stream.sending = false;
        match c.result {
            taken @ 1.. => {
                let taken = taken as usize;
                self.counters.sends += 1;
                self.counters.bytes_out += taken as u64;
                self.counters.sends_short += u64::from(taken < stream.send_bytes);
                stream.out.advance(taken, |buf| self.reports.sent(c.id, buf));
            }
            e if e == -libc::EINTR || e == -libc::EAGAIN => {}
            e if stream.end.is_none() => {
                // A stream socket never takes 0 of some bytes; if it did, trying again would be a busy loop.
                let e = if e == 0 { -libc::EPIPE } else { e };
                stream.send_error = Some(io::Error::from_raw_os_error(-e));
                // What has arrived can still be read, and after it comes an end of file: the stream ends there, whatever the peer does.
                self.counters.syscalls += 1;
                let _ = rustix::net::shutdown(&stream.fd, Shutdown::Both);
            }
            _ => {}
        }
        if stream.end.is_some() || !stream.out.is_empty() {
            self.mark_dirty(c.id);
        }
        self.reports.make(sink)
    }
}

impl<B: StableDeref<Target = [u8]> + 'static> Driver<B> for UringDriver<B> {
    fn kind(&self) -> IoKind {
        IoKind::IoUring
    }

    fn add_stream(&mut self, fd: OwnedFd) -> io::Result<StreamId> {
        prepare_socket(&fd, self.streams.len())?;
        let id = self.streams.len() as StreamId;
        self.streams.push(Some(Box::new(Stream {
            out: Outgoing::new(),
            memory: SendMemory::new(),
            sending: false,
            send_bytes: 0,
            receiving: false,
            dirty: false,
            send_error: None,
            end: None,
            recv_cancelled: false,
            send_cancelled: false,
            fd,
        })));
        self.mark_dirty(id);
        Ok(id)
    }

    fn send(&mut self, id: StreamId, buf: B) {
        match self.streams.get_mut(id as usize) {
            None => panic!("send to stream {id}, which this driver never gave out"),
            Some(None) => self.reports.unsent(id, buf),
            Some(Some(stream)) => {
                stream.out.push(buf);
                if !stream.sending {
                    self.mark_dirty(id);
                }
            }
        }
    }

    fn queued(&self, id: StreamId) -> usize {
        self.streams.get(id as usize).and_then(Option::as_ref).map_or(0, |stream| stream.out.len())
    }

    fn poll(&mut self, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        let mut events = self.prepare(sink)?;
        if self.ring.must_enter() {
            self.ring.enter(0, None)?;
        }
        events += self.reap(sink);
        Ok(events)
    }

    fn wait(&mut self, timeout: Option<Duration>, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        // What the poll left to be done (receives to arm again, the rest of a short send) is submitted by the call that sleeps.
        let mut events = self.poll(sink)? + self.prepare(sink)?;
        if events > 0 || std::mem::take(&mut self.rung) {
            return Ok(events);
        }
        if !self.dirty.is_empty() {
            // The ring had no room for all of it: do not sleep on that.
            self.ring.enter(0, None)?;
            return Ok(self.reap(sink));
        }
        self.ring.enter(1, timeout)?;
        self.counters.wakeups += u64::from(self.ring.has_completions());
        events += self.reap(sink);
        self.rung = false;
        Ok(events)
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn close(&mut self, id: StreamId) {
        match self.streams.get_mut(id as usize) {
            None => panic!("close of stream {id}, which this driver never gave out"),
            Some(None) => {}
            Some(Some(stream)) => {
                stream.end = Some(Closed::Local);
                self.mark_dirty(id);
            }
        }
    }

    fn counters(&self) -> IoCounters {
        IoCounters { syscalls: self.counters.syscalls + self.ring.syscalls, ..self.counters }
    }
}

impl<B> UringDriver<B> {
    /// Cancels everything and collects the completions. Whether the kernel is done with all our memory.
    fn quiesce(&mut self) -> bool {
        if self.ring.in_flight() == 0 {
            return true;
        }
        let mut cancelled = false;
        for _ in 0..PATIENCE_TURNS {
            // SAFETY: see `Ring::push`. The operation points to nothing.
            cancelled = cancelled || matches!(unsafe { self.ring.push(&ops::cancel_all()) }, Ok(true));
            if self.ring.enter(1, Some(PATIENCE_TURN)).is_err() {
                return false;
            }
            while self.ring.next_completion().is_some() {}
            if self.ring.in_flight() == 0 {
                return true;
            }
        }
        false
    }
}

impl<B> Drop for UringDriver<B> {
    fn drop(&mut self) {
        let quiet = self.quiesce() && self.recv_bufs.unregister(self.ring.io_uring()).is_ok();
        // SAFETY: `take` demands that the value is not used again: this is the drop, and no field's drop uses it.
        let recv_bufs = unsafe { ManuallyDrop::take(&mut self.recv_bufs) };
        if !quiet || self.ring.in_flight() > 0 {
            // The kernel may still read the send buffers and write to the receive buffers: better to lose memory than to share it.
            std::mem::forget(std::mem::take(&mut self.streams));
            recv_bufs.leak();
        }
    }
}
