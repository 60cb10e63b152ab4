//! The embedded coordinator for other processes: sessions with nimbus over TCP, a JSON object a line.
//!
//! One connection is one session, which ends when nothing was heard for its timeout: at once when the connection is silent that long, and so long
//! after the last word when it ends, since a supervisor that is started again is back before, and its workers were there all the while. Both ends
//! speak at least three times per timeout. At the same address nimbus takes the links by which supervisors tell it of their workers
//! ([`link`](super::link)).
//!
//! Each end has two threads: one reads, one writes what is queued, so neither the coordinator nor a driver ever waits for a socket.
//!
//! Deliberately absent: TLS. Beyond one machine the network has to be trusted, or ZooKeeper is used.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_coordinator::{Call, Coordinator, Error, Event, Session, SessionOptions, Sink};

use super::link::{self, Nodes};
use super::nimbus::Handle;

/// Bytes of a line, at most: a commit of the largest size, as JSON writes bytes.
const LINE_MAX: u64 = 128 << 20;
/// How long a connection may take to be made, and to say who it is.
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(5);
/// Session timeouts that are granted.
const TIMEOUTS_MS: std::ops::RangeInclusive<u64> = 200..=60_000;

/// From a supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Up {
    /// A link begins, not a session.
    Link(link::Hello),
    Open {
        token: String,
        timeout_ms: u64,
    },
    Call {
        ticket: u64,
        call: Call,
    },
    Beat,
}

/// From nimbus.
#[derive(Debug, Serialize, Deserialize)]
enum Down {
    /// There is a session.
    Opened {
        timeout_ms: u64,
    },
    Refused(String),
    Event(Event),
    Beat,
}

/// Reads one line. `None`: the other end is gone, silent, or makes no sense.
pub(super) fn read<T: DeserializeOwned>(from: &mut BufReader<TcpStream>) -> Option<T> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

/// Writes what is queued, and a beat where nothing is, until the queue or the connection ends.
pub(super) fn write<T: Serialize>(mut to: TcpStream, queue: &Receiver<T>, beat: impl Fn() -> T, every: Duration) {
    loop {
        let message = match queue.recv_timeout(every) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => beat(),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut line = serde_json::to_vec(&message).expect("plain data");
        line.push(b'\n');
        if to.write_all(&line).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The timeout that is granted where this one is asked for.
pub(super) fn session_timeout(asked_ms: u64) -> Duration {
    Duration::from_millis(asked_ms.clamp(*TIMEOUTS_MS.start(), *TIMEOUTS_MS.end()))
}

/// What the sessions and links of a nimbus have in common.
#[derive(Clone)]
pub(crate) struct Sessions {
    /// Whom to have sessions with. `None`: supervisors have sessions of their own with ZooKeeper.
    pub coordinator: Option<Arc<dyn Coordinator>>,
    pub nimbus: Handle,
    pub nodes: Nodes,
    /// `None`: whoever comes has a session or a link.
    pub token: Option<String>,
    /// Where others are told that its HTTP interface is.
    pub api: String,
}

impl Sessions {
    /// Serves sessions and links on threads of its own, for as long as the process is there.
    ///
    /// # Errors
    /// There is no thread.
    pub(crate) fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let accept = move || {
            loop {
                let Ok((stream, _)) = listener.accept() else {
                    // Out of descriptors, most likely.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                };
                let sessions = self.clone();
                // Without a thread the connection is closed, and tried again later.
                let _ = std::thread::Builder::new().name("session".into()).spawn(move || sessions.session(stream));
            }
        };
        std::thread::Builder::new().name("sessions".into()).spawn(accept).map(drop)
    }

    /// One session. However it ends, it is dropped here, and its ephemeral nodes go.
    fn session(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(OPEN_WAIT)).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let (token, timeout_ms) = match read(&mut reader)? {
            Up::Open { token, timeout_ms } => (token, timeout_ms),
            Up::Link(hello) => return link::serve(self, &stream, reader, &hello),
            Up::Call { .. } | Up::Beat => return None,
        };
        let (tell, queue) = channel();
        let timeout = session_timeout(timeout_ms);
        let writer = stream.try_clone().ok()?;
        std::thread::Builder::new().spawn(move || write(writer, &queue, || Down::Beat, timeout / 3)).ok()?;
        if self.token.as_ref().is_some_and(|own| !super::api::equal(token.as_bytes(), own.as_bytes())) {
            tell.send(Down::Refused("the token is not that of this nimbus: look at --token-file".into())).ok()?;
            return None;
        }
        let Some(coordinator) = &self.coordinator else {
            let why = "this cluster agrees by ZooKeeper: set coordinator.kind of the supervisor to zookeeper, and its servers";
            tell.send(Down::Refused(why.into())).ok()?;
            return None;
        };
        let events = Mutex::new(tell.clone());
        let sink: Sink = Box::new(move |event| {
            let _ = events.lock().unwrap_or_else(PoisonError::into_inner).send(Down::Event(event));
        });
        let session = match coordinator.connect(&SessionOptions { timeout }, sink) {
            Ok(session) => session,
            Err(error) => {
                tell.send(Down::Refused(error.to_string())).ok()?;
                return None;
            }
        };
        tell.send(Down::Opened { timeout_ms: timeout.as_millis() as u64 }).ok()?;
        stream.set_read_timeout(Some(timeout)).ok()?;
        let mut heard = Instant::now();
        while let Some(said) = read(&mut reader) {
            heard = Instant::now();
            match said {
                Up::Call { ticket, call } => session.call(ticket, call),
                Up::Beat => {}
                Up::Open { .. } | Up::Link(_) => break,
            }
        }
        std::thread::sleep(timeout.saturating_sub(heard.elapsed()));
        None
    }
}

/// The embedded coordinator of a nimbus in another process.
#[derive(Clone)]
pub(crate) struct Remote {
    /// Where it takes sessions: asked again for each, since it may be elsewhere after a restart.
    find: Find,
    token: String,
}

/// Finds where nimbuses take sessions and links: all that come into question.
pub(crate) type Find = Arc<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

impl Remote {
    pub(crate) fn new(find: Find, token: String) -> Remote {
        Remote { find, token }
    }

    /// The first of them that has a session to give.
    fn open(&self, options: &SessionOptions) -> Result<(TcpStream, BufReader<TcpStream>, Duration), String> {
        let mut why = "no nimbus is known".to_owned();
        for found in (self.find)()? {
            match self.open_at(&found, options) {
                Ok(opened) => return Ok(opened),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn open_at(
        &self,
        found: &str,
        options: &SessionOptions,
    ) -> Result<(TcpStream, BufReader<TcpStream>, Duration), String> {
        use std::net::ToSocketAddrs;
        let failed = |error: std::io::Error| format!("nimbus cannot be reached at {found}: {error}");
        let address = found.to_socket_addrs().map_err(failed)?.next();
        let address = address.ok_or_else(|| format!("{found} is no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, OPEN_WAIT).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(OPEN_WAIT)).map_err(failed)?;
        let timeout_ms = options.timeout.as_millis() as u64;
        let open = Up::Open { token: self.token.clone(), timeout_ms };
        let mut line = serde_json::to_vec(&open).expect("plain data");
        line.push(b'\n');
        stream.write_all(&line).map_err(failed)?;
        let mut reader = BufReader::new(stream.try_clone().map_err(failed)?);
        match read(&mut reader) {
            Some(Down::Opened { timeout_ms }) => Ok((stream, reader, Duration::from_millis(timeout_ms))),
            Some(Down::Refused(why)) => Err(why),
            _ => Err(format!("what answers at {found} is no nimbus, or another version of it")),
        }
    }
}

impl Coordinator for Remote {
    fn connect(&self, options: &SessionOptions, sink: Sink) -> Result<Box<dyn Session>, Error> {
        let (stream, mut reader, timeout) = self.open(options).map_err(Error::Refused)?;
        let (tell, queue) = channel();
        let threads = || -> std::io::Result<RemoteSession> {
            stream.set_read_timeout(Some(timeout))?;
            let writer = stream.try_clone()?;
            let thread = std::thread::Builder::new().name("to-nimbus".into());
            thread.spawn(move || write(writer, &queue, || Up::Beat, timeout / 3))?;
            let session = RemoteSession { tell, stream, timeout };
            let hear = move || {
                while let Some(message) = read(&mut reader) {
                    if let Down::Event(event) = message {
                        let ended = event == Event::Ended;
                        sink(event);
                        if ended {
                            return;
                        }
                    }
                }
                sink(Event::Ended);
            };
            std::thread::Builder::new().name("from-nimbus".into()).spawn(hear)?;
            Ok(session)
        };
        let session = threads().map_err(|error| Error::Refused(format!("no session with nimbus: {error}")))?;
        Ok(Box::new(session))
    }
}

struct RemoteSession {
    tell: Sender<Up>,
    stream: TcpStream,
    timeout: Duration,
}

impl Session for RemoteSession {
    fn call(&self, ticket: u64, call: Call) {
        // A connection that has ended is told as the end of the session.
        let _ = self.tell.send(Up::Call { ticket, call });
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
