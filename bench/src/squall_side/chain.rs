//! oversubscribed: a chain of four components, each behind the one before on the next reactor. On four reactors two share
//! a core; on two each has its own.

use squall::{Next, Spout, SpoutError, Stream, Topology};

use super::stamped::{Pass, Sink, Stamped};
use super::{Job, Place, Tallied};
use crate::clock::now_ns;

/// One tuple of so many carries its time: a clock reading for each would be most of the work.
const STAMP_EVERY: u64 = 1024;

struct Source {
    emitted: u64,
    tally: Tallied,
}

impl Spout for Source {
    type Out = Stream<Stamped>;

    #[inline]
    fn next(&mut self, out: &mut Stream<Stamped>) -> Result<Next, SpoutError> {
        let n = self.emitted;
        self.emitted += 1;
        let at_ns = if n.is_multiple_of(STAMP_EVERY) { now_ns() } else { 0 };
        out.emit(Stamped { n, at_ns, due_ns: 0, rest: 0 });
        Ok(Next::Emitted)
    }

    fn deactivate(&mut self) {
        self.tally.note(|t| t.emitted += self.emitted);
    }
}

pub(super) fn topology(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, sinks, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let source = t.spout("source", move || Source { emitted: 0, tally: spouts.clone() });
    let first = t.bolt("first", || Pass).on(source.shuffle());
    let second = t.bolt("second", || Pass).on(first.shuffle());
    let _ = t.bolt("sink", move || Sink::new(warmup_ns, sinks.clone())).on(second.shuffle());
    let reactors = job.layout().1;
    ["source", "first", "second", "sink"].into_iter().zip(0..).map(|(c, at)| (c, at % reactors)).collect()
}
