//! Many seeds, on all cores; a run itself is always on one thread.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A seed that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedSeed {
    /// Which.
    pub seed: u64,
    /// What went wrong, and how to replay it.
    pub what: String,
}

/// Runs seeds in their order until one fails, all are done, or `most` of real time has passed (a run that has begun is
/// finished). Reports come in no particular order; there is at least one if there is a seed.
///
/// # Errors
/// The lowest seed that failed, of those that ran at the time.
pub fn sweep<R: Send>(
    seeds: Range<u64>,
    most: Option<Duration>,
    run: impl Fn(u64) -> Result<R, String> + Sync,
) -> Result<Vec<R>, FailedSeed> {
    let next = AtomicU64::new(seeds.start);
    let done = Mutex::new((Vec::new(), Vec::new()));
    let until = most.map(|most| Instant::now() + most);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = seed > seeds.start && until.is_some_and(|until| Instant::now() >= until);
                    if seed >= seeds.end || late {
                        return;
                    }
                    let came = run(seed);
                    let mut done = done.lock().expect("nobody panics with it");
                    match came {
                        Ok(report) => done.0.push(report),
                        Err(what) => {
                            next.store(seeds.end, Ordering::Relaxed);
                            done.1.push(FailedSeed { seed, what });
                        }
                    }
                }
            });
        }
    });
    let (reports, failed) = done.into_inner().expect("nobody panics with it");
    match failed.into_iter().min_by_key(|f| f.seed) {
        Some(failed) => Err(failed),
        None => Ok(reports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_seed_that_failed_is_told() {
        let run = |seed| if seed % 10 == 7 { Err(format!("of {seed}")) } else { Ok(seed) };
        assert_eq!(sweep(0..100, None, run), Err(FailedSeed { seed: 7, what: "of 7".into() }));
        let mut all = sweep(10..17, None, run).expect("none of them fails");
        all.sort_unstable();
        assert_eq!(all, [10, 11, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn time_ends_it_after_one_seed_at_least() {
        let came = sweep(5..u64::MAX, Some(Duration::ZERO), Ok::<u64, String>);
        assert_eq!(came, Ok(vec![5]));
    }
}
