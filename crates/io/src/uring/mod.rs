//! The io_uring driver: one small ring per reactor, owned by its thread.
//!
//! The ring is set up with SINGLE_ISSUER, DEFER_TASKRUN and TASKRUN_FLAG. In this mode the kernel completes nothing by itself: it raises a flag in
//! the submission ring, and the completions appear in an `enter` that asks for events. So [`poll`](Driver::poll) looks at that flag and enters
//! only if it is set or there is something to submit (idle: no system call). Spinning on the completion queue alone would wait for ever, and
//! the other modes cost an interrupt or a timer tick per completion (3.7–7 ms). With [`IoOptions::sqpoll`] a thread of the kernel submits and
//! completes instead, and the completion queue alone is looked at.
//!
//! *Receiving*: the kernel writes into the stream's window (`window`), the reader reads there: no copy in user space. One standing (multishot)
//! receive per stream takes its buffers from the eighths of the window (`feed`), which go back as the reader passes them. Where the kernel has no
//! incremental buffers (before Linux 6.12), or refuses the group of a stream (locked memory), each receive is submitted by itself with the
//! window's room as its buffer: as many copies (none), one submission more per arrival. A receive that finds no room ends, and is armed again when
//! the reader has consumed.
//!
//! *Sending*: one gathered `sendmsg` per stream is in flight; what is queued meanwhile leaves together in the next. Large ones may go without a
//! copy (`zerocopy`); their buffers wait in `held` for the notification, and nothing else does. Not used: send bundles (they gather too, no
//! faster than `sendmsg` does: 8 batches of 192 B take 1.2 µs each either way, sent singly 5.3 µs; and they need every buffer in a ring of entries),
//! registered buffers (only zero-copy sends take them, of which they save at most 5 %: example `registered`, docs/decisions/0010-receive-window.md).
//!
//! *Against epoll*: for one or two sockets and small messages a plain `recv` in a loop is 1.5–2 µs faster a round trip, because a completion costs a
//! second system call; from some tens of sockets on the ring is three times as fast. The ring is the default everywhere all the same: its idle turn is
//! free, so a reactor that also has rings or shared memory does not pay for its sockets.
//!
//! Invariants: `Ring::in_flight` counts the operations that the kernel has, or will have with the next submission, and has not completed for
//! good. What such an operation points to is neither changed nor dropped (`stream`); the driver's drop cancels everything and waits for the
//! completions; should they not come, it leaks.
//!
//! Limits: 64 submission and 256 completion entries (a full submission queue is submitted at once; a full completion queue is kept by the kernel
//! and fetched), about 16 KiB of locked memory, 4 KiB more per stream; 256 registered sockets, the others by descriptor.

mod feed;
mod files;
mod held;
mod ops;
mod ring;
mod setup;
mod stream;

use crate::driver::prepare_socket;
use crate::reports::Reports;
use crate::window::window;
use crate::zerocopy::{ZeroCopy, ZeroCopyPolicy};
use crate::{Bell, Closed, Driver, EventSink, IoCounters, IoKind, RecvWindow, StreamId};
use feed::Feed;
use files::Files;
use ops::{Completion, Kind, Usage};
use ring::{COMPLETIONS, Ring};
use rustix::net::{AddressFamily, Shutdown};
pub(crate) use setup::SetupError;
use stable_deref_trait::StableDeref;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use stream::{Remains, Stream};

/// How long the drop waits for cancelled operations, and the self-test for its byte: 50 turns of 100 ms. It takes microseconds; the bound is for
/// a kernel that does not keep its word.
const PATIENCE_TURN: Duration = Duration::from_millis(100);
const PATIENCE_TURNS: u32 = 50;
/// How many such turns the drop waits for notifications of zero-copy sends.
const NOTIFICATION_TURNS: u32 = 5;

pub(crate) struct UringDriver<B> {
    ring: Ring,
    files: Files,
    bell: Bell,
    /// Whether the kernel watches the doorbell.
    bell_armed: bool,
    /// Whether the doorbell was heard since the last wait ended.
    rung: bool,
    /// Whether streams receive into incremental buffers.
    incremental: bool,
    zero_copy: ZeroCopy,
    /// By id; `None` once closed.
    streams: Vec<Option<Box<Stream<B>>>>,
    /// Streams for which something is to be submitted, or that are to end.
    dirty: Vec<StreamId>,
    /// Streams whose window is not all room: what the reader consumes has to be given back.
    lagging: Vec<StreamId>,
    /// Closed streams whose buffers the kernel still reads.
    remains: Vec<Remains<B>>,
    reports: Reports<B>,
    counters: IoCounters,
    notes: Vec<String>,
}

impl<B: StableDeref<Target = [u8]> + 'static> UringDriver<B> {
    /// Submits for the streams that need it, and ends those that are over.
    fn prepare(&mut self, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        if !self.bell_armed {
            // SAFETY: see `Ring::push`. The operation refers to the doorbell, which lives as long as the driver.
            self.bell_armed = unsafe { self.ring.push(&ops::bell(self.bell.as_fd())) }?;
        }
        self.recycle();
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

    /// Gives the kernel what readers have consumed since the last turn.
    fn recycle(&mut self) {
        let mut at = 0;
        while let Some(&id) = self.lagging.get(at) {
            let (submit, again) = match self.streams[id as usize].as_mut() {
                Some(stream) => stream.recycle(&mut self.counters),
                None => (false, false),
            };
            if submit {
                self.mark_dirty(id);
            }
            if again {
                at += 1;
                continue;
            }
            self.lagging.swap_remove(at);
            if let Some(stream) = self.streams[id as usize].as_mut() {
                stream.lagging = false;
            }
        }
    }

    /// `false`: the ring has no room now.
    fn prepare_stream(&mut self, id: StreamId) -> io::Result<bool> {
        let Some(stream) = self.streams[id as usize].as_deref_mut() else {
            return Ok(true);
        };
        match (&stream.end, stream.in_flight()) {
            (None, _) => {
                stream.skip_empty(&mut self.reports, &mut self.counters);
                stream.start(&mut self.ring)
            }
            (Some(_), true) => stream.cancel(&mut self.ring),
            (Some(_), false) => {
                let stream = self.streams[id as usize].take().expect("looked at above");
                self.remains.extend(stream.finish(&mut self.ring, &mut self.files, &mut self.reports));
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
                Kind::Send | Kind::SendZc => events += self.sent(completion, sink),
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
        let received = stream.received(c, &mut self.counters);
        if !stream.lagging {
            stream.lagging = true;
            self.lagging.push(c.id);
        }
        if !c.more || stream.end.is_some() {
            // To be armed again, or to end.
            self.mark_dirty(c.id);
        }
        if received {
            sink.on_readable(c.id);
        }
        usize::from(received)
    }

    fn sent(&mut self, c: Completion, sink: &mut dyn EventSink<B>) -> usize {
        if let Some(usage) = c.notification {
            return self.notified(c, usage, sink);
        }
        let stream = self.streams[c.id as usize].as_mut().expect("a stream outlives its send");
        if let Err(e) = stream.sent(c, &mut self.reports, &mut self.counters) {
            stream.send_error = Some(e);
            // What has arrived can still be read, and after it comes an end of file: the stream ends there, whatever the peer does.
            self.counters.syscalls += 1;
            let _ = rustix::net::shutdown(stream.fd(), Shutdown::Both);
        }
        if stream.end.is_some() || !stream.out.is_empty() {
            self.mark_dirty(c.id);
        }
        self.reports.make(sink)
    }

    /// The kernel is done with the buffers of a zero-copy send.
    fn notified(&mut self, c: Completion, usage: Usage, sink: &mut dyn EventSink<B>) -> usize {
        self.counters.zc_copied += u64::from(usage.copied);
        match self.streams[c.id as usize].as_mut() {
            Some(stream) => stream.notified(c.number, usage.copied, &mut self.reports),
            None => {
                let reports = &mut self.reports;
                self.remains.retain_mut(|remains| remains.id != c.id || !remains.notified(c.number, reports));
            }
        }
        self.reports.make(sink)
    }
}

impl<B: StableDeref<Target = [u8]> + 'static> Driver<B> for UringDriver<B> {
    fn kind(&self) -> IoKind {
        IoKind::IoUring
    }

    fn add_stream(&mut self, fd: OwnedFd, window_bytes: usize) -> io::Result<(StreamId, RecvWindow)> {
        prepare_socket(&fd, self.streams.len())?;
        // On a non-blocking socket the kernel would answer EAGAIN instead of waiting for it.
        rustix::io::ioctl_fionbio(&fd, false)?;
        let (writer, reader) = window(window_bytes)?;
        let id = self.streams.len() as StreamId;
        let mut feed = None;
        if self.incremental {
            self.counters.syscalls += 1;
            match Feed::new(self.ring.io_uring(), id as u16, &writer) {
                Ok(registered) => feed = Some(registered),
                Err(e) if self.notes.iter().any(|note| note.contains(NO_GROUP)) => drop(e),
                Err(e) => self.notes.push(format!(
                    "{NO_GROUP} ({e}): each receive is submitted by itself, which costs a system call more per arrival; \
                     if memory is short, allow more locked memory: `ulimit -l 65536`"
                )),
            }
        }
        let tcp = matches!(rustix::net::sockopt::socket_domain(&fd)?, AddressFamily::INET | AddressFamily::INET6);
        let policy = ZeroCopyPolicy::new(tcp && self.zero_copy == ZeroCopy::Auto);
        let target = self.files.add(self.ring.io_uring(), &fd);
        self.counters.syscalls += 1;
        self.streams.push(Some(Box::new(Stream::new(id, fd, target, writer, feed, policy))));
        self.mark_dirty(id);
        Ok((id, reader))
    }

    fn send(&mut self, id: StreamId, buf: B) {
        match self.streams.get_mut(id as usize) {
            None => panic!("send to stream {id}, which this driver never gave out"),
            Some(None) => self.reports.unsent(id, buf),
            Some(Some(stream)) => {
                stream.out.push(buf);
                if !stream.sending() {
                    self.mark_dirty(id);
                }
            }
        }
    }

    fn queued(&self, id: StreamId) -> usize {
        self.streams.get(id as usize).and_then(Option::as_ref).map_or(0, |stream| stream.out.len())
    }

    fn held(&self, id: StreamId) -> usize {
        self.streams.get(id as usize).and_then(Option::as_ref).map_or(0, |stream| stream.waiting())
    }

    fn poll(&mut self, sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        let mut events = self.prepare(sink)?;
        if self.ring.must_enter() {
            self.ring.enter(0, None)?;
        }
        events += self.reap(sink);
        Ok(events)
    }

    fn pending(&mut self) -> bool {
        self.ring.must_enter() || self.ring.has_completions()
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

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Begins the note that a stream has no buffer group.
const NO_GROUP: &str = "io_uring registers no more receive buffers here";

impl<B> UringDriver<B> {
    /// Cancels everything and collects the completions. What the kernel still uses of our memory.
    fn quiesce(&mut self) -> Left {
        let (mut cancelled, mut grace) = (false, NOTIFICATION_TURNS);
        for _ in 0..PATIENCE_TURNS {
            if self.ring.in_flight() == 0 {
                return Left::Nothing;
            }
            if self.ring.only_notifications() {
                // Of sends that a peer has not read: no use in waiting for long, and their bytes are still wanted.
                if grace == 0 {
                    return Left::HeldBuffers;
                }
                grace -= 1;
            }
            // SAFETY: see `Ring::push`. The operation points to nothing.
            cancelled = cancelled || matches!(unsafe { self.ring.push(&ops::cancel_all()) }, Ok(true));
            if self.ring.enter(1, Some(PATIENCE_TURN)).is_err() {
                return Left::Everything;
            }
            while self.ring.next_completion().is_some() {}
        }
        Left::Everything
    }
}

/// What the kernel may still use.
enum Left {
    Nothing,
    /// The buffers of zero-copy sends.
    HeldBuffers,
    Everything,
}

impl<B> Drop for UringDriver<B> {
    fn drop(&mut self) {
        let mut left = self.quiesce();
        for stream in self.streams.iter_mut().flatten() {
            if !stream.release(&self.ring, &mut self.files) {
                left = Left::Everything;
            }
        }
        // The kernel may still read the buffers, or write to the windows: better to lose memory than to share it.
        match left {
            Left::Nothing => {}
            Left::HeldBuffers => {
                self.streams.iter_mut().flatten().for_each(|stream| stream.leak_held());
                std::mem::forget(std::mem::take(&mut self.remains));
            }
            Left::Everything => {
                std::mem::forget(std::mem::take(&mut self.streams));
                std::mem::forget(std::mem::take(&mut self.remains));
            }
        }
    }
}
