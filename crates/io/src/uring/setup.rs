//! Making the driver: the ring, its options, and a self-test of how it will receive. What the kernel's list of features does not tell is tried.

use super::feed::Feed;
use super::files::Files;
use super::ops::{self, Completion, Kind, Target};
use super::ring::Ring;
use super::{PATIENCE_TURN, PATIENCE_TURNS, UringDriver};
use crate::reports::Reports;
use crate::window::{WindowWriter, window};
use crate::{Bell, IoCounters, IoOptions};
use io_uring::types::Napi;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A step of the set-up failed.
#[derive(Debug)]
pub(crate) struct SetupError {
    pub(crate) step: &'static str,
    pub(crate) source: io::Error,
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> SetupError {
    move |source| SetupError { step, source }
}

impl<B> UringDriver<B> {
    /// Sets up the ring and receives some bytes through it.
    pub(crate) fn new(options: &IoOptions) -> Result<Self, SetupError> {
        let mut notes = Vec::new();
        let mut ring = make_ring(options)?;
        let mut incremental = options.incremental_receive;
        if incremental && let Err(e) = try_incremental(&mut ring) {
            notes.push(format!(
                "the kernel has no incremental receive buffers ({} failed with {}; Linux 6.12 has them): each receive is submitted by itself, \
                 which costs a system call more per arrival",
                e.step, e.source
            ));
            incremental = false;
            // A test that failed half-way may have left something in flight there.
            ring = make_ring(options)?;
        }
        if !incremental {
            try_once(&mut ring)?;
        }
        let bell = Bell::new().map_err(failed("eventfd"))?;
        let (files, note) = Files::new(ring.io_uring(), options.streams_hint);
        notes.extend(note);
        ring.syscalls = 0;
        Ok(UringDriver {
            ring,
            files,
            bell,
            bell_armed: false,
            rung: false,
            incremental,
            zero_copy: options.zero_copy,
            streams: Vec::new(),
            dirty: Vec::new(),
            lagging: Vec::new(),
            remains: Vec::new(),
            reports: Reports::new(),
            counters: IoCounters::default(),
            notes,
        })
    }
}

fn make_ring(options: &IoOptions) -> Result<Ring, SetupError> {
    let step = if options.sqpoll { "io_uring_setup (with a submission thread, sqpoll)" } else { "io_uring_setup" };
    let ring = Ring::new(options).map_err(failed(step))?;
    if let Some(micros) = options.napi_busy_poll_us {
        let mut napi = Napi::new().set_busy_poll_timeout(micros).set_prefer_busy_poll(true);
        ring.io_uring().submitter().register_napi(&mut napi).map_err(failed("io_uring_register (NAPI busy-poll)"))?;
    }
    Ok(ring)
}

/// Receives some arrivals and the end by one standing receive into incremental buffers: the bytes must lie end to end, also over several buffers.
fn try_incremental(ring: &mut Ring) -> Result<(), SetupError> {
    let (mut writer, reader) = window(1).map_err(failed("mapping a receive window"))?;
    let mut feed = Feed::new(ring.io_uring(), 0, &writer).map_err(failed("io_uring_register (incremental buffers)"))?;
    // More than one buffer, which is an eighth of the window.
    let said: Vec<u8> = (0..reader.size() / 3).map(|at| at as u8).collect();
    let receive = |ring: &mut Ring, writer: &mut WindowWriter| {
        let pair = Pair::new()?;
        // SAFETY: see `Ring::push`. The operation refers to a socket that lives to the end of this closure (if it is not over by then, it holds
        // the socket itself), and to the window and its feed, which are leaked if anything is in flight at the end.
        unsafe { ring.push(&feed.receive(pair.target(), Kind::Test, 0)) }.map_err(failed(ENTER))?;
        for piece in [&said[..1], &said[1..3], &said[3..]] {
            let mut c = pair.say(ring, piece)?;
            let mut left = piece.len();
            loop {
                let len = usize::try_from(c.result).unwrap_or(0);
                if len == 0 || len > left || !c.more || !feed.agrees(writer, c.buffer, len) {
                    return Err(refused(c));
                }
                writer.publish(len);
                left -= len;
                if left == 0 {
                    break;
                }
                c = next(ring)?;
            }
        }
        expect(pair.end(ring)?, 0, false)
    };
    let mut tried = receive(ring, &mut writer);
    if tried.is_ok() && reader.unread() != said {
        tried = Err(failed(RECEIVE)(Errno::OPNOTSUPP.into()));
    }
    if ring.in_flight() > 0 {
        // The kernel may still write there.
        std::mem::forget((writer, reader, feed));
    } else {
        feed.unregister(ring.io_uring()).map_err(failed("io_uring_register (unregistering buffers)"))?;
    }
    tried
}

/// Receives two bytes by a receive of its own.
fn try_once(ring: &mut Ring) -> Result<(), SetupError> {
    let (writer, reader) = window(1).map_err(failed("mapping a receive window"))?;
    let receive = |ring: &mut Ring| {
        let pair = Pair::new()?;
        // SAFETY: see `Ring::push`. The operation refers to a socket that lives to the end of this closure (if it is not over by then, it holds
        // the socket itself), and to the window, which is leaked if anything is in flight at the end.
        unsafe { ring.push(&ops::recv_once(pair.target(), writer.spare_at(), Kind::Test, 0)) }
            .map_err(failed(ENTER))?;
        expect(pair.say(ring, b"ab")?, 2, false)
    };
    let tried = receive(ring);
    if ring.in_flight() > 0 {
        std::mem::forget((writer, reader));
    }
    tried
}

const ENTER: &str = "io_uring_enter";
const RECEIVE: &str = "receiving through io_uring";

/// A socket to receive from, and its peer.
struct Pair {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Pair {
    fn new() -> Result<Pair, SetupError> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|e| failed("socketpair")(e.into()))?;
        Ok(Pair { ours, theirs })
    }

    fn target(&self) -> Target {
        Target::Descriptor(self.ours.as_raw_fd())
    }

    /// The completion that these bytes bring about.
    fn say(&self, ring: &mut Ring, bytes: &[u8]) -> Result<Completion, SetupError> {
        rustix::io::write(&self.theirs, bytes).map_err(|e| failed("writing to a socket pair")(e.into()))?;
        next(ring)
    }

    /// The completion that the end of file brings about.
    fn end(self, ring: &mut Ring) -> Result<Completion, SetupError> {
        drop(self.theirs);
        next(ring)
    }
}

fn next(ring: &mut Ring) -> Result<Completion, SetupError> {
    for _ in 0..PATIENCE_TURNS {
        ring.enter(1, Some(PATIENCE_TURN)).map_err(failed(ENTER))?;
        if let Some(completion) = ring.next_completion() {
            return Ok(completion);
        }
    }
    Err(failed(RECEIVE)(Errno::TIMEDOUT.into()))
}

fn expect(c: Completion, bytes: usize, more: bool) -> Result<(), SetupError> {
    if (c.result, c.more) == (bytes as i32, more) { Ok(()) } else { Err(refused(c)) }
}

/// A completion that is not what it should be.
fn refused(c: Completion) -> SetupError {
    let errno = if c.result < 0 { -c.result } else { libc::EOPNOTSUPP };
    failed(RECEIVE)(io::Error::from_raw_os_error(errno))
}
