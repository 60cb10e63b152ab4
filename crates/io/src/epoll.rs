//! The epoll driver: non-blocking `sendmsg` and `recv`, level-triggered readiness. Carries on where io_uring is blocked. No `unsafe` here.
//!
//! Cost: a `poll` is one `epoll_wait`, also when nothing happens (there is no other way to ask); each readable stream one `recv` more, straight into
//! its window, each stream with something queued one `sendmsg` per 64 buffers or 256 KiB. A short send arms readiness for writing until the queue is
//! empty, a full window disarms readiness for reading until the reader has consumed.
//!
//! Limits: at most [`RECV_BUDGET`] receives per stream and turn, so a busy stream does not starve its neighbours. Zero-copy sends, NAPI busy-poll
//! and a submission thread are io_uring's.

use crate::driver::prepare_socket;
use crate::outgoing::{GATHER_PIECES, Outgoing};
use crate::parker::timespec;
use crate::planted::{Bug, is};
use crate::reports::Reports;
use crate::window::{WindowWriter, window};
use crate::{Bell, Closed, Driver, EventSink, IoCounters, IoKind, RecvWindow, StreamId};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use stable_deref_trait::StableDeref;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Receives per stream and turn.
const RECV_BUDGET: usize = 4;
/// Ready streams taken per `epoll_wait`; the others come at the next.
const READY_MAX: usize = 64;
/// Token of the doorbell; stream tokens are below [`STREAMS_MAX`](crate::STREAMS_MAX).
const BELL: u64 = u64::MAX;

struct Stream<B> {
    fd: OwnedFd,
    out: Outgoing<B>,
    window: WindowWriter,
    /// Readiness that is awaited; empty: the descriptor is not with epoll, which would report a hang-up of the peer again and again.
    interest: EventFlags,
    /// Whether the window is full; then it is in `full`.
    full: bool,
    /// Whether readiness for writing is awaited: the kernel refused bytes and has not called since.
    blocked: bool,
    /// Whether it is in `dirty`.
    dirty: bool,
    /// Set once the stream is to end: the cause, told after what has arrived was handed over (a send error) or at the next turn (a close).
    end: Option<Closed>,
}

pub(crate) struct EpollDriver<B> {
    epoll: OwnedFd,
    bell: Bell,
    /// Whether the doorbell was heard since the last wait ended.
    rung: bool,
    /// By id; `None` once closed.
    streams: Vec<Option<Stream<B>>>,
    /// Streams with something queued that are not blocked.
    dirty: Vec<StreamId>,
    /// Streams whose window was full, until the reader has consumed.
    full: Vec<StreamId>,
    /// Streams that `close` was called on since the last turn.
    closing: Vec<StreamId>,
    reports: Reports<B>,
    ready: Vec<Event>,
    counters: IoCounters,
}

impl<B: StableDeref<Target = [u8]> + 'static> EpollDriver<B> {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = Bell::new()?;
        epoll::add(&epoll, bell.as_fd(), EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(EpollDriver {
            epoll,
            bell,
            rung: false,
            streams: Vec::new(),
            dirty: Vec::new(),
            full: Vec::new(),
            closing: Vec::new(),
            reports: Reports::new(),
            ready: Vec::with_capacity(READY_MAX),
            counters: IoCounters::default(),
        })
    }

    /// All that needs no readiness: ends closed streams, sends what is queued.
    fn flush(&mut self, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        while let Some(id) = self.closing.pop() {
            self.end(id, Closed::Local);
        }
        self.resume_receiving()?;
        while let Some(id) = self.dirty.pop() {
            self.send_queued(id)?;
        }
        Ok(self.reports.make(sink))
    }

    /// Sends until the queue is empty or the kernel takes no more.
    fn send_queued(&mut self, id: StreamId) -> io::Result<()> {
        let Some(stream) = self.streams[id as usize].as_mut() else {
            return Ok(());
        };
        stream.dirty = false;
        let mut refused = false;
        while stream.end.is_none() && !refused {
            self.counters.buffers_out += stream.out.report_taken(0, id, &mut self.reports);
            if stream.out.is_empty() {
                break;
            }
            let mut pieces = [IoSlice::new(&[]); GATHER_PIECES];
            let mut count = 0;
            let bytes = stream.out.gather(|piece| {
                pieces[count] = IoSlice::new(piece);
                count += 1;
            });
            self.counters.syscalls += 1;
            let mut control = SendAncillaryBuffer::default();
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::sendmsg(&stream.fd, &pieces[..count], &mut control, flags) {
                Ok(taken) => {
                    self.counters.sends += 1;
                    self.counters.bytes_out += taken as u64;
                    // The next call would be refused: spare it.
                    refused = taken < bytes;
                    self.counters.sends_short += u64::from(refused);
                    let taken = if is(Bug::ShortSend) { bytes } else { taken };
                    self.counters.buffers_out += stream.out.report_taken(taken, id, &mut self.reports);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => refused = true,
                Err(e) => {
                    stream.end = Some(Closed::Error(e.into()));
                    // What has arrived can still be read, and after it comes an end of file: the stream ends there, whatever the peer does.
                    self.counters.syscalls += 1;
                    let _ = rustix::net::shutdown(&stream.fd, Shutdown::Both);
                }
            }
        }
        self.set_blocked(id, refused)
    }

    fn set_blocked(&mut self, id: StreamId, blocked: bool) -> io::Result<()> {
        if let Some(stream) = self.streams[id as usize].as_mut() {
            stream.blocked = blocked;
        }
        self.await_readiness(id)
    }

    /// Tells epoll what the stream waits for, if that has changed.
    fn await_readiness(&mut self, id: StreamId) -> io::Result<()> {
        let Some(stream) = self.streams[id as usize].as_mut() else { return Ok(()) };
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, !stream.full);
        interest.set(EventFlags::OUT, stream.blocked);
        let before = std::mem::replace(&mut stream.interest, interest);
        if before == interest {
            return Ok(());
        }
        self.counters.syscalls += 1;
        let token = EventData::new_u64(id.into());
        if interest.is_empty() {
            epoll::delete(&self.epoll, &stream.fd)?;
        } else if before.is_empty() {
            epoll::add(&self.epoll, &stream.fd, token, interest)?;
        } else {
            epoll::modify(&self.epoll, &stream.fd, token, interest)?;
        }
        Ok(())
    }

    /// Looks again at windows that were full.
    fn resume_receiving(&mut self) -> io::Result<()> {
        let mut at = 0;
        while let Some(&id) = self.full.get(at) {
            if let Some(stream) = self.streams[id as usize].as_mut() {
                if !stream.window.worth_receiving() {
                    at += 1;
                    continue;
                }
                stream.full = false;
            }
            self.full.swap_remove(at);
            self.await_readiness(id)?;
        }
        Ok(())
    }

    /// Waits for readiness (not at all with a zero timeout) and serves what is ready.
    fn serve(&mut self, timeout: Option<&Timespec>, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        self.ready.clear();
        self.counters.syscalls += 1;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.ready), timeout) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(0),
            Err(e) => return Err(e.into()),
        }
        let mut events = 0;
        for at in 0..self.ready.len() {
            let Event { data, flags } = self.ready[at];
            let token = data.u64();
            if token == BELL {
                self.counters.syscalls += 1;
                if self.bell.hear() {
                    self.counters.bells += 1;
                    self.rung = true;
                }
                continue;
            }
            let id = token as StreamId;
            if flags.contains(EventFlags::OUT) {
                self.send_queued(id)?;
                events += self.reports.make(sink);
            }
            // An error or a hang-up is learnt by receiving, after the data before it.
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                events += self.receive(id, sink)?;
            }
        }
        Ok(events)
    }

    fn receive(&mut self, id: StreamId, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        let mut events = 0;
        for _ in 0..RECV_BUDGET {
            let Some(stream) = self.streams[id as usize].as_mut() else {
                break;
            };
            if !stream.window.worth_receiving() {
                self.counters.recvs_starved += 1;
                stream.full = true;
                self.full.push(id);
                self.await_readiness(id)?;
                break;
            }
            self.counters.syscalls += 1;
            let spare = stream.window.spare();
            let room = spare.len();
            match rustix::net::recv(&stream.fd, spare, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    self.end(id, Closed::Eof);
                    break;
                }
                Ok((_, bytes)) => {
                    stream.window.publish(bytes);
                    self.counters.recvs += 1;
                    self.counters.bytes_in += bytes as u64;
                    events += 1;
                    sink.on_readable(id);
                    if bytes < room {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => {
                    self.end(id, Closed::Error(e.into()));
                    break;
                }
            }
        }
        Ok(events + self.reports.make(sink))
    }

    /// Closes the stream; its last reports. A cause noted before goes first.
    fn end(&mut self, id: StreamId, cause: Closed) {
        let Some(mut stream) = self.streams[id as usize].take() else {
            return;
        };
        // Closing alone would leave the entry if the descriptor was duplicated elsewhere.
        self.counters.syscalls += 2;
        let _ = epoll::delete(&self.epoll, &stream.fd);
        drop(stream.fd);
        stream.out.report_unsent(id, &mut self.reports);
        self.reports.closed(id, stream.end.take().unwrap_or(cause));
    }
}

impl<B: StableDeref<Target = [u8]> + 'static> Driver<B> for EpollDriver<B> {
    fn kind(&self) -> IoKind {
        IoKind::Epoll
    }

    fn add_stream(&mut self, fd: OwnedFd, window_bytes: usize) -> io::Result<(StreamId, RecvWindow)> {
        prepare_socket(&fd, self.streams.len())?;
        let (writer, reader) = window(window_bytes)?;
        let id = self.streams.len() as StreamId;
        let interest = EventFlags::IN;
        epoll::add(&self.epoll, &fd, EventData::new_u64(id.into()), interest)?;
        self.streams.push(Some(Stream {
            fd,
            out: Outgoing::new(),
            window: writer,
            interest,
            full: false,
            blocked: false,
            dirty: false,
            end: None,
        }));
        Ok((id, reader))
    }

    fn send(&mut self, id: StreamId, buf: B) {
        match self.streams.get_mut(id as usize) {
            None => panic!("send to stream {id}, which this driver never gave out"),
            Some(None) => self.reports.unsent(id, buf),
            Some(Some(stream)) => {
                stream.out.push(buf);
                if !stream.dirty && !stream.blocked && stream.end.is_none() {
                    stream.dirty = true;
                    self.dirty.push(id);
                }
            }
        }
    }

    fn queued(&self, id: StreamId) -> usize {
        self.streams.get(id as usize).and_then(Option::as_ref).map_or(0, |stream| stream.out.len())
    }

    fn poll(&mut self, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        Ok(self.flush(sink)? + self.serve(Some(&timespec(Duration::ZERO)), sink)?)
    }

    fn wait(&mut self, timeout: Option<Duration>, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        let events = self.flush(sink)?;
        if events > 0 || std::mem::take(&mut self.rung) {
            return Ok(events);
        }
        // epoll_wait counts in milliseconds; poll on the epoll descriptor counts in nanoseconds. The former where it is exact: one call less.
        let mut timeout = timeout.map(timespec);
        if let Some(fine) = timeout.filter(|t| t.tv_nsec % 1_000_000 != 0) {
            self.counters.syscalls += 1;
            match rustix::event::poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&fine)) {
                Ok(0) | Err(Errno::INTR) => return Ok(0),
                Ok(_) => timeout = Some(timespec(Duration::ZERO)),
                Err(e) => return Err(e.into()),
            }
        }
        let events = self.serve(timeout.as_ref(), sink)?;
        self.counters.wakeups += u64::from(!self.ready.is_empty());
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
                self.closing.push(id);
            }
        }
    }

    fn counters(&self) -> IoCounters {
        self.counters
    }
}
