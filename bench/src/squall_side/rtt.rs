//! The round trip: spout → echo → pong, one tuple in flight. The pong bolt sits beside the spout and hands it the next
//! turn through a cell of their thread.

use std::cell::Cell;

use squall::{Bolt, BoltError, Context, Finish, Input, Next, Spout, SpoutError, Stream, Topology};
use squall_metrics::Histogram;

use super::stream::Id;
use super::{Job, Place, Tallied};
use crate::clock::now_ns;
use crate::payload::Payload;

/// Between a spout and a pong bolt on one thread.
struct Turn {
    spouts: Cell<bool>,
    emitted_ns: Cell<u64>,
}

thread_local! {
    static TURN: Turn = const { Turn { spouts: Cell::new(false), emitted_ns: Cell::new(0) } };
}

struct Ping<P> {
    value: P,
    emitted: u64,
    tally: Tallied,
}

impl<P: Payload> Spout for Ping<P> {
    type Out = Stream<P>;

    fn prepare(&mut self, _: &Context) -> Result<(), SpoutError> {
        TURN.with(|t| t.spouts.set(true));
        Ok(())
    }

    #[inline]
    fn next(&mut self, out: &mut Stream<P>) -> Result<Next, SpoutError> {
        TURN.with(|t| {
            if !t.spouts.replace(false) {
                return Ok(Next::Idle);
            }
            self.emitted += 1;
            t.emitted_ns.set(now_ns());
            self.value.emit(self.emitted, out);
            Ok(Next::Emitted)
        })
    }

    fn deactivate(&mut self) {
        self.tally.note(|t| t.emitted += self.emitted);
    }
}

struct Pong<P> {
    latency: Histogram,
    warmup_ns: u64,
    measure_from_ns: u64,
    executed: u64,
    tally: Tallied,
    of: std::marker::PhantomData<P>,
}

impl<P: Payload> Bolt for Pong<P> {
    type In = P;
    type Out = ();

    #[inline]
    fn execute(&mut self, input: Input<'_, P>, _: &mut ()) -> Result<(), BoltError> {
        P::touch(&input);
        let now = now_ns();
        self.executed += 1;
        TURN.with(|t| {
            let began = t.emitted_ns.get();
            if self.measure_from_ns == 0 {
                self.measure_from_ns = began + self.warmup_ns;
            }
            if began >= self.measure_from_ns {
                self.latency.record(now - began);
            }
            t.spouts.set(true);
        });
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        self.tally.note(|t| {
            t.executed += self.executed;
            t.latency = (!self.latency.is_empty()).then(|| self.latency.clone());
        });
        Ok(Finish::Done)
    }
}

pub(super) fn topology<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, pongs, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let ping = t.spout("ping", move || Ping { value: P::constant(), emitted: 0, tally: spouts.clone() });
    let echo = t.bolt("echo", Id::<P>::new).on(ping.shuffle());
    let pong = move || Pong::<P> {
        latency: Histogram::new(),
        warmup_ns,
        measure_from_ns: 0,
        executed: 0,
        tally: pongs.clone(),
        of: Default::default(),
    };
    let _ = t.bolt("pong", pong).on(echo.shuffle());
    vec![("ping", 0), ("echo", job.other_reactor()), ("pong", 0)]
}
