//! How a generator finds the two components of a running topology: addresses, the first words, and shared memory where it can be had.
//!
//! ```text
//! generator  magic:8  role:u8  shm:u8  0:u16  schema length:u32   schema
//! component  magic:8  status:u8  0:u8*3  number:u32               text
//! ```
//! With status *shared* the number is the ring's bytes, and the memory and the doorbell come beside the message.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use squall_ring::{ShmLink, ShmSizes, Trust};

use crate::link::{Alarm, CHUNK_BYTES_MAX, Rx, Socket, Tx};
use crate::schema::Schema;

const MAGIC: [u8; 8] = *b"SQLOAD\x00\x01";
const MESSAGE_BYTES: usize = 16;
const STATUS_SOCKET: u8 = 0;
const STATUS_SHARED: u8 = 1;
const STATUS_REFUSED: u8 = 2;
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// How long the other side may take for its words.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// Where a component listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `tcp:HOST:PORT`.
    Tcp(String),
    /// `unix:PATH`: tuples go through the socket.
    Unix(PathBuf),
    /// `shm:PATH`: a Unix socket that is only for meeting; tuples go through shared memory.
    Shm(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let wrong = || format!("`{text}` is no address: write tcp:HOST:PORT, unix:PATH or shm:PATH");
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        match kind {
            "tcp" if rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
                Ok(Address::Tcp(rest.to_owned()))
            }
            "unix" | "uds" if !rest.is_empty() => Ok(Address::Unix(rest.into())),
            "shm" if !rest.is_empty() => Ok(Address::Shm(rest.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(at) => write!(f, "tcp:{at}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Shm(path) => write!(f, "shm:{}", path.display()),
        }
    }
}

/// Which component it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes tuples in.
    Ingest,
    /// Gives them back.
    Egress,
}

/// What both sides may choose.
#[derive(Debug, Clone, Copy)]
pub struct LinkOptions {
    /// Bytes of a ring in shared memory. Default 1 MiB; at least 640 KiB are taken.
    pub ring_bytes: usize,
    /// How long to try to connect: the topology may be starting. Default 10 s.
    pub patience: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        LinkOptions { ring_bytes: 1 << 20, patience: Duration::from_secs(10) }
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens, or not yet.
    #[error("cannot connect to {address}: {cause}; is the topology running, and does its component listen there?")]
    Connect {
        /// Where.
        address: Address,
        /// What the system says.
        cause: io::Error,
    },
    /// The component refused.
    #[error("{address} refused: {why}")]
    Refused {
        /// Where.
        address: Address,
        /// Its words.
        why: String,
    },
    /// Something else answers there, or the words were cut off.
    #[error("{address} does not speak as a load component of this version does: {cause}")]
    Hello {
        /// Where.
        address: Address,
        /// What happened.
        cause: io::Error,
    },
}

/// A link to the other side: one of the two ends, as the roles have it.
pub struct Connected {
    /// The sending end: the generator's to an ingest, the topology's at an egress.
    pub tx: Option<Tx>,
    /// The receiving end.
    pub rx: Option<Rx>,
    /// What the generator's bodies hold.
    pub schema: Schema,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Listens for generators, one after another.
pub struct Server {
    listener: Listener,
    address: Address,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = &self.listener {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Server {
    /// Listens. A socket that lies at the path and that nobody listens at is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: &Address) -> io::Result<Server> {
        let listener = match address {
            Address::Tcp(at) => Listener::Tcp(TcpListener::bind(at.as_str())?),
            Address::Unix(path) | Address::Shm(path) => {
                let stale = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
                    && UnixStream::connect(path).is_err();
                if stale {
                    std::fs::remove_file(path)?;
                }
                Listener::Unix(UnixListener::bind(path)?, path.clone())
            }
        };
        match &listener {
            Listener::Tcp(l) => l.set_nonblocking(true)?,
            Listener::Unix(l, _) => l.set_nonblocking(true)?,
        }
        Ok(Server { listener, address: address.clone() })
    }

    /// Waits for a generator, at most so long; `None`: none came. For an ingest, `bell` is what wakes its reactor.
    ///
    /// # Errors
    /// What went wrong with the one that came. Others may come.
    pub fn accept(
        &self,
        role: Role,
        bell: Option<&OwnedFd>,
        options: &LinkOptions,
        wait: Duration,
    ) -> Result<Option<Connected>, ConnectError> {
        let fd = match &self.listener {
            Listener::Tcp(l) => l.as_fd(),
            Listener::Unix(l, _) => l.as_fd(),
        };
        if !readable(fd, wait) {
            return Ok(None);
        }
        let accepted = match &self.listener {
            Listener::Tcp(l) => l.accept().and_then(|(s, _)| s.set_nodelay(true).map(|()| Socket::Tcp(s))),
            Listener::Unix(l, _) => l.accept().map(|(s, _)| Socket::Unix(s)),
        };
        let failed = |cause| ConnectError::Hello { address: self.address.clone(), cause };
        match accepted {
            Ok(socket) => answer(socket, role, bell, options).map(Some).map_err(failed),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(cause) => Err(failed(cause)),
        }
    }
}

/// Whether a descriptor becomes readable within this time.
pub(crate) fn readable(fd: std::os::fd::BorrowedFd<'_>, wait: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    matches!(poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)), Ok(n) if n > 0)
}

/// The component's side of the first words.
fn answer(mut socket: Socket, role: Role, bell: Option<&OwnedFd>, options: &LinkOptions) -> io::Result<Connected> {
    socket.set_nonblocking(false)?;
    set_patience(&socket)?;
    let mut message = [0; MESSAGE_BYTES];
    read_exact(&mut socket, &mut message)?;
    if message[..8] != MAGIC {
        refuse(&mut socket, "another version of the generator is needed")?;
        return Err(io::Error::new(ErrorKind::InvalidData, "somebody who is no load generator connected"));
    }
    let role_asked = if message[8] == 0 { Role::Ingest } else { Role::Egress };
    let len = u32::from_le_bytes([message[12], message[13], message[14], message[15]]) as usize;
    if len > TEXT_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "a schema of impossible length"));
    }
    // Read to its end before a refusal: a socket that is closed with something unread may take the refusal back.
    let mut text = vec![0; len];
    read_exact(&mut socket, &mut text)?;
    if role_asked != role {
        let what = match role {
            Role::Ingest => "this is an ingest spout; were the two addresses exchanged?",
            Role::Egress => "this is an egress sink; were the two addresses exchanged?",
        };
        refuse(&mut socket, what)?;
        return Err(io::Error::new(ErrorKind::InvalidInput, "a generator came to the wrong component"));
    }
    let schema = String::from_utf8_lossy(&text).parse::<Schema>();
    let schema = match schema {
        Ok(schema) => schema,
        Err(e) => {
            refuse(&mut socket, &e.to_string())?;
            return Err(io::Error::new(ErrorKind::InvalidData, e));
        }
    };
    let mut reply = [0; MESSAGE_BYTES];
    reply[..8].copy_from_slice(&MAGIC);
    if message[9] != 0
        && let Socket::Unix(unix) = &socket
    {
        return share(unix.try_clone()?, role, bell, options, schema, reply);
    }
    reply[8] = STATUS_SOCKET;
    write_all(&mut socket, &reply)?;
    socket.set_nonblocking(true)?;
    Ok(match role {
        Role::Ingest => Connected { tx: None, rx: Some(Rx::socket(socket)), schema },
        Role::Egress => Connected { tx: Some(Tx::socket(socket)), rx: None, schema },
    })
}

fn sizes(ring_bytes: usize) -> ShmSizes {
    ShmSizes { ring_bytes, creator_inboxes: 1, opener_inboxes: 1 }
}

fn share(
    unix: UnixStream,
    role: Role,
    bell: Option<&OwnedFd>,
    options: &LinkOptions,
    schema: Schema,
    mut reply: [u8; MESSAGE_BYTES],
) -> io::Result<Connected> {
    let ring_bytes = options.ring_bytes.max(4 * CHUNK_BYTES_MAX).next_power_of_two();
    let (link, memory) = ShmLink::create(sizes(ring_bytes), Trust::Peer).map_err(io::Error::other)?;
    reply[8] = STATUS_SHARED;
    reply[12..16].copy_from_slice(&(ring_bytes as u32).to_le_bytes());
    let mut fds = vec![memory.as_fd()];
    fds.extend(bell.map(AsFd::as_fd));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "the space is for two descriptors");
    rustix::net::sendmsg(&unix, &[IoSlice::new(&reply)], &mut control, SendFlags::NOSIGNAL)?;
    unix.set_nonblocking(true)?;
    Ok(match role {
        Role::Ingest => Connected { tx: None, rx: Some(Rx::ring(link.consumer, Some(link.sleep), Some(unix))), schema },
        Role::Egress => Connected { tx: Some(Tx::ring(link.producer, Alarm::None, Some(unix))), rx: None, schema },
    })
}

fn refuse(socket: &mut Socket, why: &str) -> io::Result<()> {
    let mut reply = [0; MESSAGE_BYTES];
    reply[..8].copy_from_slice(&MAGIC);
    reply[8] = STATUS_REFUSED;
    reply[12..16].copy_from_slice(&(why.len() as u32).to_le_bytes());
    write_all(socket, &reply)?;
    write_all(socket, why.as_bytes())
}

fn set_patience(socket: &Socket) -> io::Result<()> {
    match socket {
        Socket::Unix(s) => s.set_read_timeout(Some(HELLO_MAX)).and_then(|()| s.set_write_timeout(Some(HELLO_MAX))),
        Socket::Tcp(s) => s.set_read_timeout(Some(HELLO_MAX)).and_then(|()| s.set_write_timeout(Some(HELLO_MAX))),
    }
}

fn read_exact(socket: &mut Socket, mut to: &mut [u8]) -> io::Result<()> {
    while !to.is_empty() {
        match socket.read(to) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => to = &mut to[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn write_all(socket: &mut Socket, mut from: &[u8]) -> io::Result<()> {
    while !from.is_empty() {
        match socket.write(from) {
            Ok(n) => from = &from[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Connects a generator to a component; `schema` is what its bodies hold.
///
/// # Errors
/// When nobody answers within the patience, or the answer is no.
pub fn connect(
    address: &Address,
    role: Role,
    schema: &Schema,
    options: &LinkOptions,
) -> Result<Connected, ConnectError> {
    let deadline = Instant::now() + options.patience;
    let mut socket = loop {
        let tried = match address {
            Address::Tcp(at) => TcpStream::connect(at.as_str()).and_then(|s| {
                s.set_nodelay(true)?;
                Ok(Socket::Tcp(s))
            }),
            Address::Unix(path) | Address::Shm(path) => UnixStream::connect(path).map(Socket::Unix),
        };
        match tried {
            Ok(socket) => break socket,
            Err(cause) if Instant::now() >= deadline => {
                return Err(ConnectError::Connect { address: address.clone(), cause });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let hello = |cause| ConnectError::Hello { address: address.clone(), cause };
    greet(&mut socket, address, role, schema).map_err(hello)?;
    let (reply, memory, bell) = reply(&mut socket).map_err(hello)?;
    let number = u32::from_le_bytes([reply[12], reply[13], reply[14], reply[15]]) as usize;
    let schema = schema.clone();
    match (reply[8], memory) {
        (STATUS_SOCKET, _) => {
            socket.set_nonblocking(true).map_err(hello)?;
            Ok(match role {
                Role::Ingest => Connected { tx: Some(Tx::socket(socket)), rx: None, schema },
                Role::Egress => Connected { tx: None, rx: Some(Rx::socket(socket)), schema },
            })
        }
        (STATUS_SHARED, Some(memory)) => {
            let Socket::Unix(unix) = socket else {
                return Err(hello(io::Error::new(ErrorKind::InvalidData, "shared memory came over TCP")));
            };
            let link = ShmLink::open(memory, sizes(number), Trust::Peer).map_err(|e| hello(io::Error::other(e)))?;
            unix.set_nonblocking(true).map_err(hello)?;
            Ok(match role {
                Role::Ingest => {
                    let alarm = bell.map_or(Alarm::None, |bell| Alarm::Bell(link.peer_sleep, bell));
                    Connected { tx: Some(Tx::ring(link.producer, alarm, Some(unix))), rx: None, schema }
                }
                Role::Egress => Connected { tx: None, rx: Some(Rx::ring(link.consumer, None, Some(unix))), schema },
            })
        }
        (STATUS_REFUSED, _) => {
            let mut text = vec![0; number.min(TEXT_BYTES_MAX)];
            read_exact(&mut socket, &mut text).map_err(hello)?;
            let why = String::from_utf8_lossy(&text).replace(char::is_control, " ");
            Err(ConnectError::Refused { address: address.clone(), why })
        }
        _ => Err(hello(io::Error::new(ErrorKind::InvalidData, "an answer of unknown kind"))),
    }
}

fn greet(socket: &mut Socket, address: &Address, role: Role, schema: &Schema) -> io::Result<()> {
    set_patience(socket)?;
    let text = schema.to_string();
    let mut message = [0; MESSAGE_BYTES];
    message[..8].copy_from_slice(&MAGIC);
    message[8] = u8::from(role == Role::Egress);
    message[9] = u8::from(matches!(address, Address::Shm(_)));
    message[12..16].copy_from_slice(&(text.len() as u32).to_le_bytes());
    // At once: who refuses may hang up behind the first of two.
    write_all(socket, &[&message[..], text.as_bytes()].concat())
}

type Reply = ([u8; MESSAGE_BYTES], Option<OwnedFd>, Option<OwnedFd>);

fn reply(socket: &mut Socket) -> io::Result<Reply> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut fds = Vec::new();
    let mut got = 0;
    while got < MESSAGE_BYTES {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut bytes[got..])];
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(socket.fd(), into, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let count = received.bytes;
        for piece in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = piece {
                fds.extend(passed);
            }
        }
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        got += count;
    }
    if bytes[..8] != MAGIC {
        return Err(io::Error::new(ErrorKind::InvalidData, "something else answers"));
    }
    let mut fds = fds.into_iter();
    Ok((bytes, fds.next(), fds.next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{LinkError, Tag};

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["tcp:localhost:4000", "unix:/run/a", "shm:/run/a"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://h:1".parse(), Ok(Address::Tcp("h:1".into())));
        for wrong in ["", "tcp:h", "tcp:h:port", "unix:", "udp:h:1"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    /// Both sides of a link over this address.
    fn meet(address: &Address, role: Role, server_role: Role) -> (Result<Connected, ConnectError>, Option<Connected>) {
        let server = Server::bind(address).unwrap();
        let address = match (&server.listener, address) {
            (Listener::Tcp(l), _) => Address::Tcp(l.local_addr().unwrap().to_string()),
            (_, other) => other.clone(),
        };
        std::thread::scope(|s| {
            let client = s.spawn(move || connect(&address, role, &"id:u64".parse().unwrap(), &LinkOptions::default()));
            let accepted = server.accept(server_role, None, &LinkOptions::default(), Duration::from_secs(10));
            (client.join().unwrap(), accepted.ok().flatten())
        })
    }

    #[test]
    fn a_generator_meets_both_components_over_every_kind_of_link() {
        let dir = tempfile::tempdir().unwrap();
        for address in [
            Address::Tcp("127.0.0.1:0".into()),
            Address::Unix(dir.path().join("u")),
            Address::Shm(dir.path().join("s")),
        ] {
            for role in [Role::Ingest, Role::Egress] {
                let (client, server) = meet(&address, role, role);
                let (client, server) = (client.unwrap(), server.unwrap());
                assert_eq!(server.schema.to_string(), "id:u64");
                let (mut tx, mut rx) = match role {
                    Role::Ingest => (client.tx.unwrap(), server.rx.unwrap()),
                    Role::Egress => (server.tx.unwrap(), client.rx.unwrap()),
                };
                assert!(tx.try_send(Tag::Data, b"some").unwrap());
                let got = loop {
                    if let Some((_, bytes)) = rx.peek().unwrap() {
                        break bytes.to_vec();
                    }
                };
                assert_eq!(got, b"some", "{address}");
                rx.release();
                drop(tx);
                // The other side's end is seen, whatever the link.
                while !rx.is_gone() {
                    assert!(matches!(rx.peek(), Ok(None) | Err(LinkError::Gone)));
                }
            }
        }
    }

    #[test]
    fn addresses_that_were_exchanged_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let (client, _) = meet(&Address::Unix(dir.path().join("u")), Role::Ingest, Role::Egress);
        let error = client.err().unwrap().to_string();
        assert!(error.contains("egress sink"), "{error}");
    }

    #[test]
    fn nobody_there_is_told_after_the_patience() {
        let dir = tempfile::tempdir().unwrap();
        let options = LinkOptions { patience: Duration::ZERO, ..LinkOptions::default() };
        let gone = connect(&Address::Unix(dir.path().join("none")), Role::Ingest, &Schema::default(), &options);
        assert!(gone.err().unwrap().to_string().contains("is the topology running"));
    }
}
