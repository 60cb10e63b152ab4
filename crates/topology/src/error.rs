//! What can be wrong with a topology. Each message names the cause and what to do about it.

use crate::spec::{MAX_REACTORS, MAX_TASKS};

/// A fault of a topology, found by [`crate::TopologySpec::validate`] or [`crate::Plan::new`].
///
/// Streams are written `component.stream`. All faults are found before anything starts; none can arise later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// A name is empty, too long, reserved, or holds a character that shells, paths or metrics would trip over.
    #[error(
        "the {what} name `{name}` {reason}; use 1 to 128 letters, digits, `_`, `-` or `.`, not beginning with `__`"
    )]
    BadName {
        /// `topology`, `component` or `stream`.
        what: &'static str,
        /// The name as given, control characters escaped.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No component emits anything from outside.
    #[error("the topology has no spout, so no tuple would ever enter it; add one with `spout(name, …)`")]
    NoSpout,
    /// Two components of one name.
    #[error("two components are named `{name}`; give each its own name")]
    DuplicateComponent {
        /// The name.
        name: String,
    },
    /// Two streams of one name in one component.
    #[error("component `{component}` declares two streams named `{stream}`; give each its own name")]
    DuplicateStream {
        /// The component.
        component: String,
        /// The stream's name.
        stream: String,
    },
    /// Two fields of one name in one schema.
    #[error("stream `{stream}` has two fields named `{field}`; give each its own name")]
    DuplicateField {
        /// The stream.
        stream: String,
        /// The field's name.
        field: String,
    },
    /// Two different schemas with the same id.
    #[error(
        "streams `{a}` and `{b}` have different tuples but one schema id ({id:#018x}); rename a type or a field of one of \
         them, and make sure ids come from the schema"
    )]
    SchemaClash {
        /// The first stream.
        a: String,
        /// The other stream.
        b: String,
        /// The id of both.
        id: u64,
    },
    /// A component index beyond the list.
    #[error(
        "{whose} names component {index}, but the topology has {count} components, numbered from 0; correct the index"
    )]
    UnknownComponent {
        /// The stream or subscription that names it.
        whose: String,
        /// The index as given.
        index: u32,
        /// Number of components.
        count: usize,
    },
    /// A stream index beyond the list.
    #[error("{whose} names stream {index}, but the topology has {count} streams, numbered from 0; correct the index")]
    UnknownStream {
        /// The subscription that names it.
        whose: String,
        /// The index as given.
        index: u32,
        /// Number of streams.
        count: usize,
    },
    /// A component without tasks.
    #[error("component `{component}` has 0 tasks, so it would never run; set `tasks` to at least 1 or remove it")]
    NoTasks {
        /// The component.
        component: String,
    },
    /// A component without executors.
    #[error("component `{component}` has 0 executors, so nothing would run its tasks; set `executors` to 1 … tasks")]
    NoExecutors {
        /// The component.
        component: String,
    },
    /// An executor without a task.
    #[error(
        "component `{component}` has {executors} executors for {tasks} tasks, so some would have no task; lower `executors` \
         or raise `tasks`"
    )]
    MoreExecutorsThanTasks {
        /// The component.
        component: String,
        /// Its executors.
        executors: u32,
        /// Its tasks.
        tasks: u32,
    },
    /// More tasks than [`MAX_TASKS`].
    #[error(
        "the topology has {tasks} tasks in all; the limit is {MAX_TASKS}, so lower `tasks` of the largest components"
    )]
    TooManyTasks {
        /// Tasks of all components.
        tasks: u64,
    },
    /// More reactors than [`MAX_REACTORS`].
    #[error(
        "the topology needs {reactors} reactors (threads), {side} of them side threads; the limit is {MAX_REACTORS}, so lower \
         `reactors`, `workers`, or the executors of side-thread components"
    )]
    TooManyReactors {
        /// Reactors of all workers.
        reactors: u64,
        /// How many of them are for side threads.
        side: u64,
    },
    /// Seats that do not hold each executor once.
    #[error("the assignment does not fit the topology: {why}; submit it again")]
    Seats {
        /// What is wrong.
        why: String,
    },
    /// A worker with nothing to run.
    #[error(
        "{workers} workers for {executors} executors: some worker would have nothing to run; set `workers` to at most \
         {executors} or raise `executors`"
    )]
    MoreWorkersThanExecutors {
        /// Workers asked for.
        workers: u32,
        /// Executors of all components.
        executors: u64,
    },
    /// A spout that reads a stream.
    #[error(
        "spout `{spout}` subscribes to `{stream}`, but a spout takes no input; make it a bolt or remove the subscription"
    )]
    SpoutWithInput {
        /// The spout.
        spout: String,
        /// What it reads.
        stream: String,
    },
    /// A bolt that reads nothing.
    #[error("bolt `{bolt}` reads no stream, so it would never run; subscribe it to one, or remove it")]
    BoltWithoutInput {
        /// The bolt.
        bolt: String,
    },
    /// One component reads one stream twice.
    #[error(
        "`{to}` subscribes to `{stream}` twice, but a delivered tuple names only its stream and task, so the two could not be \
         told apart; remove one, or emit a second stream"
    )]
    DuplicateSubscription {
        /// The subscriber.
        to: String,
        /// The stream.
        stream: String,
    },
    /// Streams of different schemas share an input port.
    #[error(
        "`{to}` reads `{a}` and `{b}` on one input port ({port}), but their tuples differ (`{a_type}`, `{b_type}`); give \
         each its own port"
    )]
    PortMismatch {
        /// The subscriber.
        to: String,
        /// The port.
        port: u16,
        /// The first stream.
        a: String,
        /// Its tuple type.
        a_type: String,
        /// The other stream.
        b: String,
        /// Its tuple type.
        b_type: String,
    },
    /// A grouping by fields without fields.
    #[error(
        "the {grouping} grouping of `{stream}` to `{to}` names no field; name at least one, or use the global grouping to \
         send everything to one task"
    )]
    NoKeyFields {
        /// `fields` or `partial key`.
        grouping: &'static str,
        /// The stream.
        stream: String,
        /// The subscriber.
        to: String,
    },
    /// A grouping names a field that the stream lacks.
    #[error(
        "the {grouping} grouping of `{stream}` to `{to}` names field {field}, but the stream has {}; correct the field",
        field_list(.fields)
    )]
    UnknownField {
        /// `fields` or `partial key`.
        grouping: &'static str,
        /// The stream.
        stream: String,
        /// The subscriber.
        to: String,
        /// The position as given.
        field: u16,
        /// The stream's fields.
        fields: Vec<String>,
    },
    /// A grouping names a field twice.
    #[error("the {grouping} grouping of `{stream}` to `{to}` names field `{field}` twice; name it once")]
    RepeatedField {
        /// `fields` or `partial key`.
        grouping: &'static str,
        /// The stream.
        stream: String,
        /// The subscriber.
        to: String,
        /// The field's name.
        field: String,
    },
    /// A custom grouping without a name.
    #[error("the custom grouping of `{stream}` to `{to}` has an empty name; give the name it is registered under")]
    UnnamedCustomGrouping {
        /// The stream.
        stream: String,
        /// The subscriber.
        to: String,
    },
    /// A direct stream read with another grouping.
    #[error(
        "`{to}` reads the direct stream `{stream}` with the {grouping} grouping, but its emitter names the tasks itself; use \
         the direct grouping, or declare the stream without `direct`"
    )]
    DirectStreamNeedsDirectGrouping {
        /// The stream.
        stream: String,
        /// The subscriber.
        to: String,
        /// Name of the grouping used.
        grouping: &'static str,
    },
    /// The direct grouping on an ordinary stream.
    #[error(
        "`{to}` reads `{stream}` with the direct grouping, but the stream is not direct, so nobody would name a task; \
         declare it as a direct stream, or use another grouping"
    )]
    DirectGroupingNeedsDirectStream {
        /// The stream.
        stream: String,
        /// The subscriber.
        to: String,
    },
    /// A cycle that could block itself.
    #[error(
        "the components form a cycle, {path}, which could wait for itself for ever; break it, or mark the subscription that \
         closes it as feedback (it then fails tuples rather than block)"
    )]
    Cycle {
        /// The components in order, the first repeated at the end: `a → b → a`.
        path: String,
    },
    /// A feedback subscription without a cycle.
    #[error(
        "`{to}` reads `{stream}` as feedback, but that closes no cycle; remove the feedback mark, which would lose tuples"
    )]
    FeedbackWithoutCycle {
        /// The stream.
        stream: String,
        /// The subscriber.
        to: String,
    },
    /// A bolt that only reads feedback.
    #[error(
        "bolt `{bolt}` reads only feedback, so no tuple could ever reach it; subscribe it to a stream that starts at a spout"
    )]
    OnlyFeedbackInputs {
        /// The bolt.
        bolt: String,
    },
    /// More tasks than key groups.
    #[error(
        "`{to}` groups `{stream}` by fields over {tasks} tasks, but there are only {key_groups} key groups, so some tasks \
         would get nothing; raise `key_groups` or lower `tasks`"
    )]
    TooFewKeyGroups {
        /// The subscriber.
        to: String,
        /// The stream.
        stream: String,
        /// Its tasks.
        tasks: u32,
        /// Key groups of the topology.
        key_groups: u32,
    },
    /// A setting outside its range.
    #[error("`{setting}` is {value}{}, but must be {min} to {max}: {why}", of(.component))]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// The component it belongs to, if it is not the topology's.
        component: Option<String>,
        /// As given.
        value: u64,
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// The reason for the range.
        why: &'static str,
    },
    /// A setting too small beside another.
    #[error("`{setting}` is {value}{}, but must be at least {min} ({relation}): {why}; raise it, or lower the batch size", of(.component))]
    TooSmallForBatch {
        /// The setting's name.
        setting: &'static str,
        /// The component it belongs to, if it is not the topology's.
        component: Option<String>,
        /// As given.
        value: u64,
        /// Least value under the present batch sizes.
        min: u64,
        /// How `min` follows from other settings.
        relation: &'static str,
        /// The reason.
        why: &'static str,
    },
}

fn of(component: &Option<String>) -> String {
    component.as_ref().map(|name| format!(" for component `{name}`")).unwrap_or_default()
}

fn field_list(fields: &[String]) -> String {
    if fields.is_empty() {
        return "no fields".into();
    }
    let listed: Vec<String> = fields.iter().enumerate().map(|(at, name)| format!("{at} `{name}`")).collect();
    format!("fields {}", listed.join(", "))
}
