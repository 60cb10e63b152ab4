//! Between two threads: `rtrb`, spinning at both ends.

use std::sync::atomic::{AtomicBool, Ordering};

use rtrb::chunks::ChunkError;
use rtrb::{Producer, RingBuffer};
use squall_metrics::Histogram;

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

/// Messages one way in chunks of 64.
pub(crate) fn stream<const W: usize>(settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let slots = (STREAM_BYTES / (W * 8)).next_multiple_of(CHUNK);
    let (mut tx, mut rx) = RingBuffer::<[u64; W]>::new(slots);
    let stop = AtomicBool::new(false);
    let stop = &stop;
    let (sent, (received, rate)) = std::thread::scope(|s| {
        let sending = s.spawn(move || {
            pin(cores[0]);
            let mut message = [0x5157_5545_4c4c_5321; W];
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                match tx.write_chunk_uninit(CHUNK) {
                    Ok(chunk) => {
                        let messages = std::iter::repeat_with(|| {
                            n += 1;
                            message[0] = n;
                            message
                        });
                        chunk.fill_from_iter(messages.take(CHUNK));
                    }
                    Err(ChunkError::TooFewSlots(_)) => std::hint::spin_loop(),
                }
            }
            n
        });
        let receiving = s.spawn(move || {
            pin(cores[1]);
            let mut meter = Meter::new(settings.warmup.as_nanos() as u64);
            let mut n = 0;
            loop {
                if let Ok(chunk) = rx.read_chunk(CHUNK) {
                    let (first, second) = chunk.as_slices();
                    first.iter().chain(second).for_each(touch_words);
                    n += CHUNK as u64;
                    chunk.commit_all();
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
    if sent != received {
        return Err(BenchError::Counts { emitted: sent, executed: received });
    }
    let rate = Some(rate.ok_or(BenchError::TooShort)?);
    Ok(Outcome { rate, emitted: sent, ..Outcome::default() })
}
