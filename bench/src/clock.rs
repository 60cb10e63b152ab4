//! The clock of both sides, and when measuring begins and ends.

pub(crate) use squall_machine::{cpu_ns, now_ns};

/// Measures the rate at a receiver: from the end of the warm-up, counted from the first batch, to the end. It looks at
/// the clock once a batch until measuring has begun, and then only at the end.
#[derive(Debug)]
pub(crate) struct Meter {
    warmup_ns: u64,
    from_ns: Option<u64>,
    start: Option<(u64, u64)>,
}

impl Meter {
    pub(crate) fn new(warmup_ns: u64) -> Self {
        Meter { warmup_ns, from_ns: None, start: None }
    }

    /// A batch has been received, `count` tuples in all.
    #[inline]
    pub(crate) fn batch(&mut self, count: u64) {
        if self.start.is_none() {
            self.look(count, now_ns());
        }
    }

    #[cold]
    fn look(&mut self, count: u64, now_ns: u64) {
        let from = *self.from_ns.get_or_insert(now_ns + self.warmup_ns);
        if now_ns >= from {
            self.start = Some((now_ns, count));
        }
    }

    /// The last tuple has been received: tuples per second since the warm-up. `None`: it never ended.
    pub(crate) fn rate(&self, count: u64, now_ns: u64) -> Option<f64> {
        let (began, before) = self.start?;
        let secs = now_ns.checked_sub(began).filter(|ns| *ns > 0)? as f64 / 1e9;
        Some((count - before) as f64 / secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_leaves_the_warm_up_out() {
        let mut m = Meter::new(1_000);
        m.look(7, 5_000);
        assert_eq!(m.rate(7, 5_500), None, "still warming up");
        m.look(100, 6_000);
        assert_eq!(m.rate(300, 1_000_006_000), Some(200.0));
    }
}
