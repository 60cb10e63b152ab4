//! The spout that emits what a generator sends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use squall::{Context, Level, Next, Spout, SpoutError, Stream, Tuple, Waker};
use squall_machine::now_ns;

use crate::egress::{Outflow, To};
use crate::hello::{Address, LinkOptions, Role, Server, readable};
use crate::link::{LinkError, Rx, Tag, Target, Waiting};
use crate::record::{self, Stamps, Way};
use crate::schema::Schema;

/// How long the thread beside a spout waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// Calls that find nothing on a socket before the spout parks: a sleep costs more than some looks.
const IDLE_CALLS: u32 = 200;

/// A tuple of a load generator: its stamps, its checksum, its own bytes.
#[derive(Tuple)]
pub struct Load {
    /// Number, from 0.
    pub seq: u64,
    /// When it was due, on the generator's clock.
    pub due_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// When the spout took it in.
    pub ingest_ns: u64,
    /// The checksum that it was sent with.
    pub check: u32,
    /// Its own bytes.
    pub body: Vec<u8>,
}

/// What a tuple that was made of a [`Load`] carries to the egress: whose part it is.
#[derive(Tuple)]
pub struct Stamp {
    /// Number of the load.
    pub seq: u64,
    /// When that was due.
    pub due_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// When the spout took it in.
    pub ingest_ns: u64,
    /// Which of the tuples that were made of it, from 0.
    pub part: u16,
    /// How many were made of it, at least 1, at most 64.
    pub parts: u16,
}

/// Where a spout takes load from.
#[derive(Clone)]
pub struct Source(SourceKind);

#[derive(Clone)]
enum SourceKind {
    Local(Arc<Mutex<Option<Waiting>>>),
    Listen { address: Address, options: LinkOptions, again: bool },
}

/// The address in a variable of the environment.
pub(crate) fn address_of_env(name: &str) -> Result<Address, String> {
    let text = std::env::var(name).map_err(|_| {
        format!("{name} is not set in the environment: have `tuplegen run --local` start this topology, or give the address in the code")
    })?;
    text.parse().map_err(|e| format!("{name} in the environment: {e}"))
}

impl Source {
    pub(crate) fn local(waiting: Waiting) -> Source {
        Source(SourceKind::Local(Arc::new(Mutex::new(Some(waiting)))))
    }

    /// From the generator that started this topology (`tuplegen run --local`): at the address in [`INGEST_ENV`](crate::INGEST_ENV).
    ///
    /// # Errors
    /// Without that, or when it is no address.
    pub fn from_env() -> Result<Source, String> {
        address_of_env(crate::INGEST_ENV).map(|a| Source::listen(a, LinkOptions::default(), false))
    }

    /// Takes and drops whatever comes, until told: what a generator can do where nothing is slower than it.
    pub fn discard(self, done: &AtomicBool) {
        let SourceKind::Local(waiting) = self.0 else { return };
        let Some(Waiting { mut rx, .. }) = waiting.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        // Relaxed: a flag that carries nothing.
        while !done.load(Ordering::Relaxed) {
            match rx.peek() {
                Ok(Some(_)) => rx.release(),
                Ok(None) => std::hint::spin_loop(),
                Err(_) => return,
            }
        }
    }

    /// From whoever connects to this address. With `again` another generator may come when one has gone, and the spout never ends by itself.
    pub fn listen(address: Address, options: LinkOptions, again: bool) -> Source {
        Source(SourceKind::Listen { address, options, again })
    }
}

/// What a call of `poll` found.
pub(crate) enum Taken {
    /// One record was given to the caller.
    One,
    Nothing(Next),
}

/// A spout's receiving side: connections come and go, chunks are read record by record.
pub(crate) struct Intake {
    source: Source,
    rx: Option<Rx>,
    /// Where the next record begins in the chunk at hand.
    at: usize,
    ingest_ns: u64,
    idle_calls: u32,
    beside: Option<Beside>,
    pub(crate) schema: Schema,
}

impl Intake {
    pub(crate) fn new(source: Source) -> Intake {
        Intake { source, rx: None, at: 0, ingest_ns: 0, idle_calls: 0, beside: None, schema: Schema::default() }
    }

    pub(crate) fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        match &self.source.0 {
            SourceKind::Local(waiting) => {
                let taken = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Waiting { rx, waker } =
                    taken.ok_or_else(|| SpoutError::new("the link was taken already: an ingest spout has one task"))?;
                // The first one: it was made with the link.
                let _ = waker.set(ctx.waker());
                self.rx = Some(rx);
            }
            SourceKind::Listen { address, options, .. } => {
                let server = Server::bind(address).map_err(|e| {
                    SpoutError::new(format!("cannot listen at {address}: {e}; choose a free address of this host"))
                })?;
                let logger = ctx.logger();
                let tell = move |text: String| logger.log(Level::Warn, format_args!("{text}"));
                // Where there is none (in the test harness) the spout is asked again and again.
                let bell = ctx.doorbell().ok();
                self.beside = Some(Beside::start(server, ctx.waker(), bell, *options, Box::new(tell))?);
            }
        }
        Ok(())
    }

    /// Gives one record to `take`, or says what to do instead.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        take: impl FnOnce(record::Record<'_>, u64) -> Result<(), SpoutError>,
    ) -> Result<Taken, SpoutError> {
        let Some(rx) = &mut self.rx else { return self.connection() };
        match rx.peek() {
            Ok(Some((Tag::Data, []))) => {
                rx.release();
                Ok(Taken::Nothing(Next::Idle))
            }
            Ok(Some((Tag::Data, chunk))) => {
                if self.at == 0 {
                    self.ingest_ns = now_ns();
                    self.idle_calls = 0;
                }
                let (found, len) = record::parse(&chunk[self.at..]).map_err(|e| SpoutError::new(e.to_string()))?;
                self.at += len;
                let done = self.at == chunk.len();
                take(found, self.ingest_ns)?;
                if done {
                    self.at = 0;
                    rx.release();
                }
                Ok(Taken::One)
            }
            Ok(Some((Tag::End, _))) => {
                rx.release();
                self.rx = None;
                Ok(Taken::Nothing(self.over()))
            }
            Ok(None) => self.nothing(),
            Err(LinkError::Gone) => {
                self.rx = None;
                Ok(Taken::Nothing(self.over()))
            }
            Err(e) => Err(SpoutError::new(e.to_string())),
        }
    }

    /// The generator has gone.
    fn over(&mut self) -> Next {
        match &self.source.0 {
            SourceKind::Listen { again: true, .. } => Next::Idle,
            _ => Next::End,
        }
    }

    #[cold]
    fn connection(&mut self) -> Result<Taken, SpoutError> {
        let Some(beside) = &self.beside else { return Ok(Taken::Nothing(Next::End)) };
        // First the wish, then the look: what comes between wakes.
        beside.shared.lock().wanted = Wanted::Connection;
        beside.nudge();
        // Unlocked before the arms: `watch` locks again.
        let connected = beside.shared.lock().connected.take();
        match connected {
            Some((rx, schema)) => {
                beside.hung.store(false, Ordering::Relaxed);
                if rx.is_ring()
                    && let Some(guard) = rx.socket_fd()
                {
                    beside.watch(guard)?;
                }
                (self.rx, self.schema, self.idle_calls) = (Some(rx), schema, 0);
                Ok(Taken::Nothing(Next::Idle))
            }
            None => Ok(Taken::Nothing(Next::Parked)),
        }
    }

    #[cold]
    fn nothing(&mut self) -> Result<Taken, SpoutError> {
        let Some(rx) = &mut self.rx else { return Ok(Taken::Nothing(Next::Idle)) };
        self.idle_calls += 1;
        if rx.is_ring() {
            // Its sender wakes; that a sender is gone tells the thread beside, or in one process the ring itself.
            let hung = self.beside.as_ref().is_some_and(|b| b.hung.load(Ordering::Relaxed));
            if (hung || self.idle_calls.is_multiple_of(IDLE_CALLS)) && rx.is_gone() {
                self.rx = None;
                return Ok(Taken::Nothing(self.over()));
            }
            return Ok(Taken::Nothing(if rx.park() { Next::Parked } else { Next::Idle }));
        }
        let (Some(beside), Some(fd)) = (&self.beside, rx.socket_fd()) else { return Ok(Taken::Nothing(Next::Idle)) };
        if self.idle_calls < IDLE_CALLS {
            return Ok(Taken::Nothing(Next::Idle));
        }
        self.idle_calls = 0;
        beside.watch(fd)?;
        Ok(Taken::Nothing(Next::Parked))
    }
}

/// What the spout sleeps for.
enum Wanted {
    Nothing,
    Connection,
    Input(OwnedFd),
}

struct Desk {
    wanted: Wanted,
    connected: Option<(Rx, Schema)>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Desk>>);

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that waits for what the spout must not wait for: connections, and input while the spout sleeps.
struct Beside {
    shared: Shared,
    stop: Arc<AtomicBool>,
    /// The socket that was watched has something, or has been closed. Relaxed: a hint, that is looked into.
    hung: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    fn start(
        server: Server,
        waker: Waker,
        bell: Option<OwnedFd>,
        options: LinkOptions,
        tell: Box<dyn Fn(String) + Send>,
    ) -> Result<Beside, SpoutError> {
        let shared = Shared(Arc::new(Mutex::new(Desk { wanted: Wanted::Nothing, connected: None })));
        let stop = Arc::new(AtomicBool::new(false));
        let hung = Arc::new(AtomicBool::new(false));
        let (desk, told, news) = (shared.clone(), stop.clone(), hung.clone());
        let run = move || {
            // Relaxed: a flag that carries nothing.
            while !told.load(Ordering::Relaxed) {
                let wanted = std::mem::replace(&mut desk.lock().wanted, Wanted::Nothing);
                match wanted {
                    Wanted::Nothing => thread::park_timeout(LOOK),
                    Wanted::Connection => match server.accept(Role::Ingest, bell.as_ref(), &options, LOOK) {
                        Ok(Some(connected)) => {
                            desk.lock().connected = connected.rx.map(|rx| (rx, connected.schema));
                            waker.wake();
                        }
                        Ok(None) => again(&desk, Wanted::Connection),
                        Err(e) => {
                            tell(e.to_string());
                            again(&desk, Wanted::Connection);
                        }
                    },
                    Wanted::Input(fd) => {
                        if readable(fd.as_fd(), LOOK) {
                            news.store(true, Ordering::Relaxed);
                            waker.wake();
                        } else {
                            again(&desk, Wanted::Input(fd));
                        }
                    }
                }
            }
        };
        let named = thread::Builder::new().name("ingest".to_owned());
        let thread = named.spawn(run).map_err(|e| SpoutError::new(format!("no thread for the ingest spout: {e}")))?;
        Ok(Beside { shared, stop, hung, thread: Some(thread) })
    }

    /// Has the thread wake the spout when there is something at this socket.
    fn watch(&self, fd: BorrowedFd<'_>) -> Result<(), SpoutError> {
        let watched = fd.try_clone_to_owned().map_err(|e| SpoutError::new(format!("cannot watch a link: {e}")))?;
        self.shared.lock().wanted = Wanted::Input(watched);
        self.nudge();
        Ok(())
    }

    fn nudge(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

/// The wish stays, unless there is a newer one.
fn again(desk: &Shared, wanted: Wanted) {
    let mut desk = desk.lock();
    if matches!(desk.wanted, Wanted::Nothing) {
        desk.wanted = wanted;
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.nudge();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// A spout that emits what a load generator sends, each tuple as it came: [`Egress`](crate::Egress) can tell whether it is still the
/// same. One task; ends when the generator has sent its last.
pub struct Ingest {
    intake: Intake,
    acked: bool,
}

impl Ingest {
    /// From this source.
    pub fn from(source: &Source) -> Ingest {
        Ingest { intake: Intake::new(source.clone()), acked: false }
    }

    /// As [`from`](Self::from), each tuple under its number as id, so that its tree is tracked. What fails is not sent again: it is the
    /// generator's to notice.
    pub fn acked(source: &Source) -> Ingest {
        Ingest { acked: true, ..Ingest::from(source) }
    }
}

impl Spout for Ingest {
    type Out = Stream<Load>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.intake.prepare(ctx)
    }

    #[inline]
    fn next(&mut self, out: &mut Stream<Load>) -> Result<Next, SpoutError> {
        let acked = self.acked;
        let taken = self.intake.poll(|r, ingest_ns| {
            let record::Record { seq, due_ns, sent_ns, check, body, .. } = r;
            let load = LoadRef { seq, due_ns, sent_ns, ingest_ns, check, body };
            if acked {
                out.emit_with_id(seq, load)
            } else {
                out.emit(load)
            }
            Ok(())
        })?;
        Ok(match taken {
            Taken::One => Next::Emitted,
            Taken::Nothing(next) => next,
        })
    }
}

/// As [`Ingest`], and hands each tuple back itself as soon as it was emitted: for topologies that have no sink that could.
pub struct Reflect {
    intake: Intake,
    outflow: Outflow,
}

impl Reflect {
    /// From this source, back to this target.
    pub fn new(source: &Source, target: &Target) -> Reflect {
        Reflect { intake: Intake::new(source.clone()), outflow: Outflow::new(To::Local(target.clone())) }
    }
}

impl Spout for Reflect {
    type Out = Stream<Load>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.outflow.prepare(ctx).map_err(|e| SpoutError::new(e.cause().to_string()))?;
        self.intake.prepare(ctx)
    }

    #[inline]
    fn next(&mut self, out: &mut Stream<Load>) -> Result<Next, SpoutError> {
        let outflow = &mut self.outflow;
        let taken = self.intake.poll(|r, ingest_ns| {
            let record::Record { seq, due_ns, sent_ns, check, body, .. } = r;
            out.emit(LoadRef { seq, due_ns, sent_ns, ingest_ns, check, body });
            let way = Way { part: 0, parts: 1, flags: 0, ingest_ns, egress_ns: ingest_ns };
            outflow.give(way, Stamps { seq, due_ns, sent_ns }, Some((body, check)));
            Ok(())
        })?;
        Ok(match taken {
            Taken::One => Next::Emitted,
            Taken::Nothing(next) => {
                self.outflow.flush();
                if next == Next::End {
                    self.outflow.end();
                }
                next
            }
        })
    }
}
