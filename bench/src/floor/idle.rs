//! A thread that waits on a futex in shared memory; another process stamps the memory and wakes it.

use std::time::{Duration, Instant};

use squall_metrics::Histogram;

use crate::error::BenchError;
use crate::inject::{Injector, Ring, Stamps};
use crate::machine::pin;
use crate::measure::{Outcome, Settings};

/// How long a stamp may fail to come.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let (stamps, memory) = Stamps::create()?;
    let injector = Injector::start(memory, Ring::Futex, settings.silence(), cores[1])?;
    let measured = settings.warmup + settings.slice;
    let waiting = std::thread::scope(|s| {
        let waiter = s.spawn(|| {
            pin(cores[0]);
            let mut latency = Histogram::new();
            let mut seen = 0;
            let mut came = Instant::now();
            let began = came;
            while began.elapsed() < measured {
                match stamps.wait(seen) {
                    Some((n, took_ns)) => {
                        seen = n;
                        came = Instant::now();
                        latency.record(took_ns);
                        stamps.taken(n);
                    }
                    None if came.elapsed() > PATIENCE => return None,
                    None => {}
                }
            }
            Some((latency, seen))
        });
        waiter.join()
    });
    drop(injector);
    let waited = waiting.map_err(|_| BenchError::Failed("the floor panicked, see above".to_owned()))?;
    let (latency, emitted) = waited.ok_or(BenchError::Stuck("the injector", PATIENCE.as_secs()))?;
    if latency.is_empty() {
        return Err(BenchError::TooShort);
    }
    Ok(Outcome { latency: Some(latency), emitted, ..Outcome::default() })
}
