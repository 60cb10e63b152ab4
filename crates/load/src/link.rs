//! A one-way link of chunks: a ring in this process, a ring in shared memory, or a stream socket.
//!
//! Neither end ever waits: who sends and finds no room keeps the chunk, who receives and finds nothing goes on. Over a ring a chunk is one
//! record, read in place; over a socket it is preceded by its length and tag. The receiver of a ring may sleep ([`Rx::park`]); then the sender
//! wakes it, once per sleep.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock};

use rustix::net::RecvFlags;
use squall::Waker;
use squall_ring::{Consumer, Producer, PushError, RingCorrupt, SleepFlag, byte_ring};

/// The largest chunk: one record of the largest size and what else was due.
pub const CHUNK_BYTES_MAX: usize = 160 * 1024;
/// Bytes before a chunk on a socket: length and tag.
const FRAME_BYTES: usize = 8;
/// What a socket is asked for at a time.
const RECEIVE_BYTES: usize = 2 * CHUNK_BYTES_MAX;

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Records or returns.
    Data,
    /// The last chunk, empty: nothing follows.
    End,
}

impl Tag {
    fn number(self) -> u32 {
        match self {
            Tag::Data => 0,
            Tag::End => 1,
        }
    }

    fn of(number: u32) -> Result<Tag, LinkError> {
        match number {
            0 => Ok(Tag::Data),
            1 => Ok(Tag::End),
            _ => Err(LinkError::Malformed("a chunk of unknown kind")),
        }
    }
}

/// Why a link is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The process on the other side has closed it or died.
    #[error("the other side has closed the link; see whether its process failed")]
    Gone,
    /// The other side does not keep to the format.
    #[error("the other side sent {0}; is it of another version?")]
    Malformed(&'static str),
    /// The ring is spoilt.
    #[error(transparent)]
    Corrupt(#[from] RingCorrupt),
    /// The system says no.
    #[error("the link failed: {0}")]
    Io(#[from] io::Error),
}

/// A connected stream socket.
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(crate) fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(s) => s.read(to),
            Socket::Tcp(s) => s.read(to),
        }
    }

    pub(crate) fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(s) => s.write(from),
            Socket::Tcp(s) => s.write(from),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(s) => s.as_fd(),
            Socket::Tcp(s) => s.as_fd(),
        }
    }

    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Socket::Unix(s) => s.set_nonblocking(on),
            Socket::Tcp(s) => s.set_nonblocking(on),
        }
    }
}

/// How a sleeping receiver is woken.
pub(crate) enum Alarm {
    /// It never sleeps.
    None,
    /// By its task's waker.
    Waker(SleepFlag, Arc<OnceLock<Waker>>),
    /// By its reactor's doorbell, an eventfd.
    Bell(SleepFlag, OwnedFd),
}

impl Alarm {
    #[inline]
    fn ring(&self) {
        match self {
            Alarm::None => {}
            Alarm::Waker(flag, waker) => {
                if flag.claim_wake_after_publish()
                    && let Some(waker) = waker.get()
                {
                    waker.wake();
                }
            }
            Alarm::Bell(flag, bell) => {
                if flag.claim_wake_after_publish() {
                    // A full counter means that it is about to wake anyhow.
                    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
                }
            }
        }
    }
}

/// The sending end.
pub struct Tx(TxKind);

enum TxKind {
    Ring {
        producer: Producer,
        alarm: Alarm,
        /// Tells that the other process is gone; `None` within one.
        guard: Option<UnixStream>,
    },
    Socket {
        socket: Socket,
        /// What the kernel did not take of the last chunk.
        rest: Vec<u8>,
        at: usize,
    },
}

impl Tx {
    pub(crate) fn ring(producer: Producer, alarm: Alarm, guard: Option<UnixStream>) -> Tx {
        Tx(TxKind::Ring { producer, alarm, guard })
    }

    pub(crate) fn socket(socket: Socket) -> Tx {
        Tx(TxKind::Socket { socket, rest: Vec::with_capacity(CHUNK_BYTES_MAX + FRAME_BYTES), at: 0 })
    }

    /// Sends a chunk of at most [`CHUNK_BYTES_MAX`]. `false`: there is no room, and nothing of it was taken.
    ///
    /// # Errors
    /// When the link is of no use any more.
    #[inline]
    pub fn try_send(&mut self, tag: Tag, chunk: &[u8]) -> Result<bool, LinkError> {
        match &mut self.0 {
            TxKind::Ring { producer, alarm, .. } => match producer.try_push(tag.number(), chunk) {
                Ok(()) => {
                    alarm.ring();
                    Ok(true)
                }
                Err(PushError::Full) if producer.is_abandoned() => Err(LinkError::Gone),
                Err(PushError::Full) => Ok(false),
                Err(PushError::Corrupt(cause)) => Err(cause.into()),
            },
            TxKind::Socket { .. } => self.send_on_socket(tag, chunk),
        }
    }

    fn send_on_socket(&mut self, tag: Tag, chunk: &[u8]) -> Result<bool, LinkError> {
        if !self.flush()? {
            return Ok(false);
        }
        let TxKind::Socket { rest, at, .. } = &mut self.0 else { return Ok(false) };
        rest.clear();
        *at = 0;
        rest.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        rest.extend_from_slice(&tag.number().to_le_bytes());
        rest.extend_from_slice(chunk);
        self.flush()?;
        Ok(true)
    }

    /// Hands on what the kernel did not take before. `false`: some of it is left.
    ///
    /// # Errors
    /// When the link is of no use any more.
    pub fn flush(&mut self) -> Result<bool, LinkError> {
        let TxKind::Socket { socket, rest, at } = &mut self.0 else { return Ok(true) };
        while *at < rest.len() {
            match socket.write(&rest[*at..]) {
                Ok(0) => return Err(LinkError::Gone),
                Ok(n) => *at += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_gone(&e) => return Err(LinkError::Gone),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }

    /// Whether the other side is gone. A system call where the link crosses processes: now and then.
    pub fn is_gone(&self) -> bool {
        match &self.0 {
            TxKind::Ring { producer, guard, .. } => producer.is_abandoned() || guard.as_ref().is_some_and(closed),
            TxKind::Socket { .. } => false,
        }
    }
}

fn is_gone(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(e.kind(), BrokenPipe | ConnectionReset | ConnectionAborted)
}

fn closed(guard: &UnixStream) -> bool {
    let mut byte = [0_u8; 1];
    let looked = rustix::net::recv(guard, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(looked, Ok((0, _)) | Err(rustix::io::Errno::CONNRESET))
}

/// The receiving end.
pub struct Rx(RxKind);

enum RxKind {
    Ring { consumer: Consumer, sleep: Option<SleepFlag>, guard: Option<UnixStream> },
    Socket { socket: Socket, buffer: Box<[u8]>, start: usize, end: usize, closed: bool },
}

impl Rx {
    pub(crate) fn ring(consumer: Consumer, sleep: Option<SleepFlag>, guard: Option<UnixStream>) -> Rx {
        Rx(RxKind::Ring { consumer, sleep, guard })
    }

    pub(crate) fn socket(socket: Socket) -> Rx {
        Rx(RxKind::Socket { socket, buffer: vec![0; RECEIVE_BYTES].into(), start: 0, end: 0, closed: false })
    }

    /// The oldest chunk, the same again until [`release`](Self::release); `None` if there is none now.
    ///
    /// # Errors
    /// When the link is of no use any more: [`LinkError::Gone`] comes behind the last whole chunk.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<(Tag, &[u8])>, LinkError> {
        match &mut self.0 {
            RxKind::Ring { consumer, .. } => match consumer.header()? {
                None => Ok(None),
                Some((tag, _)) => Ok(Some((Tag::of(tag)?, consumer.record()))),
            },
            RxKind::Socket { socket, buffer, start, end, closed } => {
                let Some(len) = whole(socket, buffer, start, end, closed)? else { return Ok(None) };
                let word = |at: usize| u32::from_le_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
                let tag = Tag::of(word(*start + 4))?;
                Ok(Some((tag, &buffer[*start + FRAME_BYTES..*start + FRAME_BYTES + len])))
            }
        }
    }

    /// Is done with the chunk that `peek` gave; only after one.
    #[inline]
    pub fn release(&mut self) {
        match &mut self.0 {
            RxKind::Ring { consumer, .. } => consumer.release(),
            RxKind::Socket { buffer, start, .. } => {
                let at = *start;
                let len = u32::from_le_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
                *start += FRAME_BYTES + len as usize;
            }
        }
    }

    /// The receiver is about to sleep: whoever sends wakes it from now on. `false`: something came meanwhile, stay awake.
    pub fn park(&mut self) -> bool {
        match &mut self.0 {
            RxKind::Ring { consumer, sleep: Some(sleep), .. } => {
                sleep.prepare();
                if consumer.pending() || consumer.is_abandoned() {
                    sleep.cancel();
                    return false;
                }
                true
            }
            _ => true,
        }
    }

    /// The socket to wait for, where the link is one.
    pub(crate) fn socket_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            RxKind::Socket { socket, .. } => Some(socket.fd()),
            RxKind::Ring { guard, .. } => guard.as_ref().map(AsFd::as_fd),
        }
    }

    /// Whether the link is a ring: its sender wakes who sleeps.
    pub(crate) fn is_ring(&self) -> bool {
        matches!(self.0, RxKind::Ring { .. })
    }

    /// Whether the other side is gone and nothing waits. A system call where the link crosses processes: now and then.
    pub fn is_gone(&self) -> bool {
        match &self.0 {
            RxKind::Ring { consumer, guard, .. } => {
                (consumer.is_abandoned() || guard.as_ref().is_some_and(closed)) && !consumer.pending()
            }
            RxKind::Socket { closed, .. } => *closed,
        }
    }
}

/// Length of the whole chunk at `start`, if there is one; asks the kernel for more at most once.
fn whole(
    socket: &mut Socket,
    buffer: &mut [u8],
    start: &mut usize,
    end: &mut usize,
    closed: &mut bool,
) -> Result<Option<usize>, LinkError> {
    let mut asked = false;
    loop {
        let have = *end - *start;
        if have >= FRAME_BYTES {
            let at = *start;
            let len = u32::from_le_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]) as usize;
            if len > CHUNK_BYTES_MAX {
                return Err(LinkError::Malformed("a chunk of impossible length"));
            }
            if have >= FRAME_BYTES + len {
                return Ok(Some(len));
            }
        }
        if *closed {
            return Err(LinkError::Gone);
        }
        if asked {
            return Ok(None);
        }
        if *start > 0 && buffer.len() - *start < CHUNK_BYTES_MAX + FRAME_BYTES {
            buffer.copy_within(*start..*end, 0);
            (*start, *end) = (0, have);
        }
        match socket.read(&mut buffer[*end..]) {
            Ok(0) => *closed = true,
            Ok(n) => *end += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if is_gone(&e) => *closed = true,
            Err(e) => return Err(e.into()),
        }
        asked = true;
    }
}

/// A receiving end that waits for the spout that takes it, and where that puts its waker.
pub(crate) struct Waiting {
    pub(crate) rx: Rx,
    pub(crate) waker: Arc<OnceLock<Waker>>,
}

/// Where an in-process egress finds its sending end.
#[derive(Clone)]
pub struct Target(pub(crate) Arc<Mutex<Option<Tx>>>);

/// The ends of [`local`].
pub struct LocalEnds {
    /// The generator sends into it.
    pub tx: Tx,
    /// The generator receives from it.
    pub rx: Rx,
    /// For [`Ingest`](crate::Ingest).
    pub source: crate::Source,
    /// For [`Egress`](crate::Egress).
    pub target: Target,
}

/// Links a generator with one ingest spout and one egress sink of this process by two rings of at least so many bytes.
///
/// # Panics
/// If a ring would exceed 1 GiB.
pub fn local(ring_bytes: usize) -> LocalEnds {
    let ring_bytes = ring_bytes.max(4 * CHUNK_BYTES_MAX);
    let (out, taken) = byte_ring(ring_bytes);
    let (back, returned) = byte_ring(ring_bytes);
    let (flag, waker) = (SleepFlag::new(), Arc::new(OnceLock::new()));
    let waiting = Waiting { rx: Rx::ring(taken, Some(flag.clone()), None), waker: waker.clone() };
    LocalEnds {
        tx: Tx::ring(out, Alarm::Waker(flag, waker), None),
        rx: Rx::ring(returned, None, None),
        source: crate::Source::local(waiting),
        target: Target(Arc::new(Mutex::new(Some(Tx::ring(back, Alarm::None, None))))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Tx, Rx) {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        (Tx::socket(Socket::Unix(a)), Rx::socket(Socket::Unix(b)))
    }

    #[test]
    fn chunks_pass_a_socket_whole_and_in_order_however_the_kernel_cuts_them() {
        let (mut tx, mut rx) = pair();
        let chunk = |n: usize| vec![n as u8; (n * 7919) % (CHUNK_BYTES_MAX / 4)];
        let (mut sent, mut got) = (0, 0);
        while got < 200 {
            if sent < 200 && tx.try_send(Tag::Data, &chunk(sent)).unwrap() {
                sent += 1;
            }
            tx.flush().unwrap();
            if let Some((tag, bytes)) = rx.peek().unwrap() {
                assert!(tag == Tag::Data && bytes == chunk(got), "chunk {got}");
                rx.release();
                got += 1;
            }
        }
        assert!(rx.peek().unwrap().is_none());
    }

    #[test]
    fn the_end_of_a_socket_comes_behind_the_last_whole_chunk() {
        let (mut tx, mut rx) = pair();
        assert!(tx.try_send(Tag::Data, b"last").unwrap());
        drop(tx);
        assert_eq!(rx.peek().unwrap(), Some((Tag::Data, &b"last"[..])));
        rx.release();
        while let Ok(found) = rx.peek() {
            assert_eq!(found, None);
        }
        assert!(matches!(rx.peek(), Err(LinkError::Gone)));
    }

    #[test]
    fn bytes_that_are_no_chunk_end_the_link() {
        let (mut raw, b) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        raw.write_all(&[0xff; 64]).unwrap();
        let mut rx = Rx::socket(Socket::Unix(b));
        assert!(matches!(rx.peek(), Err(LinkError::Malformed(_))));
    }

    #[test]
    fn a_full_ring_takes_nothing_and_an_abandoned_one_says_so() {
        let LocalEnds { mut tx, rx, source, target } = local(0);
        let chunk = vec![0; CHUNK_BYTES_MAX];
        let taken = (0..100).take_while(|_| tx.try_send(Tag::Data, &chunk).unwrap()).count();
        assert!((3..100).contains(&taken), "{taken}");
        drop((rx, source, target));
        assert!(matches!(tx.try_send(Tag::Data, &chunk), Err(LinkError::Gone)));
    }
}
