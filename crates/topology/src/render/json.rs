//! The plan as JSON, for programs: names instead of indices wherever a reader would look them up.

use serde::Serialize;

use super::grouping;
use crate::memory::MemoryPlan;
use crate::plan::{LinkKind, Plan};
use crate::spec::{ComponentKind, Placement, TopologyConfig};

#[derive(Serialize)]
struct PlanJson<'a> {
    topology: &'a str,
    /// A string: readers of JSON round numbers beyond 2^53.
    hash: String,
    components: Vec<ComponentJson<'a>>,
    streams: Vec<StreamJson<'a>>,
    workers: Vec<WorkerJson<'a>>,
    links: Vec<LinkJson>,
    config: &'a TopologyConfig,
    memory_bytes: &'a MemoryPlan,
}

#[derive(Serialize)]
struct ComponentJson<'a> {
    name: &'a str,
    kind: ComponentKind,
    first_task: u32,
    tasks: u32,
    executors: u32,
    placement: Placement,
    tick_ms: Option<u64>,
    burst_bytes: u64,
    /// Of a spout: nothing is lost when its own worker dies.
    reliable: bool,
}

#[derive(Serialize)]
struct StreamJson<'a> {
    component: &'a str,
    name: &'a str,
    direct: bool,
    tuple: &'a str,
    dynamic: bool,
    fields: Vec<FieldJson<'a>>,
    schema_id: String,
    read_by: Vec<ReaderJson<'a>>,
}

#[derive(Serialize)]
struct FieldJson<'a> {
    name: &'a str,
    r#type: &'a str,
}

#[derive(Serialize)]
struct ReaderJson<'a> {
    component: &'a str,
    port: u16,
    grouping: String,
    feedback: bool,
}

#[derive(Serialize)]
struct WorkerJson<'a> {
    worker: usize,
    reactors: Vec<ReactorJson<'a>>,
}

#[derive(Serialize)]
struct ReactorJson<'a> {
    reactor: u32,
    core: Option<usize>,
    side: bool,
    executors: Vec<ExecutorJson<'a>>,
}

#[derive(Serialize)]
struct ExecutorJson<'a> {
    executor: u32,
    component: &'a str,
    first_task: u32,
    tasks: u32,
}

#[derive(Serialize)]
struct LinkJson {
    from: u32,
    to: u32,
    kind: LinkKind,
}

/// The plan as pretty JSON: what [`super::text`] shows, core ids included. Ends with a line break.
pub fn json(plan: &Plan) -> String {
    let document = PlanJson {
        topology: &plan.spec.name,
        hash: format!("{:016x}", plan.hash()),
        components: components(plan),
        streams: streams(plan),
        workers: workers(plan),
        links: plan.links.iter().map(|l| LinkJson { from: l.from, to: l.to, kind: l.kind }).collect(),
        config: &plan.spec.config,
        memory_bytes: &plan.memory,
    };
    let mut text =
        serde_json::to_string_pretty(&document).expect("plain structs become JSON, and writing to memory cannot fail");
    text.push('\n');
    text
}

fn components(plan: &Plan) -> Vec<ComponentJson<'_>> {
    plan.spec
        .components
        .iter()
        .zip(&plan.first_task)
        .map(|(component, &first_task)| ComponentJson {
            name: &component.name,
            kind: component.kind,
            first_task,
            tasks: component.tasks,
            executors: component.executors,
            placement: component.placement,
            tick_ms: component.tick_ms,
            burst_bytes: component.burst_bytes,
            reliable: component.reliable && plan.spec.config.acking(),
        })
        .collect()
}

fn streams(plan: &Plan) -> Vec<StreamJson<'_>> {
    (0..plan.spec.streams.len() as u32)
        .map(|at| {
            let stream = &plan.spec.streams[at as usize];
            StreamJson {
                component: plan.spec.source_name(at),
                name: &stream.name,
                direct: stream.direct,
                tuple: &stream.schema.name,
                dynamic: stream.schema.dynamic,
                fields: stream.schema.fields.iter().map(|(name, ty)| FieldJson { name, r#type: ty }).collect(),
                schema_id: format!("{:#018x}", stream.schema.id),
                read_by: readers(plan, at),
            }
        })
        .collect()
}

fn readers(plan: &Plan, stream: u32) -> Vec<ReaderJson<'_>> {
    let reader = |&ix: &u32| {
        let subscription = &plan.spec.subscriptions[ix as usize];
        let schema = &plan.spec.streams[stream as usize].schema;
        ReaderJson {
            component: &plan.spec.components[subscription.to as usize].name,
            port: subscription.port,
            grouping: grouping(subscription, schema),
            feedback: subscription.feedback,
        }
    };
    plan.subscribers_of(stream).iter().map(reader).collect()
}

fn workers(plan: &Plan) -> Vec<WorkerJson<'_>> {
    let executor = |&ix: &u32| {
        let executor = &plan.executors[ix as usize];
        ExecutorJson {
            executor: ix,
            component: &plan.spec.components[executor.component as usize].name,
            first_task: executor.tasks.start,
            tasks: executor.tasks.len() as u32,
        }
    };
    let reactor = |&ix: &u32| {
        let reactor = &plan.reactors[ix as usize];
        let executors = reactor.executors.iter().map(executor).collect();
        ReactorJson { reactor: ix, core: reactor.core, side: reactor.side, executors }
    };
    plan.workers
        .iter()
        .enumerate()
        .map(|(worker, w)| WorkerJson { worker, reactors: w.reactors.iter().map(reactor).collect() })
        .collect()
}
