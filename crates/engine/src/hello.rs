//! What two workers of a host tell each other before the first batch: the memory they will share, and each other's doorbells.
//!
//! For each link the worker of the lower reactor *offers*: it makes a segment and sends its descriptor and that of its reactor's bell over the
//! link's Unix socket. The other one answers with its own bell, or with the reason why it cannot; then both use the socket itself, and say so. A
//! message has a fixed size, so nothing is parsed or allocated by a length from outside, and what follows it on the socket stays there.
//!
//! All offers are sent before anything is waited for, then all offers are answered, then all answers are read. Messages fit into any socket's
//! buffer, so sending never waits, every offer comes, every answer follows: no order of workers or links can wait for itself.
//!
//! Afterwards the socket of such a link carries nothing but its end.
//!
//! A worker that comes back may find that a peer has died meanwhile: that link is left out, and comes again with the peer.
//!
//! Deliberately absent: authentication (the runner made the socket pair; nobody else holds an end), other hosts.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use squall_io::Bell;
use squall_ring::{ShmLink, ShmSizes, Trust};
use squall_topology::{LinkKind, Plan, ShmUse};
use squall_tuple::ids::ReactorIx;

use crate::worker::{SocketLink, StartError};

const MAGIC: [u8; 8] = *b"SqHello\x01";
const MESSAGE_BYTES: usize = 256;
/// Where the reason of a refusal lies in a message, zero-padded.
const REASON_AT: usize = 64;

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Say {
    /// Here is a segment and my bell.
    Offer = 1,
    /// I have none; the reason is in the message. Needs no answer.
    NoOffer = 2,
    /// I have opened it; here is my bell.
    Accept = 3,
    /// I have not; the reason is in the message.
    Refuse = 4,
}

/// One end of a link between two workers, as its reactor will use it.
pub(crate) struct PeerEnd {
    pub(crate) mine: ReactorIx,
    pub(crate) peer: ReactorIx,
    pub(crate) fd: OwnedFd,
    /// The shared memory and the peer's bell; `None`: the socket carries the batches.
    pub(crate) shm: Option<(ShmLink, Bell)>,
    /// Why the plan's shared memory is not used.
    pub(crate) refused: Option<String>,
}

/// Shakes hands over links of a worker. `bells`: those of its reactors. `mortal`: whoever heals the run replaces peers that end meanwhile, so their
/// links are left out instead of being an error.
pub(crate) fn shake_hands(
    plan: &Plan,
    links: Vec<SocketLink>,
    bells: &[(ReactorIx, Bell)],
    deadline: Instant,
    mortal: bool,
) -> Result<Vec<PeerEnd>, StartError> {
    let bell_of = |reactor| bells.iter().find(|(r, _)| *r == reactor).map(|(_, bell)| bell);
    let mut ends: Vec<(Talk, PeerEnd)> = Vec::new();
    for SocketLink { a, b, fd } in links {
        let (mine, peer) = if bell_of(a).is_some() { (a, b) } else { (b, a) };
        let end = PeerEnd { mine, peer, fd, shm: None, refused: None };
        ends.push((Talk::of(plan, &end), end));
    }
    let missed = |end: &PeerEnd, said: io::Result<()>| match said {
        Ok(()) => Ok(false),
        Err(error) if mortal && is_end(&error) => Ok(true),
        Err(error) => Err(broken(end, error)),
    };
    for (talk, end) in &mut ends {
        if let Talk::Offers(link) = talk {
            let said = offer(plan, end, bell_of(end.mine)).map(|offered| *link = offered);
            if missed(end, said)? {
                *talk = Talk::Over;
            }
        }
    }
    for (talk, end) in &mut ends {
        if matches!(talk, Talk::Answers) {
            let said = answer(plan, end, bell_of(end.mine), deadline);
            *talk = if missed(end, said)? { Talk::Over } else { Talk::Silent };
        }
    }
    for (talk, end) in &mut ends {
        if let Talk::Offers(link) = talk
            && let Some(link) = link.take()
        {
            let said = take_answer(end, *link, deadline);
            *talk = if missed(end, said)? { Talk::Over } else { Talk::Silent };
        }
    }
    Ok(ends.into_iter().filter(|(talk, _)| !matches!(talk, Talk::Over)).map(|(_, end)| end).collect())
}

/// The other end's process is gone.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// What an end does in a handshake.
enum Talk {
    /// The plan has no shared memory here.
    Silent,
    /// The segment, once it was offered.
    Offers(Option<Box<ShmLink>>),
    Answers,
    /// The other end's process is gone.
    Over,
}

impl Talk {
    fn of(plan: &Plan, end: &PeerEnd) -> Talk {
        let kind = plan.link_between(end.mine, end.peer).map(|l| plan.links[l as usize].kind);
        // A socket of another family leads to another host, and the worker there sees that too.
        let unix = rustix::net::getsockname(&end.fd).is_ok_and(|name| name.address_family() == AddressFamily::UNIX);
        match kind {
            Some(LinkKind::Shm) if unix && end.mine < end.peer => Talk::Offers(None),
            Some(LinkKind::Shm) if unix => Talk::Answers,
            _ => Talk::Silent,
        }
    }
}

fn broken(end: &PeerEnd, error: io::Error) -> StartError {
    StartError::Hello { here: end.mine, peer: end.peer, source: error }
}

fn sizes(plan: &Plan, end: &PeerEnd) -> ShmSizes {
    let inboxes = |reactor| plan.inboxes_of_reactor(reactor).len();
    let (creator, opener) = (end.mine.min(end.peer), end.mine.max(end.peer));
    ShmSizes {
        ring_bytes: plan.spec.config.ring_bytes as usize,
        creator_inboxes: inboxes(creator),
        opener_inboxes: inboxes(opener),
    }
}

fn trust(plan: &Plan) -> Trust {
    if plan.spec.config.shm == ShmUse::Copy { Trust::Nothing } else { Trust::Peer }
}

fn offer(plan: &Plan, end: &mut PeerEnd, bell: Option<&Bell>) -> io::Result<Option<Box<ShmLink>>> {
    let bell = bell.expect("`mine` has a bell");
    match ShmLink::create(sizes(plan, end), trust(plan)) {
        Ok((link, memory)) => {
            send(&end.fd, &message(Say::Offer, end, ""), &[memory.as_fd(), bell.as_fd()])?;
            Ok(Some(Box::new(link)))
        }
        Err(error) => {
            let reason = error.to_string();
            send(&end.fd, &message(Say::NoOffer, end, &reason), &[])?;
            end.refused = Some(reason);
            Ok(None)
        }
    }
}

fn answer(plan: &Plan, end: &mut PeerEnd, bell: Option<&Bell>, deadline: Instant) -> io::Result<()> {
    let bell = bell.expect("`mine` has a bell");
    let (said, mut fds) = receive(&end.fd, deadline)?;
    match (parse(&said, end)?, fds.next(), fds.next()) {
        (Say::Offer, Some(memory), Some(theirs)) => {
            let opened = Bell::import(theirs).map_err(|e| e.to_string()).and_then(|theirs| {
                let link = ShmLink::open(memory, sizes(plan, end), trust(plan)).map_err(|e| e.to_string())?;
                Ok((link, theirs))
            });
            match opened {
                Ok(shm) => {
                    send(&end.fd, &message(Say::Accept, end, ""), &[bell.as_fd()])?;
                    end.shm = Some(shm);
                }
                Err(reason) => {
                    send(&end.fd, &message(Say::Refuse, end, &reason), &[])?;
                    end.refused = Some(reason);
                }
            }
            Ok(())
        }
        (Say::NoOffer, None, None) => {
            end.refused = Some(reason(&said));
            Ok(())
        }
        (say, ..) => Err(malformed(format!("{say:?} where an offer was due"))),
    }
}

fn take_answer(end: &mut PeerEnd, link: ShmLink, deadline: Instant) -> io::Result<()> {
    let (said, mut fds) = receive(&end.fd, deadline)?;
    match (parse(&said, end)?, fds.next()) {
        (Say::Accept, Some(theirs)) => {
            end.shm = Some((link, Bell::import(theirs)?));
            Ok(())
        }
        (Say::Refuse, None) => {
            end.refused = Some(reason(&said));
            Ok(())
        }
        (say, _) => Err(malformed(format!("{say:?} where an answer was due"))),
    }
}

fn message(say: Say, end: &PeerEnd, reason: &str) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8] = say as u8;
    bytes[12..16].copy_from_slice(&end.mine.to_le_bytes());
    bytes[16..20].copy_from_slice(&end.peer.to_le_bytes());
    let mut room = reason.len().min(MESSAGE_BYTES - REASON_AT);
    while !reason.is_char_boundary(room) {
        room -= 1;
    }
    bytes[REASON_AT..REASON_AT + room].copy_from_slice(&reason.as_bytes()[..room]);
    bytes
}

fn parse(bytes: &[u8; MESSAGE_BYTES], end: &PeerEnd) -> io::Result<Say> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if bytes[..8] != MAGIC {
        return Err(malformed("another build or version of Squall answers".to_owned()));
    }
    if (word(12), word(16)) != (end.peer, end.mine) {
        return Err(malformed(format!("the socket leads from reactor {} to {}", word(12), word(16))));
    }
    let known = [Say::Offer, Say::NoOffer, Say::Accept, Say::Refuse].into_iter().find(|say| *say as u8 == bytes[8]);
    known.ok_or_else(|| malformed(format!("a message of kind {}", bytes[8])))
}

/// The peer's words, as far as they are text.
fn reason(bytes: &[u8; MESSAGE_BYTES]) -> String {
    let text = String::from_utf8_lossy(&bytes[REASON_AT..]);
    let text = text.trim_end_matches('\0');
    format!("the other end says: {}", text.replace(char::is_control, " "))
}

fn malformed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn send(socket: &OwnedFd, bytes: &[u8; MESSAGE_BYTES], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "the space is for two descriptors");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags))?;
    if sent == bytes.len() { Ok(()) } else { Err(malformed(format!("the socket took {sent} bytes"))) }
}

/// One whole message and the descriptors beside it.
fn receive(
    socket: &OwnedFd,
    deadline: Instant,
) -> io::Result<([u8; MESSAGE_BYTES], impl Iterator<Item = OwnedFd> + use<>)> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut fds = Vec::new();
    let mut got = 0;
    while got < MESSAGE_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let into = &mut [IoSliceMut::new(&mut bytes[got..])];
        let received = match rustix::net::recvmsg(socket, into, &mut control, flags) {
            Ok(received) => received.bytes,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(error) => return Err(error.into()),
        };
        for piece in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = piece {
                fds.extend(passed);
            }
        }
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        got += received;
    }
    Ok((bytes, fds.into_iter()))
}
