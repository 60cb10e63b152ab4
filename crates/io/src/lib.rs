//! The I/O drivers of a reactor: stream sockets and one doorbell, by io_uring or by epoll, behind one trait.
//!
//! [`open`] makes the [`Driver`] that a reactor owns: io_uring where the kernel permits it, epoll where it does not, with a warning that names
//! the cause and the remedy. [`parker`] makes one without sockets, for reactors that only sleep and are woken. [`probe`] only asks.
//!
//! ```no_run
//! # use squall_io::*;
//! #[derive(Default)]
//! struct Seen { readable: bool }
//! impl EventSink<Vec<u8>> for Seen {
//!     fn on_readable(&mut self, _: StreamId) { self.readable = true }
//!     fn on_sent(&mut self, _: StreamId, _: Vec<u8>) {}
//!     fn on_closed(&mut self, id: StreamId, cause: Closed) { println!("stream {id}: {cause:?}") }
//! }
//! let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
//! let (mut driver, warning) = open::<Vec<u8>>(IoChoice::Auto, &IoOptions::default()).expect("epoll is everywhere");
//! if let Some(warning) = warning { eprintln!("{warning}") }
//! let (stream, mut window) = driver.add_stream(ours.into(), 64 << 10)?;
//! driver.send(stream, b"a batch".to_vec());
//! let mut seen = Seen::default();
//! driver.wait(None, &mut seen)?;
//! println!("{} bytes", window.unread().len());
//! window.consume(window.unread().len());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What arrives is read where the kernel put it: each stream has a [`RecvWindow`], memory mapped twice in a row so that the unread part of the
//! stream is always one slice. Reading is the caller's, before, after or between turns of the driver; what it does not consume holds the peer back.
//! Neither driver copies a byte in user space, in either direction.
//!
//! Limits: up to [`STREAMS_MAX`] streams over a driver's life; a window of 4 KiB to 1 GiB each. The send queue of a stream is bounded by its
//! caller (the engine's credits): the driver only counts it ([`Driver::queued`]).
//!
//! Invariants: a buffer given to [`Driver::send`] comes back exactly once, by `on_sent` or `on_unsent`, unless the driver is dropped first;
//! `on_closed` is the last event of every stream (but for late `on_unsent`s); a buffer the kernel may still read is not freed, not even by a drop,
//! and neither is a window that it may still write to.
//!
//! Deliberately absent: connecting and listening (the runner makes the sockets), half-closed streams (an end of file closes the stream), framing,
//! timers.

#[forbid(unsafe_code)]
mod bell;
#[forbid(unsafe_code)]
mod counters;
#[forbid(unsafe_code)]
mod driver;
#[forbid(unsafe_code)]
mod epoll;
#[forbid(unsafe_code)]
mod outgoing;
#[forbid(unsafe_code)]
mod parker;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod planted;
#[forbid(unsafe_code)]
mod probe;
#[forbid(unsafe_code)]
mod reports;
mod uring;
mod window;
#[forbid(unsafe_code)]
mod zerocopy;

pub use bell::Bell;
pub use counters::IoCounters;
pub use driver::{
    Closed, Driver, EventSink, IoChoice, IoError, IoKind, IoOptions, Opened, STREAMS_MAX, StreamId, UnknownIoChoice,
    open,
};
pub use parker::parker;
pub use probe::{Probe, probe};
pub use window::RecvWindow;
pub use zerocopy::ZeroCopy;
