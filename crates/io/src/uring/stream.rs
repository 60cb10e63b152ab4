//! One socket of the io_uring driver, with its window and what is in flight on it.
//!
//! Invariant: what an operation in flight points to (socket, header, pieces, buffers, room of the window) is neither changed nor dropped. So a stream is
//! taken apart only when neither its receive nor its send is in flight, and what still waits for the notification of a zero-copy send moves to
//! a [`Remains`].

use super::feed::Feed;
use super::files::Files;
use super::held::Held;
use super::ops::{self, Completion, Kind, SendMemory, Target};
use super::ring::Ring;
use crate::outgoing::Outgoing;
use crate::planted::{Bug, is};
use crate::reports::Reports;
use crate::window::WindowWriter;
use crate::zerocopy::ZeroCopyPolicy;
use crate::{Closed, IoCounters, StreamId};
use stable_deref_trait::StableDeref;
use std::io;
use std::os::fd::OwnedFd;

pub(super) struct Stream<B> {
    pub(super) id: StreamId,
    pub(super) out: Outgoing<B>,
    /// What the send in flight points to, beside the buffers in `out`.
    memory: Box<SendMemory>,
    /// The send in flight. Then `memory` and the buffers in `out` are the kernel's.
    sending: Option<Sending>,
    /// What zero-copy sends have taken and the kernel still reads.
    held: Held<B>,
    policy: ZeroCopyPolicy,
    /// Number of the last zero-copy send.
    number: u16,
    window: WindowWriter,
    /// The window's room in the kernel's hands, consumed bit by bit; without it each receive is given the room itself.
    feed: Option<Feed>,
    /// Whether a receive is in flight. Then the room of the window is the kernel's.
    receiving: bool,
    /// The window was full: no receive until the reader has consumed.
    starved: bool,
    /// Whether it is in the driver's list of streams with something to submit.
    pub(super) dirty: bool,
    /// Whether it is in the driver's list of streams whose window is not empty.
    pub(super) lagging: bool,
    /// Sending failed: nothing more is sent, but what has arrived is still handed over.
    pub(super) send_error: Option<io::Error>,
    /// Set once the stream is being taken down: nothing more is submitted for it, and it ends when nothing is in flight.
    pub(super) end: Option<Closed>,
    recv_cancelled: bool,
    send_cancelled: bool,
    target: Target,
    fd: OwnedFd,
}

#[derive(Clone, Copy)]
struct Sending {
    bytes: usize,
    zero_copy: bool,
}

impl<B: StableDeref<Target = [u8]>> Stream<B> {
    pub(super) fn new(
        id: StreamId,
        fd: OwnedFd,
        target: Target,
        window: WindowWriter,
        feed: Option<Feed>,
        policy: ZeroCopyPolicy,
    ) -> Self {
        Stream {
            id,
            out: Outgoing::new(),
            memory: SendMemory::new(),
            sending: None,
            held: Held::new(),
            policy,
            number: 0,
            window,
            feed,
            receiving: false,
            starved: false,
            dirty: false,
            lagging: false,
            send_error: None,
            end: None,
            recv_cancelled: false,
            send_cancelled: false,
            target,
            fd,
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(super) fn sending(&self) -> bool {
        self.sending.is_some()
    }

    pub(super) fn in_flight(&self) -> bool {
        self.receiving || self.sending.is_some()
    }

    pub(super) fn waiting(&self) -> usize {
        self.held.waiting()
    }

    /// Submits the receive and the next send, where they are missing. `false`: the ring has no room now.
    pub(super) fn start(&mut self, ring: &mut Ring) -> io::Result<bool> {
        if !self.receiving && !self.starved {
            let entry = match &self.feed {
                Some(feed) => feed.receive(self.target, Kind::Recv, self.id),
                None => ops::recv_once(self.target, self.window.spare_at(), Kind::Recv, self.id),
            };
            // SAFETY: see `Ring::push`. The operation refers to the socket, which is dropped only when `receiving` is false, and writes to the
            // room of the window: all of it, or what the feed has given to the kernel. Window and feed stay as long as the stream, nothing is
            // published before the completion says so, and the reader never touches what is not published.
            self.receiving = unsafe { ring.push(&entry) }?;
            if !self.receiving {
                return Ok(false);
            }
        }
        if self.sending.is_none() && !self.out.is_empty() && self.send_error.is_none() {
            let bytes = self.memory.fill(&self.out);
            let zero_copy = self.policy.wants(bytes, self.held.waiting());
            let entry = if zero_copy {
                self.number = self.number.wrapping_add(1);
                self.memory.send_zc(self.target, self.number, self.id)
            } else {
                self.memory.send(self.target, self.id)
            };
            // SAFETY: see `Ring::push`. The operation points into `memory`, which is boxed and written only here, when no send is in flight; to
            // the bytes of buffers in `out`, which `StableDeref` keeps in place and which leave that queue only on completion (then into `held`
            // if the kernel still reads them) or when the stream ends with no send in flight; and to the socket, dropped only then too.
            if !unsafe { ring.push(&entry) }? {
                return Ok(false);
            }
            self.sending = Some(Sending { bytes, zero_copy });
        }
        Ok(true)
    }

    /// Cancels what is in flight, once. `false`: the ring has no room now.
    pub(super) fn cancel(&mut self, ring: &mut Ring) -> io::Result<bool> {
        let (send, number) = match self.sending {
            Some(Sending { zero_copy: true, .. }) => (Kind::SendZc, self.number),
            _ => (Kind::Send, 0),
        };
        for (kind, number, running, cancelled) in [
            (Kind::Recv, 0, self.receiving, &mut self.recv_cancelled),
            (send, number, self.sending.is_some(), &mut self.send_cancelled),
        ] {
            if running && !*cancelled {
                // SAFETY: see `Ring::push`. The operation points to nothing.
                *cancelled = unsafe { ring.push(&ops::cancel(kind, number, self.id)) }?;
                if !*cancelled {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// A completion of the receive. Whether bytes have arrived. A cause to end the stream is noted.
    pub(super) fn received(&mut self, c: Completion, counters: &mut IoCounters) -> bool {
        self.receiving = c.more;
        let bytes = usize::try_from(c.result).unwrap_or(0);
        let mut over = match c.result {
            1.. => None,
            // Of a multishot receive the end comes without `more`; if it did not, there would be nothing to go on with either.
            0 => Some(Closed::Eof),
            e if e == -libc::ENOBUFS => {
                counters.recvs_starved += 1;
                self.starved = true;
                None
            }
            e if e == -libc::EINTR || e == -libc::EAGAIN => None,
            e => Some(Closed::Error(io::Error::from_raw_os_error(-e))),
        };
        let misplaced = self.feed.as_ref().is_some_and(|feed| !feed.agrees(&self.window, c.buffer, bytes));
        let told = bytes > 0 && !misplaced && !matches!(self.end, Some(Closed::Local));
        if told {
            self.window.publish(bytes);
            counters.recvs += 1;
            counters.bytes_in += bytes as u64;
        } else if bytes > 0 && misplaced {
            over = Some(Closed::Error(io::Error::other(
                "the kernel put received bytes where they do not belong: it does not keep the promise of incremental receive buffers; \
                 choose the epoll driver, and report the kernel's version",
            )));
        }
        if let (Some(over), true) = (over, self.end.is_none()) {
            self.end = Some(self.send_error.take().map_or(over, Closed::Error));
        }
        if !self.receiving && !self.starved && !self.has_room() {
            counters.recvs_starved += 1;
            self.starved = true;
        }
        told
    }

    /// Whether a receive has where to put something.
    fn has_room(&self) -> bool {
        match &self.feed {
            Some(feed) => feed.has_room(&self.window),
            None => self.window.worth_receiving(),
        }
    }

    /// Gives the kernel the room that the reader has made. Whether there is something to submit now, and whether to look again.
    pub(super) fn recycle(&mut self, counters: &mut IoCounters) -> (bool, bool) {
        if let Some(feed) = &mut self.feed {
            counters.chunks_recycled += feed.give(&self.window);
        }
        let again = self.window.room() < self.window.size();
        (self.has_room() && std::mem::take(&mut self.starved), again)
    }

    /// The completion of the send in flight, not its notification. `Err`: the stream cannot send any more.
    pub(super) fn sent(
        &mut self,
        c: Completion,
        reports: &mut Reports<B>,
        counters: &mut IoCounters,
    ) -> Result<(), io::Error> {
        let sending = self.sending.take().expect("a send completes once");
        match c.result {
            taken @ 1.. => {
                let taken = if is(Bug::ShortSend) { sending.bytes } else { taken as usize };
                counters.sends += 1;
                counters.zc_sent += u64::from(sending.zero_copy);
                counters.bytes_out += taken as u64;
                counters.sends_short += u64::from(taken < sending.bytes);
                self.took(taken, c.more.then_some(c.number), reports, counters);
                Ok(())
            }
            e if e == -libc::EINTR || e == -libc::EAGAIN => Ok(()),
            // Not on this socket, or no more locked memory to count its pages in: go on with copies.
            e if sending.zero_copy && [libc::EOPNOTSUPP, libc::EINVAL, libc::ENOMEM, libc::ENOBUFS].contains(&-e) => {
                self.policy.refused();
                Ok(())
            }
            _ if self.end.is_some() => Ok(()),
            // A stream socket never takes 0 of some bytes; if it did, trying again would be a busy loop.
            0 => Err(io::Error::from_raw_os_error(libc::EPIPE)),
            e => Err(io::Error::from_raw_os_error(-e)),
        }
    }

    /// The kernel took bytes, and will notify when it does not read them any more if `notification`. Buffers that nothing is read of go back at once.
    fn took(&mut self, bytes: usize, notification: Option<u16>, reports: &mut Reports<B>, counters: &mut IoCounters) {
        let Stream { held, out, id, .. } = self;
        // A part of the first may be read by a zero-copy send before this one.
        let notification = notification.filter(|_| !is(Bug::BufferReused));
        let mut still_read = notification.is_some() || (!held.is_empty() && out.is_front_cut());
        if let Some(number) = notification {
            held.taken_by(number);
        }
        out.advance(bytes, |buf| {
            counters.buffers_out += 1;
            if still_read {
                held.hold(buf);
            } else {
                reports.sent(*id, buf);
            }
            still_read = notification.is_some();
        });
    }

    /// Reports empty buffers in front; no send is in flight.
    pub(super) fn skip_empty(&mut self, reports: &mut Reports<B>, counters: &mut IoCounters) {
        if self.sending.is_none() && self.out.is_front_empty() {
            self.took(0, None, reports, counters);
        }
    }

    /// The kernel is done with what zero-copy send `number` took.
    pub(super) fn notified(&mut self, number: u16, copied: bool, reports: &mut Reports<B>) {
        self.policy.notified(copied);
        let id = self.id;
        self.held.notified(number, |buf| reports.sent(id, buf));
    }

    /// Closes the socket; nothing but notifications is awaited on it. Its last reports, and what must be kept for the notifications.
    pub(super) fn finish(self, ring: &mut Ring, files: &mut Files, reports: &mut Reports<B>) -> Option<Remains<B>> {
        assert!(!self.in_flight(), "a stream ends when the kernel is done with it");
        let Stream { id, mut out, held, end, fd, target, feed, .. } = self;
        ring.syscalls += 1 + u64::from(files.remove(ring.io_uring(), target));
        drop(fd);
        if let Some(mut feed) = feed {
            ring.syscalls += 1;
            // If the kernel does not give it back, the feed keeps its page for ever.
            let _ = feed.unregister(ring.io_uring());
        }
        let remains = (!held.is_empty()).then(|| Remains { id, held, cut: out.take_cut_front() });
        out.report_unsent(id, reports);
        reports.closed(id, end.expect("a stream ends for a reason"));
        remains
    }
}

impl<B> Stream<B> {
    /// Takes the socket and the window back from the ring, in the driver's drop: nothing is in flight. `false`: the kernel does not give them back.
    pub(super) fn release(&mut self, ring: &Ring, files: &mut Files) -> bool {
        files.remove(ring.io_uring(), self.target);
        self.feed.as_mut().is_none_or(|feed| feed.unregister(ring.io_uring()).is_ok())
    }

    /// Keeps for ever what notifications are awaited of.
    pub(super) fn leak_held(&mut self) {
        let held = std::mem::replace(&mut self.held, Held::new());
        if !held.is_empty() {
            std::mem::forget(self.out.take_cut_front());
        }
        std::mem::forget(held);
    }
}

/// What is left of a closed stream until the kernel has let go of it: buffers of zero-copy sends.
pub(super) struct Remains<B> {
    pub(super) id: StreamId,
    held: Held<B>,
    /// The buffer of which a part was taken.
    cut: Option<B>,
}

impl<B> Remains<B> {
    /// The kernel is done with what a send took. Whether with everything.
    pub(super) fn notified(&mut self, number: u16, reports: &mut Reports<B>) -> bool {
        let id = self.id;
        self.held.notified(number, |buf| reports.unsent(id, buf));
        if !self.held.is_empty() {
            return false;
        }
        if let Some(buf) = self.cut.take() {
            reports.unsent(id, buf);
        }
        true
    }
}
