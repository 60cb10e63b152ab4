//! The placement probe: how long a cache line takes from one core to the other and back.
//!
//! Two virtual cores of one host may share an L3 slice or not, and the host changes its mind within a minute: 40–70 ns
//! a round trip when near, 250–350 ns when far. Every figure that crosses cores scales with it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{now_ns, pin};

/// Above this many nanoseconds the cores are far apart.
pub const FAR_NS: u64 = 100;
const BLOCKS: usize = 101;
const TRIPS_PER_BLOCK: u64 = 200;
const STOP: u64 = u64::MAX;

/// Alone on its lines, prefetched neighbour included.
#[repr(align(128))]
struct Line(AtomicU64);

/// The median over blocks of 200 round trips each, in ns a round trip. Takes about 2 ms, longer when far.
///
/// # Panics
/// Where no thread can be started.
pub fn round_trip_ns(cores: [usize; 2]) -> u64 {
    let (there, back) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    std::thread::scope(|s| {
        s.spawn(|| {
            pin(cores[1]);
            let mut seen = 0;
            loop {
                let n = there.0.load(Ordering::Acquire);
                if n == STOP {
                    return;
                }
                if n != seen {
                    seen = n;
                    back.0.store(n, Ordering::Release);
                }
                std::hint::spin_loop();
            }
        });
        let pinging = s.spawn(|| {
            pin(cores[0]);
            let mut blocks = [0; BLOCKS];
            let mut n = 0;
            for block in &mut blocks {
                let began = now_ns();
                for _ in 0..TRIPS_PER_BLOCK {
                    n += 1;
                    there.0.store(n, Ordering::Release);
                    while back.0.load(Ordering::Acquire) != n {
                        std::hint::spin_loop();
                    }
                }
                *block = (now_ns() - began) / TRIPS_PER_BLOCK;
            }
            there.0.store(STOP, Ordering::Release);
            blocks.sort_unstable();
            blocks[BLOCKS / 2]
        });
        pinging.join().expect("the probe does not panic")
    })
}
