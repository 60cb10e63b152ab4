//! A stream socket on an io_uring of its own, as plain as it goes: single issuer, deferred task run, at most one
//! receive and one send in flight, spinning on `enter(GETEVENTS)`.
//!
//! Invariant: while `receiving` (`sending`) the kernel owns `incoming` (`outgoing`): the buffer is neither lent out nor
//! freed, and the socket stays open. `Vec`, not `Box`: its memory may be written behind its back.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{IoUring, opcode, types};

/// `IORING_ENTER_GETEVENTS`: with deferred task run nothing completes without it.
const GETEVENTS: u32 = 1;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
/// Turns that the drop waits for the operations it has cut short.
const PATIENCE: u32 = 1_000_000;

/// What has completed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// So many bytes have been received; 0: the peer has ended.
    Received(usize),
    /// So many bytes have been sent.
    Sent(usize),
}

/// See the module.
pub(crate) struct Conn {
    ring: IoUring,
    socket: OwnedFd,
    incoming: ManuallyDrop<Vec<u8>>,
    outgoing: ManuallyDrop<Vec<u8>>,
    receiving: bool,
    sending: bool,
}

impl Conn {
    /// Buffers of `bytes` each way.
    pub(crate) fn new(socket: OwnedFd, bytes: usize) -> io::Result<Conn> {
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?;
        Ok(Conn {
            ring,
            socket,
            incoming: ManuallyDrop::new(vec![0; bytes]),
            outgoing: ManuallyDrop::new(vec![0; bytes]),
            receiving: false,
            sending: false,
        })
    }

    /// What has been received lies here.
    pub(crate) fn incoming(&mut self) -> &mut [u8] {
        assert!(!self.receiving, "the kernel is writing it");
        &mut self.incoming
    }

    /// What is to be sent goes here.
    pub(crate) fn outgoing(&mut self) -> &mut [u8] {
        assert!(!self.sending, "the kernel is reading it");
        &mut self.outgoing
    }

    /// Both at once, for an echo.
    pub(crate) fn both(&mut self) -> (&[u8], &mut [u8]) {
        assert!(!self.receiving && !self.sending, "the kernel is using them");
        (&self.incoming, &mut self.outgoing)
    }

    /// Queues a receive into the incoming buffer from `at` on; the next `enter` submits it.
    pub(crate) fn receive(&mut self, at: usize) {
        assert!(!self.receiving && at < self.incoming.len());
        let free = &mut self.incoming[at..];
        let entry = opcode::Recv::new(types::Fd(self.socket.as_raw_fd()), free.as_mut_ptr(), free.len() as u32);
        let entry = entry.build().user_data(RECEIVE);
        // SAFETY: `push` demands that what the entry points to stays valid until it completes. The bytes are
        // `incoming`'s, whose memory does not move (it is never resized) and, with `receiving` set below, is neither
        // lent out nor freed before the completion; the socket closes after `drop` has waited.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("two operations fit eight entries");
        self.receiving = true;
    }

    /// Queues a send of `bytes` of the outgoing buffer; the next `enter` submits it.
    pub(crate) fn send(&mut self, bytes: std::ops::Range<usize>) {
        assert!(!self.sending && !bytes.is_empty());
        let full = &self.outgoing[bytes];
        let entry = opcode::Send::new(types::Fd(self.socket.as_raw_fd()), full.as_ptr(), full.len() as u32);
        let entry = entry.build().user_data(SEND);
        // SAFETY: as in `receive`, with `outgoing` and `sending`.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("two operations fit eight entries");
        self.sending = true;
    }

    /// Submits what is queued and has the kernel complete what it can, without waiting.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        let queued = self.ring.submission().len() as u32;
        // SAFETY: `enter` demands that the arguments fit the flags: so many entries are queued, nothing is waited for,
        // and no signal mask is given.
        let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) };
        match entered {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The next completion.
    pub(crate) fn completed(&mut self) -> io::Result<Option<Event>> {
        let Some(entry) = self.ring.completion().next() else { return Ok(None) };
        let received = entry.user_data() == RECEIVE;
        *(if received { &mut self.receiving } else { &mut self.sending }) = false;
        match usize::try_from(entry.result()) {
            Ok(bytes) if received => Ok(Some(Event::Received(bytes))),
            Ok(bytes) => Ok(Some(Event::Sent(bytes))),
            Err(_) => Err(io::Error::from_raw_os_error(-entry.result())),
        }
    }

    /// No more will be sent.
    pub(crate) fn end(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write)?)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // A socket that is shut down completes both at once; a failure here shows as one below.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        for _ in 0..PATIENCE {
            if !self.receiving && !self.sending {
                break;
            }
            let _ = self.enter();
            while let Ok(Some(_)) | Err(_) = self.completed() {}
        }
        if !self.receiving {
            // SAFETY: dropped once, here, and not used after: the kernel is done with it. Else it leaks.
            unsafe { ManuallyDrop::drop(&mut self.incoming) };
        }
        if !self.sending {
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.outgoing) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_cross_and_the_end_is_told() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut a = Conn::new(a.into(), 64).unwrap();
        let mut b = Conn::new(b.into(), 64).unwrap();
        a.outgoing()[..5].copy_from_slice(b"hello");
        a.send(0..5);
        b.receive(0);
        let (mut sent, mut received) = (0, None);
        while sent == 0 || received.is_none() {
            for c in [&mut a, &mut b] {
                c.enter().unwrap();
                match c.completed().unwrap() {
                    Some(Event::Sent(n)) => sent = n,
                    Some(Event::Received(n)) => received = Some(n),
                    None => {}
                }
            }
        }
        assert_eq!((sent, received), (5, Some(5)));
        assert_eq!(&b.incoming()[..5], b"hello");
        a.end().unwrap();
        b.receive(0);
        let end = loop {
            b.enter().unwrap();
            if let Some(e) = b.completed().unwrap() {
                break e;
            }
        };
        assert!(matches!(end, Event::Received(0)));
    }

    #[test]
    fn a_connection_can_be_dropped_while_it_receives() {
        let (a, _b) = UnixStream::pair().unwrap();
        let mut a = Conn::new(a.into(), 64).unwrap();
        a.receive(0);
        a.enter().unwrap();
        drop(a);
    }
}
