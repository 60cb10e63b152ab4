//! One way, as much as goes: a spout of constant tuples into a bolt that reads them (storm-perf's ConstSpoutNullBolt), and
//! what is made of those two: through a bolt that passes on, in small batches, to many tasks.

use std::hint::black_box;

use squall::{
    Bolt, BoltError, Finish, Input, Next, Row, RowRef, Spout, SpoutError, Stream, StreamHandle, Topology, ValueRef,
};

use super::{FANOUT_TASKS, Job, Place, Tallied};
use crate::clock::{Meter, now_ns};
use crate::payload::Payload;

pub(super) struct Const<P> {
    value: P,
    emitted: u64,
    tally: Tallied,
}

impl<P: Payload> Const<P> {
    fn new(tally: Tallied) -> Self {
        Const { value: P::constant(), emitted: 0, tally }
    }
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

/// Sends each tuple on unchanged.
pub(super) struct Id<P>(std::marker::PhantomData<P>);

impl<P> Id<P> {
    pub(super) fn new() -> Self {
        Id(std::marker::PhantomData)
    }
}

impl<P: Payload> Bolt for Id<P> {
    type In = P;
    type Out = Stream<P>;

    #[inline]
    fn execute(&mut self, input: Input<'_, P>, out: &mut Stream<P>) -> Result<(), BoltError> {
        out.emit(input.view());
        Ok(())
    }
}

/// Reads each tuple and counts it.
pub(super) struct Null<P> {
    executed: u64,
    /// Where the rate is measured here.
    meter: Option<Meter>,
    tally: Tallied,
    of: std::marker::PhantomData<P>,
}

impl<P> Null<P> {
    fn new(warmup_ns: u64, tally: Tallied) -> Self {
        Null { meter: Some(Meter::new(warmup_ns)), ..Null::counting(tally) }
    }

    /// Leaves the rate to the spout.
    pub(super) fn counting(tally: Tallied) -> Self {
        Null { executed: 0, meter: None, tally, of: Default::default() }
    }

    fn batch(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.batch(self.executed);
        }
    }

    fn end(&mut self) {
        let now_ns = now_ns();
        self.tally.note(|t| {
            t.executed += self.executed;
            // Of several tasks each gets every tuple: one rate is as good as the other.
            if let Some(meter) = &self.meter {
                t.rate = meter.rate(self.executed, now_ns);
            }
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
        self.batch();
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        self.end();
        Ok(Finish::Done)
    }
}

/// const-null and small-batches: const → null.
pub(super) fn one_way<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, nulls, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let constants = t.spout("const", move || Const::<P>::new(spouts.clone()));
    let _ = t.bolt("null", move || Null::<P>::new(warmup_ns, nulls.clone())).on(constants.shuffle());
    vec![("const", 0), ("null", job.other_reactor())]
}

/// const-id-null: const → id → null, each hop over the link.
pub(super) fn through_id<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, nulls, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let constants = t.spout("const", move || Const::<P>::new(spouts.clone()));
    let passed_on = t.bolt("id", Id::<P>::new).on(constants.shuffle());
    let _ = t.bolt("null", move || Null::<P>::new(warmup_ns, nulls.clone())).on(passed_on.shuffle());
    vec![("const", 0), ("id", job.other_reactor()), ("null", 0)]
}

/// fanout-all: const → all tasks of null, in one executor so that one reactor has them all.
pub(super) fn to_all<P: Payload>(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, nulls, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let constants = t.spout("const", move || Const::<P>::new(spouts.clone()));
    let null = move || Null::<P>::new(warmup_ns, nulls.clone());
    let _ = t.bolt("null", null).tasks(FANOUT_TASKS).executors(1).on(constants.all());
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
        self.0.batch();
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        self.0.end();
        Ok(Finish::Done)
    }
}

/// const-null with rows of five values.
pub(super) fn rows(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, nulls, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let constants = t.spout("const", move || ConstRows { emitted: 0, tally: spouts.clone() });
    let constants: StreamHandle<Row> = constants.streams().named(["n", "k", "x", "on", "text"]);
    let _ = t.bolt("null", move || NullRows(Null::new(warmup_ns, nulls.clone()))).on(constants.shuffle());
    vec![("const", 0), ("null", job.other_reactor())]
}
