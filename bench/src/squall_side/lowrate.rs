//! One tuple a millisecond through three bolts on the spout's reactor.

use std::time::Duration;

use squall::{Clock, Context, Next, Spout, SpoutError, Stream, Time, Topology};

use super::stamped::{Pass, Sink, Stamped};
use super::{Job, Place, Tallied};
use crate::clock::now_ns;

/// Time from one tuple to the next.
pub(crate) const PERIOD_NS: u64 = 1_000_000;

struct Slow {
    clock: Option<Clock>,
    due: Option<Time>,
    emitted: u64,
    tally: Tallied,
}

impl Spout for Slow {
    type Out = Stream<Stamped>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.clock = Some(ctx.clock());
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Stamped>) -> Result<Next, SpoutError> {
        let Some(clock) = &self.clock else { return Ok(Next::End) };
        let now = clock.now();
        let due = self.due.unwrap_or(now);
        if now < due {
            return Ok(Next::WakeAt(due));
        }
        self.due = Some(due + Duration::from_nanos(PERIOD_NS));
        self.emitted += 1;
        out.emit(Stamped { n: self.emitted, at_ns: now_ns(), due_ns: due.as_nanos(), rest: 0 });
        Ok(Next::Emitted)
    }

    fn deactivate(&mut self) {
        self.tally.note(|t| t.emitted += self.emitted);
    }
}

pub(super) fn topology(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, sinks, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let slow = t.spout("slow", move || Slow { clock: None, due: None, emitted: 0, tally: spouts.clone() });
    let first = t.bolt("first", || Pass).on(slow.shuffle());
    let second = t.bolt("second", || Pass).on(first.shuffle());
    let _ = t.bolt("third", move || Sink::new(warmup_ns, sinks.clone())).on(second.shuffle());
    vec![("slow", 0), ("first", 0), ("second", 0), ("third", 0)]
}
