//! From a scenario to a topology, through the builder that authors use.

use std::sync::Arc;
use std::time::Duration;

use squall::{BoltDecl, Built, Row, SpoutDecl, Stream, TaskHook, TaskId, Topology};
use squall_engine::Registry;
use squall_topology::{Machine, Plan, ShmUse};
use squall_tuple::ids::StreamIx;

use crate::bolt::{SimBolt, SimIn};
use crate::outputs::{AnySub, SimOut};
use crate::scenario::*;
use crate::spout::SimSpout;
use crate::tuples::{Any, Item, Many};
use crate::world::World;

/// A declared component, whatever its types.
trait Declared {
    fn output(&self, stream: usize, grouping: GroupScript, name: &str) -> AnySub;
    fn subscribe(self: Box<Self>, port: u16, sub: AnySub) -> Box<dyn Declared>;
}

impl<O: SimOut> Declared for SpoutDecl<O> {
    fn output(&self, stream: usize, grouping: GroupScript, name: &str) -> AnySub {
        O::subscribe(self, stream, grouping, name)
    }

    fn subscribe(self: Box<Self>, _: u16, _: AnySub) -> Box<dyn Declared> {
        unreachable!("a spout has no input")
    }
}

impl<I: SimIn, O: SimOut> Declared for BoltDecl<SimBolt<I, O>> {
    fn output(&self, stream: usize, grouping: GroupScript, name: &str) -> AnySub {
        O::subscribe(self, stream, grouping, name)
    }

    fn subscribe(self: Box<Self>, port: u16, sub: AnySub) -> Box<dyn Declared> {
        Box::new(I::subscribe(*self, port, sub))
    }
}

/// Tells the world what the engine tells a hook.
struct SimHook;

impl TaskHook for SimHook {
    fn prepare(&mut self, _: &str, task: TaskId) {
        World::current().hook(task, |log| log.hook_prepares += 1);
    }

    fn on_emit(&mut self, task: TaskId, stream: StreamIx, targets: &mut dyn Iterator<Item = TaskId>) {
        World::current().hook_emit(task, stream, targets.collect());
    }

    fn on_execute(&mut self, task: TaskId, _: StreamIx, _: TaskId) {
        World::current().hook(task, |log| log.hook_executes += 1);
    }

    fn on_ack(&mut self, task: TaskId) {
        World::current().hook(task, |log| log.hook_acks += 1);
    }

    fn on_fail(&mut self, task: TaskId, _: &str) {
        World::current().hook(task, |log| log.hook_fails += 1);
    }
}

macro_rules! place {
    ($decl:expr, $script:expr) => {{
        let mut decl = $decl.tasks($script.tasks).executors($script.executors);
        if $script.side {
            decl = decl.side_thread();
        }
        if let Some((ms, _)) = $script.ticks {
            decl = decl.tick_every(Duration::from_millis(ms));
        }
        if let Some(bytes) = $script.burst_bytes {
            decl = decl.burst_bytes(bytes);
        }
        if $script.hooked {
            decl = decl.hook(|| SimHook);
        }
        O::name_rows(&decl);
        Box::new(decl)
    }};
}

fn spout<O: SimOut>(t: &Topology, script: &Arc<ComponentScript>, spout: SpoutScript) -> Box<dyn Declared> {
    let mine = script.clone();
    place!(t.spout(&script.name, move || SimSpout::<O>::new(mine.clone(), spout)), script)
}

fn bolt<I: SimIn, O: SimOut>(t: &Topology, script: &Arc<ComponentScript>, bolt: BoltScript) -> Box<dyn Declared> {
    let mine = script.clone();
    place!(t.bolt(&script.name, move || SimBolt::<I, O>::new(mine.clone(), bolt)), script)
}

fn declare(t: &Topology, script: &ComponentScript) -> Box<dyn Declared> {
    let script = Arc::new(script.clone());
    match (script.role.clone(), script.output) {
        (Role::Spout(s), OutputShape::Nothing) => spout::<()>(t, &script, s),
        (Role::Spout(s), OutputShape::Items) => spout::<Stream<Item>>(t, &script, s),
        (Role::Spout(s), OutputShape::Rows) => spout::<Stream<Row>>(t, &script, s),
        (Role::Spout(s), OutputShape::Many) => spout::<Many>(t, &script, s),
        (Role::Bolt(b), OutputShape::Nothing) => bolt_of::<()>(t, &script, b),
        (Role::Bolt(b), OutputShape::Items) => bolt_of::<Stream<Item>>(t, &script, b),
        (Role::Bolt(b), OutputShape::Rows) => bolt_of::<Stream<Row>>(t, &script, b),
        (Role::Bolt(b), OutputShape::Many) => bolt_of::<Many>(t, &script, b),
    }
}

fn bolt_of<O: SimOut>(t: &Topology, script: &Arc<ComponentScript>, b: BoltScript) -> Box<dyn Declared> {
    match b.input {
        InputShape::Items => bolt::<Item, O>(t, script, b),
        InputShape::Rows => bolt::<Row, O>(t, script, b),
        InputShape::Any => bolt::<Any, O>(t, script, b),
    }
}

/// Builds the plan and the code of a scenario.
///
/// # Errors
/// Everything that is wrong with the scenario, in the words of the builder.
pub(crate) fn build(scenario: &Scenario) -> Result<(Arc<Plan>, Arc<Registry>), String> {
    let t = Topology::new("sim");
    let sizes = &scenario.sizes;
    t.configure(|c| {
        c.workers = sizes.workers;
        c.reactors = Some(sizes.reactors);
        c.batch_bytes = sizes.batch_bytes;
        c.socket_batch_bytes = sizes.socket_batch_bytes;
        c.credit_bytes = sizes.credit_bytes;
        c.ring_bytes = u64::from(sizes.batch_bytes) * 4;
        c.max_tuple_bytes = sizes.max_tuple_bytes;
        c.key_groups = sizes.key_groups;
        let acking = sizes.acking;
        c.ackers = if acking.on { None } else { Some(0) };
        (c.message_timeout_ms, c.max_root_age_ms) = (acking.timeout_ms, acking.max_age_ms);
        c.max_spout_pending = acking.max_pending;
        // Who breaks without being told to is wrong.
        c.executor_restarts = if sizes.breaks == 0 { 0 } else { 1000 };
        // Never by repetition: the same contents may come to a task over several ways.
        c.dead_letter_after = if sizes.letters_at_once { 1 } else { 1000 };
        // Every third seed's workers share memory: a link that copies, returns credit at once and has the batches of a ring.
        c.shm = if scenario.seed % 3 == 2 { ShmUse::Auto } else { ShmUse::Off };
    });
    let mut declared: Vec<Option<Box<dyn Declared>>> =
        scenario.components.iter().map(|c| Some(declare(&t, c))).collect();
    for (at, sub) in scenario.subscriptions.iter().enumerate() {
        let source = declared[sub.from].as_ref().expect("put back");
        let mut any = source.output(sub.stream, sub.grouping, &format!("mask-{at}"));
        if sub.feedback {
            any = any.feedback();
        }
        let bolt = declared[sub.to].take().expect("put back");
        declared[sub.to] = Some(bolt.subscribe(sub.port, any));
    }
    drop(declared);
    let Built { spec, registry } = t.build().map_err(|e| e.to_string())?;
    let plan = Built { spec, registry: registry.clone() }.plan(&Machine::default()).map_err(|e| e.to_string())?;
    Ok((Arc::new(plan), registry))
}
