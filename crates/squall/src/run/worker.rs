//! The main thread of a worker process.
//!
//! It takes the control socket from standard input, gives standard input back, checks that its plan is the parent's,
//! starts its share of the engine and then moves words: commands in, events out. A second thread carries the events, so
//! that neither waits for the other. A worker never outlives its parent: it dies with it (parent-death signal) or at the
//! end of the control socket, whichever comes first.
//!
//! Result rows leave only against credit from the parent; until then they stay in the engine's bounded queue, where
//! their component sees that there is no room.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use squall_engine::Membership;

use super::channel::{Reader, Received, Writer, split};
use super::control::{FRAME_BYTES_MAX, Frame, FromWorker, Hello, ToWorker, encode_message, encode_result};
use super::engine::{Engine, Event, Events, Join, Program, Role, SocketEnd};
use super::stats::Usage;
use super::{panics, system};

/// Between two `Stats` messages: often enough for a live line, rare enough to cost nothing.
const STATS_EVERY_NS: u64 = 250_000_000;
/// Between two signs of life, at most.
const BEAT_EVERY_NS: u64 = 100_000_000;
/// How long the event thread waits in the engine before it looks around; shorter while results wait for credit.
const EVENT_WAIT: Duration = Duration::from_millis(100);
const CREDIT_WAIT: Duration = Duration::from_millis(5);

/// Exit code of a worker that was told to abort or lost its parent; nobody reads it.
const EXIT_ABORTED: i32 = 1;

/// Makes the program once the parent has said which CPUs to plan for.
pub(crate) type Load<'a> = dyn Fn(&[usize]) -> Result<Box<dyn Program>, String> + 'a;

/// The life of a worker process. Returns when its part is over; the parent has been told everything by then.
pub(crate) fn main(load: &Load<'_>) -> ExitCode {
    match Worker::connect() {
        Ok(mut worker) => {
            // Without a thread for it panics are told as slowly as usual.
            let backtraces = panics::install().ok();
            let code = match worker.live(load) {
                Ok(()) => ExitCode::SUCCESS,
                Err(End::ParentGone) => ExitCode::from(EXIT_ABORTED as u8),
                Err(End::Failed(cause)) => {
                    // If this does not arrive, the parent is gone and nobody is left to tell.
                    let _ = worker.say(&FromWorker::Failed(cause));
                    ExitCode::FAILURE
                }
            };
            backtraces.iter().for_each(panics::Backtraces::finish);
            code
        }
        Err(error) => {
            super::job::complain(&format!("`worker` is started by `run`, never by hand: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Why a worker ends early.
enum End {
    ParentGone,
    /// Cause and remedy.
    Failed(String),
}

impl From<io::Error> for End {
    /// Every call to the kernel here is about the control socket; when it fails, there is no parent.
    fn from(_: io::Error) -> Self {
        End::ParentGone
    }
}

struct Worker {
    reader: Reader,
    writer: Arc<Mutex<Writer>>,
    /// Readable after SIGTERM.
    terminate: std::os::unix::net::UnixStream,
}

impl Worker {
    fn connect() -> io::Result<Worker> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Ctrl-C reaches the whole process group; the parent decides what it means.
        signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)))?;
        // A file beyond `ulimit -f` is an error of its write, which names it, not the end of the process.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let (terminate, handler) = std::os::unix::net::UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, handler)?;
        terminate.set_nonblocking(true)?;
        let control = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::net::sockopt::socket_domain(&control)
            .map_err(|_| io::Error::other("standard input is not a control socket"))?;
        let (reader, writer) = split(control);
        Ok(Worker { reader, writer: Arc::new(Mutex::new(writer)), terminate })
    }

    fn live(&mut self, load: &Load<'_>) -> Result<(), End> {
        let (hello, board) = self.hello()?;
        let program = load(&hello.cores).map_err(End::Failed)?;
        agree(&*program, &hello).map_err(End::Failed)?;
        self.say(&FromWorker::Loaded)?;
        let ToWorker::Become { worker, epochs, sockets } = self.wait_message()? else {
            return Err(End::Failed("the parent did not say which worker this is; this is a bug".into()));
        };
        let sockets = self.sockets(sockets)?;
        let role = Role { worker, epochs, heals: hello.heals, patience: Membership::PATIENCE, board };
        let engine = program.start(role, sockets).map_err(End::Failed)?;
        engine.beat();
        // The first counts name driver and wait strategy, and are there should the run fail early.
        self.say(&FromWorker::Stats(Box::new(engine.snapshot())))?;
        self.say(&FromWorker::Prepared)?;

        let pump = Pump::start(engine.events(), self.writer.clone())?;
        let cpu_ns = self.serve(&*engine, pump)?;
        let last = Box::new(engine.join());
        let usage = Usage { cpu_ns, rss_max_bytes: system::rss_max_bytes() };
        self.say(&FromWorker::Report(last, usage))?;
        Ok(())
    }

    /// Waits for the first message and gives standard input back.
    fn hello(&mut self) -> Result<(Hello, OwnedFd), End> {
        let ToWorker::Hello(hello) = self.wait_message()? else {
            return Err(End::Failed("the parent's first message is not a hello; use one build for both".into()));
        };
        if rustix::process::getppid().map(|pid| pid.as_raw_pid()) != Some(hello.parent) {
            return Err(End::ParentGone);
        }
        let stdin = self.reader.take_fd().ok_or_else(|| End::Failed("the hello came without standard input".into()))?;
        let board = self.reader.take_fd().ok_or_else(|| End::Failed("the hello came without the board".into()))?;
        rustix::stdio::dup2_stdin(stdin).map_err(io::Error::from)?;
        Ok((*hello, board))
    }

    fn sockets(&mut self, count: u32) -> Result<Vec<SocketEnd>, End> {
        let mut ends = Vec::new();
        while ends.len() < count as usize {
            let ToWorker::Sockets(pairs) = self.wait_message()? else {
                return Err(End::Failed("the parent began before all sockets were handed out; this is a bug".into()));
            };
            self.take_sockets(pairs, &mut ends)?;
        }
        Ok(ends)
    }

    /// The sockets that came beside the message that names their reactors.
    fn take_sockets(&mut self, pairs: Vec<(u32, u32)>, ends: &mut Vec<SocketEnd>) -> Result<(), End> {
        for reactors in pairs {
            let fd = self.reader.take_fd();
            let fd = fd.ok_or_else(|| End::Failed("a socket got lost; raise `ulimit -n` and run again".into()))?;
            ends.push(SocketEnd { reactors, fd });
        }
        Ok(())
    }

    /// Links to a worker that begins another life, beside everything else: that one may take its time.
    fn join(&self, join: Join) -> Result<(), End> {
        let writer = self.writer.clone();
        std::thread::Builder::new().name("rejoin".into()).spawn(move || {
            if let Err(cause) = join() {
                // If this does not arrive, the parent is gone and nobody is left to tell.
                let _ = send(&writer, &FromWorker::Failed(cause));
            }
        })?;
        Ok(())
    }

    /// Commands, statistics and SIGTERM until the parent lets the worker leave. Returns the CPU time
    /// spent on the input.
    fn serve(&mut self, engine: &dyn Engine, mut pump: Pump) -> Result<u64, End> {
        let mut cpu = CpuSpan { from_ns: system::cpu_ns(), until_ns: pump.cpu_at_row.clone() };
        let mut stats_due_ns = system::now_ns() + STATS_EVERY_NS;
        let mut joining = Vec::new();
        loop {
            engine.beat();
            while let Some(message) = self.next_message()? {
                match message {
                    ToWorker::Begin => {
                        cpu.from_ns = system::cpu_ns();
                        engine.begin();
                    }
                    ToWorker::StopSpouts => engine.stop_spouts(),
                    ToWorker::ResultCredit(bytes) => pump.grant(bytes),
                    ToWorker::Abort => {
                        let counts = Box::new(engine.snapshot());
                        let usage = Usage { cpu_ns: cpu.end(), rss_max_bytes: system::rss_max_bytes() };
                        self.say(&FromWorker::Report(counts, usage))?;
                        // Components may be in the middle of anything; their threads end with the process.
                        std::process::exit(EXIT_ABORTED);
                    }
                    ToWorker::Exit => return Ok(cpu.end()),
                    ToWorker::Lost(worker) => engine.lose(worker),
                    ToWorker::Left(worker) => engine.leave(worker),
                    ToWorker::Rejoin { worker, epoch, joins, sockets, more } => {
                        self.take_sockets(sockets, &mut joining)?;
                        if !more {
                            let sockets = std::mem::take(&mut joining);
                            self.join(engine.rejoin(worker, epoch, joins, sockets))?;
                        }
                    }
                    ToWorker::Hello(_) | ToWorker::Become { .. } | ToWorker::Sockets(_) => {
                        return Err(End::Failed("the parent greeted twice; this is a bug".into()));
                    }
                }
            }
            if let Some(thread) = pump.take_ended() {
                thread.join().map_err(|_| End::Failed("the event thread panicked; its message is on stderr".into()))?;
                cpu.end();
                // The others may still need this worker's links, so it stays until the parent says `Exit`.
                self.say(&FromWorker::Finished(Box::new(engine.snapshot())))?;
            }
            let now = system::now_ns();
            if now >= stats_due_ns {
                let mut counts = Box::new(engine.snapshot());
                // The live line shows no links: they come with the last counts.
                counts.by_link.clear();
                self.say(&FromWorker::Stats(counts))?;
                stats_due_ns = now + STATS_EVERY_NS;
            }
            self.wait(&pump, stats_due_ns.saturating_sub(now).min(BEAT_EVERY_NS))?;
        }
    }

    /// Sleeps until a command, a signal, the end of the events or the time.
    fn wait(&mut self, pump: &Pump, timeout_ns: u64) -> Result<(), End> {
        let mut fds = [
            PollFd::new(&self.reader, PollFlags::IN),
            PollFd::new(&self.terminate, PollFlags::IN),
            // Once the thread is taken its bell has rung for good and is not looked at.
            PollFd::new(&*pump.done_bell, if pump.thread.is_some() { PollFlags::IN } else { PollFlags::empty() }),
        ];
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout_ns.min(999_999_999) as i64 };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let [control, terminate, _] = fds.map(|fd| !fd.revents().is_empty());
        if terminate {
            use io::Read as _;
            let _ = self.terminate.read(&mut [0; 16]);
            self.say(&FromWorker::Signalled)?;
        }
        if control && self.reader.receive(false)? == Received::Closed {
            return Err(End::ParentGone);
        }
        Ok(())
    }

    fn wait_message(&mut self) -> Result<ToWorker, End> {
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            if self.reader.receive(true)? == Received::Closed {
                return Err(End::ParentGone);
            }
        }
    }

    fn next_message(&mut self) -> Result<Option<ToWorker>, End> {
        match self.reader.next() {
            Ok(Some(Frame::Message(message))) => Ok(Some(message)),
            Ok(Some(Frame::Result(_))) => Err(End::Failed("the parent sent a result row; this is a bug".into())),
            Ok(None) => Ok(None),
            Err(error) => Err(End::Failed(error.to_string())),
        }
    }

    fn say(&self, message: &FromWorker) -> io::Result<()> {
        send(&self.writer, message)
    }
}

/// The plans must agree before the first tuple: ids are positions in them.
fn agree(program: &dyn Program, hello: &Hello) -> Result<(), String> {
    if program.outline().hash == hello.plan_hash {
        return Ok(());
    }
    let difference = program.first_difference(&hello.plan).unwrap_or_else(|| "in its hash only".into());
    Err(format!(
        "its plan differs from the parent's: {difference}; the topology function must declare the same topology in \
         every process, so let it depend on its arguments only, not on time, chance or files that change"
    ))
}

fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(writer: &Mutex<Writer>, message: &FromWorker) -> io::Result<()> {
    let frame = encode_message(message).or_else(|error| encode_message(&FromWorker::Failed(error.to_string())));
    lock(writer).send_all(frame.map_err(io::Error::other)?)
}

/// The CPU clock of this process at both ends of the processing: from the begin to the first result row or, without
/// rows, to the end of all components. Handing in results takes as long as the app takes to read them.
struct CpuSpan {
    from_ns: u64,
    /// 0 until the first row.
    until_ns: Arc<AtomicU64>,
}

impl CpuSpan {
    /// Ends the span unless a row has, and returns it.
    fn end(&self) -> u64 {
        let now_ns = system::cpu_ns();
        let until_ns = match self.until_ns.compare_exchange(0, now_ns, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => now_ns,
            Err(row_ns) => row_ns,
        };
        until_ns.saturating_sub(self.from_ns)
    }
}

/// The thread that carries events and results to the parent.
struct Pump {
    thread: Option<std::thread::JoinHandle<()>>,
    credit: Arc<AtomicI64>,
    cpu_at_row: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    done_bell: Arc<OwnedFd>,
}

impl Pump {
    fn start(events: Box<dyn Events>, writer: Arc<Mutex<Writer>>) -> Result<Pump, End> {
        let credit = Arc::new(AtomicI64::new(super::control::RESULT_CREDIT_BYTES as i64));
        let done = Arc::new(AtomicBool::new(false));
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let done_bell = Arc::new(bell.map_err(io::Error::from)?);
        let cpu_at_row = Arc::new(AtomicU64::new(0));
        let mut carrier = Carrier { events, writer, credit: credit.clone(), cpu_at_row: cpu_at_row.clone() };
        let at_end = RingAtEnd { done: done.clone(), bell: done_bell.clone() };
        let thread = std::thread::Builder::new().name("events".into()).spawn(move || {
            let _at_end = at_end;
            // An error means that the parent is gone: the main thread sees the same.
            let _ = carrier.carry();
        })?;
        Ok(Pump { thread: Some(thread), credit, cpu_at_row, done, done_bell })
    }

    fn grant(&self, bytes: u64) {
        self.credit.fetch_add(bytes as i64, Ordering::Relaxed);
    }

    /// The thread, once: when it is at its end.
    fn take_ended(&mut self) -> Option<std::thread::JoinHandle<()>> {
        if self.done.load(Ordering::Acquire) { self.thread.take() } else { None }
    }
}

/// Tells the main thread that the event thread is at its end, by return or by panic.
struct RingAtEnd {
    done: Arc<AtomicBool>,
    bell: Arc<OwnedFd>,
}

impl Drop for RingAtEnd {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
    }
}

struct Carrier {
    events: Box<dyn Events>,
    writer: Arc<Mutex<Writer>>,
    /// Result bytes the parent has room for; one row may overdraw it.
    credit: Arc<AtomicI64>,
    cpu_at_row: Arc<AtomicU64>,
}

impl Carrier {
    fn carry(&mut self) -> io::Result<()> {
        loop {
            let results = self.credit.load(Ordering::Relaxed) > 0;
            let wait = if results { EVENT_WAIT } else { CREDIT_WAIT };
            let message = match self.events.next(wait, results) {
                None => continue,
                Some(Event::Finished) => return Ok(()),
                Some(Event::Result { key, task, bytes }) => {
                    if self.cpu_at_row.load(Ordering::Relaxed) == 0 {
                        self.cpu_at_row.store(system::cpu_ns(), Ordering::Relaxed);
                    }
                    self.carry_result(&key, task, &bytes)?;
                    continue;
                }
                Some(Event::Log { level, component, task, text }) => {
                    FromWorker::Log { level, component, task, text: cut(text) }
                }
                Some(Event::Warning(text)) => FromWorker::Warning(cut(text)),
                Some(Event::Failed(cause)) => FromWorker::Failed(cut(cause)),
                Some(Event::LinkLost { worker, joins }) => FromWorker::LinkLost { worker, joins },
            };
            send(&self.writer, &message)?;
        }
    }

    fn carry_result(&self, key: &str, task: u32, bytes: &[u8]) -> io::Result<()> {
        match encode_result(key, task, bytes) {
            Ok(frame) => {
                self.credit.fetch_sub(frame.len() as i64, Ordering::Relaxed);
                lock(&self.writer).send_all(frame)
            }
            Err(error) => send(&self.writer, &FromWorker::Failed(format!("a result of task {task}: {error}"))),
        }
    }
}

/// A log line longer than a frame would end the run; JSON may need six bytes for one.
fn cut(mut text: String) -> String {
    const MAX: usize = FRAME_BYTES_MAX / 8;
    if text.len() > MAX {
        text.truncate(text.floor_char_boundary(MAX));
        text.push('…');
    }
    text
}
