//! The simulator's spout: emits, idles, sleeps and parks by its script.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use squall::{Clock, Context, Failure, MessageId, Next, Spout, SpoutError, TaskId, Time, Waker};
use squall_tuple::ids::StreamIx;

use crate::dice::Dice;
use crate::outputs::{Form, SimOut, Tie, What};
use crate::scenario::{ComponentScript, SpoutScript};
use crate::world::{Purse, RootIx, World};

pub(crate) struct SimSpout<O> {
    script: Arc<ComponentScript>,
    spout: SpoutScript,
    place: Option<Place>,
    of: std::marker::PhantomData<fn(O)>,
}

/// What a task knows of itself once it is prepared.
struct Place {
    world: Rc<World>,
    task: TaskId,
    streams: Vec<StreamIx>,
    dice: Dice,
    clock: Clock,
    waker: Waker,
    left: Option<u32>,
    sleeps_until: Option<Time>,
    parked: bool,
    ended: bool,
}

impl Place {
    /// A root of its own ended: it is asked again if it is parked.
    fn wakes_up(&mut self) {
        if std::mem::take(&mut self.parked) {
            self.world.unparks(self.task);
        }
    }
}

impl<O: SimOut> SimSpout<O> {
    pub(crate) fn new(script: Arc<ComponentScript>, spout: SpoutScript) -> Self {
        SimSpout { script, spout, place: None, of: std::marker::PhantomData }
    }

    fn place(&mut self) -> &mut Place {
        self.place.as_mut().expect("`prepare` comes first")
    }

    /// Emits up to `count` tuples. Returns whether there was anything left to emit.
    fn emit(&mut self, count: u32, out: &mut O) -> bool {
        let (pads, ids) = (self.script.pads, self.spout.id_percent);
        let Place { world, task, streams, dice, .. } = self.place();
        for _ in 0..count {
            let Some(draft) = world.draft(dice, &pads, Purse::Spouts, 0) else { return false };
            let at = dice.below(streams.len() as u32) as usize;
            let targets = out.direct_targets(at);
            let direct = O::SHAPE.streams()[at] == crate::scenario::StreamKind::Direct;
            if direct && targets.is_empty() {
                continue;
            }
            let to = direct.then(|| dice.pick(&targets));
            let form = dice.pick(&[Form::Owned, Form::Twin]);
            let tie = if !direct && dice.percent(5) { Tie::Nothing } else { Tie::Input };
            let root = dice.percent(ids).then(|| world.begin_root(*task));
            world.emitting(*task, streams[at], draft, None, to);
            world.anchored(*task, streams[at], root.as_slice());
            out.send(at, What::New(draft, form), root.map_or(tie, Tie::Id), to);
        }
        true
    }

    /// Ends the executor now and then.
    fn may_break(&mut self) -> Result<(), SpoutError> {
        let permille = self.spout.break_permille;
        let Place { world, task, dice, .. } = self.place();
        if !world.breaks(*task, dice, permille) {
            return Ok(());
        }
        // An error would end the run: the source is gone.
        std::panic::resume_unwind(Box::new("the script says so"));
    }

    fn end(&mut self) -> Next {
        let place = self.place();
        place.ended = true;
        place.world.ended(place.task);
        Next::End
    }

    /// Called at the wrong time?
    fn check_called(&mut self) {
        let place = self.place();
        if place.sleeps_until.take().is_some_and(|t| place.clock.now() < t) {
            place.world.violate(format!("{} was called before it asked to wake", place.world.task_name(place.task)));
        }
        if std::mem::take(&mut place.parked) && place.world.is_parked(place.task) {
            place.world.violate(format!("{} was called while parked", place.world.task_name(place.task)));
        }
    }
}

impl<O: SimOut> Spout for SimSpout<O> {
    type Out = O;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let world = World::current();
        let task = ctx.task();
        world.prepared(task);
        let component = world.plan.component_of(task);
        self.place = Some(Place {
            task,
            streams: world.plan.streams_of(component).to_vec(),
            dice: Dice::new(world.scenario.seed, u64::from(world.lives(task)) << 32 | u64::from(task)),
            clock: ctx.clock(),
            waker: ctx.waker(),
            left: self.spout.tuples,
            sleeps_until: None,
            parked: false,
            ended: false,
            world,
        });
        if self.place().world.lives(task) > 1 { self.may_break() } else { Ok(()) }
    }

    fn next(&mut self, out: &mut O) -> Result<Next, SpoutError> {
        let script = self.spout;
        self.check_called();
        let place = self.place();
        place.world.called(place.task);
        if place.left == Some(0) {
            return Ok(self.end());
        }
        self.may_break()?;
        let place = self.place();
        if place.dice.percent(script.slow_percent) {
            place.world.clock.advance(place.dice.between_u64(1, script.slow_ns_max));
        }
        if place.dice.percent(script.idle_percent) {
            return Ok(Next::Idle);
        }
        if place.dice.percent(script.sleep_percent) {
            let until = place.clock.now() + Duration::from_nanos(place.dice.between_u64(0, script.sleep_ns_max));
            place.sleeps_until = Some(until);
            place.world.rests(place.task);
            return Ok(Next::WakeAt(until));
        }
        if place.dice.percent(script.park_percent) {
            place.world.rests(place.task);
            // A wake that comes before the task parks is not lost.
            if place.dice.percent(25) {
                place.world.tell(place.task);
                place.waker.wake();
            } else {
                place.parked = true;
                place.world.parks(place.task, place.waker.clone());
            }
            return Ok(Next::Parked);
        }
        let count = place.dice.between(1, script.per_call_max);
        let count = place.left.map_or(count, |left| count.min(left));
        place.left = place.left.map(|left| left - count);
        let last = place.left == Some(0);
        if !self.emit(count, out) {
            // The purse is empty: a bounded source ends, an endless one waits to be stopped.
            return Ok(if script.tuples.is_some() { self.end() } else { Next::Idle });
        }
        self.may_break()?;
        if last && script.emits_at_end {
            return Ok(self.end());
        }
        Ok(Next::Emitted)
    }

    fn tick(&mut self, out: &mut O) -> Result<(), SpoutError> {
        let place = self.place();
        place.world.tick(place.task);
        let percent = self.script.ticks.map_or(0, |(_, p)| p);
        if self.place().dice.percent(percent) {
            self.emit(1, out);
        }
        self.may_break()
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        let place = self.place();
        place.world.root_acked(place.task, id.as_u64() as RootIx);
        place.wakes_up();
        self.may_break()
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        let place = self.place();
        place.world.root_failed(place.task, id.as_u64() as RootIx, why);
        place.wakes_up();
        self.may_break()
    }

    fn deactivate(&mut self) {
        let place = self.place();
        place.ended = true;
        place.world.ended(place.task);
    }

    fn cleanup(&mut self) {
        let place = self.place();
        place.world.cleaned(place.task);
    }
}
