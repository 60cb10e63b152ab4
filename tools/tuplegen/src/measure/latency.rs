//! Latencies of an interval, and how they leave the thread that measures without holding it up.

use crossbeam_channel::{Receiver, Sender, bounded};
use hdrhistogram::Histogram;

/// Lowest and highest latency that is told apart, in nanoseconds, and digits.
const BOUNDS: (u64, u64, u8) = (1, 3_600_000_000_000, 3);
/// Intervals under way between the two threads.
const INTERVALS: usize = 6;

/// An empty histogram of nanoseconds: 1 ns to an hour, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(BOUNDS.0, BOUNDS.1, BOUNDS.2).expect("the bounds are constants and legal")
}

/// From where to where a sampled hop leads.
pub const HOPS: [&str; 3] = ["link in", "topology", "link out"];

/// What was measured in a stretch of time.
#[derive(Clone)]
pub struct Interval {
    /// Offset of its start from that of the load.
    pub from_ns: u64,
    /// And of its end.
    pub to_ns: u64,
    /// From the time at which tuples were due to their return.
    pub intended: Histogram<u64>,
    /// From the time at which they were sent.
    pub actual: Histogram<u64>,
    /// From due to sent: the generator's own lateness.
    pub late: Histogram<u64>,
    /// Sampled: sent to ingest, ingest to egress, egress to return.
    pub hops: [Histogram<u64>; 3],
    /// Gaps of the generating thread of more than 2 µs.
    pub gaps: Histogram<u64>,
    /// Tuples sent, warm-up included.
    pub sent: u64,
    /// Tuples complete since the start of the load.
    pub complete: u64,
}

impl Interval {
    fn new() -> Interval {
        Interval {
            from_ns: 0,
            to_ns: 0,
            intended: histogram(),
            actual: histogram(),
            late: histogram(),
            hops: [histogram(), histogram(), histogram()],
            gaps: histogram(),
            sent: 0,
            complete: 0,
        }
    }

    fn clear(&mut self) {
        let Interval { intended, actual, late, hops, gaps, .. } = self;
        [intended, actual, late, gaps].into_iter().chain(hops).for_each(Histogram::reset);
        (self.sent, self.complete) = (0, 0);
    }
}

/// The measuring thread's end: it fills one interval after another.
pub struct Recorder {
    /// The one being filled.
    pub now: Box<Interval>,
    full: Sender<Box<Interval>>,
    empty: Receiver<Box<Interval>>,
}

/// The other end: intervals come full and go back empty.
pub struct Intervals {
    full: Receiver<Box<Interval>>,
    empty: Sender<Box<Interval>>,
}

/// Makes both ends. All memory is taken here.
pub fn recorder() -> (Recorder, Intervals) {
    let (full, from) = bounded(INTERVALS);
    let (empty, fresh) = bounded(INTERVALS);
    for _ in 0..INTERVALS - 1 {
        empty.send(Box::new(Interval::new())).expect("there is room");
    }
    (Recorder { now: Box::new(Interval::new()), full, empty: fresh }, Intervals { full: from, empty })
}

impl Recorder {
    /// The interval at hand ends at this offset. Where the other thread is late, it goes on instead.
    pub fn turn(&mut self, at_ns: u64) {
        if let Ok(mut next) = self.empty.try_recv() {
            next.from_ns = at_ns;
            self.now.to_ns = at_ns;
            let full = std::mem::replace(&mut self.now, next);
            // As many fit as there are.
            let _ = self.full.try_send(full);
        }
    }

    /// Hands the last one over, whatever it takes.
    pub fn finish(mut self, at_ns: u64) {
        self.now.to_ns = at_ns;
        // The other end may be gone: then nobody wants it.
        let _ = self.full.send(self.now);
    }
}

impl Intervals {
    /// Gives the next full interval to `use_it`; `false` when that was the last one.
    pub fn next(&self, use_it: impl FnOnce(&Interval)) -> bool {
        let Ok(mut interval) = self.full.recv() else { return false };
        use_it(&interval);
        interval.clear();
        // The recorder may have ended.
        let _ = self.empty.try_send(interval);
        true
    }

    /// As [`next`](Self::next), waiting at most so long; `None` when nothing came.
    pub fn next_within(&self, wait: std::time::Duration, use_it: impl FnOnce(&Interval)) -> Option<bool> {
        match self.full.recv_timeout(wait) {
            Ok(mut interval) => {
                use_it(&interval);
                interval.clear();
                let _ = self.empty.try_send(interval);
                Some(true)
            }
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => None,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_come_in_order_whole_and_empty_again() {
        let (mut r, others) = recorder();
        for n in 1..=20_u64 {
            r.now.sent = n;
            r.now.intended.record(n).unwrap();
            r.turn(n * 10);
            assert!(
                others
                    .next(|i| assert_eq!((i.sent, i.intended.len(), i.from_ns, i.to_ns), (n, 1, n * 10 - 10, n * 10)))
            );
        }
        r.now.sent = 99;
        r.finish(205);
        assert!(others.next(|i| assert_eq!((i.sent, i.to_ns), (99, 205))));
        assert!(!others.next(|_| panic!("that was the last")));
    }

    #[test]
    fn nothing_is_lost_when_the_other_thread_is_late() {
        let (mut r, others) = recorder();
        for n in 0..50 {
            r.now.sent += 1;
            r.turn(n);
        }
        r.now.sent += 1;
        let mut sum = 0;
        std::thread::scope(|s| {
            s.spawn(move || r.finish(50));
            while others.next(|i| sum += i.sent) {}
        });
        assert_eq!(sum, 51);
    }
}
