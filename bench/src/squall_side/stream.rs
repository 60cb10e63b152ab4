//! One way, as much as goes: a spout of constant tuples into a bolt that reads them (storm-perf's ConstSpoutNullBolt).

use std::hint::black_box;

use squall::{
    Bolt, BoltError, Finish, Input, Next, Row, RowRef, Spout, SpoutError, Stream, StreamHandle, Topology, ValueRef,
};

use super::{Job, Place, Tallied};
use crate::clock::{Meter, now_ns};
use crate::payload::Payload;

struct Const<P> {
    value: P,
    emitted: u64,
    tally: Tallied,
}

impl<P: Payload> Spout for Const<P> {
    type Out = Stream<P>;

    #[inline]
    fn next(&mut self, out: &mut Stream<P>) -> Result<Next, SpoutError> {
        self.emitted += 1;
        self.value.emit(self.emitted, out);
        Ok(Next::Emitted)
    }

    fn deactivate(&mut self) {
        self.tally.note(|t| t.emitted += self.emitted);
    }
}

/// Reads each tuple and counts it.
struct Null<P> {
    executed: u64,
    meter: Meter,
    tally: Tallied,
    of: std::marker::PhantomData<P>,
}

impl<P> Null<P> {
    fn new(warmup_ns: u64, tally: Tallied) -> Self {
        Null { executed: 0, meter: Meter::new(warmup_ns), tally, of: Default::default() }
    }

    fn end(&mut self) {
        let rate = self.meter.rate(self.executed, now_ns());
        self.tally.note(|t| {
            t.executed += self.executed;
            t.rate = rate;
        });
    }
}

impl<P: Payload> Bolt for Null<P> {
    type In = P;
    type Out = ();

    #[inline]
    fn execute(&mut self, input: Input<'_, P>, _: &mut ()) -> Result<(), BoltError> {
        P::touch(&input);
        self.executed += 1;
        Ok(())
    }

    fn batch_end(&mut self, _: &mut ()) -> Result<(), BoltError> {
        self.meter.batch(self.executed);
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        self.end();
        Ok(Finish::Done)
    }
}

pub(super) fn topology<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, nulls, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let constants = t.spout("const", move || Const { value: P::constant(), emitted: 0, tally: spouts.clone() });
    let _ = t.bolt("null", move || Null::<P>::new(warmup_ns, nulls.clone())).on(constants.shuffle());
    vec![("const", 0), ("null", job.other_reactor())]
}

struct ConstRows {
    emitted: u64,
    tally: Tallied,
}

impl Spout for ConstRows {
    type Out = Stream<Row>;

    #[inline]
    fn next(&mut self, out: &mut Stream<Row>) -> Result<Next, SpoutError> {
        self.emitted += 1;
        out.emit(RowRef(&[
            ValueRef::I64(self.emitted as i64),
            ValueRef::I64(42),
            ValueRef::F64(0.5),
            ValueRef::Bool(true),
            ValueRef::Str("squalls!"),
        ]));
        Ok(Next::Emitted)
    }

    fn deactivate(&mut self) {
        self.tally.note(|t| t.emitted += self.emitted);
    }
}

struct NullRows(Null<Row>);

impl Bolt for NullRows {
    type In = Row;
    type Out = ();

    #[inline]
    fn execute(&mut self, input: Input<'_, Row>, _: &mut ()) -> Result<(), BoltError> {
        if let [a, b, c, d, e] = input.get().values() {
            black_box((a.as_i64(), b.as_i64(), c.as_f64(), d.scalar(), e.as_str()));
            self.0.executed += 1;
        }
        Ok(())
    }

    fn batch_end(&mut self, _: &mut ()) -> Result<(), BoltError> {
        self.0.meter.batch(self.0.executed);
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        self.0.end();
        Ok(Finish::Done)
    }
}

/// The same with rows of five values.
pub(super) fn rows(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, nulls, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let constants = t.spout("const", move || ConstRows { emitted: 0, tally: spouts.clone() });
    let constants: StreamHandle<Row> = constants.streams().named(["n", "k", "x", "on", "text"]);
    let _ = t.bolt("null", move || NullRows(Null::new(warmup_ns, nulls.clone()))).on(constants.shuffle());
    vec![("const", 0), ("null", job.other_reactor())]
}
