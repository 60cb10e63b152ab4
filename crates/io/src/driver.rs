//! The trait, what it reports, and the choice between its implementations.

use crate::epoll::EpollDriver;
use crate::probe::{Facts, diagnose};
use crate::uring::UringDriver;
use crate::zerocopy::ZeroCopy;
use crate::{Bell, IoCounters, RecvWindow};
use stable_deref_trait::StableDeref;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;
use std::time::Duration;

/// A stream of a driver: 0, 1, 2, … in the order of [`Driver::add_stream`], never used again within a driver.
pub type StreamId = u32;

/// Streams that one driver takes over its life, closed ones included.
pub const STREAMS_MAX: u32 = 1 << 16;

/// What a driver runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IoKind {
    /// One io_uring per reactor.
    IoUring,
    /// epoll and non-blocking socket calls.
    Epoll,
}

impl fmt::Display for IoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            IoKind::IoUring => "io_uring",
            IoKind::Epoll => "epoll",
        })
    }
}

/// Which driver is wanted: `auto`, `io_uring` or `epoll` in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IoChoice {
    /// io_uring if it works here, otherwise epoll with a warning. The default.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// epoll.
    Epoll,
}

impl fmt::Display for IoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            IoChoice::Auto => "auto",
            IoChoice::IoUring => "io_uring",
            IoChoice::Epoll => "epoll",
        })
    }
}

impl FromStr for IoChoice {
    type Err = UnknownIoChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(IoChoice::Auto),
            "io_uring" => Ok(IoChoice::IoUring),
            "epoll" => Ok(IoChoice::Epoll),
            _ => Err(UnknownIoChoice(text.to_owned())),
        }
    }
}

/// A text that names no [`IoChoice`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no I/O driver: write auto, io_uring or epoll")]
pub struct UnknownIoChoice(pub String);

/// Why a stream ended.
#[derive(Debug)]
pub enum Closed {
    /// The peer closed its end; all that it sent was handed over.
    Eof,
    /// [`Driver::close`] was called.
    Local,
    /// The connection failed. If sending failed, what had already arrived was still handed over.
    Error(io::Error),
}

/// Takes what a driver reports. Called only inside [`Driver::poll`] and [`Driver::wait`], on their thread. A call that panics loses what it was
/// told, no more: the driver goes on with the next report.
pub trait EventSink<B> {
    /// Bytes arrived on `id`: they are in the stream's [`RecvWindow`], behind those that were there. Read and consume them now or later, but the
    /// peer is held back while the window is full.
    fn on_readable(&mut self, id: StreamId);

    /// The kernel has taken all of `buf`, and does not read it any more: it is free again. In the order of [`Driver::send`],
    /// but for those that the kernel sends without a copy ([`Driver::held`]), which come when it is done with them.
    fn on_sent(&mut self, id: StreamId, buf: B);

    /// The stream ended before the kernel was done with `buf` (a part of it, or all, may have left). In order, just before `on_closed`; or later, for
    /// buffers sent after that and for those that the kernel read in place until then ([`Driver::held`]). Drops it unless overridden.
    fn on_unsent(&mut self, id: StreamId, buf: B) {
        let _ = id;
        drop(buf);
    }

    /// The stream ended, its descriptor is closed. Exactly once per stream, its last event but for `on_unsent` of buffers sent later.
    fn on_closed(&mut self, id: StreamId, cause: Closed);
}

/// Stream sockets and a doorbell for one thread. Made where it is used: not `Send`.
///
/// `B` is an owned buffer whose bytes stay where they are when it moves.
pub trait Driver<B: StableDeref<Target = [u8]> + 'static> {
    /// What it runs on.
    fn kind(&self) -> IoKind;

    /// Takes a connected stream socket (TCP or Unix) and starts to receive from it, into a window of at least `window_bytes` (rounded up to a
    /// power of two and a page; at most 1 GiB). Sets `TCP_NODELAY`: batching is by arrival here.
    ///
    /// # Errors
    /// Not a stream socket, [`STREAMS_MAX`] reached, a parker, no memory for the window, or the kernel's refusal. The descriptor is closed then.
    fn add_stream(&mut self, fd: OwnedFd, window_bytes: usize) -> io::Result<(StreamId, RecvWindow)>;

    /// Queues `buf` behind what is queued already. It leaves at the next [`poll`](Self::poll) or [`wait`](Self::wait), together with its
    /// neighbours in one operation, one operation per stream at a time. On a stream that is closed it comes back by `on_unsent`.
    ///
    /// # Panics
    /// If `id` was never given out by this driver.
    fn send(&mut self, id: StreamId, buf: B);

    /// Buffers of `id` given to [`send`](Self::send) that the kernel has not taken yet; 0 for a closed stream. Bound it: the driver does not.
    fn queued(&self, id: StreamId) -> usize;

    /// Buffers of `id` that have been taken and not handed back, because the kernel sends them without a copy; 0 for a closed stream, and where
    /// there are no such sends. Beyond 8 sends are copied, so those it has taken at once are the most: 8 and one send of up to 64 buffers.
    fn held(&self, id: StreamId) -> usize {
        let _ = id;
        0
    }

    /// Submits what is queued and reports what is done, without sleeping. Returns the number of events reported.
    ///
    /// With nothing to submit and nothing done, io_uring makes no system call here: it reads two words of memory. epoll has to ask the kernel
    /// every time (some 0.3 µs): poll it less often than what costs nothing.
    ///
    /// # Errors
    /// Only if the driver itself is broken; the failure of a stream is an event.
    fn poll(&mut self, sink: &mut dyn EventSink<B>) -> io::Result<usize>;

    /// Whether a [`poll`](Self::poll) would find something to do, as far as that can be told without a system call: for a reactor that spins and
    /// wants to know sooner than in its next turn. io_uring reads three words of memory; epoll cannot tell, and says no.
    fn pending(&mut self) -> bool {
        false
    }

    /// As [`poll`](Self::poll), but if there is nothing to report sleeps in the kernel until there is, the doorbell rings or `timeout` has
    /// passed (`None`: no limit). A ring heard since the last wait ends this one at once, also if a `poll` between them met it. May return early
    /// with 0: look at every input again.
    ///
    /// # Errors
    /// As `poll`.
    fn wait(&mut self, timeout: Option<Duration>, sink: &mut dyn EventSink<B>) -> io::Result<usize>;

    /// The doorbell that ends a wait.
    fn bell(&self) -> Bell;

    /// Ends a stream: nothing more is received, what the kernel has not taken comes back by `on_unsent`, then `on_closed` says
    /// [`Closed::Local`], all at a later `poll` or `wait`. To flush first, wait until [`queued`](Self::queued) is 0. Does nothing on a closed
    /// stream.
    ///
    /// # Panics
    /// If `id` was never given out by this driver.
    fn close(&mut self, id: StreamId);

    /// Counts since the driver was made.
    fn counters(&self) -> IoCounters;

    /// What the driver does without here, with cause and remedy, for a report: for example no registered files, or no incremental receive
    /// buffers. Empty if it has all it uses. Grows when streams are added.
    fn notes(&self) -> &[String] {
        &[]
    }
}

/// Why no driver could be opened.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// io_uring was asked for by name and does not work here.
    #[error("io_uring was asked for but cannot be used: {cause}. Or choose `auto` or `epoll`")]
    IoUringUnusable {
        /// The cause and its remedy.
        cause: String,
    },
    /// An option was asked for and cannot be had.
    #[error(
        "{option} was asked for, which only io_uring on a kernel that permits it has: {cause}. Or leave the option out"
    )]
    Option {
        /// Which.
        option: &'static str,
        /// The cause and its remedy.
        cause: String,
    },
    /// epoll cannot be set up either.
    #[error("cannot set up epoll: {0}. If it speaks of too many open files, raise the limit (ulimit -n)")]
    Epoll(#[source] io::Error),
}

/// A driver, and the warning to show if [`IoChoice::Auto`] had to fall back.
pub type Opened<B> = (Box<dyn Driver<B>>, Option<String>);

/// How a driver is made. The default is right on shared machines and on loopback; what is off by default helps on bare metal only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoOptions {
    /// Streams expected: sizes the table of registered sockets (16 to 256), and limits nothing. Default 8.
    pub streams_hint: usize,
    /// Sends without a copy into the kernel. Default [`ZeroCopy::Auto`].
    pub zero_copy: ZeroCopy,
    /// Microseconds for which a sleeping [`Driver::wait`] polls the network card's queue before it really sleeps (io_uring, Linux 6.9). Saves the
    /// interrupt and the wake-up, 5–10 µs, between hosts with real cards, at the price of the core meanwhile; does nothing for a reactor that spins
    /// anyway, nor on loopback, Unix sockets and virtual links. Default off.
    pub napi_busy_poll_us: Option<u32>,
    /// A thread of the kernel submits and completes (io_uring). Saves the sender its system call where that thread has a **core of its own** beside
    /// the reactor's; where it has not, the two take the core from each other, and a round trip takes 8–16 ms. Default off.
    pub sqpoll: bool,
    /// Receive by one standing operation into incremental buffers, where the kernel has them (Linux 6.12). Without, each receive is submitted by
    /// itself; for comparison and for kernels that misbehave. Default on.
    pub incremental_receive: bool,
}

impl Default for IoOptions {
    fn default() -> Self {
        IoOptions {
            streams_hint: 8,
            zero_copy: ZeroCopy::Auto,
            napi_busy_poll_us: None,
            sqpoll: false,
            incremental_receive: true,
        }
    }
}

impl IoOptions {
    /// The option that was asked for and that only io_uring has.
    fn needs_io_uring(&self) -> Option<&'static str> {
        match self {
            IoOptions { sqpoll: true, .. } => Some("a submission thread (sqpoll)"),
            IoOptions { napi_busy_poll_us: Some(_), .. } => Some("NAPI busy-poll"),
            _ => None,
        }
    }
}

/// Makes the driver of this thread.
///
/// io_uring is tried for real (some bytes are received through it) before it is chosen. Options that only io_uring has and that were asked for
/// are not dropped silently: where they cannot be had, that is an error, also with [`IoChoice::Auto`].
///
/// # Errors
/// [`IoError::IoUringUnusable`] if io_uring was asked for by name and does not work; [`IoError::Option`] if an option cannot be had;
/// [`IoError::Epoll`] if epoll fails too.
pub fn open<B>(choice: IoChoice, options: &IoOptions) -> Result<Opened<B>, IoError>
where
    B: StableDeref<Target = [u8]> + 'static,
{
    let cause = match choice {
        IoChoice::Epoll => None,
        IoChoice::Auto | IoChoice::IoUring => match UringDriver::new(options) {
            Ok(driver) => return Ok((Box::new(driver), None)),
            Err(e) => Some(diagnose(&e, &Facts::read())),
        },
    };
    if let Some(option) = options.needs_io_uring() {
        let cause = cause.unwrap_or_else(|| "epoll was asked for".to_owned());
        return Err(IoError::Option { option, cause });
    }
    if choice == IoChoice::IoUring {
        let cause = cause.unwrap_or_default();
        return Err(IoError::IoUringUnusable { cause });
    }
    let driver = EpollDriver::new().map_err(IoError::Epoll)?;
    let warning = cause.map(|cause| {
        format!("io_uring cannot be used here, epoll is used instead (more system calls per batch): {cause}")
    });
    Ok((Box::new(driver), warning))
}

/// What both drivers do with a new socket.
pub(crate) fn prepare_socket(fd: &OwnedFd, streams: usize) -> io::Result<()> {
    if streams >= STREAMS_MAX as usize {
        return Err(io::Error::other(format!(
            "a driver takes at most {STREAMS_MAX} streams over its life: restart the worker, and see why its links reconnect so often"
        )));
    }
    if rustix::net::sockopt::socket_type(fd)? != rustix::net::SocketType::STREAM {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the descriptor is a socket but not a stream: give a connected TCP or Unix stream",
        ));
    }
    // Not for Unix sockets, which refuse it and do not delay either.
    let _ = rustix::net::sockopt::set_tcp_nodelay(fd.as_fd(), true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        for choice in [IoChoice::Auto, IoChoice::IoUring, IoChoice::Epoll] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let unknown = "uring".parse::<IoChoice>().expect_err("no such driver");
        assert!(unknown.to_string().contains("auto, io_uring or epoll"));
    }
}
