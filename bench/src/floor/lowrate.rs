//! One message a millisecond in one spinning thread: three calls, each of which copies it on.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use squall_metrics::Histogram;

use super::process;
use crate::clock::now_ns;
use crate::error::BenchError;
use crate::machine::pin;
use crate::measure::{Outcome, Settings};
use crate::payload::touch_words;
use crate::squall_side::LOWRATE_PERIOD_NS;

type Message = [u64; 4];

#[inline(never)]
fn stage(from: &Message, to: &mut Message) {
    *to = *black_box(from);
}

pub(super) fn run(settings: &Settings, core: usize) -> Result<Outcome, BenchError> {
    let outcome = process::timed(settings, |stop| {
        pin(core);
        let (mut latency, mut due_latency) = (Histogram::new(), Histogram::new());
        let mut due = now_ns();
        let measure_from = due + settings.warmup.as_nanos() as u64;
        let (mut a, mut b, mut c) = ([0; 4], [0; 4], [0; 4]);
        let mut emitted = 0;
        while !stop.load(Ordering::Relaxed) {
            let began = now_ns();
            if began < due {
                std::hint::spin_loop();
                continue;
            }
            emitted += 1;
            stage(&[emitted, began, due, 0], &mut a);
            stage(&a, &mut b);
            stage(&b, &mut c);
            touch_words(&c);
            let ended = now_ns();
            if began >= measure_from {
                latency.record(ended - began);
                due_latency.record(ended - due);
            }
            due += LOWRATE_PERIOD_NS;
        }
        Outcome { latency: Some(latency), due: Some(due_latency), emitted, ..Outcome::default() }
    })?;
    let emitted = outcome.emitted;
    process::checked(outcome, emitted)
}
