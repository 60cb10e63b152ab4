//! The simulator's bolt: executes, emits, keeps, fails and takes its time by its script.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use squall::{Anchor, Bolt, BoltDecl, BoltError, Context, Finish, Input, Inputs, Row, TaskId};
use squall_tuple::ids::StreamIx;

use crate::dice::Dice;
use crate::outputs::{AnySub, Form, SimOut, Tie, What};
use crate::scenario::{BoltScript, ComponentScript, Settle, StreamKind};
use crate::tuples::{Any, AnyRef, Arrived, Draft, Item};
use crate::world::{Purse, RootIx, World};

/// The inputs of a bolt of the simulator.
pub(crate) trait SimIn: Inputs {
    /// The tuple in a view.
    fn arrived(view: Self::View<'_>) -> Arrived<'_>;

    /// Whether the owned tuple is this one.
    fn is(&self, draft: &Draft) -> bool;

    /// Subscribes a port.
    fn subscribe<O: SimOut>(decl: BoltDecl<SimBolt<Self, O>>, port: u16, sub: AnySub) -> BoltDecl<SimBolt<Self, O>>;
}

fn is_row(row: &Row, draft: &Draft) -> bool {
    row.0.len() == 5 && row.0[0] == squall::Value::I64(draft.id as i64)
}

impl SimIn for Item {
    fn arrived(view: Self::View<'_>) -> Arrived<'_> {
        Arrived::Item(view)
    }

    fn is(&self, draft: &Draft) -> bool {
        *self == draft.item()
    }

    fn subscribe<O: SimOut>(decl: BoltDecl<SimBolt<Self, O>>, _: u16, sub: AnySub) -> BoltDecl<SimBolt<Self, O>> {
        match sub {
            AnySub::Items(sub) => decl.on(sub),
            AnySub::Rows(_) => unreachable!("a typed bolt does not read rows"),
        }
    }
}

impl SimIn for Row {
    fn arrived(view: Self::View<'_>) -> Arrived<'_> {
        Arrived::Row(view)
    }

    fn is(&self, draft: &Draft) -> bool {
        is_row(self, draft)
    }

    fn subscribe<O: SimOut>(decl: BoltDecl<SimBolt<Self, O>>, _: u16, sub: AnySub) -> BoltDecl<SimBolt<Self, O>> {
        match sub {
            AnySub::Rows(sub) => decl.on(sub),
            AnySub::Items(_) => unreachable!("a bolt of rows does not read typed tuples"),
        }
    }
}

impl SimIn for Any {
    fn arrived(view: Self::View<'_>) -> Arrived<'_> {
        match view {
            AnyRef::Left(item) | AnyRef::Right(item) => Arrived::Item(item),
            AnyRef::Rows(row) => Arrived::Row(row),
        }
    }

    fn is(&self, draft: &Draft) -> bool {
        match self {
            Any::Left(item) | Any::Right(item) => *item == draft.item(),
            Any::Rows(row) => is_row(row, draft),
        }
    }

    fn subscribe<O: SimOut>(decl: BoltDecl<SimBolt<Self, O>>, port: u16, sub: AnySub) -> BoltDecl<SimBolt<Self, O>> {
        match (sub, port) {
            (AnySub::Items(sub), 0) => decl.on_port(Any::ON_LEFT, sub),
            (AnySub::Items(sub), _) => decl.on_port(Any::ON_RIGHT, sub),
            (AnySub::Rows(sub), _) => decl.on(sub),
        }
    }
}

pub(crate) struct SimBolt<I, O> {
    script: Arc<ComponentScript>,
    bolt: BoltScript,
    place: Option<Place>,
    of: std::marker::PhantomData<fn(I, O)>,
}

struct Place {
    world: Rc<World>,
    task: TaskId,
    streams: Vec<StreamIx>,
    dice: Dice,
    kept: VecDeque<(Anchor, Vec<RootIx>)>,
    /// Trees of the tuple being executed, until it is kept.
    input: Vec<RootIx>,
    finish_left: u32,
    pauses_left: u32,
}

impl Place {
    /// Ends the oldest kept tuple: most well, some badly, some by forgetting them.
    fn settle_one(&mut self, script: &BoltScript) {
        let Some((anchor, roots)) = self.kept.pop_front() else { return };
        let fails = self.dice.percent(script.fail_percent);
        self.world.settled(self.task, !fails);
        self.world.end_delivery(&roots, !fails);
        match (fails, self.dice.percent(50)) {
            (false, _) => anchor.ack(),
            (true, true) => anchor.fail("the script says so"),
            (true, false) => drop(anchor),
        }
    }

    fn settle_all(&mut self, script: &BoltScript) {
        while !self.kept.is_empty() {
            self.settle_one(script);
        }
    }
}

impl Drop for Place {
    /// An instance that is thrown away takes its kept tuples with it.
    fn drop(&mut self) {
        for (_, roots) in &self.kept {
            self.world.settled(self.task, false);
            self.world.end_delivery(roots, false);
        }
    }
}

/// Where an emit comes from, and so what it may be.
#[derive(Clone, Copy)]
struct Cause<'a> {
    purse: Purse,
    /// The input, if it may be passed on.
    forward: Option<(Draft, Arrived<'a>)>,
    origin_ns: Option<u64>,
    depth: u32,
}

impl<I: SimIn, O: SimOut> SimBolt<I, O> {
    pub(crate) fn new(script: Arc<ComponentScript>, bolt: BoltScript) -> Self {
        SimBolt { script, bolt, place: None, of: std::marker::PhantomData }
    }

    fn place(&mut self) -> &mut Place {
        self.place.as_mut().expect("`prepare` comes first")
    }

    /// Ends the executor now and then, in either way. `input`: the trees of the tuple being executed, unless it was kept.
    fn may_break(&mut self, input: Option<&[RootIx]>) -> Result<(), BoltError> {
        let permille = self.bolt.break_permille;
        let Place { world, task, dice, .. } = self.place();
        if !world.breaks(*task, dice, permille) {
            return Ok(());
        }
        if let Some(roots) = input {
            world.tuple_breaks(*task, roots);
        }
        if dice.percent(50) {
            std::panic::resume_unwind(Box::new("the script says so"));
        }
        Err(BoltError::fatal("the script says so"))
    }

    /// Emits one tuple on a random stream, if the purse allows.
    fn emit(&mut self, out: &mut O, cause: Cause<'_>, tie: Tie<'_>) {
        let roots = if matches!(tie, Tie::Input) { self.place().input.clone() } else { Vec::new() };
        self.emit_to(out, cause, tie, &roots);
    }

    /// The same, for what belongs to these trees.
    fn emit_to(&mut self, out: &mut O, cause: Cause<'_>, tie: Tie<'_>, roots: &[RootIx]) {
        let (bolt, pads) = (self.bolt, self.script.pads);
        let Place { world, task, streams, dice, input, .. } = self.place();
        let place_input = input.clone();
        if streams.is_empty() {
            return;
        }
        let at = dice.below(streams.len() as u32) as usize;
        let kind = O::SHAPE.streams()[at];
        let direct = kind == StreamKind::Direct;
        let targets = out.direct_targets(at);
        if direct && targets.is_empty() {
            return;
        }
        let fits = |a: &Arrived<'_>| a.is_row() == (kind == StreamKind::Rows);
        let forward = cause.forward.filter(|(_, a)| fits(a) && dice.percent(bolt.forward_percent));
        let (draft, what) = match forward.filter(|(draft, _)| world.may_forward(*task, streams[at], draft.id)) {
            Some((draft, arrived)) => (draft, What::Forward(arrived)),
            None => {
                let Some(draft) = world.draft(dice, &pads, cause.purse, cause.depth) else { return };
                (draft, What::New(draft, dice.pick(&[Form::Owned, Form::Twin])))
            }
        };
        let to = direct.then(|| dice.pick(&targets));
        world.emitting(*task, streams[at], draft, cause.origin_ns, to);
        // A direct stream knows no anchors but the input.
        let roots = if direct && !matches!(tie, Tie::Input) { &place_input[..] } else { roots };
        world.anchored(*task, streams[at], roots);
        out.send(at, what, tie, to);
    }

    /// Tuples to emit for one input.
    fn fan_out(&mut self, depth: u32) -> u32 {
        let bolt = self.bolt;
        let dice = &mut self.place().dice;
        if depth >= bolt.depth_max || dice.percent(bolt.none_percent) {
            0
        } else if dice.percent(bolt.burst_percent) {
            dice.between(2, bolt.burst_max.max(2))
        } else {
            dice.pick(&[1, 1, 1, 2])
        }
    }

    fn keep(&mut self, input: Input<'_, I>, draft: &Draft, out: &mut O, cause: Cause<'_>) {
        let (owned, anchor) = input.keep();
        let place = self.place();
        let roots = std::mem::take(&mut place.input);
        place.world.kept(place.task);
        if !owned.is(draft) {
            let task = place.world.task_name(place.task);
            place.world.violate(format!("{task} kept {draft:?} and got another tuple"));
        }
        if place.dice.percent(30) {
            self.emit_to(out, Cause { forward: None, ..cause }, Tie::Kept(&[&anchor]), &roots);
        }
        if self.place().dice.percent(20) {
            self.join(&anchor, &roots, out, cause);
        }
        if self.place().dice.percent(10) {
            anchor.reset_timeout();
            let place = self.place();
            place.world.tell(place.task);
        }
        let elsewhere = self.bolt.settle == Settle::Elsewhere;
        let place = self.place();
        if elsewhere {
            place.world.set_adrift(place.task, anchor, roots);
        } else {
            place.kept.push_back((anchor, roots));
        }
    }

    /// Emits one tuple anchored to a few kept ones, as a join does, some of them twice.
    fn join(&mut self, anchor: &Anchor, roots: &[RootIx], out: &mut O, cause: Cause<'_>) {
        let kept = std::mem::take(&mut self.place().kept);
        let count = self.place().dice.between(1, 4) as usize;
        let mut anchors = vec![anchor];
        let mut all = roots.to_vec();
        for (anchor, roots) in kept.iter().take(count) {
            anchors.push(anchor);
            all.extend(roots);
        }
        if self.place().dice.percent(20) {
            anchors.push(anchor);
            all.extend(roots);
        }
        self.emit_to(out, Cause { forward: None, ..cause }, Tie::Kept(&anchors), &all);
        self.place().kept = kept;
    }
}

impl<I: SimIn, O: SimOut> Bolt for SimBolt<I, O> {
    type In = I;
    type Out = O;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        let world = World::current();
        let task = ctx.task();
        world.prepared(task);
        let component = world.plan.component_of(task);
        self.place = Some(Place {
            task,
            streams: world.plan.streams_of(component).to_vec(),
            dice: Dice::new(world.scenario.seed, u64::from(world.lives(task)) << 32 | u64::from(task)),
            kept: VecDeque::new(),
            input: Vec::new(),
            finish_left: self.bolt.finish_tuples,
            pauses_left: self.bolt.finish_pauses,
            world,
        });
        if self.place().world.lives(task) > 1 { self.may_break(None) } else { Ok(()) }
    }

    fn execute(&mut self, input: Input<'_, I>, out: &mut O) -> Result<(), BoltError> {
        let bolt = self.bolt;
        let place = self.place();
        let origin_ns = input.origin().as_nanos();
        let arrived = I::arrived(input.view());
        let draft = place.world.executed(place.task, input.stream(), input.source(), origin_ns, arrived);
        let Some(draft) = draft else { return Ok(()) };
        place.input = place.world.roots_of(input.stream(), input.source(), draft.id);
        place.world.in_batch(place.task, &place.input);
        if place.dice.percent(bolt.slow_percent) {
            place.world.clock.advance(place.dice.between_u64(1, bolt.slow_ns_max));
        }
        if bolt.settle == Settle::Soon && place.dice.percent(60) {
            place.settle_one(&bolt);
        }
        let input_roots = place.input.clone();
        self.may_break(Some(&input_roots))?;
        let depth = draft.depth + 1;
        let cause = Cause { purse: Purse::Bolts, forward: Some((draft, arrived)), origin_ns: Some(origin_ns), depth };
        for _ in 0..self.fan_out(draft.depth) {
            let tie = if self.place().dice.percent(5) { Tie::Nothing } else { Tie::Input };
            self.emit(out, cause, tie);
        }
        let kept = self.place().dice.percent(bolt.keep_percent);
        if kept {
            self.keep(input, &draft, out, cause);
        }
        self.may_break((!kept).then_some(&input_roots))?;
        let place = self.place();
        let fails = place.dice.percent(bolt.fail_percent);
        // The end of a kept tuple is its anchor's, whatever the call returns.
        let roots = std::mem::take(&mut place.input);
        if !kept {
            place.world.end_delivery(&roots, !fails);
        }
        if fails {
            if !kept {
                place.world.failed(place.task);
            }
            return Err(BoltError::fail("the script says so"));
        }
        Ok(())
    }

    fn dead_letter(&mut self, input: Input<'_, I>, _: &str, out: &mut O) -> Result<bool, BoltError> {
        let bolt = self.bolt;
        let origin_ns = input.origin().as_nanos();
        let Some(draft) = I::arrived(input.view()).draft() else { return Ok(false) };
        let place = self.place();
        place.input = place.world.roots_of(input.stream(), input.source(), draft.id);
        if bolt.letters && place.dice.percent(50) {
            let depth = draft.depth + 1;
            let cause = Cause { purse: Purse::Bolts, forward: None, origin_ns: Some(origin_ns), depth };
            self.emit(out, cause, Tie::Input);
        }
        let place = self.place();
        let roots = std::mem::take(&mut place.input);
        place.world.letter(place.task, &roots, bolt.letters);
        Ok(bolt.letters)
    }

    fn batch_end(&mut self, out: &mut O) -> Result<(), BoltError> {
        let place = self.place();
        place.world.batch_ends(place.task);
        self.may_break(None)?;
        let percent = self.bolt.batch_end_percent;
        let place = self.place();
        place.world.batch_end(place.task);
        if place.dice.percent(percent) {
            self.emit(out, Cause { purse: Purse::Bolts, forward: None, origin_ns: None, depth: 1 }, Tie::Input);
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut O) -> Result<(), BoltError> {
        self.may_break(None)?;
        let (bolt, percent) = (self.bolt, self.script.ticks.map_or(0, |(_, p)| p));
        let place = self.place();
        place.world.tick(place.task);
        if bolt.settle == Settle::Tick {
            place.settle_all(&bolt);
        }
        if place.dice.percent(percent) {
            self.emit(out, Cause { purse: Purse::Bolts, forward: None, origin_ns: None, depth: 1 }, Tie::Input);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut O) -> Result<Finish, BoltError> {
        self.may_break(None)?;
        let bolt = self.bolt;
        let place = self.place();
        place.world.finishing(place.task);
        if place.pauses_left > 0 && place.dice.percent(50) {
            place.pauses_left -= 1;
            return Ok(Finish::More);
        }
        let count = bolt.finish_per_call.min(place.finish_left);
        place.finish_left -= count;
        for _ in 0..count {
            self.emit(out, Cause { purse: Purse::Finish, forward: None, origin_ns: None, depth: 1 }, Tie::Input);
        }
        let place = self.place();
        if place.finish_left > 0 || place.pauses_left > 0 {
            return Ok(Finish::More);
        }
        if place.world.has_adrift(place.task) {
            return Ok(Finish::More);
        }
        if bolt.settle != Settle::Cleanup {
            place.settle_all(&bolt);
        }
        place.world.ended(place.task);
        Ok(Finish::Done)
    }

    fn cleanup(&mut self) {
        let bolt = self.bolt;
        let place = self.place();
        place.settle_all(&bolt);
        place.world.cleaned(place.task);
    }
}
