//! A topology that has nothing to do until another process stamps its memory and rings its reactor's doorbell.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall::{Context, Next, Spout, SpoutError, Stream, Topology};

use super::stamped::{Sink, Stamped};
use super::{Job, Place, Tallied};
use crate::error::BenchError;
use crate::inject::{Injector, Ring, Stamps};

/// What wakes the spout: its memory and its reactor's doorbell.
struct Armed {
    memory: OwnedFd,
    doorbell: OwnedFd,
}

/// From the spout to the main thread, which starts the injector once the topology runs.
#[derive(Clone, Default)]
pub(super) struct Alarm(Arc<Mutex<Option<Armed>>>);

impl Alarm {
    fn slot(&self) -> MutexGuard<'_, Option<Armed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the process that breaks the silence, if this worker has a spout that waits for it.
    pub(super) fn arm(&self, job: &Job) -> Result<Option<Injector>, BenchError> {
        let Some(Armed { memory, doorbell }) = self.slot().take() else { return Ok(None) };
        let core = *job.cores.last().ok_or(BenchError::Cores(0))?;
        Injector::start(memory, Ring::Doorbell(doorbell), job.silence, core).map(Some)
    }
}

struct Dozing {
    alarm: Alarm,
    stamps: Option<Stamps>,
    seen: u64,
    emitted: u64,
    tally: Tallied,
}

impl Spout for Dozing {
    type Out = Stream<Stamped>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let (stamps, memory) = Stamps::create()?;
        self.stamps = Some(stamps);
        *self.alarm.slot() = Some(Armed { memory, doorbell: ctx.doorbell()? });
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Stamped>) -> Result<Next, SpoutError> {
        let Some(stamps) = &self.stamps else { return Ok(Next::End) };
        let Some((n, at_ns)) = stamps.next(self.seen) else { return Ok(Next::Parked) };
        self.seen = n;
        self.emitted += 1;
        out.emit(Stamped { n, at_ns, due_ns: 0, rest: 0 });
        stamps.taken(n);
        Ok(Next::Emitted)
    }

    fn deactivate(&mut self) {
        self.tally.note(|t| t.emitted += self.emitted);
    }
}

pub(super) fn topology(t: &Topology, job: &Job, tally: &Tallied, alarm: &Alarm) -> Vec<Place> {
    let (spouts, sinks, alarm) = (tally.clone(), tally.clone(), alarm.clone());
    let dozing = move || Dozing { alarm: alarm.clone(), stamps: None, seen: 0, emitted: 0, tally: spouts.clone() };
    let dozing = t.spout("dozing", dozing);
    // No warm-up: a figure a tenth of a second, each after the same silence.
    let _ = t.bolt("sink", move || Sink::new(0, sinks.clone())).on(dozing.shuffle());
    vec![("dozing", 0), ("sink", job.other_reactor())]
}
