//! The operations a driver gives to its ring, how a completion finds back to them, and the memory that a send needs while it runs.

use crate::StreamId;
use crate::outgoing::{GATHER_PIECES, Outgoing};
use crate::uring::bufring::GROUP;
use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use libc::{iovec, msghdr};
use stable_deref_trait::StableDeref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// What an operation was, kept in the upper half of its user data; the stream is the lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Receive until further notice: many completions, the last without `more`.
    Recv = 1,
    /// One gathered send.
    Send = 2,
    /// Readiness of the doorbell, until further notice.
    Bell = 3,
    /// Cancelling others.
    Cancel = 4,
    /// The receive of the self-test.
    Test = 5,
}

/// A completion, taken out of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    pub(super) kind: Kind,
    pub(super) id: StreamId,
    /// Bytes, or the negated error number.
    pub(super) result: i32,
    /// The buffer that a receive filled.
    pub(super) buffer: Option<u16>,
    /// Whether more completions of this operation follow.
    pub(super) more: bool,
}

impl From<cqueue::Entry> for Completion {
    fn from(entry: cqueue::Entry) -> Self {
        let data = entry.user_data();
        let kind = match data >> 32 {
            1 => Kind::Recv,
            2 => Kind::Send,
            3 => Kind::Bell,
            4 => Kind::Cancel,
            5 => Kind::Test,
            other => {
                unreachable!("completion of an operation of kind {other}, which we never submit")
            }
        };
        Completion {
            kind,
            id: data as StreamId,
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            more: cqueue::more(entry.flags()),
        }
    }
}

fn user_data(kind: Kind, id: StreamId) -> u64 {
    (kind as u64) << 32 | u64::from(id)
}

/// Receive into the provided buffers, again and again.
pub(super) fn recv(fd: BorrowedFd<'_>, kind: Kind, id: StreamId) -> Entry {
    opcode::RecvMulti::new(Fd(fd.as_raw_fd()), GROUP).build().user_data(user_data(kind, id))
}

/// Say whenever the doorbell is rung. The eventfd is never read: the poll is edge-triggered, every ring is an edge, and its counter would take
/// centuries to fill. So a ring costs the sleeper no system call.
pub(super) fn bell(fd: BorrowedFd<'_>) -> Entry {
    let readable = libc::POLLIN as u32;
    opcode::PollAdd::new(Fd(fd.as_raw_fd()), readable).multi(true).build().user_data(user_data(Kind::Bell, 0))
}

/// Cancel the operation of this kind on a stream. By its user data and not by the socket, whose number may be another's when this is submitted.
pub(super) fn cancel(kind: Kind, id: StreamId) -> Entry {
    let which = CancelBuilder::user_data(user_data(kind, id));
    opcode::AsyncCancel2::new(which).build().user_data(user_data(Kind::Cancel, id))
}

/// Cancel all operations of the ring.
pub(super) fn cancel_all() -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(user_data(Kind::Cancel, 0))
}

/// Header and pieces of the send of one stream. On the heap, so that it stays in place however its stream moves; written only while no send of
/// this stream is in flight.
pub(super) struct SendMemory {
    header: msghdr,
    pieces: [iovec; GATHER_PIECES],
}

impl SendMemory {
    pub(super) fn new() -> Box<SendMemory> {
        // SAFETY: `zeroed` demands a type for which zeros are valid: integers and raw pointers.
        Box::new(unsafe { std::mem::zeroed() })
    }

    /// Gathers what is queued into a send. The bytes that it will send, and the operation.
    ///
    /// The operation points into `self` and into the buffers of `out`: submit it only if both stay as they are until its completion.
    pub(super) fn fill<B>(&mut self, fd: BorrowedFd<'_>, id: StreamId, out: &Outgoing<B>) -> (usize, Entry)
    where
        B: StableDeref<Target = [u8]>,
    {
        let mut count = 0;
        let bytes = out.gather(|piece| {
            self.pieces[count] = iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
            count += 1;
        });
        self.header.msg_name = ptr::null_mut();
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = count as _;
        let entry = opcode::SendMsg::new(Fd(fd.as_raw_fd()), &raw const self.header)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build()
            .user_data(user_data(Kind::Send, id));
        (bytes, entry)
    }
}
