//! The main thread of a worker process in a cluster.
//!
//! As in a [run](crate::run::worker), it starts its share of the engine and then moves words; but it outlives its supervisor. When the connection
//! ends the worker works on, and connects again until a supervisor is there, to which it says who it is and hands the board. Until it has its first
//! place among its peers it ends with the connection: whoever comes next starts it again.
//!
//! Log lines of components go to standard error, which the supervisor has made the worker's log file.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGINT, SIGXFSZ};

use super::talk::{Back, FromSeat, PLACE_VARIABLE, PROTOCOL, Place, SeatHello, SpoutsDo, ToSeat};
use crate::run::channel::{Reader, Received, Writer, split};
use crate::run::control::{Frame, encode_message};
use crate::run::engine::{Engine, Event, Events, Outline, Program, Role, SocketEnd};
use crate::run::{job, system};

/// Between two `Stats` messages.
const STATS_EVERY_NS: u64 = 500_000_000;
/// Between two signs of life, at most.
const BEAT_EVERY_NS: u64 = 100_000_000;
/// Between two attempts to find a supervisor.
const RETRY_NS: u64 = 50_000_000;
/// How long a link that has ended waits for a supervisor to say why: one that was restarted needs a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the event thread waits in the engine.
const EVENT_WAIT: Duration = Duration::from_millis(100);

/// Makes the program, placed as the supervisor says.
pub(crate) type Load<'a> = dyn Fn(&SeatHello) -> Result<Box<dyn Program>, String> + 'a;

/// The life of a worker process of a cluster.
pub(crate) fn main(load: &Load<'_>) -> ExitCode {
    let place = std::env::var(PLACE_VARIABLE).ok().and_then(|text| serde_json::from_str::<Place>(&text).ok());
    let Some(place) = place else {
        job::complain(&format!("`seat` is started by a supervisor, never by hand: {PLACE_VARIABLE} is not set"));
        return ExitCode::from(2);
    };
    for signal in [SIGINT, SIGHUP, SIGXFSZ] {
        // Those of a terminal are not for workers, and a file beyond `ulimit -f` is an error of its write. Without a handler they only end sooner.
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let mut line = match Line::connect(&place) {
        Ok(line) => line,
        Err(error) => {
            log(&format!("error: the supervisor cannot be reached at {}: {error}", place.socket.display()));
            return ExitCode::FAILURE;
        }
    };
    let cause = match Seat::take(load, place, &mut line) {
        Ok(mut seat) => match seat.serve(line) {
            Ok(()) => {
                seat.engine.join();
                return ExitCode::SUCCESS;
            }
            Err(cause) => cause,
        },
        Err(End::Alone) => "the supervisor went away before this worker had its place".to_owned(),
        Err(End::Failed(cause)) => {
            // If it does not arrive the supervisor is gone, and the log has it.
            let _ = line.say(&FromSeat::Failed(cause.clone()));
            cause
        }
    };
    log(&format!("error: {cause}"));
    ExitCode::FAILURE
}

/// Why a worker does not get its place.
enum End {
    /// There is no supervisor.
    Alone,
    /// Cause and remedy.
    Failed(String),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Alone
    }
}

/// The connection to a supervisor.
struct Line {
    reader: Reader,
    writer: Writer,
}

impl Line {
    fn connect(place: &Place) -> io::Result<Line> {
        let (reader, writer) = split(UnixStream::connect(&place.socket)?.into());
        Ok(Line { reader, writer })
    }

    fn say(&mut self, message: &FromSeat) -> io::Result<()> {
        self.say_with(message, Vec::new())
    }

    fn say_with(&mut self, message: &FromSeat, fds: Vec<OwnedFd>) -> io::Result<()> {
        let frame = encode_message(message).map_err(io::Error::other)?;
        self.writer.queue_then_send(frame, fds)
    }

    fn next(&mut self) -> Result<Option<ToSeat>, String> {
        match self.reader.next() {
            Ok(Some(Frame::Message(message))) => Ok(Some(message)),
            Ok(Some(Frame::Result(_))) => Err("the supervisor sent a result row; this is a bug".into()),
            Ok(None) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn wait(&mut self) -> Result<ToSeat, End> {
        loop {
            if let Some(message) = self.next().map_err(End::Failed)? {
                return Ok(message);
            }
            if self.reader.receive(true)? == Received::Closed {
                return Err(End::Alone);
            }
        }
    }

    /// The sockets that came beside the message that names their reactors.
    fn take_sockets(&mut self, pairs: Vec<(u32, u32)>, ends: &mut Vec<SocketEnd>) -> Result<(), String> {
        for reactors in pairs {
            let fd = self.reader.take_fd().ok_or("a socket got lost on its way; raise `ulimit -n`")?;
            ends.push(SocketEnd { reactors, fd });
        }
        Ok(())
    }
}

/// What the event thread tells the main thread.
enum News {
    LinkLost { worker: u32, joins: u32 },
    Finished,
    Failed(String),
}

/// A worker in its place.
struct Seat {
    place: Place,
    hello: SeatHello,
    outline: Outline,
    worker: u32,
    epochs: Vec<u32>,
    joins: BTreeMap<u32, u32>,
    board: OwnedFd,
    engine: Box<dyn Engine>,
    news: Receiver<News>,
    tell: Sender<News>,
    bell: Arc<OwnedFd>,
    finished: bool,
    /// By worker: links to it that have ended and were not made anew, with the `joins` that they had. Each supervisor is told: the one before it
    /// may have ended before it did something about it.
    broken: BTreeMap<u32, u32>,
    /// Sockets of a rejoin of which more are to come.
    joining: Vec<SocketEnd>,
}

/// What the loop does after a message.
#[derive(PartialEq, Eq)]
enum Go {
    On,
    Leave,
}

impl Seat {
    /// Loads the program, learns its place and its peers, and starts.
    fn take(load: &Load<'_>, place: Place, line: &mut Line) -> Result<Seat, End> {
        line.say(&FromSeat::Join { slot: place.slot, epoch: place.epoch })?;
        let ToSeat::Hello(hello) = line.wait()? else {
            return Err(End::Failed("the supervisor's first message is no hello; this is a bug".into()));
        };
        if hello.protocol != PROTOCOL {
            let theirs = hello.protocol;
            return Err(End::Failed(format!(
                "the supervisor speaks version {theirs} of the protocol and this program {PROTOCOL}: bring both to one version of Squall"
            )));
        }
        let program = load(&hello).map_err(End::Failed)?;
        let outline = program.outline().clone();
        line.say(&FromSeat::Loaded(Box::new(outline.clone())))?;
        let ToSeat::Become { worker, epochs, sockets } = line.wait()? else {
            return Err(End::Failed("the supervisor did not say which worker this is; this is a bug".into()));
        };
        let no_board = || End::Failed("the place came without the board; this is a bug".into());
        let board = line.reader.take_fd().ok_or_else(no_board)?;
        let mut ends = Vec::new();
        while ends.len() < sockets as usize {
            let ToSeat::Sockets(pairs) = line.wait()? else {
                return Err(End::Failed("the supervisor did not hand out all sockets; this is a bug".into()));
            };
            line.take_sockets(pairs, &mut ends).map_err(End::Failed)?;
        }
        let role = Role { worker, epochs: epochs.clone(), heals: true, patience: PATIENCE, board: board.try_clone()? };
        let engine = program.start(role, ends).map_err(End::Failed)?;
        engine.beat();
        line.say(&FromSeat::Prepared)?;
        let (tell, news) = unbounded();
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bell = Arc::new(bell.map_err(io::Error::from)?);
        let carrier = Carrier { events: engine.events(), tell: tell.clone(), bell: bell.clone(), rows: 0 };
        std::thread::Builder::new().name("events".into()).spawn(move || carrier.carry())?;
        Ok(Seat {
            place,
            hello: *hello,
            outline,
            worker,
            epochs,
            joins: BTreeMap::new(),
            board,
            engine,
            news,
            tell,
            bell,
            finished: false,
            broken: BTreeMap::new(),
            joining: Vec::new(),
        })
    }

    /// Commands and news until a supervisor lets the worker leave. The error says why it cannot go on.
    fn serve(&mut self, line: Line) -> Result<(), String> {
        let mut line = Some(line);
        let (mut stats_due_ns, mut alone_since_ns) = (0, None);
        loop {
            self.engine.beat();
            let now_ns = system::now_ns();
            if let Some(there) = &mut line {
                match self.attend(there, now_ns, &mut stats_due_ns) {
                    Ok(Go::On) => {}
                    Ok(Go::Leave) => return Ok(()),
                    Err(Gone::Failed(cause)) => {
                        let _ = there.say(&FromSeat::Failed(cause.clone()));
                        return Err(cause);
                    }
                    Err(Gone::Line) => {
                        log("the supervisor is gone; this worker goes on and looks for the next one");
                        (line, alone_since_ns) = (None, Some(now_ns));
                        self.joining.clear();
                    }
                }
            } else {
                self.hear_alone()?;
                line = self.come_back();
                let alone_ns = now_ns - alone_since_ns.unwrap_or(now_ns);
                if line.is_some() {
                    log("a supervisor is there again");
                } else if self.place.orphan_ms.is_some_and(|limit| alone_ns / 1_000_000 >= limit) {
                    return Err(format!("there was no supervisor for {} s", alone_ns / 1_000_000_000));
                }
            }
            self.wait(line.as_ref(), stats_due_ns)?;
        }
    }

    /// Takes news that nobody can be told now; `come_back` tells it.
    fn hear_alone(&mut self) -> Result<(), String> {
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Failed(cause) => return Err(cause),
                News::Finished => self.finished = true,
                News::LinkLost { worker, joins } => drop(self.broken.insert(worker, joins)),
            }
        }
        Ok(())
    }

    /// Obeys what came and tells what happened.
    fn attend(&mut self, line: &mut Line, now_ns: u64, stats_due_ns: &mut u64) -> Result<Go, Gone> {
        let closed = loop {
            match line.reader.receive(false) {
                Ok(Received::Some) => {}
                Ok(Received::Nothing) => break false,
                Ok(Received::Closed) | Err(_) => break true,
            }
        };
        while let Some(message) = line.next().map_err(Gone::Failed)? {
            if self.obey(message, line).map_err(Gone::Failed)? == Go::Leave {
                return Ok(Go::Leave);
            }
        }
        if closed {
            return Err(Gone::Line);
        }
        let mut bell = [0; 8];
        let _ = rustix::io::read(&*self.bell, &mut bell);
        while let Ok(news) = self.news.try_recv() {
            let message = match news {
                News::Failed(cause) => return Err(Gone::Failed(cause)),
                News::LinkLost { worker, joins } => {
                    self.broken.insert(worker, joins);
                    FromSeat::LinkLost { worker, joins }
                }
                News::Finished => {
                    self.finished = true;
                    FromSeat::Finished
                }
            };
            line.say(&message).map_err(|_| Gone::Line)?;
        }
        if now_ns >= *stats_due_ns {
            *stats_due_ns = now_ns + STATS_EVERY_NS;
            let mut counts = Box::new(self.engine.snapshot());
            counts.by_link.clear();
            line.say(&FromSeat::Stats(counts)).map_err(|_| Gone::Line)?;
        }
        Ok(Go::On)
    }

    fn obey(&mut self, message: ToSeat, line: &mut Line) -> Result<Go, String> {
        match message {
            ToSeat::Spouts(SpoutsDo::Run) => self.engine.begin(),
            ToSeat::Spouts(SpoutsDo::Pause) => self.engine.pause_spouts(),
            ToSeat::Spouts(SpoutsDo::End) => self.engine.stop_spouts(),
            ToSeat::Lost(worker) => self.engine.lose(worker),
            ToSeat::Rejoin { worker, epoch, joins, sockets, more } => {
                line.take_sockets(sockets, &mut self.joining)?;
                if !more {
                    self.rejoin(worker, epoch, joins)?;
                }
            }
            ToSeat::Exit => return Ok(Go::Leave),
            ToSeat::Abort => {
                log("told to end at once");
                // Components may be in the middle of anything; their threads end with the process.
                std::process::exit(1);
            }
            ToSeat::Hello(_) | ToSeat::Become { .. } | ToSeat::Sockets(_) => {
                return Err("the supervisor greeted twice; this is a bug".into());
            }
        }
        Ok(Go::On)
    }

    /// Links to a worker that begins another life, beside everything else: that one may take its time.
    fn rejoin(&mut self, worker: u32, epoch: u32, joins: u32) -> Result<(), String> {
        if let Some(known) = self.epochs.get_mut(worker as usize) {
            *known = epoch;
        }
        self.joins.insert(worker, joins);
        self.broken.remove(&worker);
        let join = self.engine.rejoin(worker, epoch, joins, std::mem::take(&mut self.joining));
        let (tell, bell) = (self.tell.clone(), self.bell.clone());
        let spawned = std::thread::Builder::new().name("rejoin".into()).spawn(move || {
            if let Err(cause) = join() {
                pass(&tell, &bell, News::Failed(cause));
            }
        });
        spawned.map(drop).map_err(|error| format!("no thread for a new link: {error}; raise `ulimit -u`"))
    }

    /// Finds the next supervisor.
    fn come_back(&mut self) -> Option<Line> {
        let mut line = Line::connect(&self.place).ok()?;
        let back = Back {
            slot: self.place.slot,
            epoch: self.place.epoch,
            topology: self.hello.topology.clone(),
            worker: self.worker,
            seats: self.hello.seats.clone(),
            executors: self.hello.executors.clone(),
            outline: self.outline.clone(),
            epochs: self.epochs.clone(),
            joins: self.joins.clone(),
            finished: self.finished,
        };
        let board = self.board.try_clone().ok()?;
        line.say_with(&FromSeat::Back(Box::new(back)), vec![board]).ok()?;
        for (worker, joins) in &self.broken {
            line.say(&FromSeat::LinkLost { worker: *worker, joins: *joins }).ok()?;
        }
        Some(line)
    }

    /// Sleeps until a command, news or the time.
    fn wait(&self, line: Option<&Line>, stats_due_ns: u64) -> Result<(), String> {
        let mut fds = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        let wait_ns = match line {
            Some(line) => {
                fds.push(PollFd::from_borrowed_fd(line.reader.as_fd(), PollFlags::IN));
                stats_due_ns.saturating_sub(system::now_ns()).min(BEAT_EVERY_NS)
            }
            // Nobody listens: the bell may ring on.
            None => {
                fds.clear();
                RETRY_NS
            }
        };
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ns as i64 };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(format!("waiting for the supervisor failed: {errno}")),
        }
    }
}

/// Why nothing more is heard of a supervisor.
enum Gone {
    Line,
    /// The worker cannot go on.
    Failed(String),
}

fn pass(tell: &Sender<News>, bell: &OwnedFd, news: News) {
    // The main thread listens for as long as the process is there.
    let _ = tell.send(news);
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// The thread that carries what the engine says to the log and to the main thread.
struct Carrier {
    events: Box<dyn Events>,
    tell: Sender<News>,
    bell: Arc<OwnedFd>,
    /// Result rows, which nobody reads in a cluster.
    rows: u64,
}

impl Carrier {
    fn carry(mut self) {
        loop {
            match self.events.next(EVENT_WAIT, true) {
                None => {}
                Some(Event::Log { level, component, task, text }) => {
                    log(&format!("{level}: {component}[{task}]: {text}"));
                }
                Some(Event::Warning(text)) => log(&format!("warn: {text}")),
                Some(Event::Result { key, .. }) => {
                    self.rows += 1;
                    if self.rows == 1 {
                        log(&format!(
                            "warn: result rows (`{key}`) are for the program that `run` starts; in a cluster they are dropped"
                        ));
                    }
                }
                Some(Event::LinkLost { worker, joins }) => {
                    pass(&self.tell, &self.bell, News::LinkLost { worker, joins });
                }
                Some(Event::Failed(cause)) => pass(&self.tell, &self.bell, News::Failed(cause)),
                Some(Event::Finished) => return pass(&self.tell, &self.bell, News::Finished),
            }
        }
    }
}

/// A line of the worker's log. A full disk must not end the worker.
fn log(text: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let _ = writeln!(io::stderr().lock(), "{}.{:03} {text}", now.as_secs(), now.subsec_millis());
}
