//! A control socket: frames and file descriptors over a Unix stream socket pair.
//!
//! The parent's side never blocks ([`Writer::flush_some`], [`Reader::receive`] with `wait = false`): a stopped worker
//! must not stop the parent. The worker's side may: a parent that does not read holds its workers back.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;

use super::control::{FDS_MAX, Frame, FrameError, FrameReader};

const RECEIVE_BYTES: usize = 64 << 10;

/// Both ends of a new stream socket; neither is inherited by a child.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// The two directions of one end.
pub(crate) fn split(fd: OwnedFd) -> (Reader, Writer) {
    let fd = Arc::new(fd);
    let reader = Reader { fd: fd.clone(), frames: FrameReader::default(), scratch: vec![0; RECEIVE_BYTES].into() };
    (reader, Writer { fd, queue: VecDeque::new() })
}

/// What one receive brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// Bytes: look for frames.
    Some,
    /// Nothing yet.
    Nothing,
    /// The other end is gone; frames already received can still be read.
    Closed,
}

/// The incoming direction.
pub(crate) struct Reader {
    fd: Arc<OwnedFd>,
    frames: FrameReader,
    scratch: Box<[u8]>,
}

impl Reader {
    /// One receive call. With `wait` it blocks until bytes or the end come.
    pub(crate) fn receive(&mut self, wait: bool) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        flags.set(RecvFlags::DONTWAIT, !wait);
        let got = loop {
            match rustix::net::recvmsg(&self.fd, &mut [IoSliceMut::new(&mut self.scratch)], &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                // A peer that died with unread bytes resets the socket: an end like any other.
                Err(Errno::CONNRESET) => return Ok(Received::Closed),
                other => break other?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fds.for_each(|fd| self.frames.push_fd(fd));
            }
        }
        if got.bytes == 0 {
            return Ok(Received::Closed);
        }
        self.frames.push(&self.scratch[..got.bytes]);
        Ok(Received::Some)
    }

    /// The next whole frame among the received bytes.
    pub(crate) fn next<M: DeserializeOwned>(&mut self) -> Result<Option<Frame<M>>, FrameError> {
        self.frames.next()
    }

    /// The next descriptor that came.
    pub(crate) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.frames.take_fd()
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The outgoing direction: frames wait here until the socket takes them.
pub(crate) struct Writer {
    fd: Arc<OwnedFd>,
    queue: VecDeque<(Bytes, Vec<OwnedFd>)>,
}

impl Writer {
    /// Queues a frame with the descriptors that travel beside it (at most [`FDS_MAX`]), closed here once sent.
    pub(crate) fn queue(&mut self, frame: Bytes, fds: Vec<OwnedFd>) {
        assert!(fds.len() <= FDS_MAX, "{} descriptors beside one frame", fds.len());
        self.queue.push_back((frame, fds));
    }

    /// True while frames wait for the socket.
    pub(crate) fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends what the socket takes now.
    pub(crate) fn flush_some(&mut self) -> io::Result<()> {
        while self.is_pending() {
            match self.send_once(SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// Sends a frame and everything queued before it; waits as long as the other end does not read.
    pub(crate) fn send_all(&mut self, frame: Bytes) -> io::Result<()> {
        self.queue_then_send(frame, Vec::new())
    }

    /// The same with descriptors beside it.
    pub(crate) fn queue_then_send(&mut self, frame: Bytes, fds: Vec<OwnedFd>) -> io::Result<()> {
        self.queue(frame, fds);
        while self.is_pending() {
            self.send_once(SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    fn send_once(&mut self, flags: SendFlags) -> Result<(), Errno> {
        let Some((frame, fds)) = self.queue.front_mut() else { return Ok(()) };
        let sent = {
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() {
                assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)), "the space is for FDS_MAX");
            }
            match rustix::net::sendmsg(&self.fd, &[IoSlice::new(frame)], &mut control, flags) {
                Err(Errno::INTR) => return Ok(()),
                other => other?,
            }
        };
        // Descriptors go beside the first byte, so they are on their way as soon as anything is.
        fds.clear();
        frame.advance(sent);
        if frame.is_empty() {
            self.queue.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::super::control::{FromWorker, ToWorker, encode_message, encode_result};
    use super::*;

    #[test]
    fn descriptors_arrive_with_the_frame_that_names_them() {
        let (left, right) = socket_pair().expect("a pair");
        let ((_, mut writer), (mut reader, _)) = (split(left), split(right));
        let (mut near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        writer.queue(encode_message(&ToWorker::Begin).expect("it fits"), vec![]);
        writer.queue(encode_message(&ToWorker::Sockets(vec![(0, 1)])).expect("it fits"), vec![far.into()]);
        writer.flush_some().expect("there is room");
        let mut messages = Vec::new();
        while messages.len() < 2 {
            assert_eq!(reader.receive(true).expect("it is open"), Received::Some);
            while let Some(Frame::Message(message)) = reader.next::<ToWorker>().expect("well-formed") {
                messages.push(message);
            }
        }
        assert_eq!(messages, [ToWorker::Begin, ToWorker::Sockets(vec![(0, 1)])]);
        let mut far = std::os::unix::net::UnixStream::from(reader.take_fd().expect("it came beside"));
        near.write_all(b"x").expect("the far end is open");
        let mut byte = [0];
        far.read_exact(&mut byte).expect("a byte came");
        assert_eq!((&byte, reader.take_fd().is_none()), (b"x", true));
    }

    #[test]
    fn a_full_socket_keeps_frames_for_later_and_loses_none() {
        let (left, right) = socket_pair().expect("a pair");
        let ((_, mut writer), (mut reader, _)) = (split(left), split(right));
        for task in 0..50 {
            writer.queue(encode_result("k", task, &[task as u8; 100_000]).expect("it fits"), vec![]);
        }
        writer.flush_some().expect("the other end is open");
        assert!(writer.is_pending());
        let mut next = 0;
        while next < 50 {
            reader.receive(false).expect("it is open");
            while let Some(Frame::Result(row)) = reader.next::<FromWorker>().expect("well-formed") {
                assert_eq!((row.task, row.bytes), (next, vec![next as u8; 100_000].into()));
                next += 1;
            }
            writer.flush_some().expect("the other end is open");
        }
        assert!(!writer.is_pending());
        assert_eq!(reader.receive(false).expect("it is open"), Received::Nothing);
    }

    #[test]
    fn a_dead_peer_is_an_end_and_not_a_panic() {
        let (left, right) = socket_pair().expect("a pair");
        let (mut reader, mut writer) = split(left);
        drop(right);
        assert_eq!(reader.receive(true).expect("an end is no error"), Received::Closed);
        writer.queue(encode_message(&ToWorker::Begin).expect("it fits"), vec![]);
        let error = writer.flush_some().expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
