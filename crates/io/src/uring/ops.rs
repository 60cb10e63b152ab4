//! The operations a driver gives to its ring, how a completion finds back to them, and the memory that a send needs while it runs.

use crate::outgoing::{GATHER_PIECES, Outgoing};
use crate::{STREAMS_MAX, StreamId};
use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{cqueue, opcode};
use libc::{iovec, msghdr};
use stable_deref_trait::StableDeref;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// Ask for a report in the notification of a zero-copy send, and what it says if the kernel copied. The crate keeps the kernel's names for itself.
const IORING_SEND_ZC_REPORT_USAGE: u16 = 1 << 3;
const IORING_NOTIF_USAGE_ZC_COPIED: u32 = 1 << 31;

/// What an operation was, kept in the upper half of its user data; below it the number of a zero-copy send and the stream, 16 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A receive: of one arrival, or until further notice: many completions, the last without `more`.
    Recv = 1,
    /// One gathered send.
    Send = 2,
    /// Readiness of the doorbell, until further notice.
    Bell = 3,
    /// Cancelling others.
    Cancel = 4,
    /// The receive of the self-test.
    Test = 5,
    /// One gathered send without a copy: a completion, and with `more` in it a notification later.
    SendZc = 6,
}

/// The socket of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Its place in the table of registered files.
    Registered(u32),
    /// Its descriptor.
    Descriptor(RawFd),
}

/// A completion, taken out of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    pub(super) kind: Kind,
    pub(super) id: StreamId,
    /// Of a zero-copy send: which.
    pub(super) number: u16,
    /// Bytes, or the negated error number.
    pub(super) result: i32,
    /// The buffer that a receive filled.
    pub(super) buffer: Option<u16>,
    /// Whether more completions of this operation follow.
    pub(super) more: bool,
    /// Of a zero-copy send: the kernel is done with its buffers, after it has copied them or not.
    pub(super) notification: Option<Usage>,
}

/// What became of the buffers of a zero-copy send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) copied: bool,
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
            6 => Kind::SendZc,
            other => {
                unreachable!("completion of an operation of kind {other}, which we never submit")
            }
        };
        let copied = entry.result() as u32 & IORING_NOTIF_USAGE_ZC_COPIED != 0;
        Completion {
            kind,
            id: (data & 0xFFFF) as StreamId,
            number: (data >> 16) as u16,
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            more: cqueue::more(entry.flags()),
            notification: cqueue::notif(entry.flags()).then_some(Usage { copied }),
        }
    }
}

const _: () = assert!(STREAMS_MAX <= 1 << 16, "a stream has 16 bits of the user data");

fn user_data(kind: Kind, number: u16, id: StreamId) -> u64 {
    (kind as u64) << 32 | u64::from(number) << 16 | u64::from(id)
}

/// Builds the operation for either kind of target.
macro_rules! on {
    ($target:expr, |$fd:ident| $operation:expr) => {
        match $target {
            Target::Registered(place) => {
                let $fd = Fixed(place);
                $operation
            }
            Target::Descriptor(raw) => {
                let $fd = Fd(raw);
                $operation
            }
        }
    };
}

/// Receive into the buffers of `group`, again and again; with `bundles` into as many of them at a time as there is to receive.
pub(super) fn recv_multi(target: Target, group: u16, bundles: bool, kind: Kind, id: StreamId) -> Entry {
    let entry = if bundles {
        on!(target, |fd| opcode::RecvMultiBundle::new(fd, group).build())
    } else {
        on!(target, |fd| opcode::RecvMulti::new(fd, group).build())
    };
    entry.user_data(user_data(kind, 0, id))
}

/// Receive once, at most `len` bytes to `at`.
pub(super) fn recv_once(target: Target, (at, len): (*mut u8, usize), kind: Kind, id: StreamId) -> Entry {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    on!(target, |fd| opcode::Recv::new(fd, at, len).build()).user_data(user_data(kind, 0, id))
}

/// Say whenever the doorbell is rung. The eventfd is never read: the poll is edge-triggered, every ring is an edge, and its counter would take
/// centuries to fill. So a ring costs the sleeper no system call.
pub(super) fn bell(fd: BorrowedFd<'_>) -> Entry {
    let readable = libc::POLLIN as u32;
    opcode::PollAdd::new(Fd(fd.as_raw_fd()), readable).multi(true).build().user_data(user_data(Kind::Bell, 0, 0))
}

/// Cancel the operation of this kind on a stream. By its user data and not by the socket, whose number may be another's when this is submitted.
pub(super) fn cancel(kind: Kind, number: u16, id: StreamId) -> Entry {
    let which = CancelBuilder::user_data(user_data(kind, number, id));
    opcode::AsyncCancel2::new(which).build().user_data(user_data(Kind::Cancel, 0, id))
}

/// Cancel all operations of the ring.
pub(super) fn cancel_all() -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(user_data(Kind::Cancel, 0, 0))
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

    /// Gathers what is queued. The bytes that `send` or `send_zc` will take.
    pub(super) fn fill<B: StableDeref<Target = [u8]>>(&mut self, out: &Outgoing<B>) -> usize {
        let mut count = 0;
        let bytes = out.gather(|piece| {
            self.pieces[count] = iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
            count += 1;
        });
        self.header.msg_name = ptr::null_mut();
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = count as _;
        bytes
    }

    /// Sends what was gathered. It points into `self` and into the buffers that were gathered: submit it only if both stay as they are until its
    /// completion.
    pub(super) fn send(&self, target: Target, id: StreamId) -> Entry {
        let flags = libc::MSG_NOSIGNAL as u32;
        on!(target, |fd| opcode::SendMsg::new(fd, &raw const self.header).flags(flags).build()).user_data(user_data(
            Kind::Send,
            0,
            id,
        ))
    }

    /// As `send`, but the buffers must stay until the notification.
    pub(super) fn send_zc(&self, target: Target, number: u16, id: StreamId) -> Entry {
        let flags = libc::MSG_NOSIGNAL as u32;
        on!(target, |fd| {
            opcode::SendMsgZc::new(fd, &raw const self.header).flags(flags).ioprio(IORING_SEND_ZC_REPORT_USAGE).build()
        })
        .user_data(user_data(Kind::SendZc, number, id))
    }
}
