//! A driver without sockets: it only sleeps and is woken. For reactors whose links are all rings, and for side reactors: no ring to set up, no
//! receive memory, one system call per sleep.

use crate::{Bell, Driver, EventSink, IoCounters, IoKind, RecvWindow, StreamId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use stable_deref_trait::StableDeref;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

struct Parker {
    bell: Bell,
    counters: IoCounters,
}

/// Makes a driver that has a doorbell and no streams: `add_stream` is an error, `poll` does nothing and costs nothing, `wait` sleeps until the
/// bell or the timeout. It says that it is [`IoKind::Epoll`].
///
/// # Panics
/// If the process has no file descriptor left for the doorbell.
pub fn parker<B: StableDeref<Target = [u8]> + 'static>() -> Box<dyn Driver<B>> {
    let bell = Bell::new().expect("an eventfd for the doorbell: raise the limit of open files (ulimit -n)");
    Box::new(Parker { bell, counters: IoCounters::default() })
}

impl<B: StableDeref<Target = [u8]> + 'static> Driver<B> for Parker {
    fn kind(&self) -> IoKind {
        IoKind::Epoll
    }

    fn add_stream(&mut self, _fd: OwnedFd, _window_bytes: usize) -> io::Result<(StreamId, RecvWindow)> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a parker has no streams: open an io_uring or epoll driver for this reactor",
        ))
    }

    fn send(&mut self, id: StreamId, _buf: B) {
        panic!("send to stream {id} of a parker, which has none");
    }

    fn queued(&self, _id: StreamId) -> usize {
        0
    }

    fn poll(&mut self, _sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        Ok(0)
    }

    fn wait(&mut self, timeout: Option<Duration>, _sink: &mut dyn EventSink<B>) -> io::Result<usize> {
        let timeout = timeout.map(timespec);
        self.counters.syscalls += 1;
        match poll(&mut [PollFd::new(&self.bell.as_fd(), PollFlags::IN)], timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => {
                self.counters.syscalls += 1;
                self.counters.wakeups += 1;
                self.counters.bells += u64::from(self.bell.hear());
            }
            Err(e) => return Err(e.into()),
        }
        Ok(0)
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn close(&mut self, id: StreamId) {
        panic!("close of stream {id} of a parker, which has none");
    }

    fn counters(&self) -> IoCounters {
        self.counters
    }
}

/// A duration for the kernel; one beyond its range is as good as for ever.
pub(crate) fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), tv_nsec: d.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Closed;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Instant;

    struct Nothing;

    impl EventSink<Vec<u8>> for Nothing {
        fn on_readable(&mut self, _: StreamId) {
            panic!("a parker receives nothing");
        }
        fn on_sent(&mut self, _: StreamId, _: Vec<u8>) {
            panic!("a parker sends nothing");
        }
        fn on_closed(&mut self, _: StreamId, _: Closed) {
            panic!("a parker closes nothing");
        }
    }

    #[test]
    fn a_parker_sleeps_until_the_bell_or_the_timeout() {
        let mut parker = parker::<Vec<u8>>();
        let bell = parker.bell();
        bell.ring();
        assert_eq!(parker.poll(&mut Nothing).expect("never fails"), 0);
        parker.wait(None, &mut Nothing).expect("rung before");
        let ringer = thread::spawn(move || bell.ring());
        parker.wait(None, &mut Nothing).expect("rung by another thread");
        ringer.join().expect("the ringer");
        for timeout in [0, 300, 2500].map(Duration::from_micros) {
            let before = Instant::now();
            parker.wait(Some(timeout), &mut Nothing).expect("nobody rings");
            assert!(before.elapsed() >= timeout);
        }
        let counters = parker.counters();
        assert_eq!((counters.bells, counters.wakeups, counters.syscalls), (2, 2, 7));
    }

    #[test]
    fn a_parker_takes_no_streams() {
        let mut parker = parker::<Vec<u8>>();
        let (ours, _theirs) = UnixStream::pair().expect("a socket pair");
        let refused = parker.add_stream(ours.into(), 4096).expect_err("it has none");
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        assert_eq!((parker.kind(), parker.queued(0)), (IoKind::Epoll, 0));
    }
}
