//! The same with message ids: spouts that are told what became of each tuple, and measure there.

use squall::{Context, MessageId, Next, Spout, SpoutDecl, SpoutError, Stream, Topology};
use squall_metrics::Histogram;

use super::stream::{Id, Null};
use super::{Job, Place, Tallied};
use crate::clock::{Meter, now_ns};
use crate::payload::Payload;

/// Acks between two looks at the clock while warming up.
const ACKS_PER_LOOK: u64 = 64;

/// As many as go.
struct Const<P> {
    value: P,
    emitted: u64,
    acked: u64,
    meter: Meter,
    tally: Tallied,
}

impl<P: Payload> Spout for Const<P> {
    type Out = Stream<P>;

    #[inline]
    fn next(&mut self, out: &mut Stream<P>) -> Result<Next, SpoutError> {
        self.emitted += 1;
        self.value.emit_with_id(self.emitted, out);
        Ok(Next::Emitted)
    }

    #[inline]
    fn ack(&mut self, _: MessageId) -> Result<(), SpoutError> {
        self.acked += 1;
        if self.acked.is_multiple_of(ACKS_PER_LOOK) {
            self.meter.batch(self.acked);
        }
        Ok(())
    }

    fn deactivate(&mut self) {
        // What is pending now is not counted: it is acknowledged without new tuples beside it.
        let rate = self.meter.rate(self.acked, now_ns());
        self.tally.note(|t| t.rate = rate);
    }

    fn cleanup(&mut self) {
        self.tally.note(|t| {
            t.emitted += self.emitted;
            t.acked = Some(t.acked.unwrap_or(0) + self.acked);
        });
    }
}

/// One in flight.
struct Ping<P> {
    value: P,
    emitted: u64,
    acked: u64,
    emitted_ns: u64,
    warmup_ns: u64,
    measure_from_ns: u64,
    latency: Histogram,
    tally: Tallied,
}

impl<P: Payload> Spout for Ping<P> {
    type Out = Stream<P>;

    fn prepare(&mut self, _: &Context) -> Result<(), SpoutError> {
        self.measure_from_ns = now_ns() + self.warmup_ns;
        Ok(())
    }

    #[inline]
    fn next(&mut self, out: &mut Stream<P>) -> Result<Next, SpoutError> {
        if self.acked != self.emitted {
            return Ok(Next::Idle);
        }
        self.emitted += 1;
        self.emitted_ns = now_ns();
        self.value.emit_with_id(self.emitted, out);
        Ok(Next::Emitted)
    }

    #[inline]
    fn ack(&mut self, _: MessageId) -> Result<(), SpoutError> {
        let now = now_ns();
        self.acked += 1;
        if self.emitted_ns >= self.measure_from_ns {
            self.latency.record(now - self.emitted_ns);
        }
        Ok(())
    }

    fn cleanup(&mut self) {
        self.tally.note(|t| {
            t.emitted += self.emitted;
            t.acked = Some(self.acked);
            t.latency = (!self.latency.is_empty()).then(|| self.latency.clone());
        });
    }
}

fn constants<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> SpoutDecl<Stream<P>> {
    let (tally, warmup_ns) = (tally.clone(), job.warmup_ns);
    t.spout("const", move || Const {
        value: P::constant(),
        emitted: 0,
        acked: 0,
        meter: Meter::new(warmup_ns),
        tally: tally.clone(),
    })
}

/// const-null-acked: const → null.
pub(super) fn one_way<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let nulls = tally.clone();
    let constants = constants::<P>(t, job, tally);
    let _ = t.bolt("null", move || Null::<P>::counting(nulls.clone())).on(constants.shuffle());
    vec![("const", 0), ("null", job.other_reactor())]
}

/// const-id-null-acked: const → id → null, each hop over the link.
pub(super) fn through_id<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let nulls = tally.clone();
    let constants = constants::<P>(t, job, tally);
    let passed_on = t.bolt("id", Id::<P>::new).on(constants.shuffle());
    let _ = t.bolt("null", move || Null::<P>::counting(nulls.clone())).on(passed_on.shuffle());
    vec![("const", 0), ("id", job.other_reactor()), ("null", 0)]
}

/// rtt-acked: ping → null.
pub(super) fn rtt<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (pings, nulls, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let ping = move || Ping {
        value: P::constant(),
        emitted: 0,
        acked: 0,
        emitted_ns: 0,
        warmup_ns,
        measure_from_ns: 0,
        latency: Histogram::new(),
        tally: pings.clone(),
    };
    let ping = t.spout("ping", ping);
    let _ = t.bolt("null", move || Null::<P>::counting(nulls.clone())).on(ping.shuffle());
    vec![("ping", 0), ("null", job.other_reactor())]
}
