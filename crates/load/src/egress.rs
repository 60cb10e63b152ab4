//! The sinks that hand tuples back to the generator.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use squall::{Bolt, BoltError, Context, Counter, Finish, Input, Level};
use squall_machine::now_ns;

use crate::hello::{Address, LinkOptions, Role, Server};
use crate::ingest::{Load, Stamp, address_of_env};
use crate::link::{Tag, Target, Tx};
use crate::record::{FLAG_CORRUPT, Stamps, Way, push_return};

/// A chunk leaves when it has so many bytes, and at the end of each batch.
const CHUNK_BYTES: usize = 16 * 1024;
/// How long a sink waits for a generator that takes nothing before it counts on without it.
const STUCK_MAX: Duration = Duration::from_secs(1);
/// How long the thread that waits for connections waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Where a sink gives load back to.
#[derive(Clone)]
pub(crate) enum To {
    Local(Target),
    Listen(Address, LinkOptions),
}

/// A sink's sending side.
pub(crate) struct Outflow {
    to: To,
    tx: Option<Tx>,
    chunk: Vec<u8>,
    door: Option<Door>,
    counts: Option<(Counter, Counter)>,
    /// Tuples in `chunk`.
    waiting: u64,
}

impl Outflow {
    pub(crate) fn new(to: To) -> Outflow {
        Outflow { to, tx: None, chunk: Vec::with_capacity(2 * CHUNK_BYTES), door: None, counts: None, waiting: 0 }
    }

    pub(crate) fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.counts = Some((ctx.counter("returned"), ctx.counter("unreturned")));
        match &self.to {
            To::Local(target) => {
                let taken = target.0.lock().unwrap_or_else(PoisonError::into_inner).take();
                let taken =
                    taken.ok_or_else(|| BoltError::fatal("the link was taken already: an egress sink has one task"))?;
                self.tx = Some(taken);
            }
            To::Listen(address, options) => {
                let server = Server::bind(address).map_err(|e| {
                    BoltError::fatal(format!("cannot listen at {address}: {e}; choose a free address of this host"))
                })?;
                let logger = ctx.logger();
                let tell = move |text: String| logger.log(Level::Warn, format_args!("{text}"));
                self.door = Some(Door::open(server, *options, Box::new(tell))?);
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn give(&mut self, way: Way, stamps: Stamps, body: Option<(&[u8], u32)>) {
        push_return(&mut self.chunk, way, stamps, body);
        self.waiting += 1;
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let sent = self.send(Tag::Data);
        if let Some((returned, unreturned)) = &self.counts {
            if sent {
                returned.add(self.waiting)
            } else {
                unreturned.add(self.waiting)
            };
        }
        self.waiting = 0;
        self.chunk.clear();
    }

    pub(crate) fn end(&mut self) {
        self.flush();
        self.send(Tag::End);
        let deadline = Instant::now() + STUCK_MAX;
        while let Some(tx) = &mut self.tx {
            match tx.flush() {
                Ok(false) if Instant::now() < deadline => thread::yield_now(),
                _ => break,
            }
        }
    }

    /// `false`: nobody is there to take it.
    fn send(&mut self, tag: Tag) -> bool {
        if let Some(door) = &self.door
            && let Some(tx) = door.entered()
        {
            self.tx = Some(tx);
        }
        let Some(tx) = &mut self.tx else { return false };
        let mut stuck_since = None;
        loop {
            match tx.try_send(tag, &self.chunk) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => break,
            }
            // The generator never waits for us, so this ends soon, unless it is gone.
            let since: &Instant = stuck_since.get_or_insert_with(Instant::now);
            if since.elapsed() > STUCK_MAX || tx.is_gone() {
                break;
            }
            thread::yield_now();
        }
        self.tx = None;
        false
    }
}

/// A thread that waits for generators.
struct Door {
    entered: Arc<Mutex<Option<Tx>>>,
    /// Somebody has entered: the lock is taken only then.
    news: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    fn open(server: Server, options: LinkOptions, tell: Box<dyn Fn(String) + Send>) -> Result<Door, BoltError> {
        let entered: Arc<Mutex<Option<Tx>>> = Arc::default();
        let (news, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (desk, told, ended) = (entered.clone(), news.clone(), stop.clone());
        let run = move || {
            // Relaxed: a flag that carries nothing.
            while !ended.load(Ordering::Relaxed) {
                match server.accept(Role::Egress, None, &options, LOOK) {
                    Ok(Some(connected)) => {
                        *desk.lock().unwrap_or_else(PoisonError::into_inner) = connected.tx;
                        // Release pairs with the Acquire in `entered`; the lock would do as well.
                        told.store(true, Ordering::Release);
                    }
                    Ok(None) => {}
                    Err(e) => tell(e.to_string()),
                }
            }
        };
        let named = thread::Builder::new().name("egress".to_owned());
        let thread = named.spawn(run).map_err(|e| BoltError::fatal(format!("no thread for the egress sink: {e}")))?;
        Ok(Door { entered, news, stop, thread: Some(thread) })
    }

    fn entered(&self) -> Option<Tx> {
        // Acquire pairs with the Release in `open`.
        if !self.news.load(Ordering::Acquire) {
            return None;
        }
        self.news.store(false, Ordering::Relaxed);
        self.entered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

macro_rules! constructors {
    ($name:ident) => {
        impl $name {
            /// To the generator at the other end of [`local`](crate::local).
            pub fn to(target: &Target) -> $name {
                $name(Outflow::new(To::Local(target.clone())))
            }

            /// To whoever connects to this address; until somebody has, tuples are counted as `unreturned`.
            pub fn listen(address: Address, options: LinkOptions) -> $name {
                $name(Outflow::new(To::Listen(address, options)))
            }

            /// To the generator that started this topology: at the address in [`EGRESS_ENV`](crate::EGRESS_ENV).
            ///
            /// # Errors
            /// Without that, or when it is no address.
            pub fn from_env() -> Result<$name, String> {
                address_of_env(crate::EGRESS_ENV).map(|a| $name::listen(a, LinkOptions::default()))
            }
        }
    };
}

/// A sink that hands [`Load`]s back whole, so that the generator sees whether they are what it sent. One task.
pub struct Egress(Outflow);

/// A sink that hands back the stamps of tuples that were made of loads. One task.
pub struct EgressParts(Outflow);

constructors!(Egress);
constructors!(EgressParts);

impl Bolt for Egress {
    type In = Load;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.0.prepare(ctx)
    }

    #[inline]
    fn execute(&mut self, load: Input<'_, Load>, _: &mut ()) -> Result<(), BoltError> {
        let way = Way { part: 0, parts: 1, flags: 0, ingest_ns: load.ingest_ns.to_native(), egress_ns: now_ns() };
        let stamps =
            Stamps { seq: load.seq.to_native(), due_ns: load.due_ns.to_native(), sent_ns: load.sent_ns.to_native() };
        self.0.give(way, stamps, Some((load.body.as_slice(), load.check.to_native())));
        Ok(())
    }

    fn batch_end(&mut self, _: &mut ()) -> Result<(), BoltError> {
        self.0.flush();
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        self.0.end();
        Ok(Finish::Done)
    }
}

impl Bolt for EgressParts {
    type In = Stamp;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.0.prepare(ctx)
    }

    #[inline]
    fn execute(&mut self, s: Input<'_, Stamp>, _: &mut ()) -> Result<(), BoltError> {
        let way = Way {
            part: s.part.to_native(),
            parts: s.parts.to_native(),
            flags: 0,
            ingest_ns: s.ingest_ns.to_native(),
            egress_ns: now_ns(),
        };
        let stamps = Stamps { seq: s.seq.to_native(), due_ns: s.due_ns.to_native(), sent_ns: s.sent_ns.to_native() };
        self.0.give(way, stamps, None);
        Ok(())
    }

    fn batch_end(&mut self, _: &mut ()) -> Result<(), BoltError> {
        self.0.flush();
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        self.0.end();
        Ok(Finish::Done)
    }
}

/// The flag of a tuple that was found damaged, or none.
pub(crate) fn corrupt_flag(intact: bool) -> u32 {
    if intact { 0 } else { FLAG_CORRUPT }
}
