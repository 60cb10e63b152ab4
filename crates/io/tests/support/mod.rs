//! What the suites share: connected pairs, buffers that tell when they are freed, a sink that records and checks, and bounded turning.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use rustix::net::sockopt;
use squall_io::{Closed, Driver, EventSink, IoChoice, IoOptions, RecvWindow, StreamId, ZeroCopy, open, probe};
use stable_deref_trait::StableDeref;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One turn of a loop that must not hang: long enough never to matter.
pub(crate) const TURN: Duration = Duration::from_millis(100);
/// Turns without any event after which a test gives up.
const IDLE_TURNS_MAX: u32 = 100;

/// Bytes of a stream's window, unless a test asks for another.
pub(crate) const WINDOW: usize = 64 << 10;

/// A driver under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    IoUring,
    /// io_uring as on a kernel without incremental buffers.
    OneReceiveEach,
    Epoll,
}

impl Which {
    pub(crate) fn choice(self) -> IoChoice {
        if self == Which::Epoll { IoChoice::Epoll } else { IoChoice::IoUring }
    }

    pub(crate) fn options(self) -> IoOptions {
        IoOptions { incremental_receive: self != Which::OneReceiveEach, ..IoOptions::default() }
    }

    /// Runs a test of a suite. Where io_uring is blocked it says so and passes: the machine cannot be blamed for it, and `blocked.rs` checks that
    /// the fallback tells.
    pub(crate) fn run(self, name: &str, test: fn(Which)) {
        // Only then: the end of a ring interrupts a later sleep of its thread, and some of these tests are about sleeping.
        if self != Which::Epoll
            && let Some(cause) = probe().cause
        {
            eprintln!("{name}: only epoll is tested, io_uring cannot be used here: {cause}");
            return;
        }
        test(self);
    }
}

/// Each named test once per driver.
#[allow(unused_macros, reason = "each test binary uses a part of it")]
macro_rules! suite {
    ($($name:ident)*) => {
        mod io_uring {
            $(#[test] fn $name() { super::Which::IoUring.run(stringify!($name), super::$name); })*
        }
        mod one_receive_each {
            $(#[test] fn $name() { super::Which::OneReceiveEach.run(stringify!($name), super::$name); })*
        }
        mod epoll {
            $(#[test] fn $name() { super::Which::Epoll.run(stringify!($name), super::$name); })*
        }
    };
}
#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub(crate) use suite;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    Unix,
    Tcp,
}

pub(crate) const SOCKETS: [Socket; 2] = [Socket::Unix, Socket::Tcp];

impl Socket {
    pub(crate) fn pair(self) -> (OwnedFd, OwnedFd) {
        match self {
            Socket::Unix => {
                let (a, b) = UnixStream::pair().expect("a socket pair");
                (a.into(), b.into())
            }
            Socket::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
                let a = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
                let (b, _) = listener.accept().expect("accept");
                (a.into(), b.into())
            }
        }
    }
}

/// A buffer that counts itself and spoils its bytes when it is freed, so that a kernel that reads it later sends rubbish.
pub(crate) struct Buf {
    bytes: Box<[u8]>,
    live: Arc<AtomicUsize>,
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

// SAFETY: `StableDeref` demands that the bytes stay in place when the value moves, and that `deref` gives the same ones: they are boxed, and
// replaced by nobody.
unsafe impl StableDeref for Buf {}

impl Drop for Buf {
    fn drop(&mut self) {
        self.bytes.fill(0xDD);
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes buffers and knows how many are alive.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    live: Arc<AtomicUsize>,
}

impl Pool {
    pub(crate) fn buf(&self, bytes: &[u8]) -> Buf {
        self.live.fetch_add(1, Ordering::SeqCst);
        Buf { bytes: bytes.into(), live: Arc::clone(&self.live) }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }
}

#[derive(Default, Debug)]
pub(crate) struct StreamLog {
    pub(crate) received: Vec<u8>,
    pub(crate) pieces: usize,
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) unsent: Vec<Vec<u8>>,
    pub(crate) closed: Option<Closed>,
}

/// Records everything, and fails on what must never be: an event after the last one, a report of nothing. Consumes what arrives at once, for the
/// streams whose window it has.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) streams: BTreeMap<StreamId, StreamLog>,
    pub(crate) windows: BTreeMap<StreamId, RecvWindow>,
}

impl Recorder {
    pub(crate) fn log(&mut self, id: StreamId) -> &mut StreamLog {
        self.streams.entry(id).or_default()
    }

    pub(crate) fn received(&self, id: StreamId) -> usize {
        self.streams.get(&id).map_or(0, |log| log.received.len())
    }

    pub(crate) fn sent(&self, id: StreamId) -> usize {
        self.streams.get(&id).map_or(0, |log| log.sent.len())
    }

    pub(crate) fn is_closed(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|log| log.closed.is_some())
    }
}

impl<B: Deref<Target = [u8]>> EventSink<B> for Recorder {
    fn on_readable(&mut self, id: StreamId) {
        let log = self.streams.entry(id).or_default();
        assert!(log.closed.is_none(), "received on stream {id} after it was closed");
        log.pieces += 1;
        if let Some(window) = self.windows.get_mut(&id) {
            assert!(!window.unread().is_empty(), "readable, but nothing to read on stream {id}");
            log.received.extend_from_slice(window.unread());
            window.consume(window.unread().len());
        }
    }

    fn on_sent(&mut self, id: StreamId, buf: B) {
        let log = self.log(id);
        assert!(log.closed.is_none() && log.unsent.is_empty(), "sent on stream {id} after it ended");
        log.sent.push(buf.to_vec());
    }

    fn on_unsent(&mut self, id: StreamId, buf: B) {
        self.log(id).unsent.push(buf.to_vec());
    }

    fn on_closed(&mut self, id: StreamId, cause: Closed) {
        let log = self.log(id);
        assert!(log.closed.is_none(), "stream {id} closed twice");
        log.closed = Some(cause);
    }
}

pub(crate) type BoxDriver = Box<dyn Driver<Buf>>;

pub(crate) fn driver(which: Which) -> BoxDriver {
    let (driver, warning) = open(which.choice(), &which.options()).expect("the driver under test");
    assert_eq!(warning, None);
    driver
}

/// A driver with its record.
pub(crate) struct End {
    pub(crate) driver: BoxDriver,
    pub(crate) seen: Recorder,
}

impl End {
    pub(crate) fn new(which: Which) -> End {
        End { driver: driver(which), seen: Recorder::default() }
    }

    /// Without zero-copy sends, so that all buffers come back in order.
    pub(crate) fn copying(which: Which) -> End {
        End::with(which, IoOptions { zero_copy: ZeroCopy::Off, ..which.options() })
    }

    pub(crate) fn with(which: Which, options: IoOptions) -> End {
        let (driver, _) = open(which.choice(), &options).expect("the driver under test");
        End { driver, seen: Recorder::default() }
    }

    /// Adds a stream whose bytes the record takes as they come.
    pub(crate) fn add(&mut self, fd: OwnedFd) -> StreamId {
        let (id, window) = self.add_unread(fd, WINDOW);
        self.seen.windows.insert(id, window);
        id
    }

    /// Adds a stream that nobody reads but the caller.
    pub(crate) fn add_unread(&mut self, fd: OwnedFd, window_bytes: usize) -> (StreamId, RecvWindow) {
        self.driver.add_stream(fd, window_bytes).expect("a stream")
    }

    pub(crate) fn poll(&mut self) -> usize {
        self.driver.poll(&mut self.seen).expect("the driver works")
    }

    pub(crate) fn wait(&mut self, timeout: Duration) -> usize {
        self.driver.wait(Some(timeout), &mut self.seen).expect("the driver works")
    }

    /// Turns until `done`; fails after many turns in which nothing happens.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut End) -> bool) {
        let mut idle = 0;
        while !done(self) {
            idle = if self.wait(TURN) > 0 { 0 } else { idle + 1 };
            assert!(idle < IDLE_TURNS_MAX, "nothing happens any more while waiting until {what}");
        }
    }
}

/// Turns both ends, spinning, until `done`.
pub(crate) fn both_until(a: &mut End, b: &mut End, what: &str, mut done: impl FnMut(&End, &End) -> bool) {
    let mut idle = 0u32;
    while !done(a, b) {
        if a.poll() + b.poll() > 0 {
            idle = 0;
        } else {
            idle += 1;
            // The kernel may owe us an event: sleep for it now and then, rather than count turns that take no time.
            if idle.is_multiple_of(64) {
                b.wait(Duration::from_millis(1));
            }
        }
        assert!(idle < 64 * 5_000, "nothing happens any more while waiting until {what}");
    }
}

/// A small seeded generator: the tests are the same in every run.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

pub(crate) fn write_all(fd: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let n = rustix::io::write(fd, bytes).expect("the peer writes");
        bytes = &bytes[n..];
    }
}

/// A peer that is owed bytes fails after a while instead of hanging.
fn be_impatient(fd: &OwnedFd) {
    sockopt::set_socket_timeout(fd, sockopt::Timeout::Recv, Some(200 * TURN)).expect("a timeout");
}

pub(crate) fn read_exact(fd: &OwnedFd, mut into: &mut [u8]) {
    be_impatient(fd);
    while !into.is_empty() {
        let n = rustix::io::read(fd, &mut *into).expect("the peer reads");
        assert!(n > 0, "end of file");
        into = &mut into[n..];
    }
}

/// To the end of file, or to the reset that follows the data when the other side closed with something unread.
pub(crate) fn read_to_end(fd: &OwnedFd, into: &mut Vec<u8>) {
    be_impatient(fd);
    let mut stream = TcpStream::from(fd.try_clone().expect("a second descriptor"));
    if let Err(e) = stream.read_to_end(into) {
        assert_eq!(e.kind(), ErrorKind::ConnectionReset);
    }
}
