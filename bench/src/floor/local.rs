//! Within one thread: copies and calls.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use squall_metrics::Histogram;

use super::process;
use crate::clock::{Meter, now_ns};
use crate::error::BenchError;
use crate::machine::pin;
use crate::measure::{Outcome, Settings};
use crate::payload::touch_words;

/// Bytes of the buffer that a stream is copied through: a batch's.
const BUFFER_BYTES: usize = 16 * 1024;

/// Words between the buffers, so that no two begin at nearly the same place of a page: `rep movsb` on Zen copies such
/// pairs ten times slower, and where `malloc` puts them is chance.
const APART: usize = 128;

/// Copies the message in, calls a function that copies it out again, reads it.
pub(crate) fn rtt<const W: usize>(settings: &Settings, core: usize) -> Result<Outcome, BenchError> {
    pinned(settings, core, |stop| {
        let mut latency = Histogram::new();
        let mut memory = vec![0; 3 * (W + APART)];
        let (message, rest) = memory.split_at_mut(W + APART);
        let (there, back) = rest.split_at_mut(W + APART);
        let (message, there, back) = (&mut message[..W], &mut there[..W], &mut back[..W]);
        let measure_from = now_ns() + settings.warmup.as_nanos() as u64;
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            message[0] = n;
            let began = now_ns();
            there.copy_from_slice(black_box(message));
            echo(there, back);
            touch_words(&back.as_chunks::<W>().0[0]);
            let ended = now_ns();
            if began >= measure_from {
                latency.record(ended - began);
            }
        }
        Outcome { latency: Some(latency), emitted: n, ..Outcome::default() }
    })
}

#[inline(never)]
fn echo(message: &[u64], into: &mut [u64]) {
    into.copy_from_slice(message);
}

/// Copies messages into a buffer until it is full, then reads them all, and so on.
pub(crate) fn stream<const W: usize>(settings: &Settings, core: usize) -> Result<Outcome, BenchError> {
    let outcome = pinned(settings, core, |stop| {
        let mut buffer = vec![[0_u64; W]; BUFFER_BYTES / (W * 8)];
        let mut message = [0x5157_5545_4c4c_5321; W];
        let mut meter = Meter::new(settings.warmup.as_nanos() as u64);
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            for slot in &mut buffer {
                n += 1;
                message[0] = n;
                *slot = message;
            }
            for slot in black_box(&buffer) {
                touch_words(slot);
            }
            meter.batch(n);
        }
        Outcome { rate: meter.rate(n, now_ns()), emitted: n, ..Outcome::default() }
    })?;
    outcome.rate.is_some().then_some(outcome).ok_or(BenchError::TooShort)
}

/// The same through a second buffer: filled from the first, then read.
pub(crate) fn relay<const W: usize>(settings: &Settings, core: usize) -> Result<Outcome, BenchError> {
    let outcome = pinned(settings, core, |stop| {
        let slots = BUFFER_BYTES / (W * 8);
        // Apart, as above.
        let mut memory = vec![[0_u64; W]; 2 * slots + APART.div_ceil(W)];
        let (first, second) = memory.split_at_mut(slots + APART.div_ceil(W));
        let mut message = [0x5157_5545_4c4c_5321; W];
        let mut meter = Meter::new(settings.warmup.as_nanos() as u64);
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            for slot in &mut first[..slots] {
                n += 1;
                message[0] = n;
                *slot = message;
            }
            for (from, to) in black_box(&first[..slots]).iter().zip(&mut *second) {
                *to = *from;
            }
            for slot in black_box(&*second) {
                touch_words(slot);
            }
            meter.batch(n);
        }
        Outcome { rate: meter.rate(n, now_ns()), emitted: n, ..Outcome::default() }
    })?;
    outcome.rate.is_some().then_some(outcome).ok_or(BenchError::TooShort)
}

fn pinned(
    settings: &Settings,
    core: usize,
    work: impl FnOnce(&AtomicBool) -> Outcome + Send,
) -> Result<Outcome, BenchError> {
    process::timed(settings, |stop| {
        pin(core);
        work(stop)
    })
}
