//! The embedded coordinator for other processes: sessions with nimbus over TCP, a JSON object a line.
//!
//! One connection is one session, which ends when nothing was heard for its timeout: at once when the connection is silent that long, and so long
//! after the last word when it ends, since a supervisor that is started again is back before, and its workers were there all the while. Both ends
//! speak at least three times per timeout. Beside calls and events the same connection carries what a supervisor tells nimbus of its workers.
//!
//! Each end has two threads: one reads, one writes what is queued, so neither the coordinator nor a driver ever waits for a socket.
//!
//! Deliberately absent: TLS. Beyond one machine the network has to be trusted, or ZooKeeper is used.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_control::Report;
use squall_coordinator::{Call, Coordinator, Error, Event, Session, SessionOptions, Sink};

use super::nimbus::Handle;
use super::{NimbusLink, NodeStats};

/// Bytes of a line, at most: a commit of the largest size, as JSON writes bytes.
const LINE_MAX: u64 = 128 << 20;
/// How long a connection may take to be made, and to say who it is.
const OPEN_WAIT: Duration = Duration::from_secs(5);
/// Session timeouts that are granted.
const TIMEOUTS_MS: std::ops::RangeInclusive<u64> = 200..=60_000;

/// From a supervisor.
#[derive(Debug, Serialize, Deserialize)]
enum Up {
    Open { token: String, timeout_ms: u64 },
    Call { ticket: u64, call: Call },
    Report(Report),
    Stats(Box<NodeStats>),
    Beat,
}

/// From nimbus.
#[derive(Debug, Serialize, Deserialize)]
enum Down {
    /// There is a session. Where the HTTP interface is.
    Opened {
        timeout_ms: u64,
        api: String,
    },
    Refused(String),
    Event(Event),
    Beat,
}

/// Reads one line. `None`: the other end is gone, silent, or makes no sense.
fn read<T: DeserializeOwned>(from: &mut BufReader<TcpStream>) -> Option<T> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

/// Writes what is queued, and a beat where nothing is, until the queue or the connection ends.
fn write<T: Serialize>(mut to: TcpStream, queue: &Receiver<T>, beat: impl Fn() -> T, every: Duration) {
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

/// What the sessions of a nimbus have in common.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub coordinator: Arc<dyn Coordinator>,
    pub nimbus: Handle,
    /// `None`: whoever comes has a session.
    pub token: Option<String>,
    pub api: SocketAddr,
}

impl Sessions {
    /// Serves sessions on threads of its own, for as long as the process is there.
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
        let Up::Open { token, timeout_ms } = read(&mut reader)? else { return None };
        let (tell, queue) = channel();
        let timeout = Duration::from_millis(timeout_ms.clamp(*TIMEOUTS_MS.start(), *TIMEOUTS_MS.end()));
        let writer = stream.try_clone().ok()?;
        std::thread::Builder::new().spawn(move || write(writer, &queue, || Down::Beat, timeout / 3)).ok()?;
        if self.token.as_ref().is_some_and(|own| !super::api::equal(token.as_bytes(), own.as_bytes())) {
            tell.send(Down::Refused("the token is not that of this nimbus: look at --token-file".into())).ok()?;
            return None;
        }
        let events = Mutex::new(tell.clone());
        let sink: Sink = Box::new(move |event| {
            let _ = events.lock().unwrap_or_else(PoisonError::into_inner).send(Down::Event(event));
        });
        let session = match self.coordinator.connect(&SessionOptions { timeout }, sink) {
            Ok(session) => session,
            Err(error) => {
                tell.send(Down::Refused(error.to_string())).ok()?;
                return None;
            }
        };
        let api = self.api.to_string();
        tell.send(Down::Opened { timeout_ms: timeout.as_millis() as u64, api }).ok()?;
        stream.set_read_timeout(Some(timeout)).ok()?;
        let mut heard = Instant::now();
        while let Some(said) = read(&mut reader) {
            heard = Instant::now();
            match said {
                Up::Call { ticket, call } => session.call(ticket, call),
                Up::Report(report) => self.nimbus.report(report),
                Up::Stats(stats) => self.nimbus.stats(*stats),
                Up::Beat => {}
                Up::Open { .. } => break,
            }
        }
        std::thread::sleep(timeout.saturating_sub(heard.elapsed()));
        None
    }
}

/// A nimbus in another process, as coordinator and as the one who is told of workers.
#[derive(Clone)]
pub(crate) struct Remote {
    /// Where it takes sessions: asked again for each, since it may be elsewhere after a restart.
    find: Find,
    token: String,
    now: Arc<Mutex<Now>>,
}

/// Finds nimbus.
pub(crate) type Find = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// The session there is.
#[derive(Default)]
struct Now {
    tell: Option<Sender<Up>>,
    api: Option<String>,
}

impl Remote {
    pub(crate) fn new(find: Find, token: String) -> Remote {
        Remote { find, token, now: Arc::default() }
    }

    /// Where its HTTP interface is, once there was a session; and the token for it.
    pub(crate) fn api(&self) -> Option<(String, String)> {
        Some((self.now().api.clone()?, self.token.clone()))
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, message: Up) {
        // Without a session it is lost: the next report and the next counts say the same and more.
        if let Some(tell) = &self.now().tell {
            let _ = tell.send(message);
        }
    }

    fn open(&self, options: &SessionOptions) -> Result<(TcpStream, BufReader<TcpStream>, Duration, String), String> {
        use std::net::ToSocketAddrs;
        let found = (self.find)()?;
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
            Some(Down::Opened { timeout_ms, api }) => {
                // Bound to all addresses of its host, it is where its sessions are.
                let api = match api.parse::<SocketAddr>() {
                    Ok(bound) if bound.ip().is_unspecified() => SocketAddr::new(address.ip(), bound.port()).to_string(),
                    _ => api,
                };
                Ok((stream, reader, Duration::from_millis(timeout_ms), api))
            }
            Some(Down::Refused(why)) => Err(why),
            _ => Err(format!("what answers at {found} is no nimbus, or another version of it")),
        }
    }
}

impl Coordinator for Remote {
    fn connect(&self, options: &SessionOptions, sink: Sink) -> Result<Box<dyn Session>, Error> {
        let (stream, mut reader, timeout, api) = self.open(options).map_err(Error::Refused)?;
        let (tell, queue) = channel();
        let threads = || -> std::io::Result<RemoteSession> {
            stream.set_read_timeout(Some(timeout))?;
            let writer = stream.try_clone()?;
            let thread = std::thread::Builder::new().name("to-nimbus".into());
            thread.spawn(move || write(writer, &queue, || Up::Beat, timeout / 3))?;
            let session = RemoteSession { tell: tell.clone(), stream, timeout };
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
        *self.now() = Now { tell: Some(tell), api: Some(api) };
        Ok(Box::new(session))
    }
}

impl NimbusLink for Remote {
    fn report(&self, report: Report) {
        self.tell(Up::Report(report));
    }

    fn stats(&self, stats: NodeStats) {
        self.tell(Up::Stats(Box::new(stats)));
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
