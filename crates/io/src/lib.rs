//! The I/O drivers of a reactor: stream sockets and one doorbell, by io_uring or by epoll, behind one trait.
//!
//! [`open`] makes the [`Driver`] that a reactor owns: io_uring where the kernel permits it, epoll where it does not, with a warning that names
//! the cause and the remedy. [`parker`] makes one without sockets, for reactors that only sleep and are woken. [`probe`] only asks.
//!
//! ```no_run
//! # use squall_io::*;
//! struct Print;
//! impl EventSink<Vec<u8>> for Print {
//!     fn on_recv(&mut self, id: StreamId, bytes: &[u8]) { println!("stream {id}: {} bytes", bytes.len()) }
//!     fn on_sent(&mut self, _: StreamId, _: Vec<u8>) {}
//!     fn on_closed(&mut self, id: StreamId, cause: Closed) { println!("stream {id}: {cause:?}") }
//! }
//! let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
//! let (mut driver, warning) = open::<Vec<u8>>(IoChoice::Auto, 1).expect("epoll is everywhere");
//! if let Some(warning) = warning { eprintln!("{warning}") }
//! let stream = driver.add_stream(ours.into())?;
//! driver.send(stream, b"a batch".to_vec());
//! driver.wait(None, &mut Print)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Limits: up to [`STREAMS_MAX`] streams over a driver's life; about 1 MiB of receive memory per driver; received bytes are handed over in
//! pieces of at most 64 KiB. The send queue of a stream is bounded by its caller (the engine's credits): the driver only counts it
//! ([`Driver::queued`]).
//!
//! Invariants: a buffer given to [`Driver::send`] comes back exactly once, by `on_sent` or `on_unsent`, unless the driver is dropped first;
//! `on_closed` is the last event of every stream; a buffer the kernel may still read is not freed, not even by a drop.
//!
//! Deliberately absent: connecting and listening (the runner makes the sockets), half-closed streams (an end of file closes the stream), framing,
//! zero-copy sends (on loopback the kernel copies anyway and they were slower), registered files (no gain measured), timers.

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
#[forbid(unsafe_code)]
mod probe;
#[forbid(unsafe_code)]
mod reports;
mod uring;

pub use bell::Bell;
pub use counters::IoCounters;
pub use driver::{
    Closed, Driver, EventSink, IoChoice, IoError, IoKind, Opened, STREAMS_MAX, StreamId, UnknownIoChoice, open,
};
pub use parker::parker;
pub use probe::{Probe, probe};
