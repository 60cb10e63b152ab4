//! Lines that arrive over TCP, and datagrams over UDP.
//!
//! Threads of their own read from the sockets. They wait while the spout has no room, and so does, over TCP, whoever sends; UDP
//! datagrams that find the socket's buffer full are dropped by the system. Neither source can be read again: what was read and
//! not yet emitted when the worker dies is lost, unless its sender is told of acks ([`TcpLines::acks`]) and sends the rest again.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use squall::{Context, Failure, Level, Logger, MessageId, Next, RowStreams, Spout, SpoutError};

use super::form::{FORM_OUTPUTS, Form, form, form_options};
use super::inflow::{Chunk, Feeder, Inflow, LINE_BYTES_MAX, inflow};
use super::senders::Acks;
use super::stdin::limit_option;
use crate::giving_up::{GiveUp, giving_up_if, giving_up_options};
use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Options, Place};
use crate::rows::OnError;

/// Connections read at a time, at most: each has a thread. Others wait in the listener's queue.
const CONNECTIONS_MAX: usize = 256;
/// How long an ack waits for a sender that does not read; then it is told no more.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// What the two sources have in common.
#[derive(Debug)]
struct Settings<S> {
    /// Bound already, or where to bind.
    socket: Mutex<Option<S>>,
    address: String,
    form: Arc<Form>,
    on_error: OnError,
    limit: Option<u64>,
    /// Senders are told how many of their lines are done.
    acks: bool,
    give_up: GiveUp,
}

impl<S> Settings<S> {
    fn new(address: &str, socket: Option<S>) -> Settings<S> {
        let address = address.to_owned();
        Settings {
            socket: Mutex::new(socket),
            address,
            form: Arc::default(),
            on_error: OnError::Fail,
            limit: None,
            acks: false,
            give_up: GiveUp::default(),
        }
    }

    fn bind(&self, bind: impl Fn(&str) -> std::io::Result<S>) -> Result<S, SpoutError> {
        if let Some(socket) = self.socket.lock().expect("nothing panics while it is held").take() {
            return Ok(socket);
        }
        bind(&self.address).map_err(|cause| {
            let address = &self.address;
            SpoutError::new(format!(
                "cannot listen on {address}: {cause}; choose an address of this host and a free port"
            ))
        })
    }
}

macro_rules! builder {
    ($name:ident, $socket:ty) => {
        impl $name {
            /// Listens on this address: `127.0.0.1:4000`, `[::]:4000`; with port 0 on any free one, which is logged.
            pub fn on(address: &str) -> $name {
                $name { settings: Settings::new(address, None) }
            }

            /// Listens on a socket that is bound already.
            pub fn bound(socket: $socket) -> $name {
                $name { settings: Settings::new("", Some(socket)) }
            }

            /// What a text becomes. Default: its text.
            pub fn form(mut self, form: Form) -> $name {
                self.settings.form = Arc::new(form);
                self
            }

            /// What becomes of texts that are not of the form. Default: the run ends with an error.
            pub fn on_error(mut self, on_error: OnError) -> $name {
                self.settings.on_error = on_error;
                self
            }

            /// Ends after so many texts. Default: without an end.
            pub fn limit(mut self, rows: u64) -> $name {
                self.settings.limit = Some(rows);
                self
            }

            /// Declares it at a place.
            ///
            /// # Errors
            /// When more than one task is asked for, or two fields would have one name.
            pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
                place.one_task("an address can be listened on once").map_err(|e| vec![e])?;
                self.settings.form.check(&place)?;
                let acks = self.settings.acks;
                let give_up = if acks { self.settings.give_up } else { GiveUp::default() };
                let streams = self.settings.form.streams(self.settings.on_error, give_up);
                let settings = Arc::new(self.settings);
                let make = move || Listening { settings: settings.clone(), inflow: None, stop: None };
                Ok(give_up.read(place.spout_with(streams, make, |decl| decl.reliable(acks))))
            }
        }
    };
}

/// Emits the lines that arrive over any number of TCP connections; those of one connection in order.
#[derive(Debug)]
pub struct TcpLines {
    settings: Settings<TcpListener>,
}

/// Emits the UDP datagrams that arrive, each a row.
#[derive(Debug)]
pub struct Udp {
    settings: Settings<UdpSocket>,
}

impl TcpLines {
    /// Tells each sender how many of its lines are done, all before them too: the number on a line of its own, each time it has
    /// grown. Lines are emitted again until they are acknowledged, or have failed ten times. Who sends the rest again after
    /// its connection broke loses nothing, whoever dies here (D4). Needs acking; without it nobody is told.
    pub fn acks(mut self) -> TcpLines {
        self.settings.acks = true;
        self
    }

    /// With [`TcpLines::acks`]: what becomes of lines that fail again and again; as dead letters they are `text` and `error`. Their
    /// sender is told that they are done when they are given up, or the letter is acknowledged. Default: given up after ten failures.
    pub fn give_up(mut self, give_up: GiveUp) -> TcpLines {
        self.settings.give_up = give_up;
        self
    }
}

builder!(TcpLines, TcpListener);
builder!(Udp, UdpSocket);

struct Listening<S> {
    settings: Arc<Settings<S>>,
    inflow: Option<Inflow>,
    stop: Option<Stop>,
}

/// Ends the threads of a source: tells them, and ends what they wait for.
struct Stop {
    told: Arc<AtomicBool>,
    /// Sends something to the socket that the first thread waits on.
    nudge: Box<dyn Fn()>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        // Release pairs with the Acquire of the threads: what they see afterwards is only the end.
        self.told.store(true, Ordering::Release);
        (self.nudge)();
        let connections: Vec<_> = self.connections.lock().expect("nothing panics while it is held").drain(..).collect();
        // Closed already is as good. The other direction is closed behind the last acks.
        connections.iter().for_each(|connection| drop(connection.shutdown(Shutdown::Read)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        connections.iter().for_each(|connection| drop(connection.shutdown(Shutdown::Both)));
    }
}

impl<S> Listening<S> {
    /// Makes the queue; gives the feeder, and the flag and the connections that end the threads.
    fn open(&mut self, ctx: &Context) -> Result<(Feeder, Logger), SpoutError> {
        let Settings { form, on_error, limit, give_up, .. } = &*self.settings;
        let (feeder, mut inflow) = inflow(ctx, form, *on_error, *limit);
        if self.acks(ctx) {
            inflow.track(ctx, *give_up)?;
        }
        self.inflow = Some(inflow);
        Ok((feeder, ctx.logger()))
    }

    fn acks(&self, ctx: &Context) -> bool {
        self.settings.acks && ctx.plan().spec.config.acking()
    }

    fn next_row(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let next = self.inflow.as_mut().expect("prepared").next(out)?;
        if next == Next::End {
            self.end();
        }
        Ok(next)
    }

    fn end(&mut self) {
        // First the queue: a thread that waits for room in it goes on.
        self.inflow = None;
        self.stop = None;
    }
}

fn told(flag: &AtomicBool) -> bool {
    // Acquire: see `Stop`.
    flag.load(Ordering::Acquire)
}

/// An address to reach a listener at, which may listen on all of the host's.
fn reach(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

impl Spout for Listening<TcpListener> {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let listener = self.settings.bind(|address| TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        ctx.log(Level::Info, format_args!("listening for lines on tcp {address}"));
        let (feeder, logger) = self.open(ctx)?;
        let acks = self.acks(ctx);
        let (flag, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let thread = {
            let (flag, connections) = (flag.clone(), connections.clone());
            thread::Builder::new()
                .name("tcp-lines".into())
                .spawn(move || accept(&listener, feeder, acks, &logger, &flag, &connections))?
        };
        let nudge = Box::new(move || drop(TcpStream::connect(reach(address))));
        self.stop = Some(Stop { told: flag, nudge, connections, thread: Some(thread) });
        Ok(())
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        self.next_row(out)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.inflow.iter_mut().for_each(|inflow| inflow.ack(id));
        Ok(())
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        self.inflow.iter_mut().for_each(|inflow| inflow.fail(id, &why));
        Ok(())
    }

    fn deactivate(&mut self) {
        self.end();
    }

    fn cleanup(&mut self) {
        self.end();
    }
}

/// Accepts connections until it is told to stop; joins their threads.
fn accept(
    listener: &TcpListener,
    feeder: Feeder,
    acks: bool,
    logger: &Logger,
    flag: &Arc<AtomicBool>,
    connections: &Arc<Mutex<Vec<TcpStream>>>,
) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for connection in listener.incoming() {
        if told(flag) {
            break;
        }
        let connection = match connection {
            Ok(connection) => connection,
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
            Err(cause) => {
                let remedy = "raise the limit of open files (`ulimit -n`) if it says there are too many";
                feeder.push(Chunk::Broken(format!("cannot accept connections: {cause}; {remedy}")));
                break;
            }
        };
        threads.retain(|t| !t.is_finished());
        connections.lock().expect("nothing panics while it is held").retain(|c: &TcpStream| c.peer_addr().is_ok());
        if threads.len() >= CONNECTIONS_MAX {
            logger.log(Level::Warn, format_args!("more than {CONNECTIONS_MAX} connections: one is refused"));
            continue;
        }
        let Ok(twin) = connection.try_clone() else { continue };
        connections.lock().expect("nothing panics while it is held").push(twin);
        let (mut mine, logger) = (feeder.clone(), logger.clone());
        if acks {
            let told = connection.set_write_timeout(Some(ACK_WAIT)).and_then(|()| Acks::to(connection.try_clone()?));
            let Ok((acks, thread)) = told else { continue };
            mine = mine.with_acks(acks);
            threads.push(thread);
        }
        let read = move || {
            if let Err(cause) = mine.read_lines(&connection, LINE_BYTES_MAX) {
                logger.log(Level::Warn, format_args!("a connection broke: {cause}; its lines so far were taken"));
            }
        };
        match thread::Builder::new().name("tcp-lines".into()).spawn(read) {
            Ok(thread) => threads.push(thread),
            Err(cause) => {
                feeder.push(Chunk::Broken(format!("cannot start a thread: {cause}; raise the limit of processes")));
                break;
            }
        }
    }
    drop(feeder);
    threads.into_iter().for_each(|t| drop(t.join()));
}

impl Spout for Listening<UdpSocket> {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let socket = self.settings.bind(|address| UdpSocket::bind(address))?;
        let address = socket.local_addr()?;
        ctx.log(Level::Info, format_args!("listening for datagrams on udp {address}"));
        let (feeder, _) = self.open(ctx)?;
        let flag = Arc::new(AtomicBool::new(false));
        let receive = {
            let flag = flag.clone();
            move || {
                let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
                while !told(&flag) {
                    match socket.recv(&mut buffer) {
                        Ok(_) if told(&flag) => return,
                        Ok(length) => {
                            if !feeder.push(Chunk::Text(buffer[..length].to_vec())) {
                                return;
                            }
                        }
                        Err(e) if e.kind() == ErrorKind::Interrupted => {}
                        Err(cause) => {
                            feeder.push(Chunk::Broken(format!("cannot receive datagrams: {cause}; check the network")));
                            return;
                        }
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("udp".into()).spawn(receive)?;
        let nudge = Box::new(move || {
            let to = reach(address);
            let from = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            drop(UdpSocket::bind(from).and_then(|socket| socket.send_to(b"", to)));
        });
        self.stop = Some(Stop { told: flag, nudge, connections: Arc::default(), thread: Some(thread) });
        Ok(())
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        self.next_row(out)
    }

    fn deactivate(&mut self) {
        self.end();
    }

    fn cleanup(&mut self) {
        self.end();
    }
}

/// The option of an address to listen on.
pub(super) fn listen_option() -> OptionSpec {
    OptionSpec::required(
        "listen",
        OptionType::Text,
        "Address and port to listen on, such as 127.0.0.1:4000; port 0 is any.",
    )
}

/// Reads it: one that can be an address.
pub(crate) fn address(options: &Options, name: &str) -> Result<Given<String>, ConfigError> {
    let address = options.text(name);
    match address.to_socket_addrs() {
        Ok(_) => Ok(address),
        // A name that cannot be resolved here and now may be where the worker runs.
        Err(e) if e.kind() != ErrorKind::InvalidInput => Ok(address),
        Err(_) => {
            let what = format!("`{name}` is `{}`, which is no address with a port", address.value);
            Err(ConfigError::new(address.at, what, "write HOST:PORT, such as 127.0.0.1:4000"))
        }
    }
}

pub(super) fn described() -> Vec<Described> {
    let options = || [listen_option()].into_iter().chain(form_options()).chain([limit_option()]).collect::<Vec<_>>();
    let tcp = Described {
        name: "tcp-lines",
        aliases: &[
            "org.apache.storm.starter.spout.SocketSpout",
            "org.apache.storm.sql.runtime.datasource.socket.spout.SocketSpout",
        ],
        kind: Kind::Spout,
        summary: "The lines that arrive over TCP connections.",
        options: options()
            .into_iter()
            .chain([OptionSpec::with_default(
                "acks",
                OptionType::Bool,
                "false",
                "Tells each sender how many of its lines are done: a number on a line, each time it has grown.",
            )])
            .chain(giving_up_options())
            .collect(),
        outputs: "`default`: `text`, or the keys of `fields`. `dead_letters`: `text` and `error`, with `on_error: dead_letters` or \
                  `on_give_up: dead_letters`.",
        example: "id: input\nclassName: tcp-lines\nconfig:\n  listen: \"127.0.0.1:4000\"\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let (form, on_error) = form(options);
            let address = address(options, "listen").map_err(|e| vec![e])?;
            let tcp = TcpLines::on(&address).form(form).on_error(on_error);
            let acks = options.flag("acks").value;
            let (why, remedy) = ("lines are emitted again only with `acks`", "set `acks: true`, or leave it out");
            let tcp = tcp.give_up(giving_up_if(acks, options, why, remedy).map_err(|e| vec![e])?);
            let tcp = if acks { tcp.acks() } else { tcp };
            match options.maybe_integer("limit") {
                Some(limit) => tcp.limit(limit.value as u64).declare(place),
                None => tcp.declare(place),
            }
        }),
    };
    let udp = Described {
        name: "udp",
        aliases: &[],
        kind: Kind::Spout,
        summary: "UDP datagrams, each a row.",
        options: options(),
        outputs: FORM_OUTPUTS,
        example: "id: metrics\nclassName: udp\nconfig:\n  listen: \"127.0.0.1:8125\"\n  fields: [name, value]\n  on_error: skip\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let (form, on_error) = form(options);
            let address = address(options, "listen").map_err(|e| vec![e])?;
            let udp = Udp::on(&address).form(form).on_error(on_error);
            match options.maybe_integer("limit") {
                Some(limit) => udp.limit(limit.value as u64).declare(place),
                None => udp.declare(place),
            }
        }),
    };
    vec![tcp, udp]
}
