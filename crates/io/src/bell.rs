//! The doorbell: what other threads pull to end a driver's wait. An eventfd.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Wakes the driver it came from, from any thread. A ring before or between waits is kept and ends the next wait at once; many rings may end one
/// wait only. It outlives its driver harmlessly.
///
/// Ringing a sleeper costs the ringer 6–9 µs: ring only when the reactor says that it sleeps.
#[derive(Clone, Debug)]
pub struct Bell {
    fd: Arc<OwnedFd>,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { fd: Arc::new(fd) })
    }

    /// Wakes the driver. Never blocks.
    pub fn ring(&self) {
        // The one error an eventfd of ours can give is EAGAIN at a full counter: then it has been rung and not heard, which is all we want.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Takes the rings so far; whether there were any.
    pub(crate) fn hear(&self) -> bool {
        let mut count = [0u8; 8];
        rustix::io::read(&self.fd, &mut count).is_ok()
    }

    /// A bell of another process, from the descriptor that its [`Bell::as_fd`] gave there.
    ///
    /// # Errors
    /// Where ringing it could block: it is not set to non-blocking, as every bell's is.
    pub fn import(fd: OwnedFd) -> io::Result<Bell> {
        if !rustix::fs::fcntl_getfl(&fd)?.contains(rustix::fs::OFlags::NONBLOCK) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is no doorbell: writing could block",
            ));
        }
        Ok(Bell { fd: Arc::new(fd) })
    }

    /// The descriptor behind it, to be passed to another process that takes it by [`Bell::import`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
