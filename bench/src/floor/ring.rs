//! Between two threads: `rtrb`, spinning at both ends.

use std::sync::atomic::{AtomicBool, Ordering};

use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};
use squall_metrics::Histogram;

use super::process;
use crate::clock::{Meter, now_ns};
use crate::error::BenchError;
use crate::machine::pin;
use crate::measure::{Outcome, Settings};
use crate::payload::touch_words;

/// Messages a ping-pong ring holds; one is in flight.
const PING_SLOTS: usize = 8;
/// Bytes of the stream's ring.
const STREAM_BYTES: usize = 512 * 1024;
/// Messages per chunk of the stream.
const CHUNK: usize = 64;

/// A message at the start of a cache line, in the ring and out of it (see `local::APART`).
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Message<const W: usize>([u64; W]);

/// One message to and fro through two rings.
pub(crate) fn rtt<const W: usize>(settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let (mut ping_tx, mut ping_rx) = RingBuffer::<Message<W>>::new(PING_SLOTS);
    let (mut pong_tx, mut pong_rx) = RingBuffer::<Message<W>>::new(PING_SLOTS);
    let stop = AtomicBool::new(false);
    let measure_from = now_ns() + settings.warmup.as_nanos() as u64;
    std::thread::scope(|s| {
        s.spawn(|| {
            pin(cores[1]);
            loop {
                if let Ok(chunk) = ping_rx.read_chunk(1) {
                    send(&mut pong_tx, &chunk.as_slices().0[0]);
                    chunk.commit_all();
                    continue;
                }
                if ping_rx.is_abandoned() {
                    return;
                }
                std::hint::spin_loop();
            }
        });
        let stop = &stop;
        let pinging = s.spawn(move || {
            pin(cores[0]);
            let mut latency = Histogram::new();
            let mut message = Message([0; W]);
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                message.0[0] = n;
                let began = now_ns();
                send(&mut ping_tx, &message);
                let back = loop {
                    if let Ok(chunk) = pong_rx.read_chunk(1) {
                        break chunk;
                    }
                    std::hint::spin_loop();
                };
                touch_words(&back.as_slices().0[0].0);
                back.commit_all();
                let ended = now_ns();
                if began >= measure_from {
                    latency.record(ended - began);
                }
            }
            Outcome { latency: Some(latency), emitted: n, ..Outcome::default() }
        });
        std::thread::sleep(settings.warmup + settings.slice);
        stop.store(true, Ordering::Relaxed);
        pinging.join().map_err(|_| BenchError::Failed("the floor panicked, see above".to_owned()))
    })
}

/// Copies the message into the ring; it is read in place there.
#[inline(always)]
fn send<const W: usize>(tx: &mut Producer<Message<W>>, message: &Message<W>) {
    let chunk = tx.write_chunk_uninit(1).expect("one message is in flight");
    chunk.fill_from_iter([message].into_iter().copied());
}

/// Copies a chunk of messages into the ring, if there is room.
#[inline(always)]
fn send_chunk<const W: usize>(tx: &mut Producer<[u64; W]>, next: impl FnMut() -> [u64; W]) -> bool {
    match tx.write_chunk_uninit(CHUNK) {
        Ok(chunk) => {
            chunk.fill_from_iter(std::iter::repeat_with(next).take(CHUNK));
            true
        }
        Err(ChunkError::TooFewSlots(_)) => false,
    }
}

/// Reads a chunk of messages where they lie, if there is one.
#[inline(always)]
fn read_chunk<const W: usize>(rx: &mut Consumer<[u64; W]>, each: impl FnMut(&[u64; W])) -> bool {
    let Ok(chunk) = rx.read_chunk(CHUNK) else { return false };
    let (first, second) = chunk.as_slices();
    first.iter().chain(second).for_each(each);
    chunk.commit_all();
    true
}

fn slots<const W: usize>() -> usize {
    (STREAM_BYTES / (W * 8)).next_multiple_of(CHUNK)
}

/// Numbered messages.
fn messages<const W: usize>() -> impl FnMut() -> [u64; W] {
    let mut message = [0x5157_5545_4c4c_5321; W];
    message[0] = 0;
    move || {
        message[0] += 1;
        message
    }
}

/// Messages one way in chunks of 64; each is copied once and read `reads` times.
pub(crate) fn stream<const W: usize>(
    settings: &Settings,
    cores: [usize; 2],
    reads: u32,
) -> Result<Outcome, BenchError> {
    let (mut tx, mut rx) = RingBuffer::<[u64; W]>::new(slots::<W>());
    let stop = AtomicBool::new(false);
    let stop = &stop;
    let (emitted, (received, rate)) = std::thread::scope(|s| {
        let sending = s.spawn(move || {
            pin(cores[0]);
            let mut next = messages();
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                if send_chunk(&mut tx, &mut next) {
                    n += CHUNK as u64;
                } else {
                    std::hint::spin_loop();
                }
            }
            n
        });
        let receiving = s.spawn(move || {
            pin(cores[1]);
            let mut meter = Meter::new(settings.warmup.as_nanos() as u64);
            let mut n = 0;
            let read = |m: &[u64; W]| {
                for _ in 0..reads {
                    touch_words(m);
                }
            };
            loop {
                if read_chunk(&mut rx, read) {
                    n += CHUNK as u64;
                    meter.batch(n);
                    continue;
                }
                // Whole chunks are sent, so an abandoned ring ends empty.
                if rx.is_abandoned() && rx.is_empty() {
                    return (n, meter.rate(n, now_ns()));
                }
                std::hint::spin_loop();
            }
        });
        std::thread::sleep(settings.warmup + settings.slice);
        stop.store(true, Ordering::Relaxed);
        (sending.join().unwrap_or(0), receiving.join().unwrap_or((0, None)))
    });
    process::checked(Outcome { rate, emitted, ..Outcome::default() }, received)
}

/// Messages to the other thread and back, in chunks of 64.
pub(crate) fn relay<const W: usize>(settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let (mut there_tx, mut there_rx) = RingBuffer::<[u64; W]>::new(slots::<W>());
    let (mut back_tx, mut back_rx) = RingBuffer::<[u64; W]>::new(slots::<W>());
    process::timed(settings, |stop| {
        std::thread::scope(|s| {
            s.spawn(move || {
                pin(cores[1]);
                let mut held = Vec::with_capacity(CHUNK);
                loop {
                    held.clear();
                    if read_chunk(&mut there_rx, |m| held.push(*m)) {
                        let mut at = 0;
                        let mut next = || {
                            at += 1;
                            held[at - 1]
                        };
                        while !send_chunk(&mut back_tx, &mut next) && !back_tx.is_abandoned() {
                            std::hint::spin_loop();
                        }
                    } else if there_rx.is_abandoned() && there_rx.is_empty() {
                        return;
                    } else {
                        std::hint::spin_loop();
                    }
                }
            });
            pin(cores[0]);
            let mut meter = Meter::new(settings.warmup.as_nanos() as u64);
            let mut next = messages();
            let (mut emitted, mut back) = (0, 0);
            while emitted != back || !stop.load(Ordering::Relaxed) {
                if !stop.load(Ordering::Relaxed) && send_chunk(&mut there_tx, &mut next) {
                    emitted += CHUNK as u64;
                }
                if read_chunk(&mut back_rx, touch_words) {
                    back += CHUNK as u64;
                    meter.batch(back);
                }
            }
            drop(there_tx);
            let rate = meter.rate(back, now_ns());
            process::checked(Outcome { rate, emitted, ..Outcome::default() }, back)
        })
    })?
}
