//! What the suites share: connected pairs, buffers that tell when they are freed, a sink that records and checks, and bounded turning.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use squall_io::{Closed, Driver, EventSink, IoChoice, StreamId, open};
use stable_deref_trait::StableDeref;
use std::collections::BTreeMap;
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

/// Records everything, and fails on what must never be: an event after the last one, an empty or oversized piece.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) streams: BTreeMap<StreamId, StreamLog>,
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
    fn on_recv(&mut self, id: StreamId, bytes: &[u8]) {
        let log = self.log(id);
        assert!(log.closed.is_none(), "received on stream {id} after it was closed");
        assert!(!bytes.is_empty() && bytes.len() <= 64 << 10, "a piece of {} bytes", bytes.len());
        log.received.extend_from_slice(bytes);
        log.pieces += 1;
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

pub(crate) fn driver(choice: IoChoice, streams_hint: usize) -> BoxDriver {
    let (driver, warning) = open(choice, streams_hint).expect("the driver under test");
    assert_eq!(warning, None);
    driver
}

/// A driver with its record.
pub(crate) struct End {
    pub(crate) driver: BoxDriver,
    pub(crate) seen: Recorder,
}

impl End {
    pub(crate) fn new(choice: IoChoice) -> End {
        End { driver: driver(choice, 1), seen: Recorder::default() }
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
