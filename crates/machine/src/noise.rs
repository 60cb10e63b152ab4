//! The machine's own noise: how much longer than asked a thread is kept from running.
//!
//! [`Hiccups`] are threads that sleep beside a run, one per core, and measure how late they wake: cheap enough to run with what is
//! measured, and blind below the cost of a wake-up. [`watch_core`] spins on one core and sees each gap, and so wants that core for
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use squall_metrics::Histogram;

use crate::{now_ns, pin};

/// Sleeping threads, one per core, while they run.
pub struct Hiccups {
    stop: Arc<AtomicBool>,
    threads: Vec<(usize, JoinHandle<Histogram>)>,
}

impl Hiccups {
    /// Starts a thread on each of these cores; each wakes once a `period`.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(cores: &[usize], period: Duration) -> std::io::Result<Hiccups> {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |core: &usize| {
            let (stop, core) = (stop.clone(), *core);
            let named = std::thread::Builder::new().name(format!("hiccup-{core}"));
            Ok((core, named.spawn(move || oversleep(core, period, &stop))?))
        };
        let threads = cores.iter().map(start).collect::<std::io::Result<_>>()?;
        Ok(Hiccups { stop, threads })
    }

    /// Ends the threads: for each core how late they woke, in nanoseconds.
    pub fn stop(self) -> Vec<(usize, Histogram)> {
        // Relaxed: a flag that carries nothing.
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().filter_map(|(core, thread)| Some((core, thread.join().ok()?))).collect()
    }
}

fn oversleep(core: usize, period: Duration, stop: &AtomicBool) -> Histogram {
    pin(core);
    let mut late = Histogram::new();
    while !stop.load(Ordering::Relaxed) {
        let due = now_ns() + period.as_nanos() as u64;
        std::thread::sleep(period);
        late.record(now_ns().saturating_sub(due).max(1));
    }
    late
}

/// Spins on a core for a while and records each gap between two readings of the clock, in nanoseconds, until `stop`. The first figure is
/// the histogram, the second the time that went into gaps of more than a microsecond.
pub fn watch_core(core: usize, length: Duration, stop: &AtomicBool) -> (Histogram, u64) {
    pin(core);
    let mut gaps = Histogram::new();
    let mut lost_ns = 0;
    let end = now_ns() + length.as_nanos() as u64;
    let mut last = now_ns();
    while last < end && !stop.load(Ordering::Relaxed) {
        let now = now_ns();
        gaps.record((now - last).max(1));
        if now - last > 1_000 {
            lost_ns += now - last;
        }
        last = now;
    }
    (gaps, lost_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hiccup_threads_report_for_each_core_and_end_when_told() {
        let core = core_affinity::get_core_ids().unwrap()[0].id;
        let hiccups = Hiccups::start(&[core, core], Duration::from_millis(1)).unwrap();
        let seen = hiccups.stop();
        assert_eq!(seen.iter().map(|(c, _)| *c).collect::<Vec<_>>(), [core, core]);
    }

    #[test]
    fn a_watched_core_shows_gaps_and_a_stop_ends_it() {
        let core = core_affinity::get_core_ids().unwrap()[0].id;
        let (gaps, _) = watch_core(core, Duration::from_millis(2), &AtomicBool::new(false));
        assert!(gaps.count() > 0);
        let (gaps, lost) = watch_core(core, Duration::from_secs(60), &AtomicBool::new(true));
        assert_eq!((gaps.count(), lost), (0, 0));
    }
}
