//! Tuples that carry their own time, and the sink that reads it: what idle, lowrate and oversubscribed are made of.

use squall::{Bolt, BoltError, Finish, Input, Stream, Tuple};
use squall_metrics::Histogram;

use super::Tallied;
use crate::clock::{Meter, now_ns};

/// 32 bytes.
#[derive(Tuple)]
pub(super) struct Stamped {
    /// Counts up.
    pub(super) n: u64,
    /// When its way began; 0: not measured.
    pub(super) at_ns: u64,
    /// When it was due; 0 where nothing is due.
    pub(super) due_ns: u64,
    pub(super) rest: u64,
}

/// Passes tuples on.
pub(super) struct Pass;

impl Bolt for Pass {
    type In = Stamped;
    type Out = Stream<Stamped>;

    #[inline]
    fn execute(&mut self, input: Input<'_, Stamped>, out: &mut Stream<Stamped>) -> Result<(), BoltError> {
        out.emit(input.view());
        Ok(())
    }
}

/// Records how long stamped tuples took, and counts all.
pub(super) struct Sink {
    latency: Histogram,
    due: Histogram,
    /// Tuples stamped before are warm-up; set by the first stamped one.
    measure_from_ns: u64,
    warmup_ns: u64,
    executed: u64,
    meter: Meter,
    tally: Tallied,
}

impl Sink {
    pub(super) fn new(warmup_ns: u64, tally: Tallied) -> Self {
        let (latency, due, meter) = (Histogram::new(), Histogram::new(), Meter::new(warmup_ns));
        Sink { latency, due, measure_from_ns: 0, warmup_ns, executed: 0, meter, tally }
    }

    fn record(&mut self, at_ns: u64, due_ns: u64) {
        let now = now_ns();
        if self.measure_from_ns == 0 {
            self.measure_from_ns = at_ns + self.warmup_ns;
        }
        if at_ns >= self.measure_from_ns {
            self.latency.record(now.saturating_sub(at_ns));
            if due_ns > 0 {
                self.due.record(now.saturating_sub(due_ns));
            }
        }
    }
}

impl Bolt for Sink {
    type In = Stamped;
    type Out = ();

    #[inline]
    fn execute(&mut self, input: Input<'_, Stamped>, _: &mut ()) -> Result<(), BoltError> {
        std::hint::black_box((input.n.to_native(), input.rest.to_native()));
        self.executed += 1;
        let at_ns = input.at_ns.to_native();
        if at_ns > 0 {
            self.record(at_ns, input.due_ns.to_native());
        }
        Ok(())
    }

    fn batch_end(&mut self, _: &mut ()) -> Result<(), BoltError> {
        self.meter.batch(self.executed);
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        let rate = self.meter.rate(self.executed, now_ns());
        let some = |h: &Histogram| (!h.is_empty()).then(|| h.clone());
        self.tally.note(|t| {
            t.executed += self.executed;
            t.rate = rate;
            t.latency = some(&self.latency);
            t.due = some(&self.due);
        });
        Ok(Finish::Done)
    }
}
