//! Between two processes over shared memory, spinning at both ends: one memfd for both directions.
//!
//! A round trip has a position and one message per direction. Invariant: a direction's message belongs to its reader from
//! when its position has passed to n until the other direction's has, and to its writer else.
//!
//! A stream is a ring with the writer's and the reader's position. Invariant: what lies between the two belongs to the
//! reader, the rest to the writer; each moves its own position only, after its last access (Release), and looks at the
//! other's before its first (Acquire).
#![allow(unsafe_code)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use squall_metrics::Histogram;

use super::process::{self, Job, Role, Seen};
use crate::clock::{Meter, now_ns};
use crate::error::BenchError;
use crate::machine::pin;
use crate::measure::{Outcome, Settings};
use crate::payload::{touch_words, with_words};
use crate::peer;
use crate::scenario::Row;
use crate::shared::{APART, Shared};

/// Bytes of a direction's ring of messages.
const RING_BYTES: usize = 512 * 1024;
/// Messages that are published at once.
const CHUNK: u64 = 64;
/// A direction: the writer's position, the reader's, whether the writer has ended, then messages from the page's end on.
const WRITTEN: usize = 0;
const READ: usize = APART;
const ENDED: usize = 2 * APART;
const MESSAGES: usize = 4096;
const DIRECTION_BYTES: usize = MESSAGES + RING_BYTES;
/// Both directions.
const MEMORY_BYTES: usize = 2 * DIRECTION_BYTES;

/// The position that says: no more messages.
const NO_MORE: u64 = u64::MAX;

/// A direction of a round trip.
struct Turn<'a> {
    memory: &'a Shared,
    base: usize,
}

impl<'a> Turn<'a> {
    fn new(memory: &'a Shared, direction: usize) -> Self {
        Turn { memory, base: direction * DIRECTION_BYTES }
    }

    fn message<const W: usize>(&self) -> *mut [u64; W] {
        self.memory.place(self.base + MESSAGES).as_ptr()
    }

    /// Copies the `n`-th message in. Only when the `n - 1`-th has been answered.
    #[inline(always)]
    fn send<const W: usize>(&self, n: u64, message: &[u64; W]) {
        // SAFETY: aligned, within the memory, and the writer's by now (module invariant).
        unsafe { self.message::<W>().write(*message) };
        // Pairs with the load in `receive`: the reader sees the message.
        self.memory.word(self.base + WRITTEN).store(n, Ordering::Release);
    }

    fn end(&self) {
        self.memory.word(self.base + WRITTEN).store(NO_MORE, Ordering::Release);
    }

    /// Spins for the `n`-th message and copies it out. `false`: there is none any more.
    #[inline(always)]
    fn receive<const W: usize>(&self, n: u64, into: &mut [u64; W]) -> bool {
        let position = self.memory.word(self.base + WRITTEN);
        loop {
            // Pairs with the store in `send`.
            match position.load(Ordering::Acquire) {
                at if at == n => break,
                NO_MORE => return false,
                _ => std::hint::spin_loop(),
            }
        }
        // SAFETY: aligned, within the memory, written, and the reader's until it answers (module invariant).
        *into = unsafe { self.message::<W>().read() };
        true
    }
}

/// One end of one direction of a stream: `Writer` and `Reader` below say which. Positions count messages.
struct End<'a, const W: usize> {
    memory: &'a Shared,
    base: usize,
    mine: u64,
    /// The other end's position when it was last looked at.
    theirs: u64,
}

impl<'a, const W: usize> End<'a, W> {
    const SLOTS: u64 = (RING_BYTES / (W * 8)) as u64;

    fn new(memory: &'a Shared, direction: usize) -> Self {
        const { assert!(Self::SLOTS.is_power_of_two() && Self::SLOTS >= 2) };
        End { memory, base: direction * DIRECTION_BYTES, mine: 0, theirs: 0 }
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> *mut [u64; W] {
        let at = self.base + MESSAGES + (position & (Self::SLOTS - 1)) as usize * W * 8;
        self.memory.place(at).as_ptr()
    }
}

struct Writer<'a, const W: usize>(End<'a, W>);

impl<const W: usize> Writer<'_, W> {
    /// Copies `count` messages in and publishes them, if there is room for all.
    #[inline(always)]
    fn try_write(&mut self, count: u64, mut next: impl FnMut(*mut [u64; W])) -> bool {
        let end = &mut self.0;
        if end.mine + count > end.theirs + End::<W>::SLOTS {
            // Pairs with the reader's store: its reads of these slots are over.
            end.theirs = end.memory.word(end.base + READ).load(Ordering::Acquire);
            if end.mine + count > end.theirs + End::<W>::SLOTS {
                return false;
            }
        }
        for i in 0..count {
            next(end.slot(end.mine + i));
        }
        end.mine += count;
        // Pairs with the reader's load: it sees the messages.
        end.memory.word(end.base + WRITTEN).store(end.mine, Ordering::Release);
        true
    }

    fn try_send(&mut self, count: u64, mut message: impl FnMut() -> [u64; W]) -> bool {
        // SAFETY: the slot is aligned, within the memory, and the writer's until it is published (module invariant).
        self.try_write(count, |slot| unsafe { slot.write(message()) })
    }

    fn end(&self) {
        // Pairs with the load in `ended`: whoever sees it sees every message.
        self.0.memory.word(self.0.base + ENDED).store(1, Ordering::Release);
    }
}

struct Reader<'a, const W: usize>(End<'a, W>);

impl<const W: usize> Reader<'_, W> {
    /// Reads `count` messages where they lie, if so many are there.
    #[inline(always)]
    fn try_read(&mut self, count: u64, mut each: impl FnMut(&[u64; W])) -> bool {
        let end = &mut self.0;
        if end.mine + count > end.theirs {
            // Pairs with the writer's store.
            end.theirs = end.memory.word(end.base + WRITTEN).load(Ordering::Acquire);
            if end.mine + count > end.theirs {
                return false;
            }
        }
        for i in 0..count {
            // SAFETY: the slot is aligned, within the memory, written, and the reader's until its position passes it
            // (module invariant); the reference does not outlive this turn of the loop.
            each(unsafe { &*end.slot(end.mine + i) });
        }
        end.mine += count;
        // Pairs with the writer's load.
        end.memory.word(end.base + READ).store(end.mine, Ordering::Release);
        true
    }

    /// The writer has ended and everything was read.
    fn ended(&mut self) -> bool {
        let End { memory, base, mine, .. } = self.0;
        // Acquire: the position that is read next is the last one.
        memory.word(base + ENDED).load(Ordering::Acquire) == 1
            && memory.word(base + WRITTEN).load(Ordering::Acquire) == mine
    }
}

fn ends<const W: usize>(memory: &Shared, out: usize) -> (Writer<'_, W>, Reader<'_, W>) {
    (Writer(End::new(memory, out)), Reader(End::new(memory, 1 - out)))
}

/// The other process.
pub(super) fn serve(job: &Job) -> Result<Seen, BenchError> {
    let memory = Shared::open(peer::inherited()?, MEMORY_BYTES).map_err(BenchError::io("the floor's shared memory"))?;
    Ok(with_words!(job.size, serve_words(&memory, job)))
}

fn serve_words<const W: usize>(memory: &Shared, job: &Job) -> Seen {
    match job.role {
        Role::ShmEcho => echo::<W>(memory),
        Role::ShmRelay => relay::<W>(memory),
        _ => sink::<W>(memory, job.warmup_ns),
    }
}

/// Copies each message out, and in again on its way back.
fn echo<const W: usize>(memory: &Shared) -> Seen {
    let (there, back) = (Turn::new(memory, 0), Turn::new(memory, 1));
    let mut message = [0; W];
    let mut n = 0;
    while there.receive(n + 1, &mut message) {
        n += 1;
        back.send(n, &message);
    }
    Seen { count: n, rate: None }
}

fn sink<const W: usize>(memory: &Shared, warmup_ns: u64) -> Seen {
    let (_, mut rx) = ends::<W>(memory, 1);
    let mut meter = Meter::new(warmup_ns);
    loop {
        if rx.try_read(CHUNK, touch_words) {
            meter.batch(rx.0.mine);
        } else if rx.ended() {
            return Seen { count: rx.0.mine, rate: meter.rate(rx.0.mine, now_ns()) };
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Copies messages from one direction into the other, a chunk at a time.
fn relay<const W: usize>(memory: &Shared) -> Seen {
    let (mut tx, mut rx) = ends::<W>(memory, 1);
    let mut chunk = [[0; W]; CHUNK as usize];
    loop {
        let mut filled = 0;
        let got = rx.try_read(CHUNK, |m| {
            chunk[filled] = *m;
            filled += 1;
        });
        if got {
            let mut sent = 0;
            let mut next = || {
                sent += 1;
                chunk[sent - 1]
            };
            while !tx.try_send(CHUNK, &mut next) {
                std::hint::spin_loop();
            }
        } else if rx.ended() {
            tx.end();
            return Seen { count: rx.0.mine, rate: None };
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Runs `work` on core 0 beside the other process on core 1, and gives its result with what the other saw.
fn beside<T: Send>(
    role: Role,
    row: &Row,
    settings: &Settings,
    cores: [usize; 2],
    work: impl FnOnce(&Shared, &AtomicBool) -> T + Send,
) -> Result<(T, Seen), BenchError> {
    let (memory, fd) = Shared::create(MEMORY_BYTES).map_err(BenchError::io("the floor's shared memory"))?;
    let job = Job::new(role, row, settings, cores[1]);
    let mut child = peer::spawn("floor-peer", &job, fd, Stdio::piped())?;
    let answer = child.stdout.take().ok_or_else(|| BenchError::Peer("has no stdout".to_owned()))?;
    let done = process::timed(settings, |stop| {
        pin(cores[0]);
        work(&memory, stop)
    });
    if done.is_err() {
        peer::kill(&mut child);
    }
    let done = done?;
    let mut line = String::new();
    BufReader::new(answer).read_line(&mut line).map_err(BenchError::io("the other process's answer"))?;
    peer::wait(&mut child)?;
    Ok((done, serde_json::from_str(&line).map_err(|e| BenchError::Peer(e.to_string()))?))
}

/// One message to and fro, copied in and out on each side.
pub(super) fn rtt<const W: usize>(row: &Row, settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let ping = |memory: &Shared, stop: &AtomicBool| {
        let (there, back) = (Turn::new(memory, 0), Turn::new(memory, 1));
        let mut latency = Histogram::new();
        let (mut message, mut answer) = ([0x5a; W], [0; W]);
        let mut n = 0;
        // The other process is up once the first message is back.
        let mut measure_from = u64::MAX;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            message[0] = n;
            let began = now_ns();
            there.send(n, &message);
            back.receive(n, &mut answer);
            touch_words(&answer);
            let ended = now_ns();
            if measure_from == u64::MAX {
                measure_from = ended + settings.warmup.as_nanos() as u64;
            } else if began >= measure_from {
                latency.record(ended - began);
            }
        }
        there.end();
        Outcome { latency: Some(latency), emitted: n, ..Outcome::default() }
    };
    let (outcome, seen) = beside(Role::ShmEcho, row, settings, cores, ping)?;
    process::checked(outcome, seen.count)
}

/// Messages one way in chunks of 64.
pub(super) fn stream<const W: usize>(row: &Row, settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let source = |memory: &Shared, stop: &AtomicBool| {
        let (mut tx, _) = ends::<W>(memory, 0);
        let mut message = [0x5157_5545_4c4c_5321; W];
        while !stop.load(Ordering::Relaxed) {
            let sent = tx.try_send(CHUNK, || {
                message[0] += 1;
                message
            });
            if !sent {
                std::hint::spin_loop();
            }
        }
        tx.end();
        tx.0.mine
    };
    let (emitted, seen) = beside(Role::ShmSink, row, settings, cores, source)?;
    process::checked(Outcome { rate: seen.rate, emitted, ..Outcome::default() }, seen.count)
}

/// Messages to the other process and back, in chunks of 64.
pub(super) fn there_and_back<const W: usize>(
    row: &Row,
    settings: &Settings,
    cores: [usize; 2],
) -> Result<Outcome, BenchError> {
    let source = |memory: &Shared, stop: &AtomicBool| {
        let (mut tx, mut rx) = ends::<W>(memory, 0);
        let mut meter = Meter::new(settings.warmup.as_nanos() as u64);
        let mut message = [0x5157_5545_4c4c_5321; W];
        let mut ended = false;
        while !rx.ended() {
            if !stop.load(Ordering::Relaxed) {
                tx.try_send(CHUNK, || {
                    message[0] += 1;
                    message
                });
            } else if !ended {
                ended = true;
                tx.end();
            }
            if rx.try_read(CHUNK, touch_words) {
                meter.batch(rx.0.mine);
            }
        }
        let rate = meter.rate(rx.0.mine, now_ns());
        process::checked(Outcome { rate, emitted: tx.0.mine, ..Outcome::default() }, rx.0.mine)
    };
    let (outcome, _) = beside(Role::ShmRelay, row, settings, cores, source)?;
    outcome
}
